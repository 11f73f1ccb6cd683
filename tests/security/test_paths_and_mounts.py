"""Whatever stands in the root filesystem, and whoever renames it meanwhile: nothing is made outside of the box."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attacks import bind, one_line_error, rounds

from fixtures_runtime import BundleFactory, Json, Runtime, default_config

pytestmark = pytest.mark.root

BOX = "attacked"
# what a box says of its own /proc, /proc/sys and masks
LOOK = (
    "stat -f -c %t /proc; echo 1 > /proc/sys/kernel/hostname && echo written; head -c1 /proc/kcore | wc -c; "
    "cat /proc/keys | wc -c"
)
PROC_MAGIC = "9fa0"


def _mount(config: Json, *mounts: Json) -> Json:
    return config | {"mounts": [*config["mounts"], *mounts]}


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host; at the end all in it must be as it was."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "file").write_text("the host's")
    before = _tree(path)
    mounted = _mountinfo(tmp_path)
    yield path
    assert _tree(path) == before
    assert _mountinfo(tmp_path) == mounted


def _tree(path: Path) -> list[tuple[str, int, int, int]]:
    """Everything below with its inode, mode and time of change."""
    found = []
    for directory, names, files in os.walk(path):
        for name in [*names, *files, "."]:
            status = os.lstat(os.path.join(directory, name))
            found.append((os.path.join(directory, name), status.st_ino, status.st_mode, status.st_mtime_ns))
    return sorted(found)


def _mountinfo(ours: Path) -> list[str]:
    """Where the host has something mounted; other people's temporary directories and engines do not count."""
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [place for place in places if place.startswith(str(ours)) or not place.startswith(("/tmp", "/run", "/var"))]


@pytest.mark.parametrize("destination", ["/proc", "/proc/self", "/proc/self/attr", "/proc/1/../self", "//proc/./sys"])
@pytest.mark.parametrize("kind", ["bind", "tmpfs", "false proc"])
def test_nothing_is_mounted_over_procfs(
    boxwright: Runtime, bundle: BundleFactory, outside: Path, destination: str, kind: str
) -> None:
    """CVE-2019-16884: a mount over /proc, or beneath it but on the known files, is refused at the line that asks."""
    mounts: dict[str, Json] = {
        "bind": bind(outside, destination),
        "tmpfs": {"destination": destination, "type": "tmpfs", "source": "tmpfs"},
        "false proc": bind(outside, destination) | {"type": "proc"},
    }
    result = boxwright.run(BOX, bundle(_mount(default_config(), mounts[kind])))
    assert "/mounts/6" in one_line_error(result)


@pytest.mark.parametrize("link", ["proc", "proc/self", "/proc/sys"])
def test_no_link_in_the_image_leads_a_mount_into_procfs(
    boxwright: Runtime, bundle: BundleFactory, outside: Path, link: str
) -> None:
    """CVE-2019-16884: a volume whose destination the image made a link into /proc covers nothing there."""
    path = bundle(_mount(default_config(), bind(outside, "/volume")), copy=True)
    (path / "rootfs/volume").symlink_to(link)
    assert "procfs" in one_line_error(boxwright.run(BOX, path))


@pytest.mark.parametrize("target", ["tmp", "/tmp", "../../../../tmp", "{outside}", "var/tmp/proc"])
@pytest.mark.parametrize("name", ["proc", "sys"])
def test_proc_and_sys_are_no_links(
    boxwright: Runtime, bundle: BundleFactory, outside: Path, name: str, target: str
) -> None:
    """CVE-2019-19921, CVE-2023-27561, CVE-2023-28642: an image whose /proc or /sys is a link is refused."""
    path = bundle(copy=True)
    place = path / "rootfs" / name
    place.rmdir()
    place.symlink_to(target.format(outside=outside))
    assert "symbolic link" in one_line_error(boxwright.run(BOX, path))


def test_masks_meet_procfs_though_its_place_is_renamed(
    boxwright: Runtime, bundle: BundleFactory, attacker: Path, background: Callable[..., object]
) -> None:
    """CVE-2019-19921, CVE-2023-27561: the root is shared with somebody who exchanges /proc for a false one all the
    time. Either create fails, or what the box has is a procfs with its masks and read-only paths.
    """
    path = bundle(default_config("/bin/sh", "-c", LOOK), copy=True)
    root = path / "rootfs"
    for name in ("keys", "kcore", "sys"):
        (root / "false").mkdir(exist_ok=True)
        (root / "false" / name).write_text("")
    background(attacker, "exchange", root / "proc", root / "false", 600)
    for _ in range(rounds(20)):
        result = boxwright.run(BOX, path)
        if not result.stdout.startswith(PROC_MAGIC):
            continue  # not made, or the box sees the false one: there is nothing to protect in it
        assert "written" not in result.stdout
        assert result.stdout.split() == [PROC_MAGIC, "0", "0"], result


