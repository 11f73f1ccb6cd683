"""The order in which the actors of a plan do their steps, as one timeline.

The actors run side by side; what is told here is the order that their waiting for each other leaves, with an actor
going on for as long as it can.
"""

from boxwright.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.ops import Plan

Stretch = tuple[int, int, int]  # actor, first step, the step behind the last


def timeline(plan: "Plan") -> list[Stretch]:
    """Every step of every actor once, in stretches of one actor each."""
    clock = _Clock(plan)
    stretches: list[Stretch] = []
    actor: int | None = ops.OUTER
    while actor is not None:
        first, behind = clock.run(actor)
        if behind > first:
            stretches.append((actor, first, behind))
        actor = clock.ready(besides=actor)
    # what nobody lets go on is told last: a plan in which that happens is wrong, and is to be seen whole
    stretches += [(actor, at, len(plan.steps(actor))) for actor, at in clock.left()]
    return stretches


class _Clock:
    def __init__(self, plan: "Plan") -> None:
        self._plan = plan
        self._at = [0, 0, 0]
        self._alive = {ops.OUTER}
        self._posted: dict[tuple[int, int], int] = {}

    def run(self, actor: int) -> tuple[int, int]:
        """Let the actor do what it can; from which step up to which."""
        first = self._at[actor]
        steps = self._plan.steps(actor)
        while self._at[actor] < len(steps) and not self._blocked(actor):
            op = steps[self._at[actor]].op
            self._do(actor, op)
            self._at[actor] += 1
            if isinstance(op, ops.ForkJoiner):
                break  # what follows is about the init, which the joiner makes
        return first, self._at[actor]

    def ready(self, besides: int) -> int | None:
        """Another actor that can go on, the nearest to the box last; None if none can."""
        for actor in (ops.JOINER, ops.OUTER, ops.INIT):
            unfinished = self._at[actor] < len(self._plan.steps(actor))
            if actor != besides and actor in self._alive and unfinished and not self._blocked(actor):
                return actor
        return None

    def left(self) -> list[tuple[int, int]]:
        """The actors with steps undone, and the first of these."""
        return [(actor, at) for actor, at in enumerate(self._at) if at < len(self._plan.steps(actor))]

    def _blocked(self, actor: int) -> bool:
        op = self._plan.steps(actor)[self._at[actor]].op
        return isinstance(op, ops.Await) and not self._posted.get((op.actor, actor))

    def _do(self, actor: int, op: ops.Op) -> None:
        if isinstance(op, ops.Clone):
            self._alive.add(ops.INIT)
        elif isinstance(op, ops.ForkJoiner):
            self._alive.add(ops.JOINER)
        elif isinstance(op, ops.Post):
            self._posted[actor, op.actor] = self._posted.get((actor, op.actor), 0) + 1
        elif isinstance(op, ops.Await):
            self._posted[op.actor, actor] -= 1
