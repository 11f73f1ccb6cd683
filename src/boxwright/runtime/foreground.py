"""A program in the foreground: signals passed on, a terminal relayed, its end awaited."""

import _signal
import fcntl
import os
import select
from time import monotonic

from boxwright.host.processes import send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Self

    from boxwright.runtime.notify import NotifyProxy
    from boxwright.runtime.relay import Relay

TIMED_OUT = 124
SIGRTMIN_3 = 37  # halt, to systemd
STOPPING = frozenset({_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP})
# what the kernel ends a pid namespace's init by when it calls reboot(2): pid_namespaces(7)
HALTED = frozenset({_signal.SIGINT, _signal.SIGHUP})
_TIOCGWINSZ, _TIOCSWINSZ = 0x5413, 0x5414
_NOT_PASSED_ON = frozenset(
    {
        _signal.SIGKILL,
        _signal.SIGSTOP,
        _signal.SIGCHLD,
        _signal.SIGSEGV,
        _signal.SIGBUS,
        _signal.SIGFPE,
        _signal.SIGILL,
        _signal.SIGPIPE,
        _signal.SIGURG,
        _signal.SIGTSTP,
        _signal.SIGTTIN,
        _signal.SIGTTOU,
        _signal.SIGPROF,
        _signal.SIGTRAP,
        _signal.SIGABRT,
        _signal.SIGSYS,
    }
)


def _note(_number: int, _frame: "FrameType | None") -> None:
    """A handler that does nothing: the number comes by the wake-up descriptor."""


class Foreground:
    """Takes over the signals, and the terminal if there is one, until it is left."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal and os.isatty(0)
        self._saved_terminal: list[object] | None = None
        self._saved_handlers: dict[int, _signal.Handler] = {}
        self._signals, self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old_wakeup = -1
        self._in_main_thread = True
        self._stop_signal = 0

    def __enter__(self) -> "Self":
        try:
            self._old_wakeup = _signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        except ValueError:  # not the main thread: signals are not ours there
            self._in_main_thread = False
            return self
        for number in range(1, 32):
            if number not in _NOT_PASSED_ON:
                self._saved_handlers[number] = _signal.signal(number, _note)
        return self

    def __exit__(
        self, _kind: "type[BaseException] | None", _error: "BaseException | None", _trace: "TracebackType | None"
    ) -> None:
        self._restore_terminal()
        if self._in_main_thread:
            for number, handler in self._saved_handlers.items():
                _signal.signal(number, handler)
            _signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._signals)
        os.close(self._wakeup)

    def follow(
        self,
        pid: int,
        master: int = -1,
        timeout_s: float | None = None,
        notify: "NotifyProxy | None" = None,
        *,
        init_system: bool = False,
    ) -> int:
        """Pass signals to `pid` and bytes through the terminal's `master` (owned) until it ends; its exit status.

        What the program tells `notify` (borrowed) is passed on meanwhile. After `timeout_s` it is killed, and the
        status is 124, as timeout(1) has it; output that nobody has read by then is dropped. An init system is told to
        shut down as it understands it (systemd(1), SIGRTMIN+3), and that it has is no failure.
        """
        self._stop_signal = SIGRTMIN_3 if init_system else 0
        pidfd = os.pidfd_open(pid)
        relay = None
        try:
            if master >= 0:
                relay = self._begin_relay(master)
            deadline = None if timeout_s is None else monotonic() + timeout_s
            ended = self._wait_for_end(pidfd, master, deadline, notify, relay)
            if not ended:
                send_signal(pidfd, _signal.SIGKILL)
        finally:
            os.close(pidfd)
            if relay is not None:
                relay.close()
            if master >= 0:
                os.close(master)
            self._restore_terminal()
        _pid, status = os.waitpid(pid, 0)
        if init_system and ended and os.WIFSIGNALED(status) and os.WTERMSIG(status) in HALTED:
            return 0
        return exit_status(status) if ended else TIMED_OUT

    def _begin_relay(self, master: int) -> "Relay":
        from boxwright.runtime.relay import Relay

        self._raw_terminal(master)
        return Relay(master)

    def _wait_for_end(
        self, pidfd: int, master: int, deadline: float | None, notify: "NotifyProxy | None", relay: "Relay | None"
    ) -> bool:
        """Until the process ends (True) or the time is up (False)."""
        always = [pidfd, self._signals, *([notify.fileno()] if notify is not None else [])]
        while True:
            events = dict.fromkeys(always, select.POLLIN)
            for pump in relay.pumps if relay is not None else ():
                for fd, event in pump.wants():
                    events[fd] = events.get(fd, 0) | event
            ready = _poll(events, deadline)
            if self._signals in ready:
                self._pass_on(pidfd, master)
            for pump in relay.pumps if relay is not None else ():
                pump.move(ready)
            if notify is not None:
                notify.forward()  # with what was said last, before the end is told
            if pidfd in ready:
                if relay is not None:
                    self._drain(relay, deadline)
                return True
            if _is_over(deadline):
                return False

    def _drain(self, relay: "Relay", deadline: float | None) -> None:
        """Write what the program has left, unless the time is up or we are told to end: nobody may be reading."""
        while (target := relay.output.last()) is not None:
            ready = _poll({target: select.POLLOUT, self._signals: select.POLLIN}, deadline)
            if self._signals in ready and not STOPPING.isdisjoint(os.read(self._signals, 64)):
                return
            relay.output.move(ready)
            if _is_over(deadline):
                return

    def _pass_on(self, pidfd: int, master: int) -> None:
        for number in os.read(self._signals, 64):
            if number == _signal.SIGWINCH and master >= 0:
                _copy_size(master)
            else:
                send_signal(pidfd, self._stop_signal if self._stop_signal and number in STOPPING else number)

    def _raw_terminal(self, master: int) -> None:
        if not self._terminal:
            return
        import termios
        import tty

        self._saved_terminal = termios.tcgetattr(0)
        tty.setraw(0)
        _copy_size(master)

    def _restore_terminal(self) -> None:
        if self._saved_terminal is None:
            return
        import termios

        # not TCSADRAIN: a terminal that was stopped (Ctrl-S) would be waited for
        termios.tcsetattr(0, termios.TCSANOW, self._saved_terminal)  # type: ignore[arg-type]
        self._saved_terminal = None


def exit_status(status: int) -> int:
    """The exit status of a shell for a wait status: 128 + n for signal n."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _poll(events: "dict[int, int]", deadline: float | None) -> "dict[int, int]":
    """What is ready, at the deadline at the latest."""
    poll = select.poll()
    for fd, event in events.items():
        poll.register(fd, event)
    return dict(poll.poll(None if deadline is None else max(0.0, deadline - monotonic()) * 1000))


def _is_over(deadline: float | None) -> bool:
    return deadline is not None and monotonic() >= deadline


def _copy_size(master: int) -> None:
    try:
        size = fcntl.ioctl(0, _TIOCGWINSZ, bytes(8))
    except OSError:
        return  # our own standard input is no terminal
    fcntl.ioctl(master, _TIOCSWINSZ, size)
