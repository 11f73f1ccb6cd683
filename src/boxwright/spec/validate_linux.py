"""Rules for the Linux section (config-linux.md) and the mounts that depend on it."""

from boxwright.errors import Problem
from boxwright.spec import sysctl
from boxwright.spec.constants import (
    CLOCKS,
    MEMORY_POLICY_FLAGS,
    MEMORY_POLICY_MODES,
    NAMESPACES,
    PERSONALITY_DOMAINS,
    ROOTFS_PROPAGATIONS,
)
from boxwright.spec.rules import (
    bad_interface_name,
    bad_list,
    not_absolute,
    out_of_range,
    unknown,
    unknown_items,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.spec.types import Config, Device, IDMapping, IntelRdt, Linux, MemoryPolicy, NetDevice

_ANCHOR = "config-linux.md#configLinux"
_ID_END = 1 << 32
_MAJORS = (1 << 12) - 1
_MINORS = (1 << 20) - 1


def own_namespaces(config: "Config") -> "dict[str, str | None]":
    """The namespaces that are not the runtime's: type → path, None for a new one."""
    return {one.type: one.path for one in config.linux.namespaces} if config.linux else {}


def namespaces(linux: "Linux") -> "Iterator[Problem]":
    """Types are known and stand once, paths are absolute."""
    seen: set[str] = set()
    for namespace in linux.namespaces:
        kind, where = namespace.type, namespace.at("type")
        if kind not in NAMESPACES:
            yield unknown(where, kind, NAMESPACES, "namespace type", namespace.anchor)
        elif kind in seen:
            yield Problem(where, f"namespace `{kind}` is listed twice", namespace.anchor, value=kind)
        seen.add(kind)
        yield from not_absolute(namespace.at("path"), namespace.path, namespace.anchor)


def id_mappings(linux: "Linux") -> "Iterator[Problem]":
    """Mappings belong to a user namespace, stand for both kinds of ids, and stay within the ids."""
    both = (("uidMappings", linux.uid_mappings), ("gidMappings", linux.gid_mappings))
    has_user = any(namespace.type == "user" for namespace in linux.namespaces)
    for name, mappings in both:
        anchor = f"{_ANCHOR}UserNamespaceMappings"
        if mappings and not has_user:
            yield Problem(linux.at(name), "needs a namespace of type `user`", anchor)
        yield from mapping_ranges(mappings)
    if bool(linux.uid_mappings) != bool(linux.gid_mappings):
        missing = "gidMappings" if linux.uid_mappings else "uidMappings"
        given = "uidMappings" if linux.uid_mappings else "gidMappings"
        rule = f"is needed where `{given}` is given"
        yield Problem(linux.at(missing), rule, f"{_ANCHOR}UserNamespaceMappings")


def mapping_ranges(mappings: "tuple[IDMapping, ...]") -> "Iterator[Problem]":
    """Each mapping maps something, within 32 bits, that no other one maps."""
    for index, mapping in enumerate(mappings):
        if mapping.size == 0:
            yield Problem(mapping.at("size"), "must be greater than zero", mapping.anchor, value=0)
        for name, first in (("containerID", mapping.container_id), ("hostID", mapping.host_id)):
            if first + mapping.size > _ID_END:
                yield Problem(mapping.at(name), "is followed by fewer than `size` ids", mapping.anchor, value=first)
        for other in mappings[:index]:
            if _overlap(mapping.container_id, mapping.size, other.container_id, other.size):
                yield Problem(mapping.at("containerID"), "is mapped twice", mapping.anchor)
            if _overlap(mapping.host_id, mapping.size, other.host_id, other.size):
                yield Problem(mapping.at("hostID"), "is mapped twice", mapping.anchor)


def _overlap(first: int, size: int, other: int, other_size: int) -> bool:
    return first < other + other_size and other < first + size


def time_offsets(linux: "Linux") -> "Iterator[Problem]":
    """Offsets are of known clocks and go to a time namespace made here (time_namespaces(7))."""
    anchor = f"{_ANCHOR}TimeOffset"
    made = any(one.type == "time" and one.path is None for one in linux.namespaces)
    if linux.time_offsets and not made:
        yield Problem(linux.at("timeOffsets"), "needs a new namespace of type `time`", anchor)
    for clock, offset in linux.time_offsets.items():
        if clock not in CLOCKS:
            yield unknown(offset.pointer, clock, CLOCKS, "clock of a time namespace", anchor)
        yield from out_of_range(offset.at("nanosecs"), offset.nanosecs, 0, 999_999_999, anchor)


def devices(linux: "Linux") -> "Iterator[Problem]":
    """Types are known, paths absolute, and numbers given unless the device is a FIFO."""
    seen: set[tuple[str, int | None, int | None]] = set()
    for device in linux.devices:
        if device.type not in {"c", "b", "u", "p"}:
            yield unknown(device.at("type"), device.type, ("c", "b", "u", "p"), "device type", device.anchor)
        yield from not_absolute(device.at("path"), device.path, device.anchor)
        if device.type == "p":
            continue
        yield from _device_numbers(device)
        key = ("b" if device.type == "b" else "c", device.major, device.minor)
        if key in seen:
            yield Problem(device.pointer, "is the same device as another entry", device.anchor, fatal=False)
        seen.add(key)


def _device_numbers(device: "Device") -> "Iterator[Problem]":
    for name, number, high in (("major", device.major, _MAJORS), ("minor", device.minor, _MINORS)):
        if number is None:
            yield Problem(device.pointer, f"`{name}` is missing", device.anchor)
        yield from out_of_range(device.at(name), number, 0, high, device.anchor)


def net_devices(linux: "Linux") -> "Iterator[Problem]":
    """Names are possible and unique, and there is a network namespace to move into."""
    anchor = f"{_ANCHOR}NetworkDevices"
    if linux.net_devices and not any(one.type == "network" for one in linux.namespaces):
        yield Problem(linux.at("netDevices"), "needs a namespace of type `network`", anchor)
    seen: set[str] = set()
    for host_name, device in linux.net_devices.items():
        why = bad_interface_name(host_name)
        if why:
            yield Problem(device.pointer, why, anchor, value=host_name)
        name = host_name if device.name is None else device.name
        if device.name is not None:
            yield from _new_name(device, name)
        if name in seen and "%" not in name:
            yield Problem(device.at("name"), f"two devices would be named `{name}`", anchor, value=name)
        seen.add(name)


def _new_name(device: "NetDevice", name: str) -> "Iterator[Problem]":
    """A name, or a template that ends in `%d`: the kernel puts a number there."""
    why = bad_interface_name(name)
    if "%" in name.removesuffix("%d"):
        why = "has `%` elsewhere than in a last `%d`"
    if why:
        yield Problem(device.at("name"), why, device.anchor, value=name)


def cgroups_path(linux: "Linux") -> "Iterator[Problem]":
    """The path stays below where it begins."""
    path = linux.cgroups_path
    if path and ".." in path.split("/"):
        yield Problem(linux.at("cgroupsPath"), "must not lead upwards", f"{_ANCHOR}CgroupsPath", value=path)


def hidden_paths(linux: "Linux") -> "Iterator[Problem]":
    """Masked and read-only paths are absolute."""
    both = (("maskedPaths", linux.masked_paths), ("readonlyPaths", linux.readonly_paths))
    for name, paths in both:
        for index, path in enumerate(paths):
            yield from not_absolute(linux.at(name, index), path, f"{_ANCHOR}{name[0].upper()}{name[1:]}")


def rootfs_propagation(linux: "Linux") -> "Iterator[Problem]":
    """The propagation is one of mount_namespaces(7)."""
    kind = linux.rootfs_propagation
    if kind and kind not in ROOTFS_PROPAGATIONS:
        where, anchor = linux.at("rootfsPropagation"), f"{_ANCHOR}RootfsMountPropagation"
        yield unknown(where, kind, ROOTFS_PROPAGATIONS, "mount propagation", anchor)


def personality(linux: "Linux") -> "Iterator[Problem]":
    """The domain is known; the standard has no flags yet."""
    wanted = linux.personality
    if wanted is None:
        return
    if wanted.domain not in PERSONALITY_DOMAINS:
        domains = PERSONALITY_DOMAINS
        yield unknown(wanted.at("domain"), wanted.domain, domains, "execution domain", wanted.anchor)
    if wanted.flags:
        yield Problem(wanted.at("flags"), "must be empty: no flag is supported", wanted.anchor)


def memory_policy(linux: "Linux") -> "Iterator[Problem]":
    """Mode and flags are known, and nodes are given where set_mempolicy(2) wants them."""
    policy = linux.memory_policy
    if policy is None:
        return
    if policy.mode not in MEMORY_POLICY_MODES:
        yield unknown(policy.at("mode"), policy.mode, MEMORY_POLICY_MODES, "memory policy", policy.anchor)
    yield from unknown_items(policy.at("flags"), policy.flags, MEMORY_POLICY_FLAGS, "memory policy flag", policy.anchor)
    yield from bad_list(policy.at("nodes"), policy.nodes, policy.anchor)
    yield from _policy_nodes(policy)


def _policy_nodes(policy: "MemoryPolicy") -> "Iterator[Problem]":
    has_nodes = bool((policy.nodes or "").strip())
    if policy.mode in {"MPOL_DEFAULT", "MPOL_LOCAL"} and has_nodes:
        yield Problem(policy.at("nodes"), f"`{policy.mode}` takes no nodes", policy.anchor, value=policy.nodes)
    needing = {"MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED_MANY"}
    if policy.mode in needing and not has_nodes:
        yield Problem(policy.at("nodes"), f"`{policy.mode}` needs at least one node", policy.anchor)
    if {"MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"} <= set(policy.flags):
        yield Problem(policy.at("flags"), "nodes cannot be both static and relative", policy.anchor)


def intel_rdt(linux: "Linux") -> "Iterator[Problem]":
    """Schemas are lines of their kind; the class of service is a directory of resctrl."""
    rdt = linux.intel_rdt
    if rdt is None:
        return
    yield from _schemas(rdt)
    clos_id = rdt.clos_id
    if clos_id is not None and clos_id != "/" and ("/" in clos_id or clos_id in {"", ".", ".."}):
        yield Problem(rdt.at("closID"), "must name one directory, or be `/`", rdt.anchor, value=clos_id)


def _schemas(rdt: "IntelRdt") -> "Iterator[Problem]":
    bandwidth = rdt.mem_bw_schema
    if bandwidth is not None and (not bandwidth.startswith("MB:") or "\n" in bandwidth):
        yield Problem(rdt.at("memBwSchema"), "must be one line beginning `MB:`", rdt.anchor, value=bandwidth)
    cache = rdt.l3_cache_schema
    if cache is not None and (not cache.startswith("L3") or "\n" in cache):
        rule = "should be one line beginning `L3:`"
        yield Problem(rdt.at("l3CacheSchema"), rule, rdt.anchor, value=cache, fatal=False)
    for index, line in enumerate(rdt.schemata):
        if "\n" in line:
            yield Problem(rdt.at("schemata", index), "must be one line", rdt.anchor, value=line)


def kernel_parameters(config: "Config") -> "Iterator[Problem]":
    """Only parameters of the container's own namespaces can be set: others are the whole machine's."""
    if config.linux is None:
        return
    own, anchor = own_namespaces(config), f"{_ANCHOR}Sysctl"
    for name in config.linux.sysctl:
        where, kind = config.linux.at("sysctl", name), sysctl.namespace_of(name)
        if not sysctl.is_clean(name):
            yield Problem(where, "is no name of a kernel parameter", anchor, value=name)
        elif kind is None:
            yield Problem(where, "is the whole machine's: no namespace keeps it", anchor, value=name)
        elif kind not in own:
            yield Problem(where, f"needs a namespace of type `{kind}`", anchor, value=name)
        elif sysctl.dotted(name) == "kernel.hostname":
            yield Problem(where, "is set by `hostname`", anchor, value=name)


def host_names(config: "Config") -> "Iterator[Problem]":
    """A host name is of the container's own UTS namespace and fits into it."""
    for name, text, anchor in (
        ("hostname", config.hostname, "config.md#configHostname"),
        ("domainname", config.domainname, "config.md#configDomainname"),
    ):
        if text and "uts" not in own_namespaces(config):
            yield Problem(config.at(name), "needs a namespace of type `uts`", anchor, value=text)
        if text and len(text.encode("utf-8", "surrogateescape")) > 64:
            yield Problem(config.at(name), "is longer than 64 bytes", anchor, value=text)


CONFIG_RULES = (kernel_parameters, host_names)
LINUX_RULES = (
    namespaces,
    id_mappings,
    time_offsets,
    devices,
    net_devices,
    cgroups_path,
    hidden_paths,
    rootfs_propagation,
    personality,
    memory_policy,
    intel_rdt,
)
