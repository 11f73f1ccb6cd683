"""What an unprivileged user may map: subordinate ids (subuid(5)), and the host's root as overlays can take it."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Range = tuple[int, int]  # first id, how many

# kernel filesystems and places that a box has its own of
_NOT_SHOWN = frozenset({"dev", "home", "lost+found", "proc", "root", "run", "sys", "tmp"})


def subordinate(path: str, own_id: int, name: str) -> "list[Range]":
    """The ranges of `/etc/subuid` or `/etc/subgid` that belong to the user; none if the file is missing."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        owner, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if owner in {name, str(own_id)} and first.isdigit() and count.isdigit():
            found.append((int(first), int(count)))
    return found


def mappings(own_id: int, ranges: "Sequence[Range]") -> "list[dict[str, int]]":
    """idMappings that make the user itself root, and its subordinate ids the ids from 1 on."""
    made = [{"containerID": 0, "hostID": own_id, "size": 1}]
    inside = 1
    for first, count in ranges:
        made.append({"containerID": inside, "hostID": first, "size": count})
        inside += count
    return made


def branches(root: str) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...], tuple[str, ...]]:
    """How a root filesystem can be shown without the right to overlay it whole.

    Directories to overlay one by one (name, path), symbolic links (name, target), and the names of directories that
    have mounts below them, which a user namespace can only bind.
    """
    mounted = _mount_points()
    overlays, links, binds = [], [], []
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if entry.name in _NOT_SHOWN:
            continue
        if entry.is_symlink():
            links.append((entry.name, os.readlink(entry.path)))
        elif entry.is_dir() and os.access(entry.path, os.R_OK | os.X_OK):
            below = f"{entry.path}/"
            if any(f"{point}/".startswith(below) for point in mounted):
                binds.append(entry.name)
            else:
                overlays.append((entry.name, entry.path))
    return tuple(overlays), tuple(links), tuple(binds)


def has_mounts(root: str) -> bool:
    """Whether something is mounted below the directory, which a user namespace cannot leave out of a bind mount."""
    below = f"{root.rstrip('/')}/"
    return any(point != root and point.startswith(below) for point in _mount_points())


def _mount_points() -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [line.split(" ", 5)[4].replace("\\040", " ") for line in file]


def system_mappings() -> "tuple[list[dict[str, int]], list[dict[str, int]]]":
    """65536 ids that no user has, at random from the range that is set aside for containers (systemd, UIDS-GIDS)."""
    first, last = 0x00080000, 0x6FFF0000
    host_id = first + int.from_bytes(os.urandom(4), "little") % ((last - first) // 65536) * 65536
    mapping = [{"containerID": 0, "hostID": host_id, "size": 65536}]
    return mapping, mapping


def id_mappings() -> "tuple[list[dict[str, int]], list[dict[str, int]]]":
    """The caller as root, with the subordinate ids that it has and the tools can map (subuid(5), newuidmap(1))."""
    uid, gid = os.geteuid(), os.getegid()
    uids, gids = [], []
    if os.access("/usr/bin/newuidmap", os.X_OK) and os.access("/usr/bin/newgidmap", os.X_OK):
        name = _user_name(uid)
        uids, gids = subordinate("/etc/subuid", uid, name), subordinate("/etc/subgid", uid, name)
    if not uids or not gids:
        uids, gids = [], []
    return mappings(uid, uids), mappings(gid, gids)


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
