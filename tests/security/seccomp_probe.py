"""A process to throw away: takes a filter upon itself, then makes system calls or executes a program.

    seccomp_probe.py PROGRAM FLAGS calls < one call on each line: number and arguments
    seccomp_probe.py PROGRAM FLAGS exec PATH

It gives up root and its session first, so that a filter that lets everything through does no harm either.
"""

import ctypes
import os
import platform
import sys

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_NR_SECCOMP = {"x86_64": 317, "aarch64": 277}[platform.machine()]

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class Fprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def syscall(number, *args):
    """The result, or the errno as a number below zero."""
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_ulong(arg) for arg in args])
    return -ctypes.get_errno() if result == -1 else result


def drop_root():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)


def load(program, flags):
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        sys.exit("no_new_privs refused")
    fprog = Fprog(len(program) // 8, program)
    found = syscall(_NR_SECCOMP, _SECCOMP_SET_MODE_FILTER, flags, ctypes.addressof(fprog))
    if found < 0:
        sys.exit(f"filter refused: {os.strerror(-found)}")
    return found


def main():
    with open(sys.argv[1], "rb") as source:
        program = source.read()
    calls = [[int(word, 0) for word in line.split()] for line in sys.stdin]
    # opened before: nobody may not be able to reach it
    executable = os.open(sys.argv[4], os.O_RDONLY) if sys.argv[3] == "exec" else -1
    drop_root()
    listener = load(program, int(sys.argv[2]))
    if executable >= 0:
        os.execve(executable, [sys.argv[4]], {})
    print("listener", listener)
    for number, *args in calls:
        print(syscall(number, *args))


main()
