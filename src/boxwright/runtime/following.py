"""Follow a helper through its reports: the one place where its answers become results, warnings and errors."""

import os

from boxwright.errors import BoxwrightError
from boxwright.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from boxwright.host.spawn import Helper, Report
    from boxwright.plan.ops import Plan
    from boxwright.runtime.context import Runtime
    from boxwright.spec.types import Config


class Outcome:
    """How far the helper came: the init's pid, and the terminal's master where it came with a report."""

    __slots__ = ("pid", "terminal")

    def __init__(self, pid: int, terminal: int) -> None:
        self.pid = pid
        self.terminal = terminal


class Follower:
    """Reads reports until the init is ready, or executes the program."""

    def __init__(
        self,
        runtime: "Runtime",
        helper: "Helper",
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

    def until_ready(self) -> Outcome:
        """Until READY. Raises what the helper reports."""
        return self._follow(ops.READY)

    def until_executed(self) -> Outcome:
        """Until the report socket closes because the program is executed. Raises what the helper reports."""
        return self._follow(0)

    def _follow(self, last: int) -> Outcome:
        ready = False
        while (report := self._helper.next()) is not None:
            self._handle(report)
            if report.kind == ops.READY:
                ready = True
                if last == ops.READY:
                    return Outcome(self._helper.pid, self._terminal)
        if not ready:
            raise BoxwrightError(
                "the helper ended before the container was ready", hint="was it killed, or is memory short?"
            )
        return Outcome(self._helper.pid, self._terminal)

    def _handle(self, report: "Report") -> None:
        if report.kind == ops.CHILD_PID and self._on_pid is not None:
            self._on_pid(report.value)
        elif report.kind == ops.UPCALL:
            self._helper.answer(self._upcall(report.value, self._helper.pid) if self._upcall else 38)
        elif report.kind == ops.TERMINAL:
            self._take_terminal(report)
        elif report.kind == ops.WARNING:
            self._warn(report)
        elif report.kind in {ops.ERROR, ops.HOOK_FAILED}:
            raise failure(self._helper.plan, self._config, report)

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
