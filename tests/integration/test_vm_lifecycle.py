"""The operations of a container in a virtual machine, as an engine calls them. One machine serves many assertions."""

import json
import os
import platform
import signal
import subprocess
import time
from pathlib import Path

import pytest

from fixtures_runtime import Json
from fixtures_vm import Machines, eventually

pytestmark = pytest.mark.root

LOOP = "echo started; trap 'echo got term' TERM; trap 'exit 9' INT; while :; do sleep 0.1; done"


def test_a_container_goes_through_its_states(machines: Machines) -> None:
    """creating is seen while the machine boots; nothing of the program runs before `start`."""
    path = machines.bundle("/bin/sh", "-c", LOOP)
    pid_file = machines.directory / "states.pid"
    words = [*machines.command, "--root", str(machines.root), "create", "--bundle", str(path)]
    with (machines.directory / "states.out").open("w+") as out:
        maker = subprocess.Popen([*words, "--pid-file", str(pid_file), "states"], stdout=out, stderr=out)
        eventually((machines.root / "states/state.json").exists, "the state was never written")
        assert machines.state("states")["status"] == "creating"
        assert maker.wait(60) == 0
        created = machines.state("states")
        assert (created["status"], created["bundle"]) == ("created", str(path))
        assert created["pid"] == int(pid_file.read_text())
        assert Path(f"/proc/{created['pid']}/cmdline").read_bytes().startswith(b"/boxwright-helper\0--as\0")
        assert said(out.name) == ""
        assert machines.start("states", check=False).status == 0
        assert machines.state("states")["status"] == "running"
        assert "is running, not created" in machines.start("states", check=False).stderr
        eventually(lambda: said(out.name) == "started\n", "the program said nothing")
        machines.kill("states", "TERM")
        eventually(lambda: said(out.name).endswith("got term\n"), "the signal did not arrive")

        machines.call("pause", "states")
        assert machines.state("states")["status"] == "paused"
        assert "is paused, not running" in machines.call("pause", "states", check=False).stderr
        machines.kill("states", "TERM")  # taken once it goes on
        time.sleep(0.3)
        assert said(out.name).count("got term") == 1
        assert "delete --force" in machines.delete("states", check=False).stderr
        machines.call("resume", "states")
        eventually(lambda: said(out.name).count("got term") == 2, "the signal was lost in the pause")

        machines.kill("states", "INT")
        assert machines.wait_stopped("states")["pid"] == 0
        assert "is stopped" in machines.kill("states", "TERM", check=False).stderr
        assert machines.exec("states", "true").status == 255
        assert machines.call("ps", "states").stdout.splitlines()[1:] == []
        assert json.loads(machines.call("ps", "--format", "json", "states").stdout) == []
    machines.delete("states")
    assert machines.ids() == []
    assert machines.call("state", "states", check=False).status != 0


def said(name: str) -> str:
    return Path(name).read_text()


def test_run_gives_streams_and_status(machines: Machines, tmp_path: Path) -> None:
    script = "uname -r; cat; echo to the error >&2; echo box:$(hostname); exit 7"
    path = machines.bundle("/bin/sh", "-c", script)
    given = tmp_path / "given"
    given.write_bytes(os.urandom(150_000))
    with given.open("rb") as file:
        result = machines.run("streams", path, stdin=file.fileno())
    assert result.status == 7, result
    release, _, rest = Path(result._out).read_bytes().partition(b"\n")
    assert release.decode() != platform.release()
    assert rest == given.read_bytes() + b"box:box\n"
    assert result.stderr == "to the error\n"
    assert machines.ids() == []


def test_run_ends_by_signals_as_its_program(machines: Machines) -> None:
    """What is sent to `run` reaches the program in the guest; 128 + n is what the program ended by."""
    path = machines.bundle("/bin/sh", "-c", "trap 'kill -KILL $$' TERM; echo up; while :; do sleep 0.1; done")
    words = [*machines.command, "--root", str(machines.root), "run", "--bundle", str(path), "signalled"]
    # a pid 1 does not end by a signal of its own kernel's namespace: the program is the child of a shell
    config = json.loads((path / "config.json").read_text())
    config["process"]["args"] = ["/bin/sh", "-c", "sh -c 'echo up; exec sleep 60' & trap 'kill $!' TERM; wait; wait $!"]
    (path / "config.json").write_text(json.dumps(config))
    run = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert run.stdout
    assert run.stdout.readline() == b"up\n"
    run.send_signal(signal.SIGTERM)
    assert run.wait(30) == 128 + signal.SIGTERM
    run.stdout.close()
    assert machines.ids() == []


def test_a_detached_run_lives_on_and_is_deleted_by_force(machines: Machines) -> None:
    pid_file = machines.directory / "detached.pid"
    path = machines.bundle("/bin/sleep", "600")
    machines.run("detached", path, "--detach", "--pid-file", str(pid_file), check=True)
    assert machines.state("detached")["status"] == "running"
    children = machines.children("detached")
    assert children["keeper"] == int(pid_file.read_text())
    assert machines.delete("detached", check=False).status != 0
    machines.call("pause", "detached")
    machines.delete("detached", "--force")
    assert machines.living(children) == []
    assert machines.ids() == []


