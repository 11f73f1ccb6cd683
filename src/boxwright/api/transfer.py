"""Putting files into a box and getting them out, safe against whatever runs in it."""

import errno
import os
import stat

from boxwright.errors import HostError, UsageError
from boxwright.host.files import acting_as, beneath, give, make_directory, open_regular, reopen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boxwright.api.arguments import StrPath, User
    from boxwright.host.files import Root

CHUNK_BYTES = 1 << 20
_DEEPEST = 128
_LIST = os.O_RDONLY | os.O_DIRECTORY
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


# --- into the box -----------------------------------------------------------------------------------------------


def put(root: "Root", source: "bytes | StrPath", path: str, *, mode: int | None, user: "User") -> None:
    """Put bytes, or a path of the host, at a path of the box. Raises as `Box.put`."""
    directory, name = place(path)
    uid, gid = (user, user) if isinstance(user, int) else user or (0, 0)
    putter = _Putter(root.outside(uid, gid), root.creator)
    try:
        parent = root.directory(directory, putter.owner)
        try:
            if isinstance(source, (bytes, bytearray, memoryview)):
                putter.content(parent, name, [bytes(source)], 0o644 if mode is None else mode)
            else:
                putter.path(parent, name, os.fspath(source), mode)
        finally:
            os.close(parent)
    except OSError as error:
        raise HostError(f"put `{path}` into the box", error.errno or 0, path=path) from error


def place(path: str) -> tuple[str, str]:
    """The directory and the name of what is to be put. Raises UsageError for what is no place."""
    directory, name = os.path.split(path.rstrip("/"))
    if not path.startswith("/") or name in {"", ".", ".."}:
        raise UsageError(f"`{path}` is no absolute path of a file in the box")
    return directory, name


class _Putter:
    """Makes files in directories of the box that are held open."""

    def __init__(self, owner: tuple[int, int], creator: tuple[int, int]) -> None:
        self.owner = owner
        self._creator = creator

    def path(self, parent: int, name: str, source: str, mode: int | None = None, depth: int = 0) -> None:
        """Put a path of the host."""
        try:
            found = os.stat(source, follow_symlinks=depth == 0)
        except OSError as error:
            raise HostError(f"read `{source}`", error.errno or 0, path=source) from None
        if stat.S_ISREG(found.st_mode):
            with open(source, "rb", buffering=0) as file:
                chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
                self.content(parent, name, chunks, found.st_mode & 0o777 if mode is None else mode)
        elif stat.S_ISDIR(found.st_mode):
            self._directory(parent, name, source, found.st_mode & 0o777, depth)
        elif stat.S_ISLNK(found.st_mode):
            self._link(parent, name, os.readlink(source))
        else:
            raise UsageError(f"`{source}` is no file, directory or link")

    def content(self, parent: int, name: str, chunks: "Iterator[bytes] | list[bytes]", mode: int) -> None:
        """Write a new file beside the place, and rename it into place."""
        draft = _draft_name()
        with acting_as(self._creator):
            fd = os.open(draft, NEW, 0o600, dir_fd=parent)
        try:
            for chunk in chunks:
                write_all(fd, chunk)
            os.fchmod(fd, mode & 0o777)
            self._move(parent, draft, name)
            give(fd, self.owner)  # only now: in a directory like /tmp its creator may rename it, and others may not
            os.fchmod(fd, mode)  # set-id bits go with the old owner
        except BaseException:
            _unlink(parent, draft)
            raise
        finally:
            os.close(fd)

    def _link(self, parent: int, name: str, text: str) -> None:
        draft = _draft_name()
        with acting_as(self._creator):
            os.symlink(text, draft, dir_fd=parent)
        try:
            self._move(parent, draft, name)
        except BaseException:
            _unlink(parent, draft)
            raise

    def _move(self, parent: int, draft: str, name: str) -> None:
        with acting_as(self._creator):
            os.rename(draft, name, src_dir_fd=parent, dst_dir_fd=parent)

    def _directory(self, parent: int, name: str, source: str, mode: int, depth: int) -> None:
        if depth >= _DEEPEST:
            raise OSError(errno.ELOOP, "too deep", source)
        fd = make_directory(parent, name, self.owner, self._creator, mode)
        try:
            for entry in sorted(os.listdir(source)):
                self.path(fd, entry, os.path.join(source, entry), None, depth + 1)
        finally:
            os.close(fd)


