"""JSON text in and out, on the C scanner and encoder alone: `import json` would bring `re` and `enum`.

`_json` is imported where it is used: a command whose modules are held ready in memory can hold no extension module.

Reading is strict: UTF-8 without a byte order mark, no duplicate names (glossary.md#glossaryJson), no `NaN` or
`Infinity`, nothing after the document.
"""

from boxwright.errors import ConfigError, Problem
from boxwright.spec.kinds import pointer_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn

    JSON = Any  # what the scanner made
    Encoder = Callable[[object, int], tuple[str, ...]]

_JSON_ANCHOR = "glossary.md#glossaryJson"
_BLANK = " \t\n\r"
_INFINITY = float("inf")


class _Reading:
    """What the C scanner asks for (`json.scanner` calls it a context), and what it found on the way."""

    strict = True
    object_hook = None
    array_hook = None  # Python 3.15
    parse_int = int

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}
        self.duplicates: list[tuple[dict[str, object], str]] = []
        self.bad_numbers: list[str] = []
        self.object_pairs_hook = self._object
        self.parse_float = self._float
        self.parse_constant = self._constant

    def _object(self, pairs: "list[tuple[str, object]]") -> "dict[str, object]":
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    self.duplicates.append((made, name))
                seen.add(name)
        return made

    def _float(self, text: str) -> float:
        number = float(text)
        if number in {_INFINITY, -_INFINITY}:
            self.bad_numbers.append(text)
        return number

    def _constant(self, text: str) -> None:
        self.bad_numbers.append(text)


def read_document(data: bytes, source: str) -> "tuple[JSON, list[Problem]]":
    """The value that `data` holds, and what is wrong with the text short of its syntax.

    Raises ConfigError, named after `source`, where the text is not UTF-8 or not JSON.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        _fail(source, f"not UTF-8: byte {data[error.start]:#04x} at offset {error.start}")
    reading = _Reading()
    try:
        value, end = _scan(reading, text)
    except StopIteration as stop:
        _fail_at(source, text, stop.value, "expecting a value")
    except ValueError as error:
        _fail_on(source, text, error)
    except RecursionError:
        _fail(source, "nested too deeply")
    end = _skip_blank(text, end)
    if end != len(text):
        _fail_at(source, text, end, "more text after the document")
    if reading.duplicates or reading.bad_numbers:
        return value, [*_bad_number_problems(reading), *_duplicate_problems(reading, value)]
    return value, []


def _scan(reading: _Reading, text: str) -> "tuple[JSON, int]":
    import _json

    make_scanner: Any = _json.make_scanner
    start = _skip_blank(text, 0)
    try:
        found: tuple[JSON, int] = make_scanner(reading)(text, start)
    except SystemError:
        # up to Python 3.12 the scanner fails without an exception unless the module that defines it is loaded
        import json.decoder  # noqa: F401

        found = make_scanner(reading)(text, start)
    return found


def parse_json(data: bytes, *, source: str = "document") -> "JSON":
    """The value of a JSON text. Raises ConfigError, with all problems, where it is not strict JSON."""
    value, problems = read_document(data, source)
    if problems:
        raise ConfigError(problems, source=source)
    return value


def _skip_blank(text: str, start: int) -> int:
    length = len(text)
    while start < length and text[start] in _BLANK:
        start += 1
    return start


def _fail(source: str, rule: str) -> "NoReturn":
    raise ConfigError([Problem("", rule, _JSON_ANCHOR)], source=source) from None


def _fail_at(source: str, text: str, position: int, what: str) -> "NoReturn":
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    _fail(source, f"invalid JSON at line {line}, column {column}: {what}")


def _fail_on(source: str, text: str, error: ValueError) -> "NoReturn":
    position = getattr(error, "pos", None)
    if position is None:  # int() refuses more digits than sys.get_int_max_str_digits()
        _fail(source, "a number has too many digits")
    what = str(getattr(error, "msg", error)).replace("'", "`")
    _fail_at(source, text, position, what[:1].lower() + what[1:])


def _bad_number_problems(reading: _Reading) -> "list[Problem]":
    return [
        Problem("", f"`{text}` is no number of JSON, or out of range", _JSON_ANCHOR) for text in reading.bad_numbers
    ]


def _duplicate_problems(reading: _Reading, document: object) -> "list[Problem]":
    """Finds where the objects with duplicate names stand; "" for what a later duplicate hid."""
    places = {id(value): pointer for value, pointer in _objects(document)}
    return [
        Problem(
            f"{places[id(made)]}/{pointer_token(name)}" if id(made) in places else "",
            f"duplicate name `{name}`",
            _JSON_ANCHOR,
        )
        for made, name in reading.duplicates
    ]


def _objects(document: object) -> "Iterator[tuple[object, str]]":
    """Every object and where it stands; without recursion, for the scanner goes deeper than Python may."""
    waiting: list[tuple[object, str]] = [(document, "")]
    while waiting:
        value, pointer = waiting.pop()
        if isinstance(value, dict):
            yield value, pointer
            waiting += [(below, f"{pointer}/{pointer_token(name)}") for name, below in value.items()]
        elif isinstance(value, list):
            waiting += [(below, f"{pointer}/{index}") for index, below in enumerate(value)]


def _refuse(value: object) -> "NoReturn":
    raise TypeError(f"`{type(value).__name__}` has no form in JSON")


def _make_encoder() -> "Encoder":
    import _json

    # markers, default, encoder, indent, key separator, item separator, sort keys, skip keys, allow NaN
    make: Any = _json.make_encoder
    encoder: Encoder = make(None, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, False)
    return encoder


def encode_json(value: object, *, indent: int | None = None) -> str:
    """The JSON text, in ASCII, of dicts, lists, tuples and scalars: on one line, or indented by `indent`.

    Raises TypeError for what has no form in JSON and ValueError for `NaN` and infinities.
    """
    if indent is None:
        return "".join(_make_encoder()(value, 0))
    return _indented(value, "\n", " " * indent, _make_encoder())


def _indented(value: object, line: str, step: str, scalar: "Encoder") -> str:
    deeper = line + step
    if isinstance(value, dict) and value:
        from _json import encode_basestring_ascii as quote

        parts = [f"{quote(name)}: {_indented(below, deeper, step, scalar)}" for name, below in value.items()]
        return "{" + deeper + f",{deeper}".join(parts) + line + "}"
    if isinstance(value, (list, tuple)) and value:
        parts = [_indented(below, deeper, step, scalar) for below in value]
        return "[" + deeper + f",{deeper}".join(parts) + line + "]"
    return "".join(scalar(value, 0))
