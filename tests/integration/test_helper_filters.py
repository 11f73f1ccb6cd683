"""Programs for the kernel: seccomp filters, their listener, and device filters of cgroups."""

import array
import errno
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from boxwright.plan import ops
from helper_harness import CLONE_NEWPID, Running, output_of, plan_of, program, run_ops
from lacks import need

pytestmark = pytest.mark.root

# uname, execve, exit_group: what the tests below name
NUMBERS = {"x86_64": (63, 59, 231), "aarch64": (160, 221, 94)}
UNAME, EXECVE, EXIT_GROUP = NUMBERS[os.uname().machine]
ALLOW, KILL, NOTIFY, REFUSE = 0x7FFF0000, 0x80000000, 0x7FC00000, 0x00050000 | errno.EPERM
TSYNC = 1
NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101


def _filter(named, action, otherwise):
    """A BPF program: `action` for the named numbers, `otherwise` for all others."""
    code = [struct.pack("<HBBI", 0x20, 0, 0, 0)]
    for left, number in enumerate(reversed(named), 1):
        code.insert(1, struct.pack("<HBBI", 0x15, left, 0, number))
    code.append(struct.pack("<HBBI", 0x06, 0, 0, otherwise))
    code.append(struct.pack("<HBBI", 0x06, 0, 0, action))
    return b"".join(code)


def _load(program_bytes, *, flags=0, listener=ops.NO_SLOT, state=()):
    return ops.LoadSeccomp(program_bytes, flags, listener, state)


@pytest.fixture
def exit_42(tmp_path):
    """A program that makes one system call only."""
    compiler = shutil.which("cc")
    need("cc", compiler)
    source = {
        "x86_64": 'asm("mov $231, %eax; mov $42, %edi; syscall");',
        "aarch64": 'asm("mov x8, 94; mov x0, 42; svc 0");',
    }[os.uname().machine]
    (tmp_path / "exit.c").write_text(f"void _start(void) {{ {source} }}\n")
    command = [str(compiler), "-nostdlib", "-static", "-o", str(tmp_path / "exit"), str(tmp_path / "exit.c")]
    subprocess.run(command, check=True)
    return str(tmp_path / "exit")


def test_a_filter_holds_for_the_program():
    init = [_load(_filter([UNAME], REFUSE, ALLOW)), *program("uname || echo refused")]
    text, reports = output_of(plan_of([ops.Clone(0)], (), init))
    assert "refused" in text, reports


def test_a_program_that_is_none_is_refused():
    for wrong in (b"", b"x", bytes(8), b"x" * 8 * 70000):
        assert [r.error for r in run_ops(_load(wrong))] == [errno.EINVAL]


def test_nothing_but_execve_is_called_once_the_filter_holds(exit_42):
    """Neither the umask nor the signals nor the descriptors are left to be set afterwards."""
    init = [
        ops.SetUmask(0o22),
        ops.FindProgram(exit_42, ""),
        _load(_filter([EXECVE, EXIT_GROUP], ALLOW, KILL)),
        ops.Exec(("exit",), ()),
    ]
    with Running(plan_of([ops.Clone(0)], (), init)) as running:
        running.finish()
        assert running.status(running.init) == 42


def _receive_notify(ours):
    data, control, _flags, _ = ours.recvmsg(4096, socket.CMSG_SPACE(16))
    (notify,) = array.array("i", control[0][2])
    return data.decode(), notify


def _answer(notify, error):
    request = bytearray(80)
    fcntl.ioctl(notify, NOTIF_RECV, request)
    number = struct.unpack_from("<i", request, 16)[0]
    fcntl.ioctl(notify, NOTIF_SEND, struct.pack("<QqiI", struct.unpack_from("<Q", request)[0], 0, -error, 0))
    return number


