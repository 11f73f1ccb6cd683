"""Control groups of this machine, under a parent of our own: made from compiled steps, frozen, killed, counted."""

import ctypes
import itertools
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from boxwright.errors import HostError
from boxwright.host import cgroups
from boxwright.host.cgroup_oom import oom_kills, watch_oom
from boxwright.host.cgroup_probe import inspect, probe
from boxwright.host.cgroup_stats import standing, statistics
from boxwright.plan.cgroup_devices import device_rules
from boxwright.plan.cgroup_layout import CgroupLayout, CgroupPlacement, CgroupSite, Hierarchy
from boxwright.plan.cgroups import compile_attach, compile_create, compile_enter, compile_update, place
from boxwright.plan.device_program import assemble
from boxwright.plan.ops import NO_SLOT
from boxwright.spec.decode import decode, decode_resources
from boxwright.spec.types import Config
from file_steps import FileSteps
from lacks import need

pytestmark = pytest.mark.root

_COUNT = itertools.count()
MIB = 1 << 20


def config(path: str, resources: dict[str, Any]) -> Config:
    linux = {"cgroupsPath": path, "resources": {"devices": [{"allow": True}], **resources}}
    return decode(json.dumps({"ociVersion": "1.3.0", "linux": linux}).encode())


class Box:
    """A container without walls: groups made by the steps of a plan, and processes in them."""

    def __init__(self, layout: CgroupLayout) -> None:
        self.layout = layout
        self.path = f"/boxwright-groups-{os.getpid()}/{next(_COUNT)}"
        self.steps = FileSteps()
        self.config = config(self.path, {})
        self.placement = CgroupPlacement("none")
        self.site = CgroupSite()
        self.children: list[subprocess.Popen[bytes]] = []

    def make(self, **resources: Any) -> None:
        self.config = config(self.path, resources)
        placement = place(self.config, self.layout, "box", "cgroupfs")
        self.placement, self.site = inspect(self.config, self.layout, placement)
        self.steps.perform(compile_create(self.config, self.layout, self.placement, self.site))

    def run(self, *argv: str) -> subprocess.Popen[bytes]:
        """A process that is in the groups before it is the program."""
        script = 'read _ && exec "$@" </dev/null'
        child = subprocess.Popen(["sh", "-c", script, "sh", *argv], stdin=subprocess.PIPE, start_new_session=True)
        self.children.append(child)
        self.steps.perform(compile_attach(self.config, self.layout, self.placement, self.site), child.pid)
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.close()
        return child

    def python(self, script: str) -> subprocess.Popen[bytes]:
        return self.run(sys.executable, "-I", "-S", "-c", script)

    def read(self, controller: str, file: str) -> str:
        group = self.placement.find(controller)
        assert group is not None
        return cgroups.read(f"{group.path}/{file}").strip()

    def close(self) -> None:
        cgroups.kill_all(self.placement)
        for child in self.children:
            child.kill()
            child.wait(5)
        cgroups.destroy(self.placement)


@pytest.fixture(scope="module")
def layout() -> CgroupLayout:
    found = probe()
    need("writable control groups", found.writable and not found.rootless)
    return found


@pytest.fixture
def box(layout: CgroupLayout) -> Iterator[Box]:
    made = Box(layout)
    yield made
    made.close()
    assert not [group.path for group in made.placement.groups if os.path.exists(group.path)]


@pytest.fixture
def v2_box(layout: CgroupLayout) -> Iterator[Box]:
    """A box whose only hierarchy is the v2 tree."""
    unified = layout.unified()
    need("a cgroup v2 tree", unified)
    made = Box(CgroupLayout("v2", tuple(h for h in layout.hierarchies if h.version == 2)))
    yield made
    made.close()


def v1(layout: CgroupLayout, *controllers: str) -> None:
    for name in controllers:
        found = [h for h in layout.hierarchies if name in h.controllers and h.version == 1]
        need(f"{name} on cgroup v1", found)


