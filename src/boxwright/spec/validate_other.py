"""Rules for the platforms that no box runs: Windows, Solaris, z/OS, FreeBSD."""

from boxwright.errors import Problem
from boxwright.spec.rules import not_absolute, out_of_range, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.spec.types import Config
    from boxwright.spec.types_other import ZOS, FreeBSD, Solaris, Windows, WindowsCPU, WindowsNetwork

_SHARING = ("disable", "new", "inherit")
_SHARING_ENABLED = ("new", "inherit")


def windows_section(windows: "Windows") -> "Iterator[Problem]":
    """There is a layer, devices are of classes, and what excludes each other is not given together."""
    if not windows.layer_folders:
        anchor = "config-windows.md#configWindowsLayerFolders"
        yield Problem(windows.at("layerFolders"), "must have at least one entry", anchor)
    for device in windows.devices:
        if device.id_type != "class":
            yield unknown(device.at("idType"), device.id_type, ("class",), "type of device id", device.anchor)
    if windows.resources is not None and windows.resources.cpu is not None:
        yield from _windows_cpu(windows.resources.cpu)
    if windows.network is not None:
        yield from _windows_network(windows.network)


def _windows_cpu(cpu: "WindowsCPU") -> "Iterator[Problem]":
    given = [name for name in ("count", "shares", "maximum") if getattr(cpu, name) is not None]
    if len(given) > 1:
        rule = f"`{given[0]}` and `{given[1]}` exclude each other"
        yield Problem(cpu.pointer, rule, cpu.anchor)
    yield from out_of_range(cpu.at("shares"), cpu.shares, 0, 10_000, cpu.anchor)
    yield from out_of_range(cpu.at("maximum"), cpu.maximum, 0, 10_000, cpu.anchor)


def _windows_network(network: "WindowsNetwork") -> "Iterator[Problem]":
    others = (network.endpoint_list, network.dns_search_list, network.network_shared_container_name)
    if network.network_namespace and (any(others) or network.allow_unqualified_dns_query is not None):
        # the standard asks for this and breaks it in its own example
        rule = "should stand without other parameters of the network"
        yield Problem(network.at("networkNamespace"), rule, network.anchor, fatal=False)


def windows_platform(config: "Config") -> "Iterator[Problem]":
    """What holds of the whole document where it is for Windows."""
    windows, root, process = config.windows, config.root, config.process
    if windows is None:
        anchor = "config.md#configPlatformSpecificConfiguration"
        yield Problem("", "`windows` is missing on the platform `windows`", anchor)
    if root is not None and windows is not None and windows.hyperv is not None:
        yield Problem(config.at("root"), "must not be set for a Hyper-V container", root.anchor)
    elif root is None and (windows is None or windows.hyperv is None):
        yield Problem("", "`root` is missing", "config.md#configRoot")
    elif root is not None and not _is_volume(root.path):
        yield Problem(root.at("path"), "must be a volume GUID path", root.anchor, value=root.path)
    if root is not None and root.readonly:
        yield Problem(root.at("readonly"), "must be omitted or false on Windows", root.anchor, value=True)
    if process is not None and not process.args and not process.command_line:
        yield Problem(process.pointer, "`commandLine` or `args` is missing", process.anchor)
    yield from _windows_mounts(config)


def _is_volume(path: str) -> bool:
    return path.lower().startswith("\\\\?\\volume{") and "}" in path


def _windows_mounts(config: "Config") -> "Iterator[Problem]":
    seen: list[str] = []
    for mount in config.mounts:
        path = mount.destination.replace("/", "\\").rstrip("\\").lower() + "\\"
        if not (path[1:3] == ":\\" or path.startswith("\\\\")):
            yield Problem(mount.at("destination"), "must be an absolute path", mount.anchor, value=mount.destination)
        for other in seen:
            if path.startswith(other) or other.startswith(path):
                rule = "must not be nested within another mount"
                yield Problem(mount.at("destination"), rule, mount.anchor, value=mount.destination)
        seen.append(path)


def zos_section(zos: "ZOS") -> "Iterator[Problem]":
    """Namespace types are known and stand once, paths are absolute."""
    known = ("pid", "mount", "ipc", "uts")
    seen: set[str] = set()
    for namespace in zos.namespaces:
        kind, where = namespace.type, namespace.at("type")
        if kind not in known:
            yield unknown(where, kind, known, "namespace type of z/OS", namespace.anchor)
        elif kind in seen:
            yield Problem(where, f"namespace `{kind}` is listed twice", namespace.anchor, value=kind)
        seen.add(kind)
        yield from not_absolute(namespace.at("path"), namespace.path, namespace.anchor)


def freebsd_section(freebsd: "FreeBSD") -> "Iterator[Problem]":
    """Ways of sharing are known; statfs is enforced at a known level."""
    jail = freebsd.jail
    if jail is None:
        return
    for name, known in (
        ("host", _SHARING_ENABLED),
        ("vnet", _SHARING_ENABLED),
        ("ip4", _SHARING),
        ("ip6", _SHARING),
        ("sysvmsg", _SHARING),
        ("sysvsem", _SHARING),
        ("sysvshm", _SHARING),
    ):
        value = getattr(jail, name)
        if value is not None and value not in known:
            yield unknown(jail.at(name), value, known, f"way to share `{name}`", jail.anchor)
    yield from out_of_range(jail.at("enforceStatfs"), jail.enforce_statfs, 0, 2, jail.anchor)


def solaris_section(solaris: "Solaris") -> "Iterator[Problem]":
    """CPUs are a number; sizes are numbers with a scale."""
    capped = solaris.capped_cpu
    if capped is not None and capped.ncpus is not None and not _is_decimal(capped.ncpus):
        yield Problem(capped.at("ncpus"), "must be a number", capped.anchor, value=capped.ncpus)
    sizes = [(solaris.at("maxShmMemory"), solaris.max_shm_memory, "config-solaris.md#configSolarisMaxShmMemory")]
    if solaris.capped_memory is not None:
        memory = solaris.capped_memory
        sizes += [(memory.at(name), getattr(memory, name), memory.anchor) for name in memory._fields]
    for where, size, anchor in sizes:
        if size is not None and not _is_decimal(size[:-1] if size[-1:].upper() in set("KMGT") else size):
            yield Problem(where, "must be a number with a scale: K, M, G or T", anchor, value=size)


def _is_decimal(text: str) -> bool:
    whole, _, fraction = text.partition(".")
    return text.isascii() and (whole + fraction).isdigit()


def absolute_mounts(config: "Config") -> "Iterator[Problem]":
    """Everywhere but on Linux a mount's destination is absolute."""
    for mount in config.mounts:
        yield from not_absolute(mount.at("destination"), mount.destination, mount.anchor)
