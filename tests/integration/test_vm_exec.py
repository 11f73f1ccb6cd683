"""exec in a container in a virtual machine: the process is the guest's, what the caller holds is its proxy."""

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from boxwright.host.processes import start_time
from fixtures_runtime import Json
from fixtures_vm import Machines, eventually
from processes import run_to_the_end

pytestmark = pytest.mark.root

ID = "target"


@pytest.fixture(scope="module")
def target(machines: Machines) -> Machines:
    """One machine for all the tests here; its container sleeps."""
    machines.started(ID, "/bin/sleep", "6000")
    return machines


def words(machines: Machines, *args: str) -> list[str]:
    return [*machines.command, "--root", str(machines.root), "exec", *args]


def runs(machines: Machines, text: str) -> bool:
    return text in machines.call("ps", ID).stdout


def test_it_is_the_guest_s_with_its_own_identity(target: Machines) -> None:
    here = os.uname().release
    assert target.output(ID, "uname", "-r").strip() != here
    assert target.output(ID, "cat", "/proc/1/cmdline") == "/bin/sleep\x006000\0"
    script = "id -u; id -g; id -G; pwd; echo $NAME; grep -c . /proc/self/cgroup; grep CapEff /proc/self/status"
    options = ["--user", "1000:50", "--additional-gids", "77", "--cwd", "/etc", "--env", "NAME=value"]
    shown = target.call("exec", *options, ID, "sh", "-c", script).stdout.split()
    assert shown == ["1000", "50", "50", "77", "/etc", "value", "1", "CapEff:", "0" * 16]


def test_a_process_of_a_file(target: Machines, tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    process = {"cwd": "/tmp", "args": ["/bin/sh", "-c", "pwd; echo $A; exit 4"], "env": ["A=b", "PATH=/bin"]}
    file.write_text(json.dumps(process | {"user": {"uid": 0, "gid": 0}}))
    result = target.call("exec", "--process", str(file), ID, check=False)
    assert (result.status, result.stdout) == (4, "/tmp\nb\n"), result


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143)])
def test_its_status_is_the_program_s(target: Machines, script: str, status: int) -> None:
    assert target.exec(ID, "sh", "-c", script).status == status


def test_what_cannot_be_executed_names_its_line(target: Machines) -> None:
    result = target.exec(ID, "/no/such/program")
    assert result.status == 255
    assert "cannot execute `/no/such/program`: No such file or directory (ENOENT)" in result.stderr
    assert 'from /process/args/0 = "/no/such/program"' in result.stderr


