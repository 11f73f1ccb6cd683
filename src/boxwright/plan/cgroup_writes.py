"""What the v1 and v2 writers of limits share."""

from boxwright.errors import ConfigError, Problem
from boxwright.plan.ops import Step, Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from boxwright.plan.cgroup_layout import CgroupSite
    from boxwright.spec.types import Resources

    Part = Callable[[Resources, str, CgroupSite], list[Step]]

MEMORY = "config-linux.md#configLinuxMemory"
CPU = "config-linux.md#configLinuxCPU"
PIDS = "config-linux.md#configLinuxPIDS"
BLOCK_IO = "config-linux.md#configLinuxBlockIO"
HUGE_PAGES = "config-linux.md#configLinuxHugePageLimits"
NETWORK = "config-linux.md#configLinuxNetwork"
RDMA = "config-linux.md#configLinuxRDMA"


def write(path: str, value: object, pointer: str, anchor: str, *, soft: bool = False) -> Step:
    """The step that writes `value` in decimal, or as it is, to the file `path`."""
    return Step(Write(path, str(value).encode()), pointer, anchor, soft=soft)


def refuse(pointer: str, rule: str, anchor: str, value: object = None) -> ConfigError:
    """The error of a value that contradicts another."""
    return ConfigError([Problem(pointer, rule, anchor, value=value)])


def check_swap(resources: "Resources", limit: int | None) -> None:
    """memory.swap counts memory too, so it cannot be less than the limit of memory."""
    memory = resources.memory
    if memory and memory.swap and limit and 0 < memory.swap < limit:
        rule = f"counts memory and swap, and must not be less than the memory limit {limit}"
        raise refuse(memory.at("swap"), rule, MEMORY, memory.swap)


def check_burst(resources: "Resources", quota: int) -> None:
    """cpu.burst must not be larger than a positive quota (config-linux.md#configLinuxCPU)."""
    cpu = resources.cpu
    if cpu and cpu.burst and 0 < quota < cpu.burst:
        raise refuse(cpu.at("burst"), f"must not be larger than the quota {quota}", CPU, cpu.burst)


def burst_around(quota: list[Step], burst: list[Step], lower: bool) -> list[Step]:
    """The kernel wants burst ≤ quota after every write: a lower burst goes first, a higher one last."""
    return burst + quota if lower else quota + burst


def rdma_lines(resources: "Resources") -> list[tuple[str, str]]:
    """The line and the pointer for each device of `rdma.max`, which is the same on v1 and v2."""
    lines = []
    for device, limits in resources.rdma.items():
        pairs = (("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects))
        text = " ".join(f"{name}={value}" for name, value in pairs if value is not None)
        pointer = resources.at("rdma", device)
        if not text:
            raise refuse(pointer, "must have `hcaHandles` or `hcaObjects`", RDMA)
        if not device or " " in device or "\n" in device:
            raise refuse(pointer, "is not the name of a device", RDMA, device)
        lines.append((f"{device} {text}", pointer))
    return lines


def check_page_size(size: str, pointer: str) -> None:
    """pageSize names a file, so only <digits><KB|MB|GB> may pass (config-linux.md#configLinuxHugePageLimits)."""
    if size[-2:] not in {"KB", "MB", "GB"} or not size[:-2].isdecimal() or not size.isascii() or size[0] == "0":
        raise refuse(pointer, "must be a size as `2MB` or `64KB`", HUGE_PAGES, size)
