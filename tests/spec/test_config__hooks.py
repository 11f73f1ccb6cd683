"""config.md: hooks of every kind, seen from within them."""

import json
import os
import time
from pathlib import Path

import pytest

from fixtures_probe import Boxes, groups_of, state_of, unique_id

pytestmark = pytest.mark.root

AT_CREATE = ("prestart", "createRuntime", "createContainer")
AT_START = ("startContainer", "poststart")
KINDS = (*AT_CREATE, *AT_START, "poststop")
IN_CONTAINER = ("createContainer", "startContainer")
ANCHORS = {
    "prestart": "config.md#configHooksPrestart",
    "createRuntime": "config.md#configHooksCreateRuntime",
    "createContainer": "config.md#configHooksCreateContainer",
    "startContainer": "config.md#configHooksStartContainer",
    "poststart": "config.md#configHooksPoststart",
    "poststop": "config.md#configHooksPoststop",
}
NAMESPACES = ("mnt", "pid", "net", "uts", "ipc")
PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"


def each(kinds=KINDS):
    """A parameter `kind`, each marked with its own section of the standard."""
    return pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.spec(ANCHORS[k])) for k in kinds])


class Hooked:
    """Hooks that write to a directory which all of them see: startContainer sees it at /mnt/a."""

    def __init__(self, boxes: Boxes) -> None:
        self.boxes = boxes
        self.out = boxes.directory / "out"
        self.out.mkdir()
        self.out.chmod(0o777)
        self.config = boxes.config("await")
        self.config["mounts"].append({"destination": "/mnt/a", "source": str(self.out), "options": ["bind"]})
        self.hooks = self.config["hooks"] = {}

    def add(self, kind: str, script: str, **keys: object) -> None:
        """A hook whose script has its directory as its working directory."""
        place = "/mnt/a" if kind == "startContainer" else str(self.out)
        words = ["sh", "-c", f"cd {place}; {script}"]
        self.hooks.setdefault(kind, []).append({"path": "/bin/sh", "args": words, "env": [PATH]} | keys)

    def text(self, name: str) -> str:
        path = self.out / name
        return path.read_text() if path.exists() else ""

    def live(self) -> "tuple[str, int]":
        """Create, start, end and delete a container: its id and pid."""
        box = self.boxes.started(self.config)
        pid = box.pid
        box.kill()
        box.wait()
        assert box.delete().stderr == ""
        return box.id, pid


@pytest.fixture
def hooked(boxes: Boxes) -> Hooked:
    return Hooked(boxes)


@pytest.mark.spec("config.md#configHooks", "runtime.md#runtimeLifecycle")
def test_hooks_run_in_their_order(hooked: Hooked):
    for kind in reversed(KINDS):
        for number in (1, 2):
            hooked.add(kind, f"echo {kind} {number} >> order")
    box = hooked.boxes.created(hooked.config)
    order = [f"{kind} {number}" for kind in KINDS for number in (1, 2)]
    assert hooked.text("order").splitlines() == order[:6]
    box.start()
    assert hooked.text("order").splitlines() == order[:10]
    box.kill()
    box.wait()
    assert hooked.text("order").splitlines() == order[:10]
    box.delete()
    assert hooked.text("order").splitlines() == order


@each()
def test_hooks_run_in_their_namespaces(hooked: Hooked, kind):
    hooked.add(kind, "for kind in mnt pid net uts ipc; do readlink /proc/self/ns/$kind; done > namespaces")
    box = hooked.boxes.started(hooked.config)
    place = f"/proc/{box.pid}" if kind in IN_CONTAINER else "/proc/self"
    expected = [os.readlink(f"{place}/ns/{name}") for name in NAMESPACES]
    box.end()
    assert hooked.text("namespaces").splitlines() == expected


