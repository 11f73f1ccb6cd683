"""Why the kernel refuses a step, and what can be done: the knowledge behind the hints of error messages.

One function an operation; each takes the failure and gives a cause in words (may be empty) and a hint (may be
empty). The man pages named in the comments are where the reasons come from.
"""

import errno as e

from boxwright._record import Record
from boxwright.plan import ops
from boxwright.plan.phrases import Names, namespace_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from boxwright.plan.ops import Plan, Step

    Reason = tuple[str, str]
    Explain = Callable[[Any, "Failure"], Reason]

_NOTHING = ("", "")
_CLONE_NEWUSER = 0x10000000
_REALTIME = (
    "realtime policies and a nice value below the caller's need CAP_SYS_NICE, and in cgroup v1 a realtime policy needs "
    "`realtimeRuntime` of the cpu resources"
)
_NO_SPACE_FOR = "a limit of /proc/sys/user or of the user's processes is reached"


class Failure(Record):
    """One report of the helper about a step that the kernel refused."""

    plan: "Plan"
    actor: int
    step: "Step"
    errno: int
    value: int = 0
    text: str = ""
    names: Names = Names()

    @property
    def new_user(self) -> bool:
        """Whether the box has a user namespace of its own."""
        steps = (*self.plan.outer, *self.plan.joiner)
        flags = (step.op.flags for step in steps if isinstance(step.op, (ops.Clone, ops.Unshare)))
        return any(flag & _CLONE_NEWUSER for flag in flags)

    @property
    def unprivileged(self) -> str:
        """Words for an EPERM: with or without a user namespace it has other reasons."""
        if self.new_user:
            return "the kernel does not allow this in a user namespace"
        return "the caller lacks the privilege: it needs root with its capabilities, or a user namespace"


def reason(failure: Failure) -> "Reason":
    """The cause in words and the hint for a failed step; both may be empty."""
    explain = _REASONS.get(type(failure.step.op))
    cause, hint = explain(failure.step.op, failure) if explain else _NOTHING
    if not hint and failure.errno == e.EPERM:
        hint = failure.unprivileged
    return cause, hint


def _by_errno(reasons: "dict[int, Reason]") -> "Explain":
    return lambda _op, failure: reasons.get(failure.errno, _NOTHING)


# --- files of the host, cgroups ---------------------------------------------------------------------------------


def _open(op: ops.Open, f: Failure) -> "Reason":
    if f.errno == e.ENOENT and op.slot in f.names.namespaces:
        return "", f"there is no such {f.names.namespaces[op.slot]} namespace: has its process ended?"
    if f.errno == e.EACCES and op.slot in f.names.namespaces:
        return "", "the caller may not look into that process: it needs CAP_SYS_PTRACE over it"
    if f.errno == e.ENOENT and f.step.pointer == "/root/path":
        return "the root file system is missing", "root.path is relative to the bundle"
    if op.magic and f.value == op.magic:
        return "it is no procfs", "settings and labels are written by the caller's own /proc: mount it there"
    return _NOTHING


def _make_dirs(op: ops.MakeDirs, f: Failure) -> "Reason":
    if "/cgroup" in op.path and f.errno in {e.EACCES, e.EPERM, e.EROFS}:
        return "", "the control group is not delegated to this user: let systemd delegate one, or be root"
    if "/cgroup" in op.path and f.errno == e.EAGAIN:
        return "", "cgroup.max.descendants or cgroup.max.depth of a control group above is reached"
    if "resctrl" in op.path and f.errno == e.ENOSPC:
        return "", "the processor has no free class of service (closID)"
    return _NOTHING


