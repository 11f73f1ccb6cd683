"""config.md: mounts of every kind, their places and their order; the root filesystem."""

import os
import subprocess
from pathlib import Path

import pytest

from fixtures_probe import Boxes, bind, mounts_in, seen, tmpfs
from fixtures_runtime import default_mounts

pytestmark = [pytest.mark.root, pytest.mark.spec("config.md#configMounts")]


def test_mounts_are_made_in_their_order(boxes: Boxes):
    (boxes.directory / "under").mkdir()
    (boxes.directory / "under/deep").mkdir()
    config = boxes.config("cat", "/proc/self/mountinfo")
    config["mounts"] += [
        tmpfs("size=4k"),
        bind(boxes.directory / "under", "bind", at="/mnt/a"),
        tmpfs("size=8k", at="/mnt/a/deep"),
        tmpfs("size=16k", at="/mnt/a/deep"),
    ]
    lines = boxes.output(config).splitlines()
    own = [mounts_in(line) for line in lines if " /mnt/a" in line]
    assert [next(iter(mount)) for mount in own] == ["/mnt/a", "/mnt/a", "/mnt/a/deep", "/mnt/a/deep"]
    sizes = [next(iter(mount.values())).data & {"size=4k", "size=8k", "size=16k"} for mount in own]
    assert sizes == [{"size=4k"}, set(), {"size=8k"}, {"size=16k"}]


def test_a_later_mount_covers_an_earlier_one_and_all_below(boxes: Boxes):
    mounts = [tmpfs(at="/mnt/a"), bind("/etc/hostname", "bind", at="/mnt/a/file"), tmpfs(at="/mnt/a")]
    config = boxes.config("list", "/mnt/a")
    config["mounts"] += mounts
    assert boxes.output(config) == ""


@pytest.mark.parametrize("destination", ["mnt/a", "./mnt/a", "mnt/../mnt/a", "../mnt/a", "/mnt//a/"])
def test_a_destination_is_relative_to_the_root(boxes: Boxes, destination):
    assert seen(boxes, tmpfs(at=destination))["/mnt/a"].type == "tmpfs"


def test_a_destination_is_made_where_it_is_missing(boxes: Boxes):
    config = boxes.config("stat", "/new/dir", "/new/file")
    (boxes.directory / "file").write_text("x")
    config["mounts"] += [tmpfs("mode=711", at="/new/dir"), bind(boxes.directory / "file", "bind", at="/new/file")]
    result = boxes.run(config, writable=True)
    kinds = [line.split()[1] for line in result.stdout.splitlines()]
    assert kinds == ["d", "-"], result


def test_a_destination_never_leads_out_of_the_root(boxes: Boxes):
    config = boxes.config("cat", "/proc/self/mountinfo")
    config["mounts"].append(tmpfs(at="/link/inner"))
    bundle = boxes.bundle(config, copy=True)
    outside = boxes.directory / "outside"
    outside.mkdir()
    (bundle / "rootfs/link").symlink_to(outside)
    result = boxes.run_bundle(bundle)
    assert list(outside.iterdir()) == []
    assert result.status != 0 or f" {outside}/inner " in result.stdout


@pytest.mark.parametrize("option", ["bind", "rbind"])
def test_a_single_file_can_be_bound(boxes: Boxes, option):
    path = boxes.directory / "single"
    path.write_text("bound\n")
    config = boxes.config("cat", "/mnt/file", ",", "write", "/mnt/file")
    config["mounts"].append(bind(path, option, at="/mnt/file"))
    assert boxes.output(config) == "bound\n/mnt/file 1\n"
    assert path.read_text() == "xound\n"


def test_special_files_can_be_bound(boxes: Boxes):
    os.mkfifo(boxes.directory / "fifo")
    config = boxes.config("stat", "/mnt/file", "/mnt/other")
    config["mounts"] += [
        bind(boxes.directory / "fifo", "bind", at="/mnt/file"),
        bind("/dev/null", "bind", at="/mnt/other"),
    ]
    lines = boxes.output(config).splitlines()
    assert lines[0].split()[1] == "p"
    assert lines[1].split()[1:3] == ["c", "1:3"]


def test_a_source_is_relative_to_the_bundle(boxes: Boxes):
    config = boxes.config("cat", "/mnt/a/file", "/mnt/b/file")
    config["mounts"] += [bind("data", "bind"), bind("./data/../data", "bind", at="/mnt/b")]
    bundle = boxes.bundle(config)
    (bundle / "data").mkdir()
    (bundle / "data/file").write_text("of the bundle\n")
    result = boxes.run_bundle(bundle, cwd=Path("/"))
    assert result.stdout == "of the bundle\n" * 2, result


