"""Whatever a box does to itself, it can be killed and deleted in bounded time, and nothing of it stays."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attacks import ALL_CAPABILITIES, bind, one_line_error, our_groups, wait_for, with_capabilities

import lacks
from fixtures_runtime import BundleFactory, Json, Runtime, default_config
from processes import descendants, kill_descendants

pytestmark = pytest.mark.root

BOX = "flooded"
DELETE_SECONDS = 10
MEMORY = {"limit": 64 << 20, "swap": 64 << 20}


def flooding(*words: str, **resources: Json) -> Json:
    """A box that runs the hostile program, with a limit of 100 tasks and others."""
    config = default_config("/bin/attacker", *words)
    config["linux"]["resources"].update({"pids": {"limit": 100}}, **resources)
    return config


@pytest.fixture
def flooded(boxwright: Runtime) -> Iterator[Runtime]:
    """The command; at the end the box is deleted in time, and the machine is as before."""
    known = set(descendants(os.getpid()))
    yield boxwright
    began = time.monotonic()
    deleted = boxwright.delete(BOX, "--force")
    took = time.monotonic() - began
    assert deleted.stderr == ""
    assert took < DELETE_SECONDS
    assert kill_descendants(known) == []
    assert our_groups() == []
    assert boxwright.ids() == []
    assert str(boxwright.directory) not in Path("/proc/self/mountinfo").read_text()


def test_a_fork_bomb_is_bounded_and_deleted(flooded: Runtime, bundle: BundleFactory, hostile_root: Path) -> None:
    """Denial of service: a fork bomb fills its own pids limit and no more, and is killed as a whole."""
    flooded.create(BOX, bundle(flooding("fork-bomb"), root=hostile_root))
    flooded.start(BOX)
    tasks = next(path for path in (Path(group, "pids.current") for group in reversed(our_groups())) if path.exists())
    wait_for(lambda: int(tasks.read_text()) >= 99)
    assert int(tasks.read_text()) <= 100


def test_a_memory_bomb_dies_of_its_own_limit(flooded: Runtime, bundle: BundleFactory, hostile_root: Path) -> None:
    """Denial of service: what takes all memory is killed at its limit, and the status says so."""
    result = flooded.run(BOX, bundle(flooding("memory-bomb", memory=MEMORY), root=hostile_root))
    assert result.status == 128 + 9, result


@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_a_full_filesystem_in_memory_is_its_own(
    flooded: Runtime, bundle: BundleFactory, hostile_root: Path, what: str
) -> None:
    """Denial of service: a disk and an inode filler meet the limits of their tmpfs."""
    config = flooding("files", "/tmp", "1000000", memory=MEMORY)
    option = "size=1m" if what == "bytes" else "nr_inodes=200"
    if what == "bytes":
        config["process"]["args"] = ["/bin/dd", "if=/dev/zero", "of=/tmp/filler", "bs=64k"]
    config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": [option]})
    result = flooded.run(BOX, bundle(config, root=hostile_root))
    assert "No space left" in result.stderr or "ENOSPC" in result.stdout, result


def test_an_overlay_in_memory_is_bounded_by_the_memory_of_the_box(boxwright: Runtime) -> None:
    """Denial of service: what a box writes over the host's root counts as its memory."""
    filler = ["--memory", "32m", "--pids", "50", "--timeout", "60s", "--", "sh", "-c", "cat /dev/zero > /etc/filler"]
    result = boxwright.call("run", *filler, check=False)
    assert result.status == 128 + 9, result
    assert not Path("/etc/filler").exists()
    assert boxwright.ids() == []


def test_a_flood_of_output_ends_with_who_reads_it(flooded: Runtime, bundle: BundleFactory, hostile_root: Path) -> None:
    """Denial of service: output goes where the caller sends it and is kept nowhere else."""
    path = bundle(flooding("flood", str(1 << 40)), root=hostile_root)
    command = [*flooded.command, "--root", str(flooded.root), "run", "--bundle", str(path), BOX]
    runtime = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert runtime.stdout
    assert len(runtime.stdout.read(1 << 24)) == 1 << 24
    runtime.stdout.close()
    assert runtime.wait(timeout=30) != 0


def test_many_mounts_are_gone_with_the_box(flooded: Runtime, bundle: BundleFactory, hostile_root: Path) -> None:
    """Denial of service: thousands of mounts that a box with CAP_SYS_ADMIN makes in itself go with it."""
    config = with_capabilities(flooding("mounts", "5000"), ALL_CAPABILITIES)
    result = flooded.run(BOX, bundle(config, root=hostile_root), timeout=60)
    assert int(result.stdout.split()[1]) > 1000, result


