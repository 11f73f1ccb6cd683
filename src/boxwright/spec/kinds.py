"""The base of all records that a document decodes to, and the integer ranges of the standard."""

from boxwright._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import KW_ONLY
    from typing import Any, Self

    I32 = int
    I64 = int
    U8 = int
    U16 = int
    U32 = int
    U64 = int
else:

    class I32(int):
        """int32"""

        low, high = -(1 << 31), (1 << 31) - 1

    class I64(int):
        """int64"""

        low, high = -(1 << 63), (1 << 63) - 1

    class U8(int):
        """uint8"""

        low, high = 0, (1 << 8) - 1

    class U16(int):
        """uint16"""

        low, high = 0, (1 << 16) - 1

    class U32(int):
        """uint32"""

        low, high = 0, (1 << 32) - 1

    class U64(int):
        """uint64"""

        low, high = 0, (1 << 64) - 1


_set = object.__setattr__


def empty_map() -> "dict[str, Any]":
    """The default of a missing map: an empty one that nobody can write to."""
    proxy: Any = type(type.__dict__)({})
    return proxy  # type: ignore[no-any-return]


EMPTY = empty_map()


def pointer_token(part: "str | int") -> str:
    """One reference token of a JSON pointer, escaped (RFC 6901, section 3)."""
    if type(part) is int:
        return str(part)
    text = str(part)
    if "~" in text or "/" in text:
        return text.replace("~", "~0").replace("/", "~1")
    return text


class SpecRecord(Record):
    """A record that knows the JSON pointer it was decoded from.

    `pointer` is "" for a record made by hand and for the document itself. It takes no part in equality.
    `anchor` names the section of the standard which defines the record.
    """

    if TYPE_CHECKING:
        _: KW_ONLY
        pointer: str = ""
    else:
        __slots__ = ("pointer",)

        def __init__(self, *args: "Any", pointer: str = "", **values: "Any") -> None:  # noqa: ANN401
            super().__init__(*args, **values)
            _set(self, "pointer", pointer)

    anchor = ""

    def at(self, json_name: "str | int", *more: "str | int") -> str:
        """The pointer of a property below this record: `mount.at("options", 3)` → `/mounts/0/options/3`."""
        found = f"{self.pointer}/{pointer_token(json_name)}"
        for part in more:
            found = f"{found}/{pointer_token(part)}"
        return found

    def replace(self, **changes: object) -> "Self":
        """A copy with the named fields changed; it keeps the pointer."""
        values: dict[str, Any] = {field: getattr(self, field) for field in self._fields}
        values["pointer"] = self.pointer
        values.update(changes)
        return type(self)(**values)

    def __reduce__(self) -> "tuple[Any, ...]":
        return _restore, (type(self), self.pointer, tuple(getattr(self, field) for field in self._fields))


def _restore(cls: "type[SpecRecord]", pointer: str, values: "tuple[object, ...]") -> SpecRecord:
    make: Any = cls
    made: SpecRecord = make(*values, pointer=pointer)
    return made
