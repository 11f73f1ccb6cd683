"""What the host offers beside its kernel's calls: privileges, ids, control groups, labels, programs, machines."""

import os

from boxwright.host.doctor import FOUND, MISSING, PARTLY, Check, check
from boxwright.spec.constants import CAPABILITY_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.plan.cgroup_layout import CgroupLayout, Hierarchy

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# controllers with what they are for; a v1 host has the first name, a v2 host the second
_CONTROLLERS = (
    ("memory", "memory", "linux.resources.memory"),
    ("cpu", "cpu", "linux.resources.cpu"),
    ("cpuset", "cpuset", "linux.resources.cpu.cpus and mems"),
    ("pids", "pids", "linux.resources.pids"),
    ("blkio", "io", "linux.resources.blockIO"),
    ("hugetlb", "hugetlb", "linux.resources.hugepageLimits"),
    ("rdma", "rdma", "linux.resources.rdma"),
    ("freezer", "", "pause and resume"),
    ("devices", "", "linux.resources.devices"),
    ("net_cls", "-", "linux.resources.network.classID"),
    ("net_prio", "-", "linux.resources.network.priorities"),
)
# what the caller's own missing capabilities take away
_CAPABILITY_LOSSES = {
    "CAP_SYS_ADMIN": "mounts and namespaces without a user namespace",
    "CAP_SYS_RESOURCE": "process.rlimits above the caller's hard limits, process.oomScoreAdj below its own",
    "CAP_NET_ADMIN": "linux.netDevices",
    "CAP_MKNOD": "linux.devices by mknod",
    "CAP_SYS_NICE": "realtime process.scheduler and process.ioPriority",
    "CAP_SETUID": "process.user",
    "CAP_SETGID": "process.user",
    "CAP_SYS_CHROOT": "boxes without a mount namespace",
}