def until(done: Callable[[], object], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(done())


# --- probing ----------------------------------------------------------------------------------------------------


def test_the_probe_agrees_with_the_kernels_files(layout: CgroupLayout) -> None:
    mounted = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup" in line]
    assert {h.mountpoint for h in layout.hierarchies} <= {fields[4] for fields in mounted}
    for hierarchy in layout.hierarchies:
        pids = cgroups.read(f"{hierarchy.mountpoint}{hierarchy.own}/cgroup.procs").split()
        assert str(os.getpid()) in pids


def test_a_place_with_processes_is_not_fit(box: Box) -> None:
    box.make()
    box.run("sleep", "60")
    with pytest.raises(HostError, match="which has processes") as caught:
        inspect(box.config, box.layout, box.placement)
    assert caught.value.pointer == "/linux/cgroupsPath"


def test_a_frozen_place_is_not_fit(box: Box) -> None:
    box.make()
    cgroups.freeze(box.placement)
    with pytest.raises(HostError, match="which is frozen"):
        inspect(box.config, box.layout, box.placement)
    inner = place(config(f"{box.path}/inner", {}), box.layout, "box", "cgroupfs")
    with pytest.raises(HostError, match="which is frozen"):
        inspect(box.config, box.layout, inner)
    cgroups.thaw(box.placement)
    inspect(box.config, box.layout, box.placement)


# --- limits -----------------------------------------------------------------------------------------------------


def test_limits_are_in_force(box: Box) -> None:
    v1(box.layout, "memory", "cpu", "cpuset", "pids")
    box.make(
        memory={"limit": 64 * MIB, "swap": 128 * MIB, "reservation": 32 * MIB, "disableOOMKiller": False},
        cpu={"shares": 512, "quota": 50000, "period": 100000, "burst": 10000, "cpus": "0", "mems": "0"},
        pids={"limit": 20},
    )
    assert box.read("memory", "memory.limit_in_bytes") == str(64 * MIB)
    assert box.read("memory", "memory.memsw.limit_in_bytes") == str(128 * MIB)
    assert box.read("memory", "memory.soft_limit_in_bytes") == str(32 * MIB)
    assert box.read("cpu", "cpu.shares") == "512"
    assert box.read("cpu", "cpu.cfs_quota_us") == "50000"
    assert box.read("cpu", "cpu.cfs_burst_us") == "10000"
    assert box.read("cpuset", "cpuset.cpus") == "0"
    assert box.read("pids", "pids.max") == "20"
    found = standing(box.placement)
    assert (found.memory_limit, found.memory_swap) == (64 * MIB, 128 * MIB)
    assert (found.cpu_quota, found.cpu_period, found.cpu_burst) == (50000, 100000, 10000)
    assert box.steps.warnings == []


def test_limits_are_updated_up_and_down(box: Box) -> None:
    v1(box.layout, "memory", "cpu")
    box.make(memory={"limit": 64 * MIB, "swap": 64 * MIB}, cpu={"quota": 50000, "period": 100000, "burst": 40000})
    for limit, quota, period, burst in ((128, 90000, 200000, 80000), (32, 5000, 10000, 1000), (96, 70000, 70000, 0)):
        asked = {
            "memory": {"limit": limit * MIB, "swap": limit * MIB},
            "cpu": {"quota": quota, "period": period, "burst": burst},
        }
        resources = decode_resources(json.dumps(asked).encode())
        site = box.site.replace(standing=standing(box.placement))
        box.steps.perform(compile_update(resources, box.placement, site))
        found = standing(box.placement)
        assert (found.memory_limit, found.memory_swap) == (limit * MIB, limit * MIB)
        assert (found.cpu_quota, found.cpu_period, found.cpu_burst) == (quota, period, burst)


def test_v2_limits_are_in_force(v2_box: Box) -> None:
    unified = v2_box.layout.unified()
    need("hugetlb on cgroup v2", unified and "hugetlb" in unified.controllers)
    v2_box.make(hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}], unified={"cgroup.max.depth": "7"})
    assert v2_box.read("hugetlb", "hugetlb.2MB.max") == str(4 * MIB)
    assert v2_box.read("hugetlb", "hugetlb.2MB.rsvd.max") == str(4 * MIB)
    assert v2_box.read("hugetlb", "cgroup.max.depth") == "7"


