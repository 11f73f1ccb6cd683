"""config-linux.md: namespaces, id mappings, time offsets, and what needs a namespace."""

import pytest

from spec_documents import SOUND, changed, problems_of, refused

_NAMESPACES = "/linux/namespaces"


def _user(uid=((0, 1000, 10),), gid=((0, 1000, 10),)):
    document = changed(f"{_NAMESPACES}/-", {"type": "user"})
    for name, ranges in (("uidMappings", uid), ("gidMappings", gid)):
        document["linux"][name] = [dict(zip(("containerID", "hostID", "size"), one, strict=True)) for one in ranges]
    return document


@pytest.mark.spec("config-linux.md#configLinuxNamespaces")
def test_every_type_is_taken_with_and_without_a_path():
    kinds = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
    assert problems_of(changed(_NAMESPACES, [{"type": kind} for kind in kinds])) == []
    assert problems_of(changed(_NAMESPACES, [{"type": kind, "path": f"/run/{kind}"} for kind in kinds])) == []


@pytest.mark.spec("config-linux.md#configLinuxNamespaces")
@pytest.mark.parametrize(
    ("namespace", "where"),
    [
        ({"type": "mount"}, "6/type"),
        ({"type": "net"}, "6/type"),
        ({"type": ""}, "6/type"),
        ({"type": "user", "path": "proc/1/ns/user"}, "6/path"),
        ({"type": "user", "path": ""}, "6/path"),
        ({}, "6"),
        ("user", "6"),
    ],
)
def test_wrong_namespaces_are_refused(namespace, where):
    assert refused(changed(f"{_NAMESPACES}/-", namespace)) == {f"{_NAMESPACES}/{where}"}


@pytest.mark.spec("config-linux.md#configLinuxUserNamespaceMappings")
def test_mappings():
    assert problems_of(_user(((0, 1000, 1), (1, 100_000, 65_536)))) == []
    assert refused(_user(gid=())) == {"/linux/gidMappings"}
    assert refused(_user(uid=((0, 0, 0),))) == {"/linux/uidMappings/0/size"}
    assert refused(_user(uid=((1, (1 << 32) - 1, 2),))) == {"/linux/uidMappings/0/hostID"}
    assert refused(_user(uid=((0, 0, 5), (4, 10, 5)))) == {"/linux/uidMappings/1/containerID"}
    assert refused(_user(uid=((0, 0, 5), (5, 4, 5)))) == {"/linux/uidMappings/1/hostID"}
    assert refused(_user(uid=((0, -1, 1),))) == {"/linux/uidMappings/0/hostID"}


@pytest.mark.spec("config-linux.md#configLinuxUserNamespaceMappings")
def test_mappings_need_a_user_namespace():
    document = _user()
    document["linux"]["namespaces"] = SOUND["linux"]["namespaces"]
    assert refused(document) == {"/linux/uidMappings", "/linux/gidMappings"}


@pytest.mark.spec("config-linux.md#configLinuxTimeOffset")
def test_time_offsets_need_a_new_time_namespace():
    offsets = {"monotonic": {"secs": -5, "nanosecs": 999_999_999}, "boottime": {"secs": 7}}
    document = changed("/linux/timeOffsets", offsets)
    assert refused(document) == {"/linux/timeOffsets"}
    document["linux"]["namespaces"].append({"type": "time"})
    assert problems_of(document) == []
    document["linux"]["namespaces"][-1]["path"] = "/run/time"
    assert refused(document) == {"/linux/timeOffsets"}


@pytest.mark.spec("config-linux.md#configLinuxTimeOffset")
def test_wrong_time_offsets_are_refused():
    document = changed(f"{_NAMESPACES}/-", {"type": "time"})
    document["linux"]["timeOffsets"] = {"monotonic": {"nanosecs": 1_000_000_000}, "realtime": {"secs": 1}}
    assert refused(document) == {"/linux/timeOffsets/monotonic/nanosecs", "/linux/timeOffsets/realtime"}


@pytest.mark.spec("config-linux.md#configLinuxSysctl")
@pytest.mark.parametrize(
    "name", ["net.ipv4.ip_forward", "net/ipv4/conf/eth0.1/forwarding", "kernel.msgmax", "fs.mqueue.queues_max"]
)
def test_parameters_of_own_namespaces_are_taken(name):
    assert problems_of(changed("/linux/sysctl", {name: "1"})) == []


@pytest.mark.spec("config-linux.md#configLinuxSysctl")
@pytest.mark.parametrize(
    "name",
    [
        "vm.swappiness",
        "kernel.core_pattern",
        "kernel/core_pattern",
        "net/../kernel/core_pattern",
        "net.",
        "",
        "kernel.hostname",
        "user.max_user_namespaces",
        "kernel.shm",
    ],
)
def test_other_parameters_are_refused(name):
    assert len(refused(changed("/linux/sysctl", {name: "1"}))) == 1


@pytest.mark.spec("config-linux.md#configLinuxSysctl")
@pytest.mark.parametrize("name", ["net.ipv4.ip_forward", "kernel.sem", "kernel.domainname"])
def test_parameters_of_shared_namespaces_are_refused(name):
    document = changed("/linux/sysctl", {name: "1"})
    document["linux"]["namespaces"] = [{"type": "mount"}]
    del document["hostname"]
    assert refused(document) == {f"/linux/sysctl/{name}"}


@pytest.mark.spec("config-linux.md#configLinuxNetworkDevices")
@pytest.mark.parametrize(
    "devices", [{}, {"eth0": {}}, {"eth0": {"name": "box0"}}, {"eth0": {"name": "net%d"}, "eth1": {"name": "net%d"}}]
)
def test_net_devices(devices):
    assert problems_of(changed("/linux/netDevices", devices)) == []


@pytest.mark.spec("config-linux.md#configLinuxNetworkDevices")
@pytest.mark.parametrize(
    ("devices", "where"),
    [
        ({"eth0": {"name": ""}}, "eth0/name"),
        ({"eth0": {"name": "a/b"}}, "eth0/name"),
        ({"eth0": {"name": "a b"}}, "eth0/name"),
        ({"eth0": {"name": ".."}}, "eth0/name"),
        ({"eth0": {"name": "sixteen-letters-"}}, "eth0/name"),
        ({"eth0": {"name": "fourteenletter%d"}}, "eth0/name"),
        ({"eth0": {"name": "a%s"}}, "eth0/name"),
        ({"eth0": {"name": "a%d0"}}, "eth0/name"),
        ({"a/b": {"name": "c"}}, "a~1b"),
        ({"eth0": {"name": "a"}, "eth1": {"name": "a"}}, "eth1/name"),
        ({"eth0": 1}, "eth0"),
    ],
)
def test_wrong_net_devices_are_refused(devices, where):
    assert refused(changed("/linux/netDevices", devices)) == {f"/linux/netDevices/{where}"}


@pytest.mark.spec("config-linux.md#configLinuxNetworkDevices")
def test_net_devices_need_a_network_namespace():
    document = changed("/linux/netDevices", {"eth0": {}})
    document["linux"]["namespaces"] = [{"type": "uts"}]
    assert refused(document) == {"/linux/netDevices"}
