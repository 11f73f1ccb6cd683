"""Texts that no system call can take: checked only where a document escapes such characters."""

from boxwright.errors import Problem
from boxwright.spec.kinds import SpecRecord, pointer_token
from boxwright.spec.names import to_json_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def text_problems(record: SpecRecord) -> "Iterator[Problem]":
    """A problem for each string of the record, at any depth, with a NUL or half a surrogate pair."""
    for text, pointer, anchor in _texts(record, record.pointer, record.anchor):
        if "\0" in text:
            yield Problem(pointer, "holds a NUL character", anchor, value=text)
        elif not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            yield Problem(pointer, "holds half of a surrogate pair, which is not Unicode text", anchor)


def _texts(value: object, pointer: str, anchor: str) -> "Iterator[tuple[str, str, str]]":
    if isinstance(value, str):
        yield value, pointer, anchor
    elif isinstance(value, SpecRecord):
        for field in value._fields:
            yield from _texts(getattr(value, field), value.at(to_json_name(field)), value.anchor)
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from _texts(item, f"{pointer}/{index}", anchor)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name, pointer, anchor
            yield from _texts(item, f"{pointer}/{pointer_token(name)}", anchor)
