"""Filters in a real kernel: what the default profile refuses is refused, and foreign calls do not slip through."""

import os
import platform
import signal
import subprocess
import sys

import pytest

from boxwright.host.seccomp import compile_section, host_arch, syscall_numbers
from boxwright.plan.default_profile import default_seccomp
from boxwright.plan.default_profile_data import ALLOWED, REFUSED, UNAVAILABLE, WITH_CAPABILITY
from boxwright.plan.seccomp_flags import filter_flags
from boxwright.spec.types import Seccomp, Syscall, SyscallArg
from lacks import need, need_program

PROBE = os.path.join(os.path.dirname(__file__), "seccomp_probe.py")
EPERM, EFAULT, ENOTTY, ENOSYS, EAFNOSUPPORT = 1, 14, 25, 38, 97
ALL_ONES = (1 << 64) - 1
BAD_ARGS = (ALL_ONES,) * 6


@pytest.fixture(autouse=True)
def known_machine():
    need("a machine whose numbers the probe knows", platform.machine() in ("x86_64", "aarch64"))


@pytest.fixture
def x86_64():
    need("x86-64", platform.machine() == "x86_64")


def probe(tmp_path, section, *mode, calls=()):
    program = tmp_path / "program"
    program.write_bytes(compile_section(section).code)
    lines = "".join(" ".join(map(str, call)) + "\n" for call in calls)
    return subprocess.run(
        [sys.executable, "-I", PROBE, str(program), str(filter_flags(section)), *mode],
        input=lines,
        capture_output=True,
        text=True,
        timeout=30,
        start_new_session=True,
        check=False,
    )


def answers(tmp_path, section, calls):
    """What each call gave: its result, or the errno below zero."""
    done = probe(tmp_path, section, "calls", calls=calls)
    assert done.returncode == 0, done.stderr
    listener, *results = done.stdout.splitlines()
    assert listener.startswith("listener ")
    assert len(results) == len(calls)
    return [int(result) for result in results]


def number(name):
    return syscall_numbers().resolve(host_arch(), name).direct


def expected_refusals():
    """Number and errno of each call between 0 and 600 that the profile refuses whatever the arguments are."""
    by_name = {}
    for groups, errno in ((REFUSED, EPERM), (UNAVAILABLE, ENOSYS)):
        by_name.update({name: errno for _, names in groups for name in names.split()})
    by_name.update({name: EPERM for names in WITH_CAPABILITY.values() for name in names.split()})
    by_name["clone3"] = ENOSYS
    found = dict.fromkeys(range(601), ENOSYS)
    for name in (*ALLOWED.split(), "clone", "unshare", "personality", "socket", "socketpair", "ioctl"):
        known = syscall_numbers().resolve(host_arch(), name)
        if known is not None:
            found.pop(known.direct, None)
    for name, errno in by_name.items():
        known = syscall_numbers().resolve(host_arch(), name)
        if known is not None and known.direct is not None:
            found[known.direct] = errno
    return found


def test_every_refused_call_is_refused_by_the_kernel(tmp_path):
    """System calls: each number from 0 to 600 that the default profile does not allow, whatever the arguments are."""
    expected = expected_refusals()
    assert len(expected) > 150
    found = answers(tmp_path, default_seccomp((), host_arch()), [(number, *BAD_ARGS) for number in expected])
    assert dict(zip(expected, found, strict=True)) == {number: -errno for number, errno in expected.items()}


def test_allowed_calls_reach_the_kernel(tmp_path):
    calls = [(number("getuid"),), (number("umask"), 0o22), (number("close"), ALL_ONES), (number("statx"), *BAD_ARGS)]
    found = answers(tmp_path, default_seccomp((), host_arch()), calls)
    assert found[0] == (65534 if os.geteuid() == 0 else os.getuid())
    assert found[2] == -9  # EBADF
    assert EPERM not in [-result for result in found]
    assert ENOSYS not in [-result for result in found]


def test_arguments_decide_in_the_kernel(tmp_path):
    """CVE-2023-28100 and CVE-2019-10063: the upper half of the command is nothing that the kernel looks at."""
    calls = {
        (number("ioctl"), 0, 0x5412, 0): EPERM,
        (number("ioctl"), 0, 0x5412 | 1 << 32, 0): EPERM,
        (number("ioctl"), 0, 0x541C | 1 << 63, 0): EPERM,
        (number("ioctl"), 0, 0x5413, 0): ENOTTY,  # stdin is a pipe
        (number("socket"), 40, 1, 0): EAFNOSUPPORT,
        (number("socket"), 40 | 1 << 32, 1, 0): EAFNOSUPPORT,
        (number("socket"), 38, 5, 0): EAFNOSUPPORT,
        (number("unshare"), 0x10000000): EPERM,
        (number("unshare"), 0x20000): EPERM,
        (number("clone"), 0x10000011, 0, 0, 0, 0): EPERM,
        (number("personality"), 0x400000): EPERM,
    }
    found = answers(tmp_path, default_seccomp((), host_arch()), list(calls))
    assert dict(zip(calls, found, strict=True)) == {call: -errno for call, errno in calls.items()}


