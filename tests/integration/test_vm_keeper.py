"""The keeper with an agent in place of a machine, its clients, and the proxy: streams, ends, signals, terminals."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time

import pytest

from boxwright.plan import ops
from helper_harness import CLONE_NEWPID, CLONE_NEWUTS, RECORD, helper_path, plan_of, program
from vm_harness import (
    DONE,
    EVERY,
    GATE,
    INIT,
    JOIN,
    REPORT,
    REPORTED,
    SIGNAL,
    START,
    STDIN,
    STOP,
    TERMINAL,
    TO_INIT,
    Keeper,
    encode,
    machine_file,
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


def shell(script, *operations, flags=0, outer=(), inherited=()):
    return plan_of([*outer, ops.Clone(flags)], (), [*operations, *program(script)], inherited)


def started(keeper, plan, flags=0, **size):
    """A client that has run the init's plan, and has followed its reports."""
    client = keeper.connect()
    client.send_plan(plan, INIT | flags, **size)
    client.until(REPORTED)
    return client


def executed(keeper, plan, flags=0, **size):
    """The same for another process."""
    client = keeper.connect()
    client.send_plan(plan, flags, **size)
    client.until(REPORTED)
    return client


def proxy_of(client, **options):
    fd = client.socket.fileno()
    return subprocess.Popen([str(helper_path()), "--proxy", str(fd)], pass_fds=[fd], **options)


def signal_payload(number, flags=0):
    return struct.pack("<iI", number, flags)


def done(client):
    return struct.unpack("<I", client.until(DONE).payload)[0]


# --- the init's streams and end ---------------------------------------------------------------------------------


def test_ten_megabytes_both_ways(keep):
    keeper = keep(stdin=PIPE, stdout=PIPE)
    started(keeper, shell("cat"), STDIN)
    data = os.urandom(MEGABYTES_10)
    output, _ = keeper.process.communicate(data, 120)
    assert output == data
    assert (keeper.wait(), keeper.status[:2]) == (0, ["exited", "0"])


def test_standard_error_is_its_own(keep):
    keeper = keep(stdout=PIPE, stderr=PIPE)
    started(keeper, shell("echo out; echo error >&2; exit 7"))
    assert keeper.process.communicate(timeout=20) == (b"out\n", b"error\n")
    assert keeper.wait() == 7


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_the_keeper_ends_with_the_status(keep, script, status):
    keeper = keep()
    started(keeper, shell(script))
    assert keeper.wait() == status
    assert keeper.status[0] == "exited"
    assert int(keeper.status[4]) > 100_000


def test_files_for_stdio(keep, tmp_path):
    (tmp_path / "in").write_bytes(bytes(300_000))
    with open(tmp_path / "in", "rb") as stdin, open(tmp_path / "out", "wb") as stdout:
        keeper = keep(stdin=stdin, stdout=stdout)
        started(keeper, shell("cat; echo end"), STDIN)
        assert keeper.wait() == 0
    assert (tmp_path / "out").read_bytes() == bytes(300_000) + b"end\n"


def test_sockets_for_stdio(keep):
    ours, theirs = socket.socketpair()
    keeper = keep(stdin=theirs, stdout=theirs)
    theirs.close()
    started(keeper, shell("cat"), STDIN)
    ours.sendall(b"hello")
    ours.shutdown(socket.SHUT_WR)
    assert ours.recv(100) == b"hello"
    assert keeper.wait() == 0
    ours.close()


def test_nobody_reads_the_output(keep):
    reader, writer = os.pipe()
    keeper = keep(stdout=writer)
    os.close(writer)
    os.close(reader)
    started(keeper, shell("head -c 1000000 /dev/zero; exit 3"))
    assert keeper.wait() == 3


def test_descriptors_that_others_hold_stay_blocking(keep):
    reader, writer = os.pipe()
    keeper = keep(stdout=writer)
    started(keeper, shell("sleep 0.2"))
    assert os.get_blocking(writer)
    assert keeper.wait() == 0
    os.close(reader)
    os.close(writer)


