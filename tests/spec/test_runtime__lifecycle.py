"""runtime.md: the operations on real containers, their order and their errors."""

import errno
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lacks
from fixtures_probe import Box, Boxes, groups_of, state_of, unique_id
from fixtures_runtime import TIMEOUT_SECONDS, Json, default_config, wait_gone

pytestmark = pytest.mark.root


# ── state ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("runtime.md#runtimeState")
def test_state_tells_what_the_standard_asks_for(boxes: Boxes):
    box = boxes.created(boxes.config("await") | {"annotations": {"org.example.key": "value", "org.example.none": ""}})
    created = box.state()
    assert (created["id"], created["status"], created["bundle"]) == (box.id, "created", str(box.bundle))
    assert created["ociVersion"] == "1.0.2"
    assert created["annotations"] == {"org.example.key": "value", "org.example.none": ""}
    assert os.path.isdir(f"/proc/{created['pid']}")
    box.start()
    running = box.state()
    assert (running["status"], running["pid"]) == ("running", created["pid"])
    box.kill()
    stopped = box.wait()
    assert (stopped["id"], stopped["bundle"]) == (box.id, str(box.bundle))
    assert stopped.get("pid", 0) == 0


@pytest.mark.spec("runtime.md#runtimeState")
def test_every_state_is_valid_by_the_schema(boxes: Boxes, validator):
    box = boxes.created(boxes.config("pause"))
    states = [box.state()]
    box.start()
    states.append(box.state())
    box.kill()
    states.append(box.wait())
    for state in states:
        validator("state-schema.json").validate(state)
    assert not validator("state-schema.json").is_valid(states[0] | {"status": 1})


@pytest.mark.spec("runtime.md#runtimeState")
def test_a_relative_bundle_is_told_absolute(boxes: Boxes):
    bundle, container = boxes.bundle(boxes.config("pause")), unique_id()
    boxes.runtime.call("create", "--bundle", bundle.name, container, cwd=bundle.parent)
    assert boxes.runtime.state(container)["bundle"] == str(bundle)
    boxes.runtime.call("create", container + "-2", cwd=bundle)
    assert boxes.runtime.state(container + "-2")["bundle"] == str(bundle)


@pytest.mark.spec("runtime.md#runtimeState")
def test_a_paused_container_has_a_state_of_its_own(boxes: Boxes):
    box = boxes.started(boxes.config("pause"))
    boxes.runtime.call("pause", box.id)
    assert box.state()["status"] == "paused"
    boxes.runtime.call("resume", box.id)
    assert box.state()["status"] == "running"


