"""systemd's names and properties for a container (systemd.unit(5), systemd.resource-control(5)). Pure."""

from boxwright.errors import ConfigError, Problem, UnsupportedError
from boxwright.plan.cgroup_devices import ANY, DeviceRule, device_rules, letters
from boxwright.plan.cgroup_layout import SYSTEMD, CgroupLayout, CgroupPlacement, Group, Hierarchy
from boxwright.plan.cgroups import PATH_ANCHOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from boxwright.spec.types import CPU, Config, Resources

    Property = tuple[str, str, object]  # name, D-Bus signature, value

INFINITY = (1 << 64) - 1
DEFAULT_PERIOD_US = 100000
PROPERTY_ANNOTATION = "org.systemd.property."


# --- where ------------------------------------------------------------------------------------------------------


def place_unit(config: "Config", layout: CgroupLayout, container_id: str) -> CgroupPlacement:
    """The unit of the container and the groups that systemd makes for it.

    cgroupsPath is `slice:prefix:name`: the scope `prefix-name.scope` in `slice`, or the slice `name` itself if it
    ends so. Without it, a scope named by the id in `system.slice`, or in `user.slice` of the user's own manager.
    Raises ConfigError for any other form.
    """
    linux = config.linux
    wanted = linux.cgroups_path if linux else None
    pointer = linux.at("cgroupsPath") if linux else ""
    slice_name, prefix, name = _names(wanted, container_id, pointer)
    if not slice_name:
        slice_name = "user.slice" if layout.rootless else "system.slice"
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    inner = f"{expand_slice(slice_name, pointer)}/{unit}"
    groups = tuple(_group(hierarchy, layout, inner) for hierarchy in layout.hierarchies)
    return CgroupPlacement(SYSTEMD, groups, slice_name, unit, layout.rootless)


def _names(wanted: str | None, container_id: str, pointer: str) -> tuple[str, str, str]:
    if not wanted:
        return "", "boxwright", container_id
    parts = wanted.split(":")
    if len(parts) != 3 or not parts[2] or "/" in wanted:
        rule = "must have the form `slice:prefix:name` for the systemd driver"
        raise ConfigError([Problem(pointer, rule, PATH_ANCHOR, value=wanted)])
    return parts[0], parts[1], parts[2]


def expand_slice(name: str, pointer: str = "") -> str:
    """The path of a slice below the root: `a-b.slice` → `/a.slice/a-b.slice`; the root slice `-.slice` → ``."""
    stem = name.removesuffix(".slice")
    if name == "-.slice":
        return ""
    if stem == name or not stem or "/" in name or "" in stem.split("-"):
        raise ConfigError([Problem(pointer, "is not the name of a slice", PATH_ANCHOR, value=name)])
    path, prefix = "", ""
    for part in stem.split("-"):
        path += f"/{prefix}{part}.slice"
        prefix += f"{part}-"
    return path


def _group(hierarchy: Hierarchy, layout: CgroupLayout, inner: str) -> Group:
    base = _manager(hierarchy) if layout.rootless else ""
    path = f"{hierarchy.mountpoint}{base}{inner}"
    return Group(hierarchy.version, hierarchy.controllers, hierarchy.mountpoint, path)


def _manager(hierarchy: Hierarchy) -> str:
    """The group of the user's manager, which we run below."""
    path = ""
    for part in hierarchy.own.split("/")[1:]:
        path = f"{path}/{part}"
        if part.startswith("user@") and part.endswith(".service"):
            return path
    raise UnsupportedError("cgroupsPath", "linux", "we do not run below the user's systemd manager", hint=_USER_HINT)


_USER_HINT = "start a session of the user with `systemd-run --user --scope`, or use the cgroupfs driver"


# --- properties -------------------------------------------------------------------------------------------------


def systemd_properties(
    config: "Config", placement: CgroupPlacement, drivers: "Mapping[tuple[str, int], str] | None" = None
) -> "tuple[Property, ...]":
    """The properties of the transient unit, as (name, signature, value).

    `drivers` names the drivers of /proc/devices by kind and major number, for rules about all devices of one: on
    v1 systemd writes device rules itself and must know them. On v2 the filter is ours.
    """
    scope = placement.unit.endswith(".scope")
    found: list[Property] = [("Description", "s", f"boxwright container {placement.unit}")]
    found.append(("Slice", "s", placement.slice) if scope else ("Wants", "as", [placement.slice]))
    if scope:
        found.append(("Delegate", "b", True))
    found += [(f"{name}Accounting", "b", True) for name in ("Memory", "CPU", "IO", "Tasks")]
    found.append(("DefaultDependencies", "b", False))
    found += annotation_properties(config)
    resources = config.linux.resources if config.linux else None
    found += resource_properties(resources, placement)
    if placement.find("devices") is not None:
        found += _device_properties(device_rules(resources), drivers or {})
    return tuple(found)


def resource_properties(resources: "Resources | None", placement: CgroupPlacement) -> "list[Property]":
    """The limits that systemd has properties for, so that it keeps them; all limits are written to the files too."""
    if resources is None:
        return []
    v2 = (group := placement.unified()) is not None and "memory" in group.controllers
    found = _memory_properties(resources, v2) + _cpu_properties(resources.cpu, v2)
    if resources.pids is not None and resources.pids.limit is not None:
        found.append(("TasksMax", "t", _bound(resources.pids.limit)))
    return found


def _bound(value: int) -> int:
    return INFINITY if value < 0 else value


