"""The streams of a program, with nobody at the other end but us."""

import os

import pytest

from boxwright.api.program import Ending
from boxwright.api.records import EXITED, OOM, SIGNALLED, TIMEOUT
from boxwright.api.streams import DEVNULL, PIPE, Capture, Stdio, reason
from boxwright.errors import UsageError

EXIT_0, EXIT_3, SIGNAL_9 = 0, 3 << 8, 9


def ending(status: int) -> Ending:
    return Ending(status, 0.25, 0.5, 1.0, 4096)


def open_fds() -> list[str]:
    return os.listdir("/proc/self/fd")


def drain(capture: Capture) -> None:
    """Serve what is ready until the writers are gone."""
    capture.started()
    while any(not writing for _, writing in capture.wanted()):
        for fd, writing in capture.wanted():
            if not writing:
                capture.ready(fd)


def test_output_is_collected_by_stream():
    with Capture(None, None) as capture:
        os.write(capture.stdio.theirs[1], b"out")
        os.write(capture.stdio.theirs[2], b"err")
        drain(capture)
        result = capture.result(ending(EXIT_0), 0, 0, timed_out=False)
    assert (result.stdout, result.stderr, result.truncated) == (b"out", b"err", False)
    assert (result.usage.cpu_s, result.usage.wall_s, result.usage.memory_peak_bytes) == (0.75, 1.0, 4096)


def test_what_is_over_the_limit_is_dropped_and_told():
    with Capture(None, 5) as capture:
        for _ in range(3):
            os.write(capture.stdio.theirs[1], b"abc")
            capture.ready(capture.wanted()[0][0])
        drain(capture)
        result = capture.result(ending(EXIT_0), 0, 0, timed_out=False)
    assert (result.stdout, result.truncated) == (b"abcab", True)


def test_what_just_fits_is_not_truncated():
    with Capture(None, 3) as capture:
        os.write(capture.stdio.theirs[1], b"abc")
        drain(capture)
        result = capture.result(ending(EXIT_0), 0, 0, timed_out=False)
    assert (result.stdout, result.truncated) == (b"abc", False)


def test_short_input_is_there_before_the_program_is():
    with Capture(b"short", None) as capture:
        assert not any(writing for _, writing in capture.wanted())
        assert os.read(capture.stdio.theirs[0], 100) == b"short"
        assert os.read(capture.stdio.theirs[0], 100) == b""


def test_long_input_is_written_as_it_is_read():
    data = os.urandom(300_000)
    with Capture(data, None) as capture:
        found = b""
        while len(found) < len(data):
            found += os.read(capture.stdio.theirs[0], 50_000)
            for fd, writing in capture.wanted():
                if writing:
                    capture.ready(fd)
    assert found == data


def test_input_that_nobody_reads_breaks_no_pipe():
    with Capture(bytes(300_000), None) as capture:
        capture.started()
        writers = [fd for fd, writing in capture.wanted() if writing]
        assert capture.ready(writers[0])


def test_draining_does_not_wait_for_who_holds_the_pipe():
    with Capture(None, None) as capture:
        os.write(capture.stdio.theirs[1], b"rest")
        capture.drain()
        assert capture.result(ending(EXIT_0), 0, 0, timed_out=False).stdout == b"rest"


def test_a_text_is_no_input():
    with pytest.raises(UsageError, match="not a text"):
        Capture("text", None)


def test_nothing_is_left_open():
    before = open_fds()
    for stdin in (None, b"", b"short", bytes(300_000)):
        with Capture(stdin, None) as capture:
            capture.started()
    with Stdio(PIPE, DEVNULL, PIPE) as stdio:
        os.close(stdio.take(0))
    assert open_fds() == before


def test_the_caller_keeps_his_own_descriptors():
    reader, writer = os.pipe()
    with Stdio(reader, writer, DEVNULL) as stdio:
        assert stdio.theirs[:2] == [reader, writer]
        assert stdio.ours == [-1, -1, -1]
    os.write(writer, b"still there")
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("status", "oom_kills", "timed_out", "expected"),
    [
        (EXIT_0, 0, False, EXITED),
        (EXIT_3, 0, False, EXITED),
        (SIGNAL_9, 0, False, SIGNALLED),
        (SIGNAL_9, 1, False, OOM),
        (EXIT_3, 1, False, OOM),
        (EXIT_0, 1, False, EXITED),
        (SIGNAL_9, 0, True, TIMEOUT),
        (SIGNAL_9, 1, True, TIMEOUT),
    ],
)
def test_why_a_program_ended(status, oom_kills, timed_out, expected):
    assert reason(ending(status), oom_kills, timed_out=timed_out) == expected


def test_an_ending_has_an_exit_code_or_a_signal():
    assert (ending(EXIT_3).exit_code, ending(EXIT_3).signal) == (3, None)
    assert (ending(SIGNAL_9).exit_code, ending(SIGNAL_9).signal) == (None, 9)
