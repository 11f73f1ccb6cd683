"""Where a container's groups are, who owns them, and how it enters (config-linux.md#configLinuxCgroupsPath)."""

import json
from typing import Any

import pytest
from cgroup_hosts import HYBRID, NOT_OURS, NOTHING, SITE, V1, V2, config

from boxwright.errors import ConfigError, UnsupportedError
from boxwright.plan.cgroup_layout import CgroupLayout, CgroupSite, Hierarchy
from boxwright.plan.cgroups import compile_attach, compile_create, compile_enter, host_id, place
from boxwright.plan.ops import NO_SLOT, ChownAt, Close, MakeDirs, Open, SetDeviceFilter, Step, Upcall, Write, WriteAt
from boxwright.spec.decode import decode
from boxwright.spec.types import Config, IDMapping


def paths(layout: CgroupLayout, path: str | None, driver: str = "cgroupfs") -> list[str]:
    return [group.path for group in place(config(path=path), layout, "id", driver).groups]


def test_an_absolute_path_is_below_each_mount_point() -> None:
    assert paths(HYBRID, "/a/b") == ["/cg/cpu,cpuacct/a/b", "/cg/memory/a/b", "/cg/systemd/a/b", "/cg/unified/a/b"]


def test_a_relative_path_is_below_our_own_group_on_v1() -> None:
    assert paths(V1, "a/b")[:2] == ["/cg/cpu/us/a/b", "/cg/cpuset/us/a/b"]


def test_a_relative_path_is_beside_our_own_group_on_v2() -> None:
    assert paths(V2, "a") == ["/cg/system.slice/a"]


def test_without_a_path_the_id_is_taken() -> None:
    assert paths(V1, None)[0] == "/cg/cpu/us/id"
    assert paths(V2, None) == ["/cg/system.slice/id"]


def test_rootless_stays_in_what_is_delegated() -> None:
    own = Hierarchy(2, ("memory",), "/cg", "/user.slice/mine")
    assert paths(CgroupLayout("v2", (own,), rootless=True, delegated="/user.slice/mine"), "a") == [
        "/cg/user.slice/mine/a"
    ]
    deeper = own.replace(own="/user.slice/mine/app.slice/x.scope")
    assert paths(CgroupLayout("v2", (deeper,), rootless=True, delegated="/user.slice/mine"), "a") == [
        "/cg/user.slice/mine/app.slice/a"
    ]


