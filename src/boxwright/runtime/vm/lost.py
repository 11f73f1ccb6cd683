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
_HARMLESS = "PCI: Fatal: No config space access function found"  # a machine without PCI has none
EXITED = "exited"
_WHY = {
    EXITED: "the container's process has ended",
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
    message = reason(container) or error.message
    return GuestError(message, details=[*error.details, *(f"console: {line}" for line in last_lines(container))])


def reason(container: "Container") -> str:
    """Why the machine of a container ended, empty where it has not written that."""
    end = ending(container)
    if end is None:
        return ""
    return _WHY.get(end.reason, end.reason) + (f": {_in_words(end.detail)}" if end.detail else "")


def _in_words(detail: str) -> str:
    """`NAME status N` is how a program of the machine ended: the keeper's words."""
    name, word, number = detail.partition(" status ")
    if detail == "port" or (word and number == "0"):
        return "its kernel has panicked or switched the machine off"
    if not word or not number.isdigit():
        return detail
    status = int(number)
    how = f"killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
    return f"{name} has ended, {how}"


def why_stopped(container: "Container") -> str:
    """What ended the machine of a stopped container, empty where it was the end of the container's own process."""
    end = ending(container)
    if end is None:
        return "the machine was killed: its keeper had no time to say why"
    return "" if end.reason == EXITED else reason(container)


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
    return [printable(line) for line in text.splitlines() if line.strip() and _HARMLESS not in line]
