"""What the kernel does: namespaces, mounts, filters, processes. Each is tried in a throw-away box."""

import ctypes
import errno as e
import os

from boxwright.host.doctor import FOUND, MISSING, Check, check
from boxwright.host.trial import Trial, attempt, helper_problem
from boxwright.plan import ops
from boxwright.plan.namespaces import CLONE_FLAGS
from boxwright.spec.constants import MOUNT_ATTR_IDMAP, MOUNT_ATTR_RDONLY, MS_PRIVATE, MS_REC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boxwright.plan.ops import Op

_USER, _MOUNT, _TIME = CLONE_FLAGS["user"], CLONE_FLAGS["mount"], CLONE_FLAGS["time"]
_O_PATH, _O_DIRECTORY = 0o10000000, 0o200000
_ROOT, _TREE, _PLACE, _SCRATCH, _SCRATCH_ROOT, _MAPS, _MADE = range(7)
_OWN_MAP = "{} {} 1\n"
_SWITCHES = (
    "user.max_user_namespaces",
    "kernel.unprivileged_userns_clone",
    "kernel.apparmor_restrict_unprivileged_userns",
)
_NOBODY = 65534
_SYS_SECCOMP, _SYS_LANDLOCK_CREATE_RULESET, _SYS_BPF = 317, 444, 321


def reason(trial: Trial) -> str:
    """The kernel's answer with the operation that it refused."""
    if trial:
        return ""
    said = f", {trial.text}" if trial.text else ""
    return f"{type(trial.op).__name__}: {os.strerror(trial.errno)}{said}"


def own_user() -> "list[Op]":
    """Steps of the outer that map our own ids in the new user namespace."""
    uid, gid = os.geteuid(), os.getegid()
    maps: list[Op] = [ops.WriteChildFile(ops.INIT, "setgroups", b"deny")] if uid else []
    maps.append(ops.WriteChildFile(ops.INIT, "gid_map", _OWN_MAP.format(0, gid).encode()))
    maps.append(ops.WriteChildFile(ops.INIT, "uid_map", _OWN_MAP.format(0, uid).encode()))
    return maps


def boxed(*init: "Op", flags: int = _MOUNT, user: bool = False) -> Trial:
    """Do `init` in a mount namespace of its own, in which nothing gets out; with `user` as root of a user namespace."""
    private = ops.SetPropagation("/", MS_PRIVATE | MS_REC)
    if not user:
        return attempt([ops.Clone(flags)], (), [private, *init])
    outer = [ops.Clone(flags | _USER), *own_user(), ops.Post(ops.INIT)]
    return attempt(outer, (), [ops.Await(ops.OUTER), ops.BecomeRoot(), private, *init])


def rootless() -> bool:
    """Whether everything has to be tried in a user namespace, as we may do nothing outside of one."""
    return os.geteuid() != 0


# --- namespaces -------------------------------------------------------------------------------------------------


def namespaces() -> "Iterator[Check]":
    """The helper itself, each type of namespace, and user namespaces without root."""
    group = "namespaces"
    problem = helper_problem()
    yield check(
        group, "helper", not problem, problem, lost="no box can be made", remedy="build it: make helper", vital=True
    )
    if problem:
        return
    user = attempt([ops.Clone(_USER), *own_user(), ops.Post(ops.INIT)], (), [ops.Await(ops.OUTER), ops.BecomeRoot()])
    yield check(
        group,
        "user",
        user,
        reason(user),
        lost="linux.uidMappings and gidMappings; boxes without root",
        remedy=f"see the sysctls {', '.join(_SWITCHES)}",
        vital=rootless(),
    )
    for kind in ("mount", "pid", "network", "ipc", "uts"):
        trial = boxed(flags=_MOUNT | CLONE_FLAGS[kind], user=rootless())
        lost = f"linux.namespaces of the type `{kind}`"
        yield check(group, kind, trial, reason(trial), lost=lost, vital=kind == "mount")
    cgroup = boxed(ops.Unshare(CLONE_FLAGS["cgroup"]), user=rootless())
    yield check(group, "cgroup", cgroup, reason(cgroup), lost="linux.namespaces of the type `cgroup`")
    time = _time_namespace()
    yield check(group, "time", time, reason(time), lost="linux.timeOffsets, linux.namespaces of the type `time`")
    yield _unprivileged_user()


