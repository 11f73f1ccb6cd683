"""Limits as cgroup v1 files."""

from typing import Any

import pytest
from cgroup_hosts import HYBRID, SITE, V1, V2, config, created, limits, written

from boxwright.errors import ConfigError, UnsupportedError
from boxwright.plan.cgroup_layout import CgroupSite, Standing
from boxwright.plan.cgroups import compile_update, place
from boxwright.plan.ops import Write


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (
            {"memory": {"limit": 100, "swap": 200, "reservation": 50, "swappiness": 0, "disableOOMKiller": True}},
            [
                ("memory.limit_in_bytes", "100"),
                ("memory.memsw.limit_in_bytes", "200"),
                ("memory.soft_limit_in_bytes", "50"),
                ("memory.swappiness", "0"),
                ("memory.oom_control", "1"),
            ],
        ),
        ({"memory": {"limit": -1}}, [("memory.limit_in_bytes", "-1"), ("memory.memsw.limit_in_bytes", "-1")]),
        (
            {"memory": {"kernelTCP": 5, "useHierarchy": True}},
            [("memory.kmem.tcp.limit_in_bytes", "5"), ("memory.use_hierarchy", "1")],
        ),
        ({"cpu": {"shares": 512}}, [("cpu.shares", "512")]),
        (
            {"cpu": {"quota": 50000, "period": 100000, "burst": 1000}},
            [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000"), ("cpu.cfs_burst_us", "1000")],
        ),
        ({"cpu": {"shares": 2, "idle": 1}}, [("cpu.shares", "2"), ("cpu.idle", "1")]),
        ({"cpu": {"shares": 2, "idle": 0}}, [("cpu.idle", "0"), ("cpu.shares", "2")]),
        (
            {"cpu": {"realtimeRuntime": 950, "realtimePeriod": 1000}},
            [("cpu.rt_period_us", "1000"), ("cpu.rt_runtime_us", "950")],
        ),
        ({"cpu": {"cpus": "0-1", "mems": "0"}}, [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")]),
        ({"pids": {"limit": 0}}, [("pids.max", "0")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")]),
        ({"pids": {"limit": 7}}, [("pids.max", "7")]),
        (
            {
                "blockIO": {
                    "weight": 100,
                    "leafWeight": 10,
                    "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 600}],
                    "throttleWriteBpsDevice": [{"major": 8, "minor": 2, "rate": 601}],
                    "throttleReadIOPSDevice": [{"major": 8, "minor": 3, "rate": 602}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 4, "rate": 603}],
                }
            },
            [
                ("blkio.weight", "100"),
                ("blkio.leaf_weight", "10"),
                ("blkio.weight_device", "8:0 500"),
                ("blkio.leaf_weight_device", "8:0 300"),
                ("blkio.throttle.read_bps_device", "8:1 600"),
                ("blkio.throttle.write_bps_device", "8:2 601"),
                ("blkio.throttle.read_iops_device", "8:3 602"),
                ("blkio.throttle.write_iops_device", "8:4 603"),
            ],
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]},
            [("hugetlb.2MB.rsvd.limit_in_bytes", "4194304"), ("hugetlb.2MB.limit_in_bytes", "4194304")],
        ),
        (
            {"network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]}},
            [("net_cls.classid", "1048577"), ("net_prio.ifpriomap", "eth0 5")],
        ),
        (
            {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}, "rxe3": {"hcaObjects": 4}}},
            [("rdma.max", "mlx5_1 hca_handle=3 hca_object=10"), ("rdma.max", "rxe3 hca_object=4")],
        ),
    ],
)
def test_a_limit_is_written_as_v1_names_it(resources: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert written(V1, resources) == expected


def test_each_limit_knows_the_line_that_asks_for_it() -> None:
    steps = created(V1, {"memory": {"limit": 100}, "cpu": {"quota": 1000}, "pids": {"limit": 1}})
    pointers = {
        step.op.path.rpartition("/")[2]: (step.pointer, step.anchor) for step in steps if isinstance(step.op, Write)
    }
    assert pointers["memory.limit_in_bytes"] == ("/linux/resources/memory/limit", "config-linux.md#configLinuxMemory")
    assert pointers["cpu.cfs_quota_us"] == ("/linux/resources/cpu/quota", "config-linux.md#configLinuxCPU")
    assert pointers["pids.max"] == ("/linux/resources/pids/limit", "config-linux.md#configLinuxPIDS")


def test_kernel_memory_is_tried_and_may_be_refused() -> None:
    (step,) = [
        s for s in created(V1, {"memory": {"kernel": 9}}) if getattr(s.op, "path", "").endswith("kmem.limit_in_bytes")
    ]
    assert step.soft


def test_reservations_of_huge_pages_are_tried_first() -> None:
    steps = [
        s
        for s in created(V1, {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]})
        if "hugetlb." in getattr(s.op, "path", "")
    ]
    assert [step.soft for step in steps] == [True, False]


def test_the_weight_goes_where_the_scheduler_reads_it() -> None:
    site = CgroupSite(io_weight="blkio.bfq.weight")
    resources = {"blockIO": {"weight": 100, "weightDevice": [{"major": 8, "minor": 0, "weight": 5}]}}
    assert written(V1, resources, site) == [("blkio.bfq.weight", "100"), ("blkio.bfq.weight_device", "8:0 5")]


