"""Strict decoding of config.json and its parts, driven by the annotations of the records.

Every problem of types and ranges is collected; nothing is guessed or converted. A JSON null is an absent
value. Unknown properties are ignored (config.md#configExtensibility); `spec.unknown` lists them for who wants
to know.
"""

from boxwright.errors import ConfigError, Problem
from boxwright.spec.jsontext import read_document
from boxwright.spec.kinds import EMPTY, SpecRecord, pointer_token
from boxwright.spec.names import to_json_name
from boxwright.spec.types import Config, Process, Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    R = TypeVar("R", bound=SpecRecord)
    JSON = Any  # what the scanner made
    Kind = Any  # an annotation, as an object
    Build = Callable[[JSON, str, list[Problem], str], Any]
    # a type that needs no building, its range; else the builder
    Plain = tuple[Kind, int | None, int, Build]
    Step = tuple[str, Callable[[object, object], None], Kind, int | None, int, Build, Any]

_UNION: "Kind" = type(str | None)
_NONE = type(None)
_REQUIRED = object()
_set_pointer: "Callable[[object, str], None]" = SpecRecord.pointer.__set__  # type: ignore[attr-defined]
_steps_of: "dict[type[SpecRecord], tuple[Step, ...]]" = {}

# the sections that few documents have, and where their records stand
_SECTION_MODULES = {
    "VM": "boxwright.spec.types_vm",
    "Windows": "boxwright.spec.types_other",
    "Solaris": "boxwright.spec.types_other",
    "ZOS": "boxwright.spec.types_other",
    "FreeBSD": "boxwright.spec.types_other",
}


def decode(data: bytes, *, source: str = "config.json") -> Config:
    """The configuration in `data`. Raises ConfigError with every problem of syntax, types and ranges."""
    return decode_record(Config, data, source=source)


def decode_process(data: bytes, *, source: str = "process.json") -> Process:
    """A process object standing alone (`exec --process`). Raises ConfigError."""
    return decode_record(Process, data, source=source)


def decode_resources(data: bytes, *, source: str = "resources.json") -> Resources:
    """A Linux resources object standing alone (`update --resources`). Raises ConfigError."""
    return decode_record(Resources, data, source=source)


def decode_record(cls: "type[R]", data: bytes, *, source: str) -> "R":
    """A record of the class `cls` from a whole document. Raises ConfigError."""
    value, problems = read_document(data, source)
    made: R | None = _record(cls)(value, "", problems, cls.anchor)
    if made is not None and (b"\\u0000" in data or b"\\ud" in data or b"\\uD" in data):
        from boxwright.spec.texts import text_problems

        problems.extend(text_problems(made))
    if problems or made is None:
        raise ConfigError(problems, source=source)
    return made


def from_value(cls: "type[R]", value: object, pointer: str = "") -> "R":
    """A record from a value already parsed. Raises ConfigError."""
    problems: list[Problem] = []
    made: R | None = _record(cls)(value, pointer, problems, cls.anchor)
    if problems or made is None:
        raise ConfigError(problems)
    return made


def _record(cls: "type[SpecRecord]") -> "Build":
    """The builder for records of one class."""
    new = object.__new__

    def build(value: "JSON", pointer: str, problems: "list[Problem]", anchor: str) -> "JSON":
        if type(value) is not dict:
            return _mismatch(value, pointer, problems, anchor, "an object")
        steps = _steps_of.get(cls) or steps_of(cls)
        made = new(cls)
        _set_pointer(made, pointer)
        get = value.get
        for step in steps:
            name, put, plain, low, high, deeper, default = step
            found: JSON = get(name)
            if found is None:
                fixed = default is None or default == ()
                put(made, default if fixed else _absent(step, pointer, problems, cls.anchor))
            elif type(found) is plain and (low is None or low <= found <= high):
                put(made, found)
            else:
                put(made, deeper(found, f"{pointer}/{name}", problems, cls.anchor))
        return made

    return build


def _absent(step: "Step", pointer: str, problems: "list[Problem]", anchor: str) -> object:
    """What a field without a value gets."""
    name, _, _, _, _, build, default = step
    if default is EMPTY:
        return {}
    if default is _REQUIRED:
        problems.append(Problem(pointer, f"`{name}` is missing", anchor))
        return None
    if isinstance(default, SpecRecord):
        return build({}, f"{pointer}/{name}", problems, anchor)
    return default


