"""Without root: with and without the mapping tools, over the host's root and over a directory."""

import json
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import lacks
from boxwright.boxes.vm.virtiofsd import PLACES
from fixtures_machine import host_kernel
from fixtures_roots import copy_root, open_parents
from fixtures_runtime import Json, default_config

pytestmark = pytest.mark.root  # to become somebody else, and to have that user known

UID, FIRST, COUNT = 54321, 2_100_000_000, 65536
Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(boxwright_command: str, tmp_path: Path) -> Path:
    """A directory of the user's own, and the way to it open."""
    reachable = all(parent.stat().st_mode & 0o001 for parent in Path(boxwright_command).resolve().parents)
    lacks.need("a checkout that other users can reach", reachable)
    path = tmp_path / "home"
    path.mkdir()
    open_parents(path)
    os.chown(path, UID, UID)
    return path


@pytest.fixture
def call(boxwright_command: str, home: Path, tmp_path: Path) -> Call:
    """Run the command as a user without privileges, who is in /etc/subuid only if `ranges`.

    The files that say so are laid over the host's in a mount namespace of the call's own.
    """
    files = {
        "passwd": Path("/etc/passwd").read_text() + f"boxtest:x:{UID}:{UID}::{home}:/bin/sh\n",
        "subuid": f"boxtest:{FIRST}:{COUNT}\n",
        "subgid": f"boxtest:{FIRST}:{COUNT}\n",
        "none": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    out, err = tmp_path / "out", tmp_path / "err"  # not pipes: a created container keeps them open

    def run(*words: str | Path, ranges: bool = True) -> "subprocess.CompletedProcess[str]":
        ids = ("subuid", "subgid") if ranges else ("none", "none")
        pairs = (("passwd", "passwd"), (ids[0], "subuid"), (ids[1], "subgid"))
        binds = " && ".join(f"mount --bind {tmp_path / source} /etc/{target}" for source, target in pairs)
        become = f"setpriv --reuid {UID} --regid {UID} --clear-groups --inh-caps=-all"
        script = f'{binds} && exec {become} env -i PATH="$PATH" XDG_RUNTIME_DIR={home} "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", boxwright_command, *map(str, words)]
        with out.open("wb") as stdout, err.open("wb") as stderr:
            done = subprocess.run(
                command, cwd=home, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, timeout=60, check=False
            )
        return subprocess.CompletedProcess(command, done.returncode, out.read_text(), err.read_text())

    return run


def answer(done: "subprocess.CompletedProcess[str]") -> str:
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.strip()


def test_the_caller_is_root_in_the_box_and_nobody_outside(call: Call) -> None:
    found = answer(call("run", "--", "sh", "-c", "id -u; cat /proc/self/uid_map")).split()
    assert found == ["0", "0", str(UID), "1", "1", str(FIRST), str(COUNT)]


def test_without_subordinate_ids_there_is_only_root(call: Call) -> None:
    found = answer(call("run", "--", "cat", "/proc/self/uid_map", ranges=False)).split()
    assert found == ["0", str(UID), "1"]


def test_further_users_of_the_box_are_subordinate_ids(call: Call, home: Path) -> None:
    answer(call("run", "--rw", home, "--", "sh", "-c", "touch mine theirs && chown 33:33 theirs"))
    assert ((home / "mine").stat().st_uid, (home / "theirs").stat().st_uid) == (UID, FIRST + 32)


def test_the_hosts_root_is_seen_and_not_written(call: Call) -> None:
    found = answer(call("run", "--", "sh", "-c", "echo changed > /usr/.box && cat /usr/.box && ls /bin/sh"))
    assert found.split() == ["changed", "/bin/sh"]
    assert not Path("/usr/.box").exists()


def test_a_directory_as_root(call: Call, home: Path, busybox_root: Path) -> None:
    root = home / "root"
    subprocess.run(["cp", "-a", busybox_root, root], check=True)
    subprocess.run(["chown", "-hR", f"{UID}:{UID}", root], check=True)
    assert answer(call("run", "--rootfs", root, "--", "sh", "-c", "touch /new && ls /new")) == "/new"
    assert not (root / "new").exists()


def rootless_bundle(home: Path, root: Path, **changes: object) -> Path:
    config: Json = default_config("/bin/sleep", "60", **changes)
    config["linux"]["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": UID, "size": 1}]
    config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    bundle = home / "bundle"
    bundle.mkdir()
    config["root"] = {"path": str(root)}
    (bundle / "config.json").write_text(json.dumps(config))
    os.chown(bundle, UID, UID)
    return bundle


def with_device(bundle: Path, path: str, kind: str, major: int, minor: int) -> Path:
    file = bundle / "config.json"
    config = json.loads(file.read_text())
    config["linux"]["devices"] = [{"path": path, "type": kind, "major": major, "minor": minor}]
    file.write_text(json.dumps(config))
    return bundle


@pytest.mark.spec("config-linux.md#configLinuxDevices")
def test_a_device_is_the_hosts(call: Call, home: Path, busybox_root: Path) -> None:
    bundle = with_device(rootless_bundle(home, busybox_root), "/dev/full", "c", 1, 7)
    answer(call("create", "--bundle", bundle, "c1"))
    try:
        answer(call("start", "c1"))
        assert answer(call("exec", "c1", "stat", "-c", "%t:%T", "/dev/full")) == "1:7"
    finally:
        answer(call("delete", "--force", "c1"))


