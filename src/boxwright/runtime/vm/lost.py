"""Why a machine is gone: what the keeper wrote when it ended, and what the guest's kernel said last."""

import os

from boxwright._record import Record
from boxwright.errors import GuestError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.containers import Container

STATUS = "ending"
CONSOLE = "console.log"
_NUMBERS = 6
_TAIL_BYTES = 4096
_LINES = 8
_WHY = {
    "exited": "the container's process has ended",
    "stopped": "the machine was stopped",
    "guest": "the guest is lost",
    "protocol": "the guest broke the protocol, and was stopped",
    "child": "a program of the machine could not be started",
}


class Ending(Record):
    """The last line of a keeper or a proxy: why it ended, what the guest said of its process, and more in words.

    The numbers are those of `frames.Exit`; they mean nothing unless `reason` is `exited`.
    """

    reason: str
    status: int = 0
    user_us: int = 0
    system_us: int = 0
    resident_bytes: int = 0
    oom_kills: int = 0
    peak_bytes: int = 0
    detail: str = ""


def ending(container: "Container") -> Ending | None:
    """How the machine of a container ended; None while it runs, and where the keeper was killed."""
    try:
        with open(container.path(STATUS), "rb") as file:
            return ending_of(file.read())
    except FileNotFoundError:
        return None


def ending_of(line: bytes) -> Ending | None:
    """What a keeper or a proxy has written; None for nothing."""
    words = line.decode("utf-8", "replace").strip().split(" ", 1 + _NUMBERS)
    if len(words) <= _NUMBERS or not all(word.isdigit() for word in words[1 : 1 + _NUMBERS]):
        return None
    status, user_us, system_us, resident_bytes, oom_kills, peak_bytes = map(int, words[1 : 1 + _NUMBERS])
    detail = printable("".join(words[1 + _NUMBERS :]))
    return Ending(words[0], status, user_us, system_us, resident_bytes, oom_kills, peak_bytes, detail)


def lost(container: "Container", error: GuestError) -> GuestError:
    """The error with what is known of the machine's end."""
    end = ending(container)
    message = error.message
    if end is not None:
        message = _WHY.get(end.reason, message) + (f": {end.detail}" if end.detail else "")
    return GuestError(message, details=[*error.details, *(f"console: {line}" for line in last_lines(container))])


def last_lines(container: "Container") -> list[str]:
    """The end of what the guest's kernel wrote to its console."""
    return console_lines(container, _TAIL_BYTES)[-_LINES:]


def console_lines(container: "Container", most_bytes: int) -> list[str]:
    """The lines in the last `most_bytes` of the guest's console."""
    try:
        with open(container.path(CONSOLE), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - most_bytes))
            text = file.read(most_bytes).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return [printable(line) for line in text.splitlines() if line.strip()]