@pytest.mark.parametrize("path", ["/../a", "a/../../b", "..", "/", "/./", "a\nb"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        paths(V2, path)
    assert caught.value.problems[0].pointer == "/linux/cgroupsPath"


def test_needless_parts_of_a_path_are_dropped() -> None:
    assert paths(V2, "//a/./b/") == ["/cg/a/b"]


def test_without_groups_a_container_can_still_be() -> None:
    for layout, driver in ((NOTHING, "cgroupfs"), (NOT_OURS, "cgroupfs"), (V2, "none")):
        placement = place(config(), layout, "id", driver)
        assert (placement.driver, placement.groups) == ("none", ())
        assert compile_create(config(), layout, placement, SITE) == ()
        assert compile_attach(config(), layout, placement, SITE) == ()


@pytest.mark.parametrize(("layout", "driver"), [(NOTHING, "cgroupfs"), (NOT_OURS, "cgroupfs"), (V2, "none")])
def test_without_groups_limits_are_refused(layout: CgroupLayout, driver: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        place(config({"pids": {"limit": 3}}), layout, "id", driver)
    assert caught.value.property == "/linux/resources/pids"


def test_device_rules_need_no_group_where_no_device_can_be_made() -> None:
    rules = config({"devices": [{"allow": False}]})
    assert place(rules, NOT_OURS, "id", "cgroupfs").groups == ()
    with pytest.raises(UnsupportedError):
        place(rules, NOTHING, "id", "cgroupfs")


# --- making -----------------------------------------------------------------------------------------------------


def steps_of(layout: CgroupLayout, wanted: Config, site: CgroupSite = SITE) -> tuple[Step, ...]:
    return compile_create(wanted, layout, place(wanted, layout, "id", "cgroupfs"), site)


def test_every_group_is_made_first() -> None:
    steps = steps_of(HYBRID, config())
    assert [step.op for step in steps[:4]] == [MakeDirs(path, 0o755) for path in paths(HYBRID, "/box/one")]
    assert all(step.pointer == "/linux/cgroupsPath" for step in steps[:4])


def test_a_new_v1_cpuset_is_filled_on_the_whole_way() -> None:
    site = CgroupSite(cpuset_base="/cg/cpuset", cpus="0-3", mems="0")
    writes = [
        step.op for step in steps_of(V1, config(), site) if isinstance(step.op, Write) and "cpuset" in step.op.path
    ]
    assert writes == [
        Write("/cg/cpuset/box/cpuset.cpus", b"0-3"),
        Write("/cg/cpuset/box/cpuset.mems", b"0"),
        Write("/cg/cpuset/box/one/cpuset.cpus", b"0-3"),
        Write("/cg/cpuset/box/one/cpuset.mems", b"0"),
    ]


def test_a_filled_cpuset_is_left_alone() -> None:
    site = CgroupSite(cpuset_base="/cg/cpuset/box/one", cpus="0-3", mems="0")
    assert not [
        step for step in steps_of(V1, config(), site) if "cpuset" in getattr(step.op, "path", "") and step.op.CODE == 3
    ]


def test_controllers_are_handed_down_from_the_top() -> None:
    wanted = config({"memory": {"limit": 1 << 20}, "cpu": {"cpus": "0"}})
    writes = [step for step in steps_of(V2, wanted) if getattr(step.op, "path", "").endswith("subtree_control")]
    assert [step.op for step in writes if not step.soft] == [
        Write("/cg/cgroup.subtree_control", b"+cpuset +cpu +memory"),
        Write("/cg/box/cgroup.subtree_control", b"+cpuset +cpu +memory"),
    ]
    assert all(step.op.data == b"+io +hugetlb +pids +rdma +misc" for step in writes if step.soft)


def test_rootless_hands_down_only_what_is_its_own() -> None:
    own = Hierarchy(2, ("memory",), "/cg", "/u/mine/app/x.scope")
    layout = CgroupLayout("v2", (own,), rootless=True, delegated="/u/mine")
    steps = steps_of(layout, config({"memory": {"limit": 4096}}, path="a"))
    assert [step.op.path for step in steps if getattr(step.op, "data", b"") == b"+memory"] == [
        "/cg/u/mine/cgroup.subtree_control",
        "/cg/u/mine/app/cgroup.subtree_control",
    ]


# --- entering ---------------------------------------------------------------------------------------------------


def test_the_pid_is_written_to_each_hierarchy() -> None:
    steps = compile_attach(config(), HYBRID, place(config(), HYBRID, "id", "cgroupfs"), SITE)
    assert [step.op.path for step in steps] == [f"{path}/cgroup.procs" for path in paths(HYBRID, "/box/one")]


def test_the_init_enters_by_itself() -> None:
    entry = compile_enter(place(config(), HYBRID, "id", "cgroupfs"), 5)
    assert [step.op.slot for step in entry.opens if isinstance(step.op, Open)] == [5, 6, 7, 8]
    assert (entry.clone_slot, entry.next_slot) == (8, 9)
    assert [step.op for step in entry.enters if isinstance(step.op, WriteAt)] == [
        WriteAt(slot, "tasks", b"0") for slot in (5, 6, 7)
    ]
    assert {step.op.slot for step in entry.enters if isinstance(step.op, Close)} == {5, 6, 7, 8}


def test_without_v2_there_is_nothing_to_clone_into() -> None:
    assert compile_enter(place(config(), V1, "id", "cgroupfs"), 0).clone_slot == NO_SLOT


def test_systemd_makes_its_unit_around_the_init() -> None:
    wanted = config({"pids": {"limit": 5}}, path="a-b.slice:box:one")
    placement = place(wanted, V2, "id", "systemd")
    assert compile_create(wanted, V2, placement, SITE) == ()
    steps = compile_attach(wanted, V2, placement, SITE, token=7)
    assert steps[0].op == Upcall(7)
    assert Write("/cg/a.slice/a-b.slice/box-one.scope/pids.max", b"5") in [step.op for step in steps]
    assert isinstance(steps[-1].op, SetDeviceFilter)


# --- owning (config-linux.md#cgroup-ownership) ------------------------------------------------------------------

MOUNT = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}


def owned(layout: CgroupLayout, mount: dict[str, Any], namespace: dict[str, str]) -> list[ChownAt]:
    mapping = [{"containerID": 0, "hostID": 1000, "size": 10}]
    document = {
        "ociVersion": "1.3.0",
        "process": {"cwd": "/", "user": {"uid": 3, "gid": 0}},
        "mounts": [mount],
        "linux": {"namespaces": [namespace], "cgroupsPath": "/box/one", "uidMappings": mapping},
    }
    steps = steps_of(layout, decode(json.dumps(document).encode()))
    return [step.op for step in steps if isinstance(step.op, ChownAt)]


def test_the_owner_gets_the_directory_and_the_delegated_files() -> None:
    files = ("", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads")
    assert owned(V2, MOUNT, {"type": "cgroup"}) == [ChownAt(f"/cg/box/one{file}", 1003, -1) for file in files]


@pytest.mark.parametrize(
    ("layout", "mount", "namespace"),
    [
        (V1, MOUNT, {"type": "cgroup"}),
        (HYBRID, MOUNT, {"type": "cgroup"}),
        (V2, {**MOUNT, "options": ["ro"]}, {"type": "cgroup"}),
        (V2, {**MOUNT, "destination": "/elsewhere"}, {"type": "cgroup"}),
        (V2, {**MOUNT, "source": "tmpfs"}, {"type": "cgroup"}),
        (V2, MOUNT, {"type": "cgroup", "path": "/proc/1/ns/cgroup"}),
        (V2, MOUNT, {"type": "pid"}),
    ],
)
def test_the_owner_changes_in_no_other_case(
    layout: CgroupLayout, mount: dict[str, Any], namespace: dict[str, str]
) -> None:
    assert owned(layout, mount, namespace) == []


def test_ids_are_mapped() -> None:
    mappings = (IDMapping(0, 1000, 1), IDMapping(1, 100000, 10))
    assert [host_id(number, mappings) for number in (0, 1, 10, 11)] == [1000, 100000, 100009, -1]
    assert host_id(7, ()) == 7
