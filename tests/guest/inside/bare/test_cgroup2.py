"""The command on a machine that has nothing but the v2 tree."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxwright.plan.cgroups_v2 import shares_to_weight
from fixtures_runtime import BundleFactory, Json, Runtime, default_config

pytestmark = pytest.mark.root

MIB = 1 << 20
TREE = Path("/sys/fs/cgroup")
GROUP = "/boxwright-guest/c1"
USER = 1000
ALLOW_ALL = {"allow": True, "access": "rwm"}
CGROUP_MOUNT = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}


def limited(*args: str, path: str = GROUP, cgroup_namespace: bool = True, **resources: object) -> Json:
    """A configuration with a place and limits."""
    config = default_config(*args or ("/bin/sleep", "60"))
    config["linux"]["cgroupsPath"] = path
    config["linux"]["resources"] |= resources
    if cgroup_namespace:
        config["linux"]["namespaces"].append({"type": "cgroup"})
    return config


def with_tree(config: Json, *options: str) -> Json:
    config["mounts"].append(CGROUP_MOUNT | {"options": ["nosuid", "noexec", "nodev", *options]})
    return config


def started(boxwright: Runtime, bundle: Path) -> int:
    boxwright.create("c1", bundle)
    boxwright.start("c1")
    pid = boxwright.state("c1")["pid"]
    assert isinstance(pid, int)
    return pid


def of(file: str, group: str = GROUP) -> str:
    return Path(f"{TREE}{group}/{file}").read_text().strip()


def root_disk() -> str:
    number = os.stat("/dev/nvme0n1").st_rdev
    return f"{os.major(number)}:{os.minor(number)}"


def joined(group: Path) -> list[str]:
    """The beginning of a command that runs in a group."""
    return ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Each test deletes what it made, and with that all groups are gone."""
    yield
    assert not (TREE / "boxwright-guest").exists()


def test_nothing_but_the_v2_tree_is_mounted() -> None:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    kinds = {line.split(" - ")[1].split()[0] for line in lines}
    assert "cgroup2" in kinds
    assert "cgroup" not in kinds


