"""What each operation of a plan does, in words for a person.

Every phrase is an infinitive, so that it reads alone (`mount …`) as well as behind `cannot`.
"""

from boxwright.plan import ops
from boxwright.spec.constants import (
    CAPABILITY_NAMES,
    IO_PRIORITY_CLASS_SHIFT,
    IO_PRIORITY_CLASSES,
    MEMORY_POLICY_MODES,
    NAMESPACES,
    PERSONALITY_DOMAINS,
    RLIMITS,
    SCHEDULER_POLICIES,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from boxwright.plan.ops import Op, Plan, Step

    # a class of its own for each operation: the tables of phrases are where they are told apart
    Phrase = Callable[[Any, "Names", str], str]

ATTRIBUTE_WORDS = (
    (0x1, "read-only"),
    (0x2, "nosuid"),
    (0x4, "nodev"),
    (0x8, "noexec"),
    (0x10, "noatime"),
    (0x20, "strictatime"),
    (0x80, "nodiratime"),
    (0x100000, "id-mapped"),
    (0x200000, "nosymfollow"),
)
PROPAGATION_WORDS = ((1 << 17, "unbindable"), (1 << 18, "private"), (1 << 19, "slave"), (1 << 20, "shared"))
_MS_REC = 1 << 14
_SHOWN_BYTES = 60
_NODE_KINDS = {0o020000: "c", 0o060000: "b", 0o010000: "p"}
_UPCALLS = {1: "have systemd make the scope", 2: "move the network devices"}


class Names:
    """What is in the slots of a plan, in words, and where each detached mount goes."""

    def __init__(self, plan: "Plan | None" = None) -> None:
        self.slots: dict[int, str] = {}
        self.places: dict[int, str] = {}
        self.attributes: dict[int, int] = {}
        self.namespaces: dict[int, str] = {}
        if plan is None:
            return
        self.slots.update((slot, f"`{name}`") for slot, name in enumerate(plan.inherited))
        for step in (*plan.outer, *plan.joiner, *plan.init):
            self._note(step)

    def _note(self, step: "Step") -> None:
        op = step.op
        if isinstance(op, (ops.Open, ops.OpenTree, ops.Resolve, ops.AttachRoot)):
            self.slots[op.slot] = f"`{op.path}`"
        elif isinstance(op, ops.FsMount):
            self.slots[op.slot] = f"`{op.fstype}`"
        elif isinstance(op, ops.MoveMount) and step.about:
            self.places[op.tree] = step.about
        elif isinstance(op, ops.SetAttr):
            self.attributes[op.slot] = self.attributes.get(op.slot, 0) | op.attr_set
        elif isinstance(op, ops.Setns):
            self.namespaces[op.slot] = namespace_words(op.kind)

    def of(self, slot: int) -> str:
        """What the slot holds."""
        return self.slots.get(slot, f"descriptor {slot}")

    def place(self, slot: int) -> str:
        """Where the mount in the slot is attached, empty if that is not known."""
        return self.places.get(slot, "")


def phrase(step: "Step", names: Names) -> str:
    """What the step does: an infinitive without a full stop, objects in backticks."""
    found = _PHRASES.get(type(step.op))
    if found is None:
        raise ValueError(f"no words for the operation `{type(step.op).__name__}`")
    return found(step.op, names, step.about)


def operations() -> "Iterable[type[Op]]":
    """The operations that there are words for."""
    return _PHRASES.keys()


# --- words for values -------------------------------------------------------------------------------------------


def capability_words(mask: int) -> str:
    """The capabilities of a bit mask by name; `none` for 0 and `all` for every known one."""
    if not mask:
        return "none"
    known = (1 << len(CAPABILITY_NAMES)) - 1
    if mask & known == known:
        return "all"
    return ", ".join(_bit_names(mask))


def _bit_names(mask: int) -> "Iterable[str]":
    for bit in range(mask.bit_length()):
        if mask >> bit & 1:
            yield CAPABILITY_NAMES[bit] if bit < len(CAPABILITY_NAMES) else f"capability {bit}"


def namespace_words(flags: int) -> str:
    """The namespace types of CLONE_NEW* flags, joined by commas."""
    return ", ".join(name for name, (flag, _) in NAMESPACES.items() if flags & flag)


def attribute_words(mask: int) -> str:
    """MOUNT_ATTR_* flags as mount options."""
    return ", ".join(word for bit, word in ATTRIBUTE_WORDS if mask & bit)


def propagation_words(flags: int) -> str:
    """MS_SHARED and its kin, with `recursively` for MS_REC."""
    word = next((word for bit, word in PROPAGATION_WORDS if flags & bit), f"{flags:#x}")
    return f"{word}, recursively" if flags & _MS_REC else word


def bit_list(data: bytes) -> str:
    """The bits of a mask (CPUs, memory nodes) as the kernel writes lists: `0-3,7`."""
    mask = int.from_bytes(data, "little")
    ranges: list[list[int]] = []
    for bit in range(mask.bit_length()):
        if not mask >> bit & 1:
            continue
        if ranges and ranges[-1][1] == bit - 1:
            ranges[-1][1] = bit
        else:
            ranges.append([bit, bit])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def limit_word(value: int) -> str:
    """A resource limit; -1 is none."""
    return "unlimited" if value == -1 else str(value)


def name_of(table: "Mapping[str, int]", number: int) -> str:
    """The first name of the number in a table of the standard, else the number."""
    return next((name for name, value in table.items() if value == number), str(number))


def command_words(argv: tuple[str, ...]) -> str:
    """A command line, shortened, quoted so that its end can be seen."""
    shown = " ".join(argv)
    return shown if len(shown) <= _SHOWN_BYTES else f"{shown[:_SHOWN_BYTES]}…"


def data_words(data: bytes) -> str:
    """The text that is written to a file, on one line and shortened."""
    text = data.decode("utf-8", "replace").strip().replace("\n", "; ")
    return text if len(text) <= _SHOWN_BYTES else f"{text[:_SHOWN_BYTES]}…"


def _with(words: str) -> str:
    return f" ({words})" if words else ""


# --- files of the host ------------------------------------------------------------------------------------------


def _open(op: ops.Open, names: Names, about: str) -> str:
    kind = names.namespaces.get(op.slot)
    if kind:
        return f"open the {kind} namespace `{op.path}`"
    return f"open `{op.path}`{_with(about)}"


def _write_at(op: ops.WriteAt, names: Names, _about: str) -> str:
    where = names.of(op.directory).strip("`")
    if op.name == "tasks" and op.data == b"0":
        return f"enter the control group `{where}`"
    if op.name.startswith("sys/"):
        return f"set the sysctl `{op.name[4:].replace('/', '.')}` to `{data_words(op.data)}`"
    if op.name.endswith("attr/apparmor/exec"):
        return f"apply the AppArmor profile `{data_words(op.data).removeprefix('exec ')}`"
    if op.name.endswith("attr/exec"):
        return f"apply the SELinux label `{data_words(op.data)}`"
    if op.name.endswith("timens_offsets"):
        return f"set the clock offset `{data_words(op.data)}`"
    return f"write `{data_words(op.data)}` to `{where}/{op.name}`"


def _child_file(op: ops.WriteChildFile, _names: Names, _about: str) -> str:
    if op.name in {"uid_map", "gid_map"}:
        return f"map the {'user' if op.name == 'uid_map' else 'group'} ids `{data_words(op.data)}`"
    if op.name == "setgroups":
        return "give up setgroups in the user namespace"
    if op.name == "oom_score_adj":
        return f"set the OOM score adjustment to {data_words(op.data)}"
    return f"write `{data_words(op.data)}` to `/proc/<{ops.ACTORS[op.actor]}>/{op.name}`"


def _hook(op: ops.RunHook, _names: Names, about: str) -> str:
    limit = f", at most {op.timeout_ms // 1000} s" if op.timeout_ms else ""
    return f"run the {about + ' ' if about else ''}hook `{op.path}`{limit}"


def _chown_at(op: ops.ChownAt, _names: Names, _about: str) -> str:
    return f"give `{op.path}` to uid {op.uid}" + (f" gid {op.gid}" if op.gid >= 0 else "")


# --- actors and namespaces --------------------------------------------------------------------------------------


def _clone(op: ops.Clone, _names: Names, _about: str) -> str:
    own = namespace_words(op.flags)
    return f"clone the container process with namespaces of its own ({own})" if own else "clone the container process"


def _await(op: ops.Await, _names: Names, _about: str) -> str:
    return f"wait for the {ops.ACTORS[op.actor]}"


def _upcall(op: ops.Upcall, _names: Names, _about: str) -> str:
    return _UPCALLS.get(op.token, f"have the runtime do request {op.token}")


def _setns(op: ops.Setns, names: Names, _about: str) -> str:
    return f"join the {namespace_words(op.kind)} namespace {names.of(op.slot)}"


# --- mounts -----------------------------------------------------------------------------------------------------


def _propagation(op: ops.SetPropagation, _names: Names, _about: str) -> str:
    return f"make the mount `{op.path}` {propagation_words(op.flags)}"


def _open_tree(op: ops.OpenTree, names: Names, _about: str) -> str:
    place = names.place(op.slot)
    recursive = " with what is mounted below" if op.flags & ops.RECURSIVE else ""
    if not place:
        return f"copy the mount `{op.path}`{recursive}"
    readonly = " read-only" if names.attributes.get(op.slot, 0) & 1 else ""
    return f"bind `{op.path}`{recursive} on `{place}`{readonly}"


def _fs_mount(op: ops.FsMount, names: Names, about: str) -> str:
    place = about or names.place(op.slot)
    return f"mount `{op.fstype}` at `{place}`" if place else f"make the filesystem `{op.fstype}`"


def fs_mount_options(op: ops.FsMount) -> str:
    """The parameters and attributes of a new mount as one list of options."""
    shown = [param for param in op.params if not param.startswith("source=")]
    return ",".join([*shown, *attribute_words(op.attr).split(", ")]).strip(",")


def _set_attr(op: ops.SetAttr, names: Names, about: str) -> str:
    where = f"`{about}`" if about else names.of(op.slot)
    whole = " and all below" if op.recursive else ""
    if op.propagation:
        return f"make the mount {where}{whole} {propagation_words(op.propagation)}"
    if op.userns != ops.NO_SLOT:
        return f"map the ids of the mount {where}{whole}"
    changes = [attribute_words(op.attr_set)] if attribute_words(op.attr_set) else []
    # an access-time mode is cleared as a whole before it is set: that is no wish of its own
    cleared = attribute_words(op.attr_clear & ~op.attr_set & ~0x70)
    if cleared:
        changes.append(f"not {cleared}")
    return f"make the mount {where}{whole} {', '.join(changes) or 'relatime'}"


def _resolve(op: ops.Resolve, _names: Names, _about: str) -> str:
    if op.kind == ops.EXISTING:
        return f"find `{op.path}` in the root"
    return f"find or make the place `{op.path}` in the root"


def _attach_root(op: ops.AttachRoot, _names: Names, _about: str) -> str:
    return f"attach the root file system at `{op.path}`"


def _move_mount(op: ops.MoveMount, names: Names, about: str) -> str:
    return f"attach {names.of(op.tree)} at " + (f"`{about}`" if about else names.of(op.target))


def _reconfigure(op: ops.Reconfigure, names: Names, about: str) -> str:
    where = f"`{about}`" if about else names.of(op.target)
    return f"remount {where} with `{','.join(op.params)}`"


def _copy_up(op: ops.CopyUp, names: Names, about: str) -> str:
    return f"copy what the image has at {f'`{about}`' if about else names.of(op.source)} into the new mount"


def _node_words(op: "ops.MakeNode | ops.CheckNode") -> str:
    kind = _NODE_KINDS.get(op.mode & 0o170000, "?")
    return "a fifo" if kind == "p" else f"{kind} {op.major}:{op.minor}"


def _make_node(op: ops.MakeNode, _names: Names, _about: str) -> str:
    return f"make the device `{op.path}` ({_node_words(op)})"


def _check_node(op: ops.CheckNode, _names: Names, about: str) -> str:
    return f"take the host's `{about}` for the device {_node_words(op)}"


def _symlink(op: ops.MakeSymlink, _names: Names, _about: str) -> str:
    return f"link `{op.path}` to `{op.target}`"


def _console(op: ops.Console, _names: Names, _about: str) -> str:
    size = f" of {op.height} by {op.width}" if op.height else ""
    return f"make the terminal{size}"


def _make_dir_at(op: ops.MakeDirAt, names: Names, _about: str) -> str:
    return f"make the directory `{op.name}` in {names.of(op.directory)}"


# --- the process ------------------------------------------------------------------------------------------------


def _rlimit(op: ops.SetRlimit, _names: Names, about: str) -> str:
    name = about or name_of(RLIMITS, op.resource)
    return f"limit `{name}` to {limit_word(op.soft)} (at most {limit_word(op.hard)})"


def _user(op: ops.SetUser, _names: Names, _about: str) -> str:
    groups = f" groups {','.join(map(str, op.groups))}" if op.groups else ""
    return f"become uid {op.uid} gid {op.gid}{groups}"


def _seccomp(op: ops.LoadSeccomp, _names: Names, _about: str) -> str:
    watched = " and hand its notifications to the listener" if op.listener != ops.NO_SLOT else ""
    return f"load the seccomp filter of {len(op.program) // 8} instructions{watched}"


def _scheduler(op: ops.SetScheduler, _names: Names, _about: str) -> str:
    detail = [f"{word} {value}" for word, value in (("nice", op.nice), ("priority", op.priority)) if value]
    return f"schedule by `{name_of(SCHEDULER_POLICIES, op.policy)}`{_with(', '.join(detail))}"


def _io_priority(op: ops.SetIOPriority, _names: Names, _about: str) -> str:
    kind = name_of(IO_PRIORITY_CLASSES, op.value >> IO_PRIORITY_CLASS_SHIFT)
    return f"set the I/O priority to `{kind}` {op.value & ((1 << IO_PRIORITY_CLASS_SHIFT) - 1)}"


def _memory_policy(op: ops.SetMemoryPolicy, _names: Names, _about: str) -> str:
    nodes = f" on nodes {bit_list(op.nodes)}" if any(op.nodes) else ""
    return f"set the memory policy `{name_of(MEMORY_POLICY_MODES, op.mode & 0xFFF)}`{nodes}"


_PHRASES: "dict[type[Op], Phrase]" = {
    ops.Open: _open,
    ops.MakeDirs: lambda op, _n, _a: f"make the directory `{op.path}`",
    ops.Write: lambda op, _n, _a: f"write `{data_words(op.data)}` to `{op.path}`",
    ops.WriteAt: _write_at,
    ops.WriteChildPid: lambda op, _n, _a: f"put the container process into `{op.path.rpartition('/')[0]}`",
    ops.WriteChildFile: _child_file,
    ops.RunTool: lambda op, _n, _a: f"run `{command_words(op.argv)}`",
    ops.RunHook: _hook,
    ops.Close: lambda op, n, _a: f"close {n.of(op.slot)}",
    ops.ChownAt: _chown_at,
    ops.ForkJoiner: lambda _o, _n, _a: "fork the process that joins namespaces",
    ops.Clone: _clone,
    ops.Post: lambda op, _n, _a: f"let the {ops.ACTORS[op.actor]} go on",
    ops.Await: _await,
    ops.Ready: lambda _o, _n, _a: "report that the environment stands",
    ops.Upcall: _upcall,
    ops.Gate: lambda _o, _n, _a: "wait for `start`",
    ops.DieWithParent: lambda _o, _n, _a: "end if the runtime ends first",
    ops.SetDumpable: lambda op, _n, _a: ("allow" if op.value else "forbid") + " others to look into this process",
    ops.Setns: _setns,
    ops.Unshare: lambda op, _n, _a: f"make a {namespace_words(op.flags)} namespace of its own",
    ops.BecomeRoot: lambda _o, _n, _a: "become root of the user namespace",
    ops.NewSession: lambda _o, _n, _a: "begin a session of its own",
    ops.SetHostname: lambda op, _n, _a: f"set the host name `{op.name}`",
    ops.SetDomainname: lambda op, _n, _a: f"set the domain name `{op.name}`",
    ops.NewKeyring: lambda _o, _n, _a: "make a session keyring of its own",
    ops.LoopbackUp: lambda _o, _n, _a: "set the loopback interface up",
    ops.SetPropagation: _propagation,
    ops.OpenTree: _open_tree,
    ops.FsMount: _fs_mount,
    ops.SetAttr: _set_attr,
    ops.Userns: lambda _o, _n, a: "make a user namespace for the id-mapped mount" + (f" `{a}`" if a else ""),
    ops.AttachRoot: _attach_root,
    ops.Resolve: _resolve,
    ops.MoveMount: _move_mount,
    ops.Reconfigure: _reconfigure,
    ops.CopyUp: _copy_up,
    ops.MakeNode: _make_node,
    ops.CheckNode: _check_node,
    ops.MakeSymlink: _symlink,
    ops.Console: _console,
    ops.Mask: lambda op, _n, about: f"mask `{about or op.path}`",
    ops.MakeReadonly: lambda op, _n, about: f"make `{about or op.path}` read-only",
    ops.PivotRoot: lambda _o, _n, _a: "make it the root (pivot_root) and drop the host's",
    ops.MoveRoot: lambda _o, _n, _a: "make it the root (MS_MOVE and chroot)",
    ops.Chroot: lambda _o, _n, _a: "make it the root (chroot)",
    ops.MakeDirAt: _make_dir_at,
    ops.SetCwd: lambda op, _n, _a: f"change to the working directory `{op.path}`",
    ops.SetRlimit: _rlimit,
    ops.SetUser: _user,
    ops.BoundCaps: lambda op, _n, _a: f"drop capabilities to at most {capability_words(op.keep)}",
    ops.SetCaps: lambda op, _n, _a: f"set the capabilities to {capability_words(op.effective | op.permitted)}",
    ops.NoNewPrivs: lambda _o, _n, _a: "forbid gaining privileges by execve",
    ops.LoadSeccomp: _seccomp,
    ops.SetPersonality: lambda op, _n, _a: f"set the personality `{name_of(PERSONALITY_DOMAINS, op.persona)}`",
    ops.SetScheduler: _scheduler,
    ops.SetIOPriority: _io_priority,
    ops.SetMemoryPolicy: _memory_policy,
    ops.SetAffinity: lambda op, _n, _a: f"run on the CPUs {bit_list(op.cpus)}",
    ops.SetUmask: lambda op, _n, _a: f"set the umask {op.mask:04o}",
    ops.DupTo: lambda op, n, _a: f"hand {n.of(op.slot)} over as descriptor {op.number}",
    ops.TakeFiles: lambda op, _n, _a: f"put `{op.name}` into `{op.directory}`",
    ops.GiveFiles: lambda op, _n, _a: f"get `{op.path}`",
    ops.OwnStdio: lambda op, _n, _a: f"give the standard streams to uid {op.uid}",
    ops.KeepFds: lambda op, _n, _a: f"close all descriptors from {op.first} on",
    ops.FindProgram: lambda op, _n, _a: f"find the program `{op.name}`",
    ops.FindHome: lambda op, _n, _a: f"find the home directory of uid {op.uid} in the root's `/etc/passwd`",
    ops.Idle: lambda _o, _n, _a: "hold the box without a program, reaping what ends in it",
    ops.Exec: lambda op, _n, _a: f"execute `{command_words(op.argv)}`",
    ops.SetDeviceFilter: lambda op, _n, _a: f"attach the device filter of {len(op.program) // 8} instructions",
    ops.Netlink: lambda op, _n, a: a or f"send a request about the network device `{op.device}`",
}
