"""kill: a signal to the container (runtime.md#runtimeKill)."""

import os
from _signal import SIGKILL

from boxwright.errors import StateError
from boxwright.host.processes import open_pidfd, send_signal
from boxwright.runtime.containers import CREATED, PAUSED, RUNNING, STOPPED, Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.context import Runtime


def kill(runtime: "Runtime", container_id: str, signal: int, *, every: bool = False) -> None:
    """Send `signal` to the init, or to `every` process of the container.

    Raises StateError if it is neither created nor running; with `every` a stopped one is no error, since
    processes of it may be left in a shared pid namespace.
    """
    container = Container.find(runtime, container_id)
    if every:
        from boxwright.host.cgroups import kill_all

        kill_all(container.placement, signal)
        return
    status = container.status()
    if status not in {CREATED, RUNNING, PAUSED}:
        hint = "it has no process to send a signal to" if status == STOPPED else None
        raise StateError(container_id, status, f"{CREATED} or {RUNNING}", hint=hint)
    _signal_init(container, signal)
    if signal == SIGKILL and status == PAUSED:
        from boxwright.host.cgroups import thaw

        thaw(container.placement)  # a frozen group on v1 does not die until it is thawed


def _signal_init(container: Container, signal: int) -> None:
    pidfd = open_pidfd(container.pid, container.started_at)
    try:
        if pidfd < 0 or not send_signal(pidfd, signal):
            raise StateError(container.id, container.status(), RUNNING)
    finally:
        if pidfd >= 0:
            os.close(pidfd)
