"""A program that runs in a box: a child of ours, held by a pidfd."""

import os
from _signal import SIGKILL
from _thread import allocate_lock
from time import monotonic

from boxwright._record import Record
from boxwright.errors import BoxwrightError
from boxwright.host.processes import claim, disclaim, send_signal, wait_gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class Ending(Record):
    """How a program ended: its wait status, its CPU time and the memory of its largest process."""

    status: int
    user_s: float
    system_s: float
    wall_s: float
    memory_peak_bytes: int

    @property
    def exit_code(self) -> int | None:
        """What it ended with by itself."""
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None

    @property
    def signal(self) -> int | None:
        """What ended it otherwise."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None


class Program:
    """Safe to use from several threads. `terminal` is its terminal's master (owned), -1 for none.

    `started_s` is when its start was begun (time.monotonic): it may have ended before we hear that it runs.
    """

    patience_s: float | None = None  # after it was killed; for ever where the kernel itself sees to its end
    fault: BoxwrightError | None = None  # why nobody knows how it ended

    def __init__(self, pid: int, started_s: float, terminal: int = -1) -> None:
        self.pid = pid
        self.terminal = terminal
        self.ending: Ending | None = None
        self._started_s = started_s
        self._lock = allocate_lock()
        self._pidfd = -1
        self._pidfd = os.pidfd_open(pid)
        claim(pid)  # who deletes the container meanwhile leaves its end to us

    def fileno(self) -> int:
        """Readable once the program has ended."""
        return self._pidfd

    def reap(self) -> Ending | None:
        """How it ended; None while it runs. Does not block."""
        with self._lock:
            if self.ending is None:
                self.ending = self._reap()
            return self.ending

    def _reap(self) -> Ending | None:
        try:
            done, status, used = os.wait4(self.pid, os.WNOHANG)
        except ChildProcessError:
            hint = "Boxwright's children are for it alone to wait for: SIGCHLD must not be ignored"
            raise BoxwrightError(f"somebody else has waited for process {self.pid}", hint=hint) from None
        if not done:
            return None
        disclaim(self.pid)
        wall_s = monotonic() - self._started_s
        return Ending(status, used.ru_utime, used.ru_stime, wall_s, used.ru_maxrss * 1024)

    def wait(self, timeout_s: float | None = None) -> Ending | None:
        """Wait for its end; None if it did not come in time."""
        end = None if timeout_s is None else monotonic() + timeout_s
        while (ending := self.reap()) is None:
            left_s = 3600.0 if end is None else end - monotonic()
            if not wait_gone(self._pidfd, max(0, int(left_s * 1000) + 1)) and end is not None and monotonic() >= end:
                return self.reap()
        return ending

    def signal(self, number: int) -> bool:
        """Send a signal; False if it has ended."""
        with self._lock:
            return self.ending is None and send_signal(self._pidfd, number)

    def kill(self) -> None:
        """SIGKILL to the very program, so that its end can tell what it took."""
        self.signal(SIGKILL)

    def destroy(self) -> None:
        """SIGKILL to what stands for it here."""
        with self._lock:
            if self.ending is None:
                send_signal(self._pidfd, SIGKILL)

    def kill_group(self) -> None:
        """SIGKILL to it and to its process group: what it has started, as far as that has not left the group."""
        with self._lock:
            if self.ending is not None:
                return
            # it leads its group, and its number is not used again before it is reaped
            try:
                os.killpg(self.pid, SIGKILL)
            except ProcessLookupError:
                send_signal(self._pidfd, SIGKILL)

    def wait_killed(self) -> Ending:
        """Wait for the end of what was killed."""
        ending = self.wait(self.patience_s)
        if ending is None:
            self.destroy()
            ending = self.wait()
        assert ending is not None
        return ending

    def close(self) -> None:
        """Give the descriptors back; the program is not touched, and nobody should be waiting for it."""
        if self._pidfd >= 0 and self.ending is None:
            disclaim(self.pid)
        for fd in (self._pidfd, self.terminal):
            if fd >= 0:
                os.close(fd)
        self._pidfd = self.terminal = -1

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
