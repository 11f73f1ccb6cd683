"""The machine is as it was before: what the tests, or the runtime under them, left behind is found at the end.

The tests' process is the subreaper of all that they start, so a process that outlives its test is a child of ours,
whoever orphaned it; other people's processes are not looked at.
"""

import ctypes
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processes import command_of, descendants

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
SETTLE_SECONDS = 3.0
OURSELVES = os.getpid()

# as runtimes, engines and Python's tempfile name them; others work in /tmp too
OUR_GROUPS = r"/(box|bw-|c\d|cli-|conmon|crun|default|libpod|system-|test)"
OUR_TEMPORARIES = r"tmp|.*(boxwright|runc|crun|container|podman|bundle)"

Snapshot = dict[str, frozenset[str]]
SNAPSHOT = pytest.StashKey[Snapshot]()


def pytest_configure(config: pytest.Config) -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    config.stash[SNAPSHOT] = take_snapshot()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever else is run: the look at the machine comes last."""
    items.sort(key=lambda item: item.path.name == "test_machine.py")


@pytest.fixture(scope="session")
def machine_before(request: pytest.FixtureRequest) -> Snapshot:
    return request.config.stash[SNAPSHOT]


def take_snapshot() -> Snapshot:
    """Names of all that a runtime makes on a machine, by kind."""
    return {kind: frozenset(names()) for kind, names in KINDS.items()}


def left_since(before: Snapshot) -> dict[str, list[str]]:
    """What is there now and was not `before`, once what is still on its way out has gone."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        now = take_snapshot()
        left = {kind: sorted(now[kind] - before[kind]) for kind in KINDS if now[kind] - before[kind]}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        kind_and_source = fields[fields.index("-") + 1 :]
        yield f"{kind_and_source[0]} {kind_and_source[1]} on {fields[4]}"


def _cgroups() -> Iterator[str]:
    """A group in which somebody else's processes live is theirs, and so may be what stands beside our own group:
    whoever made that one makes others. Of those only what is named like ours counts.
    """
    ours = set(descendants(os.getpid()))
    groups = {
        directory: _members(directory)
        for directory, _, files in os.walk("/sys/fs/cgroup")
        if "tasks" in files or "cgroup.procs" in files
    }
    own = [directory for directory, members in groups.items() if os.getpid() in members]
    beside = [os.path.dirname(path) for path in own if not os.path.ismount(path)]
    for directory, members in groups.items():
        if members <= ours and not any(_is_others(directory, parent) for parent in beside):
            yield directory


def _is_others(directory: str, parent: str) -> bool:
    if os.path.ismount(parent) or not directory.startswith(f"{parent}/"):
        return False
    return re.search(OUR_GROUPS, directory[len(parent) :]) is None


def _members(group: str) -> set[int]:
    """Empty for a group that has just gone."""
    try:
        return {int(line) for line in Path(group, "cgroup.procs").read_text().split()}
    except OSError:
        return set()


def _processes() -> Iterator[str]:
    for pid in descendants(os.getpid()):
        if (stat := _stat(pid)) and stat[0] != "Z":
            yield f"{pid} started {stat[19]}: {command_of(pid)}"


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; empty for a process that has just ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _loops() -> Iterator[str]:
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        yield f"{path.parent.parent.name} of {path.read_text().strip()}"


def _chains() -> Iterator[str]:
    """Packet filter chains and rules, as CNI plugins make them."""
    if os.geteuid() != 0 or not (program := shutil.which("iptables-save")):
        return
    listed = subprocess.run([program], capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        if line.startswith(":"):
            yield line.split()[0]
        elif line.startswith("-A"):
            yield line


def _states() -> Iterator[str]:
    """Boxwright's own containers, and what other runtimes and engines put beside."""
    yield from _entries_of("/run/boxwright", named=r"[^.]")()
    yield from _entries_of("/run", named=r"containerd|containers|crun|libpod|netns|runc")()


def _entries_of(*directories: str, named: str = "") -> Callable[[], Iterator[str]]:
    """Paths in those directories that are there and open to us."""

    def entries() -> Iterator[str]:
        for directory in map(Path, directories):
            if directory.is_dir() and os.access(directory, os.R_OK | os.X_OK):
                yield from (str(path) for path in directory.iterdir() if re.match(named, path.name))

    return entries


KINDS: dict[str, Callable[[], Iterator[str]]] = {
    "mounts": _mounts,
    "cgroups": _cgroups,
    "processes": _processes,
    "network interfaces": _entries_of("/sys/class/net"),
    "network namespaces": _entries_of("/run/netns"),
    "loop devices": _loops,
    "packet filter chains": _chains,
    "state directories": _states,
    "temporary files": _entries_of("/tmp", "/dev/shm", "/dev/mqueue", named=OUR_TEMPORARIES),
}