@pytest.mark.parametrize("depth", [1500])
def test_a_deep_tree_of_control_groups_is_removed(
    flooded: Runtime, bundle: BundleFactory, hostile_root: Path, depth: int
) -> None:
    """Denial of service: groups nested deeper than any path is long, with the box's own process at the bottom."""
    config = flooding()
    script = (
        f"attacker cgroups /sys/fs/cgroup/freezer {depth}; cd /sys/fs/cgroup/freezer; "
        "while cd deep 2>/dev/null; do :; done; echo 0 > cgroup.procs; echo ready; sleep 600"
    )
    config["process"]["args"] = ["/bin/sh", "-c", script]
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}
    config["mounts"].append(mount)
    config["linux"]["namespaces"].append({"type": "cgroup"})
    created = flooded.create(BOX, bundle(config, root=hostile_root))
    flooded.start(BOX)
    wait_for(lambda: "ready" in created.stdout or created.stderr)
    assert int(created.stdout.split()[1]) > 1000, created
    assert "ready" in created.stdout, created
    assert flooded.call("ps", BOX, check=False).status in (0, 1)


def test_zombies_do_not_keep_the_box(flooded: Runtime, bundle: BundleFactory, hostile_root: Path) -> None:
    """Denial of service: an init that reaps nothing leaves no zombie on the host."""
    created = flooded.create(BOX, bundle(flooding("zombies", "90"), root=hostile_root))
    flooded.start(BOX)
    wait_for(lambda: "made" in created.stdout)


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_a_standing_init_can_be_killed(flooded: Runtime, bundle: BundleFactory, hostile_root: Path, how: str) -> None:
    """Denial of service: an init that is stopped, or frozen with its box, is killed all the same."""
    flooded.create(BOX, bundle(flooding("zombies", "3"), root=hostile_root))
    flooded.start(BOX)
    if how == "kill":
        os.kill(flooded.state(BOX)["pid"], 19)
    else:
        flooded.call("pause", BOX)
    assert flooded.state(BOX)["status"] in ("running", "paused")


def waiting_for_fuse(place: str) -> Json:
    """A box that waits for a file whose server does not answer: no signal ends that (fuse(4))."""
    config = with_capabilities(flooding("fuse-wait", place), ALL_CAPABILITIES)
    config["linux"]["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
    return config


def test_a_filesystem_of_the_box_that_answers_nothing_dies_with_it(
    flooded: Runtime, bundle: BundleFactory, hostile_root: Path
) -> None:
    """Denial of service: who waits for a FUSE server in the box cannot be killed, until that server is."""
    lacks.need("FUSE", os.path.exists("/dev/fuse"))
    config = waiting_for_fuse("/mnt")
    config["linux"]["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
    created = flooded.create(BOX, bundle(config, root=hostile_root))
    flooded.start(BOX)
    wait_for(lambda: "stuck" in created.stdout or created.stderr)
    assert "stuck" in created.stdout, created


@pytest.mark.parametrize("manager", ["cgroupfs", "disabled"])
def test_a_process_that_cannot_be_killed_is_an_error_in_time(
    boxwright: Runtime,
    bundle: BundleFactory,
    hostile_root: Path,
    attacker: Path,
    tmp_path: Path,
    background: Callable[..., "subprocess.Popen[str]"],
    manager: str,
) -> None:
    """Denial of service: a box that waits for a hanging FUSE server of the host outlives its kill. That is told in
    bounded time, its state and groups are kept, and once the server has gone it is deleted as any other.
    """
    lacks.need("FUSE", os.path.exists("/dev/fuse"))
    boxwright.command = (*boxwright.command, "--cgroup-manager", manager)
    place = tmp_path / "hanging"
    place.mkdir()
    server = background(attacker, "fuse-serve", place)
    assert server.stdout
    try:
        assert server.stdout.readline() == "mounted\n"
        config = waiting_for_fuse("/mnt")
        config["mounts"].append(bind(place, "/mnt"))
        if manager == "disabled":
            config["linux"]["resources"] = {}
        boxwright.create(BOX, bundle(config, root=hostile_root))
        boxwright.start(BOX)
        assert server.stdout.readline() == "stuck\n"
        began = time.monotonic()
        refused = boxwright.delete(BOX, "--force", check=False)
        assert time.monotonic() - began < 2 * DELETE_SECONDS
        assert "cannot kill" in one_line_error(refused)
        assert boxwright.ids() == [BOX]
        assert bool(our_groups()) == (manager == "cgroupfs")
        server.kill()
        server.wait()
        assert boxwright.delete(BOX, "--force").stderr == ""
        assert boxwright.ids() == our_groups() == []
    finally:
        server.kill()
        subprocess.run(["umount", "--lazy", place], check=True)
