"""A helper at work in the guest: for who follows it, like one on the host (`host.spawn.Helper`)."""

import os

from boxwright.boxes.vm import frames
from boxwright.errors import GuestError
from boxwright.host.spawn import Report
from boxwright.plan import ops
from boxwright.plan.encode import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.boxes.vm.client import Client
    from boxwright.boxes.vm.frames import Exit
    from boxwright.plan.ops import Plan
    from boxwright.spec.types import Process

_RECORD_BYTES = 24
_MOST = 0xFFFF  # what a terminal can have


def size_of_terminal(process: "Process | None") -> tuple[int, int]:
    """Rows and columns that a process's terminal begins with: its own, else those of the caller's; 0 and 0 if neither.

    What they change to afterwards comes by the one who carries the streams, when the program may have looked already.
    """
    if process is None or not process.terminal:
        return 0, 0
    if process.console_size is not None:
        return min(process.console_size.height, _MOST), min(process.console_size.width, _MOST)
    try:
        columns, rows = os.get_terminal_size(0)
    except OSError:
        return 0, 0
    return rows, columns


class RemoteHelper:
    """Performs a plan in the guest. `pid` is the guest's number of the init, once known. The client is borrowed."""

    def __init__(self, client: "Client", plan: "Plan", flags: int, size: tuple[int, int] = (0, 0)) -> None:
        """Start it. `flags` are those of RUN, `size` the rows and columns of a terminal."""
        self._plan = plan
        self.pid = 0
        self.exit: Exit | None = None
        self._client = client
        for frame in frames.plan_frames(encode(plan)):
            client.send(frame)
        client.send(frames.run_frame(flags, *size))

    @property
    def plan(self) -> "Plan":
        """What it works on."""
        return self._plan

    def fileno(self) -> int:
        """Readable when `next` would not block."""
        return self._client.fileno()

    def next(self) -> Report | None:
        """The next report, or None when every actor has ended or executed the program. Raises GuestError."""
        while (frame := self._client.receive()).type != frames.REPORTED:
            if frame.type == frames.EXIT:
                self.exit = _exit(frame.payload)
            if frame.type == frames.REPORT:
                report = _report(frame.payload)
                if report.kind == ops.CHILD_PID:
                    self.pid = report.value
                if report.kind != ops.TERMINAL:  # its descriptor stays with the agent
                    return report
        return None

    def answer(self, errno: int) -> None:
        """Answer an UPCALL."""
        self._client.send(frames.answer_frame(errno))

    def take_exit(self) -> "Exit | None":
        """Take one frame, unless it came already: how what it has started has ended, None for not yet.

        Raises GuestError.
        """
        if self.exit is not None:
            return self.exit
        frame = self._client.receive()
        if frame.type == frames.EXIT:
            self.exit = _exit(frame.payload)
        return self.exit

    def wait_exit(self) -> "Exit":
        """Wait for the end of what it has started. Raises GuestError."""
        while (found := self.take_exit()) is None:
            continue
        return found


def _report(payload: bytes) -> Report:
    if len(payload) < _RECORD_BYTES:
        raise GuestError("the guest cannot be understood: a report is too short")
    return Report(payload, ())


def _exit(payload: bytes) -> "Exit":
    try:
        return frames.exit_of(payload)
    except ValueError as error:
        raise GuestError(f"the guest cannot be understood: {error}") from None
