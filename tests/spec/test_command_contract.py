"""What engines count on beside the standard: the command line as runc has it, on real containers."""

import ctypes
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from boxwright.host.seccomp import host_arch, syscall_numbers
from fixtures_probe import Boxes, living, unique_id
from fixtures_runtime import wait_gone

pytestmark = pytest.mark.root


@pytest.mark.parametrize("how", ["file", "standard error"])
@pytest.mark.parametrize("kind", ["configuration", "system call", "hook", "state"])
def test_the_last_line_of_a_json_log_is_the_error(boxes: Boxes, kind, how):
    config = boxes.config()
    container = unique_id()
    if kind == "configuration":
        config["process"]["cwd"] = "relative"
    elif kind == "system call":
        config["mounts"].append({"destination": "/mnt/a", "type": "no-such", "source": "x"})
    elif kind == "hook":
        config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    log = boxes.directory / "log"
    options = ("--log", str(log)) if how == "file" else ()
    words = (
        "--log-format",
        "json",
        *options,
        *(("start",) if kind == "state" else ("create", "--bundle", boxes.bundle(config))),
    )
    result = boxes.runtime.call(*words, container, check=False)
    assert result.status != 0
    text = log.read_text() if how == "file" else result.stderr
    last = json.loads(text.splitlines()[-1])
    assert last["level"] == "error"
    assert last["msg"]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", last["time"])


def test_the_version_is_told_in_the_form_of_runc(boxes: Boxes):
    lines = boxes.runtime.call("--version").stdout.splitlines()
    assert re.fullmatch(r"boxwright version \d+\.\d+\.\d+\S*", lines[0])
    assert lines[-1].startswith("+")  # what it is built with, as crun tells
    told = dict(line.split(": ") for line in lines[1:-1])
    assert told["spec"] == "1.3.0"
    assert set(told) <= {"commit", "spec"}


def test_the_pid_file_holds_the_pid_alone(boxes: Boxes):
    path = boxes.directory / "pid"
    box = boxes.created(boxes.config("pause"), "--pid-file", path)
    assert path.read_text() == str(box.pid)
    box.start()
    boxes.runtime.call("exec", "--detach", "--pid-file", path, box.id, "/bin/probe", "pause")
    pid = int(path.read_text())
    assert pid != box.pid
    assert b"pause" in Path(f"/proc/{pid}/cmdline").read_bytes()
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
    box.end()


def test_a_pid_file_that_cannot_be_written_undoes_the_create(boxes: Boxes):
    assert "pid file" in boxes.refused(boxes.config("pause"), "--pid-file", "/no/such/dir/pid")


def test_the_pidfd_goes_to_its_socket(boxes: Boxes):
    path = boxes.directory / "pidfd"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        box = boxes.created(boxes.config("pause"), "--pidfd-socket", path)
        connection, _ = listener.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
    told = Path(f"/proc/self/fdinfo/{fds[0]}").read_text()
    os.close(fds[0])
    assert f"Pid:\t{box.pid}\n" in told


