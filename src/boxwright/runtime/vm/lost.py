"""Why a machine is gone: what the keeper wrote when it ended, and what the guest's kernel said last."""

import os

from boxwright._record import Record
from boxwright.errors import GuestError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.containers import Container

STATUS = "ending"
CONSOLE = "console.log"
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
    """The keeper's last line: why, the wait status of the init, its CPU time and greatest size, and more in words."""

    reason: str
    status: int = 0
    user_us: int = 0
    system_us: int = 0
    resident_bytes: int = 0
    detail: str = ""


def ending(container: "Container") -> Ending | None:
    """How the machine of a container ended; None while it runs, and where the keeper was killed."""
    try:
        with open(container.path(STATUS), encoding="utf-8", errors="replace") as file:
            words = file.read().strip().split(" ", 5)
    except FileNotFoundError:
        return None
    if len(words) < 5 or not all(word.lstrip("-").isdigit() for word in words[1:5]):
        return None
    status, user_us, system_us, resident_bytes = map(int, words[1:5])
    detail = printable(words[5]) if len(words) > 5 else ""
    return Ending(words[0], status, user_us, system_us, resident_bytes, detail)


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