def test_a_link_as_the_source_is_followed(boxes: Boxes):
    (boxes.directory / "real").mkdir()
    (boxes.directory / "real/file").write_text("real\n")
    (boxes.directory / "link").symlink_to("real")
    config = boxes.config("cat", "/mnt/a/file")
    config["mounts"].append(bind(boxes.directory / "link", "bind"))
    assert boxes.output(config) == "real\n"


def test_the_type_of_a_bind_is_a_dummy(boxes: Boxes):
    (boxes.directory / "dir").mkdir()
    mount = bind(boxes.directory / "dir", "bind") | {"type": "no-such-type"}
    assert seen(boxes, mount)["/mnt/a"].root.endswith("/dir")


@pytest.mark.parametrize(
    "mount",
    [
        {"destination": "/mnt/a", "source": "/no/such/source", "options": ["bind"]},
        {"destination": "/mnt/a", "source": "no-such", "options": ["rbind"]},
        {"destination": "/mnt/a", "type": "no-such-type", "source": "x"},
        {"destination": "/mnt/file", "type": "tmpfs", "source": "x"},
        {"destination": "/mnt/a/missing", "type": "tmpfs", "source": "x", "options": ["remount"]},
        {"destination": "/mnt/a", "type": "tmpfs", "source": "x", "options": ["size=many"]},
        {"destination": "/mnt/file/below", "type": "tmpfs", "source": "x"},
        {"destination": "/mnt/a", "source": "/etc/hostname", "options": ["bind"]},
        {"source": "x", "type": "tmpfs"},
        {"destination": "/mnt/a", "options": ["bind"]},
    ],
)
def test_what_cannot_be_mounted_is_an_error_of_its_line(boxes: Boxes, mount):
    config = boxes.config()
    config["mounts"].append(mount)
    assert "/mounts/6" in boxes.refused(config)


@pytest.mark.spec("config-linux.md#configLinuxDefaultFilesystems")
def test_the_default_filesystems(boxes: Boxes):
    mounts = seen(boxes)
    types = {place: mounts[place].type for place in ("/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")}
    assert types == {
        "/proc": "proc",
        "/sys": "sysfs",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/dev/shm": "tmpfs",
        "/dev/mqueue": "mqueue",
    }
    assert {"nosuid", "noexec"} <= mounts["/dev/pts"].options
    assert "ptmxmode=666" in mounts["/dev/pts"].data
    assert "ro" in mounts["/sys"].options


def test_without_mounts_nothing_is_mounted(boxes: Boxes):
    config = boxes.config("list", "/proc", ",", "stat", "/dev/null") | {"mounts": []}
    config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []
    result = boxes.run(config, writable=True)
    assert result.stdout == "/dev/null c 1:3 0666 0:0\n", result


def test_the_host_s_mounts_are_gone(boxes: Boxes):
    assert set(seen(boxes)) - {"/"} <= {
        *(mount["destination"] for mount in default_mounts()),
        *(f"/proc/{name}" for name in os.listdir("/proc")),
        "/sys/firmware",
    }


def test_a_cgroup_mount_shows_the_container_s_groups(boxes: Boxes):
    cgroup = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid"]}
    config = boxes.shell("ls /sys/fs/cgroup; cat /sys/fs/cgroup/pids/pids.max; echo 1 > /sys/fs/cgroup/pids/pids.max")
    config["linux"]["resources"]["pids"] = {"limit": 43}
    config["mounts"].append(cgroup)
    result = boxes.run(config)
    assert "43" in result.stdout.split()
    assert "Read-only" in result.stderr


# ── the root ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("config.md#configRoot")
def test_a_read_only_root_cannot_be_written(boxes: Boxes):
    assert boxes.probe("write", "/new", "/etc/passwd") == "/new -30\n/etc/passwd -30\n"
    assert "ro" in seen(boxes)["/"].options


@pytest.mark.spec("config.md#configRoot")
@pytest.mark.parametrize("root", [{"path": "rootfs"}, {"path": "rootfs", "readonly": False}])
def test_a_root_is_writable_unless_it_is_read_only(boxes: Boxes, root):
    bundle = boxes.bundle(boxes.config("write", "/new") | {"root": root}, copy=True)
    assert boxes.run_bundle(bundle).stdout == "/new 1\n"
    assert (bundle / "rootfs/new").read_text() == "x"


