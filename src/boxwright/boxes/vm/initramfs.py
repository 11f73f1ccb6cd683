"""The first root of a guest: our own /init with just the modules that the machine's devices need.

/init        the helper
/modules     names of module files, in the order to load them, one a line
/lib/…       those files, uncompressed
"""

import os
from struct import unpack_from

from boxwright._record import Record
from boxwright.boxes.vm.cache import Cache, digest_of, identity_of
from boxwright.boxes.vm.cpio import archive
from boxwright.boxes.vm.kernels import INSTALL_HINT, Kernel
from boxwright.boxes.vm.machine import MICROVM, NO_NETWORK
from boxwright.boxes.vm.modules import ModuleTree
from boxwright.boxes.vm.qemu import machine_of
from boxwright.boxes.vm.unpack import is_packed, unpack
from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from boxwright.boxes.vm.machine import MachineSpec

# to be raised whenever the same files make another archive
FORMAT = 2
MMIO, PCI = "mmio", "pci"
CONSOLE, DISK, NETWORK, OVERLAY, VIRTIOFS = "console", "disk", "network", "overlay", "virtiofs"
EROFS, EXT4, NINEP, BALLOON, VSOCK, RANDOM = "erofs", "ext4", "9p", "balloon", "vsock", "random"
# a feature of the machine, and the modules that make it, by their names
FEATURES: dict[str, tuple[str, ...]] = {
    MMIO: ("virtio_mmio",),
    PCI: ("virtio_pci",),
    CONSOLE: ("virtio_console",),
    DISK: ("virtio_blk",),
    NETWORK: ("virtio_net",),
    OVERLAY: ("overlay",),
    VIRTIOFS: ("virtiofs",),
    EROFS: ("erofs",),
    EXT4: ("ext4",),
    NINEP: ("9p", "9pnet_virtio"),
    BALLOON: ("virtio_balloon",),
    VSOCK: ("vmw_vsock_virtio_transport",),
    RANDOM: ("virtio_rng",),
}
# what scripts/sign-file of the kernel writes behind a module: signature, struct module_signature, this
_SIGNED = b"~Module signature appended~\n"
_SIGNATURE_HEAD_BYTES = 12
_INSISTING = (
    "CONFIG_MODULE_SIG_FORCE",
    "CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY",
    "CONFIG_LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY",
)
_INIT_MODE, _FILE_MODE = 0o755, 0o644


class Initramfs(Record):
    """The archive: its path in the cache, the features that it brings, and those that the kernel does not have.

    `missing` has the feature and the first module of it that is neither a file nor built in.
    """

    path: str
    features: frozenset[str]
    missing: tuple[tuple[str, str], ...]
    modules: tuple[str, ...]

    def require(self, feature: str) -> None:
        """Raises HostError if the kernel of this archive does not have the feature."""
        for name, module in self.missing:
            if name == feature:
                cause = f"the guest's kernel has no module `{module}`"
                raise HostError(f"give the machine `{feature}`", 0, cause=cause, hint=INSTALL_HINT)


def features_of(spec: "MachineSpec") -> tuple[str, ...]:
    """What the devices of a machine need of its kernel, and the filesystems that are on them."""
    needs = (
        (MMIO if machine_of(spec) == MICROVM else PCI, True),
        (CONSOLE, True),
        (OVERLAY, True),
        (VIRTIOFS, spec.shares),
        (DISK, spec.disks),
        (EROFS, spec.disks),
        (EXT4, spec.disks),
        (NETWORK, spec.network.kind != NO_NETWORK),
        (BALLOON, spec.balloon),
    )
    return tuple(feature for feature, needed in needs if needed)


def make_initramfs(kernel: Kernel, features: "Iterable[str]", init: str, cache: Cache, base: str = "") -> Initramfs:
    """The archive for a kernel with the program `init`, made at the first time.

    `base` is an initial ramdisk that is unpacked first, under what is ours: its files are there, its /init is not.
    Raises HostError where a file of it cannot be read, and KeyError for a feature that is none of FEATURES.
    """
    wanted = tuple(dict.fromkeys(features))
    if not kernel.modules:
        return _without_modules(wanted, init, cache, base)
    tree = ModuleTree(kernel.modules)
    missing = tuple((name, module) for name in wanted for module in FEATURES[name] if not tree.has(module))
    lacking = {name for name, _ in missing}
    present = [name for name in wanted if name not in lacking]
    modules = tree.files(module for name in present for module in FEATURES[name])
    path = _archive_of(init, kernel.modules, modules, cache, base, signed=must_be_signed(kernel.version))
    return Initramfs(path, frozenset(present), missing, modules)


def _without_modules(wanted: tuple[str, ...], init: str, cache: Cache, base: str) -> Initramfs:
    """Of a kernel without modules on this host nothing is known: what it has must be built in."""
    path = _archive_of(init, "", (), cache, base, signed=True)
    missing = tuple((name, FEATURES[name][0]) for name in wanted)
    return Initramfs(path, frozenset(), missing, ())


def must_be_signed(version: str, boot: str = "/boot") -> bool:
    """Whether the kernel may refuse modules without a signature: it says so in its configuration, or that is not there.

    Checking one takes an emulated processor some milliseconds, and guards nothing: the files are the host's own.
    """
    try:
        with open(f"{boot}/config-{version}", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return True
    return any(f"{option}=y\n" in text for option in _INSISTING)


def without_signature(module: bytes) -> bytes:
    """The module as it was before it was signed."""
    if not module.endswith(_SIGNED):
        return module
    head = len(module) - len(_SIGNED) - _SIGNATURE_HEAD_BYTES
    (length,) = unpack_from(">I", module, head + 8)
    return module[: head - length] if length < head else module


def _archive_of(init: str, directory: str, modules: tuple[str, ...], cache: Cache, base: str, *, signed: bool) -> str:
    """The archive's path; its name tells the very files that went in."""
    sources = [init, *(f"{directory}/{module}" for module in modules), *((base,) if base else ())]
    try:
        name = digest_of(FORMAT, signed, tuple((path, identity_of(path)) for path in sources))
    except OSError as error:
        raise _unreadable(str(error.filename), error) from error
    return cache.make(f"initramfs-{name}", lambda: _under(base) + _content(init, directory, modules, signed=signed))


def _content(init: str, directory: str, modules: tuple[str, ...], *, signed: bool) -> bytes:
    names = [f"lib/{_plain_name(os.path.basename(module))}" for module in modules]
    files = {
        "init": (_INIT_MODE, _read(init)),
        "modules": (_FILE_MODE, "".join(f"/{name}\n" for name in names).encode("utf-8", "surrogateescape")),
    }
    for name, module in zip(names, modules, strict=True):
        content = _read(f"{directory}/{module}")
        plain = unpack(content, f"the module `{module}`") if is_packed(content) else content
        files[name] = (_FILE_MODE, plain if signed else without_signature(plain))
    return archive(files)


def _under(base: str) -> bytes:
    """The archive to be unpacked first, empty if there is none. The kernel takes one after the other, zeros between."""
    content = _read(base) if base else b""
    return content + bytes(-len(content) % 4)


def _plain_name(name: str) -> str:
    return name.partition(".ko")[0] + ".ko"


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> HostError:
    return HostError(f"read `{path}` for the machine's initramfs", error.errno or 0, path=path)
