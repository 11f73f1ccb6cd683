"""The operations a plan is made of.

Each class is one operation of the helper: its fields, in order, are its arguments on the wire. The helper holds no
policy, so what an operation does is told here in full, and `native/ops_*.c` does just that.

*Slots* are the helper's table of file descriptors, numbered from 0. `Plan.inherited` fills the first ones; operations
fill the others. Every descriptor in a slot is close-on-exec. `-1` is no slot. Actors are forked, so a slot that one
filled before the fork is there for the forked ones also.

Wire types: int → 8 bytes little endian, signed; str and bytes → u32 length, the bytes, a NUL; tuple → u32 count, items.
A str holds no NUL.

The helper works with umask 0, so a mode is the mode that results. From its start every descriptor above those of the
program is close-on-exec, whoever left it open.
"""

from boxwright._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

NO_SLOT = -1
AT_HOST = -1  # as a directory slot: a path of the actor's own root and cwd (AT_FDCWD)

OUTER, JOINER, INIT = 0, 1, 2
ACTORS = ("outer", "joiner", "init")

# Resolve.kind
EXISTING, DIRECTORY, FILE, LIKE, SAME_NODE = 0, 1, 2, 3, 4
# Resolve.flags
NO_SYMLINKS, NOT_PROC = 1, 2
# OpenTree.flags
RECURSIVE = 1
# Hook.pid_of
PID_OF_CHILD, PID_OF_SELF = 0, 1


class Op(Record):
    """Base of all operations. `CODE` is its number on the wire; it never changes its meaning."""

    CODE: "ClassVar[int]" = 0


# --- files of the host ------------------------------------------------------------------------------------------


class Open(Op):
    """Open `path` with open(2) `flags` (O_CLOEXEC added) into `slot`.

    With a `magic`, it has to be of the filesystem of that number (statfs(2)): else EPERM, and the value is the number.
    """

    CODE = 1
    slot: int
    path: str
    flags: int
    magic: int = 0


class MakeDirs(Op):
    """Create the directory `path` and its missing parents with `mode`; existing ones are left as they are."""

    CODE = 2
    path: str
    mode: int


class Write(Op):
    """Write `data` by one write(2) to the existing file `path` (no O_CREAT, O_NOFOLLOW).

    Several lines that the kernel wants one by one are several operations.
    """

    CODE = 3
    path: str
    data: bytes


class WriteAt(Op):
    """As `Write`, to the path `name` beneath the directory in `directory` (openat2 RESOLVE_BENEATH, NO_MAGICLINKS,
    NO_XDEV).

    Used with the trusted procfs handle: sysctls, `self/attr/exec`, `self/timens_offsets`.
    """

    CODE = 4
    directory: int
    name: str
    data: bytes


class WriteChildPid(Op):
    """Write the init's pid in decimal to `path` (`cgroup.procs`, resctrl `tasks`). Actor: outer."""

    CODE = 5
    path: str


class WriteChildFile(Op):
    """Write `data` to `/proc/<pid of actor>/<name>`: id maps, `setgroups`, `oom_score_adj`. `actor` is JOINER or
    INIT.
    """

    CODE = 6
    actor: int
    name: str
    data: bytes


class RunTool(Op):
    """Run `argv` (argv[0] is an absolute path) with an empty environment and wait for it; `%p` as an argument
    becomes the pid of `actor`. A status other than 0 is ECANCELED, with the wait status as the report's value and the
    end of what the tool wrote as its text. The tool runs as a hook does (see `RunHook`), without a timeout.
    """

    CODE = 7
    actor: int
    argv: tuple[str, ...]


