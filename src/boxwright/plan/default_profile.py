"""The default seccomp profile of `boxwright run` (docs/decisions/0010-default-seccomp-profile.md).

An allow-list: what is safe is allowed, what is refused by name gives EPERM, and what the table does not know gives
ENOSYS, so that programs fall back on what they did before the call was there. The order of rules on one call
matters: the first whose condition holds decides.
"""

from boxwright.plan.default_profile_data import (
    ALLOWED,
    REFUSED,
    UNAVAILABLE,
    UNSEEN_WITHOUT_SYS_ADMIN,
    WITH_CAPABILITY,
)
from boxwright.spec.types import Seccomp, Syscall, SyscallArg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.seccomp_arch import Arch

_ALLOW = "SCMP_ACT_ALLOW"
_ERRNO = "SCMP_ACT_ERRNO"
_MASKED_EQ = "SCMP_CMP_MASKED_EQ"
_EPERM = 1
_ENOSYS = 38
_EAFNOSUPPORT = 97
_U32 = 0xFFFFFFFF

# linux/sched.h: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET; unshare takes CLONE_NEWTIME as well
_CLONE_NEW = 0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000
_CLONE_NEWTIME = 0x80

# linux/personality.h: PER_LINUX32, UNAME26 and ADDR_NO_RANDOMIZE (debuggers), and the value that only asks
_PERSONALITY_BITS = 0x0000_0008 | 0x0002_0000 | 0x0004_0000
_PERSONALITY_QUERY = _U32

# AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET: not AF_VSOCK (the hypervisor), AF_ALG and a score of others
_FAMILIES = (1, 2, 10, 16, 17)
_AF_UNIX = 1

# asm-generic/ioctls.h: both put bytes into a terminal's input
_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C

# the 32-bit architecture whose programs a 64-bit kernel is expected to run
_KIN = {"SCMP_ARCH_X86_64": "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64": "SCMP_ARCH_ARM"}


def default_seccomp(capabilities: "frozenset[str] | tuple[str, ...]", arch: "Arch") -> Seccomp:
    """The default profile for a process whose bounding set holds these capabilities, on a host of this architecture."""
    arches = (arch.name, _KIN[arch.name]) if arch.name in _KIN else (arch.name,)
    opened, closed = _split_by_capability(capabilities)
    refused = [name for _, names in REFUSED for name in names.split()]
    unavailable = [name for _, names in UNAVAILABLE for name in names.split()]
    if UNSEEN_WITHOUT_SYS_ADMIN in closed:
        closed.remove(UNSEEN_WITHOUT_SYS_ADMIN)
        unavailable.append(UNSEEN_WITHOUT_SYS_ADMIN)
    rules = (
        Syscall((*ALLOWED.split(), *opened), _ALLOW),
        Syscall((*refused, *closed), _ERRNO, errno_ret=_EPERM),
        Syscall(tuple(unavailable), _ERRNO, errno_ret=_ENOSYS),
        *_namespace_rules("CAP_SYS_ADMIN" in capabilities, clone_flags_at=_clone_flags_at(arch)),
        *_personality_rules(),
        *_socket_rules(),
        *_ioctl_rules(),
    )
    return Seccomp(_ERRNO, default_errno_ret=_ENOSYS, architectures=arches, syscalls=rules)


def _split_by_capability(capabilities: "frozenset[str] | tuple[str, ...]") -> tuple[list[str], list[str]]:
    """The calls that a held capability opens, and those that none does."""
    opened: dict[str, None] = {}
    closed: dict[str, None] = {}
    for capability, names in WITH_CAPABILITY.items():
        (opened if capability in capabilities else closed).update(dict.fromkeys(names.split()))
    return list(opened), [name for name in closed if name not in opened]


def _clone_flags_at(arch: "Arch") -> int:
    # s390 has the stack first (CONFIG_CLONE_BACKWARDS2)
    return 1 if arch.name in ("SCMP_ARCH_S390", "SCMP_ARCH_S390X") else 0


def _allow_masked(name: str, index: int, mask: int, value: int) -> Syscall:
    return Syscall((name,), _ALLOW, args=(SyscallArg(index, mask, _MASKED_EQ, value),))


def _otherwise(name: str, index: int, action: str, errno_ret: int | None = None) -> Syscall:
    """The last rule on a call: its condition always holds. (One without conditions would come before all others.)"""
    return Syscall((name,), action, errno_ret=errno_ret, args=(SyscallArg(index, 0, "SCMP_CMP_GE"),))


def _namespace_rules(may_all: bool, clone_flags_at: int) -> tuple[Syscall, ...]:
    """Without CAP_SYS_ADMIN no new namespaces, of which the user namespace would give it all capabilities."""
    if may_all:
        return (Syscall(("clone", "unshare"), _ALLOW),)
    return (
        _allow_masked("clone", clone_flags_at, _CLONE_NEW, 0),
        _otherwise("clone", clone_flags_at, _ERRNO, _EPERM),
        _allow_masked("unshare", 0, _CLONE_NEW | _CLONE_NEWTIME, 0),
        _otherwise("unshare", 0, _ERRNO, _EPERM),
    )


def _personality_rules() -> tuple[Syscall, ...]:
    return (
        _allow_masked("personality", 0, _U32 & ~_PERSONALITY_BITS, 0),
        _allow_masked("personality", 0, _U32, _PERSONALITY_QUERY),
        _otherwise("personality", 0, _ERRNO, _EPERM),
    )


def _socket_rules() -> tuple[Syscall, ...]:
    """The kernel takes the family as an int: only the low half of the register counts."""
    return (
        *(_allow_masked("socket", 0, _U32, family) for family in _FAMILIES),
        _otherwise("socket", 0, _ERRNO, _EAFNOSUPPORT),
        _allow_masked("socketpair", 0, _U32, _AF_UNIX),
        _otherwise("socketpair", 0, _ERRNO, _EAFNOSUPPORT),
    )


def _ioctl_rules() -> tuple[Syscall, ...]:
    """The kernel takes the command as an unsigned int: comparing whole registers would let others through."""
    return (
        *(
            Syscall(("ioctl",), _ERRNO, errno_ret=_EPERM, args=(SyscallArg(1, _U32, _MASKED_EQ, command),))
            for command in (_TIOCSTI, _TIOCLINUX)
        ),
        _otherwise("ioctl", 1, _ALLOW),
    )