def _time_namespace() -> Trial:
    if not rootless():
        return attempt([ops.ForkJoiner()], [ops.Unshare(_TIME), ops.Clone(0)])
    return boxed(ops.Unshare(_TIME), user=True)


def _unprivileged_user() -> Check:
    """Whether a user without any privilege may make a user namespace."""
    drop = [] if rootless() else [ops.BoundCaps(0), ops.SetUser(_NOBODY, _NOBODY, (), 0)]
    trial = attempt([ops.Clone(0)], (), [*drop, ops.Unshare(_USER)])
    switches = [f"{name} is {_sysctl(name)}" for name in _SWITCHES if _sysctl(name)]
    lost, remedy = "boxes of other users than root", f"see the sysctls {', '.join(_SWITCHES)}"
    return check(
        "namespaces", "user, unprivileged", trial, reason(trial) or ", ".join(switches), lost=lost, remedy=remedy
    )


def _sysctl(name: str) -> str:
    try:
        with open(f"/proc/sys/{name.replace('.', '/')}") as file:
            return file.read().strip()
    except OSError:
        return ""


# --- mounts -----------------------------------------------------------------------------------------------------


def mounts() -> "Iterator[Check]":
    """The calls that make mounts, id-mapped mounts, overlays."""
    if helper_problem():
        return
    group, user = "mounts", rootless()
    new = ops.FsMount(_TREE, "tmpfs", ("source=doctor",), 0)
    root = ops.Open(_ROOT, "/", _O_PATH | _O_DIRECTORY)
    place = ops.Resolve(_PLACE, _ROOT, "/proc", ops.EXISTING, 0, 0)
    tries: tuple[tuple[str, Sequence[Op]], ...] = (
        ("fsopen", (new,)),
        ("open_tree", (ops.OpenTree(_TREE, ops.AT_HOST, "/", ops.RECURSIVE),)),
        ("mount_setattr", (new, ops.SetAttr(_TREE, MOUNT_ATTR_RDONLY, 0, 0, ops.NO_SLOT, 0))),
        ("openat2", (root, place)),
        ("move_mount", (new, root, place, ops.MoveMount(_TREE, _PLACE))),
    )
    for name, steps in tries:
        trial = boxed(*steps, user=user)
        yield check(
            group, name, trial, reason(trial), lost="no box can be made", remedy="Linux 5.12 or newer", vital=True
        )
    yield from _id_mapped()
    for name, in_user in (("overlay", user), ("overlay in a user namespace", True)):
        trial = _overlay(in_user)
        lost = "private writable roots over a shared one" if not in_user else "the same without root"
        yield check(group, name, trial, reason(trial), lost=lost, remedy="modprobe overlay")


def _id_mapped() -> "Iterator[Check]":
    lost = "mounts[].uidMappings, the options idmap and ridmap"
    if rootless():
        yield Check("mounts", "id-mapped", MISSING, "needs root", lost)
        return
    maps = ops.Userns(_MAPS, "0 100000 1\n", "0 100000 1\n")
    mapped = ops.SetAttr(_TREE, MOUNT_ATTR_IDMAP, 0, 0, _MAPS, 0)
    sources: tuple[tuple[str, Op], ...] = (
        ("id-mapped tmpfs", ops.FsMount(_TREE, "tmpfs", ("source=doctor",), 0)),
        ("id-mapped root file system", ops.OpenTree(_TREE, ops.AT_HOST, "/", 0)),
    )
    for name, source in sources:
        trial = boxed(maps, source, mapped)
        yield check("mounts", name, trial, reason(trial), lost=lost)


def _overlay(user: bool) -> Trial:
    """An overlay of /usr, its upper directory on a tmpfs over /tmp that only the throw-away box sees."""
    params = ("source=doctor", "lowerdir=/usr", "upperdir=/tmp/upper", "workdir=/tmp/work")
    return boxed(
        ops.FsMount(_SCRATCH, "tmpfs", ("source=doctor", "mode=755"), 0),
        ops.AttachRoot(_SCRATCH, "/tmp", _SCRATCH_ROOT),
        ops.MakeDirAt(_SCRATCH_ROOT, "upper", 0o755, 0, 0),
        ops.MakeDirAt(_SCRATCH_ROOT, "work", 0o755, 0, 0),
        ops.FsMount(_MADE, "overlay", (*params, "userxattr") if user else params, 0),
        user=user,
    )


# --- filters ----------------------------------------------------------------------------------------------------