def test_mounts_into_a_volume_stay_in_it(
    boxwright: Runtime,
    bundle: BundleFactory,
    attacker: Path,
    background: Callable[..., object],
    outside: Path,
    tmp_path: Path,
) -> None:
    """CVE-2021-30465, CVE-2024-45310: another box that shares a volume exchanges a directory in it for a link to the
    host all the time, while mounts go there whose places have to be made. None of it is on the host.
    """
    volume = tmp_path / "volume"
    (volume / "sub").mkdir(parents=True)
    (volume / "link").symlink_to(outside)
    source = tmp_path / "source"
    (source / "directory").mkdir(parents=True)
    (source / "file").write_text("")
    # the link leads to the host where it is followed by the host's eyes: up from the root as well
    config = _mount(default_config("/bin/true"), bind(volume, "/mnt"))
    count = 50
    for index in range(count):
        kind = "file" if index % 2 else "directory"
        config = _mount(config, bind(source / kind, f"/mnt/sub/deep/{kind}{index}"))
    path = bundle(config)
    background(attacker, "exchange", volume / "sub", volume / "link", 600)
    for _ in range(rounds(8)):
        result = boxwright.run(BOX, path)
        assert result.status == 0 or one_line_error(result)
    assert not list(outside.glob("deep*"))


def test_climbing_from_a_moving_directory_leads_nowhere(
    boxwright: Runtime,
    bundle: BundleFactory,
    attacker: Path,
    background: Callable[..., object],
    outside: Path,
    tmp_path: Path,
) -> None:
    """CVE-2021-30465: `..` of a directory that is moved out from under the walk does not climb over the root."""
    volume = tmp_path / "volume"
    for name in ("a/b/c/d", "e"):
        (volume / name).mkdir(parents=True)
    (volume / "a/b/up").symlink_to("c/d/../../../../../../../../../.." + str(outside))
    config = _mount(default_config("/bin/true"), bind(volume, "/mnt"))
    for index in range(20):
        config = _mount(config, bind(volume / "e", f"/mnt/a/b/up/new{index}"))
    path = bundle(config, copy=True)
    background(attacker, "exchange", volume / "a/b/c", volume / "e", 600)
    for _ in range(rounds(8)):
        boxwright.run(BOX, path)
    assert not list(outside.glob("new*"))