_CGROUP_WRITES = (
    ("cgroup.subtree_control", e.EBUSY, "processes live in the group itself: only groups at the leaves may have some"),
    ("cgroup.subtree_control", e.ENOENT, "the controller is not handed down from the group above"),
    ("limit_in_bytes", e.EBUSY, "the limit is below what is in use"),
    ("limit_in_bytes", e.EINVAL, "memory and swap together may not be below memory alone"),
    ("cpuset.", e.EINVAL, "no such CPU or memory node is online, or the group above does not have it"),
    ("cpuset.", e.ERANGE, "no such CPU or memory node exists"),
    ("cpuset.", e.EACCES, "the group above does not have these CPUs or memory nodes"),
    ("cpu.rt_", e.EINVAL, "the group above has no such realtime time to give"),
    ("cpu.cfs_", e.EINVAL, "quota and burst may not exceed what the group above has, nor the period one second"),
    ("cpu.max", e.EINVAL, "the quota is at least 1000 µs and the period from 1000 to 1000000 µs"),
    ("hugetlb", e.ENOENT, "the kernel has no huge pages of this size: see /sys/kernel/mm/hugepages"),
    ("io.", e.ENODEV, "there is no such block device"),
    ("blkio.", e.ENODEV, "there is no such block device"),
    ("pids.max", e.EINVAL, "the limit must be from 0 to 4194304, or -1"),
)


def _write(op: ops.Write, f: Failure) -> "Reason":
    name = op.path.rpartition("/")[2]
    for part, number, why in _CGROUP_WRITES:
        if part in name and f.errno == number:
            return "", why
    if f.errno == e.ENOENT and "/cgroup" in op.path:
        return "", f"this kernel has no `{name}`: the controller or the option is not built in or not enabled"
    if f.errno in {e.EINVAL, e.ERANGE, e.EOPNOTSUPP}:
        return "", f"the kernel does not take this value for `{name}`"
    return _NOTHING


def _write_at(op: ops.WriteAt, f: Failure) -> "Reason":
    if op.name.startswith("sys/"):
        return _sysctl(op, f)
    if op.name.endswith("oom_score_adj"):
        return _oom_score(f)
    if "apparmor" in op.name:
        return "", "is AppArmor active, and the profile loaded? `aa-status` tells, `apparmor_parser -r` loads"
    if op.name.endswith("attr/exec") and f.errno in {e.EINVAL, e.EACCES, e.ENOENT}:
        return "", "SELinux does not know this label, is not active, or its policy forbids the change"
    if op.name.endswith("timens_offsets") and f.errno == e.ERANGE:
        return "", "the offset may not make the clock negative or exceed 146 years (time_namespaces(7))"
    return _NOTHING


def _sysctl(op: ops.WriteAt, f: Failure) -> "Reason":
    key = op.name[4:].replace("/", ".")
    if f.errno == e.ENOENT:
        return f"there is no sysctl `{key}` here", "it may belong to a namespace that the box does not have"
    if f.errno in {e.EACCES, e.EPERM, e.EROFS}:
        return "", f"`{key}` is not of a namespace that the box owns"
    if f.errno in {e.EINVAL, e.ERANGE}:
        return "", f"the kernel does not take this value for `{key}`"
    return _NOTHING


def _child_pid(_op: ops.WriteChildPid, f: Failure) -> "Reason":
    return {
        e.ENOSPC: ("", "the cpuset of the group has no CPU or no memory node"),
        e.EBUSY: ("", "the group hands controllers down, so no process may live in it"),
        e.EOPNOTSUPP: ("", "the group is threaded or invalid: see its cgroup.type"),
        e.EACCES: ("", "moving needs write access to the nearest common group above: run in a delegated one"),
        e.EAGAIN: ("", "the pids limit of the group is reached"),
    }.get(f.errno, _NOTHING)


def _child_file(op: ops.WriteChildFile, f: Failure) -> "Reason":
    if op.name in {"uid_map", "gid_map"}:
        kind = "uid" if op.name == "uid_map" else "gid"
        if f.errno == e.EPERM:
            return "", f"without root only the own id may be mapped, or what /etc/sub{kind} grants by `new{kind}map`"
        if f.errno == e.EINVAL:
            return "", "the ranges overlap, are empty or too many (340), or name ids that do not exist outside"
    return _oom_score(f) if op.name == "oom_score_adj" else _NOTHING


def _oom_score(f: Failure) -> "Reason":
    if f.errno in {e.EACCES, e.EPERM}:
        return "", "a score below the caller's own needs CAP_SYS_RESOURCE"
    if f.errno == e.EINVAL:
        return "", "the score must be from -1000 to 1000"
    return _NOTHING


