"""Bytes between a terminal's master and our standard streams. Nothing here waits for somebody who does not read."""

import errno
import os
import select
from stat import S_ISCHR, S_ISFIFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE_BYTES = 4096  # PIPE_BUF: a pipe that has room takes as much without waiting
_FAILED = select.POLLHUP | select.POLLERR
_PTMX = os.makedev(5, 2)


class Pump:
    """One direction. What the target does not take yet is kept, and nothing more is read until it is gone."""

    def __init__(self, source: int, target: int) -> None:
        """Both are borrowed."""
        self._source = source
        self._target = target
        self._pending = memoryview(b"")
        self._open = True

    def wants(self) -> "Iterator[tuple[int, int]]":
        """The descriptor to wait for and the event of poll(2), if there is anything left to do."""
        if self._pending:
            yield self._target, select.POLLOUT
        elif self._open:
            yield self._source, select.POLLIN

    def move(self, ready: "dict[int, int]") -> None:
        """Do what can be done now."""
        for fd, event in self.wants():
            if ready.get(fd, 0) & (event | _FAILED):
                self._write() if self._pending else self._read()

    def last(self) -> "int | None":
        """After the source's last writer has ended: the descriptor to wait for until all is written, or None."""
        if not self._pending and self._open:
            self._read()
        return self._target if self._pending else None

    def _read(self) -> None:
        try:
            data = os.read(self._source, _PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # EIO is how a terminal's master ends
        self._pending = memoryview(data)
        self._open = bool(data)

    def _write(self) -> None:
        try:
            self._pending = self._pending[os.write(self._target, self._pending) :]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._pending = memoryview(b"")  # the terminal was hung up: what is for it is for nobody


class Relay:
    """Standard input to a terminal, and the terminal to standard output."""

    def __init__(self, master: int) -> None:
        """`master` is borrowed; it becomes non-blocking."""
        os.set_blocking(master, False)
        self._out = _without_waiting(1)
        self.output = Pump(master, self._out)
        self.pumps = (Pump(0, master), self.output)

    def close(self) -> None:
        """Give back what is ours."""
        if self._out != 1:
            os.close(self._out)


def _without_waiting(fd: int) -> int:
    """An open file of our own where writing does not wait: O_NONBLOCK on `fd` itself would be for all who have it.

    `fd` where there is none, which is for want of permission, or because writing to such a file hardly waits.
    """
    found = os.fstat(fd)
    if not (S_ISFIFO(found.st_mode) or (S_ISCHR(found.st_mode) and os.isatty(fd) and found.st_rdev != _PTMX)):
        return fd  # a file would be written from its beginning, and /dev/ptmx be another terminal
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return fd