@each()
def test_hooks_get_the_state(hooked: Hooked, kind, validator):
    hooked.config["annotations"] = {"org.example": 'quoted " and \n'}
    hooked.add(kind, "cat > state")
    container, pid = hooked.live()
    state = json.loads(hooked.text("state"))
    validator("state-schema.json").validate(state)
    status = {"startContainer": "created", "poststart": "running", "poststop": "stopped"}.get(kind, "creating")
    assert (state["id"], state["status"]) == (container, status)
    assert state["annotations"] == {"org.example": 'quoted " and \n'}
    assert Path(state["bundle"], "config.json").exists()
    if kind == "poststop":
        assert state.get("pid", 0) == 0
    else:
        assert state["pid"] == (1 if kind in IN_CONTAINER else pid)


@each()
def test_hooks_get_their_arguments_and_their_environment_alone(hooked: Hooked, kind):
    path = "/bin/sh"
    script = "tr '\\0' '\\n' < /proc/$$/cmdline > {0}/args; tr '\\0' '\\n' < /proc/$$/environ > {0}/env; :"
    place = "/mnt/a" if kind == "startContainer" else str(hooked.out)
    if kind == "createContainer":
        script = script.replace("$$", "self")  # its proc is the host's still, its pids are not
    words = ["sh", "-c", script.format(place), "x y", ""]
    hooked.hooks[kind] = [{"path": path, "args": words, "env": ["A=1", "B=two words", PATH]}]
    hooked.live()
    if kind != "createContainer":
        assert hooked.text("args").split("\n")[:-1] == words
    assert hooked.text("env").split("\n")[:-1] == ["A=1", "B=two words", PATH]


@each()
def test_a_hook_that_does_not_read_its_state_is_no_failure(hooked: Hooked, kind):
    hooked.config["annotations"] = {"org.example.long": "x" * 200_000}
    hooked.add(kind, "exec <&-; echo ran > ran")
    hooked.live()
    assert hooked.text("ran") == "ran\n"


@each()
def test_hooks_have_no_descriptors_but_theirs(hooked: Hooked, kind):
    hooked.add(kind, "ls /proc/$$/fd > fds" if kind != "createContainer" else "ls /proc/self/fd > fds")
    hooked.live()
    # the shell keeps its own output at 10 while another is in its place, the listing itself is at 3
    assert set(hooked.text("fds").split()) <= {"0", "1", "2", "3", "10"}


@each(AT_CREATE)
def test_a_failing_hook_undoes_the_create(hooked: Hooked, kind):
    hooked.add(kind, "exit 3")
    hooked.add(kind, "echo ran >> later")
    hooked.add("startContainer", "echo ran >> later")
    hooked.add("poststop", "echo ran >> after; cat > state")
    message = hooked.boxes.refused(hooked.config)
    assert kind in message
    assert "3" in message
    assert hooked.text("later") == ""
    assert hooked.text("after") == "ran\n"
    assert json.loads(hooked.text("state"))["status"] == "stopped"


@each(AT_START)
@pytest.mark.spec("runtime.md#runtimeLifecycle")
def test_a_failing_hook_of_start_stops_and_destroys_the_container(hooked: Hooked, kind):
    hooked.add(kind, "exit 3")
    hooked.add(kind, "echo ran >> later")
    hooked.add("poststop", "echo ran >> after; cat > state")
    box = hooked.boxes.created(hooked.config)
    pid = box.pid
    result = box.start(check=False)
    assert result.status != 0
    assert kind in result.stderr
    assert state_of(pid) in {"", "Z"}
    assert hooked.text("later") == ""
    assert hooked.text("after") == "ran\n"
    assert json.loads(hooked.text("state"))["status"] == "stopped"
    assert groups_of(box.id) == []
    assert hooked.boxes.runtime.ids() == []
    assert ("ready" in box.result.stdout) <= (kind == "poststart")


