"""config-linux.md: devices, the default ones and the links beside them, masked and read-only paths."""

import errno
import os
from pathlib import Path

import pytest

import lacks
from fixtures_probe import Boxes, mounts_in, tmpfs, user_namespace
from fixtures_runtime import Json

pytestmark = pytest.mark.root

MKNOD = {kind: ["CAP_MKNOD"] for kind in ("bounding", "effective", "permitted")}


def device(path: str, kind: str = "c", major: "int | None" = 1, minor: "int | None" = 3, **more: int) -> Json:
    numbers = {} if major is None else {"major": major, "minor": minor}
    return {"path": path, "type": kind} | numbers | more


def with_devices(boxes: Boxes, *devices: Json, words: "tuple[str, ...]" = ()) -> Json:
    config = boxes.config(*(words or ("stat", *(entry["path"] for entry in devices))))
    config["linux"]["devices"] = list(devices)
    config["linux"]["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    return config


# ── configured devices ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("config-linux.md#configLinuxDevices")
@pytest.mark.parametrize(
    ("entry", "seen"),
    [
        (device("/dev/mine"), "c 1:3 0666 0:0"),
        (device("/dev/mine", fileMode=0o600), "c 1:3 0600 0:0"),
        (device("/dev/mine", fileMode=0o640, uid=5, gid=6), "c 1:3 0640 5:6"),
        (device("/dev/mine", "u", 1, 5), "c 1:5 0666 0:0"),
        (device("/dev/mine", "b", 7, 200, fileMode=0o660), "b 7:200 0660 0:0"),
        (device("/dev/mine", "p", None, None, fileMode=0o622), "p 0:0 0622 0:0"),
        (device("/dev/mine", "c", 300, 70_000), "c 300:70000 0666 0:0"),
        (device("/dev/new/dir/mine"), "c 1:3 0666 0:0"),
        (device("/mnt/a/outside"), "c 1:3 0666 0:0"),
        (device("/dev//./mine"), "c 1:3 0666 0:0"),
    ],
)
def test_a_device_is_made_as_asked(boxes: Boxes, entry, seen):
    config = with_devices(boxes, entry)
    config["mounts"].append(tmpfs())
    assert boxes.output(config) == f"{entry['path']} {seen}\n"


@pytest.mark.spec("config-linux.md#configLinuxDevices")
def test_the_mode_of_a_device_is_not_masked(boxes: Boxes):
    before = os.umask(0o077)
    try:
        path = boxes.bundle(
            with_devices(boxes, device("/dev/mine", fileMode=0o666), words=("stat", "/dev/mine", "/dev/null"))
        )
        modes = [line.split()[3] for line in boxes.run_bundle(path).stdout.splitlines()]
    finally:
        os.umask(before)
    assert modes == ["0666", "0666"]


@pytest.mark.spec("config-linux.md#configLinuxDevices")
@pytest.mark.parametrize("kind", ["c", "b", "p"])
def test_a_device_in_a_user_namespace(boxes: Boxes, kind):
    numbers = {"c": (1, 5), "b": (7, 0), "p": (None, None)}[kind]
    config = user_namespace(with_devices(boxes, device("/dev/mine", kind, *numbers, fileMode=0o640, uid=3, gid=4)))
    shown = "0:0" if kind == "p" else f"{numbers[0]}:{numbers[1]}"
    assert boxes.output(config) == f"/dev/mine {kind} {shown} 0640 3:4\n"


@pytest.mark.spec("config-linux.md#configLinuxDevices")
@pytest.mark.parametrize("user", [False, True])
def test_a_device_that_matches_what_is_there_is_no_error(boxes: Boxes, user):
    entry = device("/dev/null", fileMode=0o666)
    config = with_devices(boxes, entry, device("/dev/zero", "c", 1, 5))
    config = user_namespace(config) if user else config
    lines = boxes.output(config).splitlines()
    assert [line.split()[1:3] for line in lines] == [["c", "1:3"], ["c", "1:5"]]


@pytest.mark.spec("config-linux.md#configLinuxDevices")
@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize(
    "entry",
    [
        device("/bin/busybox"),
        device("/mnt/a"),
        device("/etc/passwd", "b", 7, 0),
        device("/dev/null", "c", 1, 5),
        device("/dev/null", "b", 1, 3),
        device("/dev/null", "p", None, None),
    ],
)
def test_another_file_at_the_path_is_an_error(boxes: Boxes, entry, user):
    config = with_devices(boxes, entry)
    assert "/linux/devices/0" in boxes.refused(user_namespace(config) if user else config)


@pytest.mark.spec("config-linux.md#configLinuxDevices")
@pytest.mark.parametrize(
    "entry",
    [
        {"path": "/dev/x", "type": "c"},
        {"path": "/dev/x", "type": "z", "major": 1, "minor": 3},
        {"path": "/dev/x", "type": "a", "major": 1, "minor": 3},
        {"path": "dev/x", "type": "c", "major": 1, "minor": 3},
        {"type": "c", "major": 1, "minor": 3},
        {"path": "/dev/x", "major": 1, "minor": 3},
        {"path": "/dev/x", "type": "c", "major": -1, "minor": 3},
        {"path": "/etc/passwd/below", "type": "c", "major": 1, "minor": 3},
    ],
)
def test_wrong_devices_are_errors(boxes: Boxes, entry):
    assert "/linux/devices/0" in boxes.refused(with_devices(boxes, entry, words=("args",)))


@pytest.mark.spec("config-linux.md#configLinuxDevices")
def test_a_device_never_lands_outside_of_the_root(boxes: Boxes):
    outside = boxes.directory / "outside"
    outside.mkdir()
    bundle = boxes.bundle(with_devices(boxes, device("/link/mine")), copy=True)
    (bundle / "rootfs/link").symlink_to(outside)
    boxes.run_bundle(bundle)
    assert list(outside.iterdir()) == []


# ── default devices and links ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("config-linux.md#configLinuxDefaultDevices")
@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize(
    ("path", "number"),
    [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")],
)
def test_default_devices(boxes: Boxes, path, number, user):
    config = boxes.config("stat", f"/dev/{path}")
    assert boxes.output(user_namespace(config) if user else config).split()[1:4] == ["c", number, "0666"]


@pytest.mark.spec("config-linux.md#configLinuxDefaultDevices")
@pytest.mark.parametrize("uid", [0, 1000])
def test_default_devices_work(boxes: Boxes, uid):
    paths = [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")]
    config = boxes.config("read", *paths, ",", "write", *paths)
    config["process"]["user"] = {"uid": uid, "gid": uid}
    results = [int(line.split()[1]) for line in boxes.output(config).splitlines()]
    assert results == [0, 1, 1, 1, 1, 1, 1, -28, 1, 1]


@pytest.mark.spec("config-linux.md#configLinuxDefaultDevices")
def test_ptmx_is_the_container_s_own(boxes: Boxes):
    line = boxes.probe("stat", "/dev/ptmx").split()
    assert (line[1], line[-1]) in {("l", "pts/ptmx"), ("l", "/dev/pts/ptmx"), ("c", line[-1])}
    assert boxes.output(boxes.shell("exec 3<>/dev/ptmx && ls /dev/pts")).split() == ["0", "ptmx"]


@pytest.mark.spec("config-linux.md#configLinuxDefaultDevices")
def test_default_devices_without_a_mount_on_dev(boxes: Boxes):
    config = boxes.config("stat", "/dev/null", "/dev/fd", "/dev/tty")
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] == "/proc"]
    bundle = boxes.bundle(config | {"root": {"path": "rootfs"}}, copy=True)
    lines = boxes.run_bundle(bundle).stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["c", "l", "c"]


@pytest.mark.spec("runtime-linux.md#runtimeLinuxDevSymbolicLinks")
def test_links_of_dev(boxes: Boxes):
    names = ("fd", "stdin", "stdout", "stderr")
    lines = boxes.probe("stat", *(f"/dev/{name}" for name in names)).splitlines()
    targets = ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"]
    assert [line.split()[-1] for line in lines] == targets
    assert boxes.output(boxes.shell("echo through > /dev/stdout")) == "through\n"


@pytest.mark.spec("runtime-linux.md#runtimeLinuxDevSymbolicLinks")
def test_no_links_without_their_targets(boxes: Boxes):
    config = boxes.config("stat", "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr")
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/proc"]
    config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []
    assert {line.split()[1] for line in boxes.output(config).splitlines()} == {"-2"}


@pytest.mark.spec("runtime-linux.md#runtimeLinuxDevSymbolicLinks")
def test_links_that_are_there_already_are_left(boxes: Boxes):
    config = boxes.config("stat", "/dev/fd")
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] == "/proc"]
    bundle = boxes.bundle(config | {"root": {"path": "rootfs"}}, copy=True)
    (bundle / "rootfs/dev/fd").symlink_to("/proc/self/fd")
    assert boxes.run_bundle(bundle).stdout.split()[-1] == "/proc/self/fd"