@pytest.mark.parametrize("target", ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/etc/passwd"])
def test_masks_are_the_hosts_null_device(boxwright: Runtime, bundle: BundleFactory, target: str) -> None:
    """CVE-2025-31133: what the image has as /dev/null is not what files are masked with."""
    config = default_config("/bin/sh", "-c", "stat -c %t:%T /proc/keys /proc/kcore; cat /proc/keys")
    config["mounts"] = [m for m in config["mounts"] if not m["destination"].startswith("/dev")]
    path = bundle(config, copy=True)
    null = path / "rootfs/dev/null"
    null.symlink_to(target)
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    result = boxwright.run(BOX, path)
    if result.status == 0:
        assert set(result.stdout.split()) == {"1:3"}, result
    else:
        one_line_error(result)
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_masks_hold_while_dev_null_is_exchanged(
    boxwright: Runtime, bundle: BundleFactory, attacker: Path, background: Callable[..., object]
) -> None:
    """CVE-2025-31133: the same with somebody who exchanges it meanwhile."""
    config = default_config("/bin/sh", "-c", "stat -c %t:%T /proc/keys /proc/timer_list")
    config["mounts"] = [m for m in config["mounts"] if not m["destination"].startswith("/dev")]
    path = bundle(config, copy=True)
    dev = path / "rootfs/dev"
    os.mknod(dev / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (dev / "other").symlink_to("/proc/sys/kernel/core_pattern")
    background(attacker, "exchange", dev / "null", dev / "other", 600)
    for _ in range(rounds(15)):
        result = boxwright.run(BOX, path)
        if result.status == 0:
            assert set(result.stdout.split()) == {"1:3"}, result
        else:
            one_line_error(result)


def test_the_console_is_a_terminal_while_pts_is_exchanged(
    boxwright: Runtime, bundle: BundleFactory, attacker: Path, background: Callable[..., object]
) -> None:
    """CVE-2025-52565: while /dev/pts is exchanged for a directory of links, /dev/console is a terminal or nothing."""
    config = default_config("/bin/sh", "-c", "stat -c %t /dev/console; stat -f -c %t /dev/console")
    config["process"]["terminal"] = True
    config["mounts"] = [m for m in config["mounts"] if not m["destination"].startswith("/dev")]
    pts = {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]}
    path = bundle(_mount(config, pts), copy=True)
    dev = path / "rootfs/dev"
    (dev / "pts").mkdir()
    (dev / "false").mkdir()
    for name in ("ptmx", "0", "1"):
        (dev / "false" / name).symlink_to("/proc/sys/kernel/core_pattern")
    background(attacker, "exchange", dev / "pts", dev / "false", 600)
    for _ in range(rounds(15)):
        result = boxwright.run(BOX, path)
        if result.status == 0:
            assert result.stdout.split() == ["88", "1cd1"], result
        else:
            one_line_error(result)


@pytest.mark.parametrize("target", ["../../outside", "{outside}", "../../../../../..{outside}"])
def test_dev_as_a_link_makes_nothing_on_the_host(
    boxwright: Runtime, bundle: BundleFactory, outside: Path, target: str
) -> None:
    """CVE-2026-41579, CVE-2026-47766: an image whose /dev is a link to the host's directory gets its devices inside of
    the root, with a mount over it and without.
    """
    for mounted in (True, False):
        config = default_config("/bin/sh", "-c", "echo x > /dev/null; ls /dev | wc -l")
        if not mounted:
            config["mounts"] = [m for m in config["mounts"] if not m["destination"].startswith("/dev")]
        path = bundle(config, copy=True)
        dev = path / "rootfs/dev"
        dev.rmdir()
        dev.symlink_to(target.format(outside=outside))
        result = boxwright.run(BOX, path)
        assert result.status == 0 or one_line_error(result)
    assert {entry.name for entry in outside.iterdir()} == {"file"}


def test_a_directory_that_is_a_link_to_the_host_takes_mounts_inside(
    boxwright: Runtime, bundle: BundleFactory, outside: Path
) -> None:
    """CVE-2019-18837: rootfs/etc -> the host's directory: what is bound to /etc/new is in the root."""
    (outside.parent / "source").write_text("bound")
    config = _mount(default_config("/bin/cat", "/etc/new"), bind(outside.parent / "source", "/etc/new"))
    path = bundle(config, copy=True)
    etc = path / "rootfs/etc"
    etc.rename(path / "rootfs/old-etc")
    etc.symlink_to(outside)
    result = boxwright.run(BOX, path)
    assert result.stdout == "bound", result


@pytest.mark.parametrize("over", ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net"])
def test_a_setting_is_written_where_it_belongs_or_not_at_all(
    boxwright: Runtime, bundle: BundleFactory, outside: Path, over: str
) -> None:
    """CVE-2025-52881: sysctls go by the host's procfs, opened before anything of the box was touched; a mount in the
    box that would lead them to another file is refused.
    """
    (outside.parent / "trap").write_text("untouched")
    config = default_config("/bin/cat", "/proc/sys/net/ipv4/ip_forward")
    config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    assert boxwright.run(BOX, bundle(config)).stdout.strip() == "1"
    result = boxwright.run(BOX, bundle(_mount(config, bind(outside.parent / "trap", over))))
    one_line_error(result)
    assert (outside.parent / "trap").read_text() == "untouched"


def test_devices_are_not_made_where_a_volume_leads(
    boxwright: Runtime, bundle: BundleFactory, attacker: Path, background: Callable[..., object], outside: Path
) -> None:
    """CVE-2021-30465: device nodes below an exchanged directory are made in the root, whatever the moment."""
    config = default_config("/bin/true")
    config["linux"]["devices"] = [
        {"path": f"/mnt/sub/null{index}", "type": "c", "major": 1, "minor": 3} for index in range(40)
    ]
    path = bundle(config, copy=True)
    place = path / "rootfs/mnt"
    (place / "sub").mkdir()
    (place / "link").symlink_to(outside)
    background(attacker, "exchange", place / "sub", place / "link", 600)
    for _ in range(rounds(8)):
        result = boxwright.run(BOX, path)
        assert result.status == 0 or one_line_error(result)
    assert {entry.name for entry in outside.iterdir()} == {"file"}


def test_a_working_directory_is_made_in_the_root(
    boxwright: Runtime, bundle: BundleFactory, attacker: Path, background: Callable[..., object], outside: Path
) -> None:
    """CVE-2024-45310: the working directory that is missing is made beneath the root, with links exchanged."""
    config = default_config("/bin/true")
    config["root"]["readonly"] = False
    path = bundle(config, copy=True)
    place = path / "rootfs/mnt"
    (place / "sub").mkdir()
    (place / "link").symlink_to(outside)
    background(attacker, "exchange", place / "sub", place / "link", 600)
    for index in range(rounds(15)):
        config["process"]["cwd"] = f"/mnt/sub/a/b{index}"
        (path / "config.json").write_text(json.dumps(config))
        result = boxwright.run(BOX, path)
        assert result.status == 0 or one_line_error(result)
