"""config-linux.md: cgroups of real containers: where they are, and the limits that the program finds in force."""

import os
from pathlib import Path

import pytest

import lacks
from fixtures_probe import Boxes, groups_of, unique_id
from fixtures_runtime import Json

pytestmark = [pytest.mark.root, pytest.mark.spec("config-linux.md#configLinuxControlGroups")]

TREE = Path("/sys/fs/cgroup")


@pytest.fixture(autouse=True)
def version_1():
    lacks.need("cgroup v1 hierarchies", (TREE / "pids/cgroup.procs").exists())


def with_resources(boxes: Boxes, **resources: object) -> Json:
    config = boxes.config("pause")
    config["linux"]["resources"] |= resources
    return config


def group_of(pid: int, controller: str) -> Path:
    """The directory of a process's group."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return TREE / controller / path.lstrip("/")
    raise AssertionError(f"no {controller} group")


def value(box, controller: str, file: str) -> str:
    path = group_of(box.pid, controller) / file
    lacks.need(file, path.exists())
    return path.read_text().strip()


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def limit(section: str, anchor: str, resources: object, controller: str, file: str, seen: str):
    name = f"{section}-{file}-{seen}"
    mark = pytest.mark.spec(f"config-linux.md#{anchor}")
    return pytest.param({section: resources}, controller, file, seen, id=name, marks=mark)


LIMITS = [
    limit("memory", "configLinuxMemory", {"limit": 1 << 26}, "memory", "memory.limit_in_bytes", str(1 << 26)),
    limit("memory", "configLinuxMemory", {"limit": -1}, "memory", "memory.limit_in_bytes", "9223372036854771712"),
    limit(
        "memory", "configLinuxMemory", {"reservation": 1 << 25}, "memory", "memory.soft_limit_in_bytes", str(1 << 25)
    ),
    limit(
        *("memory", "configLinuxMemory", {"limit": 1 << 26, "swap": 1 << 27}),
        *("memory", "memory.memsw.limit_in_bytes", str(1 << 27)),
    ),
    limit("memory", "configLinuxMemory", {"swappiness": 0}, "memory", "memory.swappiness", "0"),
    limit("cpu", "configLinuxCPU", {"shares": 512}, "cpu", "cpu.shares", "512"),
    limit("cpu", "configLinuxCPU", {"quota": 40_000, "period": 80_000}, "cpu", "cpu.cfs_quota_us", "40000"),
    limit("cpu", "configLinuxCPU", {"quota": 40_000, "period": 80_000}, "cpu", "cpu.cfs_period_us", "80000"),
    limit("cpu", "configLinuxCPU", {"quota": -1}, "cpu", "cpu.cfs_quota_us", "-1"),
    limit("cpu", "configLinuxCPU", {"quota": 40_000, "burst": 10_000}, "cpu", "cpu.cfs_burst_us", "10000"),
    limit("cpu", "configLinuxCPU", {"realtimeRuntime": 1000}, "cpu", "cpu.rt_runtime_us", "1000"),
    limit("cpu", "configLinuxCPU", {"idle": 1}, "cpu", "cpu.idle", "1"),
    limit("cpu", "configLinuxCPU", {"cpus": "0"}, "cpuset", "cpuset.cpus", "0"),
    limit("cpu", "configLinuxCPU", {"mems": "0"}, "cpuset", "cpuset.mems", "0"),
    limit("pids", "configLinuxPIDS", {"limit": 33}, "pids", "pids.max", "33"),
    limit("pids", "configLinuxPIDS", {"limit": -1}, "pids", "pids.max", "max"),
    limit("blockIO", "configLinuxBlockIO", {"weight": 300}, "blkio", "blkio.bfq.weight", "300"),
    limit(
        *("blockIO", "configLinuxBlockIO", {"throttleReadBpsDevice": [{"major": 7, "minor": 0, "rate": 600}]}),
        *("blkio", "blkio.throttle.read_bps_device", "7:0 600"),
    ),
    limit(
        *("blockIO", "configLinuxBlockIO", {"throttleWriteBpsDevice": [{"major": 7, "minor": 0, "rate": 700}]}),
        *("blkio", "blkio.throttle.write_bps_device", "7:0 700"),
    ),
    limit(
        *("blockIO", "configLinuxBlockIO", {"throttleReadIOPSDevice": [{"major": 7, "minor": 0, "rate": 80}]}),
        *("blkio", "blkio.throttle.read_iops_device", "7:0 80"),
    ),
    limit(
        *("blockIO", "configLinuxBlockIO", {"throttleWriteIOPSDevice": [{"major": 7, "minor": 0, "rate": 90}]}),
        *("blkio", "blkio.throttle.write_iops_device", "7:0 90"),
    ),
]


@pytest.mark.parametrize(("resources", "controller", "file", "seen"), LIMITS)
def test_a_limit_is_in_force_from_create_on(boxes: Boxes, resources, controller, file, seen):
    lacks.need("a loop device", "blockIO" not in resources or os.path.exists("/sys/block/loop0"))
    lacks.need(f"a {controller} hierarchy", (TREE / controller).exists())
    box = boxes.created(with_resources(boxes, **resources))
    assert value(box, controller, file) == seen


@pytest.mark.spec("config-linux.md#configLinuxPIDS")
def test_a_limit_of_no_processes_is_a_limit(boxes: Boxes):
    config = with_resources(boxes, pids={"limit": 0})
    config["process"]["args"] = ["/bin/sh", "-c", "echo before; /bin/true & wait; echo after"]
    box = boxes.created(config)
    assert value(box, "pids", "pids.max") == "0"
    box.start()
    box.wait()
    assert "before" in box.result.stdout
    assert "fork" in box.result.stderr


@pytest.mark.spec("config-linux.md#configLinuxMemory")
def test_memory_beyond_the_limit_is_not_to_be_had(boxes: Boxes):
    config = with_resources(boxes, memory={"limit": 1 << 24, "swap": 1 << 24})
    config["process"]["args"] = ["/bin/sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1; echo status $?"]
    result = boxes.run(config)
    assert "status 0" not in result.stdout


@pytest.mark.spec("config-linux.md#configLinuxMemory")
def test_a_limit_that_nothing_can_live_under_creates_nothing(boxes: Boxes):
    assert "memory" in boxes.refused(with_resources(boxes, memory={"limit": 1}))


@pytest.mark.spec("config-linux.md#configLinuxMemory")
def test_the_killer_can_be_disabled(boxes: Boxes):
    box = boxes.created(with_resources(boxes, memory={"limit": 1 << 26, "disableOOMKiller": True}))
    assert "oom_kill_disable 1" in value(box, "memory", "memory.oom_control")


@pytest.mark.spec("config-linux.md#configLinuxCPU")
def test_the_program_runs_on_the_configured_cpus(boxes: Boxes):
    config = with_resources(boxes, cpu={"cpus": "0"})
    config["process"]["args"] = ["/bin/probe", "affinity"]
    assert boxes.output(config) == "0 \n"


@pytest.mark.parametrize(
    ("resources", "where"),
    [
        pytest.param(
            {"memory": {"swappiness": 101}}, "memory", marks=pytest.mark.spec("config-linux.md#configLinuxMemory")
        ),
        pytest.param(
            {"memory": {"limit": 1 << 26, "swap": 1 << 25}},
            "memory",
            marks=pytest.mark.spec("config-linux.md#configLinuxMemory"),
        ),
        pytest.param(
            {"cpu": {"quota": 1000, "burst": 2000}}, "cpu", marks=pytest.mark.spec("config-linux.md#configLinuxCPU")
        ),
        pytest.param({"cpu": {"cpus": "999"}}, "cpu", marks=pytest.mark.spec("config-linux.md#configLinuxCPU")),
        pytest.param({"cpu": {"idle": 2}}, "cpu", marks=pytest.mark.spec("config-linux.md#configLinuxCPU")),
        pytest.param({"pids": {"limit": "x"}}, "pids", marks=pytest.mark.spec("config-linux.md#configLinuxPIDS")),
        pytest.param(
            {"blockIO": {"weightDevice": [{"major": 7, "minor": 0}]}},
            "blockIO",
            marks=pytest.mark.spec("config-linux.md#configLinuxBlockIO"),
        ),
        pytest.param(
            {"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]},
            "hugepageLimits",
            marks=pytest.mark.spec("config-linux.md#configLinuxHugePageLimits"),
        ),
        pytest.param(
            {"hugepageLimits": [{"pageSize": "64kB", "limit": 1}]},
            "hugepageLimits",
            marks=pytest.mark.spec("config-linux.md#configLinuxHugePageLimits"),
        ),
        pytest.param({"rdma": {"mlx": {}}}, "rdma", marks=pytest.mark.spec("config-linux.md#configLinuxRDMA")),
        pytest.param(
            {"unified": {"no_such.max": "1"}}, "unified", marks=pytest.mark.spec("config-linux.md#configLinuxUnified")
        ),
        pytest.param(
            {"network": {"classID": 1}}, "network", marks=pytest.mark.spec("config-linux.md#configLinuxNetwork")
        ),
    ],
)
def test_what_the_kernel_cannot_do_creates_nothing(boxes: Boxes, resources, where):
    lacks.need("a host without net_cls", where != "network" or not (TREE / "net_cls/cgroup.procs").exists())
    assert f"/linux/resources/{where}" in boxes.refused(with_resources(boxes, **resources))


# ── places ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("config-linux.md#configLinuxCgroupsPath")
def test_an_absolute_path_is_relative_to_the_mount_point(boxes: Boxes):
    name = unique_id("place")
    config = boxes.config("pause")
    config["linux"]["cgroupsPath"] = f"/{name}/inner"
    box = boxes.created(config)
    assert group_of(box.pid, "pids") == TREE / "pids" / name / "inner"
    box.delete("--force")
    assert not (TREE / "pids" / name / "inner").exists()
    for path in sorted(groups_of(name), reverse=True):
        os.rmdir(path)


@pytest.mark.spec("config-linux.md#configLinuxCgroupsPath")
def test_the_same_relative_path_is_the_same_place(boxes: Boxes):
    name, places = unique_id("relative"), []
    for _ in range(2):
        config = boxes.config("pause")
        config["linux"]["cgroupsPath"] = name
        box = boxes.created(config)
        places.append(group_of(box.pid, "pids"))
        box.delete()
    assert places[0] == places[1]
    assert name in str(places[0])


@pytest.mark.spec("config-linux.md#configLinuxCgroupsPath")
def test_without_a_path_every_container_has_its_own(boxes: Boxes):
    first, second = (boxes.created(boxes.config("pause")) for _ in range(2))
    assert group_of(first.pid, "pids") != group_of(second.pid, "pids")
    assert group_of(first.pid, "pids") != group_of(os.getpid(), "pids")


@pytest.mark.spec("config-linux.md#configLinuxCgroupsPath")
@pytest.mark.parametrize("path", ["../up", "/../up", "a/../../up", "/"])
def test_a_path_that_leads_elsewhere_is_an_error(boxes: Boxes, path):
    config = boxes.config("pause")
    config["linux"]["cgroupsPath"] = path
    assert "cgroupsPath" in boxes.refused(config)


@pytest.mark.spec("config-linux.md#configLinuxCgroupsPath")
def test_a_place_in_use_is_not_fit(boxes: Boxes):
    config = boxes.config("pause")
    config["linux"]["cgroupsPath"] = f"/{unique_id('used')}"
    first = boxes.created(config)
    assert "cgroup" in boxes.refused(config)
    assert group_of(first.pid, "pids").exists()
    first.start()
    first.end()


@pytest.mark.spec("config-linux.md#configLinuxCgroupsPath")
def test_a_frozen_place_is_not_fit(boxes: Boxes):
    name = unique_id("frozen")
    path = TREE / "freezer" / name
    lacks.need("a freezer", (TREE / "freezer").exists())
    path.mkdir()
    try:
        (path / "freezer.state").write_text("FROZEN")
        config = boxes.config("pause")
        config["linux"]["cgroupsPath"] = f"/{name}"
        assert "frozen" in boxes.refused(config)
        (path / "freezer.state").write_text("THAWED")
    finally:
        for group in groups_of(name):
            os.rmdir(group)


@pytest.mark.spec("config-linux.md#configLinuxCgroupsPath")
def test_a_group_that_was_there_is_used_and_left(boxes: Boxes):
    name = unique_id("there")
    path = TREE / "pids" / name
    path.mkdir()
    try:
        config = with_resources(boxes, pids={"limit": 12})
        config["linux"]["cgroupsPath"] = f"/{name}"
        box = boxes.created(config)
        assert group_of(box.pid, "pids") == path
        box.delete("--force")
        assert path.exists()
    finally:
        path.rmdir()


@pytest.mark.spec("config-linux.md#configLinuxCgroupsPath")
def test_limits_are_not_touched_without_resources(boxes: Boxes):
    name = unique_id("preset")
    path = TREE / "pids" / name
    path.mkdir()
    try:
        (path / "pids.max").write_text("55")
        config = boxes.config("pause")
        config["linux"] |= {"cgroupsPath": f"/{name}"}
        del config["linux"]["resources"]
        box = boxes.created(config)
        assert value(box, "pids", "pids.max") == "55"
        box.delete("--force")
    finally:
        path.rmdir()


def test_every_process_of_a_container_is_in_its_group(boxes: Boxes):
    box = boxes.started(boxes.config("pause"))
    expected = Path(f"/proc/{box.pid}/cgroup").read_text()
    assert box.exec("/bin/probe", "cat", "/proc/self/cgroup").stdout == expected