def test_a_container_waits_for_the_reader_of_its_output(keep):
    keeper = keep(stdout=PIPE)
    started(keeper, shell("head -c 150000 /dev/zero"))
    with pytest.raises(subprocess.TimeoutExpired):
        keeper.wait(0.5)
    assert len(keeper.process.communicate(timeout=20)[0]) == 150000
    assert keeper.wait() == 0


@pytest.mark.parametrize("size", [150_000, 1_000_000])
def test_a_stuck_output_does_not_keep_a_killed_container(keep, size):
    keeper = keep(stdout=PIPE)
    client = started(keeper, shell(f"head -c {size} /dev/zero; sleep 60"))
    time.sleep(0.3)
    client.send(SIGNAL, signal_payload(9, TO_INIT))
    began = time.monotonic()
    assert keeper.wait() == 137
    assert time.monotonic() - began < 2


def test_a_stuck_terminal_does_not_hold_up_a_client(keep):
    master, slave = pty.openpty()
    keeper = keep(stdout=slave)
    os.close(slave)
    client = started(keeper, shell("yes"))
    time.sleep(0.5)
    began = time.monotonic()
    client.send(SIGNAL, signal_payload(9, TO_INIT))
    assert done(client) == 0
    assert time.monotonic() - began < 2
    assert keeper.wait(5) == 137
    os.close(master)


def test_a_stuck_exec_does_not_stall_the_container(keep):
    keeper = keep(stdin=PIPE, stdout=PIPE)
    stuck = keeper.connect()
    started(keeper, shell("cat"), STDIN)
    stuck.send_plan(shell("yes"), 0)
    stuck.credit()
    data = bytes(2_000_000)
    assert keeper.process.communicate(data, 60)[0] == data


# --- signals ----------------------------------------------------------------------------------------------------


def test_signals_of_the_host_are_passed_on(keep):
    keeper = keep(stdout=PIPE)
    script = "trap 'echo term' TERM; trap 'echo usr1; exit 9' USR1; echo ready; while :; do sleep 0.05; done"
    started(keeper, shell(script))
    assert keeper.process.stdout.read(6) == b"ready\n"
    child = children_of(keeper.process.pid)[0]
    os.kill(child, signal.SIGTERM)
    assert keeper.process.stdout.read(5) == b"term\n"
    os.kill(child, signal.SIGUSR1)
    assert (keeper.process.stdout.read(5), keeper.wait()) == (b"usr1\n", 9)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def test_a_client_signals_and_is_answered(keep):
    keeper = keep()
    started(keeper, shell("sleep 60"))
    client = keeper.connect()
    client.send(SIGNAL, signal_payload(99, TO_INIT))
    assert done(client) == 22
    client.send(SIGNAL, signal_payload(15, EVERY))
    assert done(client) == 3  # there is no control group here
    client.send(SIGNAL, signal_payload(15, TO_INIT))
    assert done(client) == 0
    assert keeper.wait() == 143


def test_a_client_that_signals_and_is_gone_has_signalled(keep):
    keeper = keep()
    started(keeper, shell("sleep 60"))
    client = keeper.connect(hello=False)
    client.send(SIGNAL, signal_payload(15, TO_INIT))
    client.socket.close()
    assert keeper.wait() == 143


# --- create and start, makers -----------------------------------------------------------------------------------


def gated(script):
    return plan_of([ops.Clone(CLONE_NEWPID)], (), [ops.Ready(), ops.Gate(0), *program(script)], ("gate",))


def until_ready(client):
    while RECORD.unpack_from(client.until(REPORT).payload)[0] != ops.READY:
        pass


def test_create_goes_and_start_comes(keep):
    keeper = keep(stdout=PIPE)
    creator = keeper.connect()
    creator.send_plan(gated("echo started; exit 4"), INIT | GATE)
    until_ready(creator)
    creator.socket.close()
    starter = keeper.connect()
    starter.send(START)
    starter.until(REPORTED)
    assert keeper.process.communicate(timeout=20)[0] == b"started\n"
    assert keeper.wait() == 4


def test_a_creator_that_is_gone_before_ready_takes_all_with_it(keep):
    keeper = keep()
    client = keeper.connect()
    client.send_plan(plan_of([ops.Clone(0)], (), [*program("sleep 60")][:1] + [ops.Await(0)]), INIT)
    client.until(REPORT)
    client.socket.close()
    assert keeper.wait() == 137
    assert keeper.status[0] == "stopped"


