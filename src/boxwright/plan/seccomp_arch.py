"""Architectures of seccomp filters: their AUDIT_ARCH_ numbers (linux/audit.h) and who is native where."""

import sys

from boxwright._record import Record
from boxwright.errors import UnsupportedError
from boxwright.spec.seccomp_constants import ARCHITECTURES

_64BIT = 0x80000000  # __AUDIT_ARCH_64BIT
_N32 = 0x20000000  # __AUDIT_ARCH_CONVENTION_MIPS64_N32

X32_BIT = 0x40000000  # __X32_SYSCALL_BIT
NO_CALL = 0xFFFFFFFF  # -1: what a tracer sets to skip a call


class Arch(Record):
    """One architecture.

    `audit` is what the kernel puts in seccomp_data.arch, `token` what libseccomp calls it; they differ for x32 only.
    `arg_bits` is the width of an argument, `first_number` where its system calls begin.
    """

    name: str
    audit: int
    token: int
    arg_bits: int
    first_number: int = 0


# MIPS counts the calls of each of its interfaces from a number of its own
_FIRST_NUMBERS = {
    "SCMP_ARCH_X32": X32_BIT,
    "SCMP_ARCH_MIPS": 4000,
    "SCMP_ARCH_MIPSEL": 4000,
    "SCMP_ARCH_MIPS64": 5000,
    "SCMP_ARCH_MIPSEL64": 5000,
    "SCMP_ARCH_MIPS64N32": 6000,
    "SCMP_ARCH_MIPSEL64N32": 6000,
}


def _arch(name: str, token: int) -> Arch:
    # x32 shares the audit number of x86-64 and hands over whole registers
    audit = ARCHITECTURES["SCMP_ARCH_X86_64"] if name == "SCMP_ARCH_X32" else token
    arg_bits = 64 if audit & _64BIT and not audit & _N32 else 32
    return Arch(name, audit, token, arg_bits, _FIRST_NUMBERS.get(name, 0))


ARCHES: dict[str, Arch] = {name: _arch(name, token) for name, token in ARCHITECTURES.items()}

_OF_MACHINE = {
    "x86_64": "X86_64",
    "i386": "X86",
    "i486": "X86",
    "i586": "X86",
    "i686": "X86",
    "aarch64": "AARCH64",
    "armv6l": "ARM",
    "armv7l": "ARM",
    "armv8l": "ARM",
    "ppc": "PPC",
    "ppc64": "PPC64",
    "ppc64le": "PPC64LE",
    "s390": "S390",
    "s390x": "S390X",
    "parisc": "PARISC",
    "parisc64": "PARISC64",
    "riscv64": "RISCV64",
    "loongarch64": "LOONGARCH64",
    "m68k": "M68K",
    "mips": "MIPS" if sys.byteorder == "big" else "MIPSEL",
    "mips64": "MIPS64" if sys.byteorder == "big" else "MIPSEL64",
}


def native_arch(machine: str) -> Arch:
    """The architecture of a machine name of uname(2).

    Raises UnsupportedError for a machine that is not known: no guess is made here.
    """
    short = _OF_MACHINE.get(machine)
    if short is None:
        raise UnsupportedError("linux.seccomp", "linux", f"the machine `{machine}` has no known seccomp architecture")
    return ARCHES[f"SCMP_ARCH_{short}"]
