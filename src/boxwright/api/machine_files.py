"""Putting files into the guest of a machine and getting them out, safe against whatever runs in it.

What is in the guest its helper does there (`TakeFiles`, `GiveFiles`), below the container's root. What it sends is
believed no more than a program: names have to be names, and nothing is written but below the place that was asked for.
"""

import errno
import os
import stat

from boxwright.api.transfer import CHUNK_BYTES, NEW, exists, place, remove_tree, write_all
from boxwright.boxes.vm import records
from boxwright.boxes.vm.client import ANSWER_S, Client
from boxwright.boxes.vm.exchange import Exchange
from boxwright.boxes.vm.guest import GROUP
from boxwright.boxes.vm.records import RecordReader, encode_record
from boxwright.errors import GuestError, HostError, StateError, UsageError
from boxwright.plan import ops
from boxwright.plan.builder import Builder
from boxwright.runtime.containers import RUNNING
from boxwright.runtime.vm.lost import lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from boxwright.api.arguments import StrPath, User
    from boxwright.boxes.vm.records import FileRecord
    from boxwright.plan.ops import Op, Plan
    from boxwright.runtime.containers import Container

_MOST_ENTRIES = 1 << 22  # of what one `get` may make on the host: a guest could go on for ever
_O_DIRECTORY = os.O_PATH | os.O_DIRECTORY


def put(container: "Container", source: "bytes | StrPath", path: str, *, mode: int | None, user: "User") -> None:
    """Put bytes, or a path of the host, at a path of the guest's container. Raises as `Box.put`, and GuestError."""
    directory, name = place(path)
    uid, gid = (user, user) if isinstance(user, int) else user or (0, 0)
    op = ops.TakeFiles(0, directory, name, uid, gid)
    if isinstance(source, (bytes, bytearray, memoryview)):
        given = _file(b"", [bytes(source)], 0o644 if mode is None else mode)
    else:
        given = _path(b"", os.fspath(source), mode)
    try:
        number = _exchange(container, op, _ended(given), _nothing)
    except OSError as error:
        number = error.errno or errno.EIO
    if number:
        raise HostError(f"put `{path}` into the box", number, path=path)


def get(container: "Container", path: str, most_bytes: int | None) -> bytes:
    """The content of a file of the guest's container. Raises as `Box.get`, and GuestError."""
    found = _Content(most_bytes)
    _get(container, path, found, tree=False, most_bytes=most_bytes)
    return bytes(found.content)


def get_to(container: "Container", path: str, target: str, most_bytes: int | None) -> None:
    """Write what is at a path of the guest's container to a new path of the host. Raises as `Box.get`, GuestError."""
    directory, name = os.path.split(os.path.abspath(target))
    try:
        parent = os.open(directory, _O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"write to `{directory}`", error.errno or 0, path=directory) from None
    try:
        if exists(parent, name):
            raise HostError(f"write `{target}`", errno.EEXIST, path=target)
        with _Tree(parent, name, most_bytes) as tree:
            _get(container, path, tree, tree=True, most_bytes=most_bytes)
    finally:
        os.close(parent)


# --- the guest's side -------------------------------------------------------------------------------------------


def _exchange(container: "Container", op: "Op", given: "Iterator[bytes]", take: "Callable[[bytes], object]") -> int:
    """Perform the operation in the guest; its errno."""
    status = container.status()
    if status != RUNNING:
        raise StateError(container.id, status, RUNNING)
    try:
        with Client(container.directory) as client:
            client.greet(ANSWER_S)
            exchange = Exchange(client, _plan(int(container.facts["guestPid"]), op))
            exchange.run(given, take)
    except GuestError as error:
        if not container.alive():
            raise StateError(container.id, container.status(), RUNNING) from error
        raise lost(container, error) from None
    except ValueError as error:
        raise GuestError(f"the guest cannot be understood: {error}") from None
    if exchange.errno:
        return exchange.errno
    return errno.ENOMEM if exchange.exit is not None and os.WIFSIGNALED(exchange.exit.status) else 0


def _plan(pid: int, op: "Op") -> "Plan":
    """Who performs it is counted to the container, where its groups take processes: its memory is limited."""
    b = Builder(())
    root = b.slot()
    b.add(ops.OUTER, ops.Write(f"/sys/fs/cgroup{GROUP}/cgroup.procs", b"0"), soft=True)
    b.add(ops.OUTER, ops.Open(root, f"/proc/{pid}/root", _O_DIRECTORY))
    b.add(ops.OUTER, op)
    b.add(ops.OUTER, ops.Ready())
    return b.build()


# --- into the guest ---------------------------------------------------------------------------------------------


def _ended(given: "Iterator[bytes]") -> "Iterator[bytes]":
    yield from given
    yield encode_record(records.DONE)


def _nothing(_data: bytes) -> None:
    """The guest has nothing to say but how it went."""


