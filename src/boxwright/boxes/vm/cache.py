"""What is made once for the virtual machines and kept: kernels unpacked, initramfs images, how a machine is run best.

Entries are trusted, so the directory has to be ours alone (mode 0700). The files in it are 0444: a hypervisor without
privileges gets one of them bound into its own root, where its mode is all that lets it read.
"""

import errno
import os
import stat
import sys
import time
from fcntl import LOCK_EX, flock

from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from hashlib import sha256
else:
    try:
        # hashlib would load OpenSSL, which takes longer than all that is digested here
        if sys.version_info >= (3, 12):
            from _sha2 import sha256
        else:
            from _sha256 import sha256
    except ImportError:  # an interpreter built without hashes of its own
        from hashlib import sha256

SYSTEM_DIRECTORY = "/var/cache/boxwright"
# what nobody wanted for so long goes when another of its kind comes: kernels are large, and are replaced each month
KEPT_UNUSED_S = 30 * 24 * 3600
_OPEN_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def default_directory() -> str:
    """`$XDG_CACHE_HOME/boxwright`; where that is not set /var/cache/boxwright for root, else ~/.cache/boxwright."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # a relative one is to be ignored (XDG base directory specification)
        return os.path.join(base, "boxwright")
    if os.geteuid() == 0:
        return SYSTEM_DIRECTORY
    return os.path.join(os.path.expanduser("~"), ".cache", "boxwright")


def digest_of(*values: object) -> str:
    """A name for whatever depends on nothing but these values, each a number, a text, bytes or a tuple of such."""
    return sha256(repr(values).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def identity_of(path: str) -> tuple[int, ...]:
    """What changes with the file: device, inode, size, times of change. Raises OSError.

    It stands for the content, which would take longer to digest than a machine may take to start.
    """
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Cache:
    """A directory of files, each written once, whole or not at all. Their time of change is that of the last use."""

    def __init__(self, directory: str = "") -> None:
        """Make the directory where it is missing. Raises HostError if it is a link, another's or open to others."""
        self.directory = directory or default_directory()
        try:
            if not os.path.lexists(self.directory):
                # somebody may be faster: what is there is judged below
                os.makedirs(self.directory, 0o700, exist_ok=True)
            found = os.lstat(self.directory)
        except OSError as error:
            raise self._refused(error.errno or 0) from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise self._refused(errno.EPERM)

    def find(self, name: str) -> str | None:
        """The path of an entry, None if there is none that is a file of ours. It counts as used now."""
        path = os.path.join(self.directory, name)
        try:
            found = os.lstat(path)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                return None
            os.utime(path, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EROFS:  # what was made beforehand may be used from there
                raise self._refused(error.errno or 0) from error
        return path

    def make(self, name: str, content: "Callable[[], bytes]") -> str:
        """The path of an entry, which gets `content()` where it is missing. Raises HostError, and what `content` does.

        Others who want to make an entry wait: what takes long is done once, however many machines start together.
        So `content` must not make another.
        """
        known = self.find(name)
        if known is not None:
            return known
        lock = self._locked()
        try:
            return self.find(name) or self.put(name, content())
        finally:
            os.close(lock)

    def _locked(self) -> int:
        """An owned descriptor of the directory, which holds its lock (flock(2)) until it is closed."""
        try:
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            flock(directory, LOCK_EX)
        except OSError as error:
            raise self._refused(error.errno or 0) from error
        return directory

    def put(self, name: str, content: bytes) -> str:
        """Write or replace an entry, beside it first, so that nobody ever sees a part of it. Raises HostError."""
        path = os.path.join(self.directory, name)
        draft = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
        try:
            entry = os.open(draft, _OPEN_NEW, 0o444)
            try:
                os.fchmod(entry, 0o444)
                _fill(entry, content)
                os.rename(draft, path)
            except BaseException:
                os.unlink(draft)
                raise
            finally:
                os.close(entry)
        except OSError as error:
            raise self._refused(error.errno or 0) from error
        self._sweep(name.partition("-")[0] + "-")
        return path

    def _sweep(self, kind: str) -> None:
        """Remove what nobody has used for KEPT_UNUSED_S, entries and unfinished drafts alike."""
        before = time.time() - KEPT_UNUSED_S
        for name in os.listdir(self.directory):
            path = os.path.join(self.directory, name)
            try:
                found = os.lstat(path)
                if name.startswith(kind) and stat.S_ISREG(found.st_mode) and found.st_mtime < before:
                    os.unlink(path)
            except FileNotFoundError:
                continue  # somebody else was faster

    def get(self, name: str) -> bytes | None:
        """The content of a small entry, None if there is none."""
        path = self.find(name)
        return None if path is None else self._read(path)

    def get_made(self, name: str, content: "Callable[[], bytes]") -> bytes:
        """The content of a small entry, made as `make` does. Raises HostError, and what `content` does."""
        return self._read(self.make(name, content))

    def _read(self, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise self._refused(error.errno or 0) from error

    def _refused(self, number: int) -> HostError:
        full = f"make room, or name another place with XDG_CACHE_HOME: `{self.directory}` holds kernels unpacked"
        ours = "it must be a directory of this user with mode 0700, not a symbolic link"
        hint = full if number in _FULL else ours
        return HostError(f"use the cache `{self.directory}`", number, path=self.directory, hint=hint)


def _fill(entry: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(entry, rest) :]
