"""Where messages go: a log file in the form that engines read, or the standard error.

With `--log FILE` every entry is one line of FILE: `time="…" level=error msg="…"`, or the same as a JSON object.
Engines show their users the last entry of level `error`, so a failing command writes exactly one, and last.
"""

import os
import time

from boxwright.errors import HostError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
_STANDARD_ERROR = ("", "/dev/stderr")
_FOREIGN = ("syslog:", "journald:")


class Log:
    """A log of level `threshold` and above. Calling it with a level and a message writes one entry."""

    def __init__(self, path: str = "", form: str = "text", threshold: str = "warning") -> None:
        """Open the file for appending, or make it. Raises UsageError where that fails."""
        self._entry = json_entry if form == "json" else text_entry
        self._plain = form == "text" and path in _STANDARD_ERROR
        self._threshold = LEVELS.index(threshold)
        self.to_stderr = path in _STANDARD_ERROR
        self._fd = 2 if self.to_stderr else _open(path)

    def __call__(self, level: str, message: str) -> None:
        """Write an entry unless it is below the threshold."""
        if LEVELS.index(level) < self._threshold:
            return
        if self._plain:
            write_all(2, f"{level}: {message}\n")
        else:
            write_all(self._fd, self._entry(level, message, _now()))

    def failure(self, line: str, rendered: str) -> None:
        """Write why the command failed: `line` to the log, `rendered` for people to the standard error."""
        if not self._plain:
            write_all(self._fd, self._entry("error", line, _now()))
        if self._plain or not self.to_stderr:
            write_all(2, f"error: {rendered}\n")


def text_entry(level: str, message: str, moment: str) -> str:
    """`time="…" level=… msg="…"`, as logrus writes it."""
    return f'time="{moment}" level={level} msg={_quoted(message)}\n'


def json_entry(level: str, message: str, moment: str) -> str:
    """One JSON object on one line."""
    return f'{{"level":"{level}","msg":{_quoted(message)},"time":"{moment}"}}\n'


def write_all(fd: int, text: str) -> None:
    """Write all of the text. Bytes that were no UTF-8 when they came in leave as they were.

    Raises BrokenPipeError where nobody reads it any more, and HostError.
    """
    data = text.encode("utf-8", "surrogateescape")
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise HostError("write the output", error.errno or 0) from None


def _quoted(message: str) -> str:
    quote: Callable[[str], str]
    from _json import encode_basestring as quote

    # bytes that are no UTF-8 would make the whole log unreadable as JSON
    return quote(message.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _open(path: str) -> int:
    if path.startswith(_FOREIGN):
        raise UsageError(f"cannot log to `{path}`: only files are supported")
    try:
        return os.open(path.removeprefix("file:"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"cannot open the log file `{path}`: {error.strerror}") from None
