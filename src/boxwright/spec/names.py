"""The one place where JSON names (camelCase) and field names (snake_case) meet.

The rule is mechanical: a word begins at a capital letter, and a run of capitals is one word (`blockIO` is
`block_io`, `disableOOMKiller` is `disable_oom_killer`). Going back needs to know which words the standard
writes in capitals.
"""

_CAPITALS = {
    word.lower(): word for word in ("CPU", "DNS", "GFN", "ID", "IO", "IOPS", "MFN", "MFNs", "OOM", "TCP", "VM")
}
_TO_JSON = {"class_": "class", "dns_search_list": "DNSSearchList"}
_TO_PYTHON = {"class": "class_", "nrMFNs": "nr_mfns"}


def to_python(json_name: str) -> str:
    """The field name for a property of the standard: `containerID` → `container_id`."""
    known = _TO_PYTHON.get(json_name)
    if known is not None:
        return known
    words: list[str] = []
    start = 0
    for at in range(1, len(json_name)):
        if json_name[at].isupper() and _begins_word(json_name, at):
            words.append(json_name[start:at].lower())
            start = at
    words.append(json_name[start:].lower())
    return "_".join(words)


def _begins_word(name: str, at: int) -> bool:
    """A capital begins a word after a small letter or digit, and as the last of a run before a small one."""
    if not name[at - 1].isupper():
        return True
    return at + 1 < len(name) and name[at + 1].islower()


def to_json_name(field: str) -> str:
    """The property of the standard for a field name: `container_id` → `containerID`."""
    known = _TO_JSON.get(field)
    if known is not None:
        return known
    if "_" not in field:
        return field
    first, *rest = field.split("_")
    return first + "".join(_CAPITALS.get(word) or word.capitalize() for word in rest)
