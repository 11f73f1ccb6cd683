"""Users and groups as numbers, read strictly: what is no plain number is an error, never id 0 (CVE-2026-30892)."""

from boxwright.errors import UsageError

# (uid_t)-1 means "leave as it is" to setresuid(2)
HIGHEST_ID = 0xFFFF_FFFE


def parse_user(word: str) -> tuple[int, int | None]:
    """`UID` or `UID:GID`; the group is None where it is not named. Raises UsageError."""
    uid, colon, gid = word.partition(":")
    return parse_id(uid, word), parse_id(gid, word) if colon else None


def parse_id(digits: str, word: str = "") -> int:
    """One id in decimal, from 0 to 4294967294. Raises UsageError, which shows `word`."""
    word = word or digits
    if not digits:
        raise UsageError(f"`{word}` lacks a number", hint="write `UID` or `UID:GID`")
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError(f"`{word}` is not `UID[:GID]`: `{digits}` is no number", hint="names are not looked up")
    if digits != "0" and digits[0] == "0":
        raise UsageError(f"`{word}` is not `UID[:GID]`: `{digits}` has a leading zero")
    if len(digits) > 10 or int(digits) > HIGHEST_ID:
        raise UsageError(f"`{digits}` in `{word}` is out of range: ids end at {HIGHEST_ID}")
    return int(digits)
