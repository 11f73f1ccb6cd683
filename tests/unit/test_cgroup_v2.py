"""Limits as cgroup v2 files, and the conversions from v1's units."""

from typing import Any

import pytest
from cgroup_hosts import SITE, V2, config, created, limits, written

from boxwright.errors import ConfigError, UnsupportedError
from boxwright.plan.cgroup_layout import CgroupSite, Standing
from boxwright.plan.cgroups import compile_update, place
from boxwright.plan.cgroups_v2 import blkio_to_io_weight, shares_to_weight


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (
            {"memory": {"limit": 100, "swap": 250, "reservation": 50}},
            [("memory.swap.max", "150"), ("memory.max", "100"), ("memory.low", "50")],
        ),
        ({"memory": {"limit": 100, "swap": 100}}, [("memory.swap.max", "0"), ("memory.max", "100")]),
        ({"memory": {"limit": 100, "swap": -1}}, [("memory.swap.max", "max"), ("memory.max", "100")]),
        ({"memory": {"limit": -1}}, [("memory.swap.max", "max"), ("memory.max", "max")]),
        ({"memory": {"limit": -1, "swap": 7}}, [("memory.swap.max", "7"), ("memory.max", "max")]),
        ({"memory": {"limit": 100, "swap": 0, "reservation": -1}}, [("memory.max", "100"), ("memory.low", "max")]),
        (
            {"memory": {"kernel": -1, "kernelTCP": -1, "disableOOMKiller": False, "useHierarchy": True, "limit": 1}},
            [("memory.max", "1")],
        ),
        ({"cpu": {"shares": 1024}}, [("cpu.weight", "100")]),
        ({"cpu": {"quota": 50000}}, [("cpu.max", "50000")]),
        ({"cpu": {"quota": -1}}, [("cpu.max", "max")]),
        ({"cpu": {"period": 20000}}, [("cpu.max", "max 20000")]),
        (
            {"cpu": {"quota": 50000, "period": 100000, "burst": 20000, "idle": 1}},
            [("cpu.idle", "1"), ("cpu.max", "50000 100000"), ("cpu.max.burst", "20000")],
        ),
        ({"cpu": {"cpus": "0-1", "mems": "0"}}, [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")]),
        ({"pids": {"limit": 0}}, [("pids.max", "0")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")]),
        (
            {
                "blockIO": {
                    "weight": 1000,
                    "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 600}],
                    "throttleWriteBpsDevice": [{"major": 8, "minor": 2, "rate": 0}],
                    "throttleReadIOPSDevice": [{"major": 8, "minor": 3, "rate": 602}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 4, "rate": 603}],
                }
            },
            [
                ("io.weight", "10000"),
                ("io.weight", "8:0 1"),
                ("io.max", "8:1 rbps=600"),
                ("io.max", "8:2 wbps=max"),
                ("io.max", "8:3 riops=602"),
                ("io.max", "8:4 wiops=603"),
            ],
        ),
        (
            {"hugepageLimits": [{"pageSize": "64KB", "limit": 65536}]},
            [("hugetlb.64KB.rsvd.max", "65536"), ("hugetlb.64KB.max", "65536")],
        ),
        ({"rdma": {"rxe3": {"hcaObjects": 4}}}, [("rdma.max", "rxe3 hca_object=4")]),
        (
            {"unified": {"io.max": "8:0 rbps=1\n8:16 wbps=2\n", "memory.high": "5", "misc.new": "x"}},
            [("io.max", "8:0 rbps=1"), ("io.max", "8:16 wbps=2"), ("memory.high", "5"), ("misc.new", "x")],
        ),
    ],
)
def test_a_limit_is_written_as_v2_names_it(resources: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert written(V2, resources) == expected


@pytest.mark.parametrize(
    ("resources", "pointer"),
    [
        ({"memory": {"kernel": 5}}, "/memory/kernel"),
        ({"memory": {"kernelTCP": 5}}, "/memory/kernelTCP"),
        ({"memory": {"swappiness": 5}}, "/memory/swappiness"),
        ({"memory": {"disableOOMKiller": True}}, "/memory/disableOOMKiller"),
        ({"memory": {"useHierarchy": False}}, "/memory/useHierarchy"),
        ({"memory": {"swap": 5}}, "/memory/swap"),
        ({"cpu": {"realtimeRuntime": 5}}, "/cpu/realtimeRuntime"),
        ({"cpu": {"realtimePeriod": 5}}, "/cpu/realtimePeriod"),
        ({"blockIO": {"leafWeight": 5}}, "/blockIO/leafWeight"),
        (
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 5}]}},
            "/blockIO/weightDevice/0/leafWeight",
        ),
        ({"network": {"classID": 5}}, "/network"),
        ({"network": {"priorities": [{"name": "eth0", "priority": 5}]}}, "/network"),
        ({"unified": {"dmem.max": "5"}}, "/unified/dmem.max"),
    ],
)
def test_what_v2_has_no_equivalent_for_is_refused(resources: dict[str, Any], pointer: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        written(V2, resources)
    assert caught.value.property == f"/linux/resources{pointer}"


@pytest.mark.parametrize("key", ["../memory.max", "memory", ".max", "memory.", "cgroup.procs", "cgroup.kill", "a/b.c"])
def test_a_key_of_unified_that_is_no_limit_is_refused(key: str) -> None:
    with pytest.raises(ConfigError):
        written(V2, {"unified": {key: "1"}})


def test_a_missing_swap_file_matters_only_to_a_limit() -> None:
    def soft(swap: int) -> bool:
        steps = created(V2, {"memory": {"limit": 100, "swap": swap}})
        return next(step.soft for step in steps if getattr(step.op, "path", "").endswith("swap.max"))

    assert soft(-1)
    assert soft(100)
    assert not soft(200)


def test_weights_of_bfq_are_not_converted() -> None:
    resources = {"blockIO": {"weight": 100, "weightDevice": [{"major": 8, "minor": 0, "weight": 5}]}}
    site = CgroupSite(io_weight="io.bfq.weight")
    assert written(V2, resources, site) == [("io.bfq.weight", "100"), ("io.bfq.weight", "8:0 5")]


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(0, 1), (2, 1), (3, 2), (512, 59), (1024, 100), (2048, 174), (262144, 10000), (1 << 60, 10000)],
)
def test_shares_become_weight(shares: int, weight: int) -> None:
    assert shares_to_weight(shares) == weight