def steps_of(cls: "type[SpecRecord]") -> "tuple[Step, ...]":
    """How to fill each field of a record, worked out from its annotations once."""
    made = []
    for field, kind in cls._kinds.items():
        put = getattr(cls, field).__set__
        plain, low, high, build = _compile(kind)
        made.append((to_json_name(field), put, plain, low, high, build, cls._defaults.get(field, _REQUIRED)))
    steps = _steps_of[cls] = tuple(made)
    return steps


def plain_kind(kind: "Kind") -> "Kind":
    """The annotation without `| None`; the class, loaded now, for a section named in quotes."""
    if type(kind) is str:
        name = kind.partition(" ")[0]
        return getattr(__import__(_SECTION_MODULES[name], fromlist=[name]), name)
    if type(kind) is _UNION:
        return next(one for one in kind.__args__ if one is not _NONE)
    return kind


def _compile(kind: "Kind") -> "Plain":
    if type(kind) is str:
        return None, None, 0, _later(kind)
    if type(kind) is _UNION:
        kind = plain_kind(kind)
    if kind is str:
        return str, None, 0, _not_a_string
    if kind is bool:
        return bool, None, 0, _not_a_boolean
    low = getattr(kind, "low", None)
    if low is not None:
        return int, low, kind.high, _not_in_range(low, kind.high)
    return None, None, 0, _compound(kind)


def _later(quoted: str) -> "Build":
    def build(value: "JSON", pointer: str, problems: "list[Problem]", anchor: str) -> "JSON":
        return _record(plain_kind(quoted))(value, pointer, problems, anchor)

    return build


def _compound(kind: "Kind") -> "Build":
    origin = getattr(kind, "__origin__", None)
    if origin is None:
        return _anything if kind is object else _record(kind)
    if origin is tuple:
        item = kind.__args__[0]
        return _strings if item is str else _array(item)
    return _map(kind.__args__[1])


def _strings(value: "JSON", pointer: str, problems: "list[Problem]", anchor: str) -> "JSON":
    if type(value) is not list:
        return _mismatch(value, pointer, problems, anchor, "an array")
    for index, item in enumerate(value):
        if type(item) is not str:
            _mismatch(item, f"{pointer}/{index}", problems, anchor, "a string")
    return tuple(value)


def _array(kind: "Kind") -> "Build":
    plain, low, high, deeper = _compile(kind)

    def build(value: "JSON", pointer: str, problems: "list[Problem]", anchor: str) -> "JSON":
        if type(value) is not list:
            return _mismatch(value, pointer, problems, anchor, "an array")
        items: list[JSON] = value
        return tuple(
            item
            if type(item) is plain and (low is None or low <= item <= high)
            else deeper(item, f"{pointer}/{index}", problems, anchor)
            for index, item in enumerate(items)
        )

    return build


def _map(kind: "Kind") -> "Build":
    plain, low, high, deeper = _compile(kind)

    def build(value: "JSON", pointer: str, problems: "list[Problem]", anchor: str) -> "JSON":
        if type(value) is not dict:
            return _mismatch(value, pointer, problems, anchor, "an object")
        items: dict[str, JSON] = value
        return {
            name: item
            if type(item) is plain and (low is None or low <= item <= high)
            else deeper(item, f"{pointer}/{pointer_token(name)}", problems, anchor)
            for name, item in items.items()
        }

    return build


def _not_a_string(value: object, pointer: str, problems: "list[Problem]", anchor: str) -> None:
    _mismatch(value, pointer, problems, anchor, "a string")


def _not_a_boolean(value: object, pointer: str, problems: "list[Problem]", anchor: str) -> None:
    _mismatch(value, pointer, problems, anchor, "true or false")


def _not_in_range(low: int, high: int) -> "Build":
    def build(value: object, pointer: str, problems: "list[Problem]", anchor: str) -> None:
        if type(value) is int:
            problems.append(Problem(pointer, f"must be from {low} to {high}", anchor, value=value))
        else:
            _mismatch(value, pointer, problems, anchor, "an integer")

    return build


def _anything(value: object, _pointer: str, _problems: "list[Problem]", _anchor: str) -> object:
    return value


_WORDS = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number that is no integer",
    list: "an array",
}


def _mismatch(value: object, pointer: str, problems: "list[Problem]", anchor: str, wanted: str) -> None:
    found = "null" if value is None else _WORDS.get(type(value), "an object")
    shown = value if isinstance(value, (str, int, float)) else None
    problems.append(Problem(pointer, f"expected {wanted}, found {found}", anchor, value=shown))
