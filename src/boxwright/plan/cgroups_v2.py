"""Limits as writes to cgroup v2 files, with the conversions from what config.json counts in v1's units.

Documentation/admin-guide/cgroup-v2.rst. What v2 has no equivalent for is an UnsupportedError, as
config-linux.md#configLinuxUnified demands.
"""

from boxwright.errors import UnsupportedError
from boxwright.plan.cgroup_writes import (
    BLOCK_IO,
    CPU,
    HUGE_PAGES,
    MEMORY,
    PIDS,
    RDMA,
    burst_around,
    check_burst,
    check_page_size,
    check_swap,
    rdma_lines,
    refuse,
    write,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.cgroup_layout import CgroupSite, Standing
    from boxwright.plan.cgroup_writes import Part
    from boxwright.plan.ops import Step
    from boxwright.spec.types import Memory, Resources

_MIN_SHARES, _MAX_SHARES, _MAX_WEIGHT = 2, 262144, 10000


def shares_to_weight(shares: int) -> int:
    """cpu.weight (1 to 10000) for v1's cpu.shares (2 to 262144); what is out of range goes to its end.

    A parabola through the logarithms that takes the least, default (1024 → 100) and greatest values to each
    other; runc 1.3.2 and crun 1.23 compute the same.
    """
    from math import ceil, log2

    if shares <= _MIN_SHARES:
        return 1
    if shares >= _MAX_SHARES:
        return _MAX_WEIGHT
    power = log2(shares)
    return ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def blkio_to_io_weight(weight: int) -> int:
    """io.weight (1 to 10000) for v1's blkio.weight (10 to 1000), on a straight line."""
    return 1 + (min(max(weight, 10), 1000) - 10) * 9999 // 990


def _max(value: int) -> "int | str":
    return "max" if value < 0 else value


def _unsupported(pointer: str, why: str) -> UnsupportedError:
    return UnsupportedError(pointer, "linux", f"cgroup v2 {why}")


# --- memory -----------------------------------------------------------------------------------------------------


def _memory(resources: "Resources", path: str, site: "CgroupSite") -> "list[Step]":
    memory = resources.memory
    assert memory is not None
    _refuse_v1_memory(memory)
    limit, standing = memory.limit, site.standing
    if not limit and standing is not None:
        limit = standing.memory_limit
    check_swap(resources, limit)
    _check_usage(memory, standing)
    steps = _swap(memory, path, limit)
    if memory.limit:
        steps.append(write(f"{path}/memory.max", _max(memory.limit), memory.at("limit"), MEMORY))
    if memory.reservation:
        steps.append(write(f"{path}/memory.low", _max(memory.reservation), memory.at("reservation"), MEMORY))
    return steps


def _swap(memory: "Memory", path: str, limit: int | None) -> "list[Step]":
    """v2 limits swap alone, config.json memory and swap together. 0 is unset, as engines mean it."""
    pointer = memory.at("swap" if memory.swap else "limit")
    if not memory.swap:
        # unlimited memory lifts what was in force of both
        value = -1 if memory.limit == -1 else None
    elif memory.swap < 0 or limit == -1:
        value = memory.swap
    elif not limit:
        raise _unsupported(pointer, "limits swap alone, and what is memory of it is not said: `limit` is missing")
    else:
        value = memory.swap - limit
    if value is None:
        return []
    # a kernel without swap has no such file, and nothing to limit or lift either
    return [write(f"{path}/memory.swap.max", _max(value), pointer, MEMORY, soft=value <= 0)]


def _check_usage(memory: "Memory", standing: "Standing | None") -> None:
    limit = memory.limit if memory.check_before_update else None
    if limit and standing is not None and 0 < limit < standing.memory_usage:
        rule = f"is below the present usage {standing.memory_usage}, and `checkBeforeUpdate` is set"
        raise refuse(memory.at("limit"), rule, MEMORY, limit)


def _refuse_v1_memory(memory: "Memory") -> None:
    for value, name in ((memory.kernel, "kernel"), (memory.kernel_tcp, "kernelTCP")):
        if value and value > 0:
            raise _unsupported(memory.at(name), "counts kernel memory with the rest and has no limit of it alone")
    if memory.swappiness is not None:
        raise _unsupported(memory.at("swappiness"), "has no swappiness of a group")
    if memory.disable_oom_killer:
        raise _unsupported(memory.at("disableOOMKiller"), "cannot disable the OOM killer")
    if memory.use_hierarchy is False:
        raise _unsupported(memory.at("useHierarchy"), "is always hierarchical")


# --- cpu --------------------------------------------------------------------------------------------------------


def _cpu(resources: "Resources", path: str, site: "CgroupSite") -> "list[Step]":
    cpu = resources.cpu
    assert cpu is not None
    for value, name in ((cpu.realtime_runtime, "realtimeRuntime"), (cpu.realtime_period, "realtimePeriod")):
        if value:
            raise _unsupported(cpu.at(name), "has no realtime bandwidth of a group")
    shares, idle = [], []
    if cpu.shares:
        shares.append(write(f"{path}/cpu.weight", shares_to_weight(cpu.shares), cpu.at("shares"), CPU))
    if cpu.idle is not None:
        idle.append(write(f"{path}/cpu.idle", cpu.idle, cpu.at("idle"), CPU))
    # a weight cannot be written to an idle group
    steps = idle + shares if cpu.idle == 0 else shares + idle
    return steps + _quota(resources, path, site.standing)


def _quota(resources: "Resources", path: str, standing: "Standing | None") -> "list[Step]":
    cpu = resources.cpu
    assert cpu is not None
    standing_quota = standing.cpu_quota if standing else -1
    check_burst(resources, cpu.quota or standing_quota)
    quota, burst = [], []
    if cpu.quota or cpu.period:
        value = _max(cpu.quota or standing_quota)
        text = f"{value} {cpu.period}" if cpu.period else str(value)
        quota.append(write(f"{path}/cpu.max", text, cpu.at("quota" if cpu.quota else "period"), CPU))
    if cpu.burst is not None:
        burst.append(write(f"{path}/cpu.max.burst", cpu.burst, cpu.at("burst"), CPU))
    lower = standing is not None and cpu.burst is not None and cpu.burst <= standing.cpu_burst
    return burst_around(quota, burst, lower)


def _cpuset(resources: "Resources", path: str, _site: "CgroupSite") -> "list[Step]":
    cpu = resources.cpu
    assert cpu is not None
    steps = []
    for value, name in ((cpu.cpus, "cpus"), (cpu.mems, "mems")):
        if value:
            steps.append(write(f"{path}/cpuset.{name}", value, cpu.at(name), CPU))
    return steps


# --- the rest ---------------------------------------------------------------------------------------------------


def _pids(resources: "Resources", path: str, _site: "CgroupSite") -> "list[Step]":
    pids = resources.pids
    assert pids is not None
    if pids.limit is None:
        return []
    return [write(f"{path}/pids.max", _max(pids.limit), pids.at("limit"), PIDS)]


def _block_io(resources: "Resources", path: str, site: "CgroupSite") -> "list[Step]":
    block = resources.block_io
    assert block is not None
    if block.leaf_weight:
        raise _unsupported(block.at("leafWeight"), "has no leaf weights")
    file = site.io_weight or "io.weight"
    convert = int if file == "io.bfq.weight" else blkio_to_io_weight
    steps = []
    if block.weight:
        steps.append(write(f"{path}/{file}", convert(block.weight), block.at("weight"), BLOCK_IO))
    for device in block.weight_device:
        if device.leaf_weight is not None:
            raise _unsupported(device.at("leafWeight"), "has no leaf weights")
        if device.weight is None:
            raise refuse(device.pointer, "must have `weight` or `leafWeight`", BLOCK_IO)
        text = f"{device.major}:{device.minor} {convert(device.weight)}"
        steps.append(write(f"{path}/{file}", text, device.at("weight"), BLOCK_IO))
    for devices, key in (
        (block.throttle_read_bps_device, "rbps"),
        (block.throttle_write_bps_device, "wbps"),
        (block.throttle_read_iops_device, "riops"),
        (block.throttle_write_iops_device, "wiops"),
    ):
        for rate in devices:
            # v1 lifts a limit by 0
            text = f"{rate.major}:{rate.minor} {key}={rate.rate or 'max'}"
            steps.append(write(f"{path}/io.max", text, rate.pointer, BLOCK_IO))
    return steps


def _hugetlb(resources: "Resources", path: str, _site: "CgroupSite") -> "list[Step]":
    steps = []
    for limit in resources.hugepage_limits:
        check_page_size(limit.page_size, limit.at("pageSize"))
        base, at = f"{path}/hugetlb.{limit.page_size}", limit.at("limit")
        # the limit of reservations where the kernel has one (Linux 5.7), that of page faults in any case
        steps.append(write(f"{base}.rsvd.max", limit.limit, at, HUGE_PAGES, soft=True))
        steps.append(write(f"{base}.max", limit.limit, at, HUGE_PAGES))
    return steps


def _rdma(resources: "Resources", path: str, _site: "CgroupSite") -> "list[Step]":
    return [write(f"{path}/rdma.max", line, pointer, RDMA) for line, pointer in rdma_lines(resources)]


V2_PARTS: "dict[str, Part]" = {
    "memory": _memory,
    "cpu": _cpu,
    "cpuset": _cpuset,
    "pids": _pids,
    "block_io": _block_io,
    "hugetlb": _hugetlb,
    "rdma": _rdma,
}
