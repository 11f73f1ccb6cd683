"""A guest that has been taken over can end its own machine, and nothing else: what it says is checked, what it does not
read is bounded."""

import contextlib
import os
import struct
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helper_harness import NATIVE
from lacks import find_program, need
from vm_harness import (
    ANSWER,
    CLOSE,
    CONTENT,
    CREDIT,
    DATA,
    DONE,
    EOF,
    EXIT,
    GUEST_CREDIT,
    GUEST_DATA,
    GUEST_EOF,
    HEAD,
    HELLO,
    INIT,
    PAYLOAD_MAX,
    PLAN,
    READ,
    REPORT,
    REPORTED,
    RUN,
    SIGNAL,
    START,
    STDIN,
    STOP,
    WINDOW_BYTES,
    WINSIZE,
    Frame,
    Keeper,
    run_payload,
)

pytestmark = pytest.mark.root
FUZZ_SECONDS = 3
VERSION = struct.pack("<I", 1)
REPORT_BYTES = bytes(24)
WINDOW = struct.pack("<I", WINDOW_BYTES)
EXIT_BYTES = bytes(44)
INITS, EXECS = 1, 2  # the channels of the clients below, in the order of their RUN


@pytest.fixture
def keep(tmp_path):
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Keeper(tmp_path, guest=True, **options))


def greeted(keeper):
    keeper.guest.send(HELLO, VERSION + b"kernel=1\n")
    return keeper


def running(keeper):
    """A machine in which the init and another process run, with input; their windows are open."""
    greeted(keeper)
    for flags in (INIT | STDIN, STDIN):
        client = keeper.connect()
        client.send(PLAN, b"plan")
        client.send(RUN, run_payload(flags))
        if flags == STDIN:
            client.credit()
    while keeper.guest.until(CREDIT, channel=EXECS).stream != 2:
        pass
    return client


def frames(*parts):
    return b"".join(Frame(*part).encode() for part in parts)


