"""Processes by pid and start time, so that a pid used again is never taken for the old one (proc(5))."""

import errno
import os
import select
from _signal import SIGKILL, pidfd_send_signal

from boxwright.errors import HostError

HELPER_NAME = "boxwright-helper"  # of its copy in memory


def start_time(pid: int) -> int:
    """The start time of a living process in clock ticks since boot; 0 if there is none, or only a zombie."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        text = os.read(fd, 4096)
    except ProcessLookupError:
        return 0
    finally:
        os.close(fd)
    fields = text[text.rindex(b")") + 2 :].split()
    return 0 if fields[0] in {b"Z", b"X"} else int(fields[19])


def is_helper(pid: int) -> bool:
    """Whether a process executes the helper still, as far as we may look: not seen to execute anything else."""
    try:
        return os.readlink(f"/proc/{pid}/exe").startswith(f"/memfd:{HELPER_NAME}")
    except OSError:
        return True  # it has ended, or shows us nothing


def open_pidfd(pid: int, started: int) -> int:
    """A pidfd of the process that had this pid at `started`; -1 if it is gone. The caller owns it.

    0 for `started` is a process that had ended before anybody could note its start.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    except OSError as error:
        if error.errno == errno.EINVAL:  # not a thread group leader: the pid was taken by a thread
            return -1
        raise HostError(f"open a pidfd of process {pid}", error.errno or 0) from None
    if not started or start_time(pid) != started:
        os.close(fd)
        return -1
    return fd


def send_signal(pidfd: int, number: int) -> bool:
    """Send a signal; False if the process is gone."""
    try:
        pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise HostError(f"send signal {number}", error.errno or 0) from None
    return True


def wait_gone(pidfd: int, timeout_ms: int) -> bool:
    """Wait until the process has ended (a zombie has)."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_ms))


def kill_and_wait(pid: int, started: int, timeout_ms: int = 10_000) -> bool:
    """SIGKILL the process and wait until it has ended: whether it has. No error if it is gone."""
    fd = open_pidfd(pid, started)
    if fd < 0:
        return True
    try:
        send_signal(fd, SIGKILL)
        ended = wait_gone(fd, timeout_ms)
    finally:
        os.close(fd)
    reap(pid)
    return ended


_claimed: set[int] = set()


def claim(pid: int) -> None:
    """A child of ours that somebody in this process waits for: its end is for nobody else to take."""
    _claimed.add(pid)


def disclaim(pid: int) -> None:
    """It is reaped, or nobody waits for it any more."""
    _claimed.discard(pid)


def reap(pid: int) -> int | None:
    """Reap a child that has ended: its wait status, or None if it is no child of ours, is claimed or has not ended."""
    if pid in _claimed:
        return None
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return status if done else None


def kill_child(pid: int) -> None:
    """SIGKILL a child of ours that nobody has reaped yet, and reap it."""
    try:
        os.kill(pid, SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return  # somebody else's SIGCHLD handling reaped it


def callers_umask() -> int:
    """The umask of this process (proc_pid_status(5)); umask(2) would change it for a moment, for every thread."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
