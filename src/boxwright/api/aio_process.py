"""A program that was spawned in a box, with its streams, on asyncio."""

import asyncio
import errno
import io
import os
from _signal import SIGKILL

from boxwright.api.process import exit_code_of, resize_terminal
from boxwright.api.streams import Stdio, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from boxwright.api.program import Ending, Program
    from boxwright.api.records import Reason


class Process:
    """A program in a box. Leaving it as a context kills it and closes its streams; closing the box kills it too.

    `stdin` is a StreamWriter, `stdout` and `stderr` are StreamReaders; None where the stream is no pipe. With a
    terminal `stdin` and `stdout` are its other side and `stderr` is None.
    """

    def __init__(self, program: "Program") -> None:
        """Made by `Box.spawn`."""
        self._program = program
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[Ending] = self._loop.create_future()
        self._transports: list[asyncio.BaseTransport] = []
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._loop.add_reader(program.fileno(), self._ended)

    async def connect(self, stdio: Stdio) -> "Self":
        """Take our ends of the pipes, or the terminal. Made by `Box.spawn`."""
        terminal = self._program.terminal
        if terminal >= 0:
            self.stdin = await self._writer(os.dup(terminal))
            self.stdout = await self._reader(os.dup(terminal))
            return self
        stdin, stdout, stderr = map(stdio.take, range(3))
        self.stdin = await self._writer(stdin) if stdin >= 0 else None
        self.stdout = await self._reader(stdout) if stdout >= 0 else None
        self.stderr = await self._reader(stderr) if stderr >= 0 else None
        return self

    async def _reader(self, fd: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        transport, _ = await self._loop.connect_read_pipe(lambda: _Protocol(reader), io.FileIO(fd, "rb"))
        self._transports.append(transport)
        return reader

    async def _writer(self, fd: int) -> asyncio.StreamWriter:
        unused = asyncio.StreamReader()
        transport, protocol = await self._loop.connect_write_pipe(lambda: _Protocol(unused), io.FileIO(fd, "wb"))
        self._transports.append(transport)
        return asyncio.StreamWriter(transport, protocol, None, self._loop)

    def _ended(self) -> None:
        ending = self._program.reap()
        if ending is None:
            return
        self._loop.remove_reader(self._program.fileno())
        if not self._end.done():
            self._end.set_result(ending)

    @property
    def pid(self) -> int:
        """Its pid as the host sees it."""
        return self._program.pid

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return exit_code_of(self._program.reap())

    async def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end, and give what `poll` gives. Raises TimeoutError if that is not in time."""
        code = exit_code_of(await asyncio.wait_for(asyncio.shield(self._end), timeout_s))
        assert code is not None
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

    async def close(self) -> None:
        """Kill it with its process group if it still runs, and close its streams."""
        if self._program.fileno() < 0:
            return
        self._program.kill_group()
        try:
            await self._killed()
        finally:
            self._loop.remove_reader(self._program.fileno())
            for transport in self._transports:
                transport.close()
            self._program.close()

    async def _killed(self) -> None:
        patience_s = self._program.patience_s
        done, _ = await asyncio.wait({self._end}, timeout=patience_s)
        if not done:
            self._program.destroy()
            await asyncio.shield(self._end)

    async def __aenter__(self) -> "Self":
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()


class _Protocol(asyncio.StreamReaderProtocol):
    """A terminal's master says EIO where the other side is closed: that is its end, and no error."""

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, OSError) and exc.errno == errno.EIO:
            exc = None
        super().connection_lost(exc)
