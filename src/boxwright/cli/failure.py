"""How a failed command ends: one error entry for the engine, a readable text for people."""

import os

from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.log import Log
    from boxwright.errors import BoxwrightError


def report(error: "BoxwrightError", log: "Log") -> int:
    """Write the error and return the status to leave with."""
    log.failure(one_line(error), error.render())
    return error.exit_code


def one_line(error: "BoxwrightError") -> str:
    """Message, details and hint on one line: an engine shows its user this entry and no other.

    Docker's client looks for the kernel's answer in the words of Go, which begin with a small letter, and gives 127
    or 126 where it finds them.
    """
    message = error.message
    if isinstance(error, HostError) and error.errno:
        words = os.strerror(error.errno)
        message = message.replace(words, words[:1].lower() + words[1:])
    parts = [message, *(detail.strip() for detail in error.details)]
    if error.hint:
        parts.append(f"hint: {error.hint}")
    return "; ".join(parts).replace("   (", " (")


def internal(error: BaseException, log: "Log", *, debug: bool) -> None:
    """Write an exception that is a fault of ours; with `debug`, where it arose."""
    if debug:
        import traceback

        traceback.print_exception(error)
    text = f"internal error: {type(error).__name__}: {error}".splitlines()[0]
    hint = "" if debug else "\n  hint: `boxwright --debug …` shows where it arose"
    log.failure(text, f"{text}{hint}")
