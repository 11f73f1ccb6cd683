"""Frozen, slotted records without `dataclasses`.

`dataclasses` brings `re`, `inspect` and `typing` with it, which together cost more than a whole container
start. A `Record` keeps what we need of it: declared fields, defaults, keyword or positional construction,
immutability, equality, a readable repr, and `replace`.

    class Mount(Record):
        destination: str
        options: tuple[str, ...] = ()

Fields are the annotated names that begin with a lower-case letter and not with an underscore. Type checkers see a
frozen dataclass (PEP 681).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, ClassVar, Self, dataclass_transform
else:

    def dataclass_transform(**_kwargs):
        """PEP 681 marker; `typing` is not loaded at run time."""
        return lambda cls: cls


class _Missing:
    """The default of a field that has none."""

    __slots__ = ()


_MISSING = _Missing()


def _annotations_of(namespace: "dict[str, Any]") -> "dict[str, Any]":
    found = namespace.get("__annotations__")
    if found is None:  # Python 3.14 computes annotations on demand (PEP 649)
        annotate = namespace.get("__annotate_func__") or namespace.get("__annotate__")
        found = annotate(1) if annotate else {}
    return dict(found)


class _RecordMeta(type):
    def __new__(mcs, name: str, bases: "tuple[type, ...]", namespace: "dict[str, Any]") -> "_RecordMeta":
        own = {field: kind for field, kind in _annotations_of(namespace).items() if field[0].islower()}
        fields: dict[str, Any] = {}
        defaults: dict[str, Any] = {}
        for base in bases:
            fields.update(getattr(base, "_kinds", {}))
            defaults.update(getattr(base, "_defaults", {}))
        fields.update(own)
        defaults.update({field: namespace.pop(field) for field in own if field in namespace})
        namespace["__slots__"] = tuple(namespace.get("__slots__", ())) + tuple(own)
        namespace["_kinds"] = fields
        namespace["_fields"] = tuple(fields)
        namespace["_defaults"] = defaults
        namespace["_setters"] = None
        return super().__new__(mcs, name, bases, namespace)


def _prepare(cls: "Any") -> "tuple[Callable[[object, object], None], ...]":
    """Work out how to fill the fields of a class, when its first record is made: few of all classes have one.

    `_least` is how many values must be given by position alone, `_tail` what the others are.
    """
    fields = cls._fields
    cls._tail = tuple([cls._defaults.get(field, _MISSING) for field in fields])
    cls._least = max([index + 1 for index, value in enumerate(cls._tail) if value is _MISSING], default=0)
    setters = cls._setters = tuple([getattr(cls, field).__set__ for field in fields])
    return setters


@dataclass_transform(frozen_default=True)
class Record(metaclass=_RecordMeta):
    """Base of all frozen value types of Boxwright."""

    if TYPE_CHECKING:
        _fields: ClassVar[tuple[str, ...]]
        _kinds: ClassVar[dict[str, Any]]
        _defaults: ClassVar[dict[str, Any]]
    else:

        def __init__(self, *args, **values):
            cls = type(self)
            setters = cls._setters
            if setters is None:
                setters = _prepare(cls)
            given = len(args)
            if values or not cls._least <= given <= len(setters):
                args = cls._arranged(args, values)
            elif given < len(setters):
                args += cls._tail[given:]
            for put, value in zip(setters, args):  # noqa: B905 - it costs, and they are as many
                put(self, value)

        @classmethod
        def _arranged(cls, args, values):
            """The values of all fields in order, from whatever mixture. Raises TypeError where they do not fit."""
            fields = cls._fields
            if len(args) > len(fields):
                raise TypeError(f"{cls.__name__} takes at most {len(fields)} values")
            found = dict(zip(fields, args, strict=False))
            for field, value in values.items():
                if field in found:
                    raise TypeError(f"{cls.__name__} got `{field}` twice")
                found[field] = value
            found = {**cls._defaults, **found}
            for field in fields:
                if field not in found:
                    raise TypeError(f"{cls.__name__} needs `{field}`")
            if len(found) > len(fields):
                unknown = next(field for field in found if field not in fields)
                raise TypeError(f"{cls.__name__} has no field `{unknown}`")
            return [found[field] for field in fields]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: `{name}` cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: `{name}` cannot be deleted")

    def _values(self) -> "Iterator[object]":
        return (getattr(self, field) for field in self._fields)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and tuple(self._values()) == tuple(other._values())

    def __hash__(self) -> int:
        return hash((type(self), *self._values()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{field}={getattr(self, field)!r}" for field in self._fields)
        return f"{type(self).__name__}({shown})"

    def __reduce__(self) -> "tuple[Any, ...]":
        return type(self), tuple(self._values())

    def replace(self, **changes: object) -> "Self":
        """A copy with the named fields changed."""
        values = {field: getattr(self, field) for field in self._fields}
        values.update(changes)
        return type(self)(**values)
