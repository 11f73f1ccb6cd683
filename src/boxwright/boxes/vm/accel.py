"""KVM or emulation, chosen by booting: that /dev/kvm is there, and even that it runs some code, proves nothing.

A nested hypervisor may open it, make machines and run a few instructions, and hang as soon as a real kernel starts. So
the very kernel is booted until its first process speaks. What came of it is kept for as long as the host, the kernel
and the hypervisor are the same.
"""

import os
from _socket import AF_UNIX, SOCK_STREAM

from boxwright._record import Record
from boxwright.boxes.vm.cache import Cache, digest_of, identity_of
from boxwright.boxes.vm.frames import GREET, Frame, encode_frame
from boxwright.boxes.vm.hypervisor import Hypervisor
from boxwright.boxes.vm.machine import KVM, MEBIBYTE, TCG, MachineSpec
from boxwright.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.boxes.vm.kernels import BootImage

DEVICE = "/dev/kvm"
OVERRIDE = "BOXWRIGHT_ACCEL"
TRIAL_TIMEOUT_S = 5.0
_TRIAL_MEMORY_BYTES = 128 * MEBIBYTE
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Choice(Record):
    """`accel` is KVM or TCG, `why` one line for a person."""

    accel: str
    why: str


def choose(
    hypervisor: Hypervisor,
    image: "BootImage",
    initrd: str,
    cache: Cache,
    wanted: str = "",
    *,
    use_override: bool = True,
) -> Choice:
    """How this machine is run best: as `wanted`, else as $BOXWRIGHT_ACCEL says, else by KVM if it boots.

    The first time on a host with /dev/kvm it takes as long as a boot, TRIAL_TIMEOUT_S if that hangs. Raises
    UsageError for another accelerator, HostError.
    """
    given = wanted or (os.environ.get(OVERRIDE, "") if use_override else "")
    if given:
        if given not in {KVM, TCG}:
            raise UsageError(f"`{given}` is no accelerator", hint=f"set {OVERRIDE} to {KVM} or {TCG}, or not at all")
        return Choice(given, "as told")
    problem = _refusal()
    if problem:
        return Choice(TCG, problem)
    name = f"accel-{digest_of(_boot_id(), image.key, hypervisor.path, identity_of(hypervisor.path))}"
    return _decode(cache.get_made(name, lambda: _encode(_tried(hypervisor, image, initrd))))


def host_tsc_khz(cache: Cache) -> int:
    """The frequency of the host's time stamp counter, measured once for each boot. Raises HostError."""
    return int(cache.get_made(f"tsc-{digest_of(_boot_id())}", _measured_tsc))


def _measured_tsc() -> bytes:
    from boxwright.host.tsc import tsc_khz

    return b"%d" % tsc_khz()


def _refusal() -> str:
    """Why KVM need not be tried, empty if it must be."""
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{DEVICE}: {error.strerror}"
    return ""


def _tried(hypervisor: Hypervisor, image: "BootImage", initrd: str) -> Choice:
    """Boot by KVM until the guest says something. The hypervisor is killed and reaped in any case."""
    import socket
    import subprocess

    ours, port = socket.socketpair(AF_UNIX, SOCK_STREAM)
    with ours, port:
        ours.sendall(encode_frame(Frame(GREET)))
        spec = MachineSpec(
            memory_bytes=_TRIAL_MEMORY_BYTES,
            kernel=image.path,
            initrd=initrd,
            port_fd=port.fileno(),
            accel=KVM,
            pvh=image.pvh,
        )
        process = subprocess.Popen(
            hypervisor.command(spec),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(port.fileno(),),
        )
        try:
            port.close()
            ours.settimeout(TRIAL_TIMEOUT_S)
            answer = ours.recv(1)
        except ConnectionResetError:
            answer = b""  # it has ended with our greeting unread
        except TimeoutError:
            return Choice(TCG, f"{DEVICE} opens, but a kernel hangs: nothing came of it within {TRIAL_TIMEOUT_S:g} s")
        finally:
            process.kill()
            _, said = process.communicate()
    if answer:
        return Choice(KVM, f"a kernel booted by {DEVICE}")
    last = said.decode(errors="replace").strip().splitlines()
    return Choice(TCG, f"{DEVICE} opens, but the hypervisor ended: {last[-1] if last else 'it said nothing'}")


def _boot_id() -> str:
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def _encode(choice: Choice) -> bytes:
    return f"{choice.accel} {choice.why}".encode()


def _decode(text: bytes) -> Choice:
    accel, _, why = text.decode().partition(" ")
    return Choice(accel, why)
