"""What the flags of the command line do to a real container."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

import lacks
from fixtures_probe import groups_of
from fixtures_runtime import TIMEOUT_SECONDS, BundleFactory, Runtime, default_config, wait_gone

pytestmark = pytest.mark.root

# an id also names a cgroup, of which the machine has one only
ID = f"cli-{os.getpid()}"


@pytest.fixture
def running(boxwright: Runtime, bundle: BundleFactory) -> Runtime:
    """The runtime, with a container that sleeps."""
    boxwright.create(ID, bundle(default_config("/bin/sleep", "60")))
    boxwright.start(ID)
    return boxwright


def test_list_has_its_three_forms(running: Runtime) -> None:
    state = running.state(ID)
    heading, row = running.call("list").stdout.splitlines()
    assert heading.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert row.split()[:4] == [ID, str(state["pid"]), "running", state["bundle"]]
    assert running.call("list", "-q").stdout == f"{ID}\n"
    assert json.loads(running.call("list", "--format", "json").stdout) == [state]


def test_ps_shows_the_processes_of_the_container_alone(running: Runtime) -> None:
    pid = running.state(ID)["pid"]
    assert json.loads(running.call("ps", "--format=json", ID).stdout) == [pid]
    lacks.need_program("ps")
    heading, row = running.call("ps", ID, "-o", "pid,args").stdout.splitlines()
    assert (heading.split()[0], row.split()) == ("PID", [str(pid), "/bin/sleep", "60"])


def test_exec_does_what_its_flags_say(running: Runtime) -> None:
    flags = ["--user", "12:34", "--additional-gids", "56", "--cwd", "/tmp", "--env", "NAME=value"]
    script = "id -u; id -g; id -G; pwd; echo $NAME; exit 9"
    result = running.call("exec", *flags, ID, "/bin/sh", "-c", script, check=False)
    assert (result.status, result.stdout.split("\n")) == (9, ["12", "34", "34 56", "/tmp", "value", ""])


def test_a_user_without_a_group_is_never_root(running: Runtime) -> None:
    result = running.call("exec", "-u", "1", ID, "/bin/sh", "-c", "id -u")
    assert result.stdout == "1\n"
    for wrong in ("1:", ":1", "root", "4294967296", "01", "-1"):
        refused = running.call("exec", f"--user={wrong}", ID, "/bin/id", check=False)
        assert (refused.status, refused.stdout) == (255, "")


def test_an_added_capability_is_not_inheritable(running: Runtime) -> None:
    result = running.exec(ID, "/bin/grep", "^Cap", "/proc/self/status")
    before = dict(line.split(":\t") for line in result.stdout.splitlines())
    result = running.call("exec", "--cap", "CAP_NET_RAW", ID, "/bin/grep", "^Cap", "/proc/self/status")
    after = dict(line.split(":\t") for line in result.stdout.splitlines())
    net_raw = 1 << 13
    assert {name: int(mask, 16) for name, mask in after.items()} == {
        name: int(mask, 16) | (0 if name in {"CapInh", "CapAmb"} else net_raw) for name, mask in before.items()
    }
    assert int(after["CapInh"], 16) == 0


def test_exec_takes_a_process_file_and_detaches(running: Runtime, tmp_path: Path) -> None:
    process = {"cwd": "/", "args": ["/bin/sleep", "60"], "env": ["PATH=/bin"]}
    (tmp_path / "process.json").write_text(json.dumps(process))
    pid_file = tmp_path / "pid"
    running.call("exec", "--process", tmp_path / "process.json", "--detach", "--pid-file", pid_file, ID)
    pid = int(pid_file.read_text())
    assert json.loads(running.call("ps", "-f", "json", ID).stdout) == sorted([running.state(ID)["pid"], pid])
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)  # as an engine does: the container cannot end before its processes are reaped


@pytest.mark.parametrize(
    ("program", "text"),
    [("nosuch", "executable file not found in $PATH"), ("/nosuch", "no such file"), ("/proc", "permission denied")],
)
def test_what_cannot_be_executed_is_said_in_words_that_engines_look_for(
    running: Runtime, tmp_path: Path, program: str, text: str
) -> None:
    log = tmp_path / "log.json"
    result = running.call("--log", log, "--log-format", "json", "exec", ID, program, check=False)
    entry = json.loads(log.read_text().splitlines()[-1])
    assert (result.status, entry["level"]) == (255, "error")
    assert text in entry["msg"]
    assert text.casefold() in result.stderr.splitlines()[0].casefold()


def test_pause_and_resume(running: Runtime) -> None:
    running.call("pause", ID)
    assert running.state(ID)["status"] == "paused"
    refused = running.exec(ID, "/bin/true")
    assert (refused.status, "--ignore-paused" in refused.stderr) == (255, True)
    running.call("resume", ID)
    assert running.state(ID)["status"] == "running"


def test_update_changes_limits_by_flags_and_by_file(running: Runtime) -> None:
    def limit() -> int:
        data = json.loads(running.call("events", "--stats", ID).stdout)["data"]
        return int(data["pids"]["limit"])

    running.call("update", "--pids-limit", "33", ID)
    assert limit() == 33
    read, write = os.pipe()
    os.write(write, b'{"pids": {"limit": 44}}')
    os.close(write)
    try:
        running.call("update", "--resources", "-", ID, stdin=read)
    finally:
        os.close(read)
    assert limit() == 44


def test_events_are_lines_of_json(running: Runtime, boxwright_command: str) -> None:
    words = [boxwright_command, "--root", str(running.root), "events", "--interval", "50ms", ID]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        running.kill(ID)
        assert process.wait(timeout=30) == 0
    assert (first["type"], first["id"], first["data"]["pids"]["current"]) == ("stats", ID, 1)


def test_kill_takes_names_and_numbers(running: Runtime) -> None:
    assert running.call("kill", ID, "SIGFOO", check=False).status == 1
    running.call("kill", ID, "0")
    assert running.state(ID)["status"] == "running"
    running.call("kill", "--all", ID, "sigkill")
    running.wait_stopped(ID)


def test_a_configuration_by_another_name(boxwright: Runtime, bundle: BundleFactory, tmp_path: Path) -> None:
    path = bundle(default_config("/bin/true"))
    (path / "config.json").rename(tmp_path / "other.json")
    result = boxwright.call("run", "--bundle", path, "--config", "other.json", ID, cwd=tmp_path, check=False)
    assert result.status == 0, result


def test_what_spec_writes_runs(boxwright: Runtime, busybox_root: Path, tmp_path: Path) -> None:
    boxwright.call("spec", "--bundle", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["process"].update(terminal=False, args=["/bin/sh", "-c", "hostname; id -u; exit 4"])
    config["root"]["path"] = str(busybox_root)
    (tmp_path / "config.json").write_text(json.dumps(config))
    result = boxwright.run(ID, tmp_path)
    assert (result.status, result.stdout.split()) == (4, ["boxwright", "0"])


def test_a_command_runs_without_a_bundle(boxwright: Runtime) -> None:
    result = boxwright.call("run", "--hostname=here", "--", "/bin/sh", "-c", "hostname; exit 6", check=False)
    assert (result.status, result.stdout) == (6, "here\n")


@pytest.mark.parametrize(("words", "limit"), [((), "1024"), (("--pids", "17"), "17"), (("--pids", "-1"), "max")])
def test_a_command_without_a_bundle_has_a_limit_of_tasks(
    boxwright: Runtime, busybox_root: Path, words: tuple[str, ...], limit: str
) -> None:
    options = ("run", "--name", ID, "--rootfs", str(busybox_root), *words)
    command = [*boxwright.command, "--root", str(boxwright.root), *options, "--", "/bin/sh", "-c", "echo up; read end"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout
        assert running.stdout.readline() == b"up\n"
        groups = [Path(path) / "pids.max" for path in groups_of(ID)]
        found = {file.read_text().strip() for file in groups if file.exists()}
        running.communicate(b"\n", timeout=TIMEOUT_SECONDS)
    lacks.need("a controller of tasks", found)
    assert found == {limit}
