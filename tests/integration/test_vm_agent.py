"""The agent of a guest, driven by frames in a pid namespace: what it performs, carries, answers and refuses."""

import errno
import os
import signal
import struct
import time

import pytest

from boxwright.plan import ops
from boxwright.plan.encode import encode
from helper_harness import CLONE_NEWUTS, RECORD, plan_of, program
from vm_harness import (
    CLOSE,
    CREDIT,
    DATA,
    EOF,
    EVERY,
    EXIT,
    GATE,
    GUEST_CREDIT,
    GUEST_DATA,
    INIT,
    JOIN,
    REPORT,
    REPORTED,
    RUN,
    SESSION,
    SIGNAL,
    STDIN,
    STOP,
    TERMINAL,
    TO_INIT,
    WINDOW_BYTES,
    WINSIZE,
    Agent,
    Result,
    done,
    hello_lines,
    performed,
    read_exit,
    run_payload,
    shell,
    signal_payload,
    terminal_plan_of,
)

pytestmark = pytest.mark.root


@pytest.fixture
def agent():
    with Agent() as running:
        yield running


# --- what it says of itself -------------------------------------------------------------------------------------


def test_hello_tells_what_the_guest_is(agent):
    facts = hello_lines(agent.hello)
    assert facts["kernel"] == os.uname().release
    assert facts["machine"] == os.uname().machine
    assert int(facts["cpus"]) == len(os.sched_getaffinity(0))
    assert int(facts["memory_bytes"]) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert int(facts["last_cap"]) >= 37
    assert {"proc", "tmpfs"} <= set(facts["filesystems"].split(" "))
    assert set(facts) >= {"controllers", "lsm"}


# --- plans ------------------------------------------------------------------------------------------------------


def test_output_error_and_status_of_a_program(agent):
    result = performed(agent, shell("echo out; echo error >&2; exit 3"))
    assert (result.output, result.exit.code) == ({1: b"out\n", 2: b"error\n"}, 3)
    assert [record[0] for record in result.reports] == [ops.CHILD_PID]