def test_a_size_of_pages_that_the_kernel_does_not_have_is_an_error(v2_box: Box) -> None:
    unified = v2_box.layout.unified()
    need("hugetlb on cgroup v2", unified and "hugetlb" in unified.controllers)
    with pytest.raises(FileNotFoundError):
        v2_box.make(hugepageLimits=[{"pageSize": "3MB", "limit": 1}])


def test_devices_are_denied_by_the_kernel(box: Box) -> None:
    v1(box.layout, "devices")
    box.config = config(box.path, {"devices": [{"allow": False}]})
    box.make(devices=[{"allow": False}, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}])
    listed = box.read("devices", "devices.list").splitlines()
    assert "c 1:3 rwm" in listed
    assert "c 1:11 r" in listed
    assert "c *:* m" in listed
    assert box.python(OPENS).wait(10) == 7


def test_devices_of_v2_are_denied_by_the_program(v2_box: Box) -> None:
    v2_box.make()
    group = v2_box.placement.unified()
    assert group is not None
    entries = [{"allow": False}, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}]
    for denied, status in ((True, 7), (False, 0)):
        rules = entries if denied else [*entries, {"allow": True, "type": "c", "major": 1, "minor": 1}]
        wanted = config(v2_box.path, {"devices": rules}).linux
        assert wanted is not None
        with attached(assemble(device_rules(wanted.resources)), group.path):
            assert v2_box.python(OPENS).wait(10) == status


class _BpfLoad(ctypes.Structure):
    """union bpf_attr of BPF_PROG_LOAD, as far as it is needed."""

    _fields_: ClassVar = [
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
    ]


def bpf(command: int, attribute: Any, size: int) -> int:
    need("bpf(2) by number", os.uname().machine == "x86_64")
    return int(ctypes.CDLL(None, use_errno=True).syscall(321, command, attribute, size))


