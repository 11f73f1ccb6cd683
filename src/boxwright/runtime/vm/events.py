"""Statistics of a container in its guest, and how often its kernel has killed for want of memory."""

import os
import select
from time import monotonic

from boxwright.errors import BoxwrightError, GuestError, StateError
from boxwright.host.cgroup_oom import oom_kills
from boxwright.host.cgroup_stats import Files, statistics
from boxwright.host.processes import open_pidfd, wait_gone
from boxwright.runtime.containers import PAUSED, RUNNING, STOPPED
from boxwright.runtime.vm.inside import Inside
from boxwright.runtime.vm.lost import ending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from boxwright.runtime.containers import Container

LOOK_S = 1.0  # nothing wakes us for what happens in another kernel


def guest_statistics(container: "Container") -> "dict[str, Any]":
    """The `data` of an event of type `stats`, of the guest's control group. Raises OSError, StateError, GuestError."""
    with Inside(container) as inside:
        return statistics(inside.placement, Files(inside.read))


class GuestWatch:
    """Waits for the end of a container's machine, and looks at its memory each second."""

    def __init__(self, container: "Container") -> None:
        self._container = container
        self._pidfd = open_pidfd(container.pid, container.started_at)
        if self._pidfd < 0:
            raise StateError(container.id, STOPPED, RUNNING)
        try:
            self._seen = self._kills() if container.status() != PAUSED else 0
        except BoxwrightError:
            os.close(self._pidfd)
            raise

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._pidfd)

    def wait(self, timeout_s: float) -> tuple[int, bool]:
        """Wait until something happens or the time is over: how many processes were killed, and whether the
        container has ended.
        """
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        end_s = monotonic() + max(0.0, timeout_s)
        while True:
            ended = bool(poll.poll(max(0.0, min(LOOK_S, end_s - monotonic())) * 1000))
            killed = self._taken(self._kills_at_end() if ended else self._kills_or_seen())
            if killed or ended or monotonic() >= end_s:
                return killed, ended

    def _taken(self, kills: int) -> int:
        before, self._seen = self._seen, max(self._seen, kills)
        return self._seen - before

    def _kills(self) -> int:
        with Inside(self._container) as inside:
            return oom_kills(inside.placement, inside.read)

    def _kills_or_seen(self) -> int:
        """The kills as far as the machine answers: not while it is paused, nor once it ends."""
        if self._container.status() == PAUSED:
            return self._seen
        try:
            return self._kills()
        except (GuestError, StateError):
            if not wait_gone(self._pidfd, int(LOOK_S * 1000)):
                raise
            return self._kills_at_end()

    def _kills_at_end(self) -> int:
        """What the guest has said of its kills when it ended: the last may have been the init's."""
        end = ending(self._container)
        return end.oom_kills if end is not None else self._seen
