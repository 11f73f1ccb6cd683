"""A plan as the bytes that the helper reads.

Layout, all little endian:

    header   magic `BXP1`, u32 total length, u32 slots, u32 inherited,
             then for each of the three actors u32 offset, u32 count
    step     u16 code, u16 flags (1: soft), u32 length of the arguments, the arguments

The three sections follow the header and each other without gaps, up to the total length.

`native/plan.h` reads it, checking every length; it trusts nothing in it.
"""

from struct import Struct, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from boxwright.plan.ops import Plan, Step

MAGIC = b"BXP1"
HEADER_BYTES = 4 + 4 * 3 + 3 * 8
SOFT = 1
MAX_SLOTS = 1024


_NUMBER = Struct("<q").pack
_LENGTH = Struct("<I").pack
_HEAD = Struct("<HHI").pack


def _put(parts: "list[bytes]", values: "Iterable[Any]") -> None:
    """Append the wire form of each value."""
    for value in values:
        kind = type(value)
        if kind is int or kind is bool:
            parts.append(_NUMBER(value))
        elif kind is str or kind is bytes:
            data = value if kind is bytes else value.encode("utf-8", "surrogateescape")
            parts += (_LENGTH(len(data)), data, b"\0")
        elif kind is tuple:
            parts.append(_LENGTH(len(value)))
            _put(parts, value)
        else:
            raise TypeError(f"no wire type for {value!r}")


def encode_step(step: "Step") -> bytes:
    """One step as bytes."""
    op = step.op
    parts: list[bytes] = []
    _put(parts, [getattr(op, field) for field in op._fields])
    payload = b"".join(parts)
    return _HEAD(op.CODE, SOFT if step.soft else 0, len(payload)) + payload


def encode(plan: "Plan") -> bytes:
    """The whole plan as bytes."""
    sections = [b"".join(map(encode_step, steps)) for steps in (plan.outer, plan.joiner, plan.init)]
    offset = HEADER_BYTES
    table = b""
    for section, steps in zip(sections, (plan.outer, plan.joiner, plan.init), strict=True):
        table += pack("<II", offset, len(steps))
        offset += len(section)
    header = MAGIC + pack("<III", offset, plan.slots, len(plan.inherited))
    return header + table + b"".join(sections)
