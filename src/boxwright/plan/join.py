"""compile_exec: the plan of a further process for a container that exists."""

from boxwright._record import Record
from boxwright.plan import ops
from boxwright.plan.builder import Builder
from boxwright.plan.namespaces import CLONE_FLAGS, compile_oom_score, is_new, open_proc
from boxwright.plan.process import ProcessSteps, cpu_mask
from boxwright.plan.rootfs import O_DIRECTORY, O_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.ops import Plan
    from boxwright.plan.request import HostFacts
    from boxwright.spec.types import Linux, Process

ANCHOR = "config-linux.md#configLinuxNamespaces"
AFFINITY_ANCHOR = "config.md#configLinuxProcess"


class JoinRequest(Record):
    """One `exec`: into what, and in what circumstances. `groups` are (cgroup version, directory) to enter."""

    pid: int
    groups: tuple[tuple[int, str], ...]
    seccomp: bytes = b""
    console: bool = False
    preserve_fds: int = 0
    listener: bool = False
    listener_state: tuple[str, ...] = ()
    resctrl: tuple[str, ...] = ()  # directories of resctrl to enter
    own_stdio: bool = True


def compile_exec(process: "Process", linux: "Linux | None", facts: "HostFacts", request: JoinRequest) -> "Plan":
    """The plan by which `process` enters the namespaces of the container's init (the inherited `pidfd`). Pure."""
    names = ("pidfd",) + ("console",) * request.console + ("seccomp",) * request.listener
    b = Builder(names)
    proc, root = open_proc(b), b.slot()
    steps = ProcessSteps(b, process, _joined(linux), facts, proc)
    steps.own_stdio = request.own_stdio
    kinds = _kinds(linux)
    if not kinds & CLONE_FLAGS["mount"]:
        b.add(ops.OUTER, ops.Open(root, f"/proc/{request.pid}/root", O_PATH | O_DIRECTORY))
    own_groups = _open_cgroup_namespace(b, linux, request)
    into, enters = _open_groups(b, request)
    _compile_joiner(b, process, request, kinds & ~CLONE_FLAGS["cgroup"] if own_groups else kinds, proc, into)
    steps.compile_outer(scored=True)
    if request.resctrl:
        from boxwright.plan.resctrl import join_steps

        b.extend(ops.OUTER, join_steps(request.resctrl))
    b.add(ops.OUTER, ops.Post(ops.INIT))
    _compile_entry(b, enters, own_groups)
    _arrive(b, kinds, root)
    _affinity(b, ops.INIT, process, "final")
    if process.terminal:
        size = process.console_size
        height, width = (size.height, size.width) if size else (0, 0)
        op = ops.Console(root, height, width, process.user.uid, b.inherited("console"), 0)
        b.add(ops.INIT, op, process.at("terminal"), "config.md#configProcess")
    steps.compile_program()
    b.add(ops.INIT, ops.Ready())
    steps.compile_attributes()
    steps.compile_identity(request.seccomp, b.inherited("seccomp"), request.listener_state)
    steps.compile_exec()
    return b.build()


def _compile_joiner(b: Builder, process: "Process", request: JoinRequest, kinds: int, proc: int, into: int) -> None:
    """Who joins the namespaces, and clones the process into them."""
    b.add(ops.OUTER, ops.ForkJoiner())
    b.add(ops.JOINER, ops.DieWithParent())
    _affinity(b, ops.JOINER, process, "initial")
    compile_oom_score(b, process, proc)
    # who is in the container must not look into the process, not even before its first step (CVE-2016-9962)
    b.add(ops.JOINER, ops.SetDumpable(0))
    if kinds:
        b.add(ops.JOINER, ops.Setns(b.inherited("pidfd"), kinds), "/linux/namespaces", ANCHOR, about="container")
    attach = kinds & CLONE_FLAGS["cgroup"]
    b.add(ops.JOINER, ops.Clone(0, ops.NO_SLOT if attach else into), about="process")
    if attach:
        _attach(b, request)


def _compile_entry(b: Builder, enters: list[int], own_groups: tuple[int, ...]) -> None:
    """The process's first steps: into its groups while it is still the runtime's user."""
    b.add(ops.INIT, ops.DieWithParent())
    for slot in enters:
        b.add(ops.INIT, ops.WriteAt(slot, "tasks", b"0"))
    b.add(ops.INIT, ops.Await(ops.OUTER))
    for slot in own_groups:
        op = ops.Setns(slot, CLONE_FLAGS["cgroup"])
        b.add(ops.INIT, op, "/linux/namespaces", ANCHOR, about="cgroup namespace")


def _affinity(b: Builder, actor: int, process: "Process", when: str) -> None:
    affinity = process.exec_cpu_affinity
    cpus = getattr(affinity, when) if affinity is not None else None
    if cpus:
        b.add(actor, ops.SetAffinity(cpu_mask(cpus)), process.at("execCPUAffinity", when), AFFINITY_ANCHOR)


def _joined(linux: "Linux | None") -> "Linux | None":
    """Of the container's own section, what a further process takes over: all but its memory policy and personality."""
    return None if linux is None else linux.replace(memory_policy=None)


def _kinds(linux: "Linux | None") -> int:
    kinds = 0
    for namespace in linux.namespaces if linux else ():
        kinds |= CLONE_FLAGS[namespace.type]
    return kinds


def _open_cgroup_namespace(b: Builder, linux: "Linux | None", request: JoinRequest) -> tuple[int, ...]:
    """The slot of the cgroup namespace, if the container has one of its own.

    A tree mounted with nsdelegate, as systemd's is, lets nobody in a cgroup namespace move a process across its
    border, and to clone into a group is such a move. So the process itself joins that namespace, once it is there.
    """
    if not is_new(linux, "cgroup"):
        return ()
    slot = b.slot()
    b.add(ops.OUTER, ops.Open(slot, f"/proc/{request.pid}/ns/cgroup", 0))
    return (slot,)


def _attach(b: Builder, request: JoinRequest) -> None:
    """Let the outer move the process, which is slower, where the cgroup namespace was joined by a path: it may belong
    to a user namespace that has no power over the container's, which then cannot join it.
    """
    for version, path in request.groups:
        if version == 2:
            b.add(ops.OUTER, ops.WriteChildPid(f"{path}/cgroup.procs"))


def _open_groups(b: Builder, request: JoinRequest) -> tuple[int, list[int]]:
    into, enters = ops.NO_SLOT, []
    for version, path in request.groups:
        slot = b.slot()
        b.add(ops.OUTER, ops.Open(slot, path, O_PATH | O_DIRECTORY))
        if version == 2:
            into = slot
        else:
            enters.append(slot)
    return into, enters


def _arrive(b: Builder, kinds: int, root: int) -> None:
    if kinds & CLONE_FLAGS["user"]:
        b.add(ops.INIT, ops.BecomeRoot(), "/linux/namespaces", ANCHOR)
    b.add(ops.INIT, ops.NewSession())
    b.add(ops.INIT, ops.NewKeyring(), soft=True)
    if kinds & CLONE_FLAGS["mount"]:
        b.add(ops.INIT, ops.Open(root, "/", O_PATH | O_DIRECTORY))
    else:
        b.add(ops.INIT, ops.Chroot(root), "/root/path", "config.md#configRoot")