BREACHES = {
    "a type that there is not": frames((63, b"", 1)),
    "a type far beyond": frames((0xFFFF, b"", 1)),
    "a frame to the guest": frames((DATA, b"x", 1)),
    "stop": frames((STOP, b"", 0)),
    "too long": HEAD.pack(PAYLOAD_MAX + 1, 1, GUEST_DATA, 1),
    "as long as can be": HEAD.pack(0xFFFFFFFF, 1, GUEST_DATA, 1),
    "an empty piece": frames((GUEST_DATA, b"", 1, 1)),
    "a stream that there is not": frames((GUEST_DATA, b"x", 1, 3)),
    "output on the input": frames((GUEST_DATA, b"x", 1, 0)),
    "a stream where there is none": frames((DONE, bytes(4), 1, 1)),
    "a report too short": frames((REPORT, bytes(23), 1)),
    "a report too long": frames((REPORT, bytes(24 + 1025), 1)),
    "an exit too short": frames((EXIT, bytes(43), INITS)),
    "hello on a channel": frames((HELLO, VERSION, 1)),
    "hello again": frames((HELLO, VERSION, 0)),
    "a channel that was never given": frames((GUEST_DATA, b"x", 3, 1)),
    "the last channel of all": frames((GUEST_EOF, b"", 0xFFFFFFFF, 1)),
    "data of the guest itself": frames((GUEST_DATA, b"x", 0, 1)),
    "more than the init's window": frames(*[(GUEST_DATA, bytes(32768), INITS, 2)] * 3),
    "more than a client's window": frames(*[(GUEST_DATA, bytes(32768), EXECS, 2)] * 3),
    "data after the end, of the init": frames((GUEST_EOF, b"", INITS, 1), (GUEST_DATA, b"x", INITS, 1)),
    "data after the end": frames((GUEST_EOF, b"", EXECS, 1), (GUEST_DATA, b"x", EXECS, 1)),
    "a second end, of the init": frames((GUEST_EOF, b"", INITS, 1), (GUEST_EOF, b"", INITS, 1)),
    "a second end": frames((GUEST_EOF, b"", EXECS, 2), (GUEST_EOF, b"", EXECS, 2)),
    "credit beyond the window, of the init": frames((GUEST_CREDIT, WINDOW, INITS), (GUEST_CREDIT, WINDOW, INITS)),
    "credit beyond the window": frames((GUEST_CREDIT, WINDOW, EXECS), (GUEST_CREDIT, b"\1\0\0\0", EXECS)),
    "credit that overflows": frames((GUEST_CREDIT, b"\xff" * 4, EXECS)),
    "a second exit, of the init": frames((EXIT, EXIT_BYTES, INITS), (EXIT, EXIT_BYTES, INITS)),
    "a second exit": frames((EXIT, EXIT_BYTES, EXECS), (EXIT, EXIT_BYTES, EXECS)),
    "content that nobody asked for": frames((CONTENT, b"x", EXECS)),
    "an answer beyond the one to RUN": frames((DONE, bytes(4), EXECS), (DONE, bytes(4), EXECS)),
    "an end of reports again": frames((REPORTED, b"", EXECS), (REPORTED, b"", EXECS)),
    "a report after their end": frames((REPORTED, b"", INITS), (REPORT, REPORT_BYTES, INITS)),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_ends_the_machine_with_its_reason(keep, breach):
    keeper = keep(stdout=subprocess.DEVNULL)
    running(keeper)
    keeper.guest.socket.sendall(BREACHES[breach])
    assert keeper.wait() == 255
    assert keeper.status[0] == "protocol"


@pytest.mark.parametrize(
    "data",
    [
        frames((HELLO, struct.pack("<I", 2), 0)),
        frames((HELLO, b"\1\0\0", 0)),
        frames((DONE, bytes(4), 1)),
        frames((GUEST_DATA, b"x", 1, 1)),
        b"\0" * 12,
        b"\xff" * 100,
    ],
)
def test_what_is_no_hello_ends_the_machine(keep, data):
    keeper = keep()
    keeper.guest.socket.sendall(data)
    assert keeper.wait() == 255
    assert keeper.status[0] == "protocol"


@pytest.mark.parametrize(
    "part",
    [
        (GUEST_DATA, b"x", 1, 1),
        (GUEST_EOF, b"", 1, 1),
        (EXIT, EXIT_BYTES, 1),
        (REPORT, REPORT_BYTES, 1),
        (GUEST_CREDIT, WINDOW, 1),
    ],
)
def test_a_channel_without_a_run_says_nothing_of_a_process(keep, part):
    keeper = greeted(keep())
    client = keeper.connect()
    client.send(READ, b"/proc/version")
    keeper.guest.until(READ)
    keeper.guest.socket.sendall(frames(part))
    assert keeper.wait() == 255
    assert keeper.status[0] == "protocol"


def test_the_guests_end_is_told(keep):
    keeper = greeted(keep())
    keeper.guest.socket.close()
    assert keeper.wait() == 255
    assert keeper.status == ["guest", *"000000", "port"]


def test_frames_that_were_under_way_when_a_client_left_are_let_pass(keep):
    keeper = keep()
    client = running(keeper)
    client.socket.close()
    assert keeper.guest.until(CLOSE).channel == EXECS
    keeper.guest.socket.sendall(frames((GUEST_DATA, b"late", EXECS, 1), (EXIT, EXIT_BYTES, EXECS)))
    other = keeper.connect()
    other.send(READ, b"/proc/version")
    assert keeper.guest.until(READ).channel == EXECS + 1


def test_frames_cut_anywhere_are_put_together(keep):
    keeper = keep(stdout=subprocess.PIPE)
    running(keeper)
    data = frames(
        (GUEST_DATA, b"some text", INITS, 1),
        (EXIT, EXIT_BYTES, INITS),
        (GUEST_EOF, b"", INITS, 1),
        (GUEST_EOF, b"", INITS, 2),
    )
    for byte in data:
        keeper.guest.socket.sendall(bytes([byte]))
    assert keeper.process.communicate(timeout=20)[0] == b"some text"
    assert (keeper.wait(), keeper.status[0]) == (0, "exited")


def test_a_guest_that_does_not_obey_a_kill_is_ended(keep):
    keeper = keep()
    client = running(keeper)
    client.send(SIGNAL, struct.pack("<iI", 9, 2))
    assert keeper.guest.until(SIGNAL).payload[:1] == b"\x09"
    assert keeper.wait() == 137
    assert keeper.status[0] == "stopped"


def test_a_guest_that_says_exit_and_no_more_is_ended_by_a_kill(keep):
    keeper = keep()
    client = running(keeper)
    keeper.guest.socket.sendall(frames((EXIT, EXIT_BYTES, INITS)))
    client.send(SIGNAL, struct.pack("<iI", 9, 2))
    began = time.monotonic()
    assert keeper.wait() == 0
    assert time.monotonic() - began < 2


# --- clients ----------------------------------------------------------------------------------------------------

CLIENT_BREACHES = {
    "a channel": Frame(PLAN, b"x", 1).encode(),
    "a header cut": bytes(11),
    "a length that is not that of the packet": HEAD.pack(5, 0, PLAN, 0) + b"x",
    "a packet too long": HEAD.pack(40000, 0, PLAN, 0) + bytes(40000),
    "a frame of a guest": Frame(EXIT, EXIT_BYTES).encode(),
    "greet": Frame(14).encode(),
    "close": Frame(CLOSE).encode(),
    "data without credit": Frame(DATA, b"x").encode(),
    "credit beyond the window": Frame(CREDIT, struct.pack("<I", WINDOW_BYTES + 1), 0, 1).encode(),
    "a second init": Frame(RUN, run_payload(INIT)).encode(),
    "flags that there are not": Frame(RUN, run_payload(32)).encode(),
    "a flag of signals that there is not": Frame(SIGNAL, struct.pack("<iI", 15, 8)).encode(),
}


@pytest.mark.parametrize("breach", CLIENT_BREACHES)
def test_a_client_that_breaks_a_rule_is_dropped_alone(keep, breach):
    keeper = keep()
    running(keeper)
    client = keeper.connect()
    client.socket.send(CLIENT_BREACHES[breach])
    assert client.next() is None
    other = keeper.connect()
    other.send(READ, b"/proc/version")
    keeper.guest.until(READ)
    assert keeper.process.poll() is None


def test_plans_cannot_be_longer_than_the_bound(keep):
    keeper = greeted(keep())
    client = keeper.connect()
    for _ in range(128):
        client.send(PLAN, bytes(PAYLOAD_MAX))
        keeper.guest.until(PLAN)
    client.send(PLAN, b"x")
    assert client.next() is None


def test_more_clients_than_there_can_be_wait(keep):
    keeper = greeted(keep())
    clients = [keeper.connect() for _ in range(64)]
    late = keeper.connect(hello=False)
    assert late.is_quiet(0.2)
    clients[7].socket.close()
    assert late.next().type == HELLO


# --- bounds -----------------------------------------------------------------------------------------------------


def memory_bytes(keeper):
    with open(f"/proc/{keeper.process.pid}/task/{keeper.process.pid}/children") as file:
        child = int(file.read())
    with open(f"/proc/{child}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) * 1024


def test_a_flood_to_a_client_that_does_not_read_costs_it_its_connection_only(keep):
    keeper = keep()
    running(keeper)
    deaf = keeper.connect()
    deaf.send(RUN, run_payload(0))
    keeper.guest.until(RUN, channel=3)
    report = frames((REPORT, bytes(1048), 3)) * 64
    for _ in range(200):
        keeper.guest.socket.sendall(report)
    other = keeper.connect()
    other.send(READ, b"/proc/version")
    keeper.guest.until(READ)
    assert memory_bytes(keeper) < 4_000_000


def test_a_guest_that_does_not_read_is_waited_for_in_bounded_memory(keep):
    keeper = keep()
    running(keeper)
    client = keeper.connect()
    client.socket.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError):
        for _ in range(100_000):
            client.send(READ, b"/proc/" + b"x" * 4000)
            sent += 4006
    assert sent < 4_000_000
    assert memory_bytes(keeper) < 4_000_000
    for _ in range(60):  # those who come meanwhile are greeted, and can go
        keeper.connect().socket.close()
    assert keeper.process.poll() is None


def test_small_frames_of_a_guest_are_held_without_their_headers(keep):
    keeper = keep()
    client = running(keeper)
    small = frames((GUEST_DATA, b"x", EXECS, 1), (GUEST_DATA, b"y", EXECS, 2))
    for _ in range(64):
        keeper.guest.socket.sendall(small * 1024)
    time.sleep(0.2)
    assert memory_bytes(keeper) < 2_000_000
    got = 0
    while got < 2 * WINDOW_BYTES:
        got += len(client.until(GUEST_DATA).payload)
    assert client.is_quiet(0.1)


# --- by chance --------------------------------------------------------------------------------------------------

FROM_GUEST = st.sampled_from([HELLO, REPORT, REPORTED, GUEST_DATA, GUEST_EOF, GUEST_CREDIT, EXIT, CONTENT, DONE])
LENGTHS = {REPORT: 24, GUEST_CREDIT: 4, EXIT: 44, DONE: 4, HELLO: 4, REPORTED: 0, GUEST_EOF: 0}
STREAMS = {GUEST_DATA: (1, 2), GUEST_EOF: (1, 2)}


@st.composite
def likely_frames(draw):
    kind = draw(FROM_GUEST)
    length = LENGTHS.get(kind, draw(st.integers(1, 300)))
    payload = draw(st.binary(min_size=length, max_size=length))
    return Frame(kind, payload, draw(st.integers(0, 3)), draw(st.sampled_from(STREAMS.get(kind, (0,))))).encode()


STREAM = st.lists(st.one_of(likely_frames(), likely_frames(), st.binary(max_size=40)), max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=STREAM)
def test_whatever_a_guest_says_the_keeper_goes_on_or_ends_with_a_reason(tmp_path, parts):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(tmp_path / "control")
    with Keeper(tmp_path, guest=True, stdout=subprocess.DEVNULL) as keeper:
        running(keeper)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            keeper.guest.socket.sendall(b"".join(parts))
        keeper.guest.socket.close()
        status = keeper.wait()
        assert keeper.status[0] in {"protocol", "guest", "exited", "stopped"}, status
        assert 0 <= status <= 255  # by itself, not by a signal


TO_GUEST = st.integers(PLAN, 15).filter(lambda kind: kind not in {SIGNAL, STOP})
CLIENT_LENGTHS = {RUN: 8, CREDIT: 4, WINSIZE: 4, ANSWER: 8, EOF: 0, START: 0}


@st.composite
def likely_packets(draw):
    kind = draw(TO_GUEST)
    length = CLIENT_LENGTHS.get(kind, draw(st.integers(1, 300)))
    payload = draw(st.binary(min_size=length, max_size=length))
    return Frame(kind, payload, draw(st.sampled_from((0, 0, 0, 1))), draw(st.integers(0, 2))).encode()


PACKETS = st.lists(st.one_of(likely_packets(), likely_packets(), st.binary(min_size=1, max_size=40)), max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(connections=st.lists(PACKETS, max_size=5))
def test_whatever_clients_say_the_machine_and_the_others_go_on(tmp_path, connections):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(tmp_path / "control")
    with Keeper(tmp_path, guest=True, stdout=subprocess.DEVNULL) as keeper:
        running(keeper)
        for packets in connections:
            client = keeper.connect()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for packet in packets:
                    client.socket.send(packet)
        other = keeper.connect()
        other.send(READ, b"/proc/last")
        while keeper.guest.until(READ).payload != b"/proc/last":
            continue
        assert keeper.process.poll() is None


def test_the_frame_readers_survive_the_fuzzer_under_sanitizers(tmp_path):
    need("clang", find_program("clang"))
    need("libFuzzer of clang", list(Path("/usr/lib").glob("llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a")))
    subprocess.run(["make", "-s", "-C", str(NATIVE), "build/frames_fuzz"], check=True)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for at, data in enumerate(BREACHES.values()):
        (corpus / str(at)).write_bytes(data)
    command = [
        NATIVE / "build/frames_fuzz",
        f"-max_total_time={FUZZ_SECONDS}",
        "-print_final_stats=1",
        "-max_len=70000",
    ]
    result = subprocess.run([*command, corpus], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "stat::number_of_executed_units" in result.stderr
