"""Sizes and durations as people write them."""

from boxwright.errors import UsageError

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_MICROSECONDS = {"h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1000, "us": 1, "µs": 1}
_LARGEST = (1 << 63) - 1


def parse_size(word: str) -> int:
    """Bytes of `512`, `64k`, `1.5G`, `10MiB` or `10mb` (all by 1024), or -1 for no limit. Raises UsageError."""
    if word == "-1":
        return -1
    digits, unit = _split(word)
    unit = unit.strip().lower()
    scale = _UNITS.get(unit[:1]) if unit in {"", "b"} or unit[1:] in {"", "b", "ib"} else None
    if not digits or scale is None:
        raise UsageError(
            f"`{word}` is no size", hint="write bytes, or a number with `k`, `m`, `g`, `t` or `p`; -1: none"
        )
    size = _scaled(digits, scale)
    if size > _LARGEST:
        raise UsageError(f"the size `{word}` is out of range")
    return size


def parse_duration_s(word: str) -> float:
    """Seconds of `5s`, `500ms`, `1m30s` or plain `5`; above zero. Raises UsageError."""
    rest, total_us = word, 0
    while rest:
        digits, after = _split(rest)
        unit = after[: next((at for at, letter in enumerate(after) if letter in "0123456789."), len(after))]
        scale = _MICROSECONDS.get(unit or ("s" if digits == word else ""))
        if not digits or scale is None:
            raise UsageError(f"`{word}` is no duration", hint="write it as `5s`, `500ms` or `1m30s`")
        total_us += _scaled(digits, scale)
        rest = after[len(unit) :]
    if total_us <= 0:
        raise UsageError(f"the duration `{word}` must be above zero")
    return total_us / 1_000_000


def _split(word: str) -> tuple[str, str]:
    """The number at the start, which may have a decimal point, and what follows."""
    end = next((at for at, letter in enumerate(word) if letter not in "0123456789."), len(word))
    digits = word[:end]
    well_formed = digits.count(".") < 2 and digits[:1].isdigit() and digits[-1:].isdigit() and len(digits) <= 20
    return (digits, word[end:]) if well_formed else ("", word)


def _scaled(digits: str, scale: int) -> int:
    """`digits` times `scale`, rounded down, without going through a float."""
    whole, _, fraction = digits.partition(".")
    return int(whole) * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)
