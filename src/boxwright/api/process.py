"""A program that was spawned in a box, with its streams."""

import errno
import io
import os
from _signal import SIGKILL

from boxwright.api.streams import Stdio, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from _typeshed import WriteableBuffer

    from boxwright.api.program import Ending, Program
    from boxwright.api.records import Reason

_TIOCSWINSZ = 0x5414


class Process:
    """A program in a box. Leaving it as a context kills it and closes its streams; closing the box kills it too.

    `stdin` is an unbuffered binary file to write to, `stdout` and `stderr` are buffered ones to read from; None where
    the stream is no pipe. With a terminal `stdin` and `stdout` are its other side and `stderr` is None.
    """

    def __init__(self, program: "Program", stdio: Stdio) -> None:
        """Take the program, and our ends of its pipes."""
        self._program = program
        self.stdin: io.FileIO | None = None
        self.stdout: io.BufferedReader | None = None
        self.stderr: io.BufferedReader | None = None
        if program.terminal >= 0:
            self.stdin = io.FileIO(os.dup(program.terminal), "wb")
            self.stdout = io.BufferedReader(_Terminal(os.dup(program.terminal)))
            return
        stdin, stdout, stderr = map(stdio.take, range(3))
        if stdin >= 0:
            self.stdin = io.FileIO(stdin, "wb")
        if stdout >= 0:
            self.stdout = io.BufferedReader(io.FileIO(stdout, "rb"))
        if stderr >= 0:
            self.stderr = io.BufferedReader(io.FileIO(stderr, "rb"))

    @property
    def pid(self) -> int:
        """Its pid as the host sees it."""
        return self._program.pid

    def fileno(self) -> int:
        """A pidfd: readable once the program has ended."""
        return self._program.fileno()

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return exit_code_of(self._program.reap())

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end, and give what `poll` gives. Raises TimeoutError if that is not in time.

        Who does not read the streams meanwhile waits for ever for a program that has more to write than a pipe holds.
        """
        code = exit_code_of(self._program.wait(timeout_s))
        if code is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout_s} s")
        return code

    @property
    def reason(self) -> "Reason | None":
        """`exited` or `signalled`; None while it runs."""
        ending = self._program.reap()
        return None if ending is None else reason(ending, 0, timed_out=False)

    def kill(self, signal: int = SIGKILL) -> None:
        """Send it a signal. Nothing happens if it has ended."""
        self._program.signal(signal)

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal; nothing happens without one."""
        resize_terminal(self._program.terminal, rows, columns)

    def close(self) -> None:
        """Kill it with its process group if it still runs, and close its streams."""
        self._program.kill_group()
        self._program.wait_killed()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self._program.close()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class _Terminal(io.RawIOBase):
    """A terminal's master (owned): where the other side is closed the kernel says EIO, which is its end."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        try:
            data = os.read(self._fd, len(memoryview(buffer)))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return 0
        memoryview(buffer)[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


def resize_terminal(master: int, rows: int, columns: int) -> None:
    """Set the size of a terminal (TIOCSWINSZ, ioctl_tty(2)); nothing happens for -1."""
    from fcntl import ioctl
    from struct import pack

    if master >= 0:
        ioctl(master, _TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))


def exit_code_of(ending: "Ending | None") -> int | None:
    """The exit code, or minus the signal; None before the end."""
    if ending is None:
        return None
    return ending.exit_code if ending.exit_code is not None else -(ending.signal or 0)
