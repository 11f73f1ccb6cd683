"""The machine alone: the host's kernel with our initramfs under emulation, and what its devices are in the guest."""

import errno
import gzip
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

import lacks
from boxwright.boxes.vm import accel, qmp
from boxwright.boxes.vm.cache import Cache
from boxwright.boxes.vm.cpio import archive
from boxwright.boxes.vm.hypervisor import Qemu, QemuControl, data_files
from boxwright.boxes.vm.images import image_of, mkfs
from boxwright.boxes.vm.initramfs import make_initramfs
from boxwright.boxes.vm.machine import KVM, MEBIBYTE, MICROVM, Q35, TCG, USER_NETWORK, Disk, MachineSpec, Network, Share
from boxwright.boxes.vm.templates import DISK_BYTES
from boxwright.errors import HostError, UnsupportedError
from fixtures_machine import FEATURES, Assets, booted

VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")


def test_devices_are_in_the_guest_by_descriptor(assets: Assets, tmp_path: Path) -> None:
    """One boot for all: disks by descriptor and by path, network, console, parameters, memory, clock, reboot."""
    readonly, writable = tmp_path / "readonly.img", tmp_path / "writable,with,commas.img"
    readonly.write_bytes(b"read only\n".ljust(MEBIBYTE, b"\0"))
    writable.write_bytes(bytes(2 * MEBIBYTE))
    console = tmp_path / "console"
    first = os.open(readonly, os.O_RDONLY)
    written = os.open(console, os.O_WRONLY | os.O_CREAT)
    try:
        with booted(
            assets,
            disks=(Disk(fd=first, readonly=True, serial="lower"), Disk(path=str(writable))),
            network=Network(USER_NETWORK, mac="02:00:00:00:00:07"),
            console_fd=written,
            fds=(first,),
            parameters=("boxwright.test=1",),
            vcpus=2,
            balloon=True,
        ) as machine:
            assert machine.ask("read /dev/vda") == "read only"
            assert machine.ask("read /sys/block/vda/ro") == "1"
            assert machine.ask("read /sys/block/vda/serial") == "lower"
            assert machine.ask("read /sys/block/vdb/size") == str(2 * MEBIBYTE // 512)
            assert machine.ask("write /dev/vdb written inside") == ""
            assert machine.ask("read /sys/class/net/eth0/address") == "02:00:00:00:00:07"
            assert machine.ask("read /sys/devices/system/cpu/online") == "0-1"
            assert machine.ask("read /proc/cmdline").split()[-1] == "boxwright.test=1"
            assert int(machine.ask("read /proc/meminfo").split()[1]) <= 128 * 1024
            assert machine.ask("write /dev/ttyS0 said on the console") == ""
            assert machine.answer("mount erofs /dev/vdb").startswith("22 ")
            assert drift(machine.ask) < 0.02
            machine.send("reboot")
            assert machine.process.wait(10) == 0
    finally:
        os.close(first)
        os.close(written)
    assert writable.read_bytes().startswith(b"written inside")
    assert b"said on the console" in console.read_bytes()


def test_an_image_of_a_directory_is_a_disk_that_nothing_is_written_to(assets: Assets, tmp_path: Path) -> None:
    lacks.need("mkfs.erofs", mkfs())
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub/file").write_text("in the image\n")
    while not (path := image_of(str(root), Cache(str(tmp_path / "cache")))):
        time.sleep(0.05)  # it has just been written
    found = os.stat(path)
    assert found.st_size == DISK_BYTES
    assert found.st_blocks * 512 < 64 * MEBIBYTE
    disk = os.open(path, os.O_RDONLY)
    try:
        with booted(assets, disks=(Disk(fd=disk, readonly=True),), fds=(disk,)) as machine:
            assert machine.ask("mount erofs /dev/vda") == ""
            assert machine.ask("read /mnt/sub/file") == "in the image"
            with pytest.raises(AssertionError, match=os.strerror(errno.EROFS)):
                machine.ask("write /mnt/sub/file other")
    finally:
        os.close(disk)


def drift(ask) -> float:
    """By which part the guest's clock goes faster or slower than ours."""
    began_here, began_there = time.monotonic(), float(ask("time"))
    time.sleep(1)
    there = float(ask("time")) - began_there
    return abs(there / (time.monotonic() - began_here) - 1)


def test_a_machine_with_a_pci_bus_has_the_same_devices(assets: Assets, tmp_path: Path) -> None:
    disks = []
    for index in range(7):
        path = tmp_path / f"{index}.img"
        path.write_bytes(f"disk {index}\n".encode().ljust(MEBIBYTE, b"\0"))
        disks.append(Disk(path=str(path), readonly=True))
    with booted(assets, disks=tuple(disks), network=Network(USER_NETWORK), machine=MICROVM) as machine:
        assert machine.ask("read /dev/vda") == "disk 0"
        assert machine.ask("read /dev/vdg") == "disk 6"
        assert machine.ask("read /sys/class/net/eth0/mtu") == "1500"
        assert drift(machine.ask) < 0.02


def test_a_directory_is_shared_by_virtiofs(assets: Assets, tmp_path: Path) -> None:
    lacks.need_root()
    program = next((path for path in VIRTIOFSD if os.path.exists(path)), None)
    lacks.need("virtiofsd", program)
    assert program
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "hello").write_text("from the host\n")
    with listening(tmp_path / "fs") as server, connected(tmp_path / "fs") as client:
        daemon = subprocess.Popen(
            [program, f"--fd={server.fileno()}", "-o", f"source={shared}", "-o", "sandbox=chroot", "-f"],
            stderr=subprocess.PIPE,
            pass_fds=(server.fileno(),),
        )
        try:
            share = Share("shared", client.fileno())
            with booted(assets, shares=(share,), fds=(client.fileno(),)) as machine:
                assert machine.ask("mount virtiofs shared") == ""
                assert machine.ask("read /mnt/hello") == "from the host"
                assert machine.ask("write /mnt/back from the guest") == ""
        finally:
            daemon.kill()
            daemon.communicate()
    assert (shared / "back").read_text() == "from the guest"


