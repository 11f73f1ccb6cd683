"""A container's scope made by a real systemd, where one runs: here, or in a guest that has booted one."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from boxwright.errors import HostError
from boxwright.host import cgroups
from boxwright.host.cgroup_probe import inspect, probe
from boxwright.host.systemd import Manager, start_unit, stop_unit, update_unit
from boxwright.plan.cgroup_layout import CgroupPlacement
from boxwright.plan.cgroups import compile_attach, place
from boxwright.plan.ops import Upcall
from boxwright.spec.decode import decode, decode_resources
from boxwright.spec.types import Config
from file_steps import FileSteps
from lacks import need

pytestmark = pytest.mark.root

MIB = 1 << 20
RESOURCES = {"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}, "cpu": {"shares": 512}}


class Scope:
    """A sleeping process in a scope of its own, as `compile_attach` and its upcall make it."""

    def __init__(self, name: str, resources: dict[str, Any]) -> None:
        document = {
            "ociVersion": "1.3.0",
            "linux": {"cgroupsPath": f"boxwright-test.slice:box:{name}", "resources": resources},
            "annotations": {"org.systemd.property.TimeoutStopSec": "1.5"},
        }
        self.config: Config = decode(json.dumps(document).encode())
        layout = probe()
        self.placement: CgroupPlacement = place(self.config, layout, name, "systemd")
        self.placement, site = inspect(self.config, layout, self.placement)
        self.child = subprocess.Popen(["sleep", "60"], start_new_session=True)
        self.steps = compile_attach(self.config, layout, self.placement, site)

    def start(self) -> None:
        assert isinstance(self.steps[0].op, Upcall)
        start_unit(self.config, self.placement, self.child.pid)
        FileSteps().perform([step for step in self.steps[1:] if step.op.CODE != 80], self.child.pid)

    def close(self) -> None:
        self.child.kill()
        self.child.wait(5)
        cgroups.destroy(self.placement)
        with Manager() as manager:
            manager.stop("boxwright.slice")  # with the slices below it


@pytest.fixture
def scope() -> Iterator[Scope]:
    need("systemd", os.path.isdir("/run/systemd/system"))
    made = Scope(f"scope{os.getpid()}", RESOURCES)
    yield made
    made.close()


def shown(unit: str, name: str) -> str:
    argv = ["systemctl", "show", "--value", "--property", name, unit]
    return subprocess.check_output(argv, text=True).strip()


def test_the_process_is_in_a_scope_with_its_limits(scope: Scope) -> None:
    scope.start()
    assert cgroups.pids(scope.placement) == [scope.child.pid]
    unit = scope.placement.unit
    assert shown(unit, "ActiveState") == "active"
    assert shown(unit, "Slice") == "boxwright-test.slice"
    assert shown(unit, "Delegate") == "yes"
    assert shown(unit, "TasksMax") == "20"
    assert shown(unit, "TimeoutStopUSec") in {"1.500s", "1.500000s"}  # as releases of systemd write it
    memory = scope.placement.find("memory")
    assert memory is not None
    file = "memory.max" if memory.version == 2 else "memory.limit_in_bytes"
    assert cgroups.read(f"{memory.path}/{file}") == f"{64 * MIB}\n"


def test_limits_outlive_a_reload(scope: Scope) -> None:
    scope.start()
    update_unit(decode_resources(b'{"pids": {"limit": 33}}'), scope.placement)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    pids = scope.placement.find("pids")
    assert pids is not None
    assert cgroups.read(f"{pids.path}/pids.max") == "33\n"


def test_a_unit_that_runs_is_not_taken_over(scope: Scope) -> None:
    scope.start()
    with pytest.raises(HostError, match="start unit"):
        start_unit(scope.config, scope.placement, os.getpid())


def test_a_scope_is_frozen_killed_and_stopped(scope: Scope) -> None:
    scope.start()
    cgroups.freeze(scope.placement)
    assert cgroups.is_frozen(scope.placement)
    cgroups.kill_all(scope.placement)
    assert scope.child.wait(5) == -signal.SIGKILL
    stop_unit(scope.placement)
    stop_unit(scope.placement)
    assert shown(scope.placement.unit, "ActiveState") == "inactive"
