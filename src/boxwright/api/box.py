"""A box that stays: run programs in it, put files into it and get them back, pause it, change its limits."""

from _signal import SIGKILL
from _thread import allocate_lock

from boxwright.api.arguments import driver_for, options_for, process_for, resources_for
from boxwright.api.process import Process
from boxwright.api.records import GIB, Limits, Result, Stats
from boxwright.api.running import collect, end_box, end_program, start
from boxwright.api.stats import stats_from
from boxwright.api.streams import DEVNULL, PIPE, Capture, Stdio
from boxwright.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Self

    from boxwright.api.arguments import Argv, StrPath, User
    from boxwright.api.driver import BoxDriver
    from boxwright.api.options import Bind
    from boxwright.api.program import Program
    from boxwright.api.streams import Input, Stream
    from boxwright.runtime.context import Runtime


class BaseBox:
    """What a box has in common with its asyncio twin: all that is done at once."""

    def __init__(
        self,
        *,
        rootfs: "StrPath | None" = None,
        bundle: "StrPath | None" = None,
        isolation: str = "linux",
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
    ) -> None:
        """The arguments are those of `boxwright.run`; they are checked here, and nothing is made yet."""
        self._limits = limits or Limits()
        # a command is only there for `exec` to take the rest over from
        argv = None if bundle is not None else ("/bin/sh",)
        self._options = options_for(
            argv, rootfs=rootfs, bundle=bundle, isolation=isolation, limits=self._limits, env=env, mounts=mounts,
            network=network, publish=publish, cwd=cwd, user=user, hostname=hostname, read_only=read_only,
            overlay=overlay, name=name, die_with_parent=die_with_parent,
        )  # fmt: skip
        self._runtime = runtime
        self._lock = allocate_lock()
        self._opening = False
        self._driver: BoxDriver | None = None
        self._init: Program | None = None
        self._programs: list[Program] = []

    def _prepare(self) -> "BoxDriver":
        with self._lock:
            if self._opening or self._driver is not None:
                raise StateError(self._shown_name, "open", "closed")
            self._opening = True
        try:
            return driver_for(self._options, self._runtime, idle=True)
        except BaseException:
            self._unprepare()
            raise

    def _unprepare(self) -> None:
        with self._lock:
            self._opening = False

    def _opened(self, driver: "BoxDriver", init: "Program") -> None:
        with self._lock:
            self._driver, self._init, self._opening = driver, init, False

    def _take(self) -> "tuple[BoxDriver, Program, list[Program]] | None":
        """The box with all its programs, for who is going to remove it."""
        with self._lock:
            driver, init, programs = self._driver, self._init, self._programs
            self._driver = self._init = None
            self._programs = []
        return None if driver is None or init is None else (driver, init, programs)

    def _note(self, program: "Program") -> "Program":
        """Remember a program that was started, as it has to be reaped for the box to end."""
        with self._lock:
            self._programs = [known for known in self._programs if known.ending is None]
            self._programs.append(program)
        return program

    def _open(self) -> "BoxDriver":
        driver = self._driver
        if driver is None:
            raise StateError(self._shown_name, "closed", "open")
        return driver

    @property
    def _shown_name(self) -> str:
        return self._driver.id if self._driver else self._options.name or "box"

    @property
    def id(self) -> str:
        """The container's id, by which the command line finds it too."""
        return self._open().id

    @property
    def limits(self) -> Limits:
        """The limits in force, as far as they were set by us."""
        return self._limits

    def state(self) -> "dict[str, Any]":
        """The state as the standard defines it (runtime.md#runtimeState)."""
        return self._open().state()

    # --- what is done to it ---

    def kill(self, signal: int = SIGKILL) -> None:
        """Send a signal to the box's init: on SIGKILL and SIGTERM it ends, with everything in the box.

        The box is still to be closed. Raises StateError if its init has ended already.
        """
        self._open().signal(signal)

    def pause(self) -> None:
        """Stop everything in the box where it is. Raises StateError if it is paused, HostError without a freezer."""
        self._open().pause()

    def resume(self) -> None:
        """Let it go on. Raises StateError unless it is paused."""
        self._open().resume()

    def update(self, limits: Limits) -> None:
        """Change the limits on memory, CPUs and pids, and that of output for what is run from now on.

        `root_bytes`, `file_bytes` and `open_files` are given when the box is made, and stay: UsageError for a change.
        Raises UnsupportedError without control groups, HostError where the kernel refuses.
        """
        from boxwright.errors import UsageError

        fixed = ("root_bytes", "file_bytes", "open_files")
        changed = [name for name in fixed if getattr(limits, name) != getattr(self._limits, name)]
        if changed:
            raise UsageError(f"`{changed[0]}` cannot be changed in a box that is open")
        self._open().update(resources_for(limits))
        self._limits = limits

    def stats(self) -> Stats:
        """What the box takes now."""
        box = self._open()
        return stats_from(box.statistics(), box.oom_kills())


