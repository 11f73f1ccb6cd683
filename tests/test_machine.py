import os
import subprocess
from pathlib import Path

import pytest

import leaks


def test_the_look_at_the_machine_sees_an_orphan(tmp_path: Path) -> None:
    before = leaks.take_snapshot()
    subprocess.run(["sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid"], check=True)
    pid = int((tmp_path / "pid").read_text())
    now = leaks.take_snapshot()
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert [line.split()[0] for line in now["processes"] - before["processes"]] == [str(pid)]


def test_the_machine_is_as_before(machine_before: leaks.Snapshot) -> None:
    left = [f"{kind}: {name}" for kind, names in leaks.left_since(machine_before).items() for name in names]
    if left:
        pytest.fail("\n".join(["left on the machine:", *left]), pytrace=False)
