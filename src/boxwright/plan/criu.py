"""What a container has from outside of itself, as CRIU names it (criu(8)). Pure.

Whatever a process tree has from outside — binds of the host's files, its first descriptors, namespaces joined by
path — is named when it is dumped, and given again under that name when it is restored.
"""

from boxwright._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.spec.types import Config


class OpenFile(Record):
    """One of the first descriptors of the init: what /proc/PID/fd says, and where its file is."""

    number: int
    target: str
    mount_id: int
    inode: int

    def external(self, inside: frozenset[int]) -> str:
        """CRIU's name of it where it comes from outside of the mounts `inside`, "" otherwise."""
        if self.target.startswith("pipe:["):
            return self.target.replace("pipe:", "pipe", 1)
        if self.target.startswith("socket:["):
            return self.target.replace("socket:", "socket", 1)
        if self.target.startswith("/") and self.mount_id not in inside:
            return f"file[{self.mount_id:x}:{self.inode:x}]"
        return ""


class Outside(Record):
    """What a container has from outside: the places of binds in it, names of its descriptors from 0 on ("" for one
    of its own), and the number of a network namespace joined by path (0: none).
    """

    mounts: tuple[str, ...] = ()
    descriptors: tuple[str, ...] = ()
    network: int = 0


def outside_mounts(mountinfo: str) -> tuple[tuple[str, ...], frozenset[int]]:
    """The places of a container's mounts whose filesystem is not wholly its own, and the numbers of all its mounts,
    from /proc/PID/mountinfo of its init.

    Such a mount shows a part of a filesystem of which no other mount in the container shows the root; the root of
    the container is one too, and CRIU is told of that in another way.
    """
    rows = [line.split(" ") for line in mountinfo.splitlines()]
    whole = {row[2] for row in rows if row[3] == "/" and row[4] != "/"}
    places = [_unescaped(row[4]) for row in rows if row[4] != "/" and row[2] not in whole]
    return tuple(dict.fromkeys(places)), frozenset(int(row[0]) for row in rows)


def _unescaped(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text


def mount_sources(config: "Config", bundle: str, outside: Outside) -> "dict[str, str]":
    """The host's path for each place that was bound from outside: the source of its mount, or of one above it, the
    null device for what is masked, and a device of the same name.
    """
    linux = config.linux
    masked = frozenset(linux.masked_paths) if linux else frozenset()
    found = {}
    for place in outside.mounts:
        found[place] = "/dev/null" if place in masked else _source(config, bundle, place) or place
    return found


def _source(config: "Config", bundle: str, place: str) -> str:
    best, source = "", ""
    for mount in config.mounts:
        destination = mount.destination.rstrip("/")
        if mount.source and f"{place}/".startswith(f"{destination}/") and len(destination) >= len(best):
            best, source = destination, mount.source if mount.source.startswith("/") else f"{bundle}/{mount.source}"
    return source + place[len(best) :] if source else ""
