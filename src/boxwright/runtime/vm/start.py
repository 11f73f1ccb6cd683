"""start: let the program of a container in a virtual machine run."""

import os

from boxwright.boxes.vm import frames
from boxwright.boxes.vm.client import ANSWER_S, Client
from boxwright.errors import GuestError, StateError
from boxwright.host.processes import kill_and_wait
from boxwright.host.spawn import Report
from boxwright.plan import ops
from boxwright.runtime.containers import CREATED
from boxwright.runtime.following import failure
from boxwright.runtime.vm.lost import lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.errors import BoxwrightError
    from boxwright.runtime.containers import Container


def open_gate(container: "Container") -> None:
    """Open the gate in the guest, and wait until the program is executed. Raises what the guest reports.

    Where it cannot be executed the container is stopped.
    """
    try:
        with Client(container.directory) as client:
            client.greet(ANSWER_S)
            os.unlink(container.path("gate"))
            client.send(frames.Frame(frames.START))
            _wait_for_execution(container, client)
    except GuestError as error:
        raise lost(container, error) from None


def _wait_for_execution(container: "Container", client: Client) -> None:
    while (frame := client.receive()).type != frames.REPORTED:
        if frame.type == frames.DONE and frames.done_errno(frame.payload):
            raise StateError(container.id, container.status(), CREATED)
        if frame.type == frames.REPORT:
            _heed(container, Report(frame.payload, ()))


def _heed(container: "Container", report: Report) -> None:
    if report.kind in {ops.ERROR, ops.HOOK_FAILED}:
        kill_and_wait(container.pid, container.started_at)
        raise _error(container, report)
    if report.kind == ops.WARNING:
        container.runtime.warn(_error(container, report).message)


def _error(container: "Container", report: Report) -> "BoxwrightError":
    from boxwright.runtime.vm.recompile import plan_of

    return failure(plan_of(container), container.config(), report)
