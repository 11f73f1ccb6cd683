"""Try on this machine whether the kernel does something, with the helper that would do it for a container.

What is tried happens in processes that end at once, in namespaces that end with them: nothing is left behind.
"""

import os

from boxwright.errors import BoxwrightError
from boxwright.host.spawn import Helper
from boxwright.plan import ops
from boxwright.plan.ops import Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from boxwright.plan.ops import Op

_SLOTS = 16


class Trial:
    """How a trial went: `errno` is 0 if everything was done, `op` the operation that the kernel refused."""

    __slots__ = ("errno", "op", "text")

    def __init__(self, errno: int = 0, op: "Op | None" = None, text: str = "") -> None:
        self.errno = errno
        self.op = op
        self.text = text

    def __bool__(self) -> bool:
        return self.errno == 0


def attempt(outer: "Sequence[Op]", joiner: "Sequence[Op]" = (), init: "Sequence[Op]" = ()) -> Trial:
    """Do these operations in a throw-away box. Raises BoxwrightError where there is no helper."""
    plan = Plan(_steps(outer), _steps(joiner), _steps(init), (), _SLOTS)
    helper = Helper(plan, [])
    trial = Trial()
    try:
        while (report := helper.next()) is not None:
            if report.kind in {ops.ERROR, ops.HOOK_FAILED} and trial:
                trial = Trial(report.errno, plan.steps(report.actor)[report.op].op, report.text)
    finally:
        helper.finish()
        if helper.pid:
            _reap(helper.pid)
    return trial


def _steps(operations: "Sequence[Op]") -> tuple[Step, ...]:
    return tuple(Step(op) for op in operations)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return  # somebody else's SIGCHLD handling reaped it


def helper_problem() -> str:
    """Why no trial can be made, empty if one can."""
    try:
        trial = attempt([ops.Clone(0)])
    except (BoxwrightError, OSError) as error:
        return str(error)
    return "" if trial else os.strerror(trial.errno)
