"""The limits of a cgroup in words: numbers with their units."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.spec.types import CPU, BlockIO, Memory, Resources

    Limit = tuple[str, str, str]

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def size_words(number: int) -> str:
    """A number of bytes: `64 MiB`; -1 is no limit."""
    if number < 0:
        return "unlimited"
    unit = 0
    while number >= 1024 and number % 1024 == 0 and unit < len(_UNITS) - 1:
        number //= 1024
        unit += 1
    return f"{number} {_UNITS[unit]}"


def resource_limits(resources: "Resources") -> "Iterator[Limit]":
    """Name, value in words and JSON pointer of every limit."""
    if resources.memory is not None:
        yield from _memory(resources.memory)
    if resources.cpu is not None:
        yield from _cpu(resources.cpu)
    if resources.pids is not None and resources.pids.limit is not None:
        limit = resources.pids.limit
        yield "processes", "unlimited" if limit < 0 else str(limit), resources.pids.at("limit")
    if resources.block_io is not None:
        yield from _block_io(resources.block_io)
    for huge in resources.hugepage_limits:
        yield f"huge pages of {huge.page_size}", size_words(huge.limit), huge.pointer
    for name, rdma in resources.rdma.items():
        yield f"RDMA {name}", f"{rdma.hca_handles} handles, {rdma.hca_objects} objects", rdma.pointer
    for key, value in resources.unified.items():
        yield key, value, resources.at("unified", key)


def _memory(memory: "Memory") -> "Iterator[Limit]":
    for name, value, json_name in (
        ("memory", memory.limit, "limit"),
        ("memory reserved", memory.reservation, "reservation"),
        ("memory and swap", memory.swap, "swap"),
    ):
        if value:
            yield name, size_words(value), memory.at(json_name)


def _cpu(cpu: "CPU") -> "Iterator[Limit]":
    if cpu.quota and cpu.quota > 0:
        period = cpu.period or 100_000
        yield "CPU time", f"{cpu.quota / period:g} CPUs ({cpu.quota} µs of each {period} µs)", cpu.at("quota")
    if cpu.shares:
        yield "CPU shares", f"{cpu.shares} (1024 is usual)", cpu.at("shares")
    if cpu.cpus:
        yield "CPUs", cpu.cpus, cpu.at("cpus")
    if cpu.mems:
        yield "memory nodes", cpu.mems, cpu.at("mems")


def _block_io(block: "BlockIO") -> "Iterator[Limit]":
    if block.weight:
        yield "block I/O weight", f"{block.weight} (from 10 to 1000)", block.at("weight")
    for what, unit, rules in (
        ("read", "bytes/s", block.throttle_read_bps_device),
        ("write", "bytes/s", block.throttle_write_bps_device),
        ("read", "operations/s", block.throttle_read_iops_device),
        ("write", "operations/s", block.throttle_write_iops_device),
    ):
        for rule in rules:
            yield f"{what} of {rule.major}:{rule.minor}", f"{rule.rate} {unit}", rule.pointer
