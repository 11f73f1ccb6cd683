"""The keeper with an agent in place of a machine, its clients, and the proxy: streams, ends, signals, terminals."""

import contextlib
import os
import pty
import signal
import socket
import struct
import subprocess
import time

import pytest

from boxwright.plan import ops
from helper_harness import CLONE_NEWPID, RECORD, plan_of, program
from vm_harness import (
    EVERY,
    GATE,
    INIT,
    REPORT,
    REPORTED,
    SIGNAL,
    START,
    STDIN,
    STOP,
    TO_INIT,
    Keeper,
    children_of,
    done,
    encode,
    machine_file,
    shell,
    signal_payload,
    started,
)

pytestmark = pytest.mark.root
PIPE = subprocess.PIPE
MEGABYTES_10 = 10_000_000


@pytest.fixture
def keep(tmp_path):
    """Makes keepers."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Keeper(tmp_path, **options))


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
    client.send_plan(plan_of([ops.Clone(0), ops.Await(ops.INIT)], (), [ops.Await(ops.OUTER)]), INIT)
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


# --- children ---------------------------------------------------------------------------------------------------


def test_a_child_that_cannot_be_started_is_told(keep):
    plan = encode(plan_of([ops.FindProgram("no-such-hypervisor", "/bin")]))
    keeper = keep(machine=machine_file((1, "hypervisor", [(2, 2)], plan)))
    assert keeper.wait() == 255
    assert " ".join(keeper.status) == "child 0 0 0 0 0 0 hypervisor actor 0 op 0 errno 2 value 0"


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
    assert keeper.status == ["guest", *"000000", "hypervisor", "status", "768"]


def gone_or_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            assert file.read().rsplit(b") ", 1)[1][:1] in b"ZX"
    except (FileNotFoundError, ProcessLookupError):
        return


def test_the_machine_dies_with_its_keeper(keep):
    keeper = keep()
    started(keeper, shell("sleep 60"))
    child = children_of(keeper.process.pid)[0]
    grandchildren = children_of(child)
    assert grandchildren
    os.kill(child, signal.SIGKILL)
    keeper.wait()
    for pid in grandchildren:
        gone_or_zombie(pid)


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
