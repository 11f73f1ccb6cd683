"""Which devices a container may open: ordered rules, for the v1 device controller or as a program for v2.

The rules mean the same on both. Whether an access is allowed is decided for each of its bits (read, write, mknod)
by the last rule that names the device and that bit; where no rule does, it is denied. Making a node is always
allowed, since without opening it nothing is gained, and so are the default devices and terminals, unless a rule
after the last one for all devices says otherwise (config-linux.md#configLinuxDeviceAllowedlist).
"""

from boxwright._record import Record
from boxwright.errors import ConfigError, Problem, UnsupportedError
from boxwright.plan.ops import SetDeviceFilter, Step, Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.cgroup_layout import CgroupLayout, CgroupPlacement
    from boxwright.spec.types import DeviceCgroup, Resources

ANCHOR = "config-linux.md#configLinuxDeviceAllowedlist"
ANY = -1
MKNOD, READ, WRITE = 1, 2, 4
ALL = MKNOD | READ | WRITE
_BITS = {"r": READ, "w": WRITE, "m": MKNOD}


class DeviceRule(Record):
    """One rule: `kind` is `b` or `c`, or `a` for a rule for all devices and all access, which begins anew. `access`
    is a set of MKNOD, READ and WRITE; ANY is every number.
    """

    allow: bool
    kind: str
    major: int = ANY
    minor: int = ANY
    access: int = ALL
    pointer: str = ""


# null, zero, full, random, urandom, tty, ptmx, and the terminals of devpts (config-linux.md#configLinuxDefaultDevices)
DEFAULTS = tuple(
    DeviceRule(True, "c", major, minor)
    for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, ANY))
)
_MAKING = (DeviceRule(True, "c", access=MKNOD), DeviceRule(True, "b", access=MKNOD))


def compile_devices(resources: "Resources | None", layout: "CgroupLayout", placement: "CgroupPlacement") -> list[Step]:
    """The steps that let the container open what its rules allow, and deny the rest.

    Without the host's root the kernel does not let us filter devices; the steps are soft then, and no device can
    be made in a user namespace anyway. Raises ConfigError for rules that make no sense and UnsupportedError for
    those that v1 cannot express.
    """
    rules = device_rules(resources)
    if rules[0].allow and len(rules) == 1:
        return []  # a new group begins with what its parent allows
    group = placement.find("devices")
    soft = layout.rootless
    if group is not None:
        return [Step(op, pointer, ANCHOR, soft=soft) for op, pointer in _v1_writes(group.path, rules)]
    unified = placement.unified()
    if unified is None:
        if resources is not None and resources.devices:
            raise UnsupportedError(resources.at("devices"), "linux", "the host has no `devices` controller")
        return []
    from boxwright.plan.device_program import assemble

    pointer = resources.at("devices") if resources is not None and resources.devices else ""
    return [Step(SetDeviceFilter(unified.path, assemble(rules)), pointer, ANCHOR, soft=soft)]


def device_rules(resources: "Resources | None") -> tuple[DeviceRule, ...]:
    """The rules from the last one for all devices on; it is always the first here. Those of ours follow it where
    it denies.
    """
    rules = [DeviceRule(False, "a")]
    for entry in resources.devices if resources is not None else ():
        for rule in _normal(entry):
            if rule.kind == "a":
                rules = []
            rules.append(rule)
    if rules[0].allow:
        return tuple(rules)
    return (rules[0], *DEFAULTS, *rules[1:], *_MAKING)


def _normal(entry: "DeviceCgroup") -> list[DeviceRule]:
    kind = entry.type or "a"
    major = ANY if entry.major is None else entry.major
    minor = ANY if entry.minor is None else entry.minor
    if kind not in {"a", "b", "c"}:
        raise _wrong(entry, "type", "must be `a`, `b` or `c`", kind)
    for number, name in ((major, "major"), (minor, "minor")):
        if not ANY <= number < 1 << 32:
            raise _wrong(entry, name, "is not a device number", number)
    access = _access(entry)
    if kind != "a":
        return [DeviceRule(entry.allow, kind, major, minor, access, entry.pointer)]
    if (major, minor, access) == (ANY, ANY, ALL):
        return [DeviceRule(entry.allow, "a", pointer=entry.pointer)]
    return [DeviceRule(entry.allow, each, major, minor, access, entry.pointer) for each in ("b", "c")]


def _access(entry: "DeviceCgroup") -> int:
    access = 0
    for letter in entry.access or "rwm":
        bit = _BITS.get(letter)
        if bit is None:
            raise _wrong(entry, "access", "must be made of `r`, `w` and `m`", entry.access)
        access |= bit
    return access


def letters(access: int) -> str:
    """The access as the kernel and config.json write it."""
    return "".join(letter for letter, bit in _BITS.items() if access & bit)


def _wrong(entry: "DeviceCgroup", name: str, rule: str, value: object) -> ConfigError:
    return ConfigError([Problem(entry.at(name), rule, ANCHOR, value=value)])


# --- v1 ---------------------------------------------------------------------------------------------------------


def _v1_writes(path: str, rules: tuple[DeviceRule, ...]) -> list[tuple[Write, str]]:
    """v1 holds a default and exceptions from it: a first write for the default, one for each exception."""
    allowed = rules[0].allow
    exceptions = _v1_exceptions(rules)
    if allowed and not exceptions:
        return []
    first = "devices.allow" if allowed else "devices.deny"
    other = "devices.deny" if allowed else "devices.allow"
    writes = [(Write(f"{path}/{first}", b"a"), rules[0].pointer)]
    for (kind, major, minor), (access, pointer) in exceptions.items():
        line = f"{kind} {_number(major)}:{_number(minor)} {letters(access)}"
        writes.append((Write(f"{path}/{other}", line.encode()), pointer))
    return writes


def _v1_exceptions(rules: tuple[DeviceRule, ...]) -> dict[tuple[str, int, int], tuple[int, str]]:
    """What differs from the default. The controller forgets an exception only by its very numbers, so taking a
    part out of a wider one cannot be said.
    """
    allowed = rules[0].allow
    found: dict[tuple[str, int, int], tuple[int, str]] = {}
    for rule in rules[1:]:
        key = (rule.kind, rule.major, rule.minor)
        access, pointer = found.get(key, (0, rule.pointer))
        if rule.allow != allowed:
            found[key] = (access | rule.access, pointer or rule.pointer)
            continue
        for other in list(found):
            if _covers(key, other):
                left = found[other][0] & ~rule.access
                found[other] = (left, found[other][1])
            elif _covers(other, key) or _crosses(other, key):
                _refuse_hole(found[other][0] & rule.access, rule)
    return {key: value for key, value in found.items() if value[0]}


def _refuse_hole(common: int, rule: DeviceRule) -> None:
    if common:
        why = "the v1 device controller cannot take one device out of a rule for many"
        raise UnsupportedError(rule.pointer, "linux", why)


def _covers(wide: tuple[str, int, int], narrow: tuple[str, int, int]) -> bool:
    return wide[0] == narrow[0] and all(a in {ANY, b} for a, b in zip(wide[1:], narrow[1:], strict=True))


def _crosses(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    return one[0] == other[0] and all(a == b or ANY in {a, b} for a, b in zip(one[1:], other[1:], strict=True))


def _number(value: int) -> str:
    return "*" if value == ANY else str(value)
