"""Machines that the tests boot: the host's own kernel, with a first process of the tests' making."""

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import lacks
from boxwright.boxes.vm import accel, initramfs, kernels
from boxwright.boxes.vm.cache import Cache
from boxwright.boxes.vm.hypervisor import Qemu
from boxwright.boxes.vm.kernels import BootImage, Kernel
from boxwright.boxes.vm.machine import MEBIBYTE, NO_FD, PORT_NAME, Disk, MachineSpec, Network, Share
from boxwright.errors import HostError

SOURCE = Path(__file__).parent / "machine_init.c"
BOOT_TIMEOUT_S = 60.0  # a boot under emulation is two seconds, on a machine that does nothing else
ANSWER_TIMEOUT_S = 30.0
FEATURES = (
    initramfs.MMIO,
    initramfs.PCI,
    initramfs.CONSOLE,
    initramfs.DISK,
    initramfs.NETWORK,
    initramfs.OVERLAY,
    initramfs.VIRTIOFS,
    initramfs.EROFS,
    initramfs.BALLOON,
)


def host_kernel() -> Kernel:
    """The host's newest kernel with its modules; its absence skips the test."""
    try:
        return kernels.find_kernel()
    except HostError as error:
        lacks.need(f"kernel for guests ({error.message})", False)
        raise


class Assets:
    """Everything that a machine is booted from, made once for the session."""

    def __init__(self, directory: Path) -> None:
        lacks.need_program("qemu-system-x86_64")
        self.cache = Cache(str(directory / "cache"))
        self.kernel = host_kernel()
        self.image: BootImage = kernels.boot_image(self.kernel, self.cache)
        self.init = compiled_init(directory)
        self.initramfs = initramfs.make_initramfs(self.kernel, FEATURES, self.init, self.cache)
        self.qemu = Qemu("", self.cache)
        self.tsc_khz = accel.host_tsc_khz(self.cache)


def compiled_init(directory: Path) -> str:
    compiler = lacks.find_program("musl-gcc") or lacks.find_program("cc")
    lacks.need("C compiler", compiler)
    assert compiler
    program = directory / "init"
    subprocess.run([compiler, "-static", "-Wall", "-Werror", "-Os", "-o", program, SOURCE], check=True)
    return str(program)


class Machine:
    """A running machine, and its guest's answers."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: socket.socket) -> None:
        self.process = process
        self._port = port
        self._rest = b""

    def line(self, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
        """The next line that the guest says, without its end."""
        end = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._port], [], [], max(end - time.monotonic(), 0))
            assert ready, f"the guest said nothing within {timeout_s:g} s"
            data = self._port.recv(4096)
            assert data, f"the hypervisor ended: {self.errors()}"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def ask(self, order: str) -> str:
        """The text of the guest's answer, which must be a good one."""
        status, _, text = self.answer(order).partition(" ")
        assert status == "0", f"`{order}`: {os.strerror(int(status))} {text}"
        return text

    def answer(self, order: str) -> str:
        self.send(order)
        return self.line()

    def send(self, order: str) -> None:
        self._port.sendall(order.encode() + b"\n")

    def errors(self) -> str:
        self.process.kill()
        _, said = self.process.communicate()
        return said.decode(errors="replace")


@contextmanager
def booted(
    assets: Assets,
    *,
    disks: tuple[Disk, ...] = (),
    shares: tuple[Share, ...] = (),
    network: Network | None = None,
    fds: tuple[int, ...] = (),
    **fields: Any,
) -> Iterator[Machine]:
    """A machine whose guest has said hello. Descriptors that its parts name are to be in `fds`; they stay open here."""
    ours, port = socket.socketpair()
    spec = MachineSpec(
        memory_bytes=fields.pop("memory_bytes", 128 * MEBIBYTE),
        kernel=assets.image.path,
        initrd=fields.pop("initrd", assets.initramfs.path),
        port_fd=port.fileno(),
        pvh=assets.image.pvh,
        tsc_khz=assets.tsc_khz,
        disks=disks,
        shares=shares,
        network=network or Network(),
        **fields,
    )
    given = {port.fileno(), *fds} | {fd for fd in (spec.qmp_fd, spec.console_fd) if fd != NO_FD}
    with (
        ours,
        subprocess.Popen(
            assets.qemu.command(spec),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=tuple(given),
        ) as process,
    ):
        port.close()
        try:
            machine = Machine(process, ours)
            assert machine.line(BOOT_TIMEOUT_S) == "0 hello", "some module could not be loaded"
            yield machine
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Assets:
    return Assets(tmp_path_factory.mktemp("machine"))


__all__ = ["PORT_NAME", "Assets", "Machine", "booted", "compiled_init", "host_kernel"]
