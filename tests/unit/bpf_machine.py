"""A machine for classic BPF as seccomp runs it, and libseccomp's own compiler to compare with."""

import ctypes
import os
import struct

_INSTRUCTION = struct.Struct("=HBBI")
_DATA = struct.Struct("=IIQ6Q")


class RefusedError(AssertionError):
    """The program does what the kernel's verifier would refuse."""


def seccomp_data(nr, audit, args=(0, 0, 0, 0, 0, 0)):
    return _DATA.pack(nr & 0xFFFFFFFF, audit, 0, *[arg & 0xFFFFFFFFFFFFFFFF for arg in args])


def decode(program):
    assert len(program) % 8 == 0
    return [_INSTRUCTION.unpack_from(program, at) for at in range(0, len(program), 8)]


def run(instructions, data):
    """The value that a program returns for a struct seccomp_data."""
    accumulator = 0
    at = 0
    while True:
        if not 0 <= at < len(instructions):
            raise RefusedError(f"jump out of the program to {at}")
        code, if_true, if_false, k = instructions[at]
        at += 1
        if code == 0x06:
            return k
        if code == 0x20:
            if k % 4 or k + 4 > len(data):
                raise RefusedError(f"load at {k}")
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif code == 0x54:
            accumulator &= k
        elif code == 0x05:
            at += k
        elif code in (0x15, 0x25, 0x35, 0x45):
            holds = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: accumulator & k != 0,
            }[code]
            at += if_true if holds else if_false
        else:
            raise RefusedError(f"opcode {code:#x}")


class _ArgCmp(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")


def libseccomp_program(default, rules, extra_arch_tokens=()):
    """What libseccomp makes of (action, call number, [(index, operator, value, value two)]); None if it refuses."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    try:
        for token in extra_arch_tokens:
            assert library.seccomp_arch_add(context, ctypes.c_uint32(token)) in (0, -17)
        for action, number, conditions in rules:
            array = (_ArgCmp * len(conditions))(
                *[_ArgCmp(index, OPERATORS.index(op) + 1, a, b) for index, op, a, b in conditions]
            )
            status = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(action), ctypes.c_int(number), ctypes.c_uint(len(conditions)), array
            )
            if status != 0:
                return None
        return _exported(library, context)
    finally:
        library.seccomp_release(context)


def _exported(library, context):
    fd = os.memfd_create("program")
    try:
        assert library.seccomp_export_bpf(context, fd) == 0
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)
