"""`update`: the limits that flags or a file describe."""

import json
import subprocess
from pathlib import Path

import pytest

from boxwright.cli.options import parse
from boxwright.cli.update import COMMAND, resources_from
from boxwright.errors import ConfigError, UsageError
from boxwright.spec.types import CPU, BlockIO, Memory, Pids, Resources


def resources(*words: str) -> Resources:
    return resources_from(parse(COMMAND, [*words, "id"]))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", Resources()),
        ("--memory 64m", Resources(memory=Memory(limit=64 << 20))),
        ("--memory 64m --memory-swap 1g", Resources(memory=Memory(limit=64 << 20, swap=1 << 30))),
        ("--memory-swap -1", Resources(memory=Memory(swap=-1))),
        ("--memory -1", Resources(memory=Memory(limit=-1, swap=-1))),
        ("--memory -1 --memory-swap 5", Resources(memory=Memory(limit=-1, swap=5))),
        ("--memory-reservation 1k", Resources(memory=Memory(reservation=1024))),
        ("--kernel-memory 1 --kernel-memory-tcp 2", Resources(memory=Memory(kernel=1, kernel_tcp=2))),
        ("--cpu-share 512", Resources(cpu=CPU(shares=512))),
        ("--cpu-quota -1 --cpu-period 100000", Resources(cpu=CPU(quota=-1, period=100000))),
        ("--cpu-burst 5 --cpu-idle 1", Resources(cpu=CPU(burst=5, idle=1))),
        ("--cpu-rt-runtime 1 --cpu-rt-period 2", Resources(cpu=CPU(realtime_runtime=1, realtime_period=2))),
        ("--cpuset-cpus 0-1 --cpuset-mems 0", Resources(cpu=CPU(cpus="0-1", mems="0"))),
        ("--pids-limit -1", Resources(pids=Pids(limit=-1))),
        ("--pids-limit 0", Resources(pids=Pids(limit=0))),
        ("--blkio-weight 10", Resources(block_io=BlockIO(weight=10))),
    ],
)
def test_flags_are_limits(words: str, expected: Resources) -> None:
    assert resources(*words.split()) == expected


@pytest.mark.parametrize("words", ["--memory lots", "--cpu-share -5", "--cpu-quota 1.5", "--memory -2"])
def test_what_is_no_limit_is_refused(words: str) -> None:
    with pytest.raises(UsageError):
        resources(*words.split())


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "resources.json"
    path.write_text(json.dumps({"memory": {"limit": 5}, "unified": {"memory.high": "1"}}))
    assert resources("-r", str(path)) == Resources(memory=Memory(limit=5), unified={"memory.high": "1"})


def test_a_file_and_a_flag_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`--resources` and `--memory` exclude each other"):
        resources("-r", str(tmp_path / "none"), "--memory", "1")


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"):
        resources("-r", str(tmp_path / "none"))
    (tmp_path / "bad").write_text('{"memory": {"limit": "5"}}')
    with pytest.raises(ConfigError, match="/memory/limit"):
        resources("-r", str(tmp_path / "bad"))


def test_the_standard_input_is_read(boxwright_command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [boxwright_command, "--root", str(tmp_path), "update", "--resources=-", "c1"],
        input='{"memory": {"limit": "5"}}',
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard input: /memory/limit = '5': expected an integer, found a string")
