"""What would happen: a plan and its configuration as a tree of plain records, for people and for tools.

Pure: nothing is looked at but the values given.
"""

from boxwright._record import Record
from boxwright.plan import ops
from boxwright.plan.phrases import Names, fs_mount_options, phrase
from boxwright.plan.timeline import timeline
from boxwright.plan.walls import Walls, walls_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.ops import Plan, Step
    from boxwright.plan.request import HostFacts
    from boxwright.plan.timeline import Stretch
    from boxwright.spec.types import Config

# steps that only serve the one before or behind them
_SERVING = (
    *(
        ops.Open,
        ops.Close,
        ops.Post,
        ops.Await,
        ops.DieWithParent,
        ops.SetDumpable,
        ops.Resolve,
        ops.SetAttr,
        ops.MoveMount,
    ),
    *(ops.Userns, ops.CopyUp, ops.AttachRoot, ops.BecomeRoot, ops.Ready, ops.MakeDirAt),
)


REFUSED, FORGOTTEN, KEPT = "read-only", "writes go with the box", "writes stay on the host"


class Line(Record):
    """One step: what it does, which line of config.json asked for it, where the standard defines it.

    `detail` are the options of a mount or the like, `serving` says that it only serves another step, `soft` that a
    failure would be a warning.
    """

    text: str
    pointer: str = ""
    anchor: str = ""
    detail: str = ""
    serving: bool = False
    soft: bool = False


class Stage(Record):
    """Steps that one actor does in one go."""

    actor: str
    title: str
    lines: tuple[Line, ...]


class Explanation(Record):
    """Everything: the program, the walls around it and what crosses them, and the steps in the order of time.

    `root_writes` says what becomes of writes to the root file system: REFUSED, FORGOTTEN or KEPT.
    """

    program: str
    cwd: str
    user: str
    terminal: bool
    root: str
    root_writes: str
    hostname: str
    walls: Walls
    stages: tuple[Stage, ...]


def explain(plan: "Plan", config: "Config", facts: "HostFacts") -> Explanation:
    """The explanation of a plan which was compiled from this configuration and these facts."""
    process, root = config.process, config.root
    return Explanation(
        program=" ".join(process.args) if process else "",
        cwd=process.cwd if process else "",
        user=_user(config, facts),
        terminal=bool(process and process.terminal),
        root=root.path if root else "",
        root_writes=_root_writes(plan, readonly=bool(root and root.readonly)),
        hostname=config.hostname or "",
        walls=walls_of(plan, config),
        stages=stages_of(plan),
    )


def _user(config: "Config", facts: "HostFacts") -> str:
    """Who the program is inside, and on the host."""
    if config.process is None:
        return ""
    user = config.process.user
    inside = f"uid {user.uid} gid {user.gid}"
    mappings = config.linux.uid_mappings if config.linux else ()
    for m in mappings:
        if m.container_id <= user.uid < m.container_id + m.size:
            return f"{inside}, on the host uid {m.host_id + user.uid - m.container_id}"
    if user.uid == 0 and facts.privileged:
        return f"{inside}, which is root on the host too"
    return inside


def _root_writes(plan: "Plan", *, readonly: bool) -> str:
    if readonly:
        return REFUSED
    overlaid = (
        isinstance(step.op, ops.FsMount) and step.op.fstype == "overlay" for step in plan.init if _of_root(step)
    )
    return FORGOTTEN if any(overlaid) else KEPT


def _of_root(step: "Step") -> bool:
    return step.pointer in {"", "/root/path"}


# --- steps ------------------------------------------------------------------------------------------------------


def stages_of(plan: "Plan", outside: str = "on the host", inside: str = "in the box") -> tuple[Stage, ...]:
    """The steps of a plan in the order of time, where what is around its container and what is in it are called so."""
    names = Names(plan)
    stages = []
    cloned = started = False
    for stretch in _split_at_gate(plan, timeline(plan)):
        actor, first, behind = stretch
        steps = plan.steps(actor)[first:behind]
        title = _title(actor, cloned, started).replace("on the host", outside).replace("in the box", inside)
        stages.append(Stage(ops.ACTORS[actor], title, tuple(_line(step, names) for step in steps)))
        cloned = cloned or any(isinstance(step.op, ops.Clone) for step in steps)
        started = started or any(isinstance(step.op, ops.Gate) for step in steps)
    return tuple(stages)


def _split_at_gate(plan: "Plan", stretches: "list[Stretch]") -> "list[Stretch]":
    """What the init does behind the gate is `start`: a stretch of its own."""
    found = []
    for actor, first, behind in stretches:
        steps = plan.steps(actor)
        gate = next((at for at in range(first, behind) if isinstance(steps[at].op, ops.Gate)), behind - 1)
        found += [(actor, first, gate + 1)] + ([(actor, gate + 1, behind)] if gate + 1 < behind else [])
    return found


def _title(actor: int, cloned: bool, started: bool) -> str:
    if actor == ops.JOINER:
        return "between host and box: join namespaces"
    if actor == ops.OUTER:
        return "on the host: with the container process" if cloned else "on the host: before the container process"
    return "in the box: at `start`" if started else "in the box: the container process"


def _line(step: "Step", names: Names) -> Line:
    op = step.op
    detail = ""
    if isinstance(op, ops.FsMount):
        detail = fs_mount_options(op)
    elif isinstance(op, ops.Exec):
        detail = f"{len(op.env)} environment variables"
    return Line(phrase(step, names), step.pointer, step.anchor, detail, isinstance(op, _SERVING), step.soft)


# --- as plain values --------------------------------------------------------------------------------------------


def to_json(value: object) -> object:
    """Records as objects, tuples as arrays: what `explain --json` prints."""
    if isinstance(value, Record):
        return {field: to_json(getattr(value, field)) for field in value._fields}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value
