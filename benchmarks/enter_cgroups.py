"""How long a process takes into its control groups: by its maker's write to cgroup.procs, and by itself.

    PYTHONPATH=src python3 benchmarks/enter_cgroups.py [rounds]

Needs root. Makes and removes groups of its own.
"""

import os
import sys
import time
from statistics import median

from boxwright.host import cgroups
from boxwright.host.cgroup_probe import inspect, probe
from boxwright.plan.cgroup_layout import CgroupPlacement
from boxwright.plan.cgroups import compile_create, place
from boxwright.plan.ops import MakeDirs, Write
from boxwright.spec.types import Config, DeviceCgroup, Linux, Resources


def make() -> CgroupPlacement:
    resources = Resources(devices=(DeviceCgroup(True),))
    config = Config("1.3.0", linux=Linux(cgroups_path=f"/boxwright-benchmark-{os.getpid()}", resources=resources))
    layout = probe()
    placement, site = inspect(config, layout, place(config, layout, "", "cgroupfs"))
    for step in compile_create(config, layout, placement, site):
        match step.op:
            case MakeDirs():
                os.makedirs(step.op.path, step.op.mode, exist_ok=True)
            case Write():
                cgroups.write(step.op.path, step.op.data.decode())
    return placement


def enter(placement: CgroupPlacement, by_itself: bool) -> float:
    """Milliseconds for all v1 groups of `placement`."""
    paths = [group.path for group in placement.groups if group.version == 1]
    asked, ask = os.pipe()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(asked, 1)
        os.write(tell, str(timed([f"{path}/tasks" for path in paths], 0) if by_itself else 0).encode())
        os.read(asked, 1)
        os._exit(0)
    outside = 0 if by_itself else timed([f"{path}/cgroup.procs" for path in paths], child)
    os.write(ask, b"x")
    inside = float(os.read(told, 99))
    os.write(ask, b"x")
    os.waitpid(child, 0)
    for descriptor in (asked, ask, told, tell):
        os.close(descriptor)
    return outside + inside


def timed(files: list[str], pid: int) -> float:
    begin = time.perf_counter()
    for file in files:
        cgroups.write(file, str(pid))
    return (time.perf_counter() - begin) * 1000


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    placement = make()
    try:
        for name, by_itself in (("cgroup.procs", False), ("tasks", True)):
            times = []
            for _ in range(rounds):
                time.sleep(0.1)  # a write just before leaves the kernel's lock in its slow state
                times.append(enter(placement, by_itself))
            print(f"{name}: median {median(times):.2f} ms, {min(times):.2f} to {max(times):.2f}")
    finally:
        cgroups.destroy(placement)


if __name__ == "__main__":
    main()