class RunHook(Op):
    """Run one hook and wait for it: execve `path` with `argv` and exactly `env`, the state on stdin.

    The state's text is `state` joined by the container's pid in decimal: as this actor's runtime sees it
    (PID_OF_CHILD) or as the init sees itself (PID_OF_SELF). `timeout_ms` 0 is none; on a timeout the hook is
    killed with what it has started. stdout and stderr are collected; their last 1024 bytes are the text of the report
    if it fails. EPIPE on stdin is no failure. Reports HOOK_FAILED with the wait status and ECANCELED, or -1 and
    ETIMEDOUT; a hook that cannot be executed is an ERROR with execve's errno. A soft step reports the same as WARNING.

    The hook gets descriptors 0 to 2 only, default signal dispositions, a session of its own and the umask that the
    runtime was started with; the namespaces are those of the actor.
    """

    CODE = 8
    path: str
    argv: tuple[str, ...]
    env: tuple[str, ...]
    timeout_ms: int
    state: tuple[str, ...]
    pid_of: int


class Close(Op):
    """Close `slot`."""

    CODE = 9
    slot: int


class ChownAt(Op):
    """Set the owner of `path` (fchownat, AT_SYMLINK_NOFOLLOW); a missing file is no error. -1 leaves an id as it
    is.
    """

    CODE = 10
    path: str
    uid: int
    gid: int


# --- actors -----------------------------------------------------------------------------------------------------


class ForkJoiner(Op):
    """Fork the joiner as a sibling (CLONE_PARENT). Reports JOINER_PID. Actor: outer."""

    CODE = 20


class Clone(Op):
    """Clone the init with clone3 `flags` as a child of the outer's parent (CLONE_PARENT), reporting CHILD_PID.

    `cgroup` is a slot of a cgroup v2 directory for CLONE_INTO_CGROUP, or -1. Actor: outer or joiner; after it the
    joiner is done.
    """

    CODE = 21
    flags: int
    cgroup: int = NO_SLOT


class Post(Op):
    """Let `actor` go past its next `Await` of us. The init's pid needs no carrying: the kernel writes it to memory that
    all actors share (CLONE_PARENT_SETTID) before the init runs. If `actor` ended, end without a report.
    """

    CODE = 22
    actor: int


class Await(Op):
    """Wait for a `Post` of `actor`. If it ended instead, end without a report: it has made its own."""

    CODE = 23
    actor: int


class Ready(Op):
    """Report READY: the environment stands. From here on the init outlives its maker (PR_SET_PDEATHSIG cleared)."""

    CODE = 24


class Upcall(Op):
    """Ask Python to do what `token` names (systemd scope, network devices) and wait for its answer, an errno or 0.

    The report's value is the init's pid; Python knows the token by the step.
    """

    CODE = 25
    token: int


class Gate(Op):
    """Wait until somebody connects to the listening SEQPACKET socket in `slot`; that connection takes the place of
    the report socket. `slot` stays open until it is closed or the program is executed.
    """

    CODE = 26
    slot: int


class DieWithParent(Op):
    """prctl(PR_SET_PDEATHSIG, SIGKILL), so that a killed runtime leaves no half-made container. Armed again after
    `BecomeRoot` and `SetUser`, which clear it, until `Ready`.
    """

    CODE = 27


class SetDumpable(Op):
    """prctl(PR_SET_DUMPABLE, value)."""

    CODE = 28
    value: int


# --- namespaces and identity of the box -------------------------------------------------------------------------


class Setns(Op):
    """setns(2) to the namespace (or pidfd) in `slot`; `kind` is the CLONE_NEW* flag(s) it must be of."""

    CODE = 30
    slot: int
    kind: int


class Unshare(Op):
    """unshare(2)."""

    CODE = 31
    flags: int


class BecomeRoot(Op):
    """setresgid(0), setresuid(0), and setgroups(none) where allowed: first thing in a new user namespace."""

    CODE = 32


class NewSession(Op):
    """setsid(2); already being a leader is no error."""

    CODE = 33


class SetHostname(Op):
    """sethostname(2)."""

    CODE = 34
    name: str


class SetDomainname(Op):
    """setdomainname(2)."""

    CODE = 35
    name: str