@pytest.mark.spec("config-linux.md#configLinuxDevices")
@pytest.mark.parametrize(
    ("path", "kind", "major", "minor"),
    [
        ("/dev/full", "c", 1, 5),
        ("/dev/full", "c", 5, 7),
        ("/dev/full", "b", 1, 7),
        ("/dev/full", "c", 1, 7 + (1 << 8)),
        ("{home}", "c", 1, 3),
        ("{home}/file", "c", 1, 3),
        ("{home}/link", "c", 1, 3),
    ],
)
def test_another_device_of_the_host_is_an_error(
    call: Call, home: Path, busybox_root: Path, path: str, kind: str, major: int, minor: int
) -> None:
    """What is bound is found by its path: it has to be the device whose type and numbers are configured."""
    (home / "file").write_text("")
    (home / "link").symlink_to("/dev/zero")
    bundle = with_device(rootless_bundle(home, busybox_root), path.format(home=home), kind, major, minor)
    done = call("create", "--bundle", bundle, "c1")
    assert done.returncode != 0
    assert "/linux/devices/0" in done.stderr
    assert "another" in done.stderr
    assert answer(call("list", "--quiet")) == ""


def test_the_operations_of_a_bundle(call: Call, home: Path, busybox_root: Path) -> None:
    bundle = rootless_bundle(home, busybox_root)
    answer(call("create", "--bundle", bundle, "c1"))
    try:
        answer(call("start", "c1"))
        assert answer(call("exec", "c1", "id", "-u")) == "0"
        assert answer(call("list", "--quiet")) == "c1"
    finally:
        answer(call("delete", "--force", "c1"))
    assert sorted(p.name for p in (home / "boxwright").iterdir() if not p.name.startswith(".")) == []


def test_a_limit_that_cannot_be_enforced_is_refused_before_anything_is_made(call: Call, home: Path) -> None:
    done = call("run", "--memory", "100m", "--", "true")
    assert (done.returncode, done.stdout) == (1, "")
    first = done.stderr.splitlines()[0]
    assert first.startswith("error: `/linux/resources/memory` is not supported by the `linux` box here"), done
    assert not [p for p in (home / "boxwright").iterdir() if not p.name.startswith(".")]


def test_the_number_of_tasks_is_limited_unless_told_otherwise(call: Call) -> None:
    ours = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    unlimited = ours == resource.RLIM_INFINITY
    assert tasks_of(call("run", "--", "cat", "/proc/self/limits")) == str(1024 if unlimited else min(1024, ours))
    assert tasks_of(call("run", "--pids", "17", "--", "cat", "/proc/self/limits")) == "17"
    assert tasks_of(call("run", "--pids", "-1", "--", "cat", "/proc/self/limits")) == (
        "unlimited" if unlimited else str(ours)
    )


def tasks_of(limits: "subprocess.CompletedProcess[str]") -> str:
    """The hard limit of tasks in a /proc/PID/limits."""
    (line,) = [line for line in answer(limits).splitlines() if line.startswith("Max processes")]
    return line.split()[3]


def test_the_hosts_network_can_be_shared(call: Call) -> None:
    outside = sorted(os.listdir("/sys/class/net"))
    assert sorted(answer(call("run", "--network", "host", "--", "ls", "/sys/class/net")).split()) == outside
    assert answer(call("run", "--", "ls", "/sys/class/net")) == "lo"


@pytest.fixture
def machines() -> None:
    lacks.need_program("qemu-system-x86_64")
    lacks.need("virtiofsd", any(os.access(place, os.X_OK) for place in PLACES))
    host_kernel()


@pytest.mark.parametrize(("ranges", "status"), [(True, "0"), (False, "1")])
def test_in_a_machine_the_caller_is_root_of_its_own_files(
    call: Call, home: Path, busybox_root: Path, machines: None, ranges: bool, status: str
) -> None:
    """Other users there are as many as it has subordinate ids for."""
    root, volume = home / "rootfs", home / "volume"
    copy_root(busybox_root, root)
    volume.mkdir()
    for path in (root, volume):
        subprocess.run(["chown", "-R", f"{UID}:{UID}", path], check=True)
    script = "id -u; stat -c %u /volume /etc; touch /volume/new /new; chown 5 /volume/new 2>/dev/null; echo $?"
    words = ("run", "--isolation", "vm", "--rootfs", root, "--bind", f"{volume}:/volume:rw", "--", "sh", "-c", script)
    assert answer(call(*words, ranges=ranges)).split() == ["0", "0", "0", status]
    assert (volume / "new").stat().st_uid == (FIRST + 4 if ranges else UID)
    assert not (root / "new").exists()


def test_a_machine_over_the_hosts_root_is_read_only(call: Call, machines: None) -> None:
    refused = call("run", "--isolation", "vm", "--", "true")
    assert refused.returncode == 1
    assert "`root.path` is not supported by the `vm` box" in refused.stderr
    assert "--read-only" in refused.stderr
    script = "id -u; touch /usr/new 2>&1; head -c 1 /etc/shadow; touch /tmp/new && ls /tmp/new"
    found = answer(call("run", "--isolation", "vm", "--read-only", "--", "sh", "-c", script)).splitlines()
    assert (found[0], found[-1]) == ("0", "/tmp/new")
    assert "Read-only file system" in found[1]
    assert len(found) == 3