def _draft_name() -> str:
    return f".{os.urandom(8).hex()}.boxwright"


def _unlink(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return  # it was not made, or a program of the box was faster


def write_all(fd: int, data: bytes) -> None:
    """Write all of it. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


# --- out of the box ---------------------------------------------------------------------------------------------


def get(root: "Root", path: str, most_bytes: int | None) -> bytes:
    """The content of a file of the box. Raises as `Box.get`."""
    found = bytearray()
    try:
        fd = root.open(path)
        try:
            _Getter(most_bytes).content(fd, found.extend)
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError(f"get `{path}` from the box", error.errno or 0, path=path) from error
    return bytes(found)


def get_to(root: "Root", path: str, target: str, most_bytes: int | None) -> None:
    """Write what is at a path of the box to a new path of the host. Raises as `Box.get`."""
    directory, name = os.path.split(os.path.abspath(target))
    try:
        parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"write to `{directory}`", error.errno or 0, path=directory) from None
    try:
        if exists(parent, name):
            raise HostError(f"write `{target}`", errno.EEXIST, path=target)
        fd = root.open(path)
        try:
            _Getter(most_bytes).any(fd, parent, name)
        except BaseException:
            remove_tree(parent, name)
            raise
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError(f"get `{path}` from the box", error.errno or 0, path=path) from error
    finally:
        os.close(parent)


class _Getter:
    """Reads files of the box that are held open."""

    def __init__(self, most_bytes: int | None) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0

    def content(self, fd: int, take: "Callable[[bytes], object]") -> None:
        """Give what is in the file of an O_PATH descriptor to `take`, piece by piece."""
        file = open_regular(fd)
        try:
            while data := os.read(file, CHUNK_BYTES):
                self._bytes += len(data)
                if self._most_bytes is not None and self._bytes > self._most_bytes:
                    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
                take(data)
        finally:
            os.close(file)

    def any(self, fd: int, parent: int, name: str, depth: int = 0) -> None:
        """Write what an O_PATH descriptor stands for as the new `name` in a directory of the host."""
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            self._directory(fd, parent, name, mode, depth)
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink("", dir_fd=fd), name, dir_fd=parent)
        elif stat.S_ISREG(mode) or depth == 0:
            self._file(fd, parent, name, mode)

    def _file(self, fd: int, parent: int, name: str, mode: int) -> None:
        target = os.open(name, NEW, 0o600, dir_fd=parent)
        try:
            self.content(fd, lambda data: write_all(target, data))
            os.fchmod(target, mode & 0o777)
        finally:
            os.close(target)

    def _directory(self, fd: int, parent: int, name: str, mode: int, depth: int) -> None:
        if depth >= _DEEPEST:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        os.mkdir(name, 0o700, dir_fd=parent)
        target = os.open(name, _LIST | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            for entry in _names(fd):
                self._entry(fd, target, entry, depth + 1)
            os.fchmod(target, mode & 0o777)
        finally:
            os.close(target)

    def _entry(self, directory: int, target: int, name: str, depth: int) -> None:
        try:
            # O_NOFOLLOW with O_PATH opens a link itself
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except FileNotFoundError:
            return  # a program of the box has removed it
        try:
            self.any(fd, target, name, depth)
        finally:
            os.close(fd)


def _names(directory: int) -> list[str]:
    fd = reopen(directory, _LIST)
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def exists(parent: int, name: str) -> bool:
    """Whether there is something of that name."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def remove_tree(parent: int, name: str) -> None:
    """Remove what we wrote to the host, with all that is below it."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
            return
    except FileNotFoundError:
        return
    fd = beneath(parent, name, _LIST)
    try:
        for entry in os.listdir(fd):
            remove_tree(fd, entry)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)
