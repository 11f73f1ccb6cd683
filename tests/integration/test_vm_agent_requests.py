"""What the agent of a guest is asked for: start, join, signals to all, files, the clock."""

import errno
import os
import struct

import pytest

from boxwright.plan import ops
from helper_harness import CLONE_NEWPID, CLONE_NEWUTS, RECORD, plan_of, program
from vm_harness import (
    CONTENT,
    DONE,
    EVERY,
    EXIT,
    GATE,
    GUEST_DATA,
    INIT,
    JOIN,
    READ,
    REPORT,
    REPORTED,
    SEED,
    SIGNAL,
    START,
    TO_INIT,
    Agent,
    Result,
    done,
    performed,
    shell,
    signal_payload,
)

pytestmark = pytest.mark.root


@pytest.fixture
def agent():
    with Agent() as running:
        yield running


# --- create, start, join ----------------------------------------------------------------------------------------


def gated(script):
    init = [ops.Ready(), ops.Gate(0), *program(script)]
    return plan_of([ops.Clone(CLONE_NEWPID)], (), init, ("gate",))


def test_start_opens_the_gate(agent):
    agent.send_plan(gated("echo started; exit 5"), INIT | GATE, channel=2)
    agent.credit(2)
    kinds = []
    while ops.READY not in kinds:
        kinds.append(RECORD.unpack_from(agent.until(REPORT).payload)[0])
    assert agent.is_quiet(0.1)
    agent.send(START, b"", 3)
    assert agent.until(REPORTED, channel=3)
    result = Result(agent, 2)
    assert (result.output[1], result.exit.code) == (b"started\n", 5)


def test_start_brings_the_failure_of_the_program(agent):
    init = [ops.Ready(), ops.Gate(0), ops.FindProgram("no-such-program", "/bin")]
    agent.send_plan(plan_of([ops.Clone(0)], (), init, ("gate",)), INIT | GATE, channel=2)
    agent.send(START, b"", 3)
    record = RECORD.unpack_from(agent.until(REPORT, channel=3).payload)
    assert (record[0], record[3]) == (ops.ERROR, errno.ENOENT)
    agent.until(REPORTED, channel=3)


def test_start_without_a_gate_or_twice_is_refused(agent):
    agent.send(START, b"", 2)
    assert done(agent, 2) == errno.ECONNREFUSED
    agent.send_plan(gated("sleep 60"), INIT | GATE, channel=3)
    agent.send(START, b"", 4)
    agent.until(REPORTED, channel=4)
    agent.send(START, b"", 5)
    assert done(agent, 5) == errno.ECONNREFUSED


def test_start_of_an_init_that_died_at_its_gate(agent):
    agent.send_plan(gated("true"), INIT | GATE, channel=2)
    agent.until(REPORT)
    agent.until(REPORT)
    agent.send(SIGNAL, signal_payload(9, TO_INIT), 2)
    agent.until(EXIT)
    agent.send(START, b"", 3)
    assert done(agent, 3) == errno.ECONNREFUSED


def test_the_gate_cannot_be_found(agent):
    agent.send_plan(gated("true"), INIT | GATE, channel=2)
    agent.until(REPORT)
    assert not os.path.lexists("/run/boxwright.gate")


def test_exec_joins_the_init(agent):
    agent.send_plan(
        plan_of([ops.Clone(CLONE_NEWUTS)], (), [ops.SetHostname("inner"), *program("echo; sleep 60")]), INIT, channel=2
    )
    agent.credit(2)
    agent.until(GUEST_DATA)
    plan = plan_of([ops.Setns(0, CLONE_NEWUTS), ops.Clone(0)], (), program("hostname"), ("init",))
    agent.send_plan(plan, JOIN, channel=3)
    agent.credit(3)
    assert Result(agent, 3).output[1] == b"inner\n"


# --- files ------------------------------------------------------------------------------------------------------


