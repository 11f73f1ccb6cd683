"""linux.intelRdt: classes of cache and memory bandwidth (config-linux.md#configLinuxIntelRdt).

Hosts that have resctrl are rare: a plain directory stands in for it here, and is called a fake. It shows what is read
and where it is written; what the kernel makes of it, it cannot show.
"""

from pathlib import Path

import pytest

from boxwright.errors import ConfigError, HostError, UnsupportedError
from boxwright.host.resctrl import inspect, mount_point, remove_groups, remove_unused
from boxwright.plan import ops
from boxwright.plan.resctrl import ResctrlSite, compile_groups, plan_groups
from boxwright.spec.types import IntelRdt

HERE = "/linux/intelRdt"
SCHEMATA = "    L3:0=00ff;1=00ff\n    MB:0=100;1=100\n"
MOUNTED = ResctrlSite("/resctrl", monitoring=True)
EXISTING = MOUNTED.replace(existing=True, schemata=SCHEMATA)


def rdt(**values: object) -> IntelRdt:
    return IntelRdt(**values, pointer=HERE)  # type: ignore[arg-type] # each test gives what the record takes


def written(steps: tuple[ops.Step, ...]) -> list[ops.Op]:
    return [step.op for step in steps]


def test_without_a_class_the_container_id_names_it() -> None:
    found = written(compile_groups(rdt(), MOUNTED, "c1"))
    assert found == [ops.MakeDirs("/resctrl/c1", 0o755), ops.WriteChildPid("/resctrl/c1/tasks")]


def test_schemas_are_written_in_the_order_of_the_standard() -> None:
    section = rdt(schemata=("L2:0=f", "MB:1=20"), mem_bw_schema="MB:0=10", l3_cache_schema="L3:0=f")
    steps = compile_groups(section, MOUNTED, "c1")
    lines = [(step.op.data, step.pointer) for step in steps if isinstance(step.op, ops.Write)]
    assert lines == [
        (b"L3:0=f\n", f"{HERE}/l3CacheSchema"),
        (b"MB:0=10\n", f"{HERE}/memBwSchema"),
        (b"L2:0=f\n", f"{HERE}/schemata/0"),
        (b"MB:1=20\n", f"{HERE}/schemata/1"),
    ]


def test_the_default_class_is_the_root_and_is_not_written_to() -> None:
    found = written(compile_groups(rdt(clos_id="/"), EXISTING, "c1"))
    assert found == [ops.WriteChildPid("/resctrl/tasks")]


def test_a_class_with_a_schema_is_made_if_it_is_missing() -> None:
    found = written(compile_groups(rdt(clos_id="gold", mem_bw_schema="MB:0=10"), MOUNTED, "c1"))
    assert found[0] == ops.MakeDirs("/resctrl/gold", 0o755)
    assert found[-1] == ops.WriteChildPid("/resctrl/gold/tasks")


def test_a_class_without_a_schema_must_exist() -> None:
    with pytest.raises(ConfigError) as caught:
        compile_groups(rdt(clos_id="gold"), MOUNTED, "c1")
    assert caught.value.problems[0].pointer == f"{HERE}/closID"
    assert written(compile_groups(rdt(clos_id="gold"), EXISTING, "c1")) == [ops.WriteChildPid("/resctrl/gold/tasks")]


