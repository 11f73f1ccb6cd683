"""Machines that go on from one saved state have nothing in common that has to be their own."""

import time
from pathlib import Path

import pytest

from fixtures_vm import Machines

pytestmark = pytest.mark.root
CLONES = 4
ASK = "head -c 32 /dev/urandom | md5sum; cat /proc/sys/kernel/random/boot_id; hostname; date +%s"


def test_what_must_differ_does_and_the_time_is_right(machines: Machines, settled_root: Path) -> None:
    """Snapshot clones: random numbers, boot id, host name and time are each machine's own from the first program on."""
    said, root = [], {"path": str(settled_root), "readonly": True}
    for number in range(CLONES):
        name = f"clone{number}"
        machines.started(name, "/bin/sleep", "100", root=root, hostname=f"host{number}")
        hypervisor = next(pid for program, pid in machines.children(name).items() if program.startswith("qemu"))
        assert b"-incoming" in Path(f"/proc/{hypervisor}/cmdline").read_bytes()
        before = int(time.time())
        random, boot_id, host, now = machines.output(name, "sh", "-c", ASK).splitlines()
        assert before <= int(now) <= int(time.time())
        assert host == f"host{number}"
        said.append((random, boot_id))
    for number in range(CLONES):
        machines.delete(f"clone{number}", "--force")
    for values in zip(*said, strict=True):
        assert len(set(values)) == CLONES


def test_no_clone_can_write_to_what_the_others_go_on_from(machines: Machines, settled_root: Path) -> None:
    """Snapshot clones: a hypervisor has the saved memory neither open nor mapped, and the rest of it open to read."""
    root = {"path": str(settled_root), "readonly": True}
    machines.started("apart", "/bin/sleep", "100", root=root)
    hypervisor = next(pid for program, pid in machines.children("apart").items() if program.startswith("qemu"))
    files = {str(link.readlink()) for link in Path(f"/proc/{hypervisor}/fd").iterdir()}
    saved = [name for name in files if "template-" in name]
    assert all(name.endswith("/devices") for name in saved)
    for link in Path(f"/proc/{hypervisor}/fd").iterdir():
        if str(link.readlink()).endswith("/devices"):
            flags = int(Path(f"/proc/{hypervisor}/fdinfo/{link.name}").read_text().split("flags:")[1].split()[0], 8)
            assert flags & 3 == 0
    assert "template-" not in Path(f"/proc/{hypervisor}/maps").read_text()
    machines.delete("apart", "--force")
