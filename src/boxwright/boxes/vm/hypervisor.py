"""What runs a machine: a Protocol, and QEMU as the one that is there.

A hypervisor is asked what it can (`probe`), gives the command for a machine (`command`), and a running one is held by
its `Control`. Starting and killing are the keeper's, which is the hypervisor's parent.
"""

import os

from boxwright._record import Record
from boxwright.boxes.vm.cache import Cache, digest_of, identity_of
from boxwright.boxes.vm.machine import MICROVM, Q35
from boxwright.boxes.vm.qemu import FIRMWARE, qemu_argv
from boxwright.errors import HostError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from boxwright.boxes.vm.machine import MachineSpec
    from boxwright.boxes.vm.qmp import Qmp
else:
    Protocol = object

QEMU_HINT = "apt-get install qemu-system-x86, or name one with `vm.hypervisor.path`"
_VERSION = "QEMU emulator version "
_NAMES = ("qemu-system-x86_64", "/usr/libexec/qemu-kvm")
_PATH = "/usr/local/bin:/usr/bin:/bin"
# what a machine may be made of beside its port
DEVICES = frozenset(
    f"{name}-{bus}"
    for name in ("vhost-user-fs", "virtio-balloon", "virtio-blk", "virtio-net", "virtio-serial")
    for bus in ("device", "pci")
)
_PROBE_TIMEOUT_S = 20
_DATA_DIRECTORIES = ("/usr/share/qemu", "/usr/share/seabios", "/usr/share/qboot", "/usr/local/share/qemu")


class Capabilities(Record):
    """What a hypervisor said of itself: its version, and the accelerators, machines and devices that it has."""

    version: str
    accelerators: tuple[str, ...]
    machines: tuple[str, ...]
    devices: frozenset[str]


class Control(Protocol):
    """A running machine."""

    def status(self) -> str:
        """`running`, `paused` … as the hypervisor says it."""

    def pause(self) -> None:
        """Stop all processors of the machine; its clock stands still."""

    def resume(self) -> None:
        """Let them go on."""

    def resize(self, memory_bytes: int) -> None:
        """Ask the guest by its balloon to do with that much memory."""

    def memory_bytes(self) -> int:
        """How much memory the guest has, less what is in its balloon."""


class Hypervisor(Protocol):
    """A program that runs machines."""

    path: str

    def probe(self) -> Capabilities:
        """What it can, found by asking it. Raises HostError."""

    def command(self, spec: "MachineSpec") -> tuple[str, ...]:
        """The words to execute. Raises UnsupportedError for a machine that it cannot make."""


class Qemu(Hypervisor):
    """QEMU. Boots microvm by PVH, or q35."""

    def __init__(self, path: str = "", cache: Cache | None = None, pointer: str = "") -> None:
        """`path` is its program, found where it is empty; `pointer` the line of config.json. Raises HostError."""
        self.path = path or find_qemu()
        self._cache = cache
        if not os.access(self.path, os.X_OK):
            raise HostError(
                f"run the hypervisor `{self.path}`", 0, path=self.path, pointer=pointer, cause="no such program",
                hint=QEMU_HINT,
            )  # fmt: skip

    def probe(self) -> Capabilities:
        """What it can. Asked once; then it is in the cache for as long as the program's file is the same."""
        if self._cache is None:
            return self._ask()
        name = f"qemu-{digest_of(self.path, identity_of(self.path))}"
        return _decode(self._cache.get_made(name, lambda: _encode(self._ask())))

    def command(self, spec: "MachineSpec") -> tuple[str, ...]:
        """The words to execute."""
        return qemu_argv(spec, self.path)

    def require(self, spec: "MachineSpec") -> None:
        """Raises UnsupportedError if this QEMU was built without what the machine needs."""
        found = self.probe()
        for what, wanted, has in (
            ("machine", spec.machine, found.machines),
            ("accelerator", spec.accel, found.accelerators),
        ):
            if wanted not in has:
                raise UnsupportedError("vm", "vm", f"`{self.path}` has no {what} `{wanted}`", hint=QEMU_HINT)

    def _ask(self) -> Capabilities:
        version = self._said("--version").partition("\n")[0]
        if not version.startswith(_VERSION):
            raise HostError(f"use `{self.path}` as hypervisor", 0, path=self.path, cause="it does not say it is QEMU")
        machines = [line.split()[0] for line in self._said("-machine", "help").splitlines() if line.split()]
        accelerators = [line.strip() for line in self._said("-accel", "help").splitlines() if " " not in line.strip()]
        devices = [line.split('"')[1] for line in self._said("-device", "help").splitlines() if line.startswith("name")]
        return Capabilities(
            version.removeprefix(_VERSION),
            tuple(accelerators),
            tuple(name for name in (MICROVM, Q35) if name in machines),
            frozenset(devices) & DEVICES,
        )

    def _said(self, *arguments: str) -> str:
        import subprocess

        try:
            done = subprocess.run(
                [self.path, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PROBE_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HostError(f"ask `{self.path}` what it can", 0, path=self.path, cause=str(error)) from error
        if done.returncode:
            cause = done.stderr.strip() or f"it ended with status {done.returncode}"
            raise HostError(f"ask `{self.path}` what it can", 0, path=self.path, cause=cause)
        return done.stdout


class QemuControl(Control):
    """A machine of QEMU's, through its monitor."""

    def __init__(self, qmp: "Qmp") -> None:
        self._qmp = qmp

    def status(self) -> str:
        return str(self._qmp.execute("query-status")["status"])

    def pause(self) -> None:
        self._qmp.execute("stop")

    def resume(self) -> None:
        self._qmp.execute("cont")

    def resize(self, memory_bytes: int) -> None:
        self._qmp.execute("balloon", {"value": memory_bytes})

    def memory_bytes(self) -> int:
        return int(self._qmp.execute("query-balloon")["actual"])


def find_qemu() -> str:
    """The path of the host's QEMU. Raises HostError where there is none."""
    directories = f"{os.environ.get('PATH', '')}:{_PATH}".split(":")
    for name in _NAMES:
        for directory in directories:
            path = os.path.join(directory, name)
            if os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    raise HostError("find a hypervisor", 0, cause="QEMU is not installed", hint=QEMU_HINT)


def data_files() -> tuple[str, ...]:
    """The firmware that QEMU opens, which a root of its own must have at the same path. Raises HostError."""
    for directory in _DATA_DIRECTORIES:
        path = f"{directory}/{FIRMWARE}"
        if os.path.exists(path):
            return (path,)
    raise HostError("find the hypervisor's firmware", 0, cause=f"there is no {FIRMWARE}", hint=QEMU_HINT)


def _encode(found: Capabilities) -> bytes:
    lines = (found.version, " ".join(found.accelerators), " ".join(found.machines), " ".join(sorted(found.devices)))
    return "\n".join(lines).encode()


def _decode(text: bytes) -> Capabilities:
    version, accelerators, machines, devices = text.decode().split("\n")
    return Capabilities(version, tuple(accelerators.split()), tuple(machines.split()), frozenset(devices.split()))