def test_a_created_container_is_deleted(machines: Machines) -> None:
    machines.create("unstarted", machines.bundle("/bin/true"))
    children = machines.children("unstarted")
    machines.delete("unstarted")
    assert machines.living(children) == []
    machines.delete("unstarted", "--force")


def test_one_left_half_made_is_deleted_by_force(machines: Machines) -> None:
    """Its maker is killed while the machine boots."""
    path = machines.bundle("/bin/true")
    words = [*machines.command, "--root", str(machines.root), "create", "--bundle", str(path), "half"]
    maker = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    eventually((machines.root / "half/console.log").exists, "no machine was begun")
    eventually(lambda: machines.state("half")["pid"], "there is no keeper")
    maker.kill()
    maker.wait()
    assert machines.state("half")["status"] in {"creating", "stopped"}
    machines.delete("half", "--force")
    assert machines.ids() == []


def test_limits_statistics_and_processes_are_the_guest_s(machines: Machines) -> None:
    def limits(config: Json) -> None:
        config["linux"]["resources"] |= {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}

    machines.started("limited", "/bin/sh", "-c", "sleep 601 & sleep 600", change=limits)
    try:
        # the shell becomes the second of them
        eventually(lambda: "/bin/sh" not in machines.call("ps", "limited").stdout, "nothing sleeps")
        heading, *lines = machines.call("ps", "limited").stdout.splitlines()
        assert heading.split() == ["UID", "PID", "PPID", "S", "TIME", "CMD"]
        assert sorted(line.split(None, 5)[5] for line in lines) == ["sleep 600", "sleep 601"]
        pids = [int(line.split()[1]) for line in lines]
        assert json.loads(machines.call("ps", "--format", "json", "limited").stdout) == sorted(pids)
        assert "options of ps(1)" in machines.call("ps", "limited", "-ef", check=False).stderr

        data = json.loads(machines.call("events", "--stats", "limited").stdout)["data"]
        assert data["memory"]["usage"]["limit"] == 64 << 20
        assert 0 < data["memory"]["usage"]["usage"] < 64 << 20
        assert data["pids"] == {"current": len(pids), "limit": 50}
        assert data["cpu"]["usage"]["total"] > 0

        options = ["--memory", str(80 << 20), "--pids-limit", "60", "--cpu-quota", "40000"]
        machines.call("update", *options, "limited")
        data = json.loads(machines.call("events", "--stats", "limited").stdout)["data"]
        assert (data["memory"]["usage"]["limit"], data["pids"]["limit"]) == (80 << 20, 60)
        config = json.loads((machines.root / "limited/config.json").read_text())
        assert config["linux"]["resources"]["memory"]["limit"] == 80 << 20

        refused = machines.call("update", "--memory", "8G", "limited", check=False)
        assert "is not supported by the `vm` box here: the machine has" in refused.stderr
        refused = machines.call("update", "--pids-limit", "70", "--cpu-quota", "3", "limited", check=False)
        assert "cpu.max`: Invalid argument" in refused.stderr
        data = json.loads(machines.call("events", "--stats", "limited").stdout)["data"]
        assert data["pids"]["limit"] == 60  # what was changed is changed back

        machines.call("pause", "limited")
        for words in (["ps", "limited"], ["events", "--stats", "limited"], ["update", "--pids-limit", "9", "limited"]):
            assert "is paused, not running" in machines.call(*words, check=False).stderr
        assert "is paused" in machines.exec("limited", "--ignore-paused", "true").stderr
        machines.call("resume", "limited")
        assert machines.output("limited", "echo", "awake") == "awake\n"
    finally:
        machines.delete("limited", "--force")


def test_running_out_of_memory_is_an_event(machines: Machines) -> None:
    """Of a process beside the init, and of the init itself, whose end is the machine's."""

    def limits(config: Json) -> None:
        config["linux"]["resources"] |= {"memory": {"limit": 48 << 20}}

    machines.create("hungry", machines.bundle("/bin/tail", "/dev/zero", change=limits))
    try:
        words = [*machines.command, "--root", str(machines.root), "events", "--interval", "1h", "hungry"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as events:
            assert events.stdout
            assert machines.exec("hungry", "tail", "/dev/zero").status == 137
            assert json.loads(events.stdout.readline()) == {"type": "oom", "id": "hungry"}
            machines.start("hungry")
            assert json.loads(events.stdout.readline()) == {"type": "oom", "id": "hungry"}
            assert events.wait(30) == 0
            assert events.stdout.read() == ""
    finally:
        machines.delete("hungry", "--force")


def test_what_another_kernel_cannot_do_is_refused(machines: Machines) -> None:
    path = machines.bundle("/bin/sleep", "600")
    machines.run("refusing", path, "--detach", check=True)
    try:
        for words in (["checkpoint", "refusing"], ["restore", "--bundle", str(path), "other"]):
            refused = machines.call(*words, check=False)
            assert "is not supported by the `vm` box" in refused.stderr, refused
        refused = machines.call("exec", "--preserve-fds", "1", "refusing", "true", check=False)
        assert "preserved descriptors" in refused.stderr
        assert machines.state("refusing")["status"] == "running"
    finally:
        machines.delete("refusing", "--force")