def test_netlink_and_unix_sockets_are_there(tmp_path):
    calls = [(number("socket"), family, 2, 0) for family in (1, 2, 16)]
    assert all(result >= 0 for result in answers(tmp_path, default_seccomp((), host_arch()), calls))


def test_ordinary_programs_run(tmp_path):
    done = probe(tmp_path, default_seccomp((), host_arch()), "exec", "/bin/ls")
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("x86_64")
def test_x32_calls_kill(tmp_path):
    """System calls: one of the x32 ABI ends the process."""
    done = probe(tmp_path, default_seccomp((), host_arch()), "calls", calls=[(0x40000000 | 39,)])
    assert done.returncode == -signal.SIGSYS


INT_0x80 = """
void _start(void)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(NUMBER), "b"(0), "c"(0), "d"(0), "S"(0), "D"(0) : "memory");
    long status = result < 0 ? -result : 0;
    __asm__ volatile("syscall" : : "a"(231L), "D"(status) : "rcx", "r11", "memory");
    __builtin_unreachable();
}
"""
MOUNT_32, GETPID_32, SOCKETCALL_32 = 21, 20, 102


@pytest.fixture
def int_0x80(tmp_path):
    """Builds a 64-bit program that makes one 32-bit call and exits with its errno."""
    need_program("gcc")
    source = tmp_path / "call.c"
    source.write_text(INT_0x80)

    def build(nr):
        program = tmp_path / f"call{nr}"
        command = ["gcc", "-O1", "-static", "-nostdlib", f"-DNUMBER={nr}L", "-o", program, source]
        subprocess.run(command, check=True)
        alone = subprocess.run([program], check=False, cwd="/")
        need("32-bit system calls", alone.returncode != -signal.SIGSEGV)
        return str(program)

    return build


@pytest.mark.usefixtures("x86_64")
def test_32_bit_calls_are_killed_unless_x86_is_listed(tmp_path, int_0x80):
    """System calls: int 0x80 under a filter that lists 64-bit calls alone, and one that lists both."""
    section = Seccomp("SCMP_ACT_ALLOW", syscalls=(Syscall(("mount",), "SCMP_ACT_ERRNO", EPERM),))
    mount, getpid = int_0x80(MOUNT_32), int_0x80(GETPID_32)
    assert probe(tmp_path, section, "exec", mount).returncode == -signal.SIGSYS
    assert probe(tmp_path, section, "exec", getpid).returncode == -signal.SIGSYS
    listed = section.replace(architectures=("SCMP_ARCH_X86",))
    assert probe(tmp_path, listed, "exec", mount).returncode == EPERM
    assert probe(tmp_path, listed, "exec", getpid).returncode == 0


@pytest.mark.usefixtures("x86_64")
def test_32_bit_calls_meet_the_default_profile(tmp_path, int_0x80):
    assert probe(tmp_path, default_seccomp((), host_arch()), "exec", int_0x80(MOUNT_32)).returncode == EPERM
    assert probe(tmp_path, default_seccomp((), host_arch()), "exec", int_0x80(GETPID_32)).returncode == 0


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
        ("SECCOMP_FILTER_FLAG_TSYNC",),
        ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",),
    ],
)
@pytest.mark.parametrize("action", ["SCMP_ACT_NOTIFY", "SCMP_ACT_ERRNO"])
def test_kernel_takes_the_flags(tmp_path, flags, action):
    rule = Syscall(("mkdirat",), action)
    section = Seccomp("SCMP_ACT_ALLOW", flags=flags, listener_path="/run/agent", syscalls=(rule,))
    done = probe(tmp_path, section, "calls")
    assert done.returncode == 0, done.stderr
    listener = int(done.stdout.split()[1])
    assert (listener > 2) == (action == "SCMP_ACT_NOTIFY")


def test_kernel_takes_a_program_with_long_jumps(tmp_path):
    args = tuple(SyscallArg(index, 1 << 40, "SCMP_CMP_EQ") for index in range(6))
    rules = tuple(
        Syscall((name,), "SCMP_ACT_ERRNO", errno_ret=position + 1, args=args)
        for position, name in enumerate(("getpgid", "getsid", "getpriority", "umask", "fchdir", "fchmod") * 12)
    )
    section = Seccomp("SCMP_ACT_ALLOW", syscalls=rules)
    assert compile_section(section).instruction_count > 1000
    hit = [(number(name), *(1 << 40,) * 6) for name in ("getpgid", "fchmod")]
    assert answers(tmp_path, section, hit) == [-1, -6]