def listening(path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(path.parent, os.O_PATH)
    server.bind(f"/proc/self/fd/{directory}/{path.name}")
    os.close(directory)
    server.listen()
    return server


def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(str(path))
    return client


def test_a_machine_is_paused_resized_and_resumed(assets: Assets, tmp_path: Path) -> None:
    place = tmp_path / ("long" * 30) / "monitor"  # longer than the address of a socket may be
    place.parent.mkdir()
    with (
        listening(place) as server,
        booted(assets, qmp_fd=server.fileno(), balloon=True, memory_bytes=256 * MEBIBYTE) as machine,
    ):
        for _ in range(2):  # one client after the other
            with qmp.connect(str(place)) as connection:
                control = QemuControl(connection)
                assert control.status() == "running"
                control.pause()
                assert control.status() == "paused"
                machine.send("time")
                with pytest.raises(AssertionError, match="said nothing"):
                    machine.line(0.5)
                control.resume()
                assert machine.line().startswith("0 ")
        with qmp.connect(str(place)) as connection:
            control = QemuControl(connection)
            control.resize(192 * MEBIBYTE)
            end = time.monotonic() + 20
            while control.memory_bytes() != 192 * MEBIBYTE:
                assert time.monotonic() < end, f"the guest kept {control.memory_bytes()} bytes"
                time.sleep(0.05)
            with pytest.raises(qmp.QmpError, match="no-such-command") as caught:
                connection.execute("no-such-command")
            assert caught.value.kind == "CommandNotFound"
            machine.process.kill()
            with pytest.raises(HostError, match=r"has ended|is gone"):
                control.status()


def test_the_files_of_another_ramdisk_are_there_and_its_first_process_is_not(assets: Assets, tmp_path: Path) -> None:
    base = tmp_path / "initrd.gz"
    base.write_bytes(gzip.compress(archive({"init": (0o755, b"no program"), "lib/extra": (0o644, b"of another\n")})))
    image = make_initramfs(assets.kernel, FEATURES, assets.init, assets.cache, str(base))
    with booted(assets, initrd=image.path) as machine:
        assert machine.ask("read /lib/extra") == "of another"


def test_the_hypervisor_may_not_start_programs(assets: Assets) -> None:
    """QEMU's own filter of system calls is on, for all of its threads."""
    with booted(assets) as machine:
        threads = Path(f"/proc/{machine.process.pid}/task")
        modes = {(thread / "status").read_text().split("Seccomp:\t")[1][0] for thread in threads.iterdir()}
    assert modes == {"2"}


def test_another_program_is_not_taken_for_a_hypervisor(assets: Assets) -> None:
    with pytest.raises(HostError, match="it does not say it is QEMU"):
        Qemu("/bin/echo", assets.cache).probe()
    with pytest.raises(HostError, match="no such program") as caught:
        Qemu("/nowhere/qemu", assets.cache, "/vm/hypervisor/path")
    assert caught.value.pointer == "/vm/hypervisor/path"
    with pytest.raises(UnsupportedError, match="has no machine `virt`"):
        assets.qemu.require(MachineSpec(1, "", "", 3, machine="virt"))


# --- how a machine is run best ----------------------------------------------------------------------------------


class Silent:
    """A hypervisor that starts, and whose guest never says anything."""

    path = "/bin/sleep"

    def command(self, _spec: MachineSpec) -> tuple[str, ...]:
        return ("/bin/sleep", "60")


def test_kvm_is_chosen_only_if_a_kernel_boots(assets: Assets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(accel.OVERRIDE, raising=False)
    began = time.monotonic()
    choice = accel.choose(assets.qemu, assets.image, assets.initramfs.path, assets.cache)
    assert time.monotonic() - began < accel.TRIAL_TIMEOUT_S + 5
    assert choice.accel in {KVM, TCG}
    if not os.path.exists(accel.DEVICE):
        assert choice == accel.Choice(TCG, f"{accel.DEVICE}: No such file or directory")
        return
    monkeypatch.setattr(accel, "_tried", lambda *_: pytest.fail("it was tried a second time"))
    assert accel.choose(assets.qemu, assets.image, assets.initramfs.path, assets.cache) == choice
    if choice.accel == KVM:
        with booted(assets, accel=KVM) as machine:
            assert drift(machine.ask) < 0.02


def test_a_guest_that_hangs_is_killed_and_emulated_later(assets: Assets, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    real = subprocess.Popen

    def noted(*args, **named):
        started.append(real(*args, **named))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    monkeypatch.setattr(accel, "TRIAL_TIMEOUT_S", 0.2)
    choice = accel._tried(Silent(), assets.image, assets.initramfs.path)  # type: ignore[arg-type]
    assert choice.accel == TCG
    assert "nothing came of it within 0.2 s" in choice.why
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_the_hypervisor_tells_what_it_can(assets: Assets) -> None:
    found = Qemu("", assets.cache).probe()
    assert {MICROVM, Q35} <= set(found.machines)
    assert TCG in found.accelerators
    assert {"virtio-serial-device", "virtio-blk-device"} <= found.devices
    assert found.version[0].isdigit()
    assert Qemu("").probe() == found  # asked again, without the cache
    assert all(os.path.exists(path) for path in data_files())
