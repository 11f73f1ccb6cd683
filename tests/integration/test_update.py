"""update: limits of a container that exists."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lacks
from boxwright.errors import BoxwrightError, ConfigError, HostError, StateError, UsageError
from boxwright.runtime.context import Runtime as Library
from boxwright.runtime.update import update
from boxwright.spec.decode import decode_resources
from boxwright.spec.types import Resources
from fixtures_runtime import BundleFactory, Json, Runtime, default_config

pytestmark = pytest.mark.root

MEBIBYTE = 1 << 20


class Limited:
    """A container that runs, and the files of its groups."""

    def __init__(self, command: Runtime, library: Library) -> None:
        self.command = command
        self.library = library
        state = json.loads((command.root / "c1/state.json").read_text())
        self.groups: list[Json] = state["cgroups"]["groups"]

    def update(self, **how: Any) -> None:
        resources = how.pop("resources", {})
        update(self.library, "c1", decode_resources(json.dumps(resources).encode()), **how)

    def read(self, controller: str, v1: str, v2: str = "") -> str:
        (group,) = [group for group in self.groups if controller in group["controllers"]]
        return Path(group["path"], v1 if group["version"] == 1 else v2).read_text().strip()

    def resources(self) -> Json:
        """What the container's own copy of the configuration says."""
        found: Json = json.loads((self.command.root / "c1/config.json").read_text())["linux"]["resources"]
        return found


@pytest.fixture
def limited(boxwright: Runtime, bundle: BundleFactory) -> Callable[[Json], Limited]:
    def make(resources: Json) -> Limited:
        config = default_config("/bin/sleep", "60")
        config["linux"]["resources"] |= resources
        boxwright.create("c1", bundle(config))
        boxwright.start("c1")
        return Limited(boxwright, Library(str(boxwright.root)))

    return make


def test_limits_are_changed_and_remembered(limited: Callable[[Json], Limited]) -> None:
    box = limited({"memory": {"limit": 64 * MEBIBYTE}, "pids": {"limit": 20}})
    before = box.resources()["devices"]
    box.update(resources={"memory": {"limit": 128 * MEBIBYTE}, "cpu": {"shares": 512}})
    assert box.read("memory", "memory.limit_in_bytes", "memory.max") == str(128 * MEBIBYTE)
    assert box.read("pids", "pids.max", "pids.max") == "20"
    found = box.resources()
    assert (found["memory"]["limit"], found["cpu"], found["pids"]) == (128 * MEBIBYTE, {"shares": 512}, {"limit": 20})
    assert found["devices"] == before


def test_a_quota_and_its_period_shrink_together(limited: Callable[[Json], Limited]) -> None:
    box = limited({"cpu": {"quota": 100000, "period": 100000}})
    box.update(resources={"cpu": {"quota": 5000, "period": 10000}})
    assert box.read("cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "5000"
    box.update(resources={"cpu": {"quota": -1}})
    assert box.read("cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] in {"-1", "max"}


def test_a_refused_limit_leaves_the_others_as_they_were(limited: Callable[[Json], Limited]) -> None:
    box = limited({"memory": {"limit": 64 * MEBIBYTE}, "cpu": {"shares": 512}})
    remembered = box.resources()
    with pytest.raises(HostError) as caught:
        box.update(resources={"memory": {"limit": 32 * MEBIBYTE}, "cpu": {"shares": 700, "cpus": "999"}})
    assert (caught.value.pointer, caught.value.value) == ("/cpu/cpus", "999")
    assert box.read("memory", "memory.limit_in_bytes", "memory.max") == str(64 * MEBIBYTE)
    assert box.read("cpu", "cpu.shares", "cpu.weight") in {"512", "59"}
    assert box.resources() == remembered


def test_nothing_is_changed_where_a_rule_is_broken(limited: Callable[[Json], Limited]) -> None:
    box = limited({"memory": {"limit": 64 * MEBIBYTE}})
    with pytest.raises(ConfigError):
        box.update(resources={"memory": {"limit": 32 * MEBIBYTE, "swap": 16 * MEBIBYTE}})
    assert box.read("memory", "memory.limit_in_bytes", "memory.max") == str(64 * MEBIBYTE)


def test_check_before_update_refuses_a_limit_below_what_is_used(limited: Callable[[Json], Limited]) -> None:
    box = limited({"memory": {"limit": 64 * MEBIBYTE}})
    with pytest.raises(BoxwrightError):
        box.update(resources={"memory": {"limit": 4096, "checkBeforeUpdate": True}})
    assert box.read("memory", "memory.limit_in_bytes", "memory.max") == str(64 * MEBIBYTE)


def test_a_huge_page_limit_is_one_by_size(limited: Callable[[Json], Limited]) -> None:
    box = limited({})
    sizes = [path.name for path in Path("/sys/kernel/mm/hugepages").iterdir()]
    lacks.need("2 MiB huge pages", "hugepages-2048kB" in sizes)
    lacks.need("a hugetlb controller", any("hugetlb" in group["controllers"] for group in box.groups))
    for limit in (2 * MEBIBYTE, 4 * MEBIBYTE):
        box.update(resources={"hugepageLimits": [{"pageSize": "2MB", "limit": limit}]})
    assert box.resources()["hugepageLimits"] == [{"pageSize": "2MB", "limit": 4 * MEBIBYTE}]


def test_a_paused_container_can_be_updated(limited: Callable[[Json], Limited]) -> None:
    box = limited({})
    box.command.call("pause", "c1")
    box.update(resources={"pids": {"limit": 33}})
    assert box.command.state("c1")["status"] == "paused"
    box.command.call("resume", "c1")
    assert box.read("pids", "pids.max", "pids.max") == "33"


def test_a_stopped_container_cannot(limited: Callable[[Json], Limited]) -> None:
    box = limited({})
    box.command.kill("c1")
    box.command.wait_stopped("c1")
    with pytest.raises(StateError):
        box.update(resources={"pids": {"limit": 33}})


def test_a_schema_without_a_class_is_an_error(limited: Callable[[Json], Limited]) -> None:
    box = limited({})
    with pytest.raises(UsageError, match="no class of cache"):
        box.update(l3_cache_schema="L3:0=f")
    with pytest.raises(ConfigError, match="must be one line beginning `MB:`"):
        box.update(mem_bw_schema="0=10")


def test_nothing_to_do_is_no_error(limited: Callable[[Json], Limited]) -> None:
    box = limited({"pids": {"limit": 20}})
    update(box.library, "c1", Resources())
    assert box.read("pids", "pids.max", "pids.max") == "20"


def test_the_command_changes_limits(limited: Callable[[Json], Limited]) -> None:
    box = limited({})
    box.command.call("update", "--pids-limit", "44", "c1")
    assert box.read("pids", "pids.max", "pids.max") == "44"
