"""Programs driven by an event loop: the asynchronous half of the library."""

import asyncio
import os

from boxwright.api.arguments import driver_for, options_for
from boxwright.api.records import Limits, Result
from boxwright.api.running import check, end_box
from boxwright.api.streams import Capture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from typing import Self, TypeVar

    from boxwright.api.arguments import Argv, StrPath, User
    from boxwright.api.driver import BoxDriver, Starting
    from boxwright.api.options import Bind
    from boxwright.api.program import Ending, Program
    from boxwright.api.streams import Input
    from boxwright.runtime.context import Runtime

    T = TypeVar("T")


async def run(
    argv: "Argv | None" = None,
    *,
    rootfs: "StrPath | None" = None,
    bundle: "StrPath | None" = None,
    isolation: str = "linux",
    stdin: "Input" = None,
    timeout_s: float | None = None,
    limits: Limits | None = None,
    env: "Mapping[str, str] | None" = None,
    mounts: "Iterable[Bind]" = (),
    network: str = "none",
    publish: "Sequence[str]" = (),
    cwd: str | None = None,
    user: "User" = None,
    hostname: str = "",
    read_only: bool = False,
    overlay: bool = True,
    name: str | None = None,
    die_with_parent: bool = True,
    runtime: "Runtime | None" = None,
) -> Result:
    """Run `argv` in a box of its own, wait for its end, and give what it wrote and how it ended: `boxwright.run`.

    Cancelled, it kills and removes the box first.
    """
    limits = limits or Limits()
    options = options_for(
        argv, rootfs=rootfs, bundle=bundle, isolation=isolation, limits=limits, env=env, mounts=mounts,
        network=network, publish=publish, cwd=cwd, user=user, hostname=hostname, read_only=read_only,
        overlay=overlay, name=name, die_with_parent=die_with_parent,
    )  # fmt: skip
    with Capture(stdin, limits.output_bytes) as capture:
        box = driver_for(options, runtime, idle=False)
        with await start(await begin(box, capture.stdio.theirs)) as program:
            try:
                capture.started()
                ending, timed_out = await collect(capture, program, timeout_s, lambda: kill_box(box, program))
                peak_bytes, oom_kills = await ask(box, box.memory_peak_bytes), await ask(box, box.oom_kills)
                return capture.result(ending, peak_bytes, oom_kills, timed_out=timed_out)
            except BaseException:
                end_box(box, program)
                raise
            finally:
                box.remove()


async def readable(fd: int, timeout_s: float | None = None) -> None:
    """Wait until there is something to read, or the time is over. Nobody else may watch the descriptor in this loop."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _resolve, ready)
    try:
        await asyncio.wait({ready}, timeout=timeout_s)
    finally:
        loop.remove_reader(fd)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


async def ask(box: "BoxDriver", question: "Callable[[], T]") -> "T":
    """What the box answers, in a thread where it may have to wait for that."""
    return await asyncio.to_thread(question) if box.waits else question()


async def begin(box: "BoxDriver", stdio: "Sequence[int]") -> "Starting":
    """Begin making the box, in a thread where that takes long. Cancelled, it is undone."""
    if not box.waits:
        return box.begin(stdio)
    beginning = asyncio.create_task(asyncio.to_thread(box.begin, stdio))
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        beginning.add_done_callback(_undo)  # a thread cannot be interrupted
        await asyncio.wait({beginning})
        raise


def _undo(beginning: "asyncio.Task[Starting]") -> None:
    if beginning.exception() is None:
        error = asyncio.CancelledError()
        beginning.result().__exit__(type(error), error, None)


async def start(starting: "Starting") -> "Program":
    """Wait until the program runs. What fails, or is cancelled, is undone."""
    with starting:
        while True:
            await readable(starting.fileno(), starting.left_s())
            if (program := starting.step()) is not None:
                return program


async def collect(
    capture: Capture, program: "Program", timeout_s: float | None, kill: "Callable[[], Awaitable[Ending]]"
) -> "tuple[Ending, bool]":
    """Serve the program's streams until it ends; after `timeout_s` it is killed. Its end, and whether that was why."""
    with _Serving(capture) as serving:
        if await serving.until_end(program, timeout_s):
            ending, timed_out = program.reap(), False
        else:
            ending, timed_out = await kill(), True
    assert ending is not None
    if not timed_out:
        check(program)
    capture.drain()
    return ending, timed_out


class _Serving:
    """The loop's watch on a program's streams."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._loop = asyncio.get_running_loop()
        self._watched: dict[int, bool] = {}
        self._failed: asyncio.Future[None] = self._loop.create_future()

    def __enter__(self) -> "Self":
        for fd, writing in self._capture.wanted():
            watch = self._loop.add_writer if writing else self._loop.add_reader
            watch(fd, self._ready, fd)
            self._watched[fd] = writing
        return self

    def __exit__(self, *_exc: object) -> None:
        for fd in list(self._watched):
            self._forget(fd)
        self._failed.cancel()

    def _forget(self, fd: int) -> None:
        writing = self._watched.pop(fd)
        if writing:
            self._loop.remove_writer(fd)
        else:
            self._loop.remove_reader(fd)

    def _ready(self, fd: int) -> None:
        try:
            more = self._capture.ready(fd)
        except OSError as error:
            self._forget(fd)
            if not self._failed.done():
                self._failed.set_exception(error)
            return
        if not more:
            self._forget(fd)

    async def until_end(self, program: "Program", timeout_s: float | None) -> bool:
        """Wait for the program's end; False if it did not come in time. Raises what a stream raised meanwhile."""
        end: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(program.fileno(), _resolve, end)
        try:
            done, _ = await asyncio.wait({end, self._failed}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._loop.remove_reader(program.fileno())
        if self._failed in done:
            self._failed.result()
        return bool(done)


async def kill_box(box: "BoxDriver", program: "Program") -> "Ending":
    """Kill a box by its first program, and wait for its end."""
    program.kill()
    return await end_of(box, program)


async def kill_program(box: "BoxDriver", program: "Program") -> "Ending":
    """Kill a program with its group, and wait for its end."""
    program.kill_group()
    return await end_of(box, program)


async def end_of(box: "BoxDriver", *programs: "Program") -> "Ending":
    """Wait for the end of what was killed; that of the last one is given."""
    box.thaw()  # what is paused does not even die
    for program in programs:
        if program.reap() is None:
            await ended(program, program.patience_s)
        if program.reap() is None:
            program.destroy()
        while (ending := program.reap()) is None:
            await ended(program)
    assert ending is not None
    return ending


async def ended(program: "Program", timeout_s: float | None = None) -> None:
    """Wait until a program has ended, or the time is over, whoever else in the loop watches it."""
    fd = os.dup(program.fileno())
    try:
        await readable(fd, timeout_s)
    finally:
        os.close(fd)