def _memory_properties(resources: "Resources", v2: bool) -> "list[Property]":
    memory = resources.memory
    if memory is None:
        return []
    found: list[Property] = []
    if memory.limit:
        found.append(("MemoryMax" if v2 else "MemoryLimit", "t", _bound(memory.limit)))
    if memory.reservation and v2:
        found.append(("MemoryLow", "t", _bound(memory.reservation)))
    if v2 and (memory.swap or memory.limit == -1):
        swap = memory.swap or -1
        only = swap - memory.limit if swap > 0 and memory.limit and memory.limit > 0 else swap
        found.append(("MemorySwapMax", "t", _bound(only)))
    return found


def _cpu_properties(cpu: "CPU | None", v2: bool) -> "list[Property]":
    if cpu is None:
        return []
    from boxwright.plan.cgroups_v2 import shares_to_weight

    found: list[Property] = []
    if v2 and cpu.idle == 1:
        found.append(("CPUWeight", "t", 0))
    elif cpu.shares:
        found.append(("CPUWeight", "t", shares_to_weight(cpu.shares)) if v2 else ("CPUShares", "t", cpu.shares))
    if cpu.period:
        found.append(("CPUQuotaPeriodUSec", "t", cpu.period))
    if cpu.quota or cpu.period:
        found.append(("CPUQuotaPerSecUSec", "t", _quota_a_second(cpu)))
    for value, name in ((cpu.cpus, "AllowedCPUs"), (cpu.mems, "AllowedMemoryNodes")):
        if value:
            found.append((name, "ay", mask_bytes(value, cpu.at("cpus" if name == "AllowedCPUs" else "mems"))))
    return found


def _quota_a_second(cpu: "CPU") -> int:
    """Microseconds of CPU time a second, rounded up to the whole percent that systemd counts in."""
    if not cpu.quota or cpu.quota < 0:
        return INFINITY
    value = cpu.quota * 1000000 // (cpu.period or DEFAULT_PERIOD_US)
    return -(-value // 10000) * 10000


def mask_bytes(text: str, pointer: str = "") -> bytes:
    """A list as `0-3,7` as a bit mask, lowest bits in the first byte. Raises ConfigError."""
    mask = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) < int(first):
            raise ConfigError([Problem(pointer, "is not a list of numbers and ranges", PATH_ANCHOR, value=text)])
        mask |= (1 << int(last or first) + 1) - (1 << int(first))
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def _device_properties(rules: tuple[DeviceRule, ...], drivers: "Mapping[tuple[str, int], str]") -> "list[Property]":
    """What systemd is to allow. Only rules that allow can be said; a later denial is written to the file by us."""
    if rules[0].allow:
        return [("DevicePolicy", "s", "auto")]
    allowed = []
    for rule in rules[1:]:
        name = _device_name(rule, drivers)
        if rule.allow and name:
            allowed.append((name, letters(rule.access)))
    return [("DevicePolicy", "s", "strict"), ("DeviceAllow", "a(ss)", allowed)]


def _device_name(rule: DeviceRule, drivers: "Mapping[tuple[str, int], str]") -> str:
    kind = "char" if rule.kind == "c" else "block"
    if rule.major == ANY:
        return f"{kind}-*" if rule.minor == ANY else ""
    if rule.minor != ANY:
        return f"/dev/{kind}/{rule.major}:{rule.minor}"
    driver = "pts" if (rule.kind, rule.major) == ("c", 136) else drivers.get((rule.kind, rule.major))
    return f"{kind}-{driver}" if driver else ""


# --- annotations ------------------------------------------------------------------------------------------------


def annotation_properties(config: "Config") -> "list[Property]":
    """Properties that engines hand over as annotations `org.systemd.property.NAME`, in GVariant's text form.

    Times in `…Sec` become the `…USec` that D-Bus knows. Raises UnsupportedError for a form that is not a string, a
    boolean, a number or a list of strings.
    """
    found = []
    for key, text in config.annotations.items():
        name = key.removeprefix(PROPERTY_ANNOTATION)
        if name == key or not name.isalnum():
            continue
        pointer = f"{config.pointer}/annotations/{key}"
        signature, value = _variant(text.strip(), pointer)
        if name.endswith("Sec") and not name.endswith("USec"):
            if not isinstance(value, (int, float)):
                raise UnsupportedError(pointer, "linux", f"`{text}` is not a number of seconds")
            name, signature, value = f"{name[:-3]}USec", "t", int(value * 1000000)
        found.append((name, signature, value))
    return found


_TYPED = {"byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t"}


def _variant(text: str, pointer: str) -> tuple[str, object]:
    if text in {"true", "false"}:
        return "b", text == "true"
    if len(text) >= 2 and text[0] in "'\"" and text[-1] == text[0] and text[0] not in text[1:-1]:
        return "s", text[1:-1]
    word, _, rest = text.partition(" ")
    number = rest.strip() if word in _TYPED else text
    if number.removeprefix("-").isdecimal():
        return _TYPED.get(word, "i"), int(number)
    if text.startswith("[") and text.endswith("]"):
        items = [_variant(item.strip(), pointer) for item in text[1:-1].split(",") if item.strip()]
        if all(signature == "s" for signature, _ in items):
            return "as", [value for _, value in items]
    whole, dot, part = text.partition(".")
    if dot and whole.isdecimal() and part.isdecimal():
        return "d", float(text)
    raise UnsupportedError(pointer, "linux", f"`{text}` is not a simple GVariant text")
