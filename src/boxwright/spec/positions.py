"""Where each value of a JSON text stands: line and column by JSON pointer, for messages an editor can follow."""

import re

from boxwright.spec.kinds import pointer_token

_BLANK = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SCALAR = re.compile(r"[^,\]}\s]+")
_DEEPEST = 1000  # the decoder takes no deeper text either


def positions(text: str) -> dict[str, tuple[int, int]]:
    """Line and column, both from 1, of every value by its pointer; "" is the document.

    Columns count characters. Of a name that stands twice in an object the first place counts. A text that is not
    JSON gives the values up to where it stops being so.
    """
    return _Scanner(text).scan()


def nearest(places: dict[str, tuple[int, int]], pointer: str) -> tuple[int, int]:
    """The place of the value, or of the nearest one around it: a value may be wrong by not being there."""
    while pointer not in places and pointer:
        pointer = pointer.rpartition("/")[0]
    return places.get(pointer, (1, 1))


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._line_start = 0
        self._counted = 0
        self._places: dict[str, tuple[int, int]] = {}

    def scan(self) -> dict[str, tuple[int, int]]:
        # containers are kept on a stack of our own: deep text is no reason to fail
        stack: list[tuple[str, str, int]] = []
        pointer = ""
        while self._value(pointer, stack):
            following = self._next(stack)
            if following is None:
                break
            pointer = following
        return self._places

    def _skip(self) -> str:
        """Go past blanks; the character that follows, "" at the end."""
        found = _BLANK.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._text[self._at : self._at + 1]

    def _value(self, pointer: str, stack: list[tuple[str, str, int]]) -> bool:
        """Note the value that begins here, and go past it, or into it if it is a container."""
        letter = self._skip()
        if not letter:
            return False
        self._places.setdefault(pointer, self._place())
        if letter in "{[":
            if len(stack) == _DEEPEST:
                return False
            stack.append((letter, pointer, -1))
            self._at += 1
            return True
        found = (_STRING if letter == '"' else _SCALAR).match(self._text, self._at)
        if found is None:
            return False
        self._at = found.end()
        return True

    def _next(self, stack: list[tuple[str, str, int]]) -> str | None:
        """The pointer of the value that comes next, None at the end of the document."""
        while stack:
            kind, pointer, index = stack[-1]
            letter = self._skip()
            if letter in {"}", "]"}:
                self._at += 1
                stack.pop()
                continue
            if letter == ",":
                self._at += 1
                self._skip()
            if kind == "[":
                stack[-1] = (kind, pointer, index + 1)
                return f"{pointer}/{index + 1}"
            return self._name(pointer)
        return None

    def _name(self, pointer: str) -> str | None:
        """Go past the name of a property and its colon."""
        from boxwright.errors import ConfigError
        from boxwright.spec.jsontext import parse_json

        found = _STRING.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        if self._skip() != ":":
            return None
        self._at += 1
        try:
            name = parse_json(found.group().encode("utf-8", "surrogatepass"))
        except ConfigError:
            return None
        return f"{pointer}/{pointer_token(str(name))}"

    def _place(self) -> tuple[int, int]:
        lines = self._text.count("\n", self._counted, self._at)
        if lines:
            self._line += lines
            self._line_start = self._text.rfind("\n", self._counted, self._at) + 1
        self._counted = self._at
        return self._line, self._at - self._line_start + 1
