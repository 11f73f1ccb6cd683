"""Rules for the `vm` section (config-vm.md)."""

from boxwright.errors import Problem
from boxwright.spec.constants import VM_IMAGE_FORMATS
from boxwright.spec.rules import not_absolute, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.spec.types_vm import VM


def paths(vm: "VM") -> "Iterator[Problem]":
    """What the runtime opens has an absolute path."""
    yield from not_absolute(vm.kernel.at("path"), vm.kernel.path, vm.kernel.anchor)
    yield from not_absolute(vm.kernel.at("initrd"), vm.kernel.initrd, vm.kernel.anchor)
    if vm.hypervisor is not None:
        yield from not_absolute(vm.hypervisor.at("path"), vm.hypervisor.path, vm.hypervisor.anchor)
    if vm.image is not None:
        yield from not_absolute(vm.image.at("path"), vm.image.path, vm.image.anchor)


def image_format(vm: "VM") -> "Iterator[Problem]":
    """The image has a known format."""
    if vm.image is not None and vm.image.format not in VM_IMAGE_FORMATS:
        image = vm.image
        yield unknown(image.at("format"), image.format, VM_IMAGE_FORMATS, "image format", image.anchor)


def hardware(vm: "VM") -> "Iterator[Problem]":
    """There is a CPU, and memory, and pages to map."""
    wanted = vm.hw_config
    if wanted is None:
        return
    for name, number in (("vcpus", wanted.vcpus), ("memory", wanted.memory)):
        if number == 0:
            yield Problem(wanted.at(name), "must be greater than zero", wanted.anchor, value=0)
    for region in wanted.iomems:
        if region.nr_mfns == 0:
            yield Problem(region.at("nrMFNs"), "must be greater than zero", region.anchor, value=0)


RULES = (paths, image_format, hardware)
