"""What the vm box needs of this host, found by trying: a hypervisor, a kernel with its modules, virtiofsd, KVM."""

import os
import tempfile

from boxwright.boxes.vm import accel
from boxwright.boxes.vm.cache import Cache
from boxwright.boxes.vm.hypervisor import Qemu
from boxwright.boxes.vm.initramfs import FEATURES, Initramfs, make_initramfs
from boxwright.boxes.vm.kernels import BootImage, Kernel, boot_image, find_kernel
from boxwright.boxes.vm.machine import KVM, MICROVM
from boxwright.boxes.vm.network import UPLINK, UPLINK_PLACES
from boxwright.errors import BoxwrightError, HostError
from boxwright.host.doctor import FOUND, MISSING, PARTLY, Check, check
from boxwright.host.spawn import helper_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = "machines"
VIRTIOFSD_PLACES = ("/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/bin/virtiofsd")
_EMULATED = "hardware acceleration of the vm box: QEMU emulates in its place"
_MODULES = "what needs it is refused by its name"


def machines() -> "Iterator[Check]":
    """Every check. Nothing stays: what is unpacked for a trial is removed with it."""
    with tempfile.TemporaryDirectory(prefix="boxwright-doctor-") as directory:
        cache = Cache(os.path.join(directory, "cache"))
        qemu = _qemu(cache)
        yield _hypervisor_check(qemu)
        kernel = _kernel()
        yield _kernel_check(kernel)
        made = None if isinstance(kernel, HostError) else _initramfs(kernel, cache)
        if made is not None:
            yield _modules_check(made)
        virtiofsd = next((path for path in VIRTIOFSD_PLACES if os.access(path, os.X_OK)), "")
        remedy = "apt-get install virtiofsd; before Debian 13 it is in qemu-system-common"
        lost = "root filesystems and mounts of the vm box that are directories"
        yield check(GROUP, "virtiofsd", virtiofsd, virtiofsd, lost=lost, remedy=remedy)
        yield _uplink_check()
        if isinstance(qemu, Qemu) and isinstance(kernel, Kernel) and isinstance(made, Initramfs):
            yield _kvm_by_kernel(qemu, kernel, made, cache)
        else:
            yield _kvm_alone()


def _qemu(cache: Cache) -> Qemu | HostError:
    try:
        found = Qemu("", cache)
        found.probe()
    except HostError as error:
        return error
    return found


def _hypervisor_check(qemu: Qemu | HostError) -> Check:
    lost, remedy = "the vm box", "apt-get install qemu-system-x86"
    if isinstance(qemu, HostError):
        return Check(GROUP, "QEMU", MISSING, qemu.cause, lost, remedy)
    found = qemu.probe()
    detail = f"{qemu.path}, {found.version.split()[0]}, {', '.join(found.accelerators)}"
    if MICROVM not in found.machines:
        return Check(GROUP, "QEMU", PARTLY, f"{detail}: without microvm", "machines that start fast", remedy)
    return Check(GROUP, "QEMU", FOUND, detail)


def _kernel() -> Kernel | HostError:
    try:
        return find_kernel()
    except HostError as error:
        return error


def _kernel_check(kernel: Kernel | HostError) -> Check:
    if isinstance(kernel, HostError):
        why = kernel.message.removeprefix("cannot ")
        return Check(GROUP, "kernel", MISSING, why, "the vm box without a vm.kernel.path", kernel.hint or "")
    return Check(GROUP, "kernel", FOUND, f"{kernel.path}, {kernel.version}")


def _initramfs(kernel: Kernel, cache: Cache) -> Initramfs | BoxwrightError:
    try:
        return make_initramfs(kernel, FEATURES, helper_path(), cache)
    except BoxwrightError as error:
        return error


def _modules_check(made: Initramfs | BoxwrightError) -> Check:
    name = "kernel's modules"
    if isinstance(made, BoxwrightError):
        return Check(GROUP, name, MISSING, made.message, "the vm box", made.hint or "")
    if not made.missing:
        return Check(GROUP, name, FOUND, "all that a machine can use")
    lacking = dict.fromkeys(feature for feature, _ in made.missing)
    modules = ", ".join(module for _, module in made.missing)
    remedy = "apt-get install linux-image-amd64, which has more of them"
    return Check(GROUP, name, PARTLY, f"without {modules}", f"{', '.join(lacking)}: {_MODULES}", remedy)


def _uplink_check() -> Check:
    path = next((path for path in (f"{place}/{UPLINK}" for place in UPLINK_PLACES) if os.access(path, os.X_OK)), "")
    lost = "the network `host` of the vm box, and published ports"
    return check(GROUP, UPLINK, path, path, lost=lost, remedy=f"apt-get install {UPLINK}")


def _kvm_by_kernel(qemu: Qemu, kernel: Kernel, made: Initramfs, cache: Cache) -> Check:
    """Boot the very kernel, as a box does at its first start."""
    try:
        image: BootImage = boot_image(kernel, cache)
        found = accel.choose(qemu, image, made.path, cache, use_override=False)
    except HostError as error:
        return Check(GROUP, "KVM", MISSING, error.message, _EMULATED)
    if found.accel == KVM:
        return Check(GROUP, "KVM", FOUND, found.why)
    return Check(GROUP, "KVM", MISSING, found.why, _EMULATED, _kvm_remedy())


def _kvm_alone() -> Check:
    """What can be said without a hypervisor and a kernel: some instructions in real mode."""
    from boxwright.host import kvm

    if not os.path.exists(kvm.DEVICE):
        return Check(GROUP, "KVM", MISSING, f"there is no {kvm.DEVICE}", _EMULATED, _kvm_remedy())
    problem = kvm.try_guest() if os.uname().machine == "x86_64" else "it is tried on x86-64 only"
    if problem:
        return Check(GROUP, "KVM", MISSING, problem, _EMULATED, _kvm_remedy())
    # honest: a nested hypervisor may do this much and still hang a kernel
    return Check(GROUP, "KVM", PARTLY, "runs a few instructions in real mode; that it runs a kernel is not proved")


def _kvm_remedy() -> str:
    if not os.path.exists(accel.DEVICE):
        return "modprobe kvm_intel or kvm_amd"
    return "" if os.access(accel.DEVICE, os.R_OK | os.W_OK) else "be in the group kvm"
