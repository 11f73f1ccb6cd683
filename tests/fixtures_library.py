"""The library with a state directory of its own, on a busybox root."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import boxwright
from boxwright.api import boxes
from boxwright.host.cgroup_probe import probe
from fixtures_vm import need_machines

Arguments = dict[str, Any]
_CLEAN = "rm -rf /tmp/* /opt /work /a /b"


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[boxwright.Runtime]:
    """A runtime in which nothing may be left at the end of the test."""
    made: list[str] = []

    def made_up_id() -> str:
        made.append(f"box-{os.urandom(6).hex()}")
        return made[-1]

    monkeypatch.setattr(boxes, "made_up_id", made_up_id)
    runtime = boxwright.Runtime(str(tmp_path / "state"))
    yield runtime
    left = runtime.states()
    for state in left:
        runtime.delete(state["id"], force=True)
    assert left == []
    assert groups_of(made) == []


@pytest.fixture
def where(request: pytest.FixtureRequest, runtime: boxwright.Runtime, busybox_root: Path) -> Arguments:
    """The arguments of `run` and `Box` that say where: `boxwright.run([...], **where)`. `of_both_kinds` asks for `vm`."""
    isolation = getattr(request, "param", "linux")
    if isolation == "vm":
        need_machines()
    return {"rootfs": busybox_root, "runtime": runtime, "isolation": isolation}


of_both_kinds = pytest.mark.parametrize("where", ["linux", "vm"], indirect=True)


@pytest.fixture(params=["linux", "vm"])
def box(request: pytest.FixtureRequest) -> Iterator[boxwright.Box]:
    """A box of each kind. A machine serves all tests of a module: what they leave in it is removed, and it stays open."""
    if request.param == "linux":
        with boxwright.Box(**request.getfixturevalue("where")) as box:
            yield box
        return
    box = request.getfixturevalue("machine_box")
    assert box.exec(["sh", "-c", _CLEAN]).ok
    yield box


@pytest.fixture(scope="module")
def machine_box(tmp_path_factory: pytest.TempPathFactory, busybox_root: Path) -> Iterator[boxwright.Box]:
    """A box in a virtual machine, for the tests of a module."""
    need_machines()
    runtime = boxwright.Runtime(str(tmp_path_factory.mktemp("machine") / "state"))
    with boxwright.Box(rootfs=busybox_root, runtime=runtime, isolation="vm") as box:
        yield box
    assert runtime.states() == []


def groups_of(container_ids: Sequence[str]) -> list[str]:
    """Control groups of these containers."""
    found = []
    for hierarchy in probe().hierarchies:
        for directory in {hierarchy.own, os.path.dirname(hierarchy.own)}:
            paths = [f"{hierarchy.mountpoint}{directory}/{container_id}" for container_id in container_ids]
            found += [path for path in paths if os.path.isdir(path)]
    return found


def open_fds() -> set[str]:
    """What our descriptors stand for, but for those that the library keeps for all its boxes."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd}: {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            continue  # that of the listing itself
    return {name for name in found if "/proc/" not in name}