@pytest.mark.spec("config-linux.md#configLinuxDevices")
def test_only_the_asked_devices_are_there(boxes: Boxes):
    seen = set(boxes.output(boxes.shell("find /dev -type c -o -type b")).split())
    names = ("null", "zero", "full", "random", "urandom", "tty")
    assert seen <= {*(f"/dev/{name}" for name in names), "/dev/pts/ptmx", "/dev/ptmx"}


# ── the allowed devices ─────────────────────────────────────────────────────────────────────────────────────────────


def device_results(boxes: Boxes, rules: list[Json]) -> list[int]:
    """What opening the loop and the tun device gives."""
    devices = device("/dev/one", "b", 7, 0), device("/dev/two", "c", 10, 200)
    config = with_devices(boxes, *devices, words=("open", "/dev/one", "/dev/two"))
    config["linux"]["resources"] = {"devices": rules}
    return [int(line.split()[1]) for line in boxes.output(config).splitlines()]


def rule(allow: bool, kind: str = "", major: "int | None" = None, minor: "int | None" = None, access: str = "") -> Json:
    keys = {"type": kind or None, "major": major, "minor": minor, "access": access or None}
    return {"allow": allow} | {key: value for key, value in keys.items() if value is not None}


@pytest.mark.spec("config-linux.md#configLinuxDeviceAllowedlist")
@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ([rule(False, access="rwm")], (False, False)),
        ([rule(True, access="rwm")], (True, True)),
        ([rule(True)], (True, True)),
        ([rule(False), rule(True, "b", 7, 0, "r")], (True, False)),
        ([rule(False), rule(True, "b", 7, 0, "wm")], (False, False)),
        ([rule(False), rule(True, "c", 10, None, "rwm")], (False, True)),
        ([rule(False), rule(True, "c")], (False, True)),
        ([rule(False), rule(True, "a")], (True, True)),
        ([rule(True, "b", 7, 0), rule(False)], (False, False)),
        ([rule(True, "a"), rule(False, "c", 10, 200, "r")], (True, False)),
        ([rule(True), rule(False, "b", 7, None, "rw")], (False, True)),
        ([rule(False), rule(True, "b", 7, 0, "r"), rule(False, "b", 7, 0, "r")], (False, False)),
    ],
)
def test_the_device_list_is_applied_in_order(boxes: Boxes, rules, allowed):
    trees = ("/sys/fs/cgroup/devices", "/sys/fs/cgroup/cgroup.controllers")
    lacks.need("control of devices", any(os.path.exists(tree) for tree in trees))
    found = device_results(boxes, rules)
    assert tuple(result != -errno.EPERM for result in found) == allowed, found


