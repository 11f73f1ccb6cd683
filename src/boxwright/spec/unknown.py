"""Properties that the standard does not know: ignored by the decoder, and listed here for the log."""

from boxwright.errors import Problem
from boxwright.spec.decode import plain_kind
from boxwright.spec.jsontext import parse_json
from boxwright.spec.kinds import SpecRecord, pointer_token
from boxwright.spec.names import to_json_name
from boxwright.spec.types import Config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Kind = Any

_ANCHOR = "config.md#configExtensibility"


def unknown_properties(data: bytes, cls: type[SpecRecord] = Config) -> list[Problem]:
    """A problem, none fatal, for each property of a document that no record of `cls` has a field for.

    Raises ConfigError where `data` is not strict JSON.
    """
    return list(_unknown(parse_json(data), cls, ""))


def _unknown(value: object, kind: "Kind", pointer: str) -> "Iterator[Problem]":
    kind = plain_kind(kind)
    origin: Kind = getattr(kind, "__origin__", None)
    arguments: Kind = getattr(kind, "__args__", None)
    if origin is tuple and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, arguments[0], f"{pointer}/{index}")
    elif origin is dict and isinstance(value, dict):
        for name, item in value.items():
            yield from _unknown(item, arguments[1], f"{pointer}/{pointer_token(name)}")
    elif isinstance(kind, type) and issubclass(kind, SpecRecord) and isinstance(value, dict):
        yield from _unknown_of_record(value, kind, pointer)


def _unknown_of_record(value: "dict[str, object]", cls: type[SpecRecord], pointer: str) -> "Iterator[Problem]":
    kinds = {to_json_name(field): kind for field, kind in cls._kinds.items()}
    for name, item in value.items():
        where = f"{pointer}/{pointer_token(name)}"
        if name in kinds:
            yield from _unknown(item, kinds[name], where)
        else:
            from boxwright.spec.hints import did_you_mean

            hint = did_you_mean(name, kinds)
            yield Problem(where, "is an unknown property", _ANCHOR, hint=hint, fatal=False)