@pytest.mark.parametrize(
    ("resources", "pointer"),
    [
        ({"memory": {"limit": 100, "swap": 50}}, "/memory/swap"),
        ({"memory": {"swappiness": 101}}, "/memory/swappiness"),
        ({"cpu": {"quota": 5, "burst": 6}}, "/cpu/burst"),
        ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}}, "/blockIO/weightDevice/0"),
        ({"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}, "/hugepageLimits/0/pageSize"),
        ({"hugepageLimits": [{"pageSize": "2M", "limit": 1}]}, "/hugepageLimits/0/pageSize"),
        ({"rdma": {"mlx5_1": {}}}, "/rdma/mlx5_1"),
        ({"network": {"priorities": [{"name": "a b", "priority": 1}]}}, "/network/priorities/0/name"),
    ],
)
def test_values_that_contradict_each_other_are_refused(resources: dict[str, Any], pointer: str) -> None:
    for layout in (V1, V2) if "network" not in resources and "swappiness" not in str(resources) else (V1,):
        with pytest.raises(ConfigError) as caught:
            written(layout, resources)
        assert caught.value.problems[0].pointer == f"/linux/resources{pointer}"


def test_a_controller_that_the_host_lacks_is_refused() -> None:
    with pytest.raises(UnsupportedError) as caught:
        written(HYBRID, {"pids": {"limit": 5}})
    assert caught.value.property == "/linux/resources/pids"


def test_a_cpu_section_that_only_places_needs_no_cpu_controller() -> None:
    only_cpuset = V1.replace(hierarchies=tuple(h for h in V1.hierarchies if h.controllers == ("cpuset",)))
    assert written(only_cpuset, {"cpu": {"cpus": "0"}}) == [("cpuset.cpus", "0")]
    with pytest.raises(UnsupportedError):
        written(only_cpuset, {"cpu": {"cpus": "0", "shares": 5}})


# --- hybrid -----------------------------------------------------------------------------------------------------


def test_hybrid_writes_each_limit_where_its_controller_is() -> None:
    resources = {
        "memory": {"limit": 100},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
        "unified": {"hugetlb.1GB.max": "0", "cgroup.max.depth": "3"},
    }
    assert written(HYBRID, resources) == [
        ("memory.limit_in_bytes", "100"),
        ("hugetlb.2MB.rsvd.max", "1"),
        ("hugetlb.2MB.max", "1"),
        ("hugetlb.1GB.max", "0"),
        ("cgroup.max.depth", "3"),
    ]


def test_hybrid_refuses_v2_limits_of_controllers_that_are_v1s() -> None:
    with pytest.raises(UnsupportedError) as caught:
        written(HYBRID, {"unified": {"memory.max": "5"}})
    assert caught.value.property == "/linux/resources/unified/memory.max"


def test_v1_refuses_v2_limits() -> None:
    with pytest.raises(UnsupportedError):
        written(V1, {"unified": {"memory.max": "5"}})


# --- updating ---------------------------------------------------------------------------------------------------


def updated(resources: dict[str, Any], standing: Standing) -> list[tuple[str, str]]:
    wanted = config(resources)
    assert wanted.linux is not None
    assert wanted.linux.resources is not None
    placement = place(wanted, V1, "id", "cgroupfs")
    return limits(compile_update(wanted.linux.resources, placement, SITE.replace(standing=standing)))


LIMIT, SWAP = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"


def test_growing_memory_lifts_memory_and_swap_first() -> None:
    standing = Standing(memory_limit=100, memory_swap=100)
    assert updated({"memory": {"limit": 200, "swap": 200}}, standing) == [(SWAP, "200"), (LIMIT, "200")]
    assert updated({"memory": {"limit": -1}}, standing) == [(SWAP, "-1"), (LIMIT, "-1")]


def test_shrinking_memory_lowers_memory_first() -> None:
    for standing in (Standing(memory_limit=400, memory_swap=400), Standing()):
        assert updated({"memory": {"limit": 200, "swap": 200}}, standing) == [(LIMIT, "200"), (SWAP, "200")]


def test_a_shorter_period_goes_after_the_quota() -> None:
    standing = Standing(cpu_quota=50000, cpu_period=100000)
    assert [name for name, _ in updated({"cpu": {"quota": 5000, "period": 10000}}, standing)] == [
        "cpu.cfs_quota_us",
        "cpu.cfs_period_us",
    ]
    assert [name for name, _ in updated({"cpu": {"quota": 90000, "period": 200000}}, standing)] == [
        "cpu.cfs_period_us",
        "cpu.cfs_quota_us",
    ]


def test_a_lower_burst_goes_before_the_quota() -> None:
    standing = Standing(cpu_quota=50000, cpu_burst=40000)
    assert updated({"cpu": {"quota": 10000, "burst": 5000}}, standing)[0] == ("cpu.cfs_burst_us", "5000")
    assert updated({"cpu": {"quota": 90000, "burst": 60000}}, standing)[-1] == ("cpu.cfs_burst_us", "60000")


def test_an_update_leaves_devices_alone() -> None:
    assert updated({"devices": [{"allow": False}], "pids": {"limit": 3}}, Standing()) == [("pids.max", "3")]