def test_nodes_may_be_made_whatever_the_list_as_engines_expect(boxes: Boxes):
    config = boxes.config("mknod", "/dev/made", "10", "200", ",", "open", "/dev/made")
    config["process"]["capabilities"] = MKNOD
    config["linux"]["resources"] = {"devices": [rule(False)]}
    assert boxes.output(config) == f"/dev/made 0\n/dev/made {-errno.EPERM}\n"


@pytest.mark.spec("config-linux.md#configLinuxDeviceAllowedlist")
def test_default_devices_are_usable_under_any_list(boxes: Boxes):
    config = boxes.config("read", "/dev/null", "/dev/zero", "/dev/urandom", ",", "write", "/dev/full")
    config["linux"]["resources"] = {"devices": [{"allow": False}]}
    assert [int(line.split()[1]) for line in boxes.output(config).splitlines()] == [0, 1, 1, -28]


# ── masked and read-only paths ──────────────────────────────────────────────────────────────────────────────────────


def walls(boxes: Boxes, *words: str, masked: "tuple[str, ...]" = (), readonly: "tuple[str, ...]" = ()) -> Json:
    config = boxes.config(*words)
    config["linux"] |= {"maskedPaths": list(masked), "readonlyPaths": list(readonly)}
    return config


@pytest.mark.spec("config-linux.md#configLinuxMaskedPaths")
@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/cpuinfo", "/bin/busybox", "/sys/kernel/uevent_seqnum"])
def test_masked_file_reads_empty(boxes: Boxes, path, user):
    config = walls(boxes, "read", path, ",", "write", path, masked=(path,))
    read, write = boxes.output(user_namespace(config) if user else config).splitlines()
    assert read == f"{path} 0"
    assert int(write.split()[1]) in {1, -13, -30}  # /dev/null swallows what is written


