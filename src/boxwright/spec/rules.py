"""What the rules of validation share: how a problem is worded, and the small grammars of the standard."""

from boxwright.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def unknown(pointer: str, value: str, known: "Iterable[str]", what: str, anchor: str) -> Problem:
    """A value that is none of an enumeration; the nearest one is the hint."""
    from boxwright.spec.hints import did_you_mean

    hint = did_you_mean(value, known)
    return Problem(pointer, f"`{value}` is no {what}", anchor, value=value, hint=hint)


def unknown_items(
    pointer: str, values: "Iterable[str]", known: "Iterable[str]", what: str, anchor: str
) -> "Iterator[Problem]":
    """A problem for each item of an array that is none of an enumeration."""
    for index, value in enumerate(values):
        if value not in known:
            yield unknown(f"{pointer}/{index}", value, known, what, anchor)


def not_absolute(pointer: str, value: str | None, anchor: str) -> "Iterator[Problem]":
    """A problem unless the path is absent or begins at the root."""
    if value is not None and not value.startswith("/"):
        yield Problem(pointer, "must be an absolute path", anchor, value=value)


def out_of_range(pointer: str, value: int | None, low: int, high: int, anchor: str) -> "Iterator[Problem]":
    """A problem unless the number is absent or lies within both bounds."""
    if value is not None and not low <= value <= high:
        yield Problem(pointer, f"must be from {low} to {high}", anchor, value=value)


def bad_list(pointer: str, value: str | None, anchor: str) -> "Iterator[Problem]":
    """A problem unless the text is absent, empty, or a list of numbers and ranges: `0-3,7`."""
    if value is not None and value.strip() and not is_number_list(value):
        yield Problem(pointer, "must be a list of numbers and ranges like `0-3,7`", anchor, value=value)


def is_number_list(text: str) -> bool:
    """Whether the text lists numbers and rising ranges of them."""
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_number(first) or (dash and not (_is_number(last) and int(first) <= int(last))):
            return False
    return True


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def bad_interface_name(name: str) -> str | None:
    """Why the kernel would refuse the name for a network device; None where it would not (dev_valid_name)."""
    if not name or name in {".", ".."}:
        return "cannot be the name of a network device"
    if len(name.encode("utf-8", "surrogateescape")) > 15:
        return "is longer than 15 bytes, the most a network device's name may have"
    if any(letter in "/:" or letter.isspace() for letter in name):
        return "has a character that no network device's name may have"
    return None


def parse_version(text: str) -> tuple[int, int, int] | None:
    """Major, minor and patch of a version by SemVer 2.0.0; None where it is none."""
    rest, plus, build = text.partition("+")
    core, dash, pre_release = rest.partition("-")
    numbers = core.split(".")
    if len(numbers) != 3 or not all(_is_version_number(number) for number in numbers):
        return None
    if plus and not _are_identifiers(build):
        return None
    if dash and not (_are_identifiers(pre_release) and _no_padded_number(pre_release)):
        return None
    major, minor, patch = (int(number) for number in numbers)
    return major, minor, patch


def _is_version_number(text: str) -> bool:
    return _is_number(text) and (text == "0" or text[0] != "0")


def _are_identifiers(text: str) -> bool:
    return all(part and part.isascii() and part.replace("-", "a").isalnum() for part in text.split("."))


def _no_padded_number(text: str) -> bool:
    return all(not part.isdigit() or part == "0" or part[0] != "0" for part in text.split("."))