class Box(BaseBox):
    """A box without a program of its own, for as long as it is open.

        with boxwright.Box(rootfs="/srv/root") as box:
            box.put(b"print(6 * 7)", "/tmp/answer.py")
            print(box.exec(["python3", "/tmp/answer.py"]).stdout)

    Entering makes it, leaving kills and removes it, whatever happened in between. The arguments are those of `run`.
    All methods can be called from several threads. A box with `die_with_parent` ends with this process, whatever way
    that dies, and the next process that makes a box removes what was left of it.

    Raises what `run` raises; every method but `close` raises StateError on a box that is not open.
    """

    # --- its life ---

    def open(self) -> "Self":
        """Make the box; `with` does it by itself. Raises what is wrong with it, and nothing is left then."""
        driver = self._prepare()
        try:
            init = start(driver.begin(()))
        except BaseException:
            self._unprepare()
            raise
        self._opened(driver, init)
        return self

    def close(self) -> None:
        """Kill everything in the box and remove it. Nothing happens if it is not open."""
        taken = self._take()
        if taken is None:
            return
        driver, init, programs = taken
        with init:
            try:
                end_box(driver, init, programs)
            finally:
                driver.remove()

    def __enter__(self) -> "Self":
        return self.open()

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # --- programs ---

    def exec(
        self,
        argv: "Argv",
        *,
        stdin: "Input" = None,
        timeout_s: float | None = None,
        env: "Mapping[str, str] | None" = None,
        cwd: str | None = None,
        user: "User" = None,
    ) -> Result:
        """Run a program in the box, wait for its end, and give what it wrote and how it ended.

        What is not said is as the box was made with; `env` is put over its environment. After `timeout_s` seconds the
        program is killed with its process group; what has left the group goes on until the box is closed. As for
        memory, `reason` looks at the whole box.
        """
        box = self._open()
        process = process_for(box.process, argv, env=env, cwd=cwd, user=user, terminal=False)
        with Capture(stdin, self._limits.output_bytes) as capture:
            before = box.oom_kills()
            with self._note(start(box.begin_process(process, capture.stdio.theirs))) as program:
                capture.started()
                try:
                    ending, timed_out = collect(capture, program, timeout_s, lambda: end_program(box, program))
                except BaseException:
                    end_program(box, program)
                    raise
                oom_kills = box.oom_kills() - before
                return capture.result(ending, box.memory_peak_bytes(), oom_kills, timed_out=timed_out)

    def spawn(
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
        """Start a program in the box and give it at once, with its streams.

        Each stream is PIPE, DEVNULL, or a file or descriptor of the caller's. With `tty` the program has a terminal,
        and `Process.stdin` and `Process.stdout` are its other side.
        """
        box = self._open()
        process = process_for(box.process, argv, env=env, cwd=cwd, user=user, terminal=tty)
        with Stdio(*((DEVNULL,) * 3 if tty else (stdin, stdout, stderr))) as stdio:
            program = self._note(start(box.begin_process(process, stdio.theirs)))
            return Process(program, stdio)

    # --- files ---

    def put(self, source: "bytes | StrPath", path: str, *, mode: int | None = None, user: "User" = None) -> None:
        """Put `source` at `path` in the box: bytes as the content of a file, a path of the host as that file, or as
        that directory with all that is in it.

        `path` is absolute, and the place itself, not a directory to put it into. Directories on the way are made if
        they are missing. A file or link that is there is replaced, at once and as a whole; a directory that is there
        is kept and filled. `mode` is that of the file (else the permissions of the source; 0o644 for bytes). The owner
        is root in the box, or `user`.

        Links on the way to `path` lead where they would lead in the box, never out of it, whatever a program in the
        box does meanwhile. Raises HostError, and UsageError for a source that is no file, directory or link.
        """
        self._open().put(source, path, mode=mode, user=user)

    def get(self, path: str, target: "StrPath | None" = None, *, most_bytes: int | None = GIB) -> bytes:
        """Get the file at `path` in the box: its content, or, with `target`, written to that new path of the host.

        With a `target` a directory can be got, with all that is in it: files, directories and links (as links, so
        mind where they lead), with their permissions but without set-id bits and owners; other kinds of files are left
        out. b"" is returned then. More than `most_bytes` in all is an error, for which what was written is removed.

        Links in `path` are followed as in the box, never out of it. Only regular files are read, and none of the
        kernel's own (procfs, sysfs). Raises HostError.
        """
        return self._open().get(path, target, most_bytes)


__all__ = ["Box", "Process"]
