"""`doctor` tells the truth about this machine, and leaves it as it was."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from boxwright.boxes.doctor import examine
from boxwright.boxes.vm import accel
from boxwright.cli.doctor import lines
from boxwright.host.doctor import FOUND, MISSING, PARTLY, Check, can_run, check
from boxwright.host.trial import attempt
from boxwright.plan import ops
from fixtures_runtime import Runtime
from lacks import find_program
from leaks import left_since, take_snapshot


@pytest.fixture(scope="module")
def checks() -> dict[str, Check]:
    return {f"{found.group}/{found.name}": found for found in examine()}


def test_the_command_says_it_in_both_forms(boxwright: Runtime) -> None:
    told: dict[str, Any] = json.loads(boxwright.call("doctor", "--json", check=False).stdout)
    result = boxwright.call("doctor", check=False)
    assert result.status == (0 if told["linuxBox"] else 1)
    assert all(found["name"] in result.stdout for found in told["checks"])
    missing = boxwright.call("doctor", "--missing", check=False).stdout
    assert "✓" not in missing


def test_nothing_is_left_behind() -> None:
    assert attempt([ops.Clone(0)])  # the sealed copy of the helper stays, for all boxes that this process makes
    before, descriptors = take_snapshot(), sorted(os.listdir("/proc/self/fd"))
    examine()
    assert left_since(before) == {}
    assert sorted(os.listdir("/proc/self/fd")) == descriptors


def test_every_check_has_its_words(checks: dict[str, Check]) -> None:
    for found in checks.values():
        assert found.state in {FOUND, PARTLY, MISSING}
        assert found.state != MISSING or found.lost, found
    assert len(checks) > 40


def test_namespaces_are_those_of_the_kernel(checks: dict[str, Check]) -> None:
    names = {"user": "user", "mnt": "mount", "pid": "pid", "net": "network", "ipc": "ipc", "uts": "uts", "time": "time"}
    for file, name in names.items():
        if not Path(f"/proc/self/ns/{file}").exists():
            assert checks[f"namespaces/{name}"].state == MISSING
    if os.geteuid() == 0 and Path("/proc/self/ns/mnt").exists() and checks["namespaces/mount"].state == MISSING:
        assert checks["caller/capabilities"].state != FOUND


def test_capabilities_are_those_of_the_caller(checks: dict[str, Check]) -> None:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    may_raise_limits = bool(int(line.split()[1], 16) >> 24 & 1)
    if os.geteuid() == 0:
        told = "CAP_SYS_RESOURCE" in checks["caller/capabilities"].detail
        assert told is not may_raise_limits


def test_overlay_is_tried_for_real(checks: dict[str, Check]) -> None:
    listed = "\toverlay\n" in Path("/proc/filesystems").read_text()
    assert listed or checks["mounts/overlay"].state == MISSING


def test_kvm_is_found_only_where_a_kernel_booted(checks: dict[str, Check]) -> None:
    found = checks["machines/KVM"]
    if not os.path.exists(accel.DEVICE):
        assert found.state == MISSING
    if found.state == FOUND:
        assert "a kernel booted" in found.detail
    if found.state == PARTLY:
        assert "not proved" in found.detail


def test_what_a_machine_is_made_of_is_looked_for(checks: dict[str, Check]) -> None:
    assert (checks["machines/QEMU"].state == MISSING) is (find_program("qemu-system-x86_64") is None)
    kernel = checks["machines/kernel"]
    if kernel.state == FOUND:
        path, version = kernel.detail.split(", ")
        assert Path(path).exists()
        assert Path(f"/lib/modules/{version}/modules.dep").exists()
        assert "machines/kernel's modules" in checks
    assert checks["machines/virtiofsd"].state in {FOUND, MISSING}


def test_a_trial_that_the_kernel_refuses_says_so() -> None:
    made = ops.FsMount(0, "tmpfs", ("szie=1",), 0)
    user = [ops.Clone(0x10020000)]
    trial = attempt(user, (), [made])
    assert not trial
    assert trial.op == made
    assert attempt([ops.Clone(0x10000000)])


def test_only_what_is_vital_decides() -> None:
    good = check("g", "n", True, lost="x")
    bad, fatal = check("g", "n", False, lost="x", remedy="y"), check("g", "n", False, lost="x", vital=True)
    assert can_run((good, bad))
    assert not can_run((good, fatal))
    assert list(lines([bad], True)) == [
        "g",
        "  ✗ n",
        "      not honoured: x",
        "      remedy: y",
        "",
        "the linux box runs here",
    ]