def _tool(op: ops.RunTool, f: Failure) -> "Reason":
    tool = op.argv[0].rpartition("/")[2]
    if f.errno == e.ENOENT:
        return "the program is not installed", f"install the Debian package `uidmap`, which has `{tool}`"
    if f.errno != e.ECANCELED:
        return _NOTHING
    kind = "uid" if "uid" in tool else "gid"
    return f.text.strip().replace("\n", "; ") or "it failed", f"/etc/sub{kind} must give these ids to the user"


def _chown(_op: ops.ChownAt, f: Failure) -> "Reason":
    return _by_errno({e.EINVAL: ("", "the id is not mapped in this user namespace")})(None, f)


# --- namespaces -------------------------------------------------------------------------------------------------


def _clone(op: "ops.Clone | ops.Unshare", f: Failure) -> "Reason":
    if f.errno in {e.ENOSPC, e.EUSERS, e.EAGAIN}:
        return "", _NO_SPACE_FOR
    if f.errno == e.EPERM and op.flags & _CLONE_NEWUSER:
        return "", (
            "user namespaces are switched off here: see the sysctls user.max_user_namespaces, "
            "kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns"
        )
    if f.errno == e.EPERM and op.flags:
        return "", "without root the box needs a user namespace too: add `user` to linux.namespaces"
    if f.errno == e.EINVAL and op.flags:
        return "", f"this kernel does not have every one of: {namespace_words(op.flags)}"
    if f.errno == e.EBUSY and isinstance(op, ops.Clone) and op.cgroup != ops.NO_SLOT:
        return "", "the control group hands controllers down, so no process may live in it"
    return _NOTHING


def _setns(op: ops.Setns, f: Failure) -> "Reason":
    kind = namespace_words(op.kind)
    if f.errno == e.EINVAL and op.kind & _CLONE_NEWUSER:
        return "", "the path is not a user namespace, or it is the one the caller is in already"
    if f.errno == e.EINVAL:
        return f"{f.names.of(op.slot)} is not a {kind} namespace", "compare it with `ls -l /proc/PID/ns`"
    if f.errno == e.EPERM:
        return "", f"the caller has no CAP_SYS_ADMIN in the user namespace that owns the {kind} namespace"
    return _NOTHING


def _uts_name(_op: object, f: Failure) -> "Reason":
    if f.errno == e.EINVAL:
        return "", "the name has at most 64 bytes"
    return _NOTHING


# --- mounts -----------------------------------------------------------------------------------------------------


def _open_tree(op: ops.OpenTree, f: Failure) -> "Reason":
    if f.errno == e.ENOENT:
        kind = "root file system" if f.step.pointer == "/root/path" else "source"
        return f"the {kind} `{op.path}` does not exist", ""
    if f.errno == e.EINVAL:
        return "", "the mount is unbindable, or has mounts below that a user namespace may not leave out: use `rbind`"
    if f.errno == e.EACCES:
        return "", f"the user of the box may not walk to `{op.path}`"
    return _NOTHING


def _set_attr(op: ops.SetAttr, f: Failure) -> "Reason":
    if op.userns != ops.NO_SLOT and f.errno == e.EINVAL:
        return "the filesystem cannot be mounted with mapped ids", "ext4, xfs, btrfs, tmpfs, overlay and erofs can"
    if op.userns != ops.NO_SLOT and f.errno == e.EPERM:
        return "", "the mount has mapped ids already, or its filesystem belongs to another user namespace"
    if f.errno == e.EPERM and f.new_user:
        return "", "flags that the host set on this mount are locked in a user namespace: keep nosuid, nodev, ro …"
    return _NOTHING


def _attach_root(_op: ops.AttachRoot, f: Failure) -> "Reason":
    if f.errno == e.ENOTDIR:
        return "the root file system is not a directory", ""
    return _NOTHING