def test_standard_streams_carry_bytes(target: Machines, tmp_path: Path) -> None:
    given = os.urandom(400_000)
    done = subprocess.run(words(target, ID, "cat"), input=given, capture_output=True, timeout=60, check=True)
    assert done.stdout == given
    (tmp_path / "in").write_bytes(given)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        subprocess.run(words(target, ID, "cat"), stdin=source, stdout=sink, timeout=60, check=True)
    assert (tmp_path / "out").read_bytes() == given
    done = subprocess.run(
        words(target, ID, "sh", "-c", "cat; echo error >&2"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"error\n")


def test_signals_to_the_proxy_reach_the_program(target: Machines) -> None:
    script = "trap 'echo term' TERM; trap 'echo usr1' USR1; trap 'exit 3' INT; echo up; while :; do sleep 0.1; done"
    with subprocess.Popen(
        words(target, ID, "sh", "-c", script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        for number, line in ((signal.SIGTERM, "term\n"), (signal.SIGUSR1, "usr1\n")):
            process.send_signal(number)
            assert process.stdout.readline() == line
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 3


def test_one_in_the_background_is_its_pid_file_s(target: Machines, tmp_path: Path) -> None:
    """The engine signals and kills the pid that it read."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        file = tmp_path / f"pid-{number}"
        assert target.call("exec", "--detach", "--pid-file", str(file), ID, "sleep", f"70{number}").status == 0
        pid = int(file.read_text())
        eventually(lambda: runs(target, f"sleep 70{number}"), "it does not run in the guest")  # noqa: B023 - called here
        assert Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/boxwright-helper\0--proxy")
        os.kill(pid, number)
        eventually(lambda: not runs(target, f"sleep 70{number}"), "it outlives its proxy")  # noqa: B023


def test_exec_into_a_created_container(machines: Machines) -> None:
    """Engines do not, but the machine is there, and so are its files."""
    machines.create("early", machines.bundle("/bin/true"))
    try:
        assert machines.output("early", "cat", "/etc/passwd").startswith("root:")
        assert machines.state("early")["status"] == "created"
    finally:
        machines.delete("early", "--force")


# --- terminals ----------------------------------------------------------------------------------------------------


@contextmanager
def on_terminal(rows: int, columns: int, *command: str) -> Iterator[tuple[int, int]]:
    """A command whose terminal, of that size, is its controlling one: the other end, and its pid."""
    pid, master = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.execv(command[0], command)
    try:
        yield master, pid
    finally:
        if start_time(pid):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(master)


def until(master: int, text: str) -> str:
    """What comes of a terminal, until `text` has come."""
    shown = b""
    end = time.monotonic() + 30
    while text.encode() not in shown:
        assert select.select([master], [], [], max(0.0, end - time.monotonic()))[0], f"`{text}` is not in {shown!r}"
        shown += os.read(master, 4096)
    return shown.decode()


RESIZED = "trap 'echo now:$(stty size)' WINCH; echo first:$(stty size); tty; while :; do sleep 0.1; done"


def test_a_terminal_in_the_foreground(target: Machines) -> None:
    with on_terminal(31, 91, *words(target, "--tty", ID, "sh", "-c", RESIZED)) as (master, pid):
        shown = until(master, "/dev/pts/")
        assert "first:31 91" in shown
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        until(master, "now:40 100")
        os.write(master, b"\x03")  # the guest's line discipline makes it SIGINT
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGINT


def test_a_terminal_of_an_engine(target: Machines, tmp_path: Path) -> None:
    """`--console-socket` gets a master here; what is set on it reaches the guest."""
    with console(tmp_path / "console") as listener:
        file = tmp_path / "pid"
        options = ["--tty", "--detach", "--pid-file", str(file), "--console-socket", str(tmp_path / "console")]
        target.call("exec", *options, ID, "sh", "-c", "sleep 0.5; " + RESIZED)
        master = received(listener)
    try:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        until(master, "/dev/pts/")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 88, 0, 0))
        until(master, "now:44 88")
        os.kill(int(file.read_text()), signal.SIGKILL)
        eventually(lambda: not runs(target, "WINCH"), "it outlives its proxy")
    finally:
        os.close(master)


def with_terminal(config: Json) -> None:
    config["process"]["terminal"] = True


def test_a_terminal_of_the_container(machines: Machines, tmp_path: Path) -> None:
    path = machines.bundle("/bin/sh", "-c", RESIZED, change=with_terminal)
    with console(tmp_path / "console") as listener:
        machines.create("console", path, "--console-socket", str(tmp_path / "console"))
        master = received(listener)
    try:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 22, 66, 0, 0))
        machines.start("console")
        assert "first:22 66" in until(master, "/dev/pts/")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 55, 111, 0, 0))
        until(master, "now:55 111")
    finally:
        os.close(master)
        machines.delete("console", "--force")


def test_run_on_a_terminal(machines: Machines, tmp_path: Path) -> None:
    path = machines.bundle("/bin/sh", "-c", "tty; stty size; exit 6", change=with_terminal)
    command = [*machines.command, "--root", str(machines.root), "run", "--bundle", str(path), "terminal"]
    ended = run_to_the_end(command, tmp_path, dict(os.environ), 60, terminal=True)
    assert ended.status == 6, ended.output
    assert "/dev/pts/0" in ended.output


@contextmanager
def console(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(30)
        yield listener


def received(listener: socket.socket) -> int:
    """The master that comes over a console socket."""
    connection, _ = listener.accept()
    with connection:
        _, (fd,), _, _ = socket.recv_fds(connection, 64, 1)
    return fd
