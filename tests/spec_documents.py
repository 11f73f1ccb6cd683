"""Documents for the tests of the standard: a sound one, changed at a pointer, and the problems it then has."""

import copy
import json

from boxwright.errors import ConfigError, Problem
from boxwright.spec.decode import decode
from boxwright.spec.validate import validate

SOUND = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs"},
    "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
    "hostname": "box",
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    "linux": {
        "namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "uts", "network", "cgroup")],
    },
}


def changed(pointer: str, value: object) -> dict:
    """The sound document with the value at `pointer` set; objects on the way are made, `-` appends."""
    document = copy.deepcopy(SOUND)
    *way, last = [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
    place = document
    for token in way:
        place = place[int(token)] if isinstance(place, list) else place.setdefault(token, {})
    if isinstance(place, list):
        place[len(place) if last == "-" else int(last) :] = [value]
    else:
        place[last] = value
    return document


def problems_of(document: object, platform: str = "linux") -> list[Problem]:
    """Every problem of a document, whether the decoder or the rules find it."""
    try:
        config = decode(json.dumps(document).encode())
    except ConfigError as error:
        return list(error.problems)
    return validate(config, platform=platform)


def refused(document: object, platform: str = "linux") -> set[str]:
    """The pointers of the problems that refuse the document."""
    return {problem.pointer for problem in problems_of(document, platform) if problem.fatal}


def warned(document: object, platform: str = "linux") -> set[str]:
    """The pointers of the problems that are only logged."""
    return {problem.pointer for problem in problems_of(document, platform) if not problem.fatal}