def _path(name: bytes, source: str, mode: int | None = None, depth: int = 0) -> "Iterator[bytes]":
    """The records of a path of the host. Raises HostError and UsageError."""
    try:
        found = os.stat(source, follow_symlinks=depth == 0)
    except OSError as error:
        raise HostError(f"read `{source}`", error.errno or 0, path=source) from None
    if stat.S_ISREG(found.st_mode):
        with open(source, "rb", buffering=0) as file:
            chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
            yield from _file(name, chunks, found.st_mode & 0o777 if mode is None else mode)
    elif stat.S_ISDIR(found.st_mode):
        yield encode_record(records.DIRECTORY, found.st_mode & 0o777, name)
        for entry in sorted(os.listdir(source)):
            yield from _path(os.fsencode(entry), os.path.join(source, entry), None, depth + 1)
        yield encode_record(records.END)
    elif stat.S_ISLNK(found.st_mode):
        yield encode_record(records.LINK, 0, name + b"\0" + os.fsencode(os.readlink(source)))
    else:
        raise UsageError(f"`{source}` is no file, directory or link")


def _file(name: bytes, chunks: "Iterable[bytes]", mode: int) -> "Iterator[bytes]":
    yield encode_record(records.FILE, mode, name)
    for chunk in chunks:
        for start in range(0, len(chunk), records.PAYLOAD_BYTES):
            yield encode_record(records.DATA, 0, chunk[start : start + records.PAYLOAD_BYTES])
    yield encode_record(records.END)


# --- out of the guest -------------------------------------------------------------------------------------------


def _get(container: "Container", path: str, target: "_Target", *, tree: bool, most_bytes: int | None) -> None:
    reader = RecordReader()

    def take(data: bytes) -> None:
        for record in reader.feed(data):
            target.take(record)

    op = ops.GiveFiles(0, path, int(tree), -1 if most_bytes is None else most_bytes)
    try:
        number = _exchange(container, op, iter(()), take)
        if number == 0 and not reader.done:
            raise GuestError("the guest cannot be understood: it stops in the middle of a file")
    except OSError as error:
        number = error.errno or errno.EIO
    if number:
        raise HostError(f"get `{path}` from the box", number, path=path)


class _Target:
    """Takes records, and counts what they bring."""

    def __init__(self, most_bytes: int | None) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0

    def take(self, record: "FileRecord") -> None:
        """Take a record. Raises OSError and ValueError."""
        raise NotImplementedError

    def count(self, size_bytes: int) -> None:
        """So much content came. Raises OSError where that is more than was asked for."""
        self._bytes += size_bytes
        if self._most_bytes is not None and self._bytes > self._most_bytes:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


class _Content(_Target):
    """The content of one file."""

    def __init__(self, most_bytes: int | None) -> None:
        super().__init__(most_bytes)
        self.content = bytearray()

    def take(self, record: "FileRecord") -> None:
        if record.kind == records.DATA:
            self.count(len(record.payload))
            self.content += record.payload


class _Tree(_Target):
    """Makes what comes as the new `name` in a directory of the host; what was made is removed if that fails."""

    def __init__(self, parent: int, name: str, most_bytes: int | None) -> None:
        super().__init__(most_bytes)
        self._parent = parent
        self._name = name
        self._directories: list[tuple[int, int]] = []
        self._file = -1
        self._mode = 0
        self._entries = 0

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: "type[BaseException] | None", *_exc: object) -> None:
        if self._file >= 0:
            os.close(self._file)
        for fd, _mode in self._directories:
            os.close(fd)
        if kind is not None and self._entries:
            remove_tree(self._parent, self._name)

    def take(self, record: "FileRecord") -> None:
        if record.kind == records.DATA:
            if self._file < 0:
                raise ValueError("it sends content of nothing")
            self.count(len(record.payload))
            write_all(self._file, record.payload)
        elif record.kind == records.END:
            self._end()
        elif record.kind != records.DONE:
            self._begin(record)
        elif self._file >= 0 or self._directories:
            raise ValueError("it ends in the middle of a file")

    def _begin(self, record: "FileRecord") -> None:
        self._entries += 1
        if self._file >= 0 or self._entries > _MOST_ENTRIES or (self._entries > 1 and not self._directories):
            raise ValueError("it sends more than was asked for")
        parent = self._directories[-1][0] if self._directories else self._parent
        written, _, leads_to = record.payload.partition(b"\0")
        name = _checked(written) if self._directories else self._name
        if record.kind == records.LINK:
            os.symlink(os.fsdecode(leads_to), name, dir_fd=parent)
        elif record.kind == records.FILE:
            self._file, self._mode = os.open(name, NEW, 0o600, dir_fd=parent), record.mode
        else:
            self._descend(parent, name, record.mode)

    def _descend(self, parent: int, name: str, mode: int) -> None:
        if len(self._directories) >= records.DEEPEST:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        os.mkdir(name, 0o700, dir_fd=parent)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._directories.append((os.open(name, flags, dir_fd=parent), mode))

    def _end(self) -> None:
        if self._file >= 0:
            fd, mode, self._file = self._file, self._mode, -1
        elif self._directories:
            fd, mode = self._directories.pop()
        else:
            raise ValueError("it ends what it has not begun")
        try:
            os.fchmod(fd, mode)
        finally:
            os.close(fd)


def _checked(written: bytes) -> str:
    """A name as the guest says it. Raises ValueError if it is none."""
    if written in {b"", b".", b".."} or b"/" in written:
        raise ValueError("it sends a name that is none")
    return os.fsdecode(written)
