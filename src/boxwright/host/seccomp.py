"""The host's side of seccomp: numbers of system calls from libseccomp (>= 2.5), and compiling with them.

Cold: `host.seccomp_cache` loads this module only where no compiled program is at hand.
"""

import ctypes
import os

from boxwright._record import Record
from boxwright.errors import UnsupportedError
from boxwright.plan.seccomp_arch import ARCHES, Arch, native_arch
from boxwright.plan.seccomp_filter import Number, Program, compile_filter, listed_arches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.spec.types import Seccomp

_LIBRARY = "libseccomp.so.2"
_OLDEST = (2, 5)
_ERROR = -1  # __NR_SCMP_ERROR

# Since Linux 5.1 a new call has one number on all architectures (424 and up), counted from where each one begins.
# libseccomp is often older than the kernel and the profile; these are the calls that its releases lag behind with.
_UNIFIED: dict[str, int] = {
    "futex_waitv": 449,
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
    "listns": 470,
}
# calls of x86-64 alone that are newer than many a libseccomp
_X86_64_ONLY: dict[str, int] = {"uretprobe": 335, "uprobe": 336}

# libseccomp gives calls that go through a multiplexer numbers below zero: -100 - operation, -200 - operation
_SOCKETCALL = range(-120, -100)
_IPC = range(-224, -200)
# ipc(2) keeps a version in the upper half of its first argument; socketcall(2) takes an int
_IPC_MASK = 0xFFFF
_SOCKETCALL_MASK = 0xFFFFFFFF
# where architectures with multiplexers keep the direct calls that came later (Linux 4.3, 5.1)
_DIRECT_CALLS = range(320, 424)


class LibseccompVersion(Record):
    """The release of the installed libseccomp."""

    major: int
    minor: int
    micro: int


class _Version(ctypes.Structure):
    _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))


class SyscallNumbers:
    """Numbers of system calls by architecture and name. Answers are remembered."""

    def __init__(self) -> None:
        """Raises UnsupportedError where libseccomp is missing or older than 2.5."""
        self._library = _load_library()
        self._known: dict[tuple[str, str], Number | None] = {}
        self._direct: dict[str, dict[str, int]] = {}

    def version(self) -> LibseccompVersion:
        """The release of libseccomp in use."""
        return _version(self._library)

    def knows_arch(self, arch: Arch) -> bool:
        """Whether this libseccomp has a table for the architecture."""
        return self._resolve_raw(arch, "read") != _ERROR

    def resolve(self, arch: Arch, name: str) -> Number | None:
        """The number of a call on an architecture; None if there is no call of that name anywhere."""
        key = (arch.name, name)
        if key not in self._known:
            self._known[key] = self._find(arch, name)
        return self._known[key]

    def _find(self, arch: Arch, name: str) -> Number | None:
        found = self._resolve_raw(arch, name)
        if found >= 0:
            return Number(found)
        if found in _SOCKETCALL:
            return self._multiplexed(arch, name, "socketcall", -100 - found, _SOCKETCALL_MASK)
        if found in _IPC:
            return self._multiplexed(arch, name, "ipc", -200 - found, _IPC_MASK)
        return _newer_than_library(arch, name) if found == _ERROR else Number(None)

    def _multiplexed(self, arch: Arch, name: str, multiplexer: str, operation: int, mask: int) -> Number:
        number = self._resolve_raw(arch, multiplexer)
        direct = self._direct_numbers(arch).get(name)
        # libseccomp gives the pseudo number on architectures too that have neither form of the call
        return Number(direct, number, operation, mask) if number >= 0 else Number(direct)

    def _direct_numbers(self, arch: Arch) -> dict[str, int]:
        """Name to number for the range where direct forms of multiplexed calls are."""
        table = self._direct.get(arch.name)
        if table is None:
            table = self._direct[arch.name] = {}
            for number in _DIRECT_CALLS:
                name = self.name_of(arch, arch.first_number + number)
                if name is not None:
                    table[name] = arch.first_number + number
        return table

    def name_of(self, arch: Arch, number: int) -> str | None:
        """The name of a system call by its number; None if this libseccomp knows none."""
        text = self._library.seccomp_syscall_resolve_num_arch(arch.token, number)
        if not text:
            return None
        try:
            return ctypes.string_at(text).decode("ascii")
        finally:
            _libc_free(text)

    def _resolve_raw(self, arch: Arch, name: str) -> int:
        if not name.isascii() or "\0" in name:
            return _ERROR  # no name of a call, and not to be cut to one
        encoded = name.encode()
        found: int = self._library.seccomp_syscall_resolve_name_arch(arch.token, encoded)
        return found


