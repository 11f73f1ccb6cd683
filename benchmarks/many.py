"""Many containers at once: how long until all run, what each holds in memory, what is left when they are gone."""

import json
import os
import subprocess
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.contenders import COMMAND, FailureError, groups

AT_ONCE = 8  # commands under way at a time: an engine does not wait for one before it starts the next


def many(bundle: Path, state: Path, count: int) -> dict[str, Any]:
    """Start `count` containers that sleep, weigh them, and delete them."""
    names = [f"many-{number}" for number in range(count)]
    command = [str(COMMAND), "--root", str(state)]
    started_s = _all([[*command, "run", "--detach", "--bundle", str(bundle), name] for name in names])
    inits = _pids(command, names)
    extra = len(_processes(state) - set(inits))
    memory = sum(_pss_kib(pid) for pid in inits)
    deleted_s = _all([[*command, "delete", "--force", name] for name in names])
    return {
        "containers": count,
        "started_s": started_s,
        "deleted_s": deleted_s,
        "pss_kib_each": memory / count,
        "processes_beside_the_programs": extra,
        "left": _left(state, names) + sorted(map(str, _processes(state))),
    }


def _all(commands: list[list[str]]) -> float:
    """Run all, some at a time; seconds."""
    start = perf_counter()
    waiting, running = commands[::-1], {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            argv = waiting.pop()
            null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
            running[os.posix_spawn(argv[0], argv, os.environ, file_actions=null)] = argv
        pid, status = os.wait()
        argv = running.pop(pid, None)
        if argv and status:
            raise FailureError(f"{' '.join(argv)}: wait status {status:#x}")
    return perf_counter() - start


def _pids(command: list[str], names: list[str]) -> list[int]:
    listed = subprocess.run([*command, "list", "--quiet"], check=True, capture_output=True, text=True).stdout.split()
    if missing := set(names) - set(listed):
        raise FailureError(f"not listed: {sorted(missing)}")
    texts = (subprocess.check_output([*command, "state", name], text=True) for name in names)
    return [int(json.loads(text)["pid"]) for text in texts]


def _processes(state: Path) -> set[int]:
    """What belongs to the containers: processes in their groups, and commands that name their state."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words, where = (Path("/proc", name, file).read_bytes() for file in ("cmdline", "cgroup"))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.fsencode(state) in words or b"/many-" in where:
            found.add(int(name))
    return found


def _pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise FailureError(f"no Pss of {pid}")


def _left(state: Path, names: list[str]) -> list[str]:
    """State directories and cgroups of the containers that are still there."""
    places = [state, *map(Path, groups())]
    return [str(place / name) for place in places for name in names if (place / name).exists()]
