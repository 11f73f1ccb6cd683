"""A picture of the box: its walls as rings around the program, and what goes through them."""

from html import escape

from boxwright._record import Record
from boxwright.plan.explain import KEPT
from boxwright.plan.walls import OWN, SHARED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boxwright.plan.explain import Explanation
    from boxwright.plan.walls import Walls

_WIDTH = 1080
_SIDE = 300  # room for the texts on each side
_RING = 20  # from one wall to the next
_ROW = 26
_HEAD = 56
_LETTERS = 38  # of a text on a side
_MOST_ROWS = 12
_DOORS = ("mount", "pid", "network", "ipc")  # shared, they let the box act on the host


class Wall(Record):
    """One ring: solid if it stands, else a gap that `detail` tells of."""

    name: str
    stands: bool
    detail: str


class Crossing(Record):
    """Something that goes through all walls: `kind` is `read`, `write` or `neutral`."""

    text: str
    kind: str
    title: str


def picture(explanation: "Explanation") -> str:
    """The picture as one `svg` element, coloured by the page's style."""
    walls = walls_of_picture(explanation.walls)
    left, right = crossings(explanation)
    inside = _RING * len(walls)
    height = max(2 * inside + 150, _HEAD + 2 * _RING + _ROW * max(len(left), len(right)) + inside)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height + 20}" role="img" xmlns="http://www.w3.org/2000/svg">',
        "<title>The box: its walls, and what goes through them</title>",
        _ARROWS,
        f'<text class="side" x="{_SIDE - 14}" y="26" text-anchor="end">files of the host</text>',
        f'<text class="side" x="{_WIDTH - _SIDE + 14}" y="26">devices, network, shared namespaces</text>',
        *_rings(walls, height),
        *_center(explanation, walls, height),
        *_side(left, inside, 0),
        *_side(right, inside, 1),
        "</svg>",
    ]
    return "\n".join(parts)


_ARROWS = (
    "<defs>"
    + "".join(
        f'<marker id="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path class="tip {kind}" d="M0 0L8 4L0 8z"/></marker>'
        for kind in ("read", "write", "neutral")
    )
    + "</defs>"
)


def walls_of_picture(walls: "Walls") -> tuple[Wall, ...]:
    """The rings from outside to inside."""
    own = [row.type for row in walls.namespaces if row.state == OWN]
    user = next((row for row in walls.namespaces if row.type == "user"), None)
    bounding = next((fact.value for fact in walls.capabilities if fact.name == "bounding"), "")
    default = next((fact.value for fact in walls.seccomp if fact.name == "otherwise"), "")
    machine = (Wall("virtual machine", True, "a kernel of its own, held in a jail"),) if walls.machine else ()
    return (
        *machine,
        Wall("control group", bool(walls.limits), f"{len(walls.limits)} limits" if walls.limits else "no limits"),
        Wall("namespaces", bool(own), ", ".join(own) or "none of its own"),
        Wall("user namespace", bool(user and user.state != SHARED), (user.detail if user else "") or "its ids"),
        Wall("capabilities", bounding != "all", _count_words(bounding)),
        Wall("labels", bool(walls.labels), ", ".join(fact.name for fact in walls.labels) or "none"),
        Wall("seccomp", bool(walls.seccomp), f"otherwise {default}" if default else "no filter"),
    )


def _count_words(names: str) -> str:
    if names in {"", "none", "all"}:
        return f"{names or 'none'} kept"
    return f"{names.count(',') + 1} kept"


def crossings(explanation: "Explanation") -> tuple[list[Crossing], list[Crossing]]:
    """What goes through the walls: files on the left, everything else on the right."""
    walls = explanation.walls
    kind = "write" if explanation.root_writes == KEPT else "read"
    left = [Crossing(f"/ is {explanation.root}", kind, f"the root file system: {explanation.root_writes}")]
    for row in walls.mounts:
        if row.crossing:
            kind = "write" if row.writable or row.partly else "read"
            left.append(Crossing(f"{row.destination} is {row.source}", kind, row.options))
    # the kind of network is told by its namespace
    right = [
        Crossing(f"{fact.name}: {fact.value}", "write", fact.pointer)
        for fact in (*walls.network, *walls.devices)
        if fact.name not in {"network", "default", "deny", "allow"}
    ]
    right.append(Crossing("null zero full random urandom tty", "neutral", "default devices"))
    for space in walls.namespaces:
        if space.state != OWN:
            kind = "write" if space.state == SHARED and space.type in _DOORS else "neutral"
            whose = "the host's" if space.state == SHARED else space.detail
            right.append(Crossing(f"{space.type} namespace: {whose}", kind, space.detail))
    return _shortened(left), _shortened(right)


def _shortened(rows: list[Crossing]) -> list[Crossing]:
    if len(rows) <= _MOST_ROWS:
        return rows
    rest = len(rows) - _MOST_ROWS + 1
    return [*rows[: _MOST_ROWS - 1], Crossing(f"and {rest} more, listed below", "neutral", "")]


def _rings(walls: "Sequence[Wall]", height: int) -> "Iterator[str]":
    for at, wall in enumerate(walls):
        x, y = _SIDE + at * _RING, 8 + at * _RING
        state = "stands" if wall.stands else "gap"
        size = f'width="{_WIDTH - 2 * x}" height="{height - 2 * at * _RING}" rx="{26 - 3 * at}"'
        yield f'<rect class="wall {state} w{at}" x="{x}" y="{y}" {size}/>'
        mark = "" if wall.stands else "✕ "
        label = _cut(f"{mark}{wall.name}: {wall.detail}", 62 - 5 * at)
        yield f'<text class="label {state}" x="{x + 30 - 2 * at}" y="{y + 14}">{escape(label)}</text>'


def _center(explanation: "Explanation", walls: "Sequence[Wall]", height: int) -> "Iterator[str]":
    middle, y = _WIDTH // 2, 8 + len(walls) * _RING + (height - 2 * len(walls) * _RING) // 2
    lines = [
        ("program", _cut(explanation.program or "no program", 30)),
        ("who", _cut(explanation.user.partition(",")[0], 40)),
        ("who", _cut(f"in {explanation.cwd}" if explanation.cwd else "", 40)),
    ]
    for at, (kind, text) in enumerate(line for line in lines if line[1]):
        yield f'<text class="{kind}" x="{middle}" y="{y - 14 + at * 24}" text-anchor="middle">{escape(text)}</text>'


def _side(rows: "Sequence[Crossing]", inside: int, side: int) -> "Iterator[str]":
    """The crossings of one side: 0 is the left, 1 the right."""
    outer = _SIDE - 8 if side == 0 else _WIDTH - _SIDE + 8
    inner = _SIDE + inside + 6 if side == 0 else _WIDTH - _SIDE - inside - 6
    anchor = ' text-anchor="end"' if side == 0 else ""
    for at, row in enumerate(rows):
        y = _HEAD + inside - _RING + at * _ROW
        ends = f'marker-end="url(#{row.kind})"'
        if row.kind == "write":
            ends += ' marker-start="url(#write)"'
        x = outer - 6 if side == 0 else outer + 6
        yield f'<line class="cross {row.kind}" x1="{outer}" y1="{y}" x2="{inner}" y2="{y}" {ends}/>'
        title = f"<title>{escape(f'{row.text} {row.title}'.strip())}</title>"
        text = title + escape(_cut(row.text, _LETTERS))
        yield f'<text class="what {row.kind}" x="{x}" y="{y + 4}"{anchor}>{text}</text>'


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
