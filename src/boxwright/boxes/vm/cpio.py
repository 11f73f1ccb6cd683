"""The archive that the kernel unpacks as its first root: cpio's `newc` form.

See the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_MAGIC = b"070701"
_DIRECTORY, _REGULAR = 0o040755, 0o100000
_TRAILER = "TRAILER!!!"
_BLOCK_BYTES = 512


def archive(files: "Mapping[str, tuple[int, bytes]]") -> bytes:
    """An archive of files, each a path without a leading `/` with its mode and content.

    The directories on the way come first; all is root's and of no time, so that the same files give the same bytes.
    """
    parts: list[bytes] = []
    directories: set[str] = set()
    number = 0
    for path, (mode, content) in files.items():
        for directory in _parents(path):
            if directory not in directories:
                directories.add(directory)
                number += 1
                parts.append(_entry(number, directory, _DIRECTORY, b""))
        number += 1
        parts.append(_entry(number, path, _REGULAR | mode, content))
    parts.append(_entry(0, _TRAILER, 0, b""))
    whole = b"".join(parts)
    return whole + bytes(-len(whole) % _BLOCK_BYTES)


def _parents(path: str) -> list[str]:
    names = path.split("/")[:-1]
    return ["/".join(names[: count + 1]) for count in range(len(names))]


def _entry(number: int, path: str, mode: int, content: bytes) -> bytes:
    name = path.encode("utf-8", "surrogateescape") + b"\0"
    links = 2 if mode == _DIRECTORY else 1
    # inode, mode, uid, gid, links, mtime, size, device (2), device of a node (2), length of the name, checksum
    fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
    head = _MAGIC + b"".join(b"%08X" % field for field in fields) + name
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
