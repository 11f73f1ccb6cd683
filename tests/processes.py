"""Running what may hang, may want a terminal and may leave processes behind."""

import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

CHUNK_BYTES = 65536
ENDING_SECONDS = 0.3  # what has been killed already may still be on its way out
KILLING_SECONDS = 10


class Ended:
    """The end of a command: its status (None if time ran out), what it wrote, and the processes it left."""

    def __init__(self, status: int | None, output: str, orphans: Sequence[str]) -> None:
        self.status = status
        self.output = output
        self.orphans = orphans


def run_to_the_end(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], seconds: float, *, terminal: bool = False
) -> Ended:
    """Run `command` for at most `seconds`, then kill all that is left of it.

    The tests' process is the subreaper of what it starts (see `leaks`), so nothing gets away. With `terminal`, input
    and output are a terminal, and the command leads its session.
    """
    known = set(descendants(os.getpid()))
    reader, writer = pty.openpty() if terminal else os.pipe()
    if terminal:
        _without_translation(writer)
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=writer if terminal else subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        start_new_session=True,
    )
    os.close(writer)
    output = bytearray()
    status = _drain_until_exit(process, reader, output, time.monotonic() + seconds)
    orphans = kill_descendants(known)
    process.wait()
    _drain(reader, output)
    os.close(reader)
    return Ended(status, output.decode(errors="replace"), orphans)


def _without_translation(terminal: int) -> None:
    attributes = termios.tcgetattr(terminal)
    attributes[1] &= ~termios.ONLCR
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)


def _drain_until_exit(
    process: "subprocess.Popen[bytes]", reader: int, output: bytearray, deadline: float
) -> int | None:
    """Orphans may hold the output open, so it is the end of the process that counts."""
    pidfd = os.pidfd_open(process.pid)
    sources = [pidfd, reader]
    try:
        while (left := deadline - time.monotonic()) > 0:
            ready = select.select(sources, [], [], left)[0]
            if reader in ready and not _read(reader, output):
                sources.remove(reader)
            if pidfd in ready:
                return process.wait()
    finally:
        os.close(pidfd)
    return None


def _drain(reader: int, output: bytearray) -> None:
    while select.select([reader], [], [], 0)[0] and _read(reader, output):
        pass


def _read(reader: int, output: bytearray) -> bool:
    """False at the end of the output: a terminal whose other side is closed gives EIO there."""
    try:
        chunk = os.read(reader, CHUNK_BYTES)
    except OSError:
        return False
    output += chunk
    return bool(chunk)


def descendants(pid: int) -> Iterator[int]:
    """Children of `pid`, and theirs. Who has just ended is left out."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in path.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield child
            yield from descendants(child)


def kill_descendants(known: "set[int]") -> list[str]:
    """Reap every descendant that is not `known`, kill those that do not end by themselves, and tell which."""
    killed: dict[int, str] = {}
    patience = time.monotonic() + ENDING_SECONDS
    deadline = patience + KILLING_SECONDS
    while strangers := {pid for pid in set(descendants(os.getpid())) - known if not _reap(pid)}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(strangers)} cannot be killed")
        if time.monotonic() > patience:
            for pid in strangers:
                killed.setdefault(pid, command_of(pid))
                _kill(pid)
        time.sleep(0.005)
    return [f"process {pid}: {command}" for pid, command in killed.items()]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
        _thaw(pid)
    except (FileNotFoundError, ProcessLookupError):
        return  # it ended on its own


def _thaw(pid: int) -> None:
    """A process in a frozen cgroup of version 1 does not even die."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "freezer" and path != "/":
            Path(f"/sys/fs/cgroup/freezer{path}/freezer.state").write_text("THAWED")


def _reap(pid: int) -> bool:
    """Whether the process was a child of ours that had ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "(ended)"