@pytest.mark.spec("config-linux.md#configLinuxMaskedPaths")
@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("path", ["/etc", "/proc/sys", "/sys/firmware"])
def test_masked_directory_is_empty_and_read_only(boxes: Boxes, path, user):
    config = walls(boxes, "list", path, ",", "mkdir", f"{path}/new", masked=(path,))
    assert boxes.output(user_namespace(config) if user else config) == f"{path}/new -30\n"


@pytest.mark.spec("config-linux.md#configLinuxMaskedPaths")
def test_a_mask_cannot_be_taken_away_by_the_program(boxes: Boxes):
    config = walls(boxes, masked=("/etc/passwd",))
    config["process"]["args"] = ["/bin/sh", "-c", "umount /etc/passwd; rm /etc/passwd; cat /etc/passwd"]
    assert boxes.run(config).stdout == ""


@pytest.mark.spec("config-linux.md#configLinuxMaskedPaths", "config-linux.md#configLinuxReadonlyPaths")
def test_paths_that_are_not_there_are_passed_over(boxes: Boxes):
    config = walls(boxes, "args", "on", masked=("/no/such", "/etc/passwd/below"), readonly=("/no/such", "/proc/none"))
    assert boxes.output(config) == "on\n"


@pytest.mark.spec("config-linux.md#configLinuxMaskedPaths", "config-linux.md#configLinuxReadonlyPaths")
@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
@pytest.mark.parametrize("path", ["proc/kcore", "", "./x"])
def test_paths_have_to_be_absolute(boxes: Boxes, key, path):
    config = boxes.config()
    config["linux"][key] = [path]
    assert f"/linux/{key}/0" in boxes.refused(config)


@pytest.mark.spec("config-linux.md#configLinuxReadonlyPaths")
@pytest.mark.parametrize("user", [False, True])
def test_readonly_paths_can_be_read_and_not_written(boxes: Boxes, user):
    config = walls(
        boxes,
        *(
            "write",
            "/mnt/a/dir/new",
            "/mnt/a/free",
            "/proc/sys/kernel/domainname",
            ",",
            "read",
            "/proc/sys/kernel/ostype",
        ),
        readonly=("/mnt/a/dir", "/proc/sys"),
    )
    config["mounts"].append(tmpfs())
    config["hooks"] = {"createContainer": [{"path": "/bin/mkdir", "args": ["mkdir", f"{boxes.root}/mnt/a/dir"]}]}
    if user:
        user_namespace(config)
    lines = boxes.output(config).splitlines()
    # the owner of the file, who is not in a user namespace, is looked at before the mount
    domainname = f"/proc/sys/kernel/domainname {-errno.EACCES if user else -errno.EROFS}"
    assert lines == ["/mnt/a/dir/new -30", "/mnt/a/free 1", domainname, "/proc/sys/kernel/ostype 1"]


@pytest.mark.spec("config-linux.md#configLinuxReadonlyPaths")
def test_readonly_files(boxes: Boxes):
    config = walls(boxes, "write", "/etc/passwd", "/etc/group", readonly=("/etc/passwd",))
    assert boxes.run(config, writable=True).stdout == "/etc/passwd -30\n/etc/group 1\n"


@pytest.mark.spec("config-linux.md#configLinuxReadonlyPaths")
def test_readonly_paths_keep_the_other_attributes(boxes: Boxes):
    config = walls(boxes, "cat", "/proc/self/mountinfo", readonly=("/mnt/a",))
    config["mounts"].append(tmpfs("nosuid", "nodev", "noexec"))
    mounted = mounts_in(boxes.output(config))["/mnt/a"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= mounted.options


@pytest.mark.spec("config-linux.md#configLinuxMaskedPaths", "config-linux.md#configLinuxReadonlyPaths")
def test_walls_do_not_follow_links_out_of_the_root(boxes: Boxes):
    victim = boxes.directory / "victim"
    victim.write_text("kept")
    bundle = boxes.bundle(walls(boxes, "args", masked=("/link",), readonly=("/link",)), copy=True)
    (bundle / "rootfs/link").symlink_to(victim)
    boxes.run_bundle(bundle)
    assert victim.read_text() == "kept"
    assert str(victim) not in Path("/proc/self/mountinfo").read_text()
