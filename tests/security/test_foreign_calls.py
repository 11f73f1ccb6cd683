"""System calls of x32 and i386 programs in the box that `boxwright run -- COMMAND` makes: the filter decides them."""

import platform
import signal
import subprocess
from pathlib import Path

import pytest
from attacks import findings

import lacks
from fixtures_runtime import Result, Runtime

pytestmark = pytest.mark.root

# by their number of 64-bit programs
X32 = {"read": 0, "getpid": 39, "mount": 165, "keyctl": 250, "past the table": 400, "rt_sigaction of x32": 512}
# by their number of 32-bit programs, and what the profile says
I386 = {
    "getpid": (20, "ok"),
    "mount": (21, "EPERM"),
    "umount2": (52, "EPERM"),
    "swapon": (87, "EPERM"),
    "init_module": (128, "EPERM"),
    "add_key": (286, "EPERM"),
    "keyctl": (288, "EPERM"),
    "setns": (346, "EPERM"),
    "bpf": (357, "EPERM"),
    "userfaultfd": (374, "EPERM"),
    "open_tree": (428, "EPERM"),
    "io_uring_setup": (425, "EPERM"),
    "clone3": (435, "ENOSYS"),
    "past the table": (1000, "ENOSYS"),
}


@pytest.fixture(autouse=True)
def _x86_64() -> None:
    lacks.need("an x86-64 host", platform.machine() == "x86_64")


def _here(attacker: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([attacker, "foreign", *words], capture_output=True, text=True, check=False)


def _in_the_box(boxwright: Runtime, attacker: Path, *words: str) -> Result:
    bind = f"{attacker}:/mnt/attacker"
    return boxwright.call("run", "--bind", bind, "--", "/mnt/attacker", "foreign", *words, check=False)


@pytest.mark.parametrize("name", X32)
def test_a_call_of_x32_kills_the_program(boxwright: Runtime, attacker: Path, name: str) -> None:
    """System calls: a number of x32, with bit 30 set, is no way around the filter where the kernel would perform it."""
    outside = _here(attacker, "x32", str(X32[name]))
    assert outside.returncode in {0, -signal.SIGSEGV}, outside  # a kernel that has no x32 says ENOSYS
    result = _in_the_box(boxwright, attacker, "x32", str(X32[name]))
    assert (result.status, result.stdout) == (128 + signal.SIGSYS, ""), result


@pytest.mark.parametrize("name", I386)
def test_a_call_of_i386_meets_the_same_profile(boxwright: Runtime, attacker: Path, name: str) -> None:
    """System calls: int 0x80 out of a 64-bit program is looked up in the table of 32-bit programs."""
    lacks.need("32-bit system calls", _here(attacker, "i386", "20").stdout == "i386 ok\n")
    number, expected = I386[name]
    result = _in_the_box(boxwright, attacker, "i386", str(number))
    assert findings(result.stdout) == {"i386": expected}, result
