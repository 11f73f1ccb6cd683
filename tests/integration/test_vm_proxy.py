"""What exec starts in a guest, carried by its proxy; terminals of the keeper and of the proxy."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios

import pytest

from boxwright.plan import ops
from helper_harness import CLONE_NEWUTS, helper_path, plan_of, program
from vm_harness import (
    JOIN,
    SIGNAL,
    STDIN,
    TERMINAL,
    TO_INIT,
    Keeper,
    children_of,
    executed,
    proxy_of,
    shell,
    signal_payload,
    started,
    terminal_plan_of,
)

pytestmark = pytest.mark.root
PIPE = subprocess.PIPE
MEGABYTES_10 = 10_000_000


@pytest.fixture
def keep(tmp_path):
    """Makes keepers."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Keeper(tmp_path, **options))


# --- exec -------------------------------------------------------------------------------------------------------


def test_exec_by_a_proxy(keep):
    keeper = keep()
    started(keeper, shell("sleep 60"))
    data = os.urandom(MEGABYTES_10)
    with proxy_of(
        executed(keeper, shell("cat; echo error >&2; exit 6"), STDIN), stdin=PIPE, stdout=PIPE, stderr=PIPE
    ) as proxy:
        assert proxy.communicate(data, 120) == (data, b"error\n")
    assert proxy.returncode == 6


def test_a_reader_that_stops_stops_the_program(keep):
    keeper = keep()
    started(keeper, shell("sleep 60"))
    with proxy_of(executed(keeper, shell("yes; exit 0")), stdout=PIPE) as proxy:
        assert proxy.stdout.read(4) == b"y\ny\n"
        proxy.stdout.close()
        assert proxy.wait(20) == 0


def test_several_execs_at_once(keep):
    keeper = keep()
    started(keeper, shell("sleep 60"))
    proxies = [
        proxy_of(executed(keeper, shell(f"cat; exit {status}"), STDIN), stdin=PIPE, stdout=PIPE) for status in range(8)
    ]
    for status, proxy in enumerate(proxies):
        data = bytes([status]) * 500_000
        assert proxy.communicate(data, 60)[0] == data
        assert proxy.returncode == status


def test_a_proxy_passes_signals_on(keep):
    keeper = keep()
    started(keeper, shell("sleep 60"))
    script = "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    with proxy_of(executed(keeper, shell(script)), stdout=PIPE) as proxy:
        assert proxy.stdout.read(6) == b"ready\n"
        proxy.terminate()
        assert proxy.stdout.read() == b"got\n"
    assert proxy.returncode == 3


def test_a_killed_program_gives_its_proxy_the_status_of_a_shell(keep):
    keeper = keep()
    started(keeper, shell("sleep 60"))
    with proxy_of(executed(keeper, shell("kill -11 $$"))) as proxy:
        assert proxy.wait(20) == 139


def test_what_exec_started_ends_with_its_client(keep):
    keeper = keep()
    started(keeper, shell("sleep 60"))
    client = executed(keeper, shell("sleep 61 & sleep 61", ops.NewSession()))
    client.socket.close()
    for _ in range(100):
        if b"sleep\nsleep" not in output(keeper, "cat /proc/[0-9]*/comm"):
            return
    raise AssertionError("its processes are still there")


def output(keeper, script):
    with proxy_of(executed(keeper, shell(script)), stdout=PIPE) as proxy:
        return proxy.communicate(timeout=20)[0]


def test_the_machines_end_ends_a_proxy(keep):
    keeper = keep()
    client = started(keeper, shell("sleep 60"))
    with proxy_of(executed(keeper, shell("sleep 60"))) as proxy:
        client.send(SIGNAL, signal_payload(9, TO_INIT))
        assert proxy.wait(20) == 137