def _resolve(op: ops.Resolve, f: Failure) -> "Reason":
    if f.errno == e.ELOOP and op.flags & ops.NO_SYMLINKS:
        return "a symbolic link is in the way", (
            f"`{op.path}` in the image is or goes through a symbolic link; that is refused for `{op.path}`, "
            "as it would mount it elsewhere"
        )
    if f.errno == e.EPERM and f.value:
        return "it leads into procfs", "nothing may be mounted there: the kernel's own files would be covered"
    if f.errno == e.EROFS:
        return "", f"`{op.path}` is missing in the image and cannot be made: the file system is read-only"
    unmapped = "the root file system belongs to ids that the user namespace does not map"
    no_way = "a part of the path is a file, or it goes up (`..`) from what is missing"
    if f.errno == e.EEXIST:
        return _occupied(op.path)
    return {
        e.EACCES: ("", unmapped),
        e.EOVERFLOW: ("", unmapped),
        e.ENOTDIR: ("", no_way),
        e.EXDEV: ("", no_way),
        e.EAGAIN: ("somebody renames parts of the path all the time", ""),
        e.ENOENT: ("", f"`{op.path}` is missing in the root file system, or a symbolic link there points nowhere"),
    }.get(f.errno, _NOTHING)


def _move_mount(_op: ops.MoveMount, f: Failure) -> "Reason":
    if f.errno == e.ENOTDIR:
        return "", "source and destination must be two directories or two files"
    if f.errno == e.EINVAL:
        return "", "the place is not in a mount that this mount namespace owns, or below a shared mount"
    return _NOTHING


def _mask(_op: object, f: Failure) -> "Reason":
    if f.errno == e.ENXIO:
        return "`/dev/null` of the host is not the null device", "the device 1:3 is needed to mask files"
    return _NOTHING


def _occupied(path: str) -> "Reason":
    return "something else is there already", f"remove `{path}` from the image, or correct the device"


def _make_node(op: ops.MakeNode, f: Failure) -> "Reason":
    if f.errno == e.EEXIST:
        return _occupied(op.path)
    if f.errno == e.EPERM:
        return "", "making devices needs CAP_MKNOD outside of user namespaces"
    return _NOTHING


def _check_node(_op: ops.CheckNode, f: Failure) -> "Reason":
    if f.errno == e.ENODEV:
        return "what the host has there is another", "nobody here can make a device: the host's is bound by its path"
    return _NOTHING


def _console(_op: ops.Console, f: Failure) -> "Reason":
    if f.errno in {e.ENOENT, e.ENODEV}:
        return "there is no devpts at `/dev/pts`", "mount `devpts` at /dev/pts with `newinstance,ptmxmode=0666`"
    if f.errno == e.EINVAL:
        return "", "a group of the devpts options, such as gid=5, is not mapped in the user namespace"
    return _NOTHING


def _pivot(_op: ops.PivotRoot, f: Failure) -> "Reason":
    if f.errno == e.EINVAL:
        return "", "the host's root is an initramfs or the mounts are shared: try `--no-pivot`"
    return _NOTHING


# --- the process ------------------------------------------------------------------------------------------------


def _cwd(op: ops.SetCwd, f: Failure) -> "Reason":
    if f.errno == e.EACCES:
        return "", f"the user of the process may not enter `{op.path}`"
    if f.errno == e.ENOENT:
        return "", f"`{op.path}` is missing in the root file system, and a link there points nowhere"
    if f.errno == e.EXDEV:
        return "it leads out of the root file system", ""
    if f.errno == e.ELOOP:
        return "", "a path through /proc/PID/fd, root or cwd is no working directory, nor are links in a circle"
    return _NOTHING


def _rlimit(op: ops.SetRlimit, f: Failure) -> "Reason":
    if f.errno == e.EPERM:
        return "", "raising a hard limit needs CAP_SYS_RESOURCE, which the caller lacks: `ulimit -H -a` shows them"
    if f.errno == e.EINVAL and op.hard != -1 and (op.soft == -1 or op.soft > op.hard):
        return "the soft limit is above the hard limit", ""
    return _NOTHING


def _user(op: ops.SetUser, f: Failure) -> "Reason":
    if f.errno == e.EINVAL:
        ids = ", ".join(map(str, dict.fromkeys((op.uid, op.gid, *op.groups))))
        return "an id is not mapped in the user namespace", f"uidMappings and gidMappings must contain {ids}"
    if f.errno == e.EPERM and op.groups:
        return "", "additionalGids need a group map made by root or `newgidmap`"
    return _NOTHING


