"""A program in the foreground with a terminal: what it writes comes through, and nobody who does not read stops us."""

import os
import pty
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures_runtime import TIMEOUT_SECONDS, Runtime

pytestmark = pytest.mark.root

TIMED_OUT = 124
# more than a pipe, a pty and a piece on the way hold; and what they hold, but not the pipe alone
FLOOD, RATHER_MUCH = 300_000, 68_000


class Unread:
    """Standard outputs that nobody reads."""

    @staticmethod
    def pipe() -> tuple[int, int]:
        return os.pipe()

    @staticmethod
    def terminal() -> tuple[int, int]:
        return pty.openpty()

    @staticmethod
    def socket() -> tuple[int, int]:
        ours, theirs = socket.socketpair()
        return ours.detach(), theirs.detach()


@pytest.fixture(params=[Unread.pipe, Unread.terminal, Unread.socket], ids=["pipe", "terminal", "socket"])
def unread(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    ends = request.param()
    yield ends
    for fd in ends:
        os.close(fd)


def begin(
    boxwright: Runtime, root: Path, stdout: int, *words: str, stdin: int = subprocess.DEVNULL
) -> "subprocess.Popen[bytes]":
    command = [*boxwright.command, "--root", str(boxwright.root), "run", "--rootfs", str(root), "--tty", *words]
    return subprocess.Popen(command, stdin=stdin, stdout=stdout)


def test_the_time_limit_holds_where_nobody_reads(
    boxwright: Runtime, busybox_root: Path, unread: tuple[int, int]
) -> None:
    began = time.monotonic()
    with begin(boxwright, busybox_root, unread[1], "--timeout", "1s", "--", "yes") as running:
        assert running.wait(TIMEOUT_SECONDS) == TIMED_OUT
    assert 1 <= time.monotonic() - began < 10
    assert boxwright.ids() == []
    assert os.get_blocking(unread[1])


def test_the_time_limit_holds_where_all_is_read(boxwright: Runtime, busybox_root: Path) -> None:
    with Path("/dev/null").open("wb") as nowhere:
        running = begin(boxwright, busybox_root, nowhere.fileno(), "--timeout", "1s", "--", "yes")
        assert running.wait(TIMEOUT_SECONDS) == TIMED_OUT


def test_the_end_of_a_program_in_time_is_told_though_nobody_reads(boxwright: Runtime, busybox_root: Path) -> None:
    ours, theirs = os.pipe()
    script = f"head -c {RATHER_MUCH} /dev/zero; exit 3"
    with begin(boxwright, busybox_root, theirs, "--timeout", "2s", "--", "/bin/sh", "-c", script) as running:
        assert running.wait(TIMEOUT_SECONDS) == 3
    os.close(ours)
    os.close(theirs)


def test_a_signal_reaches_the_program_though_nobody_reads(
    boxwright: Runtime, busybox_root: Path, unread: tuple[int, int]
) -> None:
    script = f"trap 'exit 7' TERM; head -c {FLOOD} /dev/zero & while :; do sleep 0.01; done"
    with begin(boxwright, busybox_root, unread[1], "--", "/bin/sh", "-c", script) as running:
        os.read(unread[0], 1)
        time.sleep(0.5)  # until nothing more is taken
        running.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        running.send_signal(signal.SIGTERM)  # and what it has left need not be waited for
        assert running.wait(TIMEOUT_SECONDS) == 7


def test_all_that_is_written_comes_through_to_a_slow_reader(boxwright: Runtime, busybox_root: Path) -> None:
    ours, theirs = os.pipe()
    with begin(boxwright, busybox_root, theirs, "--", "seq", "50000") as running, os.fdopen(ours, "rb") as reader:
        os.close(theirs)
        time.sleep(0.3)
        assert reader.read().split() == [str(number).encode() for number in range(1, 50001)]
        assert running.wait(TIMEOUT_SECONDS) == 0


def test_output_is_appended_to_a_file(boxwright: Runtime, busybox_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("wb", buffering=0) as file:
        file.write(b"before\n")
        assert begin(boxwright, busybox_root, file.fileno(), "--", "echo", "after").wait(TIMEOUT_SECONDS) == 0
    assert path.read_bytes() == b"before\nafter\r\n"


def test_much_input_comes_through(boxwright: Runtime, busybox_root: Path) -> None:
    """A terminal takes no more than its line buffer at once (N_TTY_BUF_SIZE): the rest waits for the program."""
    theirs, ours = os.pipe()
    out, written = os.pipe()
    script = "stty raw -echo; echo up; sleep 0.3; head -c 200000 | md5sum"
    with begin(boxwright, busybox_root, written, "--", "/bin/sh", "-c", script, stdin=theirs) as running:
        os.close(theirs)
        os.close(written)
        with os.fdopen(out, "rb") as reader, os.fdopen(ours, "wb") as writer:
            assert reader.readline().strip() == b"up"
            writer.write(b"x" * 200_000)
            writer.flush()
            assert reader.read().split()[0] == b"4b98146705d4b0b98b758a78ff6fb73f"
        assert running.wait(TIMEOUT_SECONDS) == 0
