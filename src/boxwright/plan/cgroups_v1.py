"""Limits as writes to cgroup v1 files (cgroups(7), Documentation/admin-guide/cgroup-v1)."""

from boxwright.plan.cgroup_writes import (
    BLOCK_IO,
    CPU,
    HUGE_PAGES,
    MEMORY,
    NETWORK,
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


def _memory(resources: "Resources", path: str, site: "CgroupSite") -> "list[Step]":
    memory = resources.memory
    assert memory is not None
    check_swap(resources, memory.limit)
    steps = _memory_and_swap(memory, path, site.standing)
    for value, file, name in (
        (memory.reservation, "soft_limit_in_bytes", "reservation"),
        (memory.kernel_tcp, "kmem.tcp.limit_in_bytes", "kernelTCP"),
    ):
        if value:
            steps.append(write(f"{path}/memory.{file}", value, memory.at(name), MEMORY))
    if memory.kernel:
        # Linux 5.16 removed the limit of kernel memory, which is counted by memory.limit all the same
        at = memory.at("kernel")
        steps.append(write(f"{path}/memory.kmem.limit_in_bytes", memory.kernel, at, MEMORY, soft=True))
    if memory.use_hierarchy is not None:
        at = memory.at("useHierarchy")
        steps.append(write(f"{path}/memory.use_hierarchy", int(memory.use_hierarchy), at, MEMORY))
    if memory.swappiness is not None:
        if memory.swappiness > 100:
            raise refuse(memory.at("swappiness"), "must be 0 to 100", MEMORY, memory.swappiness)
        steps.append(write(f"{path}/memory.swappiness", memory.swappiness, memory.at("swappiness"), MEMORY))
    if memory.disable_oom_killer is not None:
        at = memory.at("disableOOMKiller")
        steps.append(write(f"{path}/memory.oom_control", int(memory.disable_oom_killer), at, MEMORY))
    return steps


def _memory_and_swap(memory: "Memory", path: str, standing: "Standing | None") -> "list[Step]":
    """The kernel wants limit ≤ memory+swap after each write, so what grows goes in the other order. 0 is unset, as
    engines mean it.
    """
    # an unlimited memory with a limit of both left in force would be no change
    swap = -1 if memory.limit == -1 and not memory.swap else memory.swap
    pointer = memory.at("swap" if memory.swap else "limit")
    steps = []
    if memory.limit:
        steps.append(write(f"{path}/memory.limit_in_bytes", memory.limit, memory.at("limit"), MEMORY))
    if swap:
        # a kernel without swap accounting has no such file, and then nothing to lift
        derived = not memory.swap
        steps.append(write(f"{path}/memory.memsw.limit_in_bytes", swap, pointer, MEMORY, soft=derived))
    grows = standing is not None and swap and (swap < 0 or 0 <= standing.memory_limit <= swap)
    return steps[::-1] if grows else steps


def _cpu(resources: "Resources", path: str, site: "CgroupSite") -> "list[Step]":
    cpu = resources.cpu
    assert cpu is not None
    shares, idle = [], []
    if cpu.shares:
        shares.append(write(f"{path}/cpu.shares", cpu.shares, cpu.at("shares"), CPU))
    if cpu.idle is not None:
        idle.append(write(f"{path}/cpu.idle", cpu.idle, cpu.at("idle"), CPU))
    # shares cannot be written to an idle group
    steps = idle + shares if cpu.idle == 0 else shares + idle
    for value, name, file in (
        (cpu.realtime_period, "realtimePeriod", "cpu.rt_period_us"),
        (cpu.realtime_runtime, "realtimeRuntime", "cpu.rt_runtime_us"),
    ):
        if value:
            steps.append(write(f"{path}/{file}", value, cpu.at(name), CPU))
    return steps + _quota(resources, path, site.standing)


def _quota(resources: "Resources", path: str, standing: "Standing | None") -> "list[Step]":
    cpu = resources.cpu
    assert cpu is not None
    check_burst(resources, cpu.quota or (standing.cpu_quota if standing else -1))
    quota, period, burst = [], [], []
    if cpu.quota:
        quota.append(write(f"{path}/cpu.cfs_quota_us", max(cpu.quota, -1), cpu.at("quota"), CPU))
    if cpu.period:
        period.append(write(f"{path}/cpu.cfs_period_us", cpu.period, cpu.at("period"), CPU))
    if cpu.burst is not None:
        burst.append(write(f"{path}/cpu.cfs_burst_us", cpu.burst, cpu.at("burst"), CPU))
    # quota / period must not pass the parent's share on the way: a shorter period goes after the new quota
    shorter = standing is not None and cpu.period is not None and cpu.period < standing.cpu_period
    bandwidth = quota + period if shorter else period + quota
    lower = standing is not None and cpu.burst is not None and cpu.burst <= standing.cpu_burst
    return burst_around(bandwidth, burst, lower)


def _cpuset(resources: "Resources", path: str, _site: "CgroupSite") -> "list[Step]":
    cpu = resources.cpu
    assert cpu is not None
    steps = []
    for value, name in ((cpu.cpus, "cpus"), (cpu.mems, "mems")):
        if value:
            steps.append(write(f"{path}/cpuset.{name}", value, cpu.at(name), CPU))
    return steps


def _pids(resources: "Resources", path: str, _site: "CgroupSite") -> "list[Step]":
    pids = resources.pids
    assert pids is not None
    if pids.limit is None:
        return []
    return [write(f"{path}/pids.max", "max" if pids.limit < 0 else pids.limit, pids.at("limit"), PIDS)]


def _block_io(resources: "Resources", path: str, site: "CgroupSite") -> "list[Step]":
    block = resources.block_io
    assert block is not None
    steps = []
    weight_file = f"{path}/{site.io_weight or 'blkio.weight'}"
    if block.weight:
        steps.append(write(weight_file, block.weight, block.at("weight"), BLOCK_IO))
    if block.leaf_weight:
        steps.append(write(f"{path}/blkio.leaf_weight", block.leaf_weight, block.at("leafWeight"), BLOCK_IO))
    for device in block.weight_device:
        number = f"{device.major}:{device.minor}"
        if device.weight is None and device.leaf_weight is None:
            raise refuse(device.pointer, "must have `weight` or `leafWeight`", BLOCK_IO)
        if device.weight is not None:
            steps.append(write(f"{weight_file}_device", f"{number} {device.weight}", device.at("weight"), BLOCK_IO))
        if device.leaf_weight is not None:
            file, at = f"{path}/blkio.leaf_weight_device", device.at("leafWeight")
            steps.append(write(file, f"{number} {device.leaf_weight}", at, BLOCK_IO))
    for devices, name in (
        (block.throttle_read_bps_device, "read_bps"),
        (block.throttle_write_bps_device, "write_bps"),
        (block.throttle_read_iops_device, "read_iops"),
        (block.throttle_write_iops_device, "write_iops"),
    ):
        for rate in devices:
            text = f"{rate.major}:{rate.minor} {rate.rate}"
            steps.append(write(f"{path}/blkio.throttle.{name}_device", text, rate.pointer, BLOCK_IO))
    return steps


def _hugetlb(resources: "Resources", path: str, _site: "CgroupSite") -> "list[Step]":
    steps = []
    for limit in resources.hugepage_limits:
        check_page_size(limit.page_size, limit.at("pageSize"))
        base, at = f"{path}/hugetlb.{limit.page_size}", limit.at("limit")
        # the limit of reservations where the kernel has one (Linux 5.7), that of page faults in any case
        steps.append(write(f"{base}.rsvd.limit_in_bytes", limit.limit, at, HUGE_PAGES, soft=True))
        steps.append(write(f"{base}.limit_in_bytes", limit.limit, at, HUGE_PAGES))
    return steps


def _net_cls(resources: "Resources", path: str, _site: "CgroupSite") -> "list[Step]":
    network = resources.network
    assert network is not None
    return [write(f"{path}/net_cls.classid", network.class_id, network.at("classID"), NETWORK)]


def _net_prio(resources: "Resources", path: str, _site: "CgroupSite") -> "list[Step]":
    network = resources.network
    assert network is not None
    steps = []
    for entry in network.priorities:
        if not entry.name or " " in entry.name or "\n" in entry.name:
            raise refuse(entry.at("name"), "is not the name of an interface", NETWORK, entry.name)
        steps.append(write(f"{path}/net_prio.ifpriomap", f"{entry.name} {entry.priority}", entry.pointer, NETWORK))
    return steps


def _rdma(resources: "Resources", path: str, _site: "CgroupSite") -> "list[Step]":
    return [write(f"{path}/rdma.max", line, pointer, RDMA) for line, pointer in rdma_lines(resources)]


V1_PARTS: "dict[str, Part]" = {
    "memory": _memory,
    "cpu": _cpu,
    "cpuset": _cpuset,
    "pids": _pids,
    "block_io": _block_io,
    "hugetlb": _hugetlb,
    "net_cls": _net_cls,
    "net_prio": _net_prio,
    "rdma": _rdma,
}
