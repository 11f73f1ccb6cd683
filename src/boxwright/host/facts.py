"""Facts of the host that compiling needs, found by looking, never by version."""

import os

from boxwright.host.cgroup_probe import probe as probe_cgroups
from boxwright.plan.request import HostFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.spec.types import Config

_CAP_SYS_ADMIN = 1 << 21
_TOOL_DIRS = ("/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin")


_last: list[HostFacts] = []
_last_with_profiles: list[HostFacts] = []


def probe() -> HostFacts:
    """The facts of now; the same object as long as they are the same. Cheap: a handful of system calls."""
    privileged = is_privileged()
    found = HostFacts(
        euid=os.geteuid(),
        egid=os.getegid(),
        privileged=privileged,
        cgroups=probe_cgroups(),
        newuidmap="" if privileged else _tool("newuidmap"),
        newgidmap="" if privileged else _tool("newgidmap"),
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
        resctrl="/sys/fs/resctrl" if os.path.exists("/sys/fs/resctrl/schemata") else "",
    )
    return _the_same(_last, found)


def probe_for(config: "Config") -> HostFacts:
    """The same with what this configuration alone makes worth looking at: the AppArmor profiles if it names one."""
    facts = probe()
    if config.process is None or not config.process.apparmor_profile:
        return facts
    from boxwright.host.apparmor import loaded_profiles

    return _the_same(_last_with_profiles, facts.replace(apparmor=loaded_profiles()))


def _the_same(last: list[HostFacts], found: HostFacts) -> HostFacts:
    if not last or last[-1] != found:
        last[:] = [found]
    return last[-1]


def is_privileged() -> bool:
    """Root with CAP_SYS_ADMIN where every id is mapped: not inside of a user namespace."""
    if os.geteuid() != 0:
        return False
    fields = _read("/proc/self/uid_map").split()
    if fields != ["0", "0", "4294967295"]:
        return False
    status = _read("/proc/self/status")
    effective = status[status.index("CapEff:") + 7 :].split(None, 1)[0]
    return bool(int(effective, 16) & _CAP_SYS_ADMIN)


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 16384).decode()
    finally:
        os.close(fd)


def _tool(name: str) -> str:
    for directory in _TOOL_DIRS:
        path = f"{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    return ""
