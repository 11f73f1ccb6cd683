"""`--systemd-cgroup`: the container's groups are those of a transient scope."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxwright.plan.cgroups_v2 import shares_to_weight
from fixtures_runtime import BundleFactory, Json, Runtime, default_config, wait_gone

pytestmark = pytest.mark.root

MIB = 1 << 20
TREE = Path("/sys/fs/cgroup")
SLICE = "boxwright-guest.slice"
UNIT = "box-c1.scope"
GROUP = f"/boxwright.slice/{SLICE}/{UNIT}"
LIMITS: Json = {
    "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "1", "mems": "0"},
    "pids": {"limit": 30},
}


def limited(*args: str, path: str = f"{SLICE}:box:c1", **resources: object) -> Json:
    config = default_config(*args or ("/bin/sleep", "300"))
    config["linux"] |= {"cgroupsPath": path}
    config["linux"]["resources"] |= resources
    config["linux"]["namespaces"].append({"type": "cgroup"})
    return config


def shown(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit."""
    argv = ["systemctl", "show", *(f"--property={name}" for name in names), unit]
    lines = subprocess.check_output(argv, text=True).splitlines()
    return {line.partition("=")[0]: line.partition("=")[2] for line in lines}


def active(unit: str) -> str:
    return shown(unit, "ActiveState")["ActiveState"]


def of(file: str, group: str = GROUP) -> str:
    return Path(f"{TREE}{group}/{file}").read_text().strip()


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def driver(boxwright: Runtime) -> Iterator[Runtime]:
    """The command with the systemd driver; at the end no scope of a container is left."""
    made = Runtime([*boxwright.command, "--systemd-cgroup"], boxwright.directory)
    yield made
    made.close()
    listed = subprocess.check_output(["systemctl", "list-units", "--all", "--plain", "--no-legend"], text=True)
    units = [line.split()[0] for line in listed.splitlines()]
    subprocess.run(["systemctl", "stop", "boxwright.slice"], check=True)
    assert not [unit for unit in units if unit.endswith(("c1.scope", "c2.scope"))]


def start(driver: Runtime, bundle: Path) -> int:
    driver.create("c1", bundle)
    driver.start("c1")
    pid = driver.state("c1")["pid"]
    assert isinstance(pid, int)
    return pid


def test_a_container_lives_in_a_scope(driver: Runtime, bundle: BundleFactory) -> None:
    pid = start(driver, bundle(limited(**LIMITS)))
    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::{GROUP}\n"
    wanted = {
        "ActiveState": "active",
        "Slice": SLICE,
        "ControlGroup": GROUP,
        "Delegate": "yes",
        "Transient": "yes",
        "TasksMax": "30",
        "MemoryMax": str(64 * MIB),
        "MemoryLow": str(32 * MIB),
        "MemorySwapMax": str(32 * MIB),
        "CPUWeight": str(shares_to_weight(512)),
        "CPUQuotaPerSecUSec": "500ms",
        "AllowedCPUs": "1",
        "AllowedMemoryNodes": "0",
    }
    assert shown(UNIT, *wanted) == wanted
    assert (of("memory.max"), of("pids.max"), of("cpu.max")) == (str(64 * MIB), "30", "50000 100000")
    assert (of("memory.swap.max"), of("cpuset.cpus")) == (str(32 * MIB), "1")
    driver.kill("c1")
    driver.wait_stopped("c1")
    driver.delete("c1")
    assert active(UNIT) == "inactive"
    assert not Path(f"{TREE}{GROUP}").exists()


def test_without_a_path_it_is_in_the_system_slice(driver: Runtime, bundle: BundleFactory) -> None:
    config = limited(pids={"limit": 9})
    del config["linux"]["cgroupsPath"]
    start(driver, bundle(config))
    assert of("pids.max", "/system.slice/boxwright-c1.scope") == "9"
    driver.delete("c1", "--force")
    assert active("boxwright-c1.scope") == "inactive"


def test_the_status_of_a_run_is_the_programs(driver: Runtime, bundle: BundleFactory) -> None:
    result = driver.run("c1", bundle(limited("/bin/sh", "-c", "cat /proc/self/cgroup; exit 7")))
    assert (result.status, result.stdout) == (7, "0::/\n"), result
    assert active(UNIT) == "inactive"


def test_a_further_process_is_in_the_scope_too(driver: Runtime, bundle: BundleFactory, tmp_path: Path) -> None:
    start(driver, bundle(limited(pids={"limit": 30})))
    result = driver.exec("c1", "/bin/cat", "/proc/self/cgroup")
    assert (result.status, result.stdout) == (0, "0::/\n"), result
    driver.call("exec", "--detach", "--pid-file", tmp_path / "pid", "c1", "/bin/sleep", "300")
    assert len(of("cgroup.procs").split()) == 2
    assert len(json.loads(driver.call("ps", "--format", "json", "c1").stdout)) == 2
    driver.kill("c1", "KILL", "--all")
    # the kernel keeps the first process of a PID namespace until its last one is reaped, which is our child
    wait_gone(int((tmp_path / "pid").read_text()))


