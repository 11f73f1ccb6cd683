"""Machines that were booted once and saved: each container then goes on from there, with a copy of the memory.

A template is a directory of the cache: `memory`, the machine's memory as a sparse file, and `devices`, the state of
everything else. Its name is a digest of all that shapes the machine. No user's program, file or secret was ever in it:
it is saved as soon as the guest's agent has answered, before there is a container. What makes guests differ (random
numbers, time) is given to each one by SEED before anything is made in it.
"""

import errno
import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socketpair
from fcntl import LOCK_EX, flock
from time import monotonic, sleep

from boxwright._record import Record
from boxwright.boxes.vm import frames
from boxwright.boxes.vm.cache import Cache, digest_of, identity_of
from boxwright.boxes.vm.machine import KVM, NO_FD, NO_NETWORK, Disk, MachineSpec, MemoryFile
from boxwright.errors import GuestError, HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Self

    from boxwright.boxes.vm.hypervisor import Hypervisor
    from boxwright.boxes.vm.qmp import Qmp

# to be raised whenever the same machine is saved in another way
FORMAT = 1
MOST = 6
BOOT_S = 60.0
SAVE_S = 30.0
# A disk is another file in each container, and its size is part of what was saved: all are sparse files of this size.
DISK_BYTES = 8 << 30
MEMORY, DEVICES = "memory", "devices"
_PREFIX, _DRAFT, _LOCK, _PLACEHOLDER = "template-", ".draft", "templates.lock", "disk-placeholder"
_PAGE_BYTES = 4096
_PIECE_BYTES = 1 << 20
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Template(Record):
    """A saved machine: descriptors of its memory and of its devices' state, open for reading. Owned by the caller."""

    memory_fd: int
    devices_fd: int


def is_possible(spec: MachineSpec) -> bool:
    """Whether such a machine can be saved: a virtiofsd's state cannot, and a network device keeps its address."""
    return not spec.shares and spec.network.kind == NO_NETWORK and all(disk.readonly for disk in spec.disks)


