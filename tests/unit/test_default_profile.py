"""plan.default_profile: every call of the kernel is decided, and the decisions hold in the compiled program."""

import os
import re
from collections import Counter

import bpf_machine as machine
import pytest

from boxwright.host.seccomp import _UNIFIED, _X86_64_ONLY, compile_section, syscall_numbers
from boxwright.plan import default_profile_data as data
from boxwright.plan.default_profile import default_seccomp
from boxwright.plan.default_profile_key import DECIDING, deciding_capabilities
from boxwright.plan.seccomp_arch import ARCHES
from lacks import need

HEADERS = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"
ALLOW, EPERM, ENOSYS, EAFNOSUPPORT = 0x7FFF0000, 0x50001, 0x50026, 0x50061
KILL_PROCESS = 0x80000000
X86_64, X86, AARCH64, ARM = (ARCHES[f"SCMP_ARCH_{name}"] for name in ("X86_64", "X86", "AARCH64", "ARM"))
PLAIN_GROUPS = (
    data.ALLOWED,
    data.BY_ARGUMENT,
    data.MULTIPLEXERS,
    *(names for _, names in data.REFUSED),
    *(names for _, names in data.UNAVAILABLE),
)


def decided():
    by_capability = {name for names in data.WITH_CAPABILITY.values() for name in names.split()}
    return Counter([name for names in PLAIN_GROUPS for name in names.split()] + sorted(by_capability))


def names_of(arch):
    """All calls that libseccomp knows on an architecture (arm has its own at 0xf0000)."""
    found = (syscall_numbers().name_of(arch, number) for number in (*range(600), *range(0xF0000, 0xF0010)))
    return [name for name in found if name]


def test_no_call_is_decided_twice():
    assert [name for name, times in decided().items() if times > 1] == []


@pytest.mark.parametrize("arch", [X86_64, X86, AARCH64, ARM], ids=lambda arch: arch.name)
def test_every_call_that_libseccomp_knows_is_decided(arch):
    names = names_of(arch)
    assert len(names) > 280
    assert [name for name in names if name not in decided()] == []


def test_every_call_of_the_kernel_headers_is_decided():
    need("kernel headers of x86-64", os.path.exists(HEADERS))
    with open(HEADERS, encoding="ascii") as header:
        names = re.findall(r"^#define __NR_(\w+) \d+$", header.read(), re.MULTILINE)
    assert len(names) > 350
    assert [name for name in names if name not in decided()] == []


def test_every_name_is_a_call_somewhere():
    resolve = syscall_numbers().resolve
    assert [name for name in decided() if all(resolve(arch, name) is None for arch in ARCHES.values())] == []


def ask(capabilities=(), native=X86_64):
    """A function from call (name or number) and arguments to the profile's answer."""
    instructions = machine.decode(compile_section(default_seccomp(capabilities, native), native).code)

    def answer(call, *args, arch=native):
        number = syscall_numbers().resolve(arch, call).direct if isinstance(call, str) else call
        padded = (*args, *(0,) * (6 - len(args)))
        return machine.run(instructions, machine.seccomp_data(number, arch.audit, padded))

    return answer


@pytest.mark.parametrize(("native", "kin"), [(X86_64, X86), (AARCH64, ARM)])
def test_groups_hold_in_the_program(native, kin):
    answer = ask((), native)
    for arch in (native, kin):
        available = set(names_of(arch))
        for names, expected in (
            (data.ALLOWED, ALLOW),
            *((names, EPERM) for _, names in data.REFUSED),
            *((names, ENOSYS) for _, names in data.UNAVAILABLE),
            *((names, EPERM) for names in data.WITH_CAPABILITY.values()),
        ):
            for name in set(names.split()) & available - {"clone3"}:
                number = syscall_numbers().resolve(arch, name)
                if number.direct is not None:
                    assert answer(number.direct, arch=arch) == expected, (arch.name, name)
        assert answer("clone3", arch=arch) == ENOSYS