def test_updated_limits_outlive_a_reload(driver: Runtime, bundle: BundleFactory) -> None:
    start(driver, bundle(limited(**LIMITS)))
    driver.call(
        *("update", "--memory", "32m", "--memory-swap", "32m", "--pids-limit", "11", "--cpu-share", "2048"),
        *("--cpu-quota", "20000", "--cpuset-cpus", "0", "c1"),
    )
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    # a change of one value makes the manager write all of them again
    subprocess.run(["systemctl", "set-property", "--runtime", UNIT, "IOWeight=200"], check=True)
    assert (of("memory.max"), of("memory.swap.max"), of("pids.max")) == (str(32 * MIB), "0", "11")
    assert (of("cpu.weight"), of("cpu.max")) == (str(shares_to_weight(2048)), "20000 100000")
    assert of("cpuset.cpus") == "0"
    assert shown(UNIT, "MemoryMax", "TasksMax") == {"MemoryMax": str(32 * MIB), "TasksMax": "11"}


def test_devices_stay_filtered_after_a_reload(driver: Runtime, bundle: BundleFactory) -> None:
    config = limited()
    for kind in config["process"]["capabilities"].values():
        kind.append("CAP_MKNOD")
    start(driver, bundle(config))
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    script = "mknod /dev/probe c 10 237 && ! true 2>/dev/null < /dev/probe && head -c 1 /dev/zero > /dev/null"
    result = driver.exec("c1", "/bin/sh", "-c", script)
    assert result.status == 0, result


def test_a_paused_container_is_resumed_and_deleted(driver: Runtime, bundle: BundleFactory) -> None:
    start(driver, bundle(limited()))
    driver.call("pause", "c1")
    assert driver.state("c1")["status"] == "paused"
    assert of("cgroup.freeze") == "1"
    driver.call("resume", "c1")
    assert driver.state("c1")["status"] == "running"
    driver.call("pause", "c1")
    driver.delete("c1", "--force")
    assert active(UNIT) == "inactive"


def test_a_stop_of_the_scope_ends_the_container(driver: Runtime, bundle: BundleFactory) -> None:
    start(driver, bundle(limited("/bin/sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")))
    subprocess.run(["systemctl", "stop", UNIT], check=True)
    driver.wait_stopped("c1")
    driver.delete("c1")


def test_a_create_that_fails_leaves_no_scope(driver: Runtime, bundle: BundleFactory) -> None:
    config = limited()
    config["mounts"].append({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["wrong=1"]})
    assert driver.create("c1", bundle(config), check=False).status != 0
    assert driver.ids() == []
    assert active(UNIT) == "inactive"


def test_a_scope_that_runs_is_not_taken_over(driver: Runtime, bundle: BundleFactory) -> None:
    start(driver, bundle(limited()))
    result = driver.create("c2", bundle(limited()), check=False)
    assert result.status != 0
    assert driver.ids() == ["c1"]
    assert driver.state("c1")["status"] == "running"
    assert active(UNIT) == "active"


def test_a_slice_that_was_there_stays(driver: Runtime, bundle: BundleFactory) -> None:
    name, group = "boxwright-other.slice", "/boxwright.slice/boxwright-other.slice"
    subprocess.run(["systemctl", "start", name], check=True)
    pid = start(driver, bundle(limited(path=f"boxwright.slice::{name}", pids={"limit": 9})))
    assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::{group}\n"
    assert of("pids.max", group) == "9"
    driver.delete("c1", "--force")
    assert active(name) == "active"


@pytest.mark.spec("config-linux.md#cgroup-ownership")
def test_the_scope_is_the_containers_to_divide(driver: Runtime, bundle: BundleFactory) -> None:
    script = "set -e; cd /sys/fs/cgroup; mkdir inner; echo 0 > inner/cgroup.procs; echo +pids > cgroup.subtree_control"
    config = limited("/bin/sh", "-c", f"{script}; while :; do sleep 1; done", pids={"limit": 9})
    config["process"]["user"] = {"uid": 1000, "gid": 1000}
    options = ["nosuid", "noexec", "nodev", "rw"]
    config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options})
    start(driver, bundle(config))
    wait_for(lambda: of("cgroup.subtree_control") == "pids")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert of("cgroup.subtree_control") == "pids"
    result = driver.exec("c1", "/bin/cat", "/proc/self/cgroup")
    assert (result.status, result.stdout) == (0, "0::/inner\n"), result


def test_a_path_of_another_form_is_refused(driver: Runtime, bundle: BundleFactory) -> None:
    result = driver.create("c1", bundle(limited(path="/a/b")), check=False)
    assert result.status != 0
    assert "slice:prefix:name" in result.stderr
    assert driver.ids() == []
