"""A plan performed in the guest whose standard input and output are ours, within what credit allows."""

from boxwright.boxes.vm import frames
from boxwright.boxes.vm.frames import Frame
from boxwright.boxes.vm.remote import RemoteHelper
from boxwright.errors import BoxwrightError, GuestError
from boxwright.host.spawn import Report
from boxwright.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boxwright.boxes.vm.client import Client
    from boxwright.boxes.vm.frames import Exit
    from boxwright.plan.ops import Plan

_OUTPUTS = (1, 2)


class Exchange:
    """One exchange over a client, which is borrowed and was greeted. `errno` is that of the step that failed."""

    def __init__(self, client: "Client", plan: "Plan") -> None:
        self.errno = 0
        self.exit: Exit | None = None
        self._client = client
        self._credit = 0
        self._reported = False
        self._open = set(_OUTPUTS)
        RemoteHelper(client, plan, frames.STDIN)
        for stream in _OUTPUTS:
            client.send(frames.credit_frame(frames.WINDOW_BYTES, stream))

    def run(self, given: "Iterator[bytes]", take: "Callable[[bytes], object]") -> None:
        """Send what is `given`, and hand what comes to `take`, until the plan has ended.

        What `given` raises is raised again once the other side has given up for it. Raises GuestError, ValueError.
        """
        left = memoryview(b"")
        wanted = True
        failed: OSError | BoxwrightError | None = None
        while not (self._reported and self.exit is not None and not self._open):
            self._handle(self._client.receive(), take)
            try:
                while wanted and not self._reported and (self._credit or not left):
                    left = left or memoryview(next(given, b""))
                    wanted = bool(left)
                    left = self._send(left)
            except (OSError, BoxwrightError) as error:
                wanted, left, failed = False, memoryview(b""), error
                self._client.send(Frame(frames.EOF))
        if failed is not None:
            raise failed

    def _send(self, data: memoryview) -> memoryview:
        """Send as much as may be sent; what is left. Nothing at all is the end."""
        if not data:
            self._client.send(Frame(frames.EOF))
            return data
        most = min(self._credit, frames.PAYLOAD_BYTES)
        if most:
            self._client.send(Frame(frames.DATA, bytes(data[:most])))
            self._credit -= len(data[:most])
        return data[most:]

    def _handle(self, frame: Frame, take: "Callable[[bytes], object]") -> None:
        if frame.type == frames.GUEST_DATA:
            self._client.send(frames.credit_frame(len(frame.payload), frame.stream))
            if frame.stream == 1:
                take(frame.payload)
        elif frame.type == frames.GUEST_CREDIT:
            self._credit += frames.credit_of(frame.payload)
        elif frame.type == frames.GUEST_EOF:
            self._open.discard(frame.stream)
        elif frame.type == frames.EXIT:
            self.exit = frames.exit_of(frame.payload)
        elif frame.type == frames.REPORTED:
            self._reported = True
        elif frame.type == frames.REPORT:
            self._note(Report(frame.payload, ()))
        elif frame.type == frames.DONE:
            raise GuestError(f"the guest does not take the plan: errno {frames.done_errno(frame.payload)}")

    def _note(self, report: Report) -> None:
        if report.kind == ops.ERROR:
            self.errno = report.errno
