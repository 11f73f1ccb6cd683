"""Hooks that the runtime itself runs: poststart and poststop (config.md#configHooks).

The others are steps of the plan, run by the helper at their place.
"""

import os
import select
from _signal import SIGKILL
from time import monotonic

from boxwright.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.spec.types import Hook


def run_hook(kind: str, hook: "Hook", state: str) -> None:
    """Run one hook with the state on its stdin and wait for it. Raises HookError on a failure or a timeout.

    A hook that names no environment gets ours.
    """
    stdin = os.memfd_create("state", os.MFD_CLOEXEC)
    try:
        os.write(stdin, state.encode())
        os.lseek(stdin, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, 2, 1)]
        env = dict(entry.partition("=")[::2] for entry in hook.env) or os.environ
        try:
            pid = os.posix_spawn(hook.path, hook.args or (hook.path,), env, file_actions=actions, setpgroup=0)
        except OSError as error:
            raise HookError(kind, hook.path, f"cannot be run: {error.strerror}", pointer=hook.pointer) from None
    finally:
        os.close(stdin)
    _wait(kind, hook, pid)


def _wait(kind: str, hook: "Hook", pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        deadline = monotonic() + hook.timeout if hook.timeout else None
        ended = bool(poll.poll(None if deadline is None else max(0.0, deadline - monotonic()) * 1000))
        if not ended:
            os.killpg(pid, SIGKILL)
    finally:
        os.close(pidfd)
    _pid, status = os.waitpid(pid, 0)
    if not ended:
        raise HookError(kind, hook.path, f"did not end within {hook.timeout} s", pointer=hook.pointer)
    if status:
        raise HookError(kind, hook.path, describe_status(status), pointer=hook.pointer)


def describe_status(status: int) -> str:
    """`exited with status 3` or `was killed by signal 9`, from a wait status."""
    if os.WIFSIGNALED(status):
        return f"was killed by signal {os.WTERMSIG(status)}"
    return f"exited with status {os.WEXITSTATUS(status)}"
