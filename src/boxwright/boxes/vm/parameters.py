"""What config.json may say about hypervisor, kernel and hardware: an allow-list, checked before anything is made.

A parameter for the hypervisor is not given to it as it is: whoever writes config.json would else reach the host's
files through it. It is one of OPTIONS, as `name=value`. No annotation changes a machine.
"""

from boxwright._record import Record
from boxwright.boxes.vm.machine import KVM, MEBIBYTE, MICROVM, Q35, TCG
from boxwright.errors import ConfigError, Problem, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.spec.types_vm import VM, HWConfig, Hypervisor, Kernel

DEFAULT_MEMORY_BYTES = 256 * MEBIBYTE
LEAST_MEMORY_BYTES = 96 * MEBIBYTE  # with less the kernel of a distribution does not boot
MOST_VCPUS = 64
_SWITCH = ("off", "on")
# a parameter, its values (empty: a model of the processor) and what it does
OPTIONS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("accel", (KVM, TCG), "run the machine by the processor's virtualization, or emulate it; else what works is used"),
    ("machine", (MICROVM, Q35), "without or with a PCI bus; else the first, if it has room for the devices"),
    ("cpu", (), "the processor's model with features, as `max,-avx2`"),
    ("mem-merge", _SWITCH, "let the host's kernel share equal pages of machines; off where it is not given"),
    ("balloon", _SWITCH, "a balloon device, to give memory back; on where it is not given"),
)
_CPU_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+,")
# what would take the guest's first process, its files or its console from us, or what follows is not the kernel's
RESERVED_KERNEL_PARAMETERS = (
    "--",
    "acpi",
    "console",
    "init",
    "initrd",
    "initrdmem",
    "lockdown",
    "module.sig_enforce",
    "netconsole",
    "noinitrd",
    "panic",
    "rdinit",
    "tsc",
    "tsc_early_khz",
    "virtio_mmio.device",
)
# COMMAND_LINE_SIZE is 2048 on x86; the rest is for what the machine itself needs
MOST_PARAMETER_BYTES = 1024


class Wanted(Record):
    """What config.json wants of the machine; empty texts where it leaves the choice to us."""

    memory_bytes: int = DEFAULT_MEMORY_BYTES
    vcpus: int = 1
    hypervisor: str = ""
    accel: str = ""
    machine: str = ""
    cpu: str = ""
    balloon: bool = True
    mem_merge: bool = False
    kernel: str = ""
    kernel_pointer: str = ""
    kernel_parameters: tuple[str, ...] = ()
    initrd: str = ""


def wanted_of(vm: "VM | None") -> Wanted:
    """What the `vm` section says. Raises ConfigError with every parameter that is not allowed, UnsupportedError."""
    if vm is None:
        return Wanted()
    _refuse_hardware(vm.hw_config)
    _refuse_image(vm)
    problems = [*_kernel_problems(vm.kernel), *_option_problems(vm.hypervisor), *_hardware_problems(vm.hw_config)]
    if problems:
        raise ConfigError(problems)
    given = dict(option.split("=", 1) for option in vm.hypervisor.parameters) if vm.hypervisor else {}
    hardware = vm.hw_config
    return Wanted(
        memory_bytes=(hardware.memory if hardware else None) or DEFAULT_MEMORY_BYTES,
        vcpus=(hardware.vcpus if hardware else None) or 1,
        hypervisor=vm.hypervisor.path if vm.hypervisor else "",
        accel=given.get("accel", ""),
        machine=given.get("machine", ""),
        cpu=given.get("cpu", ""),
        balloon=given.get("balloon", "on") == "on",
        mem_merge=given.get("mem-merge", "off") == "on",
        kernel=vm.kernel.path,
        kernel_pointer=vm.kernel.at("path"),
        kernel_parameters=vm.kernel.parameters,
        initrd=vm.kernel.initrd or "",
    )


def _refuse_hardware(hardware: "HWConfig | None") -> None:
    """Raises UnsupportedError for what hands the host's own devices to the machine."""
    if hardware is None:
        return
    for name, value in (
        ("deviceTree", hardware.device_tree),
        ("dtdevs", hardware.dtdevs),
        ("iomems", hardware.iomems),
        ("irqs", hardware.irqs),
    ):
        if value:
            why = "the machine has devices of its own alone; this hands it some of the host's, as Xen does"
            raise UnsupportedError(f"vm.hwConfig.{name}", "vm", why, hint=f"remove {hardware.at(name)}")


def _refuse_image(vm: "VM") -> None:
    """Raises UnsupportedError for a root of the machine beside the container's."""
    if vm.image is not None:
        why = "the machine's own root is the initramfs that the runtime makes, and nothing of a user's runs in it"
        raise UnsupportedError("vm.image", "vm", why, hint=f"remove {vm.at('image')}; the container's is `root.path`")


def _hardware_problems(hardware: "HWConfig | None") -> "Iterator[Problem]":
    if hardware is None:
        return
    if hardware.memory is not None and hardware.memory < LEAST_MEMORY_BYTES:
        rule = f"a machine with its kernel needs {LEAST_MEMORY_BYTES} bytes at least"
        yield Problem(hardware.at("memory"), rule, hardware.anchor, value=hardware.memory)
    if hardware.vcpus is not None and hardware.vcpus > MOST_VCPUS:
        rule = f"a machine has at most {MOST_VCPUS} processors"
        yield Problem(hardware.at("vcpus"), rule, hardware.anchor, value=hardware.vcpus)


def _option_problems(hypervisor: "Hypervisor | None") -> "Iterator[Problem]":
    if hypervisor is None:
        return
    for index, option in enumerate(hypervisor.parameters):
        rule = _option_rule(option)
        if rule:
            pointer = f"{hypervisor.at('parameters')}/{index}"
            yield Problem(pointer, rule, hypervisor.anchor, value=option, hint=_OPTIONS_HINT)


_OPTIONS_HINT = "; ".join(f"{name}={'|'.join(values) if values else 'MODEL'}" for name, values, _ in OPTIONS)


def _option_rule(option: str) -> str:
    """What is wrong with a parameter for the hypervisor, empty if nothing is."""
    name, _, value = option.partition("=")
    for known, values, _ in OPTIONS:
        if name == known:
            if values:
                return "" if value in values else f"`{name}` is one of {', '.join(values)}"
            return "" if value and not set(value) - _CPU_LETTERS else f"`{value}` is no model of a processor"
    return "the parameter is not one of those that may be given to a hypervisor"


def _kernel_problems(kernel: "Kernel") -> "Iterator[Problem]":
    for index, text in enumerate(kernel.parameters):
        rule = _kernel_rule(text)
        if rule:
            yield Problem(f"{kernel.at('parameters')}/{index}", rule, kernel.anchor, value=text)
    length = sum(len(text.encode("utf-8", "surrogateescape")) + 1 for text in kernel.parameters)
    if length > MOST_PARAMETER_BYTES:
        rule = f"the kernel's parameters are {length} bytes together, and {MOST_PARAMETER_BYTES} at most fit"
        yield Problem(kernel.at("parameters"), rule, kernel.anchor)


def _kernel_rule(text: str) -> str:
    """What is wrong with a text for the kernel's command line, empty if nothing is."""
    if not text.isprintable():
        return "the kernel's command line has printable characters only"
    if text.count('"') % 2:
        return 'a `"` is not closed, so it would take in what follows'
    for word in text.replace('"', " ").split():
        name = word.partition("=")[0].replace("-", "_") if word != "--" else word
        if name in RESERVED_KERNEL_PARAMETERS:
            return f"`{name}` is for the runtime to set: the guest's first process and console are its own"
    return ""
