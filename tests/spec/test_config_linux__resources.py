"""config-linux.md: cgroups and resources, intelRdt, memory policy."""

import pytest

from boxwright.errors import ConfigError
from boxwright.spec.decode import decode_resources
from boxwright.spec.validate import validate_resources
from spec_documents import changed, problems_of, refused

_BLOCK = {"major": 8, "minor": 0}
_SECTION = "config-linux.md#configLinux"

CASES = [
    # section, property, value, the pointers below /linux/resources which are refused
    ("DeviceAllowedlist", "devices", [{"allow": False, "access": "rwm"}, {"allow": True, "type": "a"}], []),
    ("DeviceAllowedlist", "devices", [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": ""}], []),
    ("DeviceAllowedlist", "devices", [{"access": "r"}], ["devices/0"]),
    ("DeviceAllowedlist", "devices", [{"allow": True, "type": "p"}], ["devices/0/type"]),
    ("DeviceAllowedlist", "devices", [{"allow": True, "access": "rx"}], ["devices/0/access"]),
    ("DeviceAllowedlist", "devices", [{"allow": True, "major": -2}], ["devices/0/major"]),
    ("Memory", "memory", {"limit": 1, "swap": -1, "kernel": -1, "kernelTCP": 0, "swappiness": 100}, []),
    ("Memory", "memory", {"limit": 2, "swap": 2, "reservation": 9, "disableOOMKiller": True}, []),
    ("Memory", "memory", {"limit": -2}, ["memory/limit"]),
    ("Memory", "memory", {"limit": 1 << 63}, ["memory/limit"]),
    ("Memory", "memory", {"limit": 2, "swap": 1}, ["memory/swap"]),
    ("Memory", "memory", {"swappiness": 101}, ["memory/swappiness"]),
    ("Memory", "memory", {"kernelTCP": -2}, ["memory/kernelTCP"]),
    ("Memory", "memory", {"checkBeforeUpdate": 1}, ["memory/checkBeforeUpdate"]),
    ("CPU", "cpu", {"quota": 5, "burst": 5, "cpus": "0-3,7", "mems": "", "idle": 1}, []),
    ("CPU", "cpu", {"quota": -1, "burst": 5}, []),
    ("CPU", "cpu", {"quota": 4, "burst": 5}, ["cpu/burst"]),
    ("CPU", "cpu", {"cpus": "3-0"}, ["cpu/cpus"]),
    ("CPU", "cpu", {"mems": "0,,1"}, ["cpu/mems"]),
    ("CPU", "cpu", {"idle": 2}, ["cpu/idle"]),
    ("CPU", "cpu", {"shares": -1}, ["cpu/shares"]),
    ("PIDS", "pids", {"limit": 0}, []),
    ("PIDS", "pids", {"limit": -1}, []),
    ("PIDS", "pids", {"limit": -2}, ["pids/limit"]),
    ("BlockIO", "blockIO", {"weight": 10, "weightDevice": [{**_BLOCK, "leafWeight": 10}]}, []),
    ("BlockIO", "blockIO", {"throttleReadIOPSDevice": [{**_BLOCK, "rate": 1}]}, []),
    ("BlockIO", "blockIO", {"weightDevice": [_BLOCK]}, ["blockIO/weightDevice/0"]),
    ("BlockIO", "blockIO", {"weight": 65_536}, ["blockIO/weight"]),
    ("BlockIO", "blockIO", {"throttleWriteBpsDevice": [_BLOCK]}, ["blockIO/throttleWriteBpsDevice/0"]),
    ("BlockIO", "blockIO", {"weightDevice": [{"major": 8, "weight": 1}]}, ["blockIO/weightDevice/0"]),
    ("HugePageLimits", "hugepageLimits", [{"pageSize": "64KB", "limit": 0}, {"pageSize": "1GB", "limit": 1}], []),
    ("HugePageLimits", "hugepageLimits", [{"pageSize": "64kB", "limit": 0}], ["hugepageLimits/0/pageSize"]),
    ("HugePageLimits", "hugepageLimits", [{"pageSize": "02MB", "limit": 0}], ["hugepageLimits/0/pageSize"]),
    ("HugePageLimits", "hugepageLimits", [{"pageSize": "MB", "limit": 0}], ["hugepageLimits/0/pageSize"]),
    ("HugePageLimits", "hugepageLimits", [{"pageSize": "2MB", "limit": 0}] * 2, ["hugepageLimits/1/pageSize"]),
    ("HugePageLimits", "hugepageLimits", [{"limit": 0}], ["hugepageLimits/0"]),
    ("Network", "network", {"classID": 1, "priorities": [{"name": "eth0", "priority": 0}]}, []),
    ("Network", "network", {"priorities": [{"name": "a/b", "priority": 0}]}, ["network/priorities/0/name"]),
    ("Network", "network", {"priorities": [{"name": "a"}]}, ["network/priorities/0"]),
    ("RDMA", "rdma", {"mlx5_1": {"hcaHandles": 3}, "mlx4_0": {"hcaObjects": 0}}, []),
    ("RDMA", "rdma", {"mlx5_1": {}}, ["rdma/mlx5_1"]),
    ("Unified", "unified", {"io.max": "x", "hugetlb.1GB.max": "1", "my.own": ""}, []),
    ("Unified", "unified", {"../x/io.max": "x"}, ["unified/..~1x~1io.max"]),
    ("Unified", "unified", {"": "x"}, ["unified/"]),
    ("Unified", "unified", {"io.max": 1}, ["unified/io.max"]),
]


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        pytest.param(name, value, wrong, marks=pytest.mark.spec(_SECTION + section))
        for section, name, value, wrong in CASES
    ],
)
def test_resources(name, value, wrong):
    found = refused(changed(f"/linux/resources/{name}", value))
    assert found == {f"/linux/resources/{pointer}" for pointer in wrong}


