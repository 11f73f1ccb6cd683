"""The guest's kernel: found on this host, told by what it says of itself, unpacked once.

A distribution's kernel is a bzImage: a loader with the real kernel, an ELF file, compressed inside. The ELF file boots
by PVH, without the time that the loader takes to unpack it again at each start, which under emulation is a second.
See the kernel's Documentation/arch/x86/boot.rst and Xen's misc/pvh.html.
"""

import errno
import os
from struct import Struct, unpack_from

from boxwright._record import Record
from boxwright.boxes.vm.cache import Cache, digest_of, identity_of
from boxwright.boxes.vm.unpack import unpack
from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

INSTALL_HINT = "apt-get install linux-image-cloud-amd64, or name one with `vm.kernel.path`"
UNREADABLE_HINT = "Ubuntu's kernels are root's alone (0600): as root, chmod 0644 {path}"
MODULE_ROOTS = ("/lib/modules", "/usr/lib/modules")
_ELF = b"\x7fELF"
_HEADER_BYTES = 0x300
_BOOT_FLAG, _HEADER_MAGIC = b"\x55\xaa", b"HdrS"
_SECTOR_BYTES = 512
_GREATEST_BYTES = 1 << 30
# boot.rst gives these places in the file
_SETUP_SECTORS_AT, _BOOT_FLAG_AT, _MAGIC_AT, _VERSION_AT, _PAYLOAD_AT = 0x1F1, 0x1FE, 0x202, 0x20E, 0x248
_BANNER = b"Linux version "
_PROGRAM_HEADER = Struct("<IIQQQQQQ")
_PT_NOTE, _PVH_ENTRY_NOTE = 4, 18  # XEN_ELFNOTE_PHYS32_ENTRY


class Kernel(Record):
    """A kernel file: where it is, the version it says it has, its modules' directory (empty: none), its identity."""

    path: str
    version: str
    modules: str
    identity: tuple[int, ...]


class BootImage(Record):
    """What a hypervisor loads: the ELF file of a kernel if it has the PVH entry, else the kernel's file as it is.

    `key` is another for every other kernel.
    """

    path: str
    pvh: bool
    key: str


def find_kernel(path: str = "", pointer: str = "") -> Kernel:
    """The kernel at `path` (whose line of config.json is `pointer`), or the newest one of the host with its modules.

    Raises HostError where there is none, or none that this user may read.
    """
    return read_kernel(path, pointer) if path else newest(list(host_kernels()))


def newest(paths: "Sequence[str]") -> Kernel:
    """The kernel of the highest version that can be read and has its modules. Raises HostError."""
    found: list[Kernel] = []
    problems: list[HostError] = []
    for path in paths:
        try:
            found.append(read_kernel(path))
        except HostError as error:
            problems.append(error)
    usable = [kernel for kernel in found if kernel.modules]
    if usable:
        return max(usable, key=lambda kernel: (_order(kernel.version), kernel.path))
    unreadable = [problem for problem in problems if problem.errno in {errno.EACCES, errno.EPERM}]
    if unreadable:
        raise unreadable[0]
    cause = "none of those in /boot has its modules in /lib/modules" if found else "there is none in /boot"
    notes = [problem.message for problem in problems]
    raise HostError("find a kernel for the machine", 0, cause=cause, notes=notes, hint=INSTALL_HINT)


def host_kernels() -> "Iterator[str]":
    """Paths of the files that are kernels by their name, in no order of use.

    Not /boot/vmlinux-*: what is called so is for debuggers, or another form of one that is there as vmlinuz too.
    """
    for name in _names_in("/boot"):
        if name.startswith("vmlinuz-"):
            yield f"/boot/{name}"
    for version in _names_in("/usr/lib/modules"):
        path = f"/usr/lib/modules/{version}/vmlinuz"
        if os.path.exists(path):
            yield path


def read_kernel(path: str, pointer: str = "") -> Kernel:
    """What the file says that it is. Raises HostError if it is no kernel for this machine, or cannot be read."""
    try:
        with open(path, "rb") as file:
            header = file.read(_HEADER_BYTES)
            whole = header + file.read(_GREATEST_BYTES) if header.startswith(_ELF) else header
        identity = identity_of(path)
    except OSError as error:
        raise _unreadable(path, pointer, error) from error
    version = _elf_version(whole) if header.startswith(_ELF) else _bzimage_version(header, path)
    if not version:
        cause = "it is neither a bzImage nor an ELF file that says its version"
        raise HostError(f"boot the kernel `{path}`", errno.ENOEXEC, path=path, pointer=pointer, cause=cause)
    return Kernel(path, version, modules_directory(version), identity)


def modules_directory(version: str) -> str:
    """Where the modules of a kernel are, empty if they are not on this host."""
    if "/" in version or version in {"", ".", ".."}:
        return ""
    places = (f"{root}/{version}" for root in MODULE_ROOTS)
    return next((place for place in places if os.path.exists(f"{place}/modules.dep")), "")