@each((*AT_CREATE, *AT_START))
@pytest.mark.parametrize("how", ["foreground", "detached", "kept"])
def test_a_failing_hook_of_a_run_leaves_nothing(hooked: Hooked, kind, how):
    hooked.add(kind, "exit 3")
    hooked.add("poststop", "echo ran >> after")
    options = {"foreground": (), "detached": ("--detach",), "kept": ("--keep",)}[how]
    result = hooked.boxes.run(hooked.config, *options)
    assert result.status != 0
    assert kind in result.stderr
    assert hooked.text("after") == "ran\n"
    assert hooked.boxes.runtime.ids() == []


@pytest.mark.spec("config.md#configHooksPoststop", "runtime.md#runtimeLifecycle")
def test_a_failing_poststop_hook_is_a_warning(hooked: Hooked):
    hooked.add("poststop", "echo 1 >> order; exit 1")
    hooked.hooks["poststop"].append({"path": "/no/such/hook"})
    hooked.add("poststop", "echo 3 >> order; kill -9 $$")
    hooked.add("poststop", "echo 4 >> order")
    box = hooked.boxes.started(hooked.config)
    box.kill()
    box.wait()
    result = box.delete()
    assert hooked.text("order").split() == ["1", "3", "4"]
    assert result.stderr.count("poststop") == 3
    assert hooked.boxes.runtime.ids() == []


@each()
def test_a_hook_ends_with_its_time(hooked: Hooked, kind):
    hooked.add(kind, "echo $$ > pid; sleep 60 & sleep 60", timeout=1)
    config, begin = hooked.config, time.monotonic()
    if kind in AT_CREATE:
        message = hooked.boxes.refused(config)
    elif kind in AT_START:
        message = hooked.boxes.created(config).start(check=False).stderr
    else:
        box = hooked.boxes.created(config)
        box.kill()
        box.wait()
        message = box.delete().stderr
    assert 1 < time.monotonic() - begin < 20
    assert kind in message
    assert "1 s" in message
    assert hooked.boxes.runtime.ids() == []


@each()
def test_a_hook_within_its_time_is_not_disturbed(hooked: Hooked, kind):
    hooked.add(kind, "echo ran > ran", timeout=30)
    hooked.live()
    assert hooked.text("ran") == "ran\n"


@each(("prestart", "createRuntime", "createContainer", "poststart", "poststop"))
def test_paths_are_the_host_s(hooked: Hooked, kind):
    program = hooked.boxes.directory / "program"
    program.write_text(f"#!/bin/sh\n/bin/echo ran > {hooked.out}/ran\n")
    program.chmod(0o755)
    hooked.hooks[kind] = [{"path": str(program)}]
    hooked.live()
    assert hooked.text("ran") == "ran\n"


@each(("startContainer",))
def test_the_path_of_start_container_is_the_container_s(hooked: Hooked, kind):
    (hooked.out / "program").write_text("#!/bin/busybox sh\n/bin/echo ran > /mnt/a/ran\n")
    (hooked.out / "program").chmod(0o755)
    hooked.hooks[kind] = [{"path": "/mnt/a/program"}]
    hooked.live()
    assert hooked.text("ran") == "ran\n"
    hooked.hooks[kind] = [{"path": str(hooked.out / "program")}]
    box = hooked.boxes.created(hooked.config)
    result = box.start(check=False)
    assert result.status != 0
    assert str(hooked.out / "program") in result.stderr


@each(AT_CREATE)
def test_hooks_of_create_see_the_mounts_and_come_before_the_pivot(hooked: Hooked, kind):
    hooked.config["mounts"].append({"destination": "/mnt/b", "type": "tmpfs", "source": "marked"})
    root = hooked.boxes.root
    hooked.add(kind, f"grep marked /proc/$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')/mountinfo > seen; ls {root} > root")
    if kind == "createContainer":
        hooked.hooks[kind][0]["args"][2] = f"cd {hooked.out}; grep marked /proc/self/mountinfo > seen; ls {root} > root"
    hooked.live()
    assert f"{root}/mnt/b" in hooked.text("seen")
    assert "bin" in hooked.text("root").split()


