"""From records back to the JSON values that they were decoded from."""

from boxwright.spec.kinds import EMPTY, SpecRecord
from boxwright.spec.names import to_json_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def to_json(record: SpecRecord) -> "dict[str, Any]":
    """The object that decodes to an equal record: what is absent or an empty default is left out.

    Keys are in the order of the fields.
    """
    made: dict[str, Any] = {}
    for field in record._fields:
        value = getattr(record, field)
        is_empty = value is None or value in ((), EMPTY)
        if not (is_empty and field in record._defaults and value == record._defaults[field]):
            made[to_json_name(field)] = _value(value)
    return made


def _value(value: object) -> object:
    if isinstance(value, SpecRecord):
        return to_json(value)
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {name: _value(item) for name, item in value.items()}
    return {} if value is EMPTY else value
