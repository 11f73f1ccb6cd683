"""kill: a signal to the processes of a container in a virtual machine."""

from _signal import SIGKILL

from boxwright.boxes.vm import frames
from boxwright.boxes.vm.client import ANSWER_S, Client
from boxwright.errors import GuestError, HostError
from boxwright.host.processes import kill_and_wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.containers import Container

KILL_S = 5.0
_ESRCH = 3


def signal_guest(container: "Container", number: int, *, every: bool = False) -> None:
    """Send a signal to the init of the guest's container, or to `every` process of it.

    A guest that does not heed SIGKILL is switched off. Raises GuestError if it does not answer, HostError for a
    signal that it refuses.
    """
    try:
        errno = _send(container, number, every=every)
    except GuestError:
        if number != SIGKILL:
            raise
        kill_and_wait(container.pid, container.started_at)
        return
    if errno and not (every and errno == _ESRCH):
        raise HostError(f"send signal {number} to container `{container.id}`", errno)


def leave_for_guest(container: "Container", number: int, *, every: bool = False) -> None:
    """Leave a signal for a guest that is paused: it takes it once it goes on. Raises GuestError."""
    with Client(container.directory) as client:
        client.send(frames.signal_frame(number, frames.TO_INIT | frames.EVERY * every))


def _send(container: "Container", number: int, *, every: bool) -> int:
    answer_s = KILL_S if number == SIGKILL else ANSWER_S
    with Client(container.directory) as client:
        client.greet(answer_s)
        client.send(frames.signal_frame(number, frames.TO_INIT | frames.EVERY * every))
        return client.done(answer_s)
