"""Rules for linux.resources (config-linux.md#configLinuxControlGroups)."""

from boxwright.errors import Problem
from boxwright.spec.rules import bad_interface_name, bad_list, out_of_range, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.spec.types import DeviceCgroup, Resources

_UNLIMITED = (1 << 63) - 1
_MAJORS = (1 << 12) - 1
_MINORS = (1 << 20) - 1


def device_rules(resources: "Resources") -> "Iterator[Problem]":
    """Type and access are of those that the device controller knows."""
    for rule in resources.devices:
        if rule.type and rule.type not in {"a", "b", "c"}:
            yield unknown(rule.at("type"), rule.type, ("a", "b", "c"), "type of device rule", rule.anchor)
        yield from _device_access(rule)
        yield from out_of_range(rule.at("major"), rule.major, -1, _MAJORS, rule.anchor)
        yield from out_of_range(rule.at("minor"), rule.minor, -1, _MINORS, rule.anchor)


def _device_access(rule: "DeviceCgroup") -> "Iterator[Problem]":
    access = rule.access or ""
    if set(access) - set("rwm"):
        yield Problem(rule.at("access"), "must be made of `r`, `w` and `m`", rule.anchor, value=access)


def memory(resources: "Resources") -> "Iterator[Problem]":
    """Limits are sizes or -1; memory and swap together are no less than memory."""
    limits = resources.memory
    if limits is None:
        return
    for name in ("limit", "reservation", "swap", "kernel"):
        yield from out_of_range(limits.at(name), getattr(limits, name), -1, _UNLIMITED, limits.anchor)
    yield from out_of_range(limits.at("kernelTCP"), limits.kernel_tcp, -1, _UNLIMITED, limits.anchor)
    yield from out_of_range(limits.at("swappiness"), limits.swappiness, 0, 100, limits.anchor)
    if limits.limit is not None and limits.swap is not None and 0 < limits.swap < limits.limit:
        rule = "is memory and swap together, and less than the memory limit"
        yield Problem(limits.at("swap"), rule, limits.anchor, value=limits.swap)


def cpu(resources: "Resources") -> "Iterator[Problem]":
    """The burst fits the quota; CPUs and memory nodes are lists."""
    limits = resources.cpu
    if limits is None:
        return
    if limits.burst is not None and limits.quota is not None and 0 < limits.quota < limits.burst:
        yield Problem(limits.at("burst"), "must not be larger than the quota", limits.anchor, value=limits.burst)
    yield from bad_list(limits.at("cpus"), limits.cpus, limits.anchor)
    yield from bad_list(limits.at("mems"), limits.mems, limits.anchor)
    yield from out_of_range(limits.at("idle"), limits.idle, 0, 1, limits.anchor)


def pids(resources: "Resources") -> "Iterator[Problem]":
    """0 is a limit and -1 is none; nothing is below."""
    limits = resources.pids
    if limits is not None:
        yield from out_of_range(limits.at("limit"), limits.limit, -1, _UNLIMITED, limits.anchor)


def block_io(resources: "Resources") -> "Iterator[Problem]":
    """A device in the list of weights has one."""
    limits = resources.block_io
    if limits is None:
        return
    for device in limits.weight_device:
        if device.weight is None and device.leaf_weight is None:
            yield Problem(device.pointer, "must have `weight` or `leafWeight`", device.anchor)


def huge_pages(resources: "Resources") -> "Iterator[Problem]":
    """Page sizes are like `2MB`, and each is limited once."""
    seen: set[str] = set()
    for limit in resources.hugepage_limits:
        where, size = limit.at("pageSize"), limit.page_size
        if not _is_page_size(size):
            yield Problem(where, "must be a size like `64KB`, `2MB` or `1GB`", limit.anchor, value=size)
        elif size in seen:
            yield Problem(where, f"`{size}` is limited twice", limit.anchor, value=size)
        seen.add(size)


def _is_page_size(text: str) -> bool:
    number, unit = text[:-2], text[-2:]
    return unit in {"KB", "MB", "GB"} and number.isascii() and number.isdigit() and number[0] != "0"


def network(resources: "Resources") -> "Iterator[Problem]":
    """Interfaces have names that the kernel could have given them."""
    limits = resources.network
    if limits is None:
        return
    for priority in limits.priorities:
        why = bad_interface_name(priority.name)
        if why:
            yield Problem(priority.at("name"), why, priority.anchor, value=priority.name)


def rdma(resources: "Resources") -> "Iterator[Problem]":
    """An RDMA device in the map has a limit."""
    for limit in resources.rdma.values():
        if limit.hca_handles is None and limit.hca_objects is None:
            yield Problem(limit.pointer, "must have `hcaHandles` or `hcaObjects`", limit.anchor)


def unified(resources: "Resources") -> "Iterator[Problem]":
    """Keys are files of the cgroup itself, not of another one."""
    for name in resources.unified:
        if not name or "/" in name or name in {".", ".."}:
            where, anchor = resources.at("unified", name), "config-linux.md#configLinuxUnified"
            yield Problem(where, "must name a file of the cgroup", anchor, value=name)


RULES = (device_rules, memory, cpu, pids, block_io, huge_pages, network, rdma, unified)
