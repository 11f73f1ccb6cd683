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
    if container.in_machine:
        _kill_in_machine(container, signal, every=every)
        return
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


def _kill_in_machine(container: Container, signal: int, *, every: bool) -> None:
    from boxwright.runtime.vm.signals import leave_for_guest, signal_guest

    status = container.status()
    if every and status == STOPPED:
        return
    if status not in {CREATED, RUNNING, PAUSED}:
        raise StateError(container.id, status, f"{CREATED} or {RUNNING}", hint="it has no process to send a signal to")
    if status == PAUSED and signal != SIGKILL:
        leave_for_guest(container, signal, every=every)
        return
    if status == PAUSED:
        from boxwright.host.cgroups import thaw

        thaw(container.placement)
    signal_guest(container, signal, every=every)


def _signal_init(container: Container, signal: int) -> None:
    pidfd = open_pidfd(container.pid, container.started_at)
    try:
        if pidfd < 0 or not send_signal(pidfd, signal):
            raise StateError(container.id, container.status(), RUNNING)
    finally:
        if pidfd >= 0:
            os.close(pidfd)