class NewKeyring(Op):
    """keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL): a session keyring of the container's own. ENOSYS is no error.

    It has no name, since a named one is joined if another process has made it before; and nothing is permitted but to
    who possesses it (KEYCTL_SETPERM), since others of the same user could link it, and then possess it too.
    """

    CODE = 36


class LoopbackUp(Op):
    """Set the interface `lo` up in the actor's network namespace."""

    CODE = 37


# --- mounts -----------------------------------------------------------------------------------------------------


class SetPropagation(Op):
    """mount(NULL, path, NULL, flags): change the propagation of the mount at the host path `path` (MS_REC with
    MS_SLAVE …).
    """

    CODE = 40
    path: str
    flags: int


class OpenTree(Op):
    """Make a detached copy of the mount of `path` (beneath slot `directory`, or AT_HOST) in `slot`: open_tree(2)
    OPEN_TREE_CLONE, AT_RECURSIVE if `flags` has RECURSIVE. With a `directory` slot the path is resolved in that
    root (RESOLVE_IN_ROOT).
    """

    CODE = 41
    slot: int
    directory: int
    path: str
    flags: int


class FsMount(Op):
    """Make a detached mount in `slot`: fsopen(`fstype`), fsconfig for each of `params` (`key` or `key=value`;
    `source` among them), create, fsmount with MOUNT_ATTR_* `attr`.

    The report's value is the index of the refused parameter, -1 for the type itself, -2 for the creation; its text
    is what the kernel said (the filesystem context's message log).
    """

    CODE = 42
    slot: int
    fstype: str
    params: tuple[str, ...]
    attr: int


class SetAttr(Op):
    """mount_setattr(2) on the mount in `slot`: set and clear MOUNT_ATTR_*, `propagation` MS_* or 0, `userns` slot
    for MOUNT_ATTR_IDMAP or -1, on the whole tree if `recursive`.
    """

    CODE = 43
    slot: int
    attr_set: int
    attr_clear: int
    propagation: int
    userns: int
    recursive: int


class Userns(Op):
    """Make a user namespace with these maps (the text of uid_map and gid_map) in `slot`, for id-mapped mounts. Its
    maker ends at once. Actor: one whose /proc shows its own pid namespace (outer).
    """

    CODE = 44
    slot: int
    uid_map: str
    gid_map: str


class AttachRoot(Op):
    """Attach the detached tree in `tree` over the host path `path` and keep the new root directory as `slot`."""

    CODE = 45
    tree: int
    path: str
    slot: int


class Resolve(Op):
    """Resolve `path` inside the root in slot `root` to an O_PATH descriptor in `slot` (openat2 RESOLVE_IN_ROOT |
    NO_MAGICLINKS).

    `kind`: EXISTING must exist; DIRECTORY and FILE are created if missing, with the missing parents (0755),
    component by component by mkdirat beneath held descriptors, a dangling link being followed inside the root (but
    `..` behind a component that is missing is EXDEV); LIKE is DIRECTORY or
    FILE after what the slot `like` is; SAME_NODE is FILE, or what exists if its type and device number are those of
    `like` (else EEXIST). NO_SYMLINKS in `flags`: no component may be a symbolic link (ELOOP). NOT_PROC: the place may
    not be in a procfs, wherever links lead (EPERM; the value is procfs's magic number).
    """

    CODE = 46
    slot: int
    root: int
    path: str
    kind: int
    mode: int
    flags: int
    like: int = NO_SLOT


class MoveMount(Op):
    """Attach the detached mount in `tree` on the place in `target`; both slots stay usable, `tree` names the
    mount.
    """

    CODE = 47
    tree: int
    target: int


class Reconfigure(Op):
    """Change the superblock of the mount at the place in `target`: fspick, fsconfig for each of `params`,
    FSCONFIG_CMD_RECONFIGURE.
    """

    CODE = 48
    target: int
    params: tuple[str, ...]


