"""python -m benchmarks.enter_cgroups: two ways for a process to get into its cgroup v1 groups, in milliseconds."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

from benchmarks.contenders import groups

ROUNDS = 30
REST_S = 0.05  # the kernel waits less for what it has just waited for


def main() -> None:
    if os.geteuid() != 0:
        sys.exit("lacks: root")
    places = [Path(place) / f"boxwright-bench-{os.getpid()}" for place in groups() if Path(place, "tasks").exists()]
    if not places:
        sys.exit("lacks: cgroup v1 hierarchies")
    for place in places:
        place.mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (place / name).exists():
                (place / name).write_text((place.parent / name).read_text())
    try:
        times: dict[str, list[float]] = {"a pid to cgroup.procs": [], "0 to tasks": []}
        for _ in range(ROUNDS):
            times["a pid to cgroup.procs"].append(_timed(lambda pid: _move(pid, places), None))
            times["0 to tasks"].append(_timed(None, lambda: _enter(places)))
        for name, taken in times.items():
            print(f"{name:24}median {median(taken):6.2f} ms   min {min(taken):6.2f} ms")
    finally:
        for place in places:
            place.rmdir()


def _timed(outside: Callable[[int], None] | None, inside: Callable[[], None] | None) -> float:
    """How long the move takes of a child that is moved from the outside, or moves itself."""
    sleep(REST_S)
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        start = perf_counter()
        if inside:
            inside()
        os.write(ready[1], f"{(perf_counter() - start) * 1000}".encode())
        os.read(go[0], 1)
        os._exit(0)
    took_ms = float(os.read(ready[0], 64))
    if outside:
        start = perf_counter()
        outside(pid)
        took_ms = (perf_counter() - start) * 1000
    os.write(go[1], b"x")
    os.waitpid(pid, 0)
    for end in (*ready, *go):
        os.close(end)
    return took_ms


def _move(pid: int, places: list[Path]) -> None:
    for place in places:
        (place / "cgroup.procs").write_text(str(pid))


def _enter(places: list[Path]) -> None:
    for place in places:
        (place / "tasks").write_text("0")


if __name__ == "__main__":
    main()
