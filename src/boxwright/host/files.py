"""Files of a box from outside: every path is resolved by the kernel inside of the box's root (openat2(2)).

A program in the box can swap names and links at any time. So nothing is ever looked at by name and then used by name:
what is opened is held by its descriptor, and judged by that.
"""

import ctypes
import errno
import os
import stat

from boxwright.errors import HostError
from boxwright.host.processes import open_pidfd, wait_gone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_SYS_OPENAT2 = 437  # on every architecture but alpha
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
_RETRIES = 128  # EAGAIN says that something was renamed while `..` was resolved
# the kernel's own files (statfs(2)): procfs, sysfs, both kinds of cgroups, debugfs, tracefs, securityfs
_KERNEL_FILES = frozenset({0x9FA0, 0x62656572, 0x27E0EB, 0x63677270, 0x64626720, 0x74726163, 0x73636673})

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _Statfs(ctypes.Structure):
    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_long * 31))


def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    """An owned close-on-exec descriptor. Raises OSError."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    name = os.fsencode(path)
    for _ in range(_RETRIES):
        fd: int = _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2), directory, ctypes.c_char_p(name), ctypes.byref(how), ctypes.sizeof(how)
        )
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number != errno.EAGAIN:
            break
    raise OSError(number, os.strerror(number), path)


def is_kernel_file(fd: int) -> bool:
    """Whether the file is one that the kernel makes up: reading and writing it can have effects."""
    found = _Statfs()
    if _libc.fstatfs(fd, ctypes.byref(found)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found.f_type in _KERNEL_FILES


class Root:
    """The root directory of a box, and who its users are outside."""

    def __init__(self, fd: int, uid_map: str, gid_map: str) -> None:
        """Take the descriptor, and the text of the id maps (user_namespaces(7))."""
        self._fd = fd
        self._uids = _parse_map(uid_map)
        self._gids = _parse_map(gid_map)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._fd)

    def open(self, path: str, flags: int = os.O_PATH) -> int:
        """Open a path as the box sees it, links followed inside of it. The descriptor is the caller's."""
        return openat2(self._fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)

    @property
    def creator(self) -> tuple[int, int]:
        """Whom to create files as: root of the box, as seen outside."""
        return self.outside(0, 0)

    def directory(self, path: str, owner: tuple[int, int]) -> int:
        """An O_PATH descriptor of the directory, made with what is missing above it."""
        try:
            return self.open(path, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            above, name = os.path.split(path.rstrip("/"))
            if not name:
                raise
        parent = self.directory(above or "/", owner)
        try:
            return make_directory(parent, name, owner, self.creator)
        finally:
            os.close(parent)

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """The host's ids for those of the box. Raises HostError for one that the box does not have."""
        return _outside(self._uids, uid), _outside(self._gids, gid)


class acting_as:  # noqa: N801 - read as a verb
    """Create files as another user: a filesystem of a user namespace takes none from who has no id there (EOVERFLOW).

    Of the calling thread alone (setfsuid(2)). Nothing happens where the user is the host's root, or we are not.
    """

    def __init__(self, creator: tuple[int, int]) -> None:
        self._creator = creator
        self._needed = os.geteuid() == 0 and creator[0] != 0

    def __enter__(self) -> None:
        if self._needed:
            _libc.setfsgid(self._creator[1])
            _libc.setfsuid(self._creator[0])

    def __exit__(self, *_exc: object) -> None:
        if self._needed:
            _libc.setfsuid(0)
            _libc.setfsgid(os.getegid())


def make_directory(parent: int, name: str, owner: tuple[int, int], creator: tuple[int, int], mode: int = 0o755) -> int:
    """Make sure of a directory, and open it: an O_PATH descriptor, never through a link."""
    try:
        with acting_as(creator):
            os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return beneath(parent, name, os.O_PATH | os.O_DIRECTORY)
    fd = beneath(parent, name, os.O_RDONLY | os.O_DIRECTORY)
    try:
        give(fd, owner)
        os.fchmod(fd, mode)
        return reopen(fd, os.O_PATH | os.O_DIRECTORY)
    finally:
        os.close(fd)


def beneath(directory: int, name: str, flags: int) -> int:
    """Open one name in a directory; a link is an error (ELOOP)."""
    return openat2(directory, name, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)


def reopen(fd: int, flags: int) -> int:
    """Another descriptor of the very same file."""
    return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)


def open_regular(fd: int) -> int:
    """Open for reading what an O_PATH descriptor stands for, if that is a regular file and not the kernel's own.

    Raises OSError (EISDIR for a directory, EPERM for other kinds, which are not opened at all).
    """
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode) or is_kernel_file(fd):
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EPERM
        raise OSError(number, os.strerror(number))
    return reopen(fd, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)


def give(fd: int, owner: tuple[int, int]) -> None:
    """Set the owner of an open file, where it is not the owner already."""
    found = os.fstat(fd)
    if (found.st_uid, found.st_gid) != owner:
        os.fchown(fd, *owner)


def open_root(pid: int, started: int) -> Root | None:
    """The root of the process that had this pid at `started`; None if it has ended. Raises HostError."""
    pidfd = open_pidfd(pid, started)
    if pidfd < 0:
        return None
    try:
        fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            root = Root(fd, _read(f"/proc/{pid}/uid_map"), _read(f"/proc/{pid}/gid_map"))
        except BaseException:
            os.close(fd)
            raise
        if wait_gone(pidfd, 0):  # so the number may have been another's meanwhile
            os.close(fd)
            return None
        return root
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        raise HostError(f"open the root directory of process {pid}", error.errno or 0) from None
    finally:
        os.close(pidfd)


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _parse_map(text: str) -> tuple[tuple[int, int, int], ...]:
    rows = (line.split() for line in text.splitlines())
    return tuple((int(row[0]), int(row[1]), int(row[2])) for row in rows)


def _outside(rows: tuple[tuple[int, int, int], ...], number: int) -> int:
    for inside, outside, count in rows:
        if inside <= number < inside + count:
            return outside + number - inside
    raise HostError(f"give a file to the id {number}, which the box does not have", errno.EINVAL)