class CopyUp(Op):
    """Copy what is in the directory `source` (slot) to the still detached and writable mount in `tree`: types, modes,
    owners, times, symbolic links, of `source` itself too. Not copied: what is mounted below it (those directories stay
    empty), extended attributes, that files are hard links of each other. More than 64 levels are ELOOP.
    """

    CODE = 49
    tree: int
    source: int


class MakeNode(Op):
    """Make sure of the device node `path` in `root`: parents as in `Resolve`, mknodat with `mode` (type bits
    included), fchownat by descriptor.

    A node there already is kept as it is if type and numbers match, else EEXIST.
    """

    CODE = 50
    root: int
    path: str
    mode: int
    major: int
    minor: int
    uid: int
    gid: int


class MakeSymlink(Op):
    """Make the symbolic link `path` → `target` in `root`, parents as in `Resolve`; what is there already is kept.
    With `if_exists` not empty, only if that path exists in `root` (not following a last magic link).
    """

    CODE = 51
    root: int
    path: str
    target: str
    if_exists: str


class Console(Op):
    """Make a pseudoterminal from `dev/pts/ptmx` in `root` (verified: devpts, 5:2), of `height` by `width` if not 0,
    owned by `uid`.

    Its other end is opened by TIOCGPTPEER, bound on `dev/console` if `bind`, made the controlling terminal and
    descriptors 0 to 2. The master goes by SCM_RIGHTS (one message, its path as the text) to the socket in `out`,
    or with the report TERMINAL if `out` is -1.
    """

    CODE = 52
    root: int
    height: int
    width: int
    uid: int
    out: int
    bind: int


class Mask(Op):
    """Make `path` in `root` unreadable: the null device in slot `null` over a file, an empty read-only tmpfs over
    a directory. A missing path is no error. `null` is verified to be the character device 1:3 (ENXIO), and must have
    been opened in the actor's own mount namespace, as the kernel binds from there only.
    """

    CODE = 53
    root: int
    path: str
    null: int


class MakeReadonly(Op):
    """Make `path` in `root` read-only by a recursive bind mount of itself with MOUNT_ATTR_RDONLY. A missing path
    is no error.
    """

    CODE = 54
    root: int
    path: str


class PivotRoot(Op):
    """Make the root in slot `root` the root of the mount namespace (pivot_root(".", "."), the old root made slave
    and detached) and chdir to it.
    """

    CODE = 55
    root: int


class MoveRoot(Op):
    """As `PivotRoot` where pivot_root is not to be had (initramfs): unmount or cover /proc and /sys of the old
    root, MS_MOVE the mount over /, chroot. `path` is for messages: the root is taken by its slot.
    """

    CODE = 56
    root: int
    path: str


class Chroot(Op):
    """fchdir and chroot(".") to the root in slot `root`: where the mount namespace is inherited."""

    CODE = 57
    root: int


class MakeDirAt(Op):
    """mkdirat `name` (one or more components, created as in `Resolve` with NO_SYMLINKS) beneath the detached or
    attached mount in `directory`, with `mode` and owner; one that is there gets the owner.
    """

    CODE = 58
    directory: int
    name: str
    mode: int
    uid: int
    gid: int


class CheckNode(Op):
    """Make sure that what is in the slot `node` has the type in `mode`, and is the device of these numbers: else
    ENODEV. A device that is bound from the host is what its path leads to there.
    """

    CODE = 59
    node: int
    mode: int
    major: int
    minor: int


# --- the process ------------------------------------------------------------------------------------------------


class SetCwd(Op):
    """chdir(`path`), created if missing and `create`; then getcwd(2) must be absolute, or it is EXDEV
    (CVE-2024-21626).
    """

    CODE = 60
    path: str
    create: int


class SetRlimit(Op):
    """prlimit(2) on the init. Actor: outer or init."""

    CODE = 61
    resource: int
    soft: int
    hard: int


class SetUser(Op):
    """setgroups (but where `groups` is the single -1, which keeps those there are), setresgid, setresuid; with
    `keep_caps` the permitted set survives (PR_SET_KEEPCAPS). setgroups is
    not an error when `groups` is empty and the user namespace denies it.
    """

    CODE = 62
    uid: int
    gid: int
    groups: tuple[int, ...]
    keep_caps: int