@pytest.mark.spec("config.md#configRoot")
def test_a_read_only_root_leaves_its_mounts_alone(boxes: Boxes):
    config = boxes.config("write", "/mnt/a/new", "/dev/shm/new")
    config["mounts"].append(tmpfs())
    assert boxes.output(config) == "/mnt/a/new 1\n/dev/shm/new 1\n"


@pytest.mark.spec("config.md#configRoot")
@pytest.mark.parametrize("path", ["rootfs", "./rootfs", "other/../rootfs", "rootfs/"])
def test_the_root_is_relative_to_the_bundle(boxes: Boxes, path):
    bundle = boxes.bundle(boxes.config("args", "found") | {"root": {"path": path, "readonly": True}})
    (bundle / "rootfs").symlink_to(boxes.root)
    (bundle / "other").mkdir()
    assert boxes.run_bundle(bundle, cwd=Path("/")).stdout == "found\n"


@pytest.mark.spec("config.md#configRoot")
@pytest.mark.parametrize("root", [None, {}, {"path": ""}, {"path": "missing"}, {"path": "config.json"}, {"path": 1}])
def test_a_root_that_is_no_directory_is_an_error(boxes: Boxes, root):
    config = boxes.config()
    config["root"] = root
    if root is None:
        del config["root"]
    assert "root" in boxes.refused(config)


@pytest.mark.spec("config.md#configRoot")
def test_a_root_that_is_a_mount_with_mounts_below_comes_whole(boxes: Boxes):
    root = boxes.directory / "mounted"
    root.mkdir()
    subprocess.run(["mount", "--bind", boxes.root, root], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "below", root / "mnt/a"], check=True)
    try:
        mounts = seen(boxes, root={"path": str(root), "readonly": True})
        assert mounts["/mnt/a"].source == "below"
    finally:
        subprocess.run(["umount", "-R", root], check=True)


# ── propagation of the root ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("config-linux.md#configLinuxRootfsMountPropagation")
@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("shared", {"shared"}),
        ("rshared", {"shared"}),
        ("slave", set()),
        ("rslave", set()),
        ("private", set()),
        ("rprivate", set()),
        ("unbindable", {"unbindable"}),
        ("runbindable", {"unbindable"}),
        ("", set()),
    ],
)
def test_propagation_of_the_root(boxes: Boxes, value, tags):
    config = boxes.config("cat", "/proc/self/mountinfo")
    config["linux"]["rootfsPropagation"] = value
    config["mounts"].append(tmpfs("private"))
    mounts = mounts_in(boxes.output(config))
    assert mounts["/"].tags - {"master"} == tags
    if not value.startswith("r"):
        assert mounts["/mnt/a"].tags == set()


@pytest.mark.spec("config-linux.md#configLinuxRootfsMountPropagation")
def test_a_slave_root_follows_the_host_and_a_private_one_does_not(boxes: Boxes):
    root = boxes.directory / "shared-root"
    root.mkdir()
    subprocess.run(["mount", "--bind", boxes.root, root], check=True)
    subprocess.run(["mount", "--make-shared", root], check=True)
    try:
        for value, follows in (("slave", True), ("private", False)):
            config = boxes.config("pause") | {"root": {"path": str(root), "readonly": True}}
            config["linux"]["rootfsPropagation"] = value
            box = boxes.created(config)
            subprocess.run(["mount", "-t", "tmpfs", "from-host", root / "mnt/b"], check=True)
            assert ("from-host" in Path(f"/proc/{box.pid}/mountinfo").read_text()) == follows
            subprocess.run(["umount", root / "mnt/b"], check=True)
            subprocess.run(
                ["nsenter", "-t", str(box.pid), "-m", "/bin/mount", "-t", "tmpfs", "x", "/mnt/c"], check=True
            )
            assert str(root / "mnt/c") not in Path("/proc/self/mountinfo").read_text()
            box.end()
    finally:
        subprocess.run(["umount", "-R", root], check=True)


@pytest.mark.spec("config-linux.md#configLinuxRootfsMountPropagation")
def test_an_unbindable_root_cannot_be_bound(boxes: Boxes):
    config = boxes.config("bind", "/", "/mnt/a", ",", "bind", "/mnt/b", "/mnt/c")
    config["process"]["capabilities"] = {kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")}
    config["mounts"].append(tmpfs(at="/mnt/b"))
    for value, results in (("unbindable", [-22, 0]), ("private", [0, 0])):
        config["linux"]["rootfsPropagation"] = value
        assert [int(line.split()[1]) for line in boxes.output(config).splitlines()] == results
