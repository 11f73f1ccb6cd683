"""What CRIU is told: its command lines, and what of a container is named as coming from outside."""

from itertools import pairwise

import pytest

from boxwright.errors import UsageError
from boxwright.plan.cgroup_layout import CgroupPlacement, Group
from boxwright.plan.criu import OpenFile, Outside, mount_sources, outside_mounts
from boxwright.runtime.checkpoint_options import CheckpointOptions, CriuOptions, RestoreOptions
from boxwright.runtime.criu_command import dump_command, restore_command
from boxwright.spec.types import Config, Linux, Mount

IMAGES = CriuOptions("/images")
NOTHING = Outside()


def dumped(outside: Outside = NOTHING, freezer: str = "", criu: CriuOptions = IMAGES, **options: object) -> list[str]:
    return list(dump_command(CheckpointOptions(criu, **options), 42, outside, freezer))  # type: ignore[arg-type]


def restored(
    outside: Outside = NOTHING, groups: tuple[Group, ...] = (), criu: CriuOptions = IMAGES, **options: object
) -> list[str]:
    how = RestoreOptions(criu, "/bundle", **options)  # type: ignore[arg-type]
    placement = CgroupPlacement("cgroupfs", groups)
    sources = dict.fromkeys(outside.mounts, "/host")
    return list(restore_command(how, outside, sources, placement, root="/r", pid_file="/p", network_fd=9))


def values(words: list[str], flag: str) -> list[str]:
    """What stands behind each `flag`."""
    return [value for name, value in pairwise(words) if name == flag]


def test_a_plain_dump() -> None:
    words = "criu dump --tree 42 --images-dir /images --log-file dump.log -v4 --manage-cgroups=soft"
    assert dumped() == words.split()


def test_a_plain_restore() -> None:
    words = (
        "criu restore --restore-detached --restore-sibling --pidfile /p --root /r"
        " --images-dir /images --log-file restore.log -v4 --manage-cgroups=soft"
    )
    assert restored() == words.split()


@pytest.mark.parametrize(
    ("field", "flag"),
    [
        ("tcp_established", "--tcp-established"),
        ("ext_unix_sk", "--ext-unix-sk"),
        ("shell_job", "--shell-job"),
        ("file_locks", "--file-locks"),
        ("lazy_pages", "--lazy-pages"),
        ("auto_dedup", "--auto-dedup"),
    ],
)
def test_switches_of_both(field: str, flag: str) -> None:
    wanted = IMAGES.replace(**{field: True})
    assert set(dumped(criu=wanted)) - set(dumped()) == {flag}
    assert set(restored(criu=wanted)) - set(restored()) == {flag}


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"leave_running": True}, {"--leave-running"}),
        ({"tcp_skip_in_flight": True}, {"--skip-in-flight"}),
        ({"link_remap": True}, {"--link-remap"}),
        ({"pre_dump": True}, {"pre-dump", "--track-mem"}),
        ({"pre_dump": True, "leave_running": True}, {"pre-dump", "--track-mem"}),
        ({"parent_path": "../one"}, {"--track-mem", "--prev-images-dir", "../one"}),
        ({"status_fd": 7}, {"--status-fd", "7"}),
        ({"page_server": "[::1]:99"}, {"--page-server", "--address", "::1", "--port", "99"}),
        ({"freezer": "/sys/fs/cgroup/freezer/c1"}, {"--freeze-cgroup", "/sys/fs/cgroup/freezer/c1"}),
    ],
)
def test_options_of_a_dump(options: dict[str, object], flags: set[str]) -> None:
    assert set(dumped(**options)) - set(dumped()) == flags  # type: ignore[arg-type]


def test_paths_program_and_namespaces() -> None:
    criu = IMAGES.replace(work_path="/work", program="/opt/criu", manage_cgroups_mode="full", empty_ns=("network",))
    for words in (dumped(criu=criu), restored(criu=criu)):
        assert words[0] == "/opt/criu"
        assert values(words, "--work-dir") == ["/work"]
        assert values(words, "--empty-ns") == ["net"]
        assert "--manage-cgroups=full" in words


