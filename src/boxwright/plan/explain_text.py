"""An explanation for a terminal."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boxwright.plan.explain import Explanation, Line
    from boxwright.plan.walls import Fact, MountRow

_WIDE = 76


def render(explanation: "Explanation", *, color: bool = False) -> str:
    """The explanation as text; with `color`, headings and what only serves are told apart by ANSI colours."""
    return "\n".join([*_Text(color).lines(explanation), ""])


class _Text:
    def __init__(self, color: bool) -> None:
        self._color = color

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color and text else text

    def lines(self, found: "Explanation") -> "Iterator[str]":
        yield from self._head(found)
        for number, stage in enumerate(found.stages, 1):
            yield ""
            yield self._paint("1", f"{number}. {stage.title}") + self._paint("2", f"   ({stage.actor})")
            for line in stage.lines:
                yield self._step(line)
        yield from self._walls(found)

    def _head(self, found: "Explanation") -> "Iterator[str]":
        yield self._paint("1", f"`{found.program}`" if found.program else "no program")
        if found.user:
            yield f"  as {found.user}, in `{found.cwd}`{', with a terminal' if found.terminal else ''}"
        yield f"  root `{found.root}`: {found.root_writes}"
        if found.hostname:
            yield f"  host name `{found.hostname}`"

    def _step(self, line: "Line") -> str:
        text = f"{'    ' if line.serving else '  '}{line.text}{f' ({line.detail})' if line.detail else ''}"
        text += ", if possible" if line.soft else ""
        source = "   ".join(part for part in (line.pointer, line.anchor) if part)
        shown = self._paint("2", text) if line.serving else text
        return f"{shown}{' ' * max(1, _WIDE - len(text))} {self._paint('36', source)}" if source else shown

    def _walls(self, found: "Explanation") -> "Iterator[str]":
        walls = found.walls
        if walls.machine:
            yield from self._title("the machine around it")
            yield from _facts(walls.machine, "")
        yield from self._title("what is its own, and what is the host's")
        for row in walls.namespaces:
            yield f"  {row.type:<8} {row.state:<22} {row.detail}".rstrip()
        yield from self._title("files of the host in the box")
        yield from self._mounts([row for row in walls.mounts if row.crossing])
        for heading, facts, none in (
            ("network", walls.network, ""),
            ("devices", walls.devices, ""),
            ("capabilities", walls.capabilities, "none"),
            ("seccomp", walls.seccomp, "no filter"),
            ("other walls", walls.labels, "none"),
            ("hidden files", walls.hidden, "none"),
            ("limits", walls.limits, "none"),
            ("hooks", walls.hooks, "none"),
        ):
            yield from self._title(heading)
            yield from _facts(facts, none)
        if walls.concerns:
            yield from self._title("worth a thought")
            for concern in walls.concerns:
                yield self._paint("33", f"  {concern}")

    def _title(self, text: str) -> "Iterator[str]":
        yield ""
        yield self._paint("1", text)

    def _mounts(self, rows: "Sequence[MountRow]") -> "Iterator[str]":
        if not rows:
            yield "  none but the root"
        for row in rows:
            how = self._paint("33", "writable") if row.writable else "read-only"
            how += self._paint("33", ", but not what is mounted below") if row.partly else ""
            yield f"  {row.source} at {row.destination}: {how}"


def _facts(facts: "Sequence[Fact]", none: str) -> "Iterator[str]":
    if not facts:
        yield f"  {none}"
        return
    width = max(len(fact.name) for fact in facts)
    last = ""
    for fact in facts:
        yield f"  {fact.name if fact.name != last else '':<{width}}  {fact.value}"
        last = fact.name
