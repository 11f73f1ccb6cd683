"""How large a machine is: by its `vm` section, else by the limits of its container. Pure."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.spec.types import Config

MEBIBYTE = 1 << 20
DEFAULT_BYTES = 1024 * MEBIBYTE
# what the guest's kernel takes for itself, beside the container's own
KERNEL_BYTES = 96 * MEBIBYTE
LEAST_BYTES = 160 * MEBIBYTE


def machine_memory_bytes(config: "Config") -> int:
    """The machine's memory, a multiple of 2 MiB."""
    hardware = config.vm.hw_config if config.vm else None
    if hardware is not None and hardware.memory:
        return _rounded(hardware.memory)
    resources = config.linux.resources if config.linux else None
    limit = resources.memory.limit if resources and resources.memory else None
    if limit is None or limit <= 0:
        return DEFAULT_BYTES
    return _rounded(max(LEAST_BYTES, limit + KERNEL_BYTES))


def machine_vcpus(config: "Config") -> int:
    """Its processors: those that were asked for, else as many as the CPU limit can keep busy, one without a limit."""
    hardware = config.vm.hw_config if config.vm else None
    if hardware is not None and hardware.vcpus:
        return hardware.vcpus
    resources = config.linux.resources if config.linux else None
    cpu = resources.cpu if resources else None
    if cpu is None or cpu.quota is None or cpu.quota <= 0:
        return 1
    return max(1, min(os.cpu_count() or 1, -(-cpu.quota // (cpu.period or 100_000))))


def _rounded(size_bytes: int) -> int:
    step = 2 * MEBIBYTE
    return -(-size_bytes // step) * step
