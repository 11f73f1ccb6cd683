"""The `vm` section of config.json (runtime-spec 1.3: config-vm.md)."""

from boxwright.spec.kinds import U32, U64, SpecRecord


class Hypervisor(SpecRecord):
    """The program that runs the virtual machine."""

    path: str
    parameters: tuple[str, ...] = ()
    anchor = "config-vm.md#HypervisorObject"


class Kernel(SpecRecord):
    """The kernel that the virtual machine boots."""

    path: str
    parameters: tuple[str, ...] = ()
    initrd: str | None = None
    anchor = "config-vm.md#KernelObject"


class Image(SpecRecord):
    """The root disk of the virtual machine itself, not of the container."""

    path: str
    format: str = "raw"
    anchor = "config-vm.md#ImageObject"


class IOMemory(SpecRecord):
    """`nr_mfns` pages of I/O memory from `first_mfn` on, seen at `first_gfn` or at the same place."""

    first_mfn: U64
    nr_mfns: U64
    first_gfn: U64 | None = None
    anchor = "config-vm.md#HwConfigObject"


class HWConfig(SpecRecord):
    """The hardware of the virtual machine; `memory` in bytes."""

    device_tree: str | None = None
    vcpus: U32 | None = None
    memory: U64 | None = None
    dtdevs: tuple[str, ...] = ()
    iomems: tuple[IOMemory, ...] = ()
    irqs: tuple[U32, ...] = ()
    anchor = "config-vm.md#HwConfigObject"


class VM(SpecRecord):
    """The virtual machine around the container."""

    kernel: Kernel
    hypervisor: Hypervisor | None = None
    image: Image | None = None
    hw_config: HWConfig | None = None
    anchor = "config-vm.md#VirtualMachineSpecificContainerConfiguration"