@pytest.mark.parametrize(
    "values",
    [{"l3_cache_schema": "L3:0=ff"}, {"l3_cache_schema": "L3:1=0x0FF;0=ff"}, {"mem_bw_schema": "MB:1=100"}],
)
def test_an_existing_class_may_be_asked_for_as_it_is(values: dict[str, str]) -> None:
    assert compile_groups(rdt(clos_id="gold", **values), EXISTING, "c1")


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"l3_cache_schema": "L3:0=0f"}, "l3CacheSchema"),
        ({"l3_cache_schema": "L3:2=ff"}, "l3CacheSchema"),
        ({"mem_bw_schema": "MB:0=10"}, "memBwSchema"),
    ],
)
def test_an_existing_class_that_differs_is_an_error(values: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_groups(rdt(clos_id="gold", **values), EXISTING, "c1")
    assert [problem.pointer for problem in caught.value.problems] == [f"{HERE}/{name}"]


def test_without_resctrl_it_is_an_error() -> None:
    with pytest.raises(UnsupportedError, match="no resctrl filesystem is mounted"):
        compile_groups(rdt(), ResctrlSite(), "c1")


def test_the_monitoring_group_is_the_containers_own() -> None:
    found = written(compile_groups(rdt(clos_id="gold", enable_monitoring=True), EXISTING, "c1"))
    group = "/resctrl/gold/mon_groups/c1"
    # the kernel takes a task into a monitoring group only of the class that it is in
    assert found == [
        ops.MakeDirs(group, 0o755),
        ops.WriteChildPid("/resctrl/gold/tasks"),
        ops.WriteChildPid(f"{group}/tasks"),
    ]


def test_a_taken_monitoring_group_is_an_error() -> None:
    with pytest.raises(HostError, match="make the monitoring group `c1`: File exists"):
        compile_groups(rdt(clos_id="/", enable_monitoring=True), EXISTING.replace(monitored=True), "c1")


def test_a_host_that_cannot_monitor_is_an_error() -> None:
    with pytest.raises(UnsupportedError, match="cannot monitor"):
        compile_groups(rdt(enable_monitoring=True), MOUNTED.replace(monitoring=False), "c1")


@pytest.mark.parametrize(
    ("values", "site", "owned", "made"),
    [
        ({}, MOUNTED, ("/resctrl/c1",), ("/resctrl/c1",)),
        ({}, EXISTING, (), ()),
        ({"clos_id": "gold", "mem_bw_schema": "MB:0=1"}, MOUNTED, (), ("/resctrl/gold",)),
        (
            {"clos_id": "/", "enable_monitoring": True},
            EXISTING,
            ("/resctrl/mon_groups/c1",),
            ("/resctrl/mon_groups/c1",),
        ),
        (
            {"enable_monitoring": True},
            MOUNTED,
            ("/resctrl/c1/mon_groups/c1", "/resctrl/c1"),
            ("/resctrl/c1/mon_groups/c1", "/resctrl/c1"),
        ),
    ],
)
def test_only_what_create_makes_goes_with_the_container(
    values: dict[str, object], site: ResctrlSite, owned: tuple[str, ...], made: tuple[str, ...]
) -> None:
    groups = plan_groups(rdt(**values), site, "c1")
    assert (groups.owned, groups.made) == (owned, made)


@pytest.fixture
def fake_resctrl(tmp_path: Path) -> Path:
    """A directory that looks like a mounted resctrl with one class, `gold`."""
    root = tmp_path / "resctrl"
    for path in (root, root / "gold"):
        (path / "mon_groups").mkdir(parents=True)
        (path / "schemata").write_text(SCHEMATA)
        (path / "tasks").write_text("")
    return root


def test_the_site_is_what_is_there(fake_resctrl: Path) -> None:
    (fake_resctrl / "gold/mon_groups/c1").mkdir()
    found = inspect(rdt(clos_id="gold"), "c1", str(fake_resctrl))
    assert found == ResctrlSite(str(fake_resctrl), True, SCHEMATA, True, True)
    assert inspect(rdt(), "c1", str(fake_resctrl)) == ResctrlSite(str(fake_resctrl), monitoring=True)
    assert inspect(rdt(), "c1", "") == ResctrlSite()


def test_the_mount_point_is_found(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 0:21 / /sys rw - sysfs sysfs rw\n"
        "30 22 0:40 /gold /mnt rw - resctrl resctrl rw\n"
        "31 22 0:40 / /sys/fs/res\\040ctrl rw,relatime shared:3 - resctrl resctrl rw\n"
    )
    assert mount_point(str(table)) == "/sys/fs/res ctrl"
    table.write_text("22 1 0:21 / /sys rw - sysfs sysfs rw\n")
    assert mount_point(str(table)) == ""


def test_groups_that_are_gone_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "c1").mkdir()
    remove_groups((str(tmp_path / "nope"), str(tmp_path / "c1")))
    assert not list(tmp_path.iterdir())


def test_all_groups_are_tried_before_one_is_reported(tmp_path: Path) -> None:
    (tmp_path / "full/file").mkdir(parents=True)
    (tmp_path / "c1").mkdir()
    with pytest.raises(HostError, match="full`: Directory not empty"):
        remove_groups((str(tmp_path / "full"), str(tmp_path / "c1")))
    assert not (tmp_path / "c1").exists()


def test_after_a_failure_a_class_in_use_stays(fake_resctrl: Path) -> None:
    (fake_resctrl / "gold/tasks").write_text("42\n")
    remove_unused((str(fake_resctrl / "gold"), str(fake_resctrl / "never-made")))
    assert (fake_resctrl / "gold").is_dir()
