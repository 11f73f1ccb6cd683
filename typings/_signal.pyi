# The C part of `signal`, which is loaded with the interpreter; `signal` itself brings `enum`.
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

SIGABRT: int
SIGBUS: int
SIGCHLD: int
SIGCONT: int
SIGFPE: int
SIGHUP: int
SIGILL: int
SIGINT: int
SIGKILL: int
SIGPIPE: int
SIGPROF: int
SIGQUIT: int
SIGRTMAX: int
SIGRTMIN: int
SIGSEGV: int
SIGSTOP: int
SIGSYS: int
SIGTERM: int
SIGTRAP: int
SIGTSTP: int
SIGTTIN: int
SIGTTOU: int
SIGURG: int
SIGWINCH: int
SIG_DFL: int
SIG_IGN: int

Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | None

def signal(number: int, handler: Handler, /) -> Handler: ...
def set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = ...) -> int: ...
def pidfd_send_signal(pidfd: int, signal: int, siginfo: None = ..., flags: int = ..., /) -> None: ...