def test_all_limits_are_in_the_files(boxwright: Runtime, bundle: BundleFactory) -> None:
    major, minor = map(int, root_disk().split(":"))
    rate = {"major": major, "minor": minor}
    resources = {
        "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 64 * MIB},
        "cpu": {"shares": 512, "quota": 50000, "period": 200000, "burst": 1000, "cpus": "1", "mems": "0"},
        "pids": {"limit": 30},
        "blockIO": {
            "weight": 100,
            "throttleReadBpsDevice": [rate | {"rate": MIB}],
            "throttleWriteIOPSDevice": [rate | {"rate": 100}],
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
        "unified": {"memory.high": "50000000", "cgroup.max.depth": "3"},
    }
    started(boxwright, bundle(limited(**resources)))
    found = {
        "memory.max": str(64 * MIB),
        "memory.low": str(32 * MIB),
        "memory.swap.max": "0",
        "memory.high": str(50000000 // 4096 * 4096),
        "cpu.weight": str(shares_to_weight(512)),
        "cpu.max": "50000 200000",
        "cpu.max.burst": "1000",
        "cpuset.cpus": "1",
        "cpuset.mems": "0",
        "pids.max": "30",
        "io.max": f"{root_disk()} rbps={MIB} wbps=max riops=max wiops=100",
        "hugetlb.2MB.max": str(4 * MIB),
        "hugetlb.2MB.rsvd.max": str(4 * MIB),
        "cgroup.max.depth": "3",
    }
    assert {name: of(name) for name in found} == found
    assert "default 910" in of("io.weight")


def test_what_v2_cannot_do_is_refused_before_anything_is_made(boxwright: Runtime, bundle: BundleFactory) -> None:
    result = boxwright.create("c1", bundle(limited(memory={"limit": 64 * MIB, "swappiness": 10})), check=False)
    assert result.status != 0
    assert "swappiness" in result.stderr
    assert boxwright.ids() == []


def test_a_limit_that_the_kernel_refuses_leaves_no_group(boxwright: Runtime, bundle: BundleFactory) -> None:
    result = boxwright.create("c1", bundle(limited(cpu={"cpus": "77"})), check=False)
    assert result.status != 0
    assert "/linux/resources/cpu/cpus" in result.stderr
    assert boxwright.ids() == []


def test_the_container_sees_its_group_as_the_root(boxwright: Runtime, bundle: BundleFactory) -> None:
    """It enters while it is cloned, so its namespace begins at its own group."""
    config = with_tree(limited("/bin/sh", "-c", "cat /proc/self/cgroup; ls /sys/fs/cgroup; sleep 60"), "ro")
    pid = started(boxwright, bundle(config))
    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::{GROUP}\n"
    assert str(pid) in of("cgroup.procs").split()


def test_the_tree_in_the_container_is_its_own(boxwright: Runtime, bundle: BundleFactory) -> None:
    script = "cat /proc/self/cgroup /sys/fs/cgroup/pids.max; ! mkdir /sys/fs/cgroup/sub 2>/dev/null"
    result = boxwright.run("c1", bundle(with_tree(limited("/bin/sh", "-c", script, pids={"limit": 12}), "ro")))
    assert (result.status, result.stdout) == (0, "0::/\n12\n"), result


def test_without_a_namespace_the_mount_is_still_its_group(boxwright: Runtime, bundle: BundleFactory) -> None:
    config = limited("/bin/sh", "-c", "cat /sys/fs/cgroup/pids.max", cgroup_namespace=False, pids={"limit": 12})
    result = boxwright.run("c1", bundle(with_tree(config, "ro")))
    assert (result.status, result.stdout) == (0, "12\n"), result


@pytest.mark.spec("config-linux.md#cgroup-ownership")
def test_a_writable_tree_belongs_to_the_containers_user(boxwright: Runtime, bundle: BundleFactory) -> None:
    script = """
        set -e
        cd /sys/fs/cgroup
        mkdir inner
        echo $$ > inner/cgroup.procs
        echo +pids > cgroup.subtree_control
        echo 9 > inner/pids.max
        cat inner/pids.max
        ! echo 99 2>/dev/null > pids.max
        sleep 60
    """
    config = with_tree(limited("/bin/sh", "-c", script, pids={"limit": 12}), "rw")
    config["process"]["user"] = {"uid": USER, "gid": USER}
    path = bundle(config)
    boxwright.create("c1", path)
    delegated = Path("/sys/kernel/cgroup/delegate").read_text().split()
    there = [name for name in delegated if (TREE / GROUP[1:] / name).exists()]
    assert {"cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} <= set(there)
    owners = {name: os.stat(f"{TREE}{GROUP}/{name}").st_uid for name in (".", *there, "pids.max", "memory.max")}
    assert owners == {".": USER} | dict.fromkeys(there, USER) | {"pids.max": 0, "memory.max": 0}
    boxwright.start("c1")
    wait_for(lambda: (TREE / GROUP[1:] / "inner/pids.max").exists() and of("inner/pids.max") == "9")
    wait_for(lambda: not of("cgroup.procs"))
    # the group itself cannot take processes any more
    result = boxwright.exec("c1", "/bin/cat", "/proc/self/cgroup")
    assert (result.status, result.stdout) == (0, "0::/inner\n"), result


@pytest.mark.spec("config-linux.md#cgroup-ownership")
@pytest.mark.parametrize(("option", "cgroup_namespace"), [("ro", True), ("rw", False)])
def test_else_the_group_stays_ours(
    boxwright: Runtime, bundle: BundleFactory, option: str, cgroup_namespace: bool
) -> None:
    config = with_tree(limited(cgroup_namespace=cgroup_namespace), option)
    config["process"]["user"] = {"uid": USER, "gid": USER}
    boxwright.create("c1", bundle(config))
    assert os.stat(f"{TREE}{GROUP}").st_uid == 0
    assert os.stat(f"{TREE}{GROUP}/cgroup.procs").st_uid == 0


def test_a_pids_limit_stops_forks(boxwright: Runtime, bundle: BundleFactory) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; echo all"
    result = boxwright.run("c1", bundle(limited("/bin/sh", "-c", script, pids={"limit": 4})))
    assert result.status != 0
    assert "all" not in result.stdout


def test_running_out_of_memory_ends_the_container(boxwright: Runtime, bundle: BundleFactory) -> None:
    # tail keeps the whole of an endless line
    config = limited("/bin/sh", "-c", "tail /dev/zero", memory={"limit": 16 * MIB, "swap": 16 * MIB})
    boxwright.create("c1", bundle(config))
    boxwright.start("c1")
    boxwright.wait_stopped("c1")
    assert "oom_kill 0" not in of("memory.events")


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ([], "0 1 1"),
        ([{"allow": True, "type": "c", "major": 10, "minor": 237, "access": "r"}], "0 0 1"),
        ([{"allow": True, "type": "c", "major": 10, "access": "rwm"}], "0 0 0"),
        ([{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"}], "0 1 1"),
        ([ALLOW_ALL, {"allow": False, "type": "c", "major": 10, "minor": 237, "access": "w"}], "0 0 1"),
    ],
)
def test_devices_are_filtered(boxwright: Runtime, bundle: BundleFactory, rules: list[Json], found: str) -> None:
    """10:237 is loop-control, which is no default device: whether it can be made, read and written."""
    script = """
        mknod /dev/probe c 10 237; echo -n "$? "
        true 2>/dev/null < /dev/probe; echo -n "$? "
        true 2>/dev/null > /dev/probe; echo -n "$?"
        echo > /dev/null && head -c 1 /dev/zero > /dev/null || echo default
    """
    config = limited("/bin/sh", "-c", script)
    config["linux"]["resources"]["devices"] += rules
    for kind in config["process"]["capabilities"].values():
        kind.append("CAP_MKNOD")
    result = boxwright.run("c1", bundle(config))
    assert (result.status, result.stdout) == (0, found), result


def test_a_privileged_container_has_every_device(boxwright: Runtime, bundle: BundleFactory) -> None:
    config = limited("/bin/sh", "-c", "mknod /dev/probe b 259 0 && head -c 1 /dev/probe | wc -c")
    config["linux"]["resources"]["devices"] = [ALLOW_ALL]
    major, minor = root_disk().split(":")
    config["process"]["args"][2] = f"mknod /dev/probe b {major} {minor} && head -c 1 /dev/probe | wc -c"
    for kind in config["process"]["capabilities"].values():
        kind.append("CAP_MKNOD")
    result = boxwright.run("c1", bundle(config))
    assert (result.status, result.stdout) == (0, "1\n"), result


def test_a_paused_container_stands_still(boxwright: Runtime, bundle: BundleFactory) -> None:
    pid = started(boxwright, bundle(limited("/bin/sh", "-c", "while :; do :; done")))
    boxwright.call("pause", "c1")
    assert boxwright.state("c1")["status"] == "paused"
    assert of("cgroup.freeze") == "1"
    before = cpu_ticks(pid)
    assert boxwright.exec("c1", "/bin/true").status != 0
    assert cpu_ticks(pid) == before
    boxwright.call("resume", "c1")
    assert boxwright.state("c1")["status"] == "running"
    wait_for(lambda: cpu_ticks(pid) > before)
    boxwright.call("pause", "c1")
    boxwright.delete("c1", "--force")


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def wait_for(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_update_changes_the_files(boxwright: Runtime, bundle: BundleFactory) -> None:
    started(boxwright, bundle(limited(memory={"limit": 64 * MIB}, cpu={"shares": 512})))
    boxwright.call(
        "update", "--memory", "32m", "--memory-swap", "48m", "--cpu-share", "2048", "--cpu-quota", "20000",
        "--cpu-period", "50000", "--pids-limit", "7", "--cpuset-cpus", "0", "--blkio-weight", "500", "c1",
    )  # fmt: skip
    assert (of("memory.max"), of("memory.swap.max")) == (str(32 * MIB), str(16 * MIB))
    assert of("cpu.weight") == str(shares_to_weight(2048))
    assert of("cpu.max") == "20000 50000"
    assert (of("pids.max"), of("cpuset.cpus")) == ("7", "0")
    assert of("io.weight").splitlines()[0] == "default 4950"


def test_every_process_of_a_container_is_killed(boxwright: Runtime, bundle: BundleFactory) -> None:
    """Without a PID namespace the end of the first process is not the end of the others."""
    config = limited("/bin/sh", "-c", "setsid sleep 60 & setsid sleep 61 & sleep 62")
    config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "pid"]
    started(boxwright, bundle(config))
    wait_for(lambda: len(of("cgroup.procs").split()) == 3)
    boxwright.kill("c1", "KILL", "--all")
    wait_for(lambda: not of("cgroup.procs"))
    boxwright.wait_stopped("c1")
    boxwright.delete("c1")


def test_a_relative_path_is_beside_our_own_group(boxwright: Runtime, bundle: BundleFactory) -> None:
    """A group with processes in it cannot hand controllers down."""
    own = TREE / "boxwright-guest/own"
    own.mkdir(parents=True)
    placed = Runtime([*joined(own), *boxwright.command], boxwright.directory)
    placed.create("c1", bundle(limited(path="beside", pids={"limit": 5})))
    try:
        assert of("pids.max", "/boxwright-guest/beside") == "5"
    finally:
        placed.delete("c1", "--force")
        own.rmdir()
        own.parent.rmdir()


def test_a_user_limits_below_what_is_delegated_to_him(
    boxwright_command: str, bundle: BundleFactory, tmp_path: Path
) -> None:
    own = TREE / "boxwright-guest/user"
    (own / "session").mkdir(parents=True)
    (TREE / "cgroup.subtree_control").write_text("+pids +memory +cpu")
    (own.parent / "cgroup.subtree_control").write_text("+pids +memory +cpu")
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "session", "session/cgroup.procs"):
        os.chown(own / name, USER, USER)
    config = limited("/bin/sh", "-c", "cat /proc/self/cgroup; id -u; sleep 60", path="mine", pids={"limit": 9})
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": USER, "size": 1}]
    config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": USER, "size": 1}]
    path = bundle(config)
    for parent in (path, *path.parents[:-2]):
        parent.chmod(0o755)
    directory = tmp_path / "user"
    directory.mkdir()
    os.chown(directory, USER, USER)
    identity = ("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups")
    command = [*joined(own / "session"), *identity, boxwright_command]
    user = Runtime(command, directory)
    user.create("c1", path)
    user.start("c1")
    try:
        assert (own / "mine/pids.max").read_text() == "9\n"
        wait_for(lambda: "0\n" in (directory / "1.out").read_text())
        assert (directory / "1.out").read_text() == "0::/\n0\n"
        user.call("update", "--pids-limit", "11", "c1")
        assert (own / "mine/pids.max").read_text() == "11\n"
        user.call("pause", "c1")
        assert user.state("c1")["status"] == "paused"
    finally:
        user.delete("c1", "--force")
        assert not (own / "mine").exists()
        for group in (own / "session", own, own.parent):
            group.rmdir()