@pytest.mark.parametrize("flags", [0, TSYNC])
def test_the_listener_gets_the_descriptor_and_the_state(flags):
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    load = _load(_filter([UNAME], NOTIFY, ALLOW), flags=flags, listener=0, state=('{"pid":', "}"))
    plan = plan_of([ops.Clone(CLONE_NEWPID)], (), [load, *program("uname || true; exit 9")], ("listener",))
    with ours, Running(plan, inherited=[theirs.fileno()]) as running:
        theirs.close()
        state, notify = _receive_notify(ours)
        assert ours.recv(1) == b""  # the connection is closed
        assert _answer(notify, errno.EPERM) == UNAME
        os.close(notify)
        running.finish()
        assert state == f'{{"pid":{running.init}}}'
        assert running.status(running.init) == 9


def test_the_listener_is_served_though_everything_is_refused_or_waits(exit_42):
    """Every system call of the init waits for the agent: also its own ones, were there any before execve."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    load = _load(_filter([EXECVE, EXIT_GROUP], NOTIFY, KILL), listener=0, state=("s",))
    init = [ops.FindProgram(exit_42, ""), load, ops.Exec(("exit",), ())]
    with ours, Running(plan_of([ops.Clone(0)], (), init, ("listener",)), inherited=[theirs.fileno()]) as running:
        theirs.close()
        _, notify = _receive_notify(ours)
        assert _answer(notify, errno.EACCES) == EXECVE  # and the attempt to report that is what kills it
        os.close(notify)
        running.finish()
        assert running.status(running.init) == -signal.SIGSYS


def test_a_listener_that_is_gone_is_an_error():
    ours, theirs = socket.socketpair()
    ours.close()
    load = _load(_filter([UNAME], NOTIFY, ALLOW), listener=0, state=("s",))
    reports = run_ops(load, inherited=[theirs.fileno()])
    theirs.close()
    assert [r.error for r in reports] == [errno.EPIPE]


def test_no_thread_of_ours_outlives_the_loading():
    ours, theirs = socket.socketpair()
    load = _load(_filter([UNAME], NOTIFY, ALLOW), listener=0, state=("s",))
    script = "grep Threads /proc/self/status; cat /proc/$$/task/$$/children; ls /proc/self/fd"
    with ours:
        plan = plan_of([ops.Clone(0)], (), [load, *program(script)], ("listener",))
        text, _ = output_of(plan, inherited=[theirs.fileno()])
        theirs.close()
    assert text.split()[:2] == ["Threads:", "1"]
    assert text.split()[-4:] == ["0", "1", "2", "3"]


# --- devices ----------------------------------------------------------------------------------------------------

MOV_R0, EXIT = 0xB7, 0x95


def _device_program(allowed):
    return struct.pack("<BBhi", MOV_R0, 0, 0, int(allowed)) + struct.pack("<BBhi", EXIT, 0, 0, 0)


@pytest.fixture
def cgroup():
    found = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if " cgroup2 " in line]
    need("cgroup v2", found)
    made = Path(found[0]) / f"boxwright-test-{os.getpid()}"
    made.mkdir()
    yield made
    made.rmdir()


def test_the_device_filter_of_a_group_is_replaced(cgroup):
    directory = ops.Open(0, str(cgroup), os.O_RDONLY | os.O_DIRECTORY)
    for allowed, expected in ((False, "refused\n"), (True, "opened\n"), (False, "refused\n")):
        outer = [ops.SetDeviceFilter(str(cgroup), _device_program(allowed)), directory, ops.Clone(0, 0)]
        script = "(exec < /dev/zero) 2>&- && echo opened || echo refused"
        text, reports = output_of(plan_of(outer, (), program(script)))
        assert text == expected, reports


def test_a_device_program_that_the_kernel_refuses_comes_with_its_log(cgroup):
    wrong = struct.pack("<BBhi", MOV_R0, 0, 0, 7)
    (report,) = run_ops(ops.SetDeviceFilter(str(cgroup), wrong))
    assert report.error == errno.EINVAL
    assert report.text
    assert [r.error for r in run_ops(ops.SetDeviceFilter(str(cgroup), b"odd"))] == [errno.EINVAL]