class BoundCaps(Op):
    """Drop from the bounding set all that `keep` (a bit mask) does not have. What is to be kept and is not in the set
    is a WARNING whose value is the missing mask.
    """

    CODE = 63
    keep: int


class SetCaps(Op):
    """capset(2) and PR_CAP_AMBIENT: the sets as bit masks. What is not permitted to us is left out, with a WARNING
    whose value is the missing mask.
    """

    CODE = 64
    effective: int
    permitted: int
    inheritable: int
    ambient: int


class NoNewPrivs(Op):
    """prctl(PR_SET_NO_NEW_PRIVS, 1)."""

    CODE = 65


class LoadSeccomp(Op):
    """seccomp(2) SECCOMP_SET_MODE_FILTER with the BPF `program` and `flags`. With `listener` (a connected AF_UNIX
    stream in a slot) the notify descriptor is sent there with the text `state` joined by the init's pid as the
    outer sees it, by a second thread that the filter does not bind, and the connection is closed. NEW_LISTENER is
    added to the flags then, and TSYNC left out, which would bind that thread and means nothing for the one that
    remains.

    What `Exec` needs besides execve(2) is done before the filter is loaded, unless a hook comes in between.
    """

    CODE = 66
    program: bytes
    flags: int
    listener: int
    state: tuple[str, ...]


class SetPersonality(Op):
    """personality(2)."""

    CODE = 67
    persona: int


class SetScheduler(Op):
    """sched_setattr(2) on ourselves; times in nanoseconds."""

    CODE = 68
    policy: int
    flags: int
    nice: int
    priority: int
    runtime_ns: int
    deadline_ns: int
    period_ns: int


class SetIOPriority(Op):
    """ioprio_set(2), IOPRIO_WHO_PROCESS, ourselves (children inherit)."""

    CODE = 69
    value: int


class SetMemoryPolicy(Op):
    """set_mempolicy(2): `mode` with its flags, `nodes` as the bytes of the node mask (may be empty)."""

    CODE = 70
    mode: int
    nodes: bytes


class SetAffinity(Op):
    """sched_setaffinity(2) on the init, `cpus` as the bytes of the mask. Actor: outer, joiner or init (self for
    the last two).
    """

    CODE = 71
    cpus: bytes


class SetUmask(Op):
    """umask(2) of the program, from `Exec` on, and of hooks that run later. Without it: the runtime's."""

    CODE = 72
    mask: int


class DupTo(Op):
    """dup2 the slot to descriptor `number`, which stays open in the program. It must be below those of the helper
    (EINVAL).
    """

    CODE = 73
    slot: int
    number: int


class OwnStdio(Op):
    """fchown descriptors 0 to 2 to `uid` where they are not the null device, not a regular
    file (that is the caller's) and not that user's; refusals (EPERM,
    EROFS, EINVAL) are no error.
    """

    CODE = 74
    uid: int


class KeepFds(Op):
    """Mark every descriptor from `first` on close-on-exec: close_range(2)."""

    CODE = 75
    first: int


class FindProgram(Op):
    """Look for `name` as execvp does, in the colon-separated `path` (an empty element is the current directory), and
    keep what was found for `Exec`: an executable regular file. ENOENT, or EACCES if there was only one not to execute.
    """

    CODE = 76
    name: str
    path: str


class Exec(Op):
    """execve(2) what `FindProgram` found. Resets the signal mask and dispositions. A success closes the report
    socket.
    """

    CODE = 77
    argv: tuple[str, ...]
    env: tuple[str, ...]


class Idle(Op):
    """Be the init of a box without a program: descriptors 0 to 2 on the null device in slot `null`, all others
    closed, reap what ends, and end on SIGTERM. With a `lifeline`, the read end of a pipe, it ends also when nobody has
    the write end open any more. The report socket closes as by `Exec`.
    """

    CODE = 78
    null: int
    lifeline: int = NO_SLOT