_SECCOMP_GET_ACTION_AVAIL = 2
_RET_USER_NOTIF, _RET_ALLOW = 0x7FC00000, 0x7FFF0000


def syscall(number: int, *args: object) -> int:
    """syscall(2); -errno for a refusal. Only numbers that are the same on every architecture, or x86-64's there."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.syscall(ctypes.c_long(number), *args)
    return -ctypes.get_errno() if done == -1 else int(done)


def filters() -> "Iterator[Check]":
    """seccomp with its notifications, libseccomp, Landlock, the device filter of cgroup v2."""
    group = "filters"
    if not helper_problem():
        allow = (0x06).to_bytes(2, "little") + b"\0\0" + _RET_ALLOW.to_bytes(4, "little")
        trial = attempt([ops.Clone(0)], (), [ops.NoNewPrivs(), ops.LoadSeccomp(allow, 0, ops.NO_SLOT, ())])
        yield check(group, "seccomp", trial, reason(trial), lost="linux.seccomp", remedy="CONFIG_SECCOMP_FILTER")
    if os.uname().machine == "x86_64":
        action = ctypes.c_uint32(_RET_USER_NOTIF)
        answer = syscall(_SYS_SECCOMP, _SECCOMP_GET_ACTION_AVAIL, 0, ctypes.byref(action))
        lost = "SCMP_ACT_NOTIFY, linux.seccomp.listenerPath"
        yield check(group, "seccomp notifications", answer == 0, _refusal(answer), lost=lost)
        yield _device_filter()
    yield _libseccomp()
    abi = syscall(_SYS_LANDLOCK_CREATE_RULESET, None, 0, 1)
    detail = f"ABI {abi}" if abi > 0 else _refusal(abi)
    yield check(
        group, "Landlock", abi > 0, detail, lost="a second wall around files", remedy="boot with lsm=…,landlock"
    )


def _refusal(answer: int) -> str:
    return os.strerror(-answer) if answer < 0 else ""


def _libseccomp() -> Check:
    from boxwright.errors import UnsupportedError
    from boxwright.host.seccomp import syscall_numbers

    try:
        version = syscall_numbers().version()
    except UnsupportedError as error:
        return Check("filters", "libseccomp", MISSING, error.why, "linux.seccomp", "apt install libseccomp2")
    return Check("filters", "libseccomp", FOUND, f"{version.major}.{version.minor}.{version.micro}")


def _device_filter() -> Check:
    """Load a program that allows every device; attached to nothing, it goes with its descriptor."""
    program = ctypes.create_string_buffer(b"\xb7\0\0\0\x01\0\0\0\x95\0\0\0\0\0\0\0", 16)  # r0 = 1; exit
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    fields = (15).to_bytes(4, "little") + (2).to_bytes(4, "little")  # BPF_PROG_TYPE_CGROUP_DEVICE, 2 instructions
    fields += ctypes.addressof(program).to_bytes(8, "little") + ctypes.addressof(licence).to_bytes(8, "little")
    attributes = ctypes.create_string_buffer(fields, 128)
    made = syscall(_SYS_BPF, 5, ctypes.byref(attributes), len(attributes))
    if made >= 0:
        os.close(made)
    lost = "linux.resources.devices on cgroup v2"
    return check(
        "filters", "device filter (BPF)", made >= 0, _refusal(made), lost=lost, remedy="be root; CONFIG_CGROUP_BPF"
    )


# --- processes --------------------------------------------------------------------------------------------------


def processes() -> "Iterator[Check]":
    """pidfd, and starting in a control group at once."""
    group = "processes"
    yield check(group, "pidfd", _has_pidfd(), lost="no box can be followed", remedy="Linux 5.3 or newer", vital=True)
    if helper_problem():
        return
    own = _own_group()
    if not own:
        yield Check(group, "clone into a control group", MISSING, "there is no cgroup v2 tree", "only speed")
        return
    open_group = ops.Open(_PLACE, own, _O_PATH | _O_DIRECTORY)
    trial = attempt([open_group, ops.Clone(0, _PLACE)])
    why = "a member of a group which hands controllers down" if trial.errno == e.EBUSY else reason(trial)
    yield check(group, "clone into a control group", trial, why, lost="only speed")


def _has_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _own_group() -> str:
    """The directory of the group of the v2 tree that we are in, empty if there is none."""
    from boxwright.host.cgroup_probe import probe

    unified = probe().unified()
    return f"{unified.mountpoint}{unified.own}".rstrip("/") if unified else ""