def _newer_than_library(arch: Arch, name: str) -> Number | None:
    if name in _UNIFIED:
        return Number(arch.first_number + _UNIFIED[name])
    if name in _X86_64_ONLY:
        return Number(_X86_64_ONLY[name] if arch.name == "SCMP_ARCH_X86_64" else None)
    return None


def _load_library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise UnsupportedError(
            "linux.seccomp", "linux", f"`{_LIBRARY}` cannot be loaded: {error}", hint="install libseccomp 2.5 or newer"
        ) from error
    library.seccomp_version.restype = ctypes.POINTER(_Version)
    library.seccomp_version.argtypes = ()
    library.seccomp_syscall_resolve_name_arch.restype = ctypes.c_int
    library.seccomp_syscall_resolve_name_arch.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
    library.seccomp_syscall_resolve_num_arch.argtypes = (ctypes.c_uint32, ctypes.c_int)
    found = _version(library)
    if (found.major, found.minor) < _OLDEST:
        raise UnsupportedError(
            "linux.seccomp",
            "linux",
            f"libseccomp {found.major}.{found.minor}.{found.micro} is too old",
            hint="install libseccomp 2.5 or newer",
        )
    return library


def _version(library: ctypes.CDLL) -> LibseccompVersion:
    found = library.seccomp_version().contents
    return LibseccompVersion(found.major, found.minor, found.micro)


def _libc_free(pointer: int) -> None:
    free = ctypes.CDLL(None).free
    free.argtypes = (ctypes.c_void_p,)
    free.restype = None
    free(pointer)


_numbers: list[SyscallNumbers] = []


def syscall_numbers() -> SyscallNumbers:
    """The table of this process, made at first use. Raises UnsupportedError as `SyscallNumbers` does."""
    if not _numbers:
        _numbers.append(SyscallNumbers())
    return _numbers[0]


def unknown_calls(section: "Seccomp") -> tuple[tuple[str, str], ...]:
    """The system calls that compiling would leave out, each with its pointer. Raises UnsupportedError as it would."""
    numbers, here = syscall_numbers(), host_arch()
    listed = {here, *(ARCHES[name] for name in section.architectures if name in ARCHES)}
    arches = [arch for arch in listed if numbers.knows_arch(arch)]
    return tuple(
        (rule.at("names", position), name)
        for rule in section.syscalls
        for position, name in enumerate(rule.names)
        if arches and all(numbers.resolve(arch, name) is None for arch in arches)
    )


def host_arch() -> Arch:
    """The architecture of this host. Raises UnsupportedError for a machine that is not known."""
    return native_arch(os.uname().machine)


def compile_section(section: "Seccomp", native: Arch | None = None) -> Program:
    """Compile a seccomp section for this host (or for another native architecture).

    Raises ConfigError with the pointer of a wrong value, UnsupportedError where libseccomp is missing, too old or does
    not know the architecture of this host, and what `plan.seccomp_filter.compile_filter` raises.
    """
    numbers = syscall_numbers()
    here = host_arch() if native is None else native
    if not numbers.knows_arch(here):
        found = numbers.version()
        raise UnsupportedError(
            here.name,
            "linux",
            f"libseccomp {found.major}.{found.minor}.{found.micro} has no table for it",
            hint="install a newer libseccomp",
        )
    # no program of an architecture without a table runs here; its calls are killed as those of one that is not listed
    known = tuple(arch.name for arch in listed_arches(section, here) if numbers.knows_arch(arch))
    return compile_filter(section.replace(architectures=known), here, numbers.resolve)
