"""From records back to the JSON values that they were decoded from."""

from boxwright.spec.kinds import SpecRecord
from boxwright.spec.names import to_json_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NOTHING = type("_Nothing", (), {"__slots__": ()})()


def to_json(record: SpecRecord) -> "dict[str, Any]":
    """The object that decodes to an equal record, without what the defaults say anyway.

    Keys are in the order of the fields; required ones are always there.
    """
    made: dict[str, Any] = {}
    for field in record._fields:
        value = getattr(record, field)
        if value != record._defaults.get(field, _NOTHING):
            made[to_json_name(field)] = _value(value)
    return made


def _value(value: object) -> object:
    if isinstance(value, SpecRecord):
        return to_json(value)
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    if hasattr(value, "items"):  # a dict, or the read-only map that is the default
        return {name: _value(item) for name, item in value.items()}
    return value
