"""A directory as a block device of the guest: an EROFS image of it, in the cache.

An image of what never changes needs no server on the host, is read faster than by virtiofs, and a machine that has one
can be saved and go on elsewhere. Its name is a digest of every file's identity, so what changes makes another image.
Content is not read for that: it cannot change without the inode's time of change, which nobody can set. But that comes
from a clock that ticks some hundred times a second, so of a tree that has just changed it cannot be told whether it
will look any different after the next change: there is no image of that.
"""

import os
import stat
import time

from boxwright.boxes.vm.cache import Cache, digest_of, identity_of
from boxwright.boxes.vm.templates import DISK_BYTES
from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1
# with more it takes longer to look at each file and to make an image than virtiofsd takes to start
MOST_FILES = 20_000
MOST_BYTES = 512 << 20
MOST_KEPT = 16
DEVICE = "/dev/vda"
_PREFIX = "image-"
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_MKFS_TIMEOUT_S = 60
_SETTLED_NS = 100_000_000


def mkfs() -> str:
    """The path of mkfs.erofs, empty where it is not installed."""
    for directory in f"{os.environ.get('PATH', '')}:{_PATH}".split(":"):
        path = os.path.join(directory, "mkfs.erofs")
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    return ""


def image_of(directory: str, cache: Cache) -> str:
    """The path of an image of a directory, made where there is none; empty for one that is not fit for it.

    Fit is a directory of at most MOST_FILES and MOST_BYTES in which nothing is mounted, and that has not changed just
    now or while it is read. Raises HostError if the image cannot be written.
    """
    program = mkfs()
    digest = program and _digest(directory, program)
    if not digest:
        return ""
    found = cache.find(_PREFIX + digest)
    if found is not None:
        os.utime(found)
        return found
    _remove_old(cache)
    return _make(program, directory, os.path.join(cache.directory, _PREFIX + digest), digest)


def image_name(directory: str, cache: Cache) -> str:
    """The path that `image_of` would give; empty for a directory that is not fit for it. Nothing is made."""
    program = mkfs()
    digest = program and _digest(directory, program)
    return os.path.join(cache.directory, _PREFIX + digest) if digest else ""


def _make(program: str, directory: str, path: str, digest: str) -> str:
    """Write the image beside its place, look at the directory again, and give it its name."""
    draft = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        _write(program, directory, draft)
        if _digest(directory, program) != digest:
            return ""
        os.truncate(draft, DISK_BYTES)
        os.chmod(draft, 0o444)
        os.rename(draft, path)
    finally:
        try:
            os.unlink(draft)
        except FileNotFoundError:  # it has its name
            draft = path
    return draft


def _write(program: str, directory: str, path: str) -> None:
    import subprocess

    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        done = subprocess.run(
            [program, "--quiet", path, directory],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=_MKFS_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"make an image of `{directory}`", 0, path=directory, cause=str(error)) from error
    if done.returncode:
        raise HostError(f"make an image of `{directory}`", 0, path=directory, cause=done.stderr.strip())


def _digest(directory: str, program: str) -> str:
    """What the image depends on; empty if the directory is not fit."""
    known: list[object] = [FORMAT, identity_of(program), directory]
    left_bytes, settled_ns = MOST_BYTES, time.time_ns() - _SETTLED_NS
    try:
        top = os.lstat(directory)
        known.append(_identity(top))
        if top.st_ctime_ns > settled_ns:
            return ""
        for name, found in _walk(directory, top.st_dev):
            left_bytes -= found.st_size if stat.S_ISREG(found.st_mode) else 0
            known.append((name, _identity(found)))
            if len(known) > MOST_FILES or left_bytes < 0 or found.st_dev != top.st_dev:
                return ""
            if found.st_ctime_ns > settled_ns:
                return ""
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return digest_of(*known)


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_mode, found.st_uid, found.st_gid, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _walk(directory: str, device: int) -> "Iterator[tuple[str, os.stat_result]]":
    """Every file below, with its path."""
    left = [directory]
    while left:
        at = left.pop()
        with os.scandir(at) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                found = entry.stat(follow_symlinks=False)
                yield entry.path, found
                if stat.S_ISDIR(found.st_mode) and found.st_dev == device:
                    left.append(entry.path)


def _remove_old(cache: Cache) -> None:
    """Make room for one more: what was not used for the longest time goes. Who uses it has it open."""
    kept = []
    for entry in os.scandir(cache.directory):
        if entry.name.startswith(_PREFIX):
            try:
                kept.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path))
            except FileNotFoundError:  # another one of us is faster
                continue
    for _, path in sorted(kept, reverse=True)[MOST_KEPT - 1 :]:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