@pytest.mark.parametrize("capability", DECIDING)
def test_capability_opens_its_calls_and_no_others(capability):
    bare, answer = ask(), ask((capability,))
    opened = {name for name in names_of(X86_64) if answer(name) == ALLOW and bare(name) != ALLOW}
    assert opened == set(data.WITH_CAPABILITY[capability].split()) & set(names_of(X86_64))


def test_deciding_capabilities_are_those_of_the_table():
    assert set(DECIDING) == set(data.WITH_CAPABILITY)
    assert deciding_capabilities(frozenset({"CAP_SYS_TIME", "CAP_KILL", "CAP_BPF"})) == ("CAP_BPF", "CAP_SYS_TIME")


@pytest.mark.parametrize("number", [1000, 471, 0x3FFFFFFF])
def test_unknown_calls_give_enosys(number):
    assert ask()(number) == ENOSYS


def test_x32_and_foreign_architectures_are_killed():
    answer = ask()
    assert answer(0x40000000) == KILL_PROCESS
    assert answer("getpid", arch=AARCH64) == KILL_PROCESS


@pytest.mark.parametrize("bit", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
def test_new_namespaces_need_sys_admin(bit):
    answer, admin = ask(), ask(("CAP_SYS_ADMIN",))
    for call in ("clone", "unshare"):
        assert answer(call, bit | 17) == EPERM
        assert admin(call, bit | 17) == ALLOW
    assert answer("clone", 0x003D0F00) == ALLOW  # what a C library passes for a thread
    assert answer("clone", 0x80 | 17) == ALLOW  # a part of the exit signal there
    assert answer("unshare", 0x80) == EPERM  # CLONE_NEWTIME
    assert answer("unshare", 0x400) == ALLOW


def test_clone_flags_are_the_second_argument_on_s390x():
    s390x = ARCHES["SCMP_ARCH_S390X"]
    answer = ask((), s390x)
    assert answer("clone", 0x10000000, 17) == ALLOW
    assert answer("clone", 0, 0x10000000) == EPERM


@pytest.mark.parametrize("high", [0, 1 << 32, 0xFFFFFFFF << 32])
def test_terminal_input_cannot_be_faked(high):
    answer = ask()
    assert answer("ioctl", 0, high | 0x5412) == EPERM
    assert answer("ioctl", 0, high | 0x541C) == EPERM
    assert answer("ioctl", 0, high | 0x5413) == ALLOW
    assert answer("ioctl", 0, high | 0x80045430) == ALLOW


def test_socket_families():
    answer = ask()
    allowed = {family for family in range(64) if answer("socket", family) == ALLOW}
    assert allowed == {1, 2, 10, 16, 17}
    for vsock in (40, 40 | 1 << 32, 38, 2**32 - 1):
        assert answer("socket", vsock) == EAFNOSUPPORT
    assert answer("socketpair", 1) == ALLOW
    assert answer("socketpair", 40) == EAFNOSUPPORT


def test_socketcall_is_no_way_around_the_families():
    answer = ask()
    socket, bind, socketpair = 1, 2, 8
    assert answer("socketcall", bind, arch=X86) == ALLOW
    assert answer("socketcall", socket, arch=X86) == EAFNOSUPPORT
    assert answer("socketcall", socketpair | 1 << 32, arch=X86) == EAFNOSUPPORT
    assert answer(359, 2, arch=X86) == ALLOW


def test_personality():
    answer = ask()
    for allowed in (0, 8, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF, 2**64 - 1):
        assert answer("personality", allowed) == ALLOW
    for refused in (0x400000, 0x100000, 0x440000, 6):  # READ_IMPLIES_EXEC, MMAP_PAGE_ZERO, ..., PER_BSD
        assert answer("personality", refused) == EPERM


def test_calls_newer_than_libseccomp_are_decided():
    assert [name for name in (*_UNIFIED, *_X86_64_ONLY) if name not in decided()] == []
