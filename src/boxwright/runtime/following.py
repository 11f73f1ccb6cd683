"""Follow a helper through its reports: the one place where its answers become results, warnings and errors."""

import errno
import os

from boxwright.errors import BoxwrightError
from boxwright.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from boxwright.host.spawn import Report
    from boxwright.plan.ops import Plan
    from boxwright.runtime.context import Runtime
    from boxwright.spec.types import Config

    class Performer(Protocol):
        """Who performs a plan: a helper here, or one in a guest. `pid` is that of the init, once known."""

        pid: int

        @property
        def plan(self) -> Plan:
            """What it works on."""

        def next(self) -> Report | None:
            """The next report, or None when every actor has ended or executed the program. Blocks."""

        def answer(self, errno: int) -> None:
            """Answer an UPCALL."""


class Outcome:
    """How far the helper came: the init's pid, and the terminal's master where it came with a report."""

    __slots__ = ("pid", "terminal")

    def __init__(self, pid: int, terminal: int) -> None:
        self.pid = pid
        self.terminal = terminal


class Follower:
    """Takes reports until the init is ready, or executes the program."""

    def __init__(
        self,
        runtime: "Runtime",
        helper: "Performer",
        config: "Config | dict[str, object]",
        *,
        on_pid: "Callable[[int], None] | None" = None,
        upcall: "Callable[[int, int], int] | None" = None,
    ) -> None:
        self._runtime = runtime
        self._helper = helper
        self._config = config
        self._on_pid = on_pid
        self._upcall = upcall
        self._terminal = -1
        self._ready = False

    def until_ready(self) -> Outcome:
        """Until READY. Raises what the helper reports."""
        return self._follow(gate=True)

    def until_executed(self) -> Outcome:
        """Until the report socket closes because the program is executed. Raises what the helper reports."""
        return self._follow(gate=False)

    def _follow(self, *, gate: bool) -> Outcome:
        while (outcome := self.step(gate=gate)) is None:
            continue
        return outcome

    def step(self, *, gate: bool) -> Outcome | None:
        """Take one report (blocks until there is one): the outcome once it is known. Raises what the helper reports.

        With `gate` the outcome is known at READY, else at the execution.
        """
        report = self._helper.next()
        if report is not None:
            self._handle(report)
            self._ready |= report.kind == ops.READY
            if not (gate and self._ready):
                return None
        elif not self._ready:
            raise BoxwrightError(
                "the helper ended before the container was ready", hint="was it killed, or is memory short?"
            )
        return Outcome(self._helper.pid, self._terminal)

    def drop(self) -> None:
        """What came will not be handed out: close the terminal."""
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1

    def _handle(self, report: "Report") -> None:
        if report.kind == ops.CHILD_PID and self._on_pid is not None:
            self._on_pid(report.value)
        elif report.kind == ops.UPCALL:
            self._helper.answer(self._answer(report))
        elif report.kind == ops.TERMINAL:
            self._take_terminal(report)
        elif report.kind == ops.WARNING:
            self._warn(report)
        elif report.kind in {ops.ERROR, ops.HOOK_FAILED}:
            raise failure(self._helper.plan, self._config, report)

    def _answer(self, report: "Report") -> int:
        op = self._helper.plan.steps(report.actor)[report.op].op
        if self._upcall is None or not isinstance(op, ops.Upcall):
            return errno.ENOSYS
        return self._upcall(op.token, report.value)

    def _take_terminal(self, report: "Report") -> None:
        if self._terminal >= 0:
            os.close(self._terminal)
        self._terminal = report.fds[0]

    def _warn(self, report: "Report") -> None:
        self._runtime.warn(failure(self._helper.plan, self._config, report).message)


def failure(plan: "Plan", config: "Config | dict[str, object]", report: "Report") -> BoxwrightError:
    """The error that a report of a failure tells of."""
    from boxwright.plan.describe import explain_failure

    return explain_failure(
        plan, config, report.actor, report.op, report.errno, report.value, report.text, kind=report.kind
    )
