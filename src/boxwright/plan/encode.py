"""A plan as the bytes that the helper reads.

Layout, all little endian:

    header   magic `BXP1`, u32 total length, u32 slots, u32 inherited,
             then for each of the three actors u32 offset, u32 count
    step     u16 code, u16 flags (1: soft), u32 length of the arguments, the arguments

The three sections follow the header and each other without gaps, up to the total length.

`native/plan.h` reads it, checking every length; it trusts nothing in it.
"""

from struct import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.ops import Plan, Step

MAGIC = b"BXP1"
HEADER_BYTES = 4 + 4 * 3 + 3 * 8
SOFT = 1
MAX_SLOTS = 1024


def _argument(value: object) -> bytes:
    if isinstance(value, int):
        return pack("<q", value)
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return pack("<I", len(value)) + value + b"\0"
    if isinstance(value, tuple):
        return pack("<I", len(value)) + b"".join(map(_argument, value))
    raise TypeError(f"no wire type for {value!r}")


def encode_step(step: "Step") -> bytes:
    """One step as bytes."""
    op = step.op
    payload = b"".join([_argument(getattr(op, field)) for field in op._fields])
    return pack("<HHI", op.CODE, SOFT if step.soft else 0, len(payload)) + payload


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