class FindHome(Op):
    """Look for the home directory of `uid` in `/etc/passwd` of the actor's root, a regular file of at most 1 MiB, and
    keep `HOME=…` (`/` where there is none) for `Exec`, which adds it to its environment.
    """

    CODE = 79
    uid: int


class SetDeviceFilter(Op):
    """Load `program` (struct bpf_insn array, BPF_PROG_TYPE_CGROUP_DEVICE) and attach it to the cgroup v2 directory
    `path`, in the place of what an earlier one of ours left there (all programs attached to that very cgroup are
    detached). The text of a report is the end of the verifier's log.
    """

    CODE = 80
    path: str
    program: bytes


class Netlink(Op):
    """Send `request`, one rtnetlink(7) message with NLM_F_ACK, in the actor's network namespace, and take its answer.

    With `at` not negative the four bytes there are first made the index of the network device `device` (ENODEV if
    there is none). The text of a report is what the kernel says of its refusal.
    """

    CODE = 81
    request: bytes
    device: str
    at: int


class TakeFiles(Op):
    """Read a stream of files from descriptor 0, and make them below the root directory in `root`.

    `directory` is where, with links followed inside of the root (openat2 RESOLVE_IN_ROOT, NO_MAGICLINKS); it is made,
    with 0755, as far as it is missing. `name` is what the first record is called there. What is made belongs to `uid`
    and `gid`. A file or link is made under another name and renamed into place; a directory that is there is kept, a
    link in its place is ELOOP. `boxes/vm/records.py` says what the records are. ECANCELED if the
    stream ends before its last record; ENOMEM if the kernel has killed who read it, for want of memory.
    """

    CODE = 82
    root: int
    directory: str
    name: str
    uid: int
    gid: int


class GiveFiles(Op):
    """Write what is at `path` in the root directory in `root` to descriptor 1, as a stream of files: with `tree` 0 a
    regular file's content only, else directories with all that is in them, and links, too.

    Links in `path` are followed inside of the root. What is no regular file, or is the kernel's own (procfs, sysfs,
    cgroups, debugfs, tracefs, securityfs), is EPERM, or EISDIR; below a directory other kinds are left out. More than
    `most_bytes` of content in all are EFBIG, -1 is no limit.
    """

    CODE = 83
    root: int
    path: str
    tree: int
    most_bytes: int


# --- what the helper answers ------------------------------------------------------------------------------------
# One SEQPACKET message each: u32 kind, u32 actor, u32 index of the step, i32 errno, i64 value, then up to 1024 bytes of
# text. An ERROR or HOOK_FAILED is the last of its actor, which ends with status 1; one of the outer also kills the
# joiner and the init. The end of the stream is the execution of the program or the end of all actors.

ERROR, CHILD_PID, JOINER_PID, READY, UPCALL, WARNING, HOOK_FAILED, TERMINAL = 1, 2, 3, 4, 5, 6, 7, 8


class Step(Record):
    """An operation and why it is there.

    `pointer` is the JSON pointer of the line that asked for it (empty: a default of ours), `anchor` the section of
    the standard or man page. `parts` are the pointers of the operation's parameters one by one, where it has a
    list. A `soft` step warns instead of failing.
    """

    op: Op
    pointer: str = ""
    anchor: str = ""
    parts: tuple[str, ...] = ()
    soft: bool = False
    about: str = ""


class Plan(Record):
    """What is to be done, in order, by each actor. `slots` is how many slots it uses, `inherited` of them are
    handed over by Python.
    """

    outer: tuple[Step, ...]
    joiner: tuple[Step, ...]
    init: tuple[Step, ...]
    inherited: tuple[str, ...]
    slots: int

    def steps(self, actor: int) -> tuple[Step, ...]:
        """The steps of one actor (OUTER, JOINER, INIT)."""
        return (self.outer, self.joiner, self.init)[actor]
