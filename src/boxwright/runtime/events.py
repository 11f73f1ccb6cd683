"""events: statistics of a container, and when it runs out of memory (not an operation of the standard)."""

import os
import select
import time

from boxwright.errors import BoxwrightError, GuestError, HostError, StateError
from boxwright.host.cgroup_oom import watch_oom
from boxwright.host.cgroup_stats import statistics
from boxwright.host.processes import open_pidfd, wait_gone
from boxwright.runtime.containers import CREATING, PAUSED, RUNNING, STOPPED, Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

    from boxwright.host.cgroup_oom import OomWatch
    from boxwright.runtime.context import Runtime
    from boxwright.runtime.vm.events import GuestWatch

    JSON = dict[str, Any]


def stats(runtime: "Runtime", container_id: str) -> "JSON":
    """The statistics of now: the `data` of an event of type `stats`. Raises StateError for a stopped container."""
    return _statistics(_found(runtime, container_id))


def _statistics(container: Container) -> "JSON":
    if container.in_machine:
        from boxwright.runtime.vm.events import guest_statistics

        measure = guest_statistics
    else:
        measure = _host_statistics
    try:
        found = measure(container)
    except OSError as error:
        raise _gone(container, error) from error
    if groups := container.resctrl("joined"):
        from boxwright.host.resctrl import statistics as resctrl_statistics

        found["intel_rdt"] = resctrl_statistics(groups)
    return found


def _host_statistics(container: Container) -> "JSON":
    return statistics(container.placement)


def follow(runtime: "Runtime", container_id: str, interval_s: float) -> "Iterator[JSON]":
    """Events until the container ends: `stats` each `interval_s` seconds, `oom` when the kernel has killed for want
    of memory. Raises StateError for a container that is stopped already.

    What happens from the call on is told; the first statistics come after the first interval.
    """
    container = _found(runtime, container_id)
    if container.in_machine:
        from boxwright.runtime.vm.events import GuestWatch

        return _events(container, GuestWatch(container), interval_s)
    return _events(container, _Watch(container), interval_s)


def _events(container: Container, watch: "_Watch | GuestWatch", interval_s: float) -> "Iterator[JSON]":
    with watch:
        due = time.monotonic() + interval_s
        while True:
            killed, ended = watch.wait(due - time.monotonic())
            for _ in range(killed):
                yield {"type": "oom", "id": container.id}
            if ended:
                return
            if time.monotonic() >= due:
                due += interval_s
                data = _statistics_or_none(container)
                if data is not None:
                    yield {"type": "stats", "id": container.id, "data": data}


def _found(runtime: "Runtime", container_id: str) -> Container:
    container = Container.find(runtime, container_id)
    status = container.status(frozen=False)
    if status in {CREATING, STOPPED}:
        raise StateError(container_id, status, RUNNING)
    return container


def _statistics_or_none(container: Container) -> "JSON | None":
    """Statistics; None for a container that has just ended, and for a machine that is paused."""
    try:
        return _statistics(container)
    except (GuestError, StateError):
        if container.in_machine and container.alive() and container.status() != PAUSED:
            raise
        return None


def _gone(container: Container, error: OSError) -> HostError | StateError:
    """What went wrong with reading: the groups of a container that ends are taken away."""
    status = container.status(frozen=False)
    if status == STOPPED:
        return StateError(container.id, status, RUNNING)
    path = str(error.filename or "")
    return HostError(f"read the statistics of container `{container.id}`", error.errno or 0, path=path)


class _Watch:
    """Waits for the end of a container's init and for its memory to run out."""

    def __init__(self, container: Container) -> None:
        self._oom: OomWatch | None = None
        self._pidfd = open_pidfd(container.pid, container.started_at)
        if self._pidfd < 0:
            raise StateError(container.id, STOPPED, RUNNING)
        try:
            if container.placement.find("memory") is not None:
                self._oom = watch_oom(container.placement)
        except BoxwrightError:
            os.close(self._pidfd)
            raise

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._oom is not None:
            self._oom.close()
        os.close(self._pidfd)

    def wait(self, timeout_s: float) -> tuple[int, bool]:
        """Wait until something happens or the time is over: how many processes were killed, and whether the
        container has ended.
        """
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if self._oom is not None:
            poll.register(self._oom.fileno(), self._oom.events)
        poll.poll(max(0.0, timeout_s) * 1000)
        # the last kill may be that of the init itself, so kills are counted after the end is seen
        ended = wait_gone(self._pidfd, 0)
        return (self._oom.take() if self._oom is not None else 0), ended
