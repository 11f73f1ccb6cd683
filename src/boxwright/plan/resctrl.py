"""Classes of cache and memory bandwidth (config-linux.md#configLinuxIntelRdt): the steps that make and fill a group.

Pure; `host.resctrl` looks at what is there. Not loaded unless a configuration has the section.
"""

from errno import EEXIST

from boxwright._record import Record
from boxwright.errors import ConfigError, HostError, Problem, UnsupportedError
from boxwright.plan.ops import MakeDirs, Step, Write, WriteChildPid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.spec.types import IntelRdt

ANCHOR = "config-linux.md#configLinuxIntelRdt"
_MODE = 0o755


class ResctrlSite(Record):
    """What is mounted, and what stands there of a container's group before anything is made.

    `mountpoint` is empty where resctrl is not mounted. `existing` says that the group of the class is there, and
    `schemata` is its file's text then; `monitoring` that groups can be monitored, `monitored` that the container's
    monitoring group is there already.
    """

    mountpoint: str = ""
    existing: bool = False
    schemata: str = ""
    monitoring: bool = False
    monitored: bool = False


class ResctrlGroups(Record):
    """The directories of one container: `path` of its class, `monitor` or "".

    `made` is what creating it makes and `owned` what deleting it removes, in the order for that.
    """

    path: str
    monitor: str = ""
    made: tuple[str, ...] = ()
    owned: tuple[str, ...] = ()

    @property
    def joined(self) -> tuple[str, ...]:
        """The directories whose `tasks` its processes are written to, in the order that the kernel wants."""
        return (self.path, self.monitor) if self.monitor else (self.path,)


def class_path(rdt: "IntelRdt", mountpoint: str, container_id: str) -> str:
    """The directory of the class of service; `/` is the default one."""
    name = container_id if rdt.clos_id is None else rdt.clos_id
    return mountpoint if name == "/" else f"{mountpoint}/{name}"


def plan_groups(rdt: "IntelRdt", site: ResctrlSite, container_id: str) -> ResctrlGroups:
    """Which directories the container gets. Raises ConfigError, UnsupportedError and HostError as `compile_groups`."""
    _check(rdt, site, container_id)
    path = class_path(rdt, site.mountpoint, container_id)
    monitor = f"{path}/mon_groups/{container_id}" if rdt.enable_monitoring else ""
    monitors = (monitor,) if monitor else ()
    classes = () if site.existing else (path,)
    # the class outlives the container if the configuration has named it
    return ResctrlGroups(path, monitor, monitors + classes, monitors + (classes if rdt.clos_id is None else ()))


def compile_groups(rdt: "IntelRdt", site: ResctrlSite, container_id: str) -> tuple[Step, ...]:
    """The outer's steps after the clone: make the groups, write the schemata, put the init in.

    Raises UnsupportedError where resctrl is not mounted or cannot monitor, ConfigError where a class that exists
    differs from what is asked for or one that should exist does not, HostError where the monitoring group is taken.
    """
    groups = plan_groups(rdt, site, container_id)
    steps = []
    if not site.existing:
        steps.append(Step(MakeDirs(groups.path, _MODE), rdt.at("closID"), ANCHOR))
    steps += schemata_steps(rdt, groups.path)
    if groups.monitor:
        steps.append(Step(MakeDirs(groups.monitor, _MODE), rdt.at("enableMonitoring"), ANCHOR))
    steps += join_steps(groups.joined, rdt.pointer)
    return tuple(steps)


def schemata_steps(rdt: "IntelRdt", path: str) -> list[Step]:
    """The lines in the standard's order: cache, memory bandwidth, then the rest."""
    lines = [(rdt.l3_cache_schema, "l3CacheSchema"), (rdt.mem_bw_schema, "memBwSchema")]
    found = [(line, rdt.at(name)) for line, name in lines if line]
    found += [(line, rdt.at("schemata", index)) for index, line in enumerate(rdt.schemata)]
    return [Step(Write(f"{path}/schemata", f"{line}\n".encode()), pointer, ANCHOR) for line, pointer in found]


def join_steps(directories: tuple[str, ...], pointer: str = "") -> list[Step]:
    """Put the init, or a process that joins it, into the groups."""
    return [Step(WriteChildPid(f"{directory}/tasks"), pointer, ANCHOR) for directory in directories]


def _check(rdt: "IntelRdt", site: ResctrlSite, container_id: str) -> None:
    if not site.mountpoint:
        raise UnsupportedError(rdt.pointer or "/linux/intelRdt", "linux", "no resctrl filesystem is mounted")
    if rdt.clos_id is not None:
        _check_class(rdt, site)
    if rdt.enable_monitoring and not site.monitoring:
        raise UnsupportedError(rdt.at("enableMonitoring"), "linux", "resctrl of this host cannot monitor")
    if rdt.enable_monitoring and site.monitored:
        op = f"make the monitoring group `{container_id}`"
        raise HostError(op, EEXIST, path=container_id, pointer=rdt.at("enableMonitoring"), anchor=ANCHOR)


def _check_class(rdt: "IntelRdt", site: ResctrlSite) -> None:
    if not site.existing:
        if not (rdt.l3_cache_schema or rdt.mem_bw_schema or rdt.schemata):
            rule = "must name a class that exists, since no schema is given"
            raise ConfigError([Problem(rdt.at("closID"), rule, ANCHOR, value=rdt.clos_id)])
        return
    present = parse_schemata(site.schemata)
    problems = []
    for text, name in ((rdt.l3_cache_schema, "l3CacheSchema"), (rdt.mem_bw_schema, "memBwSchema")):
        if text and not is_within(parse_schemata(text), present):
            rule = f"must be what the existing class `{rdt.clos_id}` has"
            problems.append(Problem(rdt.at(name), rule, ANCHOR, value=text))
    if problems:
        raise ConfigError(problems)


def parse_schemata(text: str) -> dict[tuple[str, str], str]:
    """The lines of a schemata file: (resource, domain) → value, both written in one way."""
    found = {}
    for line in text.splitlines():
        resource, _, domains = line.strip().partition(":")
        for domain in domains.split(";"):
            number, equals, value = domain.partition("=")
            if equals:
                found[resource.strip(), _plain(number)] = _plain(value)
    return found


def is_within(wanted: dict[tuple[str, str], str], present: dict[tuple[str, str], str]) -> bool:
    """Whether all that is wanted is in force."""
    return all(present.get(key) == value for key, value in wanted.items())


def _plain(number: str) -> str:
    """A number as text without what does not count: case and zeros in front (masks are hexadecimal)."""
    return number.strip().lower().removeprefix("0x").lstrip("0") or "0"
