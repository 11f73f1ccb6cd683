"""events: statistics, and the end of memory."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from boxwright.errors import StateError
from boxwright.runtime.context import Runtime as Library
from boxwright.runtime.events import follow, stats
from fixtures_runtime import BundleFactory, Runtime, default_config

pytestmark = pytest.mark.root

WAIT = "until [ -s /mnt/go ]; do usleep 2000; done"
EAT = "dd if=/dev/zero of=/dev/null bs=64M count=1"


def library(command: Runtime) -> Library:
    return Library(str(command.root))


def test_statistics_are_of_the_container(boxwright: Runtime, bundle: BundleFactory) -> None:
    config = default_config("/bin/sleep", "60")
    config["linux"]["resources"] |= {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}}
    boxwright.create("c1", bundle(config))
    boxwright.start("c1")
    found = stats(library(boxwright), "c1")
    assert found["pids"] == {"current": 1, "limit": 20}
    assert found["memory"]["usage"]["limit"] == 64 << 20
    assert 0 < found["memory"]["usage"]["usage"] < 64 << 20
    assert found["cpu"]["usage"]["total"] > 0


def test_the_command_prints_one_line(boxwright: Runtime, bundle: BundleFactory) -> None:
    boxwright.create("c1", bundle(default_config("/bin/sleep", "60")))
    line = json.loads(boxwright.call("events", "--stats", "c1").stdout)
    assert (line["type"], line["id"], line["data"]["pids"]["current"]) == ("stats", "c1", 1)


def test_a_stopped_container_has_none(boxwright: Runtime, bundle: BundleFactory) -> None:
    boxwright.create("c1", bundle(default_config("/bin/sleep", "60")))
    boxwright.kill("c1")
    boxwright.wait_stopped("c1")
    with pytest.raises(StateError):
        stats(library(boxwright), "c1")
    with pytest.raises(StateError):
        next(follow(library(boxwright), "c1", 60))


def test_statistics_come_until_the_container_ends(boxwright: Runtime, bundle: BundleFactory) -> None:
    boxwright.create("c1", bundle(default_config("/bin/sleep", "60")))
    boxwright.start("c1")
    events = follow(library(boxwright), "c1", 0.01)
    assert [next(events)["type"] for _ in range(3)] == ["stats"] * 3
    boxwright.kill("c1")
    assert {event["type"] for event in events} <= {"stats"}


def test_a_kill_for_want_of_memory_is_told(boxwright: Runtime, bundle: BundleFactory, tmp_path: Path) -> None:
    config = default_config("/bin/sh", "-c", f"{WAIT}; {EAT}")
    config["linux"]["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    config["mounts"].append({"destination": "/mnt", "type": "bind", "source": str(tmp_path), "options": ["bind"]})
    boxwright.create("c1", bundle(config))
    boxwright.start("c1")
    seen: list[dict[str, Any]] = []
    events = follow(library(boxwright), "c1", 60)
    watcher = threading.Thread(target=lambda: seen.extend(events))
    watcher.start()
    (tmp_path / "go").write_text("go")
    watcher.join(30)
    assert not watcher.is_alive()
    assert {"type": "oom", "id": "c1"} in seen
