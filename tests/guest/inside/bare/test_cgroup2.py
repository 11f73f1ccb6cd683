"""The command on a machine that has nothing but the v2 tree."""

import os

import pytest

pytestmark = pytest.mark.root


def test_nothing_but_the_v2_tree_is_mounted() -> None:
    with open("/proc/self/mountinfo") as file:
        kinds = {line.split(" - ")[1].split()[0] for line in file}
    assert "cgroup2" in kinds
    assert "cgroup" not in kinds
    assert os.path.exists("/sys/fs/cgroup/cgroup.controllers")