@contextmanager
def attached(program: bytes, path: str) -> Iterator[None]:
    """`program` filters the devices of the v2 group at `path`."""
    log, text, code = (ctypes.create_string_buffer(found) for found in (b"\0" * 65536, b"GPL", program))
    load = _BpfLoad(15, len(program) // 8, *map(ctypes.addressof, (code, text)), 1, 65536, ctypes.addressof(log))
    loaded = bpf(5, ctypes.byref(load), ctypes.sizeof(load))
    assert loaded >= 0, log.value.decode()
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    attach = struct.pack("<IIII", directory, loaded, 6, 2)
    try:
        assert bpf(8, attach, len(attach)) == 0
        yield
        detach = struct.pack("<IIII", directory, loaded, 6, 0)
        assert bpf(9, detach, len(detach)) == 0
    finally:
        os.close(directory)
        os.close(loaded)


# a node with the number of /dev/mem, which nobody opens but the child; a kernel without that driver says ENXIO, but
# only to who may open it
OPENS = """
import errno, os, stat, tempfile
with tempfile.TemporaryDirectory() as where:
    path = where + "/mem"
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 1))
    os.close(os.open("/dev/null", os.O_RDWR))
    try:
        os.open(path, os.O_RDONLY)
    except OSError as error:
        assert error.errno in {errno.EPERM, errno.ENXIO}, error
        raise SystemExit(7 if error.errno == errno.EPERM else 0)
"""


def test_a_pids_limit_stops_a_fork_bomb(box: Box) -> None:
    v1(box.layout, "pids")
    box.make(pids={"limit": 10})
    script = "import os\nwhile True:\n try: os.fork()\n except BlockingIOError: pass"
    box.python(script)
    assert until(lambda: box.read("pids", "pids.current") == "10")
    cgroups.kill_all(box.placement)
    assert cgroups.pids(box.placement) == []


# --- entering ---------------------------------------------------------------------------------------------------


def test_a_process_enters_by_itself(box: Box) -> None:
    box.make()
    entry = compile_enter(box.placement, 3)
    box.steps.perform(entry.opens)
    child = os.fork()
    if child == 0:
        box.steps.perform(entry.enters)
        signal.pause()
    try:
        wanted = {group.path for group in box.placement.groups if group.version == 1}
        assert until(lambda: wanted == {path for path in wanted if str(child) in cgroups.read(f"{path}/cgroup.procs")})
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for descriptor in box.steps.slots.values():
            os.close(descriptor)
    assert (entry.clone_slot == NO_SLOT) == (box.layout.unified() is None)


def test_exec_goes_to_a_group_below(box: Box) -> None:
    box.make()
    for group in box.placement.groups:
        os.mkdir(f"{group.path}/inner")
    found = cgroups.placement_for_exec(box.placement, os.getpid(), ("inner",))
    assert [group.path for group in found.groups] == [f"{group.path}/inner" for group in box.placement.groups]
    one = box.placement.groups[0].controllers[0] or "unified"
    if box.placement.groups[0].version == 1:
        found = cgroups.placement_for_exec(box.placement, os.getpid(), (f"{one}:/inner",))
        moved = [group.path.endswith("/inner") for group in found.groups]
        assert moved == [True, *[False] * (len(moved) - 1)]


@pytest.mark.parametrize("text", ["../x", "inner/../..", "cpu:../..", "missing"])
def test_exec_stays_in_the_containers_groups(box: Box, text: str) -> None:
    box.make()
    with pytest.raises(HostError, match="join cgroup"):
        cgroups.placement_for_exec(box.placement, os.getpid(), (text,))


def test_exec_goes_where_v2_lets_processes_be(v2_box: Box) -> None:
    unified = v2_box.layout.unified()
    need("hugetlb on cgroup v2", unified and "hugetlb" in unified.controllers)
    v2_box.make()
    (group,) = v2_box.placement.groups
    child = v2_box.run("sleep", "60")
    assert cgroups.placement_for_exec(v2_box.placement, child.pid) == v2_box.placement
    os.mkdir(f"{group.path}/inner")
    cgroups.write(f"{group.path}/inner/cgroup.procs", str(child.pid))
    cgroups.write(f"{group.path}/cgroup.subtree_control", "+hugetlb")
    found = cgroups.placement_for_exec(v2_box.placement, child.pid)
    assert [found.path for found in found.groups] == [f"{group.path}/inner"]


def test_a_user_finds_what_is_delegated_to_him(v2_box: Box) -> None:
    v2_box.make()
    (group,) = v2_box.placement.groups
    os.mkdir(f"{group.path}/own")
    for path in (group.path, f"{group.path}/cgroup.procs", f"{group.path}/own", f"{group.path}/own/cgroup.procs"):
        os.chown(path, 54321, 54321)
    answer, say = os.pipe()
    child = os.fork()
    if child == 0:
        cgroups.write(f"{group.path}/own/cgroup.procs", "0")
        os.setresgid(54321, 54321, 54321)
        os.setresuid(54321, 54321, 54321)
        found = probe()
        placement = place(config("inner", {}), found, "box", "cgroupfs")
        os.write(say, json.dumps([found.rootless, found.delegated, placement.to_json()]).encode())
        os._exit(0)
    os.close(say)
    rootless, delegated, placement = json.loads(os.read(answer, 4096))
    os.close(answer)
    os.waitpid(child, 0)
    assert rootless
    assert delegated == v2_box.path
    (placed,) = CgroupPlacement.from_json(placement).groups
    assert placed.path == f"{group.path}/inner"


# --- freezing and killing ---------------------------------------------------------------------------------------


def ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize("which", ["box", "v2_box"])
def test_a_frozen_container_does_not_run(request: pytest.FixtureRequest, which: str) -> None:
    box: Box = request.getfixturevalue(which)
    box.make()
    child = box.python("while True: pass")
    assert until(lambda: ticks(child.pid) > 0)
    assert not cgroups.is_frozen(box.placement)
    cgroups.freeze(box.placement)
    assert cgroups.is_frozen(box.placement)
    before = ticks(child.pid)
    time.sleep(0.05)
    assert ticks(child.pid) == before
    cgroups.freeze(box.placement)
    cgroups.thaw(box.placement)
    assert not cgroups.is_frozen(box.placement)
    assert until(lambda: ticks(child.pid) > before)


FORK_LOOP = """
import os, time
end = time.monotonic() + 30
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
"""


@pytest.mark.parametrize("which", ["box", "v2_box"])
def test_processes_that_fork_away_are_killed(request: pytest.FixtureRequest, which: str) -> None:
    box: Box = request.getfixturevalue(which)
    box.make()
    for _ in range(3):
        box.python(FORK_LOOP).wait(5)  # its heir goes on
    assert until(lambda: cgroups.pids(box.placement))
    cgroups.kill_all(box.placement)
    time.sleep(0.02)
    assert cgroups.pids(box.placement) == []


def test_v1_alone_kills_what_forks_away(box: Box) -> None:
    v1(box.layout, "freezer")
    only = tuple(h for h in box.layout.hierarchies if h.controllers == ("freezer",))
    box.layout = CgroupLayout("v1", only)
    box.make()
    for _ in range(3):
        box.python(FORK_LOOP).wait(5)
    cgroups.kill_all(box.placement)
    time.sleep(0.02)
    assert cgroups.pids(box.placement) == []
    assert not cgroups.is_frozen(box.placement)


def test_a_frozen_container_is_killed(box: Box) -> None:
    box.make()
    child = box.run("sleep", "60")
    cgroups.freeze(box.placement)
    cgroups.kill_all(box.placement)
    assert child.wait(5) == -signal.SIGKILL


def test_processes_of_groups_below_are_killed(box: Box) -> None:
    box.make()
    child = box.run("sleep", "60")
    for group in box.placement.groups:
        os.mkdir(f"{group.path}/inner")
        if "cpuset" in group.controllers and group.version == 1:
            for file in ("cpuset.cpus", "cpuset.mems"):
                cgroups.write(f"{group.path}/inner/{file}", cgroups.read(f"{group.path}/{file}"))
        cgroups.write(f"{group.path}/inner/cgroup.procs", str(child.pid))
    assert cgroups.pids(box.placement, recursive=False) == []
    assert cgroups.pids(box.placement) == [child.pid]
    cgroups.kill_all(box.placement)
    assert child.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize("frozen", [False, True])
def test_another_signal_leaves_the_freezer_as_it_was(box: Box, frozen: bool) -> None:
    box.make()
    child = box.run("sleep", "60")
    if frozen:
        cgroups.freeze(box.placement)
    cgroups.kill_all(box.placement, signal.SIGTERM)
    assert cgroups.is_frozen(box.placement) == frozen
    if frozen:
        assert child.poll() is None
        cgroups.thaw(box.placement)
    assert child.wait(5) == -signal.SIGTERM


def test_what_is_gone_is_no_error(box: Box) -> None:
    box.make()
    cgroups.destroy(box.placement)
    cgroups.destroy(box.placement)
    cgroups.kill_all(box.placement)
    assert cgroups.pids(box.placement) == []
    assert not cgroups.is_frozen(box.placement)
    assert oom_kills(box.placement) == 0


# --- removing ---------------------------------------------------------------------------------------------------


def test_what_was_there_before_stays(layout: CgroupLayout) -> None:
    outer, inner = Box(layout), Box(layout)
    inner.path = f"{outer.path}/inner"
    outer.make()
    try:
        inner.make()
        os.mkdir(f"{inner.placement.groups[0].path}/deeper")
        cgroups.destroy(inner.placement)
        again, _ = inspect(outer.config, layout, outer.placement)
        cgroups.destroy(again)
        assert all(os.path.isdir(group.path) for group in outer.placement.groups)
        assert os.listdir(outer.placement.groups[0].path)
        assert not os.path.exists(inner.placement.groups[0].path)
    finally:
        outer.close()
    assert not os.path.exists(outer.placement.groups[0].path)


def test_a_group_with_processes_is_not_removed(box: Box) -> None:
    box.make()
    box.run("sleep", "60")
    with pytest.raises(HostError, match="remove cgroup"):
        cgroups.destroy(box.placement, 0.002)


# --- counting ---------------------------------------------------------------------------------------------------


def test_statistics_of_a_running_container(box: Box) -> None:
    v1(box.layout, "memory", "cpu", "cpuacct", "pids")
    box.make(memory={"limit": 64 * MIB}, cpu={"quota": 10000, "period": 100000}, pids={"limit": 9})
    child = box.python("x = bytearray(8 << 20)\nwhile True: pass")
    assert until(lambda: statistics(box.placement)["cpu"]["throttling"].get("throttledPeriods"))
    assert until(lambda: statistics(box.placement)["memory"]["usage"].get("usage", 0) > 8 * MIB)
    found = statistics(box.placement)
    assert found["cpu"]["usage"]["total"] > 0
    assert found["cpu"]["usage"]["total"] == pytest.approx(sum(found["cpu"]["usage"]["percpu"]), rel=0.5)
    assert found["memory"]["usage"]["limit"] == 64 * MIB
    assert 8 * MIB < found["memory"]["usage"]["usage"] <= found["memory"]["usage"]["max"] <= 64 * MIB
    assert found["memory"]["raw"]["rss"] > 0
    assert found["pids"] == {"current": 1, "limit": 9}
    assert found["cpuset"]["cpus"]
    assert json.loads(json.dumps(found)) == found
    child.kill()


def test_statistics_of_v2(v2_box: Box) -> None:
    v2_box.make()
    v2_box.python("while True: pass")
    assert until(lambda: statistics(v2_box.placement)["cpu"]["usage"].get("total"))
    found = statistics(v2_box.placement)
    assert found["cpu"]["usage"]["user"] + found["cpu"]["usage"]["kernel"] > 0
    assert set(found["cpu"]["psi"]["some"]) == {"avg10", "avg60", "avg300", "total"}


EATER = "import time\nfound = []\nwhile True: found.append(bytearray(1 << 20))"


def test_running_out_of_memory_is_seen_and_counted(box: Box) -> None:
    need(
        "a memory controller", box.layout.hierarchies and any("memory" in h.controllers for h in box.layout.hierarchies)
    )
    box.make(memory={"limit": 16 * MIB, "swap": 16 * MIB})
    assert oom_kills(box.placement) == 0
    with watch_oom(box.placement) as watch:
        assert not watch.wait(0)
        child = box.python(EATER)
        assert watch.wait(10)
        assert child.wait(10) == -signal.SIGKILL
        assert until(lambda: oom_kills(box.placement) == 1)
        assert watch.take() == 1
        assert watch.take() == 0
        assert not watch.wait(0)


def test_the_watch_wakes_when_the_group_goes(box: Box) -> None:
    v1(box.layout, "memory")
    box.make()
    with watch_oom(box.placement) as watch:
        cgroups.destroy(box.placement)
        assert watch.wait(5)
        assert watch.take() == 0


def test_without_a_memory_group_there_is_nothing_to_watch() -> None:
    empty = CgroupPlacement("cgroupfs")
    assert oom_kills(empty) == 0
    with pytest.raises(HostError):
        watch_oom(empty)


def test_the_weight_file_is_found_without_leaving_a_group(layout: CgroupLayout) -> None:
    blkio: list[Hierarchy] = [h for h in layout.hierarchies if "blkio" in h.controllers]
    need("blkio on cgroup v1", blkio)
    from boxwright.host.cgroup_files import files_like, io_weight_file

    before = set(os.listdir(blkio[0].mountpoint))
    placement = place(config(f"/boxwright-groups-{os.getpid()}/w", {}), layout, "box", "cgroupfs")
    group = placement.find("blkio")
    assert group is not None
    files = files_like(group, "blkio.")
    assert "blkio.throttle.read_bps_device" in files
    found = io_weight_file(placement)
    assert found in files if found else not files & {"blkio.weight", "blkio.bfq.weight"}
    assert set(os.listdir(blkio[0].mountpoint)) == before