def test_stop_ends_the_machine(keep):
    keeper = keep()
    started(keeper, shell("sleep 60")).send(STOP)
    assert keeper.wait() == 137
    assert keeper.status[0] == "stopped"


def test_a_lifeline_that_breaks_ends_the_machine(keep):
    reader, writer = os.pipe()
    keeper = keep(lifeline=reader)
    os.close(reader)
    started(keeper, shell("sleep 60"))
    with pytest.raises(subprocess.TimeoutExpired):
        keeper.wait(0.2)
    os.close(writer)
    assert (keeper.wait(), keeper.status[0], keeper.status[-1]) == (137, "stopped", "maker")


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
        assert (found[:2], len(found)) == (words, 5)


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


# --- children ---------------------------------------------------------------------------------------------------


def test_a_child_that_cannot_be_started_is_told(keep):
    plan = encode(plan_of([ops.FindProgram("no-such-hypervisor", "/bin")]))
    keeper = keep(machine=machine_file((1, "hypervisor", [(2, 2)], plan)))
    assert keeper.wait() == 255
    assert " ".join(keeper.status) == "child 0 0 0 0 hypervisor actor 0 op 0 errno 2 value 0"


@pytest.mark.parametrize(
    "machine",
    [
        b"",
        b"BXM2" + bytes(4),
        b"BXM1" + struct.pack("<I", 9),
        b"BXM1" + struct.pack("<I", 1),
        machine_file() + b"x",
        machine_file((2, "flags", [], encode(plan_of([])))),
        machine_file((1, "plan", [], b"no plan")),
        machine_file((1, "descriptor", [(99, 3)], encode(plan_of([])))),
        machine_file((1, "slots", [], encode(plan_of([], inherited=("one",))))),
        machine_file((1, "many", [(2, 2)] * 65, encode(plan_of([])))),
    ],
)
def test_a_machine_that_is_none_is_refused(keep, machine):
    keeper = keep(machine=machine)
    assert keeper.wait() == 255
    assert keeper.status[0] in {"child", "guest"}


def test_a_vital_childs_end_is_the_machines(keep):
    plan = encode(plan_of(program("exit 3")))
    keeper = keep(machine=machine_file((0, "helper", [], plan), (1, "hypervisor", [], plan)))
    assert keeper.wait() == 255
    assert keeper.status == ["guest", "0", "0", "0", "0", "hypervisor", "status", "768"]


def test_the_machine_dies_with_its_keeper(keep):
    keeper = keep()
    started(keeper, shell("sleep 60"))
    child = children_of(keeper.process.pid)[0]
    grandchildren = children_of(child)
    assert grandchildren
    os.kill(child, signal.SIGKILL)
    keeper.wait()
    for pid in grandchildren:
        assert not os.path.exists(f"/proc/{pid}") or b"zombie" in open(f"/proc/{pid}/status", "rb").read()


def test_the_keeper_has_given_everything_up(keep):
    keeper = keep()
    started(keeper, shell("sleep 60"))
    child = children_of(keeper.process.pid)[0]
    with open(f"/proc/{child}/status") as file:
        facts = dict(line.rstrip("\n").partition(":\t")[::2] for line in file)
    assert {facts[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (facts["NoNewPrivs"], facts["Seccomp"], facts["Uid"].split()) == ("1", "2", ["65534"] * 4)
    assert (facts["Gid"].split(), facts["Groups"].strip()) == (["65534"] * 4, "")
    assert int(facts["VmRSS"].split()[0]) < 2000


def test_a_child_gets_its_descriptors_and_no_other(keep):
    reader, writer = os.pipe()
    plan = encode(plan_of(program("ls /proc/self/fd >&7; sleep 60")))
    keeper = keep(guest=True, machine=machine_file((1, "lister", [(writer, 7), (2, 2)], plan)), pass_more=(writer,))
    os.close(writer)
    names = b""
    while names.count(b"\n") < 4:
        names += os.read(reader, 100)
    assert names.split() == [b"0", b"1", b"2", b"7"] or names.split() == [b"0", b"2", b"3", b"7"]
    assert keeper.process.poll() is None
    os.close(reader)