def test_more_shares_never_weigh_less() -> None:
    weights = [shares_to_weight(shares) for shares in range(2, 5000)]
    assert weights == sorted(weights)


@pytest.mark.parametrize(("blkio", "io"), [(10, 1), (500, 4950), (1000, 10000), (5, 1)])
def test_block_weights_are_stretched(blkio: int, io: int) -> None:
    assert blkio_to_io_weight(blkio) == io


# --- updating ---------------------------------------------------------------------------------------------------


def updated(resources: dict[str, Any], standing: Standing) -> list[tuple[str, str]]:
    wanted = config(resources)
    assert wanted.linux is not None
    assert wanted.linux.resources is not None
    placement = place(wanted, V2, "id", "cgroupfs")
    return limits(compile_update(wanted.linux.resources, placement, SITE.replace(standing=standing)))


def test_swap_alone_is_counted_from_the_limit_in_force() -> None:
    assert updated({"memory": {"swap": 300}}, Standing(memory_limit=100)) == [("memory.swap.max", "200")]
    assert updated({"memory": {"swap": 300}}, Standing()) == [("memory.swap.max", "300")]
    with pytest.raises(ConfigError):
        updated({"memory": {"swap": 50}}, Standing(memory_limit=100))


def test_a_period_alone_keeps_the_quota() -> None:
    assert updated({"cpu": {"period": 50000}}, Standing(cpu_quota=10000)) == [("cpu.max", "10000 50000")]


def test_a_limit_below_the_usage_is_refused_where_that_is_asked_for() -> None:
    standing = Standing(memory_limit=1000, memory_usage=500)
    assert updated({"memory": {"limit": 400}}, standing) == [("memory.max", "400")]
    with pytest.raises(ConfigError) as caught:
        updated({"memory": {"limit": 400, "checkBeforeUpdate": True}}, standing)
    assert caught.value.problems[0].pointer == "/linux/resources/memory/limit"
    assert updated({"memory": {"limit": 500, "checkBeforeUpdate": True}}, standing) == [("memory.max", "500")]