class Held:
    """A container whose making is held by a hook until it is let go."""

    def __init__(self, boxes: Boxes, verb: str, kind: str) -> None:
        self._held, self.go = boxes.directory / "held", boxes.directory / "go"
        os.mkfifo(self._held)
        os.mkfifo(self.go)
        script = f"echo held > {self._held}; cat {self.go}"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}
        config = boxes.config("pause") | {"hooks": {kind: [hook]}}
        self.box = Box(boxes.runtime, unique_id("held"), boxes.bundle(config))
        words = [*boxes.runtime.command, "--root", boxes.runtime.root, verb, "--bundle", self.box.bundle, self.box.id]
        if verb == "run":
            words.insert(-1, "--detach")
        self.maker = subprocess.Popen(words, stdin=subprocess.DEVNULL)

    def wait(self) -> None:
        """Until the hook runs."""
        fd = os.open(self._held, os.O_RDONLY | os.O_NONBLOCK)
        try:
            assert select.select([fd], [], [], TIMEOUT_SECONDS)[0]
        finally:
            os.close(fd)

    def let_go(self) -> None:
        """Let the hook end, and wait for the maker's end."""
        self.go.write_text("")
        assert self.maker.wait(TIMEOUT_SECONDS) == 0

    def end_hook(self) -> None:
        """A hook outlives a maker that is killed."""
        try:
            os.close(os.open(self.go, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            assert error.errno == errno.ENXIO  # nobody reads: it has ended


@contextmanager
def held(boxes: Boxes, verb: str, kind: str) -> Iterator[Held]:
    made = Held(boxes, verb, kind)
    try:
        made.wait()
        yield made
    finally:
        made.maker.kill()
        made.maker.wait()
        made.end_hook()


@pytest.mark.spec("runtime.md#runtimeState")
@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
@pytest.mark.parametrize(("verb", "made"), [("run", "running"), ("create", "created")])
def test_a_container_is_creating_until_it_is_made(boxes: Boxes, verb, made, kind, validator):
    with held(boxes, verb, kind) as making:
        state = making.box.state()
        assert state["status"] == "creating"
        validator("state-schema.json").validate(state)
        assert status_listed(boxes, making.box) == "creating"
        making.let_go()
        assert making.box.state()["status"] == status_listed(boxes, making.box) == made
        assert making.box.pid == state["pid"]


def status_listed(boxes: Boxes, box: Box) -> str:
    listed: list[Json] = json.loads(boxes.runtime.call("list", "--format", "json").stdout)
    (status,) = [state["status"] for state in listed if state["id"] == box.id]
    assert isinstance(status, str)
    return status


@pytest.mark.spec("runtime.md#runtimeKill")
def test_what_is_being_made_takes_neither_signals_nor_processes(boxes: Boxes):
    with held(boxes, "run", "createRuntime") as making:
        for words in (("kill", making.box.id, "KILL"), ("exec", making.box.id, "/bin/true")):
            result = boxes.runtime.call(*words, check=False)
            assert result.status != 0
            assert "creating" in result.stderr
        making.let_go()
        assert making.box.exec("/bin/true").status == 0
        making.box.kill("KILL")
        making.box.wait()


@pytest.mark.spec("runtime.md#runtimeState")
def test_a_program_runs_though_its_maker_has_not_heard_of_it(boxes: Boxes):
    with held(boxes, "run", "createContainer") as making:
        pid = making.box.pid
        making.maker.send_signal(signal.SIGSTOP)
        making.go.write_text("")
        wait_until_executes(pid, "/bin/probe")
        assert making.box.state()["status"] == "running"
        assert making.box.exec("/bin/true").status == 0
        making.maker.send_signal(signal.SIGCONT)
        assert making.maker.wait(TIMEOUT_SECONDS) == 0
        assert making.box.state()["status"] == "running"


@pytest.mark.spec("runtime.md#runtimeDelete")
def test_what_a_dead_maker_left_is_stopped_and_can_be_deleted(boxes: Boxes):
    with held(boxes, "create", "createRuntime") as making:
        pid = making.box.pid
        making.maker.kill()
        making.maker.wait()
        wait_gone(pid)
        assert making.box.state()["status"] == "stopped"
        making.box.delete()
        assert groups_of(making.box.id) == []


def wait_until_executes(pid: int, program: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while os.readlink(f"/proc/{pid}/exe") != program:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.spec("runtime.md#runtimeQueryState")
@pytest.mark.parametrize("words", [(), ("",), ("bw-nobody-has-this-id",)])
def test_state_needs_the_id_of_a_container(boxes: Boxes, words):
    result = boxes.runtime.call("state", *words, check=False)
    assert result.status != 0
    assert result.stdout == ""
    assert result.stderr


# ── create ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("runtime.md#runtimeCreate")
def test_create_needs_an_id_and_a_bundle(boxes: Boxes):
    bundle = boxes.bundle(boxes.config("pause"))
    assert boxes.runtime.call("create", "--bundle", bundle, check=False).status != 0
    result = boxes.runtime.call("create", unique_id(), check=False, cwd=boxes.directory)
    assert result.status != 0
    assert "config.json" in result.stderr
    assert boxes.runtime.ids() == []


@pytest.mark.spec("runtime.md#runtimeCreate")
@pytest.mark.parametrize(
    "wrong", ["", ".", "..", ".hidden", "a/b", "../escape", "a b", "a\nb", "ä", "a:b", "$HOME", "x" * 2000]
)
def test_wrong_ids_create_nothing(boxes: Boxes, wrong):
    bundle = boxes.bundle(boxes.config("pause"))
    result = boxes.runtime.create(wrong, bundle, check=False)
    assert result.status != 0
    assert result.stderr
    assert boxes.runtime.ids() == []


@pytest.mark.spec("runtime.md#runtimeCreate")
def test_an_id_is_taken_once(boxes: Boxes):
    box = boxes.created(boxes.config("pause"))
    before = box.state()
    other = boxes.bundle(boxes.config("args", "another"))
    for _ in range(2):
        result = boxes.runtime.create(box.id, other, check=False)
        assert result.status != 0
        assert box.id in result.stderr
    assert box.state() == before
    assert boxes.runtime.run(box.id, other).status != 0
    assert box.state() == before
    box.end()
    assert boxes.runtime.run(box.id, other).stdout == "another\n"


@pytest.mark.spec("runtime.md#runtimeLifecycle", "runtime.md#runtimeCreate")
def test_create_makes_all_but_runs_nothing(boxes: Boxes):
    config = boxes.config("args", "ran") | {"hostname": "early"}
    box = boxes.created(config)
    pid = box.pid
    for kind in ("pid", "net", "ipc", "uts", "mnt"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    mounts = Path(f"/proc/{pid}/mountinfo").read_text()
    for place in ("/proc", "/dev", "/dev/pts", "/dev/shm", "/sys"):
        assert f" {place} " in mounts
    assert groups_of(box.id)
    assert b"probe" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert box.result.stdout == ""
    box.start()
    box.wait()
    assert box.result.stdout == "ran\n"


@pytest.mark.spec("runtime.md#runtimeLifecycle", "runtime.md#runtimeCreate")
def test_what_becomes_of_config_json_after_create_has_no_effect(boxes: Boxes):
    box = boxes.created(boxes.config("args", "old", ",", "uname") | {"hostname": "old"})
    changed = boxes.config("args", "new", ",", "uname") | {"hostname": "new", "hooks": {"poststop": [{"path": "/x"}]}}
    (box.bundle / "config.json").write_text(json.dumps(changed))
    box.start()
    box.wait()
    assert box.result.stdout == "old\nold (none)\n"
    (box.bundle / "config.json").write_text("{")
    assert box.delete().stderr == ""


@pytest.mark.spec("runtime.md#runtimeLifecycle")
def test_a_bundle_that_has_gone_does_not_hinder_the_rest(boxes: Boxes):
    box = boxes.created(boxes.config("pause"))
    shutil.rmtree(box.bundle)
    box.start()
    assert box.exec("/bin/probe", "args", "alive").stdout == "alive\n"
    box.end()


@pytest.mark.spec("runtime.md#runtimeErrors", "runtime.md#runtimeCreate")
@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("ociVersion", "2.0.0"),
        ("process/args", ["/no/such/program"]),
        ("process/cwd", "/etc/passwd"),
        ("process/rlimits", [{"type": "RLIMIT_NOISE", "soft": 1, "hard": 1}]),
        ("hostname", "x" * 65),
        ("mounts", [{"destination": "/mnt/a", "type": "nosuchfs", "source": "x"}]),
        ("mounts", [{"destination": "/mnt/a", "type": "tmpfs", "source": "x", "options": ["nosuchoption=1"]}]),
        ("mounts", [{"destination": "/mnt/a", "source": "/no/such/source", "options": ["bind"]}]),
        ("linux/namespaces", [{"type": "pid", "path": "/proc/self/ns/net"}]),
        ("linux/namespaces", [{"type": "pid"}, {"type": "mount"}, {"type": "network", "path": "/no/such/path"}]),
        ("linux/sysctl", {"net.no.such.key": "1"}),
        ("linux/devices", [{"type": "c", "path": "/bin/busybox", "major": 1, "minor": 3}]),
        ("linux/cgroupsPath", "../../escape"),
        ("linux/resources", {"memory": {"limit": 1}}),
        ("linux/resources", {"cpu": {"cpus": "4000"}}),
        ("linux/seccomp", {"defaultAction": "SCMP_ACT_NOTHING"}),
        ("linux/intelRdt", {"closID": "no-such-class"}),
        ("linux/netDevices", {"nosuchdevice": {}}),
        ("hooks", {"createRuntime": [{"path": "/bin/false"}]}),
        ("hooks", {"createContainer": [{"path": "/bin/false"}]}),
    ],
)
def test_what_cannot_be_applied_creates_nothing(boxes: Boxes, pointer, value):
    config = boxes.config("pause")
    *way, last = pointer.split("/")
    place = config
    for name in way:
        place = place[name]
    place[last] = value
    boxes.refused(config)


@pytest.mark.spec("runtime.md#runtimeErrors")
def test_a_failed_create_leaves_the_id_free(boxes: Boxes):
    container, config = unique_id(), boxes.config("args", "second")
    wrong = boxes.bundle(config | {"mounts": [{"destination": "/mnt/a", "type": "nosuchfs", "source": "x"}]})
    assert boxes.runtime.create(container, wrong, check=False).status != 0
    assert boxes.runtime.run(container, boxes.bundle(config)).stdout == "second\n"


@pytest.mark.spec("runtime.md#runtimeErrors")
def test_a_run_that_fails_leaves_nothing(boxes: Boxes):
    container, config = unique_id(), boxes.config("pause")
    config["process"]["args"] = ["/no/such/program"]
    assert boxes.runtime.run(container, boxes.bundle(config)).status != 0
    assert boxes.runtime.ids() == []
    assert groups_of(container) == []


@pytest.mark.spec("runtime.md#runtimeWarnings")
def test_a_warning_does_not_change_the_flow(boxes: Boxes):
    config = boxes.config("args", "on")
    config["process"]["capabilities"]["bounding"] = ["CAP_KILL", "CAP_FLY"]
    config["noSuchProperty"] = {"x": 1}
    result = boxes.run(config)
    assert (result.status, result.stdout) == (0, "on\n")
    assert "CAP_FLY" in result.stderr


# ── start ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("runtime.md#runtimeStart")
@pytest.mark.parametrize("words", [(), ("",), ("bw-nobody-has-this-id",)])
def test_start_needs_the_id_of_a_container(boxes: Boxes, words):
    result = boxes.runtime.call("start", *words, check=False)
    assert result.status != 0
    assert result.stderr


@pytest.mark.spec("runtime.md#runtimeStart")
def test_start_starts_once(boxes: Boxes):
    box = boxes.started(boxes.config("args", "once", ",", "await"))
    before = box.state()
    assert box.start(check=False).status != 0
    assert box.state() == before
    box.kill()
    stopped = box.wait()
    result = box.start(check=False)
    assert result.status != 0
    assert "stopped" in result.stderr
    assert box.state() == stopped
    assert box.result.stdout == "once\nready\n"


@pytest.mark.spec("runtime.md#runtimeStart")
def test_start_without_a_process_is_an_error(boxes: Boxes):
    config = boxes.config()
    del config["process"]
    box = boxes.created(config)
    result = box.start(check=False)
    assert result.status != 0
    assert "process" in result.stderr
    box.delete("--force")


# ── kill ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("runtime.md#runtimeKill")
@pytest.mark.parametrize("words", [(), ("",), ("bw-nobody-has-this-id",), ("bw-nobody-has-this-id", "TERM")])
def test_kill_needs_the_id_of_a_container(boxes: Boxes, words):
    result = boxes.runtime.call("kill", *words, check=False)
    assert result.status != 0
    assert result.stderr


@pytest.mark.spec("runtime.md#runtimeKill")
@pytest.mark.parametrize(
    ("signal", "number"),
    [("TERM", 15), ("SIGTERM", 15), ("15", 15), ("USR1", 10), ("HUP", 1), ("RTMIN+3", 37), ("36", 36), ("WINCH", 28)],
)
def test_kill_delivers_that_signal_to_the_container_process(boxes: Boxes, signal, number):
    box = boxes.started(boxes.config("await"))
    box.wait_output("ready\n")
    box.kill(signal)
    box.wait()
    assert box.result.stdout == f"ready\nsignal {number}\n"


@pytest.mark.spec("runtime.md#runtimeKill")
def test_kill_without_a_signal_means_term(boxes: Boxes):
    box = boxes.started(boxes.config("await"))
    box.wait_output("ready\n")
    boxes.runtime.call("kill", box.id)
    box.wait()
    assert box.result.stdout == "ready\nsignal 15\n"


@pytest.mark.spec("runtime.md#runtimeKill")
def test_a_created_container_can_be_killed(boxes: Boxes):
    box = boxes.created(boxes.config("args", "never"))
    box.kill("KILL")
    assert box.wait()["status"] == "stopped"
    assert box.result.stdout == ""
    assert box.start(check=False).status != 0


@pytest.mark.spec("runtime.md#runtimeKill")
def test_killing_a_stopped_container_is_an_error_without_effect(boxes: Boxes):
    box = boxes.started(boxes.config("args", "done"))
    stopped = box.wait()
    result = box.kill("KILL", check=False)
    assert result.status != 0
    assert "stopped" in result.stderr
    assert box.state() == stopped


@pytest.mark.spec("runtime.md#runtimeKill")
@pytest.mark.parametrize("signal", ["NOSUCH", "0x", "-1", "65", "SIG", ""])
def test_what_is_no_signal_is_an_error_without_effect(boxes: Boxes, signal):
    box = boxes.started(boxes.config("await"))
    assert box.kill(signal, check=False).status != 0
    assert box.state()["status"] == "running"


# ── delete ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("runtime.md#runtimeDelete")
@pytest.mark.parametrize("words", [(), ("",), ("bw-nobody-has-this-id",)])
def test_delete_needs_the_id_of_a_container(boxes: Boxes, words):
    result = boxes.runtime.call("delete", *words, check=False)
    assert result.status != 0
    assert result.stderr


@pytest.mark.spec("runtime.md#runtimeDelete")
def test_deleting_a_running_container_is_an_error_without_effect(boxes: Boxes):
    box = boxes.started(boxes.config("await"))
    box.wait_output("ready\n")
    before = box.state()
    result = box.delete(check=False)
    assert result.status != 0
    assert "running" in result.stderr
    assert box.state() == before
    box.kill("USR1")
    box.wait()
    assert box.result.stdout == "ready\nsignal 10\n"


@pytest.mark.spec("runtime.md#runtimeDelete")
def test_delete_undoes_what_create_made(boxes: Boxes):
    box = boxes.started(boxes.config("args"))
    box.wait()
    assert groups_of(box.id)
    box.delete()
    assert groups_of(box.id) == []
    assert boxes.runtime.ids() == []
    assert boxes.runtime.call("state", box.id, check=False).status != 0
    again = boxes.runtime.run(box.id, box.bundle)
    assert again.status == 0


def test_engines_may_delete_a_container_that_never_started(boxes: Boxes):
    box = boxes.created(boxes.config("args", "never"))
    pid = box.pid
    box.delete()
    assert state_of(pid) in {"", "Z"}
    assert boxes.runtime.ids() == []
    assert box.result.stdout == ""


def test_force_deletes_a_running_container(boxes: Boxes):
    box = boxes.started(boxes.config("pause"))
    box.delete("--force")
    assert boxes.runtime.ids() == []
    assert groups_of(box.id) == []


@pytest.mark.spec("runtime.md#runtimeDelete")
def test_delete_leaves_what_create_did_not_make(boxes: Boxes):
    lacks.need("a pids hierarchy", os.path.isdir("/sys/fs/cgroup/pids"))
    parent = unique_id("parent")
    made = Path("/sys/fs/cgroup/pids", parent)
    made.mkdir()
    try:
        config = boxes.config("args")
        config["linux"]["cgroupsPath"] = f"/{parent}/child"
        box = boxes.started(config)
        box.wait()
        assert (made / "child").exists()
        box.delete()
        assert not (made / "child").exists()
        assert made.exists()
    finally:
        made.rmdir()
    assert groups_of(parent) == []


@pytest.mark.spec("runtime.md#runtimeScopeContainer")
def test_the_creator_can_use_every_operation_and_others_see_nothing(boxes: Boxes, boxwright_command):
    box = boxes.created(boxes.config("pause"))
    other = type(boxes.runtime)([boxwright_command], boxes.directory)
    other.root = boxes.directory / "elsewhere"
    for verb in ("state", "start", "delete"):
        assert other.call(verb, box.id, check=False).status != 0
    box.start()
    box.end()


@pytest.mark.spec("runtime.md#runtimeStart", "runtime.md#runtimeLifecycle")
def test_start_tells_when_the_program_cannot_be_executed(boxes: Boxes):
    config = default_config("/bin/broken")
    bundle = boxes.bundle(config, writable=True)
    program = bundle / "rootfs/bin/broken"
    program.write_bytes(b"\x7fELF is not enough")
    program.chmod(0o755)
    container = unique_id()
    created = boxes.runtime.create(container, bundle, check=False)
    if created.status == 0:
        result = boxes.runtime.start(container, check=False)
        assert result.status != 0
        assert "/bin/broken" in result.stderr
        assert boxes.runtime.state(container)["status"] == "stopped"