@pytest.mark.parametrize("where", ["host", "host:", ":1", "host:x"])
def test_a_page_server_is_an_address_and_a_port(where: str) -> None:
    with pytest.raises(UsageError, match="is no page server"):
        dumped(page_server=where)


OUTSIDE = Outside(("/data", "/proc/kcore"), ("file[1f:2a]", "pipe[77]", ""), 4026531840)


def test_what_is_outside_is_named_in_a_dump() -> None:
    expected = ["mnt[/data]:/data", "mnt[/proc/kcore]:/proc/kcore", "file[1f:2a]", "net[4026531840]:boxwright-network"]
    assert values(dumped(OUTSIDE), "--external") == expected


def test_what_is_outside_is_given_again() -> None:
    words = restored(OUTSIDE)
    assert values(words, "--external") == ["mnt[/data]:/host", "mnt[/proc/kcore]:/host"]
    assert values(words, "--inherit-fd") == ["fd[0]:file[1f:2a]", "fd[1]:pipe[77]", "fd[9]:boxwright-network"]


def test_the_groups_are_those_of_the_new_container() -> None:
    groups = (
        Group(1, ("cpu", "cpuacct"), "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu/c2"),
        Group(2, ("hugetlb",), "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/c2"),
    )
    assert values(restored(groups=groups), "--cgroup-root") == ["cpu:/c2", "cpuacct:/c2", "/c2"]


def test_options_of_a_restore() -> None:
    words = restored(tcp_close=True, lsm_profile="apparmor:x", lsm_mount_context="c")
    assert "--tcp-close" in words
    assert (values(words, "--lsm-profile"), values(words, "--lsm-mount-context")) == (["apparmor:x"], ["c"])


MOUNTINFO = """\
100 90 8:1 /var/bundle/rootfs / ro - ext4 /dev/vda1 rw
101 100 0:50 / /proc rw - proc proc rw
102 101 0:50 /sys /proc/sys ro - proc proc rw
103 100 0:51 / /dev rw - tmpfs tmpfs rw
104 101 0:5 /null /proc/kcore rw - devtmpfs udev rw
105 100 8:1 /home/me\\040too /data\\040here rw - ext4 /dev/vda1 rw
106 100 0:60 / /image ro - squashfs /dev/loop0 ro
"""


def test_mounts_from_outside_show_a_part_of_a_filesystem() -> None:
    places, inside = outside_mounts(MOUNTINFO)
    assert places == ("/proc/kcore", "/data here")
    assert inside == frozenset(range(100, 107))


@pytest.mark.parametrize(
    ("target", "mount_id", "name"),
    [
        ("/dev/null", 31, "file[1f:2a]"),
        ("/dev/null", 100, ""),
        ("pipe:[77]", 12, "pipe[77]"),
        ("socket:[78]", 8, "socket[78]"),
        ("anon_inode:[eventfd]", 15, ""),
        ("", 0, ""),
    ],
)
def test_names_of_open_files(target: str, mount_id: int, name: str) -> None:
    assert OpenFile(0, target, mount_id, 42).external(frozenset({100})) == name


def test_sources_are_those_of_the_configuration() -> None:
    config = Config(
        "1.0.2",
        mounts=(Mount("/data", "bind", "files"), Mount("/data/deep", "bind", "/deep"), Mount("/proc", "proc", "proc")),
        linux=Linux(masked_paths=("/proc/kcore",)),
    )
    outside = Outside(("/data", "/data/deep/x", "/data/deeper", "/proc/kcore", "/dev/fuse"))
    assert mount_sources(config, "/bundle", outside) == {
        "/data": "/bundle/files",
        "/data/deep/x": "/deep/x",
        "/data/deeper": "/bundle/files/deeper",
        "/proc/kcore": "/dev/null",
        "/dev/fuse": "/dev/fuse",
    }
