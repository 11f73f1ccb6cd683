"""config-linux.md: namespaces of every type, new, joined and inherited; user namespaces and time offsets."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from fixtures_probe import Boxes
from fixtures_runtime import Json

pytestmark = [pytest.mark.root, pytest.mark.spec("config-linux.md#configLinuxNamespaces")]

FILES = {
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}
BASE = ("pid", "network", "ipc", "uts", "mount")
MAPPING = [{"containerID": 0, "hostID": 100_000, "size": 65536}]


def link(pid: object, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{FILES[kind]}")


def with_namespaces(boxes: Boxes, entries: list[Json]) -> Json:
    """A configuration with these namespaces, and what they ask for beside."""
    config = boxes.config("pause")
    kinds = {entry["type"] for entry in entries}
    config["linux"]["namespaces"] = entries
    if {"type": "user"} in entries:
        config["linux"] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    if "uts" not in kinds:
        del config["hostname"]
    if "mount" not in kinds:
        config["mounts"] = []
        config["root"]["readonly"] = False
        config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []
    return config


def usual(*without: str, **paths: str) -> list[Json]:
    """The usual namespaces but some, with paths for others."""
    kinds = [kind for kind in (*BASE, *paths) if kind not in without]
    return [{"type": kind} | ({"path": paths[kind]} if kind in paths else {}) for kind in dict.fromkeys(kinds)]


@pytest.mark.parametrize("kind", FILES)
def test_a_namespace_without_a_path_is_new(boxes: Boxes, kind):
    box = boxes.started(with_namespaces(boxes, [*usual(kind), {"type": kind}]))
    assert link(box.pid, kind) != link("self", kind)
    others = set(FILES) - {*BASE, kind}
    assert {link(box.pid, other) for other in others} == {link("self", other) for other in others}


@pytest.mark.parametrize("kind", FILES)
def test_a_namespace_that_is_not_listed_is_the_runtime_s(boxes: Boxes, kind):
    box = boxes.started(with_namespaces(boxes, usual(kind)))
    assert link(box.pid, kind) == link("self", kind)


def test_no_namespaces_at_all(boxes: Boxes):
    config = with_namespaces(boxes, [])
    box = boxes.started(config)
    assert [link(box.pid, kind) for kind in FILES] == [link("self", kind) for kind in FILES]
    assert os.readlink(f"/proc/{box.pid}/root") == str(boxes.root)


@pytest.mark.parametrize("kind", sorted(set(FILES) - {"mount"}))
def test_a_namespace_of_another_container_is_joined_by_its_path(boxes: Boxes, kind):
    first = boxes.started(with_namespaces(boxes, [*usual(kind), {"type": kind}]))
    path = f"/proc/{first.pid}/ns/{FILES[kind]}"
    second = boxes.started(with_namespaces(boxes, usual(**{kind: path})))
    assert link(second.pid, kind) == link(first.pid, kind)
    fresh = set(BASE) - {kind}
    assert not {link(second.pid, other) for other in fresh} & {link(first.pid, other) for other in fresh}
    second.end()


def test_a_mount_namespace_is_joined_by_its_path(boxes: Boxes):
    # a namespace of its own that has the bundle in it
    holder = subprocess.Popen(["unshare", "-m", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE)
    try:
        assert holder.stdout
        holder.stdout.readline()
        config = with_namespaces(boxes, usual(mount=f"/proc/{holder.pid}/ns/mnt"))
        box = boxes.started(config)
        assert link(box.pid, "mount") == link(holder.pid, "mount")
        box.end()
    finally:
        holder.kill()
        holder.communicate()


def test_every_namespace_of_a_user_namespace_is_joined(boxes: Boxes):
    kinds = ("user", "ipc", "uts", "network", "pid")
    first = boxes.started(with_namespaces(boxes, [*usual(), {"type": "user"}]))
    paths = {kind: f"/proc/{first.pid}/ns/{FILES[kind]}" for kind in kinds}
    second = boxes.started(with_namespaces(boxes, usual(**paths)))
    for kind in kinds:
        assert link(second.pid, kind) == link(first.pid, kind)
    second.end()


@pytest.mark.parametrize("kind", FILES)
def test_a_path_of_another_type_is_an_error(boxes: Boxes, kind):
    wrong = "net" if kind != "network" else "uts"
    message = boxes.refused(with_namespaces(boxes, usual(**{kind: f"/proc/self/ns/{wrong}"})))
    assert "/linux/namespaces/" in message
    assert kind in message


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("path", ["/no/such/path", "/etc/hostname", "proc/self/ns/net", "/proc/self/ns"])
def test_a_path_that_is_no_namespace_is_an_error(boxes: Boxes, kind, path):
    assert "/linux/namespaces/" in boxes.refused(with_namespaces(boxes, usual(**{kind: path})))


@pytest.mark.parametrize("kind", FILES)
def test_a_type_twice_is_an_error(boxes: Boxes, kind):
    config = with_namespaces(boxes, [*usual(kind), {"type": kind}, {"type": kind}])
    assert "/linux/namespaces/" in boxes.refused(config)


def test_a_bound_namespace_file_is_joined(boxes: Boxes):
    path = boxes.directory / "netns"
    path.touch()
    subprocess.run(["unshare", f"--net={path}", "true"], check=True)
    try:
        box = boxes.started(with_namespaces(boxes, usual(network=str(path))))
        assert link(box.pid, "network") == f"net:[{path.stat().st_ino}]"
        box.end()
        assert path.stat().st_ino
    finally:
        subprocess.run(["umount", path], check=True)


# ── what each isolates ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pid_namespace_hides_the_others(boxes: Boxes):
    assert boxes.output(boxes.shell("ls -d /proc/[0-9]* | tr -d '\\n'")) in {
        "/proc/1/proc/2",
        "/proc/1",
        "/proc/1/proc/2/proc/3",
    }


def test_a_network_namespace_has_a_loopback_of_its_own_that_is_up(boxes: Boxes):
    assert boxes.probe("list", "/sys/class/net", ",", "cat", "/sys/class/net/lo/operstate") == "lo\nunknown\n"
    assert "UP" in boxes.output(boxes.shell("ip link show lo"))


def test_a_cgroup_namespace_begins_at_the_container_s_group(boxes: Boxes):
    config = with_namespaces(boxes, [*usual(), {"type": "cgroup"}])
    config["process"]["args"] = ["/bin/probe", "cat", "/proc/self/cgroup"]
    lines = boxes.output(config).splitlines()
    assert lines
    assert {line.split(":", 2)[2] for line in lines} == {"/"}
    config["linux"]["namespaces"] = usual()
    assert any(line.split(":", 2)[2] != "/" for line in boxes.output(config).splitlines())


def test_an_ipc_namespace_has_no_queues_of_the_host(boxes: Boxes):
    assert len(boxes.probe("cat", "/proc/sysvipc/shm").splitlines()) == 1


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def clocks(boxes: Boxes, config: Json) -> "tuple[float, float]":
    """How far the container's monotonic and boottime clocks are ahead of the host's, in seconds."""
    config["process"]["args"] = ["/bin/probe", "clocks"]
    inner = [float(word) for word in boxes.output(config).split()]
    return inner[0] - time.clock_gettime(time.CLOCK_MONOTONIC), inner[1] - time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.spec("config-linux.md#configLinuxTimeOffset")
@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ({"monotonic": {"secs": 172_800}, "boottime": {"secs": 604_800}}, (172_800, 604_800)),
        ({"boottime": {"secs": 100, "nanosecs": 500_000_000}}, (0, 100.5)),
        ({"monotonic": {"secs": -2, "nanosecs": 0}}, (-2, 0)),
        ({"monotonic": {"nanosecs": 999_999_999}}, (1, 0)),
        ({}, (0, 0)),
    ],
)
def test_time_offsets(boxes: Boxes, offsets, expected, user):
    entries = [*usual(), {"type": "time"}] + [{"type": "user"}] * user
    config = with_namespaces(boxes, entries)
    config["linux"]["timeOffsets"] = offsets
    assert clocks(boxes, config) == pytest.approx(expected, abs=0.49)


@pytest.mark.spec("config-linux.md#configLinuxTimeOffset")
@pytest.mark.parametrize(
    ("entries", "offsets"),
    [
        ([], {"monotonic": {"secs": 1}}),
        ([{"type": "time", "path": "/proc/self/ns/time"}], {"monotonic": {"secs": 1}}),
        ([{"type": "time"}], {"realtime": {"secs": 1}}),
        ([{"type": "time"}], {"monotonic": {"nanosecs": 1_000_000_000}}),
        ([{"type": "time"}], {"monotonic": {"secs": -(1 << 40)}}),
    ],
)
def test_wrong_time_offsets_are_errors(boxes: Boxes, entries, offsets):
    config = with_namespaces(boxes, [*usual(), *entries])
    config["linux"]["timeOffsets"] = offsets
    assert "/linux/timeOffsets" in boxes.refused(config)


# ── user ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("config-linux.md#configLinuxUserNamespaceMappings")
def test_the_mappings_of_a_user_namespace(boxes: Boxes):
    config = with_namespaces(boxes, [*usual(), {"type": "user"}])
    config["linux"]["uidMappings"] = [
        {"containerID": 0, "hostID": 200_000, "size": 10},
        {"containerID": 10, "hostID": 300_000, "size": 5},
    ]
    config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 400_000, "size": 100}]
    config["process"]["args"] = ["/bin/probe", "ids", ",", "cat", "/proc/self/uid_map", "/proc/self/gid_map"]
    lines = [line.split() for line in boxes.output(config).splitlines()]
    assert lines[3:] == [["0", "200000", "10"], ["10", "300000", "5"], ["0", "400000", "100"]]
    assert lines[0] == ["uid", "0", "0", "0"]


@pytest.mark.spec("config-linux.md#configLinuxUserNamespaceMappings")
def test_mappings_leave_the_owners_of_files_alone(boxes: Boxes):
    config = with_namespaces(boxes, [*usual(), {"type": "user"}])
    config["process"]["args"] = ["/bin/probe", "stat", "/bin/busybox", "/etc/passwd"]
    bundle = boxes.bundle(config, copy=True)
    os.chown(bundle / "rootfs/etc/passwd", 100_007, 100_008)
    before = (bundle / "rootfs").stat()
    lines = boxes.run_bundle(bundle).stdout.splitlines()
    assert [line.split()[4] for line in lines] == ["65534:65534", "7:8"]
    assert (bundle / "rootfs/bin/busybox").stat().st_uid == 0
    assert (bundle / "rootfs").stat().st_uid == before.st_uid


@pytest.mark.spec("config-linux.md#configLinuxUserNamespaceMappings")
@pytest.mark.parametrize("key", ["uidMappings", "gidMappings"])
def test_a_user_namespace_without_mappings_is_an_error(boxes: Boxes, key):
    config = with_namespaces(boxes, [*usual(), {"type": "user"}])
    del config["linux"][key]
    assert key in boxes.refused(config)


@pytest.mark.spec("config-linux.md#configLinuxUserNamespaceMappings")
def test_a_whole_box_in_a_user_namespace(boxes: Boxes):
    entries = [{"type": kind} for kind in FILES]
    config = with_namespaces(boxes, entries)
    config["process"]["args"] = [
        "/bin/sh",
        "-c",
        "id -u; hostname; echo x > /dev/null; echo x > /dev/shm/x; cat /dev/shm/x",
    ]
    assert boxes.output(config).split() == ["0", "box", "x"]


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("config.md#configHostname", "config.md#configDomainname")
@pytest.mark.parametrize("user", [False, True])
def test_hostname_and_domainname(boxes: Boxes, user):
    config = with_namespaces(boxes, usual() + [{"type": "user"}] * user) | {
        "hostname": "name-1",
        "domainname": "example.org",
    }
    config["process"]["args"] = ["/bin/probe", "uname"]
    before = os.uname().nodename
    assert boxes.output(config) == "name-1 example.org\n"
    assert os.uname().nodename == before


@pytest.mark.spec("config.md#configHostname", "config.md#configDomainname")
def test_names_that_are_not_set_stay(boxes: Boxes):
    config = boxes.config("uname")
    del config["hostname"]
    assert boxes.output(config).split()[0] == os.uname().nodename


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("hostname", marks=pytest.mark.spec("config.md#configHostname")),
        pytest.param("domainname", marks=pytest.mark.spec("config.md#configDomainname")),
    ],
)
def test_a_name_would_not_be_given_to_the_host(boxes: Boxes, key):
    config = with_namespaces(boxes, usual("uts")) | {key: "renamed"}
    assert key in boxes.refused(config)
    assert os.uname().nodename != "renamed"


@pytest.mark.spec("config.md#configHostname")
def test_a_name_is_set_in_a_namespace_that_is_joined(boxes: Boxes):
    first = boxes.started(boxes.config("pause"))
    config = with_namespaces(boxes, usual(uts=f"/proc/{first.pid}/ns/uts")) | {"hostname": "joined"}
    config["process"]["args"] = ["/bin/probe", "uname"]
    assert boxes.output(config).split()[0] == "joined"


# ── sysctl, personality, memory policy ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("config-linux.md#configLinuxSysctl")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("net.ipv4.ip_forward", "1"),
        ("net.core.somaxconn", "256"),
        ("net/ipv4/ip_default_ttl", "77"),
        ("net.ipv4.conf.lo.forwarding", "1"),
        ("kernel.msgmax", "9000"),
        ("kernel.shmmni", "123"),
        ("fs.mqueue.msg_max", "11"),
        ("kernel.domainname", "by.sysctl"),
    ],
)
def test_sysctl(boxes: Boxes, key, value):
    path = Path("/proc/sys", key if "/" in key else key.replace(".", "/"))
    config = boxes.config("cat", str(path))
    config["linux"]["sysctl"] = {key: value}
    before = path.read_text()
    assert boxes.output(config) == f"{value}\n"
    assert path.read_text() == before


@pytest.mark.spec("config-linux.md#configLinuxSysctl")
@pytest.mark.parametrize(
    ("without", "key", "value"),
    [
        ((), "kernel.panic", "1"),
        ((), "vm.swappiness", "1"),
        ((), "fs.file-max", "1"),
        ((), "../kernel/panic", "1"),
        ((), "net.ipv4.no_such_key", "1"),
        ((), "net.core.somaxconn", "many"),
        (("network",), "net.core.somaxconn", "1"),
        (("ipc",), "kernel.msgmax", "9000"),
        (("uts",), "kernel.domainname", "x"),
    ],
)
def test_what_is_not_the_container_s_cannot_be_set(boxes: Boxes, without, key, value):
    config = with_namespaces(boxes, usual(*without))
    config["linux"]["sysctl"] = {key: value}
    before = Path("/proc/sys/kernel/panic").read_text()
    assert "/linux/sysctl" in boxes.refused(config)
    assert Path("/proc/sys/kernel/panic").read_text() == before


@pytest.mark.spec("config-linux.md#configLinuxPersonality")
@pytest.mark.parametrize(("domain", "seen"), [("LINUX", "0 x86_64"), ("LINUX32", "0x8 i686")])
def test_personality(boxes: Boxes, domain, seen):
    config = boxes.config("personality")
    config["linux"]["personality"] = {"domain": domain}
    if os.uname().machine != "x86_64":
        seen = seen.split()[0]
    assert boxes.output(config).strip().startswith(seen)


@pytest.mark.spec("config-linux.md#configLinuxPersonality")
@pytest.mark.parametrize("personality", [{"domain": "BSD"}, {}, {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}])
def test_wrong_personalities_are_errors(boxes: Boxes, personality):
    config = boxes.config()
    config["linux"]["personality"] = personality
    assert "/linux/personality" in boxes.refused(config)


@pytest.mark.spec("config-linux.md#configLinuxMemoryPolicy")
@pytest.mark.parametrize(
    ("policy", "seen"),
    [
        ({"mode": "MPOL_DEFAULT"}, "mode 0 flags 0 nodes 0"),
        ({"mode": "MPOL_DEFAULT", "nodes": ""}, "mode 0 flags 0 nodes 0"),
        ({"mode": "MPOL_BIND", "nodes": "0"}, "mode 2 flags 0 nodes 0x1"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "mode 3 flags 0 nodes 0x1"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "mode 1 flags 0 nodes 0x1"),
        ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0-0"}, "mode 5 flags 0 nodes 0x1"),
        ({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}, "mode 6 flags 0 nodes 0x1"),
        ({"mode": "MPOL_LOCAL"}, "mode 4 flags 0 nodes 0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "mode 2 flags 0x8000 nodes 0x1"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}, "mode 2 flags 0x4000 nodes 0x1"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}, "mode 2 flags 0x2000 nodes 0x1"),
    ],
)
def test_memory_policy(boxes: Boxes, policy, seen):
    config = boxes.config("mempolicy")
    config["linux"]["memoryPolicy"] = policy
    assert boxes.output(config) == f"{seen}\n"


@pytest.mark.spec("config-linux.md#configLinuxMemoryPolicy")
@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"mode": "MPOL_NONE"},
        {"mode": "MPOL_BIND", "nodes": "x"},
        {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NONE"]},
        {"mode": "MPOL_BIND", "nodes": "1000"},
        {"mode": "MPOL_BIND"},
        {"mode": "MPOL_DEFAULT", "nodes": "0"},
    ],
)
def test_wrong_memory_policies_are_errors(boxes: Boxes, policy):
    config = boxes.config("args", "ran")
    config["linux"]["memoryPolicy"] = policy
    result = boxes.run(config)
    assert result.status != 0
    assert result.stdout == ""
    assert "/linux/memoryPolicy" in result.stderr


def test_exec_enters_every_namespace(boxes: Boxes):
    box = boxes.started(with_namespaces(boxes, [{"type": kind} for kind in FILES]))
    names = [f"/proc/self/ns/{file}" for file in FILES.values()]
    links = [line.split()[-1] for line in box.exec("/bin/probe", "stat", *names).stdout.splitlines()]
    assert links == [link(box.pid, kind) for kind in FILES]