@pytest.mark.spec(_SECTION + "ControlGroups")
def test_resources_alone_are_pointed_to_from_their_own_root():
    resources = decode_resources(b'{"memory": {"limit": 5, "swap": 4}, "pids": {"limit": -5}}')
    assert {problem.pointer for problem in validate_resources(resources)} == {"/memory/swap", "/pids/limit"}
    with pytest.raises(ConfigError) as caught:
        decode_resources(b'{"cpu": {"quota": "5"}}')
    assert [problem.pointer for problem in caught.value.problems] == ["/cpu/quota"]


@pytest.mark.spec(_SECTION + "CgroupsPath")
def test_cgroups_path():
    for path in ("", "/box/a", "box/a", "system.slice:box:a"):
        assert problems_of(changed("/linux/cgroupsPath", path)) == []
    for path in ("..", "/a/../b", "a/.."):
        assert refused(changed("/linux/cgroupsPath", path)) == {"/linux/cgroupsPath"}


@pytest.mark.spec(_SECTION + "IntelRdt")
@pytest.mark.parametrize(
    ("rdt", "wrong"),
    [
        ({"closID": "/"}, []),
        ({"closID": "a", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "schemata": ["L2:0=f"]}, []),
        ({"memBwSchema": "0=20"}, ["memBwSchema"]),
        ({"memBwSchema": "MB:0=20\nL3:0=f"}, ["memBwSchema"]),
        ({"schemata": ["L2:0=f", "a\nb"]}, ["schemata/1"]),
        ({"closID": ""}, ["closID"]),
        ({"closID": ".."}, ["closID"]),
        ({"closID": "a/b"}, ["closID"]),
        ({"enableMonitoring": "yes"}, ["enableMonitoring"]),
    ],
)
def test_intel_rdt(rdt, wrong):
    assert refused(changed("/linux/intelRdt", rdt)) == {f"/linux/intelRdt/{name}" for name in wrong}


@pytest.mark.spec(_SECTION + "MemoryPolicy")
@pytest.mark.parametrize(
    ("policy", "wrong"),
    [
        ({"mode": "MPOL_DEFAULT"}, []),
        ({"mode": "MPOL_DEFAULT", "nodes": ""}, []),
        ({"mode": "MPOL_PREFERRED"}, []),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "2-3", "flags": ["MPOL_F_STATIC_NODES"]}, []),
        ({}, [""]),
        ({"mode": "MPOL_FOO"}, ["/mode"]),
        ({"mode": "MPOL_BIND"}, ["/nodes"]),
        ({"mode": "MPOL_LOCAL", "nodes": "0"}, ["/nodes"]),
        ({"mode": "MPOL_BIND", "nodes": "x"}, ["/nodes"]),
        ({"mode": "MPOL_DEFAULT", "flags": ["MPOL_F_FOO"]}, ["/flags/0"]),
        (
            {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]},
            ["/flags"],
        ),
    ],
)
def test_memory_policy(policy, wrong):
    assert refused(changed("/linux/memoryPolicy", policy)) == {f"/linux/memoryPolicy{name}" for name in wrong}
