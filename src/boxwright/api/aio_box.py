"""A box that stays, on asyncio."""

import asyncio

from boxwright.api.aio_process import Process
from boxwright.api.aio_running import ask, begin, collect, end_of, kill_program, start
from boxwright.api.arguments import process_for
from boxwright.api.box import BaseBox
from boxwright.api.records import GIB, Result
from boxwright.api.running import end_box, end_program
from boxwright.api.streams import DEVNULL, PIPE, Capture, Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from boxwright.api.arguments import Argv, StrPath, User
    from boxwright.api.streams import Input, Stream


class Box(BaseBox):
    """A box without a program of its own, for as long as it is open: `boxwright.Box` on asyncio.

        async with boxwright.aio.Box(rootfs="/srv/root") as box:
            print((await box.exec(["uname", "-n"])).stdout)

    `kill`, `pause`, `resume`, `update`, `stats`, `state` are not awaited: they are done at once, or within the
    milliseconds that a guest takes to answer.
    """

    async def open(self) -> "Self":
        """Make the box; `async with` does it by itself."""
        driver = self._prepare()
        try:
            init = await start(await begin(driver, ()))
        except BaseException:
            self._unprepare()
            raise
        self._opened(driver, init)
        return self

    async def close(self) -> None:
        """Kill everything in the box and remove it. Nothing happens if it is not open."""
        taken = self._take()
        if taken is None:
            return
        driver, init, programs = taken
        with init:
            try:
                init.destroy()
                await end_of(driver, *programs, init)
            except BaseException:
                end_box(driver, init, programs)
                raise
            finally:
                driver.remove()

    async def __aenter__(self) -> "Self":
        return await self.open()

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def exec(
        self,
        argv: "Argv",
        *,
        stdin: "Input" = None,
        timeout_s: float | None = None,
        env: "Mapping[str, str] | None" = None,
        cwd: str | None = None,
        user: "User" = None,
    ) -> Result:
        """Run a program in the box, and give what it wrote and how it ended: `boxwright.Box.exec`.

        Cancelled, it kills the program with its process group first.
        """
        box = self._open()
        process = process_for(box.process, argv, env=env, cwd=cwd, user=user, terminal=False)
        with Capture(stdin, self.limits.output_bytes) as capture:
            before = await ask(box, box.oom_kills)
            with self._note(await start(box.begin_process(process, capture.stdio.theirs))) as program:
                capture.started()
                try:
                    ending, timed_out = await collect(capture, program, timeout_s, lambda: kill_program(box, program))
                except BaseException:
                    end_program(box, program)
                    raise
                oom_kills = await ask(box, box.oom_kills) - before
                return capture.result(ending, await ask(box, box.memory_peak_bytes), oom_kills, timed_out=timed_out)

    async def spawn(
        self,
        argv: "Argv",
        *,
        stdin: "Stream" = PIPE,
        stdout: "Stream" = PIPE,
        stderr: "Stream" = PIPE,
        tty: bool = False,
        env: "Mapping[str, str] | None" = None,
        cwd: str | None = None,
        user: "User" = None,
    ) -> Process:
        """Start a program in the box and give it at once, with its streams: `boxwright.Box.spawn`."""
        box = self._open()
        process = process_for(box.process, argv, env=env, cwd=cwd, user=user, terminal=tty)
        with Stdio(*((DEVNULL,) * 3 if tty else (stdin, stdout, stderr))) as stdio:
            program = self._note(await start(box.begin_process(process, stdio.theirs)))
            return await Process(program).connect(stdio)

    async def put(self, source: "bytes | StrPath", path: str, *, mode: int | None = None, user: "User" = None) -> None:
        """Put a file or directory into the box: `boxwright.Box.put`."""
        await asyncio.to_thread(self._open().put, source, path, mode=mode, user=user)

    async def get(self, path: str, target: "StrPath | None" = None, *, most_bytes: int | None = GIB) -> bytes:
        """Get a file or directory from the box: `boxwright.Box.get`."""
        return await asyncio.to_thread(self._open().get, path, target, most_bytes)
