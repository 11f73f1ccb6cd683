"""Signals by name or number, without the `signal` module and its enums."""

import _signal

from boxwright.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

HIGHEST = 64
_RTMIN, _RTMAX = "RTMIN", "RTMAX"


def signal_number(word: str) -> int:
    """The number of `KILL`, `SIGKILL`, `kill`, `9`, `RTMIN+3` or `SIGRTMAX-1`. Raises UsageError.

    0 is allowed: kill(2) then only asks whether the process is there.
    """
    if word.isascii() and word.isdigit():
        if int(word) > HIGHEST:
            raise UsageError(f"there is no signal `{word}`: they end at {HIGHEST}")
        return int(word)
    name = word.upper().removeprefix("SIG")
    number = getattr(_signal, f"SIG{name}", None) if name.isalnum() else _realtime(name)
    if not isinstance(number, int) or name in {"_DFL", "_IGN"}:
        _fail(word)
    return number


def _realtime(name: str) -> int | None:
    """`RTMIN+n` and `RTMAX-n` within their range."""
    base, sign, offset = name[: len(_RTMIN)], name[len(_RTMIN) : len(_RTMIN) + 1], name[len(_RTMIN) + 1 :]
    if not (offset.isascii() and offset.isdigit() and len(offset) < 3):
        return None
    if (base, sign) == (_RTMIN, "+"):
        number = int(_signal.SIGRTMIN) + int(offset)
    elif (base, sign) == (_RTMAX, "-"):
        number = int(_signal.SIGRTMAX) - int(offset)
    else:
        return None
    return number if _signal.SIGRTMIN <= number <= _signal.SIGRTMAX else None


def _fail(word: str) -> "NoReturn":
    from boxwright.cli.suggest import did_you_mean

    known = [name[3:] for name in dir(_signal) if name.startswith("SIG") and name[3] != "_"]
    raise UsageError(f"there is no signal `{word}`", hint=did_you_mean(word.upper().removeprefix("SIG"), known))
