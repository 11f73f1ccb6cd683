"""What /proc/self/mountinfo and /proc/self/cgroup say about a host."""

import pytest

from boxwright.host import cgroup_probe
from boxwright.host.cgroup_probe import parse_layout
from boxwright.plan.cgroup_layout import CgroupPlacement, Group, Hierarchy


@pytest.fixture(autouse=True)
def _root_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount points of these texts are not on this machine: take them for writable, with two controllers."""
    monkeypatch.setattr(cgroup_probe.os, "access", lambda _path, _mode: True)
    monkeypatch.setattr(cgroup_probe, "read", lambda _path: "cpu memory\n")


def line(mountpoint: str, kind: str, options: str, root: str = "/") -> str:
    return f"31 23 0:28 {root} {mountpoint} rw,relatime shared:9 - {kind} {kind} {options}\n"


def test_a_v2_host() -> None:
    layout = parse_layout(line("/sys/fs/cgroup", "cgroup2", "rw,nsdelegate"), "0::/system.slice/a.service\n")
    assert layout.mode == "v2"
    assert layout.hierarchies == (Hierarchy(2, ("cpu", "memory"), "/sys/fs/cgroup", "/system.slice/a.service"),)


def test_v1_controllers_mounted_together_are_one_hierarchy() -> None:
    text = line("/cg/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct") + line("/cg/systemd", "cgroup", "rw,xattr,name=systemd")
    layout = parse_layout(text, "4:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/c\n")
    assert layout.mode == "v1"
    assert [(h.controllers, h.own) for h in layout.hierarchies] == [
        (("cpu", "cpuacct"), "/a"),
        (("name=systemd",), "/b"),
    ]


def test_both_kinds_are_hybrid() -> None:
    text = line("/cg/memory", "cgroup", "rw,memory") + line("/cg/unified", "cgroup2", "rw")
    assert parse_layout(text, "2:memory:/\n0::/\n").mode == "hybrid"


def test_a_directory_without_a_mount_is_no_hierarchy() -> None:
    layout = parse_layout(line("/cg/memory", "cgroup", "rw,memory"), "3:net_cls:/\n2:memory:/\n")
    assert [h.controllers for h in layout.hierarchies] == [("memory",)]


def test_no_cgroup_filesystem() -> None:
    layout = parse_layout(line("/", "ext4", "rw"), "0::/\n")
    assert (layout.mode, layout.writable) == ("none", False)


def test_a_hierarchy_mounted_twice_counts_once() -> None:
    text = line("/cg/memory", "cgroup", "rw,memory") + line("/elsewhere", "cgroup", "rw,memory")
    assert [h.mountpoint for h in parse_layout(text, "2:memory:/\n").hierarchies] == ["/cg/memory"]


def test_what_is_mounted_over_is_not_there() -> None:
    text = line("/cg", "cgroup2", "rw") + line("/cg", "tmpfs", "rw")
    assert parse_layout(text, "0::/\n").hierarchies == ()


def test_own_path_is_seen_from_the_mounts_root() -> None:
    text = line("/cg", "cgroup2", "rw", root="/docker/abc")
    assert parse_layout(text, "0::/docker/abc/inner\n").hierarchies[0].own == "/inner"


def test_a_mount_that_does_not_show_our_group_is_not_used() -> None:
    assert parse_layout(line("/cg", "cgroup2", "rw", root="/docker/abc"), "0::/docker/abcd\n").hierarchies == ()


def test_outside_of_the_cgroup_namespace_the_mounts_root_is_ours() -> None:
    assert parse_layout(line("/cg", "cgroup2", "rw"), "0::/../../other\n").hierarchies[0].own == "/"


def test_mount_points_are_unescaped() -> None:
    assert parse_layout(line("/c\\040g", "cgroup2", "rw"), "0::/\n").hierarchies[0].mountpoint == "/c g"


def test_what_is_delegated_is_found_upwards(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = "/cg/user.slice/user@1000.service"
    monkeypatch.setattr(cgroup_probe.os, "access", lambda path, _mode: path.startswith(ours))
    layout = parse_layout(line("/cg", "cgroup2", "rw"), "0::/user.slice/user@1000.service/app.slice/x.scope\n")
    assert layout.writable
    assert layout.delegated == "/user.slice/user@1000.service"


def test_nothing_delegated_is_not_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup_probe.os, "access", lambda _path, _mode: False)
    layout = parse_layout(line("/cg", "cgroup2", "rw"), "0::/user.slice/session-1.scope\n")
    assert (layout.mode, layout.writable, layout.hierarchies) == ("v2", False, ())


def test_a_placement_survives_the_state_file() -> None:
    group = Group(1, ("cpu", "cpuacct"), "/cg/cpu", "/cg/cpu/a/b", "/cg/cpu/a")
    placement = CgroupPlacement("systemd", (group,), "system.slice", "a.scope", True)
    assert CgroupPlacement.from_json(placement.to_json()) == placement