@each(("createContainer",))
def test_create_container_hooks_may_write_to_a_root_that_becomes_read_only(hooked: Hooked, kind):
    bundle = hooked.boxes.bundle(hooked.config, copy=True)
    hooked.add(kind, f"echo made > {bundle}/rootfs/made")
    hooked.config["process"]["args"] = ["/bin/probe", "cat", "/made", ",", "write", "/other"]
    (bundle / "config.json").write_text(json.dumps(hooked.config))
    result = hooked.boxes.run_bundle(bundle)
    assert result.stdout == "made\n/other -30\n", result


@each(("createContainer",))
def test_create_container_hooks_can_mount_for_the_container(hooked: Hooked, kind):
    hooked.add(kind, f"mount -t tmpfs -o size=4k by-hook {hooked.boxes.root}/mnt/b")
    hooked.config["process"]["args"] = ["/bin/probe", "cat", "/proc/self/mountinfo"]
    result = hooked.boxes.run(hooked.config)
    assert " /mnt/b " in result.stdout, result
    assert "by-hook" not in Path("/proc/self/mountinfo").read_text()


@each(("createRuntime", "prestart"))
def test_hooks_of_the_runtime_can_furnish_the_network(hooked: Hooked, kind):
    hooked.add(
        kind, f"nsenter -t $(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/') -n ip link set lo mtu 1234 2> {hooked.out}/err"
    )
    hooked.config["process"]["args"] = ["/bin/probe", "cat", "/sys/class/net/lo/mtu"]
    result = hooked.boxes.run(hooked.config)
    assert result.stdout == "1234\n", (result, hooked.text("err"))


@each(("startContainer",))
def test_start_container_hooks_come_before_the_program_and_poststart_after(hooked: Hooked, kind):
    hooked.add(kind, "tr '\\0' ' ' < /proc/1/cmdline > before")
    hooked.add("poststart", "tr '\\0' ' ' < /proc/$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')/cmdline > after")
    hooked.live()
    assert "probe" not in hooked.text("before")
    assert hooked.text("after") == "/bin/probe await "


@each(("poststart",))
def test_start_returns_after_its_poststart_hooks(hooked: Hooked, kind):
    hooked.add(kind, "sleep 0.3; echo ran > ran")
    box = hooked.boxes.started(hooked.config)
    assert hooked.text("ran") == "ran\n"
    box.end()


@each(("poststop",))
def test_poststop_comes_after_the_container_is_gone(hooked: Hooked, kind):
    hooked.add(kind, f"ls {hooked.boxes.runtime.root} > states; find /sys/fs/cgroup -name 'bw-*' > groups")
    container, _ = hooked.live()
    assert container not in hooked.text("states")
    assert container not in hooked.text("groups")


@pytest.mark.spec("config.md#configHooks")
@pytest.mark.parametrize(
    "hook",
    [{"path": "bin/true"}, {"path": ""}, {}, {"path": "/bin/true", "timeout": 0}, {"path": "/bin/true", "timeout": -1}],
)
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_hooks_create_nothing(boxes: Boxes, kind, hook):
    container = unique_id()
    result = boxes.runtime.create(container, boxes.bundle(boxes.config() | {"hooks": {kind: [hook]}}), check=False)
    assert result.status != 0
    assert f"/hooks/{kind}/0" in result.stderr
    assert boxes.runtime.ids() == []


@pytest.mark.spec("config.md#configHooks")
def test_hooks_of_a_user_namespace_run_in_it(hooked: Hooked):
    mapping = [{"containerID": 0, "hostID": 100_000, "size": 65536}]
    hooked.config["linux"]["namespaces"].append({"type": "user"})
    hooked.config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    for kind in KINDS:
        hooked.add(kind, f"readlink /proc/self/ns/user > {kind}")
    box = hooked.boxes.started(hooked.config)
    inner, outer = os.readlink(f"/proc/{box.pid}/ns/user"), os.readlink("/proc/self/ns/user")
    box.end()
    for kind in KINDS:
        assert hooked.text(kind).strip() == (inner if kind in IN_CONTAINER else outer), kind
