"""Programs driven by a thread: the synchronous half of the library."""

import select
from time import monotonic

from boxwright.api.arguments import driver_for, options_for
from boxwright.api.records import Limits, Result
from boxwright.api.streams import Capture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from boxwright.api.arguments import Argv, StrPath, User
    from boxwright.api.driver import BoxDriver, Starting
    from boxwright.api.options import Bind
    from boxwright.api.program import Ending, Program
    from boxwright.api.streams import Input
    from boxwright.runtime.context import Runtime


def run(
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
    """Run `argv` in a box of its own, wait for its end, and give what it wrote and how it ended.

    The root filesystem is the directory `rootfs`, or that of the OCI `bundle` with the rest of its configuration, or,
    with neither, the host's own without what is private there. It is covered by an overlay that takes all writes and
    goes with the box, unless `overlay` is False; `read_only` lets nothing be written. With a bundle `argv` can be left
    out. `mounts` are paths of the host that the box sees, read-only unless they say otherwise.

    `stdin` are the bytes that the program reads, or a file or descriptor; None is nothing. `env` is put over a small
    default environment, which has nothing of the caller's. `network` is `none` (a loopback interface alone) or `host`;
    `publish` are ports of the host that lead to a `vm` box with the latter, as `HOSTPORT:PORT`.
    `user` is a uid or `(uid, gid)` in the box. `limits` None are the defaults of `Limits`.

    After `timeout_s` seconds (from the program's start) the box is killed, and what it wrote until then is in the
    result, whose `reason` is `timeout`. A program that fails is no exception: see `Result`.

    `isolation` is `linux`, or `vm` for a kernel of its own in a virtual machine. That takes seconds to boot, which are
    not in `timeout_s`, and `Usage` is what the guest's kernel has counted for the container.

    With `die_with_parent` the program dies with the calling thread, and the next process that makes a box removes what
    was left of this one; a program can shake this off (prctl(2), PR_SET_PDEATHSIG), and is found by that next process
    then.

    Safe to call from any number of threads. An exception that comes while it waits, KeyboardInterrupt too, kills and
    removes the box. Raises UsageError for arguments that make no box, ConfigError and UnsupportedError for a
    configuration that is wrong or cannot be honoured, HostError where the kernel refuses, HookError, and GuestError
    where a virtual machine does not boot or breaks off.
    """
    limits = limits or Limits()
    options = options_for(
        argv, rootfs=rootfs, bundle=bundle, isolation=isolation, limits=limits, env=env, mounts=mounts,
        network=network, publish=publish, cwd=cwd, user=user, hostname=hostname, read_only=read_only,
        overlay=overlay, name=name, die_with_parent=die_with_parent,
    )  # fmt: skip
    with Capture(stdin, limits.output_bytes) as capture:
        box = driver_for(options, runtime, idle=False)
        with start(box.begin(capture.stdio.theirs)) as program:
            try:
                capture.started()
                ending, timed_out = collect(capture, program, timeout_s, lambda: stop_box(box, program))
                return capture.result(ending, box.memory_peak_bytes(), box.oom_kills(), timed_out=timed_out)
            except BaseException:
                end_box(box, program)
                raise
            finally:
                box.remove()


def start(starting: "Starting") -> "Program":
    """Wait until the program runs. What fails, or is interrupted, is undone."""
    with starting:
        while (program := starting.step()) is None:
            continue
    return program


def collect(
    capture: Capture, program: "Program", timeout_s: float | None, kill: "Callable[[], Ending]"
) -> "tuple[Ending, bool]":
    """Serve the program's streams until it ends; after `timeout_s` it is killed. Its end, and whether that was why."""
    deadline = None if timeout_s is None else monotonic() + timeout_s
    poll = select.poll()
    poll.register(program.fileno(), select.POLLIN)
    for fd, writing in capture.wanted():
        poll.register(fd, select.POLLOUT if writing else select.POLLIN)
    ending = None
    while ending is None:
        left_ms = None if deadline is None else max(0.0, (deadline - monotonic()) * 1000)
        for fd, _events in poll.poll(left_ms):
            if fd == program.fileno():
                ending = program.reap()
                check(program)
            elif not capture.ready(fd):
                poll.unregister(fd)
        if ending is None and deadline is not None and monotonic() >= deadline:
            ending = kill()
            capture.drain()
            return ending, True
    capture.drain()
    return ending, False


def end_box(box: "BoxDriver", program: "Program", further: "Iterable[Program]" = ()) -> "Ending":
    """Kill a box by its first program, and wait for its end.

    `further` are the others that are children of ours: until they are reaped the first one does not end
    (pid_namespaces(7)).
    """
    program.destroy()
    box.thaw()  # what is paused does not even die
    for other in further:
        other.wait()
    return program.wait_killed()


def stop_box(box: "BoxDriver", program: "Program") -> "Ending":
    """As `end_box`, with what the program took told by its end."""
    program.kill()
    box.thaw()
    return program.wait_killed()


def check(program: "Program") -> None:
    """Raise why nobody knows how a program ended."""
    if program.fault is not None:
        raise program.fault


def end_program(box: "BoxDriver", program: "Program") -> "Ending":
    """Kill a program with its group, and wait for its end."""
    program.kill_group()
    box.thaw()
    return program.wait_killed()