def content(agent, path, channel=2):
    agent.send(READ, path.encode(), channel)
    data = b""
    while (frame := agent.until(CONTENT, DONE)).type == CONTENT:
        data += frame.payload
    return data, struct.unpack("<I", frame.payload)[0]


def test_a_file_of_the_kernel_is_read(agent):
    assert content(agent, "/proc/sys/kernel/ostype") == (b"Linux\n", 0)
    assert content(agent, "/proc/self/comm") == (b"boxwright-helpe\n", 0)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/etc/passwd", errno.EACCES),
        ("proc/version", errno.EACCES),
        ("/proc", errno.EACCES),
        ("/proc/none", errno.ENOENT),
        ("/proc/../etc/passwd", errno.EXDEV),
        ("/proc/self/../../etc/passwd", errno.EXDEV),
        ("/proc/self/root/etc/passwd", errno.ELOOP),
        ("/proc/self/exe", errno.ELOOP),
        ("/proc/self/cwd/x", errno.ELOOP),
        ("/proc/self\0/x", errno.EINVAL),
    ],
)
def test_nothing_else_is_read(agent, path, error):
    assert content(agent, path) == (b"", error)


def test_no_more_than_the_bound_is_read(agent):
    data, error = content(agent, "/proc/kallsyms")
    assert error == 0
    assert len(data) == 1 << 20


def test_a_clock_that_cannot_be_is_refused(agent):
    agent.send(SEED, struct.pack("<qq", 0, 1_000_000_000) + bytes(32), 2)
    assert done(agent, 2) == errno.EINVAL


# --- signals to all ---------------------------------------------------------------------------------------------

GROUPS = "/sys/fs/cgroup/boxwright"


@pytest.fixture
def with_groups(agent):
    """A tree of files where the agent looks for the container's control groups."""
    mounted = performed(
        agent,
        plan_of(
            [
                ops.FsMount(0, "tmpfs", ("source=groups",), 0),
                ops.Open(1, "/sys/fs/cgroup", os.O_PATH),
                ops.MoveMount(0, 1),
            ]
        ),
        channel=50,
    )
    assert mounted.exit.code == 0
    return agent


def test_a_signal_reaches_every_process_of_the_groups_below(with_groups):
    agent = with_groups
    script = f"""
        mkdir -p {GROUPS}/one/two
        sleep 61 & echo $! >{GROUPS}/cgroup.procs
        sleep 62 & echo $! >{GROUPS}/one/two/cgroup.procs
        sleep 63 & echo $! >>{GROUPS}/one/two/cgroup.procs
        touch {GROUPS}/one/cgroup.procs
        echo ready; sleep 0.2; wait; wait; wait; echo all ended"""
    agent.send_plan(shell(script), 0, channel=2)
    agent.credit(2)
    assert agent.until(GUEST_DATA).payload == b"ready\n"
    agent.send(SIGNAL, signal_payload(15, EVERY), 3)
    assert done(agent, 3) == 0
    assert Result(agent, 2).output[1] == b"all ended\n"


def test_killing_every_process_is_left_to_the_kernel_where_it_can(with_groups):
    agent = with_groups
    assert performed(agent, shell(f"mkdir -p {GROUPS}; touch {GROUPS}/cgroup.kill"), channel=2).exit.code == 0
    agent.send(SIGNAL, signal_payload(9, EVERY), 3)
    assert done(agent, 3) == 0
    assert performed(agent, shell(f"cat {GROUPS}/cgroup.kill"), channel=4).output[1] == b"1"


def test_the_inits_end_kills_what_is_left_of_the_container(with_groups):
    agent = with_groups
    assert performed(agent, shell(f"mkdir -p {GROUPS}; touch {GROUPS}/cgroup.kill"), channel=2).exit.code == 0
    assert performed(agent, shell("exit 3"), channel=3, flags=INIT).exit.code == 3
    assert performed(agent, shell(f"cat {GROUPS}/cgroup.kill"), channel=4).output[1] == b"1"