def take(hypervisor: "Hypervisor", spec: MachineSpec, boot: tuple[str, str], cache: Cache) -> Template:
    """The template of a machine that boots kernel and initramfs at the paths `boot`; made where there is none.

    That takes as long as a boot; others who want the same one wait for it. Raises HostError, and GuestError if the
    machine does not boot or cannot be saved.
    """
    name = _PREFIX + _key(hypervisor, spec, boot, cache)
    found = _open(cache, name)
    if found is not None:
        return found
    lock = os.open(os.path.join(cache.directory, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        flock(lock, LOCK_EX)
        found = _open(cache, name)
        if found is None:
            remove_old(cache)
            _make(hypervisor, spec, boot, cache, name)
            found = _open(cache, name)
    finally:
        os.close(lock)
    if found is None:
        raise HostError("use the machine that was just saved", errno.ENOENT, path=os.path.join(cache.directory, name))
    return found


def _key(hypervisor: "Hypervisor", spec: MachineSpec, boot: tuple[str, str], cache: Cache) -> str:
    """A digest of all that shapes a machine: by KVM it is the host's processor too, whose state is the guest's."""
    shape = _shape(spec, boot, memory="", disk="")
    host = _boot_id() if spec.accel == KVM else ""
    files = tuple(_identity(path, cache) for path in (hypervisor.path, *boot))
    return digest_of(FORMAT, hypervisor.command(shape), files, host)


def _identity(path: str, cache: Cache) -> tuple[int, ...]:
    """What changes with the file. An entry of the cache has its content in its name, and its times tell of its use."""
    return () if os.path.dirname(path) == cache.directory else identity_of(path)


def _boot_id() -> str:
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def _shape(spec: MachineSpec, boot: tuple[str, str], *, memory: str, disk: str) -> MachineSpec:
    """The machine that is saved: no file of a container's, and descriptors that are not in its command yet."""
    return spec.replace(
        kernel=boot[0],
        initrd=boot[1],
        port_fd=0,
        qmp_fd=0,
        console_fd=NO_FD if spec.console_fd == NO_FD else 0,
        disks=tuple(Disk(path=disk, readonly=True, serial=each.serial) for each in spec.disks),
        memory_file=MemoryFile(memory, shared=True),
        incoming=False,
        orders_fd=NO_FD,
    )


def _open(cache: Cache, name: str) -> Template | None:
    """The template of that name, noted as used now; None if there is none."""
    directory = os.path.join(cache.directory, name)
    try:
        memory = os.open(os.path.join(directory, MEMORY), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        devices = os.open(os.path.join(directory, DEVICES), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.utime(directory)
    except FileNotFoundError:  # removed meanwhile
        os.close(memory)
        return None
    return Template(memory, devices)


def remove_old(cache: Cache) -> None:
    """Make room for one more: drafts of who was killed, then what was not used for the longest time."""
    import shutil

    kept = []
    for entry in os.scandir(cache.directory):
        if entry.name.startswith(_PREFIX):
            if entry.name.endswith(_DRAFT):
                shutil.rmtree(entry.path)
            else:
                kept.append((entry.stat().st_mtime_ns, entry.path))
    for _, path in sorted(kept, reverse=True)[MOST - 1 :]:
        shutil.rmtree(path)


def placeholder(cache: Cache) -> str:
    """The disk of a template: nothing, of the size that every disk has."""
    found = cache.find(_PLACEHOLDER)
    if found is None:
        found = cache.put(_PLACEHOLDER, b"")
        os.truncate(found, DISK_BYTES)
    return found


# --- making one --------------------------------------------------------------------------------------------------


def _make(hypervisor: "Hypervisor", spec: MachineSpec, boot: tuple[str, str], cache: Cache, name: str) -> None:
    """Boot the machine, save it, and give it its name once it is whole."""
    import shutil

    draft = os.path.join(cache.directory, name + _DRAFT)
    os.mkdir(draft, 0o700)
    try:
        memory, whole = os.path.join(draft, MEMORY), os.path.join(draft, "whole")
        _new(memory, spec.memory_bytes)
        _new(whole, spec.memory_bytes)
        shape = _shape(spec, boot, memory=whole, disk=placeholder(cache) if spec.disks else "")
        with _Booting(hypervisor, shape, draft) as booting:
            booting.greet()
            booting.save(os.path.join(draft, DEVICES))
        compact(whole, memory)
        os.unlink(whole)
        for file in (MEMORY, DEVICES):
            os.chmod(os.path.join(draft, file), 0o444)
        os.rename(draft, os.path.join(cache.directory, name))
    except BaseException:
        shutil.rmtree(draft)
        raise


def _new(path: str, size_bytes: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.truncate(fd, size_bytes)
    os.close(fd)


def compact(source: str, target: str) -> None:
    """Copy a memory without the pages that have nothing in them: they need not be read, kept or copied again."""
    zeros = bytes(_PAGE_BYTES)
    read, written = os.open(source, os.O_RDONLY | os.O_CLOEXEC), os.open(target, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for begin, end in extents(read):
            for start in range(begin, end, _PIECE_BYTES):
                piece = os.pread(read, min(_PIECE_BYTES, end - start), start)
                for at in range(0, len(piece), _PAGE_BYTES):
                    page = piece[at : at + _PAGE_BYTES]
                    if page != zeros:
                        os.pwrite(written, page, start + at)
    finally:
        os.close(read)
        os.close(written)


def extents(fd: int) -> "list[tuple[int, int]]":
    """Where a sparse file has something: begin and end of each piece."""
    found, at, size = [], 0, os.fstat(fd).st_size
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        found.append((begin, at))
    return found


class _Booting:
    """A machine that boots to be saved: the hypervisor is our child, killed and reaped on leaving the `with`."""

    def __init__(self, hypervisor: "Hypervisor", shape: MachineSpec, draft: str) -> None:
        import socket
        import subprocess

        self._draft = draft
        self._port, port = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(draft, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        console = os.open(self._path("console"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            listening.bind(f"/proc/self/fd/{directory}/qmp")  # a path may be too long for an address
            listening.listen(1)
            fds = (port.fileno(), listening.fileno(), console)
            spec = shape.replace(
                port_fd=fds[0], qmp_fd=fds[1], console_fd=NO_FD if shape.console_fd == NO_FD else console
            )
            self._process = subprocess.Popen(
                hypervisor.command(spec), stdin=subprocess.DEVNULL, stdout=console, stderr=console, pass_fds=fds
            )
        except BaseException:
            self._port.close()
            raise
        finally:
            port.close()
            listening.close()
            os.close(directory)
            os.close(console)

    def _path(self, name: str) -> str:
        return os.path.join(self._draft, name)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        self._port.close()
        self._process.kill()
        self._process.wait()
        for name in ("qmp", "console"):
            os.unlink(self._path(name))

    def greet(self) -> None:
        """Wait until the guest's agent has answered. Raises GuestError."""
        self._port.settimeout(BOOT_S)
        try:
            self._port.sendall(frames.encode_frame(frames.Frame(frames.GREET)))
            header = _exactly(self._port, frames.HEADER_BYTES)
            _exactly(self._port, int.from_bytes(header[:4], "little"))
        except OSError as error:
            raise GuestError("a machine does not boot", details=self._said() or [str(error)]) from None

    def save(self, path: str) -> None:
        """Write the state of its devices; its memory is in its file. Raises GuestError."""
        from boxwright.boxes.vm.qmp import connect

        with connect(self._path("qmp")) as qmp:
            save(qmp, path)

    def _said(self) -> "list[str]":
        with open(self._path("console"), "rb") as file:
            return [f"console: {line}" for line in file.read().decode("utf-8", "replace").splitlines()[-8:]]


def _exactly(port: "socket.socket", length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = port.recv(length - len(data))
        if not piece:
            raise ConnectionResetError(errno.ECONNRESET, "the hypervisor has ended")
        data += piece
    return data


def save(qmp: "Qmp", path: str) -> None:
    """Write what a machine is beside its memory to a new file; it stands still then. Raises GuestError, HostError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        qmp.give("devices", fd)
    finally:
        os.close(fd)
    left = {"capability": "x-ignore-shared", "state": True}  # the memory: it is in a file of its own already
    qmp.execute("migrate-set-capabilities", {"capabilities": [left]})
    qmp.execute("migrate-set-parameters", {"max-bandwidth": 1 << 40})
    qmp.execute("migrate", {"uri": "fd:devices"})
    end_s = monotonic() + SAVE_S
    while (state := qmp.execute("query-migrate"))["status"] != "completed":
        if state["status"] in {"failed", "cancelled"} or monotonic() > end_s:
            raise GuestError("the hypervisor cannot save the machine", details=[str(state.get("error-desc", state))])
        sleep(0.002)


# --- using one ---------------------------------------------------------------------------------------------------


def orders(devices_fd: int) -> bytes:
    """What an incoming machine of QEMU's is told: to take up what was saved in a file, by its own number of that.

    There is no option on its command line for it, and so nobody has to wait until its monitor answers.
    """
    capability = '{"capability":"x-ignore-shared","state":true}'
    told = (
        '{"execute":"qmp_capabilities"}',
        f'{{"execute":"migrate-set-capabilities","arguments":{{"capabilities":[{capability}]}}}}',
        f'{{"execute":"migrate-incoming","arguments":{{"uri":"fd:{devices_fd}"}}}}',
    )
    return "".join(told).encode()


class Restoring:
    """A saved machine on its way into a hypervisor that starts meanwhile.

    Copying the memory takes about as long as the hypervisor needs to be there. So that gets an empty file first, and
    its orders when the file is full.
    """

    def __init__(self, template: Template) -> None:
        """Take a template over. Raises OSError."""
        self._template = template
        self._memory = os.memfd_create("memory", os.MFD_CLOEXEC)
        os.truncate(self._memory, os.fstat(template.memory_fd).st_size)
        self._told, self._telling = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
        self.devices = NO_FD  # the hypervisor's number of that file

    @property
    def fds(self) -> tuple[int, int, int, int]:
        """Memory, orders, devices; and an end of the orders' socket that has to stay open. Borrowed."""
        return self._memory, self._told.fileno(), self._template.devices_fd, self._telling.fileno()

    def fill(self) -> None:
        """Copy the memory, and tell the hypervisor to take everything up. Raises OSError."""
        source = self._template.memory_fd
        for begin, end in extents(source):
            os.lseek(self._memory, begin, os.SEEK_SET)
            at = begin
            while at < end:
                at += os.sendfile(self._memory, source, at, end - at)
        self._telling.sendall(orders(self.devices))

    def close(self) -> None:
        """Let go of everything: the hypervisor has its own."""
        os.close(self._memory)
        os.close(self._template.memory_fd)
        os.close(self._template.devices_fd)
        self._told.close()
        self._telling.close()
