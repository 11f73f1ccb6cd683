"""The benchmarks run, and what they say of many containers at once holds for a few."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import lacks
from boxwright.boxes.vm.images import mkfs
from fixtures_runtime import REPOSITORY

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def numbers(boxwright_command: str, tmp_path_factory: pytest.TempPathFactory) -> dict:
    lacks.need("busybox", lacks.find_program("busybox"))
    lacks.need("cc", shutil.which("cc"))
    command = REPOSITORY / ".venv/bin/boxwright"
    lacks.need("the checkout's own command", boxwright_command == str(command))
    found: Path = tmp_path_factory.mktemp("numbers") / "numbers.json"
    environment = {name: value for name, value in os.environ.items() if name != "BOXWRIGHT_BENCH_SID"}
    words = (
        REPOSITORY / ".venv/bin/python",
        "-m",
        "benchmarks",
        "--rounds",
        "1",
        "--many",
        "3",
        "--machines",
        "1",
        "--json",
        found,
    )
    done = subprocess.run(
        words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(found.read_text())


def test_everybody_who_takes_part_is_timed(numbers: dict) -> None:
    runs = numbers["a whole run"]
    assert {"floor", "library, bundle", "boxwright run", "/bin/true"} <= set(runs)
    assert all(0 < one["min_ms"] <= one["median_ms"] for one in runs.values())


def test_nothing_of_many_containers_stays(numbers: dict) -> None:
    many = numbers["many"]
    assert many["containers"] == 3
    assert many["left"] == []
    assert many["processes_beside_the_programs"] == 0


def test_machines_are_timed_beside_a_bare_one(numbers: dict) -> None:
    lacks.need_program("qemu-system-x86_64")
    lacks.need("mkfs.erofs", mkfs())
    found = numbers["machines"]
    times = {name: one["median_ms"] for name, one in found["starts"].items()}
    assert times["template"] < times["floor"]
    assert times["template"] < times["cold"]
    assert found["exec_ms"] > 0
    assert found["teardown_ms"] > 0
    assert 5 < found["pss_mib_each"] < 300
