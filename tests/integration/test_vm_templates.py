"""Machines that go on from a saved one: which do, that they are like any other, and what the cache keeps of them."""

import os
import subprocess
from pathlib import Path

import pytest

from boxwright.boxes.vm import templates
from boxwright.boxes.vm.cache import Cache
from boxwright.boxes.vm.initramfs import make_initramfs
from boxwright.boxes.vm.machine import MEBIBYTE, NO_FD, Disk, MachineSpec
from boxwright.errors import GuestError
from boxwright.host.spawn import helper_path
from fixtures_machine import FEATURES, Assets
from fixtures_roots import copy_root
from fixtures_vm import Machines

pytestmark = pytest.mark.root


def hypervisor_words(machines: Machines, container_id: str) -> list[str]:
    """The command of a container's hypervisor."""
    found = {name: pid for name, pid in machines.children(container_id).items() if name.startswith("qemu")}
    (pid,) = found.values()
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")


def test_a_root_that_stays_as_it_is_starts_from_a_saved_machine(machines: Machines, settled_root: Path) -> None:
    """Its files are those of the directory, and what is written to them is in the machine's memory alone."""
    machines.started("saved", "/bin/sleep", "100", root={"path": str(settled_root), "readonly": True})
    assert "defer" in hypervisor_words(machines, "saved")
    assert "virtiofsd" not in machines.children("saved")
    inside = machines.output("saved", "sh", "-c", "ls /; stat -c %a:%u /bin/busybox; touch /new 2>&1; :").splitlines()
    assert inside[:-2] == sorted(os.listdir(settled_root))
    assert inside[-2] == "755:0"
    assert inside[-1].endswith("Read-only file system")
    machines.delete("saved", "--force")


def test_a_root_that_is_written_to_boots(machines: Machines, busybox_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    copy_root(busybox_root, root)
    machines.started("kept", "/bin/sleep", "100", root={"path": str(root)})
    assert "-kernel" in hypervisor_words(machines, "kept")
    machines.delete("kept", "--force")


@pytest.fixture(scope="module")
def greeting(assets: Assets) -> str:
    """An initramfs whose first process is the agent."""
    return make_initramfs(assets.kernel, FEATURES, helper_path(), assets.cache).path


def spec(assets: Assets, **changes: object) -> MachineSpec:
    given = MachineSpec(
        memory_bytes=128 * MEBIBYTE,
        kernel="",
        initrd="",
        port_fd=3,
        pvh=assets.image.pvh,
        tsc_khz=assets.tsc_khz,
        disks=(Disk(fd=4, readonly=True),),
        qmp_fd=5,
    )
    return given.replace(**changes)


class Counting:
    """A hypervisor that counts the commands it was asked to start."""

    def __init__(self, assets: Assets) -> None:
        self._qemu = assets.qemu
        self.path = assets.qemu.path
        self.started: list[MachineSpec] = []

    def probe(self):
        return self._qemu.probe()

    def command(self, spec: MachineSpec) -> tuple[str, ...]:
        if spec.memory_file is not None and spec.memory_file.path:
            self.started.append(spec)
        return self._qemu.command(spec)


def test_one_machine_is_saved_for_all_that_are_the_same(assets: Assets, greeting: str, tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    qemu = Counting(assets)
    boot = (assets.image.path, greeting)
    for _ in range(2):
        template = templates.take(qemu, spec(assets), boot, cache)
        assert os.fstat(template.memory_fd).st_size == 128 * MEBIBYTE
        held = sum(end - begin for begin, end in templates.extents(template.memory_fd))
        assert MEBIBYTE < held < 100 * MEBIBYTE
        os.close(template.memory_fd)
        os.close(template.devices_fd)
    # descriptors are not part of what a machine is; its memory is
    other = templates.take(qemu, spec(assets, port_fd=13, qmp_fd=15, console_fd=NO_FD), boot, cache)
    os.close(other.memory_fd)
    os.close(other.devices_fd)
    assert len(qemu.started) == 1
    names = sorted(os.listdir(cache.directory))
    assert [name.split("-")[0] for name in names] == ["disk", "template", "templates.lock"]
    kept = tmp_path / "cache" / names[1]
    assert sorted(os.listdir(kept)) == ["devices", "memory"]
    assert kept.stat().st_mode & 0o777 == 0o700


def test_what_does_not_boot_is_not_kept(assets: Assets, tmp_path: Path) -> None:
    """The kernel panics without a first process; the console's last words are in the error."""
    cache = Cache(str(tmp_path / "cache"))
    nothing = tmp_path / "nothing"
    nothing.write_bytes(b"")
    console = os.open(os.devnull, os.O_WRONLY)
    try:
        with pytest.raises(GuestError, match="does not boot") as caught:
            templates.take(assets.qemu, spec(assets, console_fd=console), (assets.image.path, str(nothing)), cache)
    finally:
        os.close(console)
    assert any("Unable to mount root" in line or "Kernel Offset" in line for line in caught.value.details), (
        caught.value.details
    )
    assert [name for name in os.listdir(cache.directory) if name.startswith("template-")] == []
    running = subprocess.run(["pgrep", "-f", str(cache.directory)], capture_output=True, check=False)
    assert running.stdout == b""


def test_the_least_used_goes_and_so_do_drafts(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    for number in range(templates.MOST + 2):
        kept = Path(cache.directory) / f"template-{number}"
        kept.mkdir()
        (kept / "memory").write_bytes(b"m")
        os.utime(kept, (number, number))
    (Path(cache.directory) / "template-x.draft").mkdir()
    templates.remove_old(cache)
    left = sorted(os.listdir(cache.directory))
    assert left == [f"template-{number}" for number in range(3, templates.MOST + 2)]
