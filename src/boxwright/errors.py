"""One hierarchy of errors: the fields come first, the text is derived from them.

Messages are lower case without a full stop, name the object in backticks and put the cause first. The library
raises; only `cli` prints and exits.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class BoxwrightError(Exception):
    """Base of everything Boxwright raises on purpose.

    `message` is one line; `details` are further lines (where it comes from); `hint` says what can be done.
    """

    exit_code = 1

    def __init__(self, message: str, *, details: "Sequence[str]" = (), hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.hint = hint

    def __str__(self) -> str:
        return self.message

    def render(self) -> str:
        """The whole text for a person: message, indented details, hint."""
        lines = [self.message, *(f"  {detail}" for detail in self.details)]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class UsageError(BoxwrightError):
    """The command line or an argument of the library is wrong."""


class Problem:
    """One rule of the standard that a document breaks.

    `pointer` is the JSON pointer (RFC 6901) of the offending value, `rule` says what is wrong, `anchor` names the
    section of the standard (`config.md#mounts`), `value` is the offending value where it is worth showing.
    `fatal` is False for what the standard only wants logged.
    """

    __slots__ = ("anchor", "fatal", "hint", "pointer", "rule", "value")

    def __init__(
        self,
        pointer: str,
        rule: str,
        anchor: str = "",
        *,
        value: object = None,
        hint: str | None = None,
        fatal: bool = True,
    ) -> None:
        self.pointer = pointer
        self.rule = rule
        self.anchor = anchor
        self.value = value
        self.hint = hint
        self.fatal = fatal

    def __str__(self) -> str:
        where = self.pointer or "/"
        shown = "" if self.value is None else f" = {shorten(repr(self.value))}"
        section = f" ({self.anchor})" if self.anchor else ""
        return printable(f"{shorten(where)}{shown}: {shorten(self.rule)}{section}")

    def __repr__(self) -> str:
        return f"Problem({self.pointer!r}, {self.rule!r}, {self.anchor!r})"


class ConfigError(BoxwrightError):
    """The configuration breaks the standard. Carries every problem found, not only the first."""

    def __init__(self, problems: "Sequence[Problem]", *, source: str = "config.json") -> None:
        self.problems = tuple(problems)
        self.source = source
        first = self.problems[0]
        count = len(self.problems)
        head = f"{source}: {first}" if count == 1 else f"{source} has {count} problems: {first}"
        super().__init__(head, details=[str(problem) for problem in self.problems[1:]], hint=first.hint)


class UnsupportedError(BoxwrightError):
    """The standard allows `property`, and this box or this host cannot honour it.

    Raised before anything is created: never silently weaker.
    """

    def __init__(self, prop: str, box: str, why: str, *, hint: str | None = None) -> None:
        self.property = prop
        self.box = box
        self.why = why
        super().__init__(f"`{prop}` is not supported by the `{box}` box here: {why}", hint=hint)


class StateError(BoxwrightError):
    """The container is not in the state that the operation wants."""

    def __init__(self, container_id: str, status: str, wanted: str, *, hint: str | None = None) -> None:
        self.id = container_id
        self.status = status
        self.wanted = wanted
        super().__init__(f"container `{container_id}` is {status}, not {wanted}", hint=hint)


class NotFoundError(BoxwrightError):
    """No container of that id."""

    def __init__(self, container_id: str) -> None:
        self.id = container_id
        super().__init__(f"container `{container_id}` does not exist")


class ExistsError(BoxwrightError):
    """The id is taken."""

    def __init__(self, container_id: str) -> None:
        self.id = container_id
        super().__init__(f"container `{container_id}` already exists")


class HostError(BoxwrightError):
    """The kernel refused an operation.

    `op` is what was tried in words, `errno` the kernel's answer (0 where there is none), `path` its object,
    `pointer` the line of config.json that asked for it (empty if none did). `cause` says more exactly than the errno
    what is wrong; `notes` are further lines, such as what the kernel logged.
    """

    def __init__(
        self,
        op: str,
        errno: int,
        *,
        path: str = "",
        pointer: str = "",
        anchor: str = "",
        value: object = None,
        hint: str | None = None,
        cause: str = "",
        notes: "Sequence[str]" = (),
    ) -> None:
        self.op = op
        self.errno = errno
        self.path = path
        self.pointer = pointer
        self.anchor = anchor
        self.value = value
        self.cause = cause
        details = []
        if pointer:
            shown = "" if value is None else f" = {_shown(value)}"
            section = f"   ({anchor})" if anchor else ""
            details.append(f"from {pointer}{shown}{section}")
        why = ": ".join(part for part in (cause, describe_errno(errno) if errno else "") if part)
        super().__init__(f"cannot {op}: {why}", details=[*details, *notes], hint=hint)


class HookError(BoxwrightError):
    """A hook failed or ran out of time. `status` is its wait status, or None on a timeout and where it could not be
    run at all. `output` is the end of what it wrote.
    """

    def __init__(
        self,
        kind: str,
        path: str,
        why: str,
        *,
        pointer: str = "",
        status: int | None = None,
        output: str = "",
        hint: str | None = None,
    ) -> None:
        self.kind = kind
        self.path = path
        self.pointer = pointer
        self.status = status
        self.output = output
        details = [f"from {pointer}   (config.md#configHooks)"] if pointer else []
        details += [f"it wrote: {line}" for line in output.splitlines() if line.strip() and line.strip() not in why]
        super().__init__(f"{kind} hook `{path}` {why}", details=details, hint=hint)


class ImageError(BoxwrightError):
    """An image, a layer or a registry's answer is not what it says it is."""


class GuestError(BoxwrightError):
    """The other side of a box (guest agent, user-space kernel) failed or spoke nonsense."""


def _shown(value: object) -> str:
    """A value of the document as it stands there."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def printable(text: str) -> str:
    """The text with control characters escaped: names out of a document must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def shorten(text: str, most: int = 200) -> str:
    """The text, cut in its middle where it is longer than `most` letters."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def describe_errno(number: int) -> str:
    """`Invalid argument (EINVAL)`: the text first, as engines look for it, then the name."""
    import errno
    import os

    name = errno.errorcode.get(number, f"errno {number}")
    return f"{os.strerror(number)} ({name})"
