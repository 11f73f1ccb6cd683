"""Architectures of seccomp filters: their AUDIT_ARCH_ numbers (linux/audit.h) and who is native where."""

import os
import sys

from boxwright._record import Record
from boxwright.errors import UnsupportedError

_64BIT = 0x80000000  # __AUDIT_ARCH_64BIT
_LE = 0x40000000  # __AUDIT_ARCH_LE
_N32 = 0x20000000  # __AUDIT_ARCH_CONVENTION_MIPS64_N32
_EM_X86_64 = 62
_EM_MIPS = 8

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


def _arch(name: str, audit: int, first_number: int = 0) -> Arch:
    bits = 64 if audit & _64BIT and not audit & _N32 else 32
    return Arch(name, audit, audit, bits, first_number)


_ALL = (
    _arch("SCMP_ARCH_X86", 3 | _LE),
    _arch("SCMP_ARCH_X86_64", _EM_X86_64 | _64BIT | _LE),
    # x32 shares the audit number of x86-64 and hands over whole registers
    Arch("SCMP_ARCH_X32", _EM_X86_64 | _64BIT | _LE, _EM_X86_64 | _LE, 64, X32_BIT),
    _arch("SCMP_ARCH_ARM", 40 | _LE),
    _arch("SCMP_ARCH_AARCH64", 183 | _64BIT | _LE),
    _arch("SCMP_ARCH_MIPS", _EM_MIPS, 4000),
    _arch("SCMP_ARCH_MIPS64", _EM_MIPS | _64BIT, 5000),
    _arch("SCMP_ARCH_MIPS64N32", _EM_MIPS | _64BIT | _N32, 6000),
    _arch("SCMP_ARCH_MIPSEL", _EM_MIPS | _LE, 4000),
    _arch("SCMP_ARCH_MIPSEL64", _EM_MIPS | _64BIT | _LE, 5000),
    _arch("SCMP_ARCH_MIPSEL64N32", _EM_MIPS | _64BIT | _LE | _N32, 6000),
    _arch("SCMP_ARCH_PPC", 20),
    _arch("SCMP_ARCH_PPC64", 21 | _64BIT),
    _arch("SCMP_ARCH_PPC64LE", 21 | _64BIT | _LE),
    _arch("SCMP_ARCH_S390", 22),
    _arch("SCMP_ARCH_S390X", 22 | _64BIT),
    _arch("SCMP_ARCH_PARISC", 15),
    _arch("SCMP_ARCH_PARISC64", 15 | _64BIT),
    _arch("SCMP_ARCH_RISCV64", 243 | _64BIT | _LE),
    _arch("SCMP_ARCH_LOONGARCH64", 258 | _64BIT | _LE),
    _arch("SCMP_ARCH_M68K", 4),
    _arch("SCMP_ARCH_SH", 42 | _LE),
    _arch("SCMP_ARCH_SHEB", 42),
)
ARCHES: dict[str, Arch] = {arch.name: arch for arch in _ALL}

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


def native_arch(machine: str | None = None) -> Arch:
    """The architecture of a machine name of uname(2), of this host by default.

    Raises UnsupportedError for a machine that is not known: no guess is made here.
    """
    machine = os.uname().machine if machine is None else machine
    short = _OF_MACHINE.get(machine)
    if short is None:
        raise UnsupportedError("linux.seccomp", "linux", f"the machine `{machine}` has no known seccomp architecture")
    return ARCHES[f"SCMP_ARCH_{short}"]
