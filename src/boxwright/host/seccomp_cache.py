"""Compiled seccomp programs by content. Hot: what compiles (libseccomp, ctypes) is loaded on a miss only.

An entry is named after a digest of everything that its program depends on, and holds the program, a remark on it, and a
digest of both, so a torn or damaged entry is noticed and compiled again. Entries are trusted, hence the directory has
to be ours alone.
"""

import errno
import os
import stat
import sys

from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from hashlib import sha256

    from boxwright.spec.types import Seccomp, Syscall

    Compiled = tuple[bytes, str]
else:
    try:
        # hashlib would load OpenSSL, which takes longer than all that is digested here
        if sys.version_info >= (3, 12):
            from _sha2 import sha256
        else:
            from _sha256 import sha256
    except ImportError:  # an interpreter built without hashes of its own
        from hashlib import sha256

# to be raised whenever the same section compiles to another program
FORMAT = 2
_MAGIC = b"boxwright-bpf-2\n"
_DIGEST_BYTES = 32
_INSTRUCTION_BYTES = 8
_GREATEST_BYTES = 4096 * _INSTRUCTION_BYTES
_LENGTH_BYTES = 4
_REMARK_BYTES = 8192
_MOST_NAMED = 16
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_ENTRY = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_OPEN_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_memory: "dict[str, Compiled]" = {}


def program_for(section: "Seccomp", cache_dir: str) -> "Compiled":
    """The BPF program of a seccomp section as an array of struct sock_filter, from memory, the cache, or compiled; and
    a remark on what it leaves out, empty where that is nothing.

    `cache_dir` is made with mode 0700 where it is missing. Raises HostError where it is a symbolic link, another
    user's or open to others, and what `host.seccomp.compile_section` raises.
    """
    key = section_key(section)
    compiled = _memory.get(key)
    if compiled is None:
        compiled = _memory[key] = _from_directory(key, cache_dir, lambda: _compile(section))
    return compiled


def default_program(capabilities: "frozenset[str] | tuple[str, ...]", cache_dir: str) -> bytes:
    """The BPF program of the default profile for a process with these capabilities.

    The profile itself is loaded only where its program is not cached. Raises as `program_for` does.
    """
    from boxwright.plan.default_profile_key import PROFILE_VERSION, deciding_capabilities

    held = deciding_capabilities(capabilities)
    key = _digest(("default", PROFILE_VERSION, held, *_surroundings()))
    compiled = _memory.get(key)
    if compiled is None:
        compiled = _memory[key] = _from_directory(key, cache_dir, lambda: _compile_default(held))
    return compiled[0]


def section_key(section: "Seccomp") -> str:
    """The name of a section's entry: a digest of what its program depends on."""
    rules = tuple([_rule_values(rule) for rule in section.syscalls])
    values = (section.default_action, section.default_errno_ret, section.architectures, rules)
    return _digest((*values, *_surroundings()))


def _rule_values(rule: "Syscall") -> "tuple[object, ...]":
    args = tuple([(arg.index, arg.value, arg.value_two, arg.op) for arg in rule.args])
    return rule.names, rule.action, rule.errno_ret, args


def _surroundings() -> "tuple[object, ...]":
    return FORMAT, os.uname().machine, sys.byteorder


def _digest(values: "tuple[object, ...]") -> str:
    return sha256(repr(values).encode("utf-8", "surrogatepass")).hexdigest()


def _compile(section: "Seccomp") -> "Compiled":
    from boxwright.host.seccomp import compile_section

    program = compile_section(section)
    return program.code, _remark(program.skipped)


def _remark(skipped: "tuple[str, ...]") -> str:
    if not skipped:
        return ""
    names = [f"`{name[:80]}`" for name in skipped[:_MOST_NAMED]]
    if len(skipped) > _MOST_NAMED:
        names.append(f"{len(skipped) - _MOST_NAMED} more")
    text = f"the seccomp filter leaves out system calls that are not known here: {', '.join(names)}"
    return text.encode("utf-8", "replace").decode()


