"""Pipes for a program's standard streams, and what comes through them; no waiting is done here."""

import os

from boxwright.api.records import EXITED, OOM, SIGNALLED, TIMEOUT, Result, Usage
from boxwright.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol, Self

    from boxwright.api.program import Ending
    from boxwright.api.records import Reason

    class HasFileno(Protocol):
        """A file, a socket: what stands for a descriptor."""

        def fileno(self) -> int:
            """The descriptor."""

    Stream = int | HasFileno | None
    Input = bytes | bytearray | memoryview | int | HasFileno | None

PIPE = -1
DEVNULL = -3  # the numbers of `subprocess`
CHUNK_BYTES = 1 << 16
_DRAINED_CHUNKS = 32  # a pipe can hold 1 MiB unless root has allowed for more (pipe(7))


class Stdio:
    """The program's descriptors 0 to 2, and our ends of those that are pipes (-1: none). Owns what it has made."""

    def __init__(self, stdin: "Stream", stdout: "Stream", stderr: "Stream") -> None:
        """Each is PIPE, DEVNULL, or a descriptor or file of the caller's, which stays his."""
        self.theirs: list[int] = []
        self.ours: list[int] = []
        self._made: list[int] = []
        try:
            for number, wanted in enumerate((stdin, stdout, stderr)):
                self._add(wanted, readable=number == 0)
        except BaseException:
            self.close()
            raise

    def _add(self, wanted: "Stream", *, readable: bool) -> None:
        ours = -1
        if wanted is None or wanted == DEVNULL:
            theirs = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            self._made.append(theirs)
        elif wanted == PIPE:
            reader, writer = os.pipe()
            theirs, ours = (reader, writer) if readable else (writer, reader)
            self._made.append(theirs)
        elif isinstance(wanted, int):
            theirs = wanted
        else:
            theirs = wanted.fileno()
        self.theirs.append(theirs)
        self.ours.append(ours)

    def started(self) -> None:
        """The program has its descriptors: close our copies."""
        for fd in self._made:
            os.close(fd)
        self._made.clear()

    def close(self) -> None:
        """Give back all that is left."""
        self.started()
        for index, fd in enumerate(self.ours):
            if fd >= 0:
                os.close(fd)
                self.ours[index] = -1

    def take(self, number: int) -> int:
        """Our end of a pipe, which is the caller's from now on."""
        fd, self.ours[number] = self.ours[number], -1
        return fd

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Capture:
    """The streams of a program whose output is collected and whose input is known: for `run` and `exec`.

    Sans-I/O but for reading and writing what is ready: `wanted` says what to wait for, `ready` does it.
    """

    def __init__(self, stdin: "Input", output_bytes: int | None) -> None:
        """`stdin` are the bytes to read, or a descriptor or file to read from; None is nothing."""
        self._left = memoryview(b"")
        self._kept_reader = -1
        self._limit = output_bytes
        self._output = {1: bytearray(), 2: bytearray()}
        self.truncated = False
        if isinstance(stdin, str):
            raise UsageError("`stdin` is bytes, a file or a descriptor, not a text", hint="encode it")
        if isinstance(stdin, (bytes, bytearray, memoryview)):
            self._left = memoryview(stdin).cast("B")
            self.stdio = Stdio(PIPE, PIPE, PIPE)
            self._fill()
        else:
            self.stdio = Stdio(stdin, PIPE, PIPE)
        for fd in self.stdio.ours:
            if fd >= 0:
                os.set_blocking(fd, False)

    def _fill(self) -> None:
        """Write what fits before anybody reads. Only where that is not all does a reader stay with us, so that a
        program which reads no further is no SIGPIPE for the caller's process.
        """
        os.set_blocking(self.stdio.ours[0], False)
        if self._write():
            self._kept_reader = os.dup(self.stdio.theirs[0])

    def started(self) -> None:
        """The program runs."""
        self.stdio.started()

    def wanted(self) -> "Sequence[tuple[int, bool]]":
        """The descriptors to wait for, each with whether it is for writing."""
        ours = self.stdio.ours
        reading = [(ours[number], False) for number in (1, 2) if ours[number] >= 0]
        return [*reading, (ours[0], True)] if ours[0] >= 0 else reading

    def ready(self, fd: int) -> bool:
        """Go on with the descriptor, which is ready. False once it is done with, and closed."""
        number = self.stdio.ours.index(fd)
        return self._write() if number == 0 else self._read(number)

    def _write(self) -> bool:
        fd = self.stdio.ours[0]
        try:
            while self._left:
                self._left = self._left[os.write(fd, self._left[:CHUNK_BYTES]) :]
        except BlockingIOError:
            return True
        os.close(self.stdio.take(0))
        return False

    def _read(self, number: int) -> bool:
        self._take(number)
        return self.stdio.ours[number] >= 0

    def _take(self, number: int) -> bool:
        """Take what is there; False where nothing is, or nothing will be, and then our end is closed."""
        try:
            data = os.read(self.stdio.ours[number], CHUNK_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._keep(number, data)
        else:
            os.close(self.stdio.take(number))
        return bool(data)

    def _keep(self, number: int, data: bytes) -> None:
        kept = self._output[number]
        if self._limit is not None and len(kept) + len(data) > self._limit:
            data = data[: self._limit - len(kept)]
            self.truncated = True
        kept += data

    def drain(self) -> None:
        """The program has ended: take what it left in the pipes. Nobody is waited for who has inherited them."""
        for number in (1, 2):
            # no more than a pipe can hold: others may go on to write
            for _ in range(_DRAINED_CHUNKS):
                if self.stdio.ours[number] < 0 or not self._take(number):
                    break

    def result(self, ending: "Ending", memory_peak_bytes: int, oom_kills: int, *, timed_out: bool) -> Result:
        """The result of a program that has ended."""
        usage = Usage(
            ending.user_s, ending.system_s, ending.wall_s, memory_peak_bytes or ending.memory_peak_bytes, oom_kills
        )
        return Result(
            ending.exit_code,
            ending.signal,
            bytes(self._output[1]),
            bytes(self._output[2]),
            usage,
            reason(ending, oom_kills, timed_out=timed_out),
            self.truncated,
        )

    def close(self) -> None:
        """Give the descriptors back."""
        self.stdio.close()
        if self._kept_reader >= 0:
            os.close(self._kept_reader)
            self._kept_reader = -1

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def reason(ending: "Ending", oom_kills: int, *, timed_out: bool) -> "Reason":
    """Why a program ended."""
    if timed_out:
        return TIMEOUT
    if oom_kills and ending.exit_code != 0:
        return OOM
    return EXITED if ending.signal is None else SIGNALLED