def read(path: str) -> str:
    """The text of a small file; empty where it cannot be read."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def which(*names: str) -> str:
    """The first of the programs that is installed, with its path."""
    import shutil

    path = f"{os.environ.get('PATH', '')}:{_PATH}"
    return next((found for name in names if (found := shutil.which(name, path=path))), "")


# --- who calls --------------------------------------------------------------------------------------------------


def caller() -> "Iterator[Check]":
    """The privileges of this process."""
    uid = os.geteuid()
    yield Check("caller", "user", FOUND, "root" if uid == 0 else f"uid {uid}: boxes get a user namespace")
    effective = _effective_capabilities()
    missing = [name for number, name in enumerate(CAPABILITY_NAMES) if not effective >> number & 1]
    if not missing:
        yield Check("caller", "capabilities", FOUND, "all")
    elif uid != 0:
        yield Check("caller", "capabilities", PARTLY, "those of no root: a user namespace gives them inside")
    else:
        losses = [f"{name}: {_CAPABILITY_LOSSES[name]}" for name in missing if name in _CAPABILITY_LOSSES]
        yield Check("caller", "capabilities", PARTLY, f"without {', '.join(missing)}", "; ".join(losses))


def _effective_capabilities() -> int:
    for line in read("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def ids() -> "Iterator[Check]":
    """Ids that a user without root may map."""
    import pwd

    for kind, tool in (("uid", "newuidmap"), ("gid", "newgidmap")):
        path = which(tool)
        lost = f"linux.{kind}Mappings of more than the own id, without root"
        yield check("ids", tool, path, path, lost=lost, remedy="apt install uidmap")
    uid = os.geteuid()
    if uid == 0:
        return
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    for file in ("/etc/subuid", "/etc/subgid"):
        ranges = [line for line in read(file).splitlines() if line.split(":")[0] in {name, str(uid)}]
        remedy = f"usermod --add-sub{'uids' if file.endswith('uid') else 'gids'} 100000-165535 {name}"
        yield check("ids", file, ranges, ", ".join(ranges), lost="mapping more than the own id", remedy=remedy)


# --- control groups ---------------------------------------------------------------------------------------------


def cgroups() -> "Iterator[Check]":
    """The hierarchies, what can be limited, and who may make groups."""
    from boxwright.host.cgroup_probe import probe

    layout = probe()
    where = ", ".join(hierarchy.mountpoint for hierarchy in layout.hierarchies if hierarchy.version == 2)
    detail = f"{layout.mode}{f', the v2 tree at {where}' if where else ''}"
    remedy = "mount a cgroup2 file system at /sys/fs/cgroup"
    yield check("cgroups", "hierarchies", layout.mode != "none", detail, lost="linux.resources", remedy=remedy)
    if layout.mode == "none":
        return
    yield from _controllers(layout)
    yield _groups_can_be_made(layout)
    yield _systemd()


def _controllers(layout: "CgroupLayout") -> "Iterator[Check]":
    offered = {name: hierarchy for hierarchy in layout.hierarchies for name in hierarchy.controllers}
    only_v2 = layout.mode == "v2"
    for old, new, prop in _CONTROLLERS:
        if only_v2 and not new:
            continue  # not a controller there: freezing is of the core, devices are for a BPF filter
        found: Hierarchy | None = offered.get(old) or offered.get(new)
        if found is not None:
            yield Check("cgroups", old, FOUND, f"cgroup v{found.version}")
        elif only_v2 and new == "-":
            yield Check("cgroups", old, MISSING, "cgroup v2 does not have it", prop)
        else:
            yield _missing_controller(new if only_v2 else old, prop)


def _missing_controller(name: str, prop: str) -> Check:
    """Whether the kernel has it after all, and nobody mounted it."""
    for line in read("/proc/cgroups").splitlines():
        fields = line.split()
        if fields and fields[0] == name:
            remedy = f"mount -t cgroup -o {name} cgroup DIR" if fields[3] == "1" else f"boot with cgroup_enable={name}"
            why = "in no hierarchy that this user may use"
            return Check("cgroups", name, MISSING, why, prop, remedy if os.geteuid() == 0 else "")
    return Check("cgroups", name, MISSING, "the kernel does not have it", prop)


def _groups_can_be_made(layout: "CgroupLayout") -> Check:
    """Make a group below our own, in the hierarchy that matters most, and remove it."""
    remedy = "be root, or let systemd delegate: systemd-run --user --scope -p Delegate=yes …"
    hierarchy = layout.unified() if layout.mode == "v2" else next(iter(layout.hierarchies), None)
    if hierarchy is None or not layout.writable:
        why = "no group that this user may write to"
        return Check("cgroups", "new groups", MISSING, why, "linux.resources", remedy)
    base = layout.delegated if hierarchy.version == 2 and layout.rootless else hierarchy.own
    path = f"{hierarchy.mountpoint}{base.rstrip('/')}/boxwright-doctor-{os.getpid()}"
    try:
        os.mkdir(path)
    except OSError as error:
        return Check("cgroups", "new groups", MISSING, error.strerror or "", "linux.resources", remedy)
    os.rmdir(path)
    return Check("cgroups", "new groups", FOUND, f"below {os.path.dirname(path)}")


def _systemd() -> Check:
    from _socket import AF_UNIX, SOCK_STREAM, socket

    lost = "--systemd-cgroup"
    if not os.path.isdir("/run/systemd/system"):
        return Check("cgroups", "systemd", MISSING, "this host was not booted by it", lost)
    user = f"/run/user/{os.geteuid()}/bus"
    path = "/run/dbus/system_bus_socket" if os.geteuid() == 0 else user
    bus = socket(AF_UNIX, SOCK_STREAM)
    try:
        bus.connect(path)
    except OSError as error:
        return Check("cgroups", "systemd", MISSING, f"{path}: {error.strerror}", lost, "apt install dbus")
    finally:
        bus.close()
    return check("cgroups", "systemd", _has_module("jeepney"), path, lost=lost, remedy="apt install python3-jeepney")


def _has_module(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


# --- labels, pages ----------------------------------------------------------------------------------------------


def labels() -> "Iterator[Check]":
    """Security modules, and what hardware shares out."""
    apparmor = read("/sys/module/apparmor/parameters/enabled").strip() == "Y"
    yield check("labels", "AppArmor", apparmor, lost="process.apparmorProfile", remedy="boot with lsm=…,apparmor")
    selinux = read("/sys/fs/selinux/enforce").strip()
    mode = {"0": "permissive", "1": "enforcing"}.get(selinux, "")
    yield check("labels", "SELinux", selinux, mode, lost="process.selinuxLabel, linux.mountLabel")
    yield _resctrl()
    pages = "/sys/kernel/mm/hugepages"
    sizes = sorted(os.listdir(pages)) if os.path.isdir(pages) else []
    shown = ", ".join(name.removeprefix("hugepages-") for name in sizes)
    yield check("labels", "huge pages", sizes, shown, lost="linux.resources.hugepageLimits")


def _resctrl() -> Check:
    lost, name = "linux.intelRdt", "resctrl"
    if "\tresctrl\n" not in read("/proc/filesystems"):
        return Check("labels", name, MISSING, "neither the kernel nor the processor has it", lost)
    mounted = os.path.exists("/sys/fs/resctrl/schemata")
    remedy = "mount -t resctrl resctrl /sys/fs/resctrl"
    return check("labels", name, mounted, "" if mounted else "not mounted", lost=lost, remedy=remedy)


# --- programs ---------------------------------------------------------------------------------------------------


def programs() -> "Iterator[Check]":
    """Programs that are used where they are installed."""
    yield _criu()
    for name, names, lost, remedy in (
        ("network without root", ("pasta", "passt", "slirp4netns"), "a network for boxes without root", "passt"),
        (
            "CNI plugins",
            ("/usr/lib/cni/bridge", "/opt/cni/bin/bridge"),
            "bridged networks",
            "containernetworking-plugins",
        ),
        ("fuse-overlayfs", ("fuse-overlayfs",), "overlays where the kernel refuses them", "fuse-overlayfs"),
    ):
        found = which(*names)
        yield check("programs", name, found, found, lost=lost, remedy=f"apt install {remedy}")


def _criu() -> Check:
    import subprocess

    lost, path = "checkpoint and restore", which("criu")
    if not path:
        return Check("programs", "CRIU", MISSING, "", lost, "apt install criu")
    try:
        done = subprocess.run(
            [path, "check"], capture_output=True, text=True, errors="replace", timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("programs", "CRIU", MISSING, str(error), lost)
    if done.returncode == 0:
        return Check("programs", "CRIU", FOUND, f"{path}: its own check is content")
    said = (done.stderr or done.stdout).strip().splitlines()
    return Check("programs", "CRIU", PARTLY, said[-1] if said else "its own check fails", lost)