def _seccomp(op: ops.LoadSeccomp, f: Failure) -> "Reason":
    if op.listener != ops.NO_SLOT and f.errno in {e.EPIPE, e.ECONNRESET, e.ENOTCONN}:
        return "the listener closed its end", ""
    return {
        e.EACCES: ("", "without CAP_SYS_ADMIN a filter needs noNewPrivileges"),
        e.EINVAL: ("", "this kernel does not know one of the seccomp flags or actions"),
        e.EBUSY: ("", "a filter with a listener is loaded already: there can be one only"),
        e.ENOMEM: ("", "the filters together are too long"),
    }.get(f.errno, _NOTHING)


def _device_filter(_op: ops.SetDeviceFilter, f: Failure) -> "Reason":
    if f.errno == e.EPERM:
        return "", "the device filter of cgroup v2 needs CAP_BPF and CAP_NET_ADMIN, or root"
    if f.errno == e.EINVAL:
        return "", "the kernel has no BPF programs for control groups (CONFIG_CGROUP_BPF)"
    return _NOTHING


def _find_program(op: ops.FindProgram, f: Failure) -> "Reason":
    if f.errno == e.ENOENT and "/" not in op.name:
        return "executable file not found in $PATH", f"looked in {op.path or 'no directory'}"
    if f.errno == e.ENOENT:
        return "", "the path is taken as the box sees it, not as the host does"
    if f.errno in {e.EACCES, e.EISDIR}:
        return "", "it must be a regular file that may be executed (`chmod +x`), not on a noexec mount"
    return _NOTHING


def _exec(op: ops.Exec, f: Failure) -> "Reason":
    return {
        e.ENOENT: ("", "the file is there, but not its interpreter: that of the `#!` line, or the dynamic loader"),
        e.ENOEXEC: ("", "it is for another architecture, or a script without a `#!` line"),
        e.EACCES: ("", "the user of the process may not execute it or its interpreter, or the mount is noexec"),
        e.EPERM: ("", "it has file capabilities that are not in the bounding set, or seccomp forbids execve"),
        e.E2BIG: ("", "arguments and environment are too large together"),
        e.ELIBBAD: ("", "its interpreter is of another architecture"),
        e.EINVAL: (f"`{op.argv[0]}` is damaged", ""),
    }.get(f.errno, _NOTHING)


_REASONS: "dict[type[ops.Op], Explain]" = {
    ops.Open: _open,
    ops.MakeDirs: _make_dirs,
    ops.Write: _write,
    ops.WriteAt: _write_at,
    ops.WriteChildPid: _child_pid,
    ops.WriteChildFile: _child_file,
    ops.RunTool: _tool,
    ops.ChownAt: _chown,
    ops.Clone: _clone,
    ops.Unshare: _clone,
    ops.Setns: _setns,
    ops.SetHostname: _uts_name,
    ops.SetDomainname: _uts_name,
    ops.NewKeyring: _by_errno({e.EDQUOT: ("", "the user's keyrings are used up: see /proc/sys/kernel/keys/maxkeys")}),
    ops.OpenTree: _open_tree,
    ops.SetAttr: _set_attr,
    ops.AttachRoot: _attach_root,
    ops.Resolve: _resolve,
    ops.MoveMount: _move_mount,
    ops.Mask: _mask,
    ops.MakeNode: _make_node,
    ops.CheckNode: _check_node,
    ops.Console: _console,
    ops.PivotRoot: _pivot,
    ops.SetCwd: _cwd,
    ops.SetRlimit: _rlimit,
    ops.SetUser: _user,
    ops.LoadSeccomp: _seccomp,
    ops.SetDeviceFilter: _device_filter,
    ops.SetScheduler: _by_errno(
        {
            e.EPERM: (
                "",
                _REALTIME,
            ),
            e.EINVAL: ("", "the policy does not take these values: sched_setattr(2)"),
            e.EBUSY: ("", "the machine has not enough time left for this deadline task"),
        }
    ),
    ops.SetIOPriority: _by_errno({e.EPERM: ("", "IOPRIO_CLASS_RT needs CAP_SYS_NICE or CAP_SYS_ADMIN")}),
    ops.SetMemoryPolicy: _by_errno({e.EINVAL: ("", "a node is not online, or the mode does not take these nodes")}),
    ops.SetAffinity: _by_errno({e.EINVAL: ("", "none of these CPUs is online and allowed by the cpuset")}),
    ops.FindProgram: _find_program,
    ops.Exec: _exec,
}