def test_exit_tells_the_signal_and_what_was_used(agent):
    result = performed(agent, shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; kill -9 $$"))
    assert result.exit.code == -signal.SIGKILL
    assert result.exit.user_us > 1000
    assert 100_000 < result.exit.resident_bytes < 100_000_000


def test_a_plan_of_the_outer_alone_ends_with_its_own_status(agent, tmp_path):
    result = performed(agent, plan_of([ops.MakeDirs(str(tmp_path / "made"), 0o700)]))
    assert (result.exit.code, (tmp_path / "made").is_dir()) == (0, True)
    result = performed(agent, plan_of([ops.Write(str(tmp_path / "none"), b"")]), channel=3)
    assert result.exit.code == 1
    assert [(record[0], record[3]) for record in result.reports] == [(ops.ERROR, errno.ENOENT)]


def test_a_failure_of_the_init_is_reported_before_its_end(agent):
    result = performed(agent, plan_of([ops.Clone(0)], (), [ops.FindProgram("no-such-program", "/bin")]))
    assert [record[0] for record in result.reports] == [ops.CHILD_PID, ops.ERROR]
    assert result.exit.code == 1


def test_a_joiner_clones_the_init(agent):
    plan = plan_of([ops.ForkJoiner()], [ops.Clone(CLONE_NEWUTS)], [ops.SetHostname("joined"), *program("hostname")])
    result = performed(agent, plan)
    assert (result.output[1], result.exit.code) == (b"joined\n", 0)


def test_nothing_of_the_agent_is_left_open_in_the_program(agent):
    agent.send_plan(shell("sleep 60"), STDIN, channel=9)
    result = performed(agent, shell("ls -l /proc/self/fd | sed 1d | wc -l; grep -E 'Sig(Blk|Ign)' /proc/self/status"))
    count, blocked, ignored = result.output[1].split(b"\n")[:3]
    assert int(count) == 4  # the three, and the directory that is listed
    assert (blocked.split()[1], ignored.split()[1]) == (b"0" * 16, b"0" * 16)


def test_an_upcall_is_answered(agent):
    plan = plan_of([ops.Upcall(7), ops.Clone(0)], (), program("exit 0"))
    agent.send_plan(plan, 0, channel=2)
    assert RECORD.unpack_from(agent.until(REPORT).payload)[0] == ops.UPCALL
    agent.send(8, struct.pack("<q", 0), 2)
    assert read_exit(agent.until(EXIT)).code == 0
    agent.send_plan(plan, 0, channel=3)
    agent.until(REPORT, channel=3)
    agent.send(8, struct.pack("<q", errno.EPERM), 3)
    record = RECORD.unpack_from(agent.until(REPORT, channel=3).payload)
    assert (record[0], record[3]) == (ops.ERROR, errno.EPERM)


GOOD = encode(shell("true"))


@pytest.mark.parametrize(
    ("plan", "flags", "error"),
    [
        (b"BXP1", 0, errno.EBADMSG),
        (GOOD[:-1], 0, errno.EBADMSG),
        (GOOD, 32, errno.EINVAL),
        (GOOD, GATE, errno.EINVAL),  # no slot for the socket
        (encode(shell("true", inherited=("gate",))), 0, errno.EINVAL),
        (encode(shell("true", inherited=("gate",))), GATE | JOIN, errno.EINVAL),
        (encode(shell("true", inherited=("init",))), JOIN, errno.ESRCH),
        (GOOD + bytes(4 << 20), 0, errno.EBADMSG),  # too long, whatever it is
    ],
)
def test_what_cannot_begin_is_refused(agent, plan, flags, error):
    agent.send_plan(plan, flags, channel=2)
    assert done(agent, 2) == error
    assert performed(agent, shell("exit 4"), channel=3).exit.code == 4


def test_run_without_a_plan_and_a_second_init_are_refused(agent):
    agent.send(RUN, run_payload(0), 2)
    assert done(agent, 2) == errno.EAGAIN
    agent.send_plan(shell("sleep 60"), INIT, channel=3)
    agent.send_plan(shell("sleep 60"), INIT, channel=4)
    assert done(agent, 4) == errno.EBUSY


# --- streams ----------------------------------------------------------------------------------------------------


def test_input_goes_through_with_its_end(agent):
    agent.send_plan(shell("cat"), STDIN, channel=2)
    agent.credit(2)
    agent.until(GUEST_CREDIT)
    agent.send(DATA, b"some text", 2)
    agent.send(EOF, b"", 2)
    result = Result(agent, 2)
    assert (result.output[1], result.exit.code) == (b"some text", 0)


def test_without_stdin_there_is_the_null_device(agent):
    result = performed(agent, shell("cat; readlink /proc/self/fd/0"))
    assert result.output[1] == b"/dev/null\n"


def test_credit_for_the_input_waits_for_who_carries_the_streams(agent):
    agent.send_plan(shell("cat"), STDIN, channel=2)
    agent.until(REPORTED)
    assert agent.is_quiet(0.1)
    agent.credit(2)
    assert agent.next().type == GUEST_CREDIT
    agent.credit(2, 1)
    assert agent.is_quiet(0.1)  # the window is given once


def test_no_more_than_credit_allows(agent):
    agent.send_plan(shell("head -c 1000000 /dev/zero"), 0, channel=2)
    agent.until(REPORTED)
    assert agent.is_quiet(0.1)
    agent.send(CREDIT, struct.pack("<I", 100000), 2, 1)
    got = 0
    while got < 100000:
        got += len(agent.until(GUEST_DATA).payload)
    assert got == 100000
    assert agent.is_quiet(0.1)
    agent.send(CREDIT, struct.pack("<I", 900000), 2, 1)
    result = Result(agent, 2, credit=False)
    assert (len(result.output[1]), result.exit.code) == (900000, 0)


def test_a_stream_without_credit_does_not_hold_up_another_channel(agent):
    agent.send_plan(shell("yes"), 0, channel=2)
    agent.send_plan(shell("cat >/dev/null"), STDIN, channel=3)
    agent.credit(3)
    assert performed(agent, shell("head -c 1000000 /dev/zero"), channel=4).output[1] == bytes(1000000)


def test_input_that_is_not_read_is_held_up_to_the_window(agent):
    agent.send_plan(shell("sleep 60"), STDIN, channel=2)
    agent.credit(2)
    agent.until(GUEST_CREDIT)
    agent.send(DATA, bytes(32768), 2)
    agent.send(DATA, bytes(32768), 2)
    frame = agent.until(GUEST_CREDIT)  # what the pipe took
    assert struct.unpack("<I", frame.payload)[0] <= WINDOW_BYTES
    assert performed(agent, shell("exit 4"), channel=3).exit.code == 4


def test_a_program_that_closes_its_input_gets_no_more_and_nobody_fails(agent):
    agent.send_plan(shell("exec <&-; sleep 0.2; echo still here"), STDIN, channel=2)
    agent.credit(2)
    agent.until(GUEST_CREDIT)
    time.sleep(0.1)
    for _ in range(2):
        agent.send(DATA, bytes(32768), 2)
    result = Result(agent, 2)
    assert (result.output[1], result.exit.code) == (b"still here\n", 0)


def test_a_process_left_behind_that_holds_the_output_is_not_waited_for(agent):
    began = time.monotonic()
    result = performed(agent, shell("sleep 60 & echo done"))
    assert (result.output[1], result.exit.code) == (b"done\n", 0)
    assert time.monotonic() - began < 10


def test_what_was_written_before_the_end_arrives_whole(agent):
    result = performed(agent, shell("head -c 60000 /dev/zero; head -c 60000 /dev/zero >&2"))
    assert (len(result.output[1]), len(result.output[2])) == (60000, 60000)


def test_a_program_learns_that_nobody_reads_its_output(agent):
    agent.send_plan(shell("yes; echo $? >&2"), 0, channel=2)
    agent.credit(2)
    agent.until(GUEST_DATA)
    agent.send(EOF, b"", 2, 1)
    result = Result(agent, 2)
    assert result.output[2] == b"141\n"


# --- terminals --------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal_plan(tmp_path):
    stage = tmp_path / "stage"
    stage.mkdir()

    def make(script):
        return terminal_plan_of(stage, script)

    return make


def test_a_terminal_is_stream_1_and_has_a_size(agent, terminal_plan):
    agent.send_plan(terminal_plan("stty size; tty"), TERMINAL, 40, 100, channel=2)
    agent.credit(2)
    result = Result(agent, 2)
    assert result.output[1] == b"40 100\r\n/dev/pts/0\r\n"
    assert (result.output[2], result.exit.code) == (b"", 0)
    assert ops.TERMINAL in [record[0] for record in result.reports]


def test_a_terminal_is_resized_and_typed_into(agent, terminal_plan):
    agent.send_plan(
        terminal_plan("trap 'stty size' WINCH; echo ready; while :; do read -r line && break; done; echo $line."),
        TERMINAL,
        channel=2,
    )
    agent.credit(2)
    agent.until(GUEST_CREDIT)
    agent.until(GUEST_DATA)
    agent.send(WINSIZE, struct.pack("<HH", 33, 44), 2)
    assert agent.until(GUEST_DATA).payload == b"33 44\r\n"
    agent.send(DATA, b"typed\n", 2)
    result = Result(agent, 2)
    assert result.output[1].endswith(b"typed.\r\n")


def test_a_terminal_that_nobody_reads_hangs_up(agent, terminal_plan):
    agent.send_plan(terminal_plan("trap 'exit 9' HUP; echo ready; while :; do sleep 0.05; done"), TERMINAL, channel=2)
    agent.credit(2)
    agent.until(GUEST_DATA)
    agent.send(EOF, b"", 2, 1)
    assert Result(agent, 2).exit.code == 9


def test_the_interrupt_key_reaches_the_program(agent, terminal_plan):
    agent.send_plan(terminal_plan("trap 'exit 9' INT; echo ready; while :; do sleep 0.05; done"), TERMINAL, channel=2)
    agent.credit(2)
    agent.until(GUEST_CREDIT)
    agent.until(GUEST_DATA)
    agent.send(DATA, b"\x03", 2)
    assert Result(agent, 2).exit.code == 9


# --- signals, ends ----------------------------------------------------------------------------------------------


def test_a_signal_reaches_the_channels_process_and_no_other(agent):
    agent.send_plan(shell("sleep 60"), INIT, channel=2)
    agent.send_plan(shell("sleep 60"), 0, channel=3)
    agent.until(REPORTED, channel=3)
    agent.send(SIGNAL, signal_payload(15), 3)
    assert done(agent, 3) == 0
    assert read_exit(agent.until(EXIT)).code == -15
    agent.send(SIGNAL, signal_payload(15), 3)
    assert done(agent, 3) == errno.ESRCH
    agent.send(SIGNAL, signal_payload(10, TO_INIT), 3)
    assert done(agent, 3) == 0
    assert read_exit(agent.until(EXIT, channel=2)).code == -10


def test_a_signal_to_nobody_and_one_that_does_not_exist(agent):
    agent.send(SIGNAL, signal_payload(15), 7)
    assert done(agent, 7) == errno.ESRCH
    agent.send(SIGNAL, signal_payload(15, TO_INIT), 7)
    assert done(agent, 7) == errno.ESRCH
    agent.send_plan(shell("sleep 60"), INIT, channel=2)
    agent.until(REPORTED)
    agent.send(SIGNAL, signal_payload(99), 2)
    assert done(agent, 2) == errno.EINVAL


def test_a_signal_to_the_session_reaches_its_group(agent):
    agent.send_plan(shell("sleep 60 & echo ready; wait; wait", ops.NewSession()), 0, channel=2)
    agent.credit(2)
    agent.until(GUEST_DATA)
    agent.send(SIGNAL, signal_payload(15, SESSION), 2)
    assert done(agent, 2) == 0
    agent.until(EXIT)
    assert "sleep" not in processes(agent)


def processes(agent, channel=99):
    """The names of what runs in the agent's namespace."""
    result = performed(agent, shell("cat /proc/[0-9]*/comm"), channel=channel)
    return result.output[1].decode().split()


def test_a_signal_to_every_process_without_a_group_is_told(agent):
    agent.send(SIGNAL, signal_payload(15, EVERY), 2)
    assert done(agent, 2) == errno.ESRCH


def test_a_closed_channel_loses_its_processes_and_is_forgotten(agent):
    agent.send_plan(shell("sleep 61 & sleep 60", ops.NewSession()), 0, channel=2)
    agent.until(REPORTED)
    wait_for(lambda channel: processes(agent, channel).count("sleep") == 2)
    agent.send(CLOSE, b"", 2)
    wait_for(lambda channel: "sleep" not in processes(agent, channel + 100))
    agent.send(SIGNAL, signal_payload(15), 2)
    assert done(agent, 2) == errno.ESRCH


def wait_for(condition):
    for channel in range(100, 150):
        if condition(channel):
            return
        time.sleep(0.02)
    raise AssertionError("it does not come true")


def test_a_channel_closed_in_the_middle_of_its_plan_leaves_no_process(agent):
    for channel in range(2, 40):
        agent.send_plan(shell("sleep 60", ops.NewSession()), 0, channel=channel)
        agent.send(CLOSE, b"", channel)
    wait_for(lambda channel: "sleep" not in processes(agent, channel))


def test_many_channels_one_after_another_cost_nothing(agent):
    for channel in range(2, 200):
        assert performed(agent, shell("exit 0"), channel=channel).exit.code == 0
        agent.send(CLOSE, b"", channel)
    result = performed(agent, shell("ls /proc/1/fd | wc -l"), channel=500)
    assert int(result.output[1]) < 20


def test_more_channels_than_there_can_be_are_refused(agent):
    for channel in range(1, 129):
        agent.send_plan(plan_of([]), 0, channel=channel)
        agent.until(EXIT, channel=channel)
    agent.send_plan(plan_of([]), 0, channel=129)
    assert done(agent, 129) == errno.EAGAIN
    agent.send(CLOSE, b"", 5)
    assert performed(agent, plan_of([]), channel=130).exit.code == 0


def test_stop_ends_everything(agent):
    agent.send_plan(shell("sleep 60"), 0, channel=2)
    agent.until(REPORTED)
    agent.send(STOP)
    assert agent.process.wait(10) == 0


def test_the_end_of_the_port_ends_everything(agent):
    agent.socket.close()
    assert agent.process.wait(10) == 0


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<IIHH", 0, 1, 99, 0),
        struct.pack("<IIHH", 32769, 1, 1, 0),
        struct.pack("<IIHH", 0, 1, 64, 0),
        struct.pack("<IIHH", 1, 0, 1, 0),
        struct.pack("<IIHH", 1, 1, 3, 1),
    ],
)
def test_what_is_no_frame_ends_the_agent(agent, data):
    agent.socket.sendall(data + bytes(40))
    assert agent.process.wait(10) == 1