def test_a_proxys_line(keep, tmp_path):
    keeper = keep()
    client = started(keeper, shell("sleep 60"))
    for script, words in (("exit 3", ["exited", "768"]), ("sleep 60", ["guest", "0"])):
        connection = executed(keeper, shell(script)).socket.fileno()
        with open(tmp_path / "line", "w+b") as line:
            fds = [connection, line.fileno()]
            with subprocess.Popen([str(helper_path()), "--proxy", *map(str, fds)], pass_fds=fds) as proxy:
                if words[0] == "guest":
                    client.send(SIGNAL, signal_payload(9, TO_INIT))
                proxy.wait(20)
            line.seek(0)
            found = line.read().decode().split()
        assert (found[:2], len(found)) == (words, 7)


def test_exec_joins_the_container(keep):
    keeper = keep()
    started(keeper, plan_of([ops.Clone(CLONE_NEWUTS)], (), [ops.SetHostname("inner"), *program("sleep 60")]))
    plan = plan_of([ops.Setns(0, CLONE_NEWUTS), ops.Clone(0)], (), program("hostname"), ("init",))
    with proxy_of(executed(keeper, plan, JOIN), stdout=PIPE) as proxy:
        assert proxy.stdout.read() == b"inner\n"


# --- terminals --------------------------------------------------------------------------------------------------


def set_size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("<HHHH", rows, columns, 0, 0))


def read_until(fd, text):
    data = b""
    while text not in data:
        assert select.select([fd], [], [], 20)[0], data
        data += os.read(fd, 4096)
    return data


def on_terminal(slave):
    """In a child: a session that the terminal controls."""

    def take():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    return take


SIZES = "stty size; trap 'stty size' WINCH; echo ready; while :; do read -r line && break; done; echo [$line]; exit 5"


def test_the_keepers_terminal_is_the_programs(keep, tmp_path):
    (tmp_path / "stage").mkdir()
    master, slave = pty.openpty()
    set_size(slave, 21, 63)
    before = termios.tcgetattr(slave)
    keeper = keep(stdin=slave, stdout=slave, stderr=slave, preexec_fn=on_terminal(slave))
    started(
        keeper, terminal_plan_of(tmp_path / "stage", SIZES.replace("stty size;", "sleep 0.3; stty size;", 1)), TERMINAL
    )
    assert read_until(master, b"ready\r\n") == b"21 63\r\nready\r\n"
    child = children_of(keeper.process.pid)[0]
    set_size(slave, 30, 90)
    os.kill(child, signal.SIGWINCH)
    read_until(master, b"30 90\r\n")
    os.write(master, b"typed\r")
    assert read_until(master, b"]\r\n") == b"typed\r\n[typed]\r\n"  # one echo, by the guest's terminal
    assert keeper.wait() == 5
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_the_proxys_terminal_is_the_programs(keep, tmp_path):
    (tmp_path / "stage").mkdir()
    keeper = keep()
    started(keeper, shell("sleep 60"))
    master, slave = pty.openpty()
    set_size(slave, 21, 63)
    client = executed(
        keeper, terminal_plan_of(tmp_path / "stage", SIZES.replace("stty size;", "sleep 0.3; stty size;", 1)), TERMINAL
    )
    streams = {"stdin": slave, "stdout": slave, "stderr": slave, "preexec_fn": on_terminal(slave)}
    with proxy_of(client, **streams) as proxy:
        assert read_until(master, b"ready\r\n") == b"21 63\r\nready\r\n"
        set_size(master, 30, 90)
        read_until(master, b"30 90\r\n")
        os.write(master, b"typed\r")
        read_until(master, b"[typed]\r\n")
        assert proxy.wait(20) == 5
    os.close(master)
    os.close(slave)


def test_a_terminal_that_is_only_redirected_from_is_left_alone(keep):
    keeper = keep()
    started(keeper, shell("sleep 60"))
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    client = executed(keeper, shell("head -1; sleep 0.3"), STDIN)
    with proxy_of(client, stdin=slave, stdout=PIPE, start_new_session=True) as proxy:
        os.write(master, b"line\n")
        assert proxy.stdout.read(5) == b"line\n"
        assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
