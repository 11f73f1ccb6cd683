"""What is at the paths that a container shares with its machine, and whether the kernel can id-map it."""

import os

from boxwright.host.trial import attempt
from boxwright.plan import ops
from boxwright.spec.constants import MOUNT_ATTR_IDMAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# the range that is set aside for containers (systemd, UIDS-GIDS)
FIRST_ID, END_ID = 0x00080000, 0x6FFF0000
_STEP = 65536
_TRIED_AT_ONCE = 15  # a slot each, of the 16 that a trial has, beside that of the user namespace


def modes_of(paths: "Iterable[str]") -> dict[str, int]:
    """st_mode of what each path leads to. Left out is what cannot be looked at: mounting it will say why."""
    found = {}
    for path in paths:
        try:
            found[path] = os.stat(path).st_mode
        except OSError:
            continue
    return found


def nobodys_ids(count: int) -> int:
    """The first of `count` ids of the host that no user has, at random: two machines hardly ever get the same."""
    places = (END_ID - FIRST_ID - count) // _STEP
    return FIRST_ID + int.from_bytes(os.urandom(4), "little") % places * _STEP


def can_be_mapped(paths: "Sequence[tuple[str, bool]]") -> bool:
    """Whether the trees at all of these paths can be id-mapped, where it says so with whatever is mounted in them.

    That is up to each filesystem (mount_setattr(2), "ID-mapped mounts"), so it is tried, on copies of the mounts that
    are gone at once. A path that is not there is no reason against it.
    """
    wanted = [path for path in dict.fromkeys(paths) if os.path.exists(path[0])]
    return all(_try_all(wanted[at : at + _TRIED_AT_ONCE]) for at in range(0, len(wanted), _TRIED_AT_ONCE))


def _try_all(paths: "Sequence[tuple[str, bool]]") -> bool:
    text = f"0 {FIRST_ID} {_STEP}\n"
    steps: list[ops.Op] = [ops.Userns(0, text, text)]
    for slot, (path, mounted) in enumerate(paths, 1):
        steps.append(ops.OpenTree(slot, ops.AT_HOST, path, ops.RECURSIVE if mounted else 0))
        steps.append(ops.SetAttr(slot, MOUNT_ATTR_IDMAP, 0, 0, 0, int(mounted)))
    return bool(attempt(steps))