def boot_image(kernel: Kernel, cache: Cache) -> BootImage:
    """The file to boot, unpacked into the cache at the first time. Raises HostError."""
    key = digest_of(kernel.path, kernel.identity)
    known = cache.make(f"vmlinux-{key}", lambda: _pvh_image(kernel))
    pvh = os.path.getsize(known) > 0
    return BootImage(known if pvh else kernel.path, pvh, key)


def _pvh_image(kernel: Kernel) -> bytes:
    """The ELF file, empty if it cannot be booted by PVH."""
    try:
        with open(kernel.path, "rb") as file:
            content = file.read(_GREATEST_BYTES)
    except OSError as error:
        raise _unreadable(kernel.path, "", error) from error
    plain = content if content.startswith(_ELF) else payload(content, kernel.path)
    return plain if has_pvh_entry(plain) else b""


def payload(content: bytes, path: str) -> bytes:
    """The kernel that is compressed inside of a bzImage. Raises HostError."""
    sectors = content[_SETUP_SECTORS_AT] or 4  # so for loaders older than the field
    offset, length = unpack_from("<II", content, _PAYLOAD_AT)
    start = (sectors + 1) * _SECTOR_BYTES + offset
    packed = content[start : start + length]
    if not length or len(packed) != length:
        raise HostError(f"unpack the kernel `{path}`", errno.ENOEXEC, path=path, cause="its file is cut short")
    plain = _unpacked(packed, f"the kernel `{path}`")
    if not plain.startswith(_ELF):
        raise HostError(f"unpack the kernel `{path}`", errno.ENOEXEC, path=path, cause="there is no ELF file inside")
    return plain


def has_pvh_entry(elf: bytes) -> bool:
    """Whether a 64-bit ELF file has the note with the address where PVH begins."""
    if len(elf) < 64 or elf[4] != 2:
        return False
    (offset,), (size, count) = unpack_from("<Q", elf, 32), unpack_from("<HH", elf, 54)
    for index in range(count):
        kind, _, start, _, _, length, _, _ = _PROGRAM_HEADER.unpack_from(elf, offset + index * size)
        if kind == _PT_NOTE and _PVH_ENTRY_NOTE in _note_types(elf[start : start + length]):
            return True
    return False


def _note_types(notes: bytes) -> "Iterator[int]":
    """Types of the notes that Xen named (elf(5))."""
    at = 0
    while at + 12 <= len(notes):
        name_bytes, value_bytes, kind = unpack_from("<III", notes, at)
        name = notes[at + 12 : at + 12 + name_bytes]
        if name == b"Xen\0":
            yield kind
        at += 12 + (name_bytes + 3 & ~3) + (value_bytes + 3 & ~3)


def _unpacked(packed: bytes, what: str) -> bytes:
    """Behind the compressed data stands its size, 4 bytes that are no part of it (but gzip's own are)."""
    return unpack(packed if packed.startswith(b"\x1f\x8b") else packed[:-4], what)


def _bzimage_version(header: bytes, path: str) -> str:
    """The version out of the header's text, empty if it is no bzImage."""
    if header[_BOOT_FLAG_AT : _BOOT_FLAG_AT + 2] != _BOOT_FLAG or header[_MAGIC_AT : _MAGIC_AT + 4] != _HEADER_MAGIC:
        return ""
    (place,) = unpack_from("<H", header, _VERSION_AT)
    with open(path, "rb") as file:
        file.seek(place + _SECTOR_BYTES)
        return _first_word(file.read(256)) if place else ""


def _elf_version(content: bytes) -> str:
    """The version out of the banner that /proc/version shows."""
    at = content.find(_BANNER)
    while at >= 0:
        version = _first_word(content[at + len(_BANNER) : at + len(_BANNER) + 256])
        if version[:1].isdigit():  # elsewhere it is a format, `%s`
            return version
        at = content.find(_BANNER, at + 1)
    return ""


def _first_word(text: bytes) -> str:
    words = text.partition(b"\0")[0].split()
    return words[0].decode("ascii", "replace") if words else ""


def _order(version: str) -> tuple[int, ...]:
    """6.10.2-3-cloud as (6, 10, 2, 3): what is not a number counts no more than its order in the name."""
    numbers = "".join(letter if letter.isdigit() else " " for letter in version).split()
    return tuple(int(number) for number in numbers)


def _names_in(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []  # not there, or not for us to see: no kernel from here


def _unreadable(path: str, pointer: str, error: OSError) -> HostError:
    denied = error.errno in {errno.EACCES, errno.EPERM}
    hint = UNREADABLE_HINT.format(path=path) if denied else INSTALL_HINT
    return HostError(f"read the kernel `{path}`", error.errno or 0, path=path, pointer=pointer, hint=hint)