def _compile_default(held: "tuple[str, ...]") -> "Compiled":
    from boxwright.host.seccomp import host_arch
    from boxwright.plan.default_profile import default_seccomp

    return _compile(default_seccomp(held, host_arch()))


def _from_directory(key: str, cache_dir: str, compile_it: "Callable[[], Compiled]") -> "Compiled":
    directory = _open_directory(cache_dir)
    try:
        compiled = _read(directory, key)
        if compiled is None:
            compiled = compile_it()
            _write(directory, key, compiled, cache_dir)
        return compiled
    finally:
        os.close(directory)


def _open_directory(cache_dir: str) -> int:
    """An owned descriptor of the cache directory, which nobody else can write to or read."""
    try:
        directory = os.open(cache_dir, _OPEN_DIRECTORY)
    except FileNotFoundError:
        directory = _make_directory(cache_dir)
    except OSError as error:
        raise _refused(cache_dir, error.errno or 0) from error
    found = os.fstat(directory)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(directory)
        raise _refused(cache_dir, errno.EPERM)
    return directory


def _make_directory(cache_dir: str) -> int:
    try:
        parent = os.path.dirname(cache_dir)
        if parent:
            os.makedirs(parent, 0o700, exist_ok=True)
        try:
            os.mkdir(cache_dir, 0o700)
        except FileExistsError:
            # somebody was faster: the checks below judge what is there
            return os.open(cache_dir, _OPEN_DIRECTORY)
        return os.open(cache_dir, _OPEN_DIRECTORY)
    except OSError as error:
        raise _refused(cache_dir, error.errno or 0) from error


def _refused(cache_dir: str, number: int) -> HostError:
    return HostError(
        f"use the cache of seccomp programs `{cache_dir}`",
        number,
        path=cache_dir,
        hint="it must be a directory of this user with mode 0700, not a symbolic link",
    )


def _read(directory: int, key: str) -> "Compiled | None":
    """What an entry holds, or None where there is none that is whole."""
    try:
        entry = os.open(key, _OPEN_ENTRY, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise HostError(f"open the cached seccomp program `{key}`", error.errno or 0, path=key) from error
    try:
        found = os.fstat(entry)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return None
        most = len(_MAGIC) + _DIGEST_BYTES + _LENGTH_BYTES + _GREATEST_BYTES + _REMARK_BYTES
        content = os.read(entry, most + 1)
    finally:
        os.close(entry)
    return _checked(content, found.st_size)


def _checked(content: bytes, size: int) -> "Compiled | None":
    start = len(_MAGIC) + _DIGEST_BYTES
    body = content[start:]
    whole = len(content) == size and content.startswith(_MAGIC)
    if not whole or sha256(body).digest() != content[len(_MAGIC) : start]:
        return None
    end = _LENGTH_BYTES + int.from_bytes(body[:_LENGTH_BYTES], "little")
    program = body[_LENGTH_BYTES:end]
    if not program or len(program) % _INSTRUCTION_BYTES or len(program) != end - _LENGTH_BYTES:
        return None
    return program, body[end:].decode()


def _write(directory: int, key: str, compiled: "Compiled", cache_dir: str) -> None:
    """Write beside the entry and rename, so that nobody ever sees a part of it."""
    draft = f"{key}.{os.getpid()}.{os.urandom(4).hex()}"
    program, remark = compiled
    body = len(program).to_bytes(_LENGTH_BYTES, "little") + program + remark.encode()
    content = _MAGIC + sha256(body).digest() + body
    try:
        entry = os.open(draft, _OPEN_NEW, 0o600, dir_fd=directory)
        try:
            _fill(entry, content)
            os.rename(draft, key, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            os.unlink(draft, dir_fd=directory)
            raise
        finally:
            os.close(entry)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise _refused(cache_dir, error.errno or 0) from error
        # where nothing fits any more the program is at hand all the same: only the next start compiles again


def _fill(entry: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(entry, rest) :]
