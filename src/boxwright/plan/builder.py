"""Collects the steps of a plan and hands out slots."""

from boxwright.plan import ops
from boxwright.plan.ops import Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from boxwright.plan.ops import Op


class Builder:
    """The three lists of steps under construction."""

    def __init__(self, inherited: "Sequence[str]") -> None:
        self._inherited = tuple(inherited)
        self._slots = len(inherited)
        self._steps: tuple[list[Step], list[Step], list[Step]] = ([], [], [])

    def slot(self) -> int:
        """A slot of its own."""
        self._slots += 1
        return self._slots - 1

    @property
    def next_slot(self) -> int:
        """The first slot that nobody has."""
        return self._slots

    def reserve(self, next_slot: int) -> None:
        """Take note that another module used the slots below `next_slot`."""
        self._slots = max(self._slots, next_slot)

    def inherited(self, name: str) -> int:
        """The slot of an inherited descriptor, or NO_SLOT where none of that name is handed over."""
        return self._inherited.index(name) if name in self._inherited else ops.NO_SLOT

    def add(
        self,
        actor: int,
        op: "Op",
        pointer: str = "",
        anchor: str = "",
        *,
        parts: tuple[str, ...] = (),
        soft: bool = False,
        about: str = "",
    ) -> None:
        """Append one operation to the list of `actor`."""
        self._steps[actor].append(Step(op, pointer, anchor, parts, soft, about))

    def extend(self, actor: int, steps: "Iterable[Step]") -> None:
        """Append steps that another module compiled."""
        self._steps[actor].extend(steps)

    def build(self) -> Plan:
        """The finished plan."""
        outer, joiner, init = self._steps
        return Plan(tuple(outer), tuple(joiner), tuple(init), self._inherited, self._slots)