SUBREAPER = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.run(sys.argv[2:], check=True, stdin=subprocess.DEVNULL)
pid = int(open(sys.argv[1]).read())
print(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1], os.getpid())
os.kill(pid, 9)
print(os.waitpid(pid, 0)[1])
"""


@pytest.mark.spec("runtime.md#runtimeCreate")
def test_the_container_process_is_the_child_of_the_caller_s_subreaper(boxes: Boxes):
    """A monitor such as conmon or containerd's shim waits for it, whatever the runtime's process was."""
    bundle, path = boxes.bundle(boxes.config("pause")), boxes.directory / "pid"
    words = [
        *boxes.runtime.command,
        "--root",
        boxes.runtime.root,
        "create",
        "--bundle",
        bundle,
        "--pid-file",
        path,
        unique_id(),
    ]
    command = [sys.executable, "-c", SUBREAPER, str(path), *map(str, words)]
    output = boxes.directory / "output"
    with output.open("w") as file:
        subprocess.run(command, check=True, stdout=file, timeout=60)
    parent, monitor, status = output.read_text().split()
    assert parent == monitor
    assert int(status) == signal.SIGKILL


def test_nothing_of_ours_stays_beside_a_container(boxes: Boxes):
    before = living()
    box = boxes.started(boxes.config("pause"))
    assert living() - before == {box.pid}
    box.end()


def test_a_run_passes_signals_on_and_gives_the_status(boxes: Boxes):
    bundle, container = boxes.bundle(boxes.config("await", "5")), unique_id()
    out = boxes.directory / "out"
    words = [*boxes.runtime.command, "--root", str(boxes.runtime.root), "run", "--bundle", str(bundle), container]
    with out.open("w") as file:
        process = subprocess.Popen(words, stdout=file)
    deadline = time.monotonic() + 30
    while out.read_text() != "ready\n":
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 5
    assert out.read_text() == f"ready\nsignal {int(signal.SIGUSR1)}\n"
    assert boxes.runtime.ids() == []


def test_a_detached_run_returns_at_once(boxes: Boxes):
    container = unique_id()
    boxes.runtime.run(container, boxes.bundle(boxes.config("pause")), "--detach", check=True)
    assert boxes.runtime.state(container)["status"] == "running"
    boxes.runtime.delete(container, "--force")
    kept = unique_id()
    boxes.runtime.run(kept, boxes.bundle(boxes.config("args")), "--keep", check=True)
    assert boxes.runtime.state(kept)["status"] == "stopped"
    boxes.runtime.delete(kept)


def test_kill_all_reaches_every_process(boxes: Boxes):
    box = boxes.started(boxes.config("pause"))
    path = boxes.directory / "pid"
    boxes.runtime.call("exec", "--detach", "--pid-file", path, box.id, "/bin/probe", "pause")
    pids = [int(path.read_text()), box.pid]  # the first process ends when the others of its namespace are reaped
    assert set(pids) <= living()
    boxes.runtime.kill(box.id, "KILL", "--all")
    for pid in pids:
        wait_gone(pid)
    assert box.state()["status"] == "stopped"


def test_state_and_list_have_what_engines_read(boxes: Boxes):
    box = boxes.started(boxes.config("pause"))
    state = box.state()
    assert state["rootfs"] == str(boxes.root)
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z$", state["created"])
    assert "owner" in state
    listed = json.loads(boxes.runtime.call("list", "--format", "json").stdout)
    assert [(entry["id"], entry["status"], entry["pid"]) for entry in listed] == [(box.id, "running", box.pid)]
    assert boxes.runtime.call("list", "--quiet").stdout.split() == [box.id]
    assert json.loads(boxes.runtime.call("ps", "--format", "json", box.id).stdout) == [box.pid]


def test_the_state_directory_of_a_user_is_sticky(boxes: Boxes):
    """A sticky directory survives the cleaning of XDG_RUNTIME_DIR (XDG base directory specification)."""
    directory = boxes.directory / "xdg"
    directory.mkdir()
    directory.chmod(0o700)
    os.chown(directory, 1000, 1000)
    bundle = boxes.bundle(boxes.config())
    script = (
        "import os, sys; os.setgroups([]); os.setgid(1000); os.setuid(1000); "
        "os.environ['XDG_RUNTIME_DIR'] = sys.argv[1]; os.execv(sys.argv[2], sys.argv[2:])"
    )
    words = [*boxes.runtime.command, "create", "--bundle", str(bundle), unique_id()]
    subprocess.run([sys.executable, "-c", script, str(directory), *words], check=False, capture_output=True)
    made = directory / "boxwright"
    assert made.stat().st_mode & stat.S_ISVTX
    assert made.stat().st_uid == 1000
    assert [path for path in made.iterdir() if not path.name.startswith(".")] == []


def test_a_no_new_keyring_container_has_the_caller_s_session_keyring(boxes: Boxes):
    keyctl = syscall_numbers().resolve(host_arch(), "keyctl").direct
    ours = ctypes.CDLL(None).syscall(keyctl, 0, -3, 0)  # KEYCTL_GET_KEYRING_ID of the session keyring
    config = boxes.config("syscall", str(keyctl), "0", "-3", "0")
    for options, own in (((), True), (("--no-new-keyring",), False)):
        result = boxes.runtime.run(unique_id(), boxes.bundle(config), *options, check=True)
        serial = int(result.stdout.split()[1])
        assert serial > 0
        assert (serial != ours) == own
