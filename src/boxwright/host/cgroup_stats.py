"""Statistics of a container's groups in the shape that `runc events --stats` prints, and limits in force.

Times are nanoseconds and sizes bytes, whatever the files count in. Like there, what is zero is left out where runc
leaves it out, so that engines read the same.
"""

from boxwright.host.cgroups import read as read_here
from boxwright.plan.cgroup_layout import CgroupPlacement, Group, Standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Json = dict[str, Any]
    Reader = Callable[[str], str]

UNLIMITED = (1 << 64) - 1
_V1_UNLIMITED = (1 << 63) - (1 << 20)  # the largest that v1 shows is 2**63 less a page, which can be of 64 KiB
_NS_PER_US = 1000
_USER_HZ = 100  # what cpuacct.stat counts in, on every architecture


class Files:
    """The files of control groups, on whichever kernel `read` reads them: it raises OSError as open(2) and read(2)."""

    __slots__ = ("read",)

    def __init__(self, read: "Reader" = read_here) -> None:
        self.read = read

    def maybe(self, path: str) -> str | None:
        """The text of a file that this kernel may not have."""
        try:
            return self.read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            from errno import EOPNOTSUPP

            if error.errno == EOPNOTSUPP:  # pressure files where psi is off
                return None
            raise

    def number(self, path: str) -> int:
        """A file of one number; `max` is UNLIMITED, and a missing file 0."""
        text = (self.maybe(path) or "0").strip()
        return UNLIMITED if text == "max" else int(text)

    def table(self, path: str) -> dict[str, int]:
        """A file of lines of a key and a number."""
        pairs = (line.split() for line in (self.maybe(path) or "").splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].lstrip("-").isdecimal()}


_HERE = Files()


def statistics(placement: CgroupPlacement, files: Files = _HERE) -> "Json":
    """The `data` of an event of type `stats`. Raises OSError where a group is gone."""
    return {
        "cpu": _cpu(files, placement),
        "cpuset": _cpuset(files, placement),
        "memory": _memory(files, placement),
        "pids": _pids(files, placement),
        "blkio": _block_io(files, placement),
        "hugetlb": _hugetlb(files, placement),
        "rdma": _rdma(files, placement),
        "intel_rdt": {},
        "network_interfaces": None,
    }


# --- values -----------------------------------------------------------------------------------------------------


def _filled(**values: object) -> "Json":
    return {name: value for name, value in values.items() if value}


def _list(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            numbers += range(int(first), int(last or first) + 1)
    return numbers


def _pressure(files: Files, placement: CgroupPlacement, resource: str) -> "Json | None":
    """Pressure stall information; each group of the v2 tree has it, whatever controllers it has."""
    group = placement.unified()
    text = files.maybe(f"{group.path}/{resource}.pressure") if group else None
    if not text:
        return None
    found: Json = {}
    for line in text.splitlines():
        kind, *pairs = line.split()
        values = dict(pair.split("=") for pair in pairs)
        found[kind] = {name: float(values[name]) for name in ("avg10", "avg60", "avg300")}
        found[kind]["total"] = int(values["total"])
    return found


def _with_pressure(files: Files, found: "Json", placement: CgroupPlacement, resource: str) -> "Json":
    pressure = _pressure(files, placement, resource)
    return {**found, "psi": pressure} if pressure else found


# --- cpu --------------------------------------------------------------------------------------------------------


def _cpu(files: Files, placement: CgroupPlacement) -> "Json":
    group = placement.find("cpu")
    accounts = placement.find("cpuacct")
    throttled = files.table(f"{group.path}/cpu.stat") if group else {}
    if accounts is not None:
        usage = _usage_v1(files, accounts.path)
        lost = throttled.get("throttled_time", 0)
    else:
        # each group of the v2 tree counts its time, controller or not
        group = group or placement.unified()
        times = files.table(f"{group.path}/cpu.stat") if group else {}
        usage = _filled(total=times.get("usage_usec", 0) * _NS_PER_US)
        usage["kernel"] = times.get("system_usec", 0) * _NS_PER_US
        usage["user"] = times.get("user_usec", 0) * _NS_PER_US
        lost = throttled.get("throttled_usec", 0) * _NS_PER_US
    throttling = _filled(
        periods=throttled.get("nr_periods", 0),
        throttledPeriods=throttled.get("nr_throttled", 0),
        throttledTime=lost,
    )
    return _with_pressure(files, {"usage": usage, "throttling": throttling}, placement, "cpu")


def _usage_v1(files: Files, path: str) -> "Json":
    ticks = files.table(f"{path}/cpuacct.stat")
    a_tick = 1_000_000_000 // _USER_HZ
    by_cpu = [
        [int(cell) for cell in line.split()[1:]] for line in files.read(f"{path}/cpuacct.usage_all").splitlines()[1:]
    ]
    usage = _filled(
        total=files.number(f"{path}/cpuacct.usage"),
        percpu=[int(cell) for cell in files.read(f"{path}/cpuacct.usage_percpu").split()],
        percpu_kernel=[row[1] for row in by_cpu],
        percpu_user=[row[0] for row in by_cpu],
    )
    usage["kernel"] = ticks.get("system", 0) * a_tick
    usage["user"] = ticks.get("user", 0) * a_tick
    return usage


_CPUSET_FLAGS = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
)


def _cpuset(files: Files, placement: CgroupPlacement) -> "Json":
    group = placement.find("cpuset")
    found: Json = {}
    if group is not None:
        effective = "" if group.version == 1 else ".effective"
        found = _filled(
            cpus=_list(files.maybe(f"{group.path}/cpuset.cpus{effective}") or ""),
            mems=_list(files.maybe(f"{group.path}/cpuset.mems{effective}") or ""),
        )
    v1 = group is not None and group.version == 1
    for name in _CPUSET_FLAGS:
        found[name] = files.number(f"{group.path}/cpuset.{name}") if v1 and group else 0
    return found


# --- memory -----------------------------------------------------------------------------------------------------


def _memory(files: Files, placement: CgroupPlacement) -> "Json":
    group = placement.find("memory")
    if group is None:
        nothing = {"limit": 0, "failcnt": 0}
        return {name: dict(nothing) for name in ("usage", "swap", "kernel", "kernelTCP")}
    found = _memory_v1(files, group.path) if group.version == 1 else _memory_v2(files, group.path)
    return _with_pressure(files, found, placement, "memory")


def _memory_v1(files: Files, path: str) -> "Json":
    raw = files.table(f"{path}/memory.stat")
    found = _filled(cache=raw.get("cache", 0))
    for name, part in (("usage", ""), ("swap", "memsw."), ("kernel", "kmem."), ("kernelTCP", "kmem.tcp.")):
        base = f"{path}/memory.{part}"
        found[name] = _entry(
            files.number(f"{base}limit_in_bytes"),
            files.number(f"{base}usage_in_bytes"),
            files.number(f"{base}max_usage_in_bytes"),
            files.number(f"{base}failcnt"),
        )
    found["raw"] = raw
    return found


def _entry(limit: int, usage: int, greatest: int, failures: int) -> "Json":
    return {"limit": limit, **_filled(usage=usage, max=greatest), "failcnt": failures}


def _memory_v2(files: Files, path: str) -> "Json":
    raw = files.table(f"{path}/memory.stat")
    events = files.table(f"{path}/memory.events")
    usage, limit = files.number(f"{path}/memory.current"), files.number(f"{path}/memory.max")
    swap, swap_limit = files.number(f"{path}/memory.swap.current"), files.number(f"{path}/memory.swap.max")
    # config.json counts swap with memory, and so do readers of these numbers
    both = UNLIMITED if UNLIMITED in {limit, swap_limit} else limit + swap_limit
    found = _filled(cache=raw.get("file", 0))
    found["usage"] = _entry(limit, usage, files.number(f"{path}/memory.peak"), events.get("max", 0))
    found["swap"] = _entry(both, usage + swap, 0, 0)
    found["kernel"] = _entry(0, raw.get("kernel", 0), 0, 0)
    found["kernelTCP"] = _entry(0, raw.get("sock", 0), 0, 0)
    found["raw"] = raw
    found["event_count"] = events
    return found


def memory_peak_bytes(placement: CgroupPlacement, files: Files = _HERE) -> int:
    """The greatest amount of memory that was in use at once; 0 where it is not counted, or the group is gone."""
    group = placement.find("memory")
    if group is None:
        return 0
    return files.number(f"{group.path}/{'memory.max_usage_in_bytes' if group.version == 1 else 'memory.peak'}")


# --- the rest ---------------------------------------------------------------------------------------------------


def _pids(files: Files, placement: CgroupPlacement) -> "Json":
    group = placement.find("pids")
    if group is None:
        return {}
    limit = files.number(f"{group.path}/pids.max")
    return _filled(current=files.number(f"{group.path}/pids.current"), limit=0 if limit == UNLIMITED else limit)


def _block_io(files: Files, placement: CgroupPlacement) -> "Json":
    v1, v2 = placement.find("blkio"), placement.find("io")
    found = _block_v1(files, v1.path) if v1 else _block_v2(files, v2.path) if v2 else {}
    return _with_pressure(files, found, placement, "io")


_BLOCK_V1 = (
    ("ioServiceBytesRecursive", "io_service_bytes_recursive", True),
    ("ioServicedRecursive", "io_serviced_recursive", True),
    ("ioQueueRecursive", "io_queued_recursive", False),
    ("ioServiceTimeRecursive", "io_service_time_recursive", False),
    ("ioWaitTimeRecursive", "io_wait_time_recursive", False),
    ("ioMergedRecursive", "io_merged_recursive", False),
    ("ioTimeRecursive", "time_recursive", False),
    ("sectorsRecursive", "sectors_recursive", False),
)


def _block_v1(files: Files, path: str) -> "Json":
    """From the scheduler that counted something: BFQ, CFQ, else the throttling layer, which sees all."""
    found = {}
    for name, file, throttled in _BLOCK_V1:
        for scheduler in ("bfq.", "", "throttle.") if throttled else ("bfq.", ""):
            entries = _entries(files.maybe(f"{path}/blkio.{scheduler}{file}") or "")
            if entries:
                found[name] = entries
                break
    return found


def _entries(text: str) -> "list[Json]":
    entries = []
    for line in text.splitlines():
        number, *rest = line.split()
        major, colon, minor = number.partition(":")
        if colon:
            operation = rest[0] if len(rest) == 2 else ""
            entries.append(_filled(major=int(major), minor=int(minor), op=operation, value=int(rest[-1])))
    return entries


def _block_v2(files: Files, path: str) -> "Json":
    found: dict[str, list[Json]] = {}
    for line in (files.maybe(f"{path}/io.stat") or "").splitlines():
        number, *pairs = line.split()
        major, colon, minor = number.partition(":")
        values = dict(pair.split("=") for pair in pairs if "=" in pair)
        for key, name, operation in (
            ("rbytes", "ioServiceBytesRecursive", "Read"),
            ("wbytes", "ioServiceBytesRecursive", "Write"),
            ("rios", "ioServicedRecursive", "Read"),
            ("wios", "ioServicedRecursive", "Write"),
        ):
            if colon and key in values:
                entry = _filled(major=int(major), minor=int(minor), op=operation, value=int(values[key]))
                found.setdefault(name, []).append(entry)
    return found


def _hugetlb(files: Files, placement: CgroupPlacement) -> "Json":
    group = placement.find("hugetlb")
    if group is None:
        return {}
    from boxwright.host.cgroup_files import page_sizes

    return {size: _huge_pages(files, group, size) for size in page_sizes(group)}


def _huge_pages(files: Files, group: Group, size: str) -> "Json":
    """Reservations where the kernel counts them, else page faults."""
    for base in (f"{group.path}/hugetlb.{size}.rsvd", f"{group.path}/hugetlb.{size}"):
        if group.version == 1 and files.maybe(f"{base}.usage_in_bytes") is not None:
            usage, most = files.number(f"{base}.usage_in_bytes"), files.number(f"{base}.max_usage_in_bytes")
            return {**_filled(usage=usage, max=most), "failcnt": files.number(f"{base}.failcnt")}
        if group.version == 2 and files.maybe(f"{base}.current") is not None:
            events = files.table(f"{group.path}/hugetlb.{size}.events")
            return {**_filled(usage=files.number(f"{base}.current")), "failcnt": events.get("max", 0)}
    return {"failcnt": 0}


def _rdma(files: Files, placement: CgroupPlacement) -> "Json":
    group = placement.find("rdma")
    if group is None:
        return {}
    names = (("rdma_limit", "max"), ("rdma_current", "current"))
    return _filled(**{name: _rdma_entries(files.maybe(f"{group.path}/rdma.{file}") or "") for name, file in names})


def _rdma_entries(text: str) -> "list[Json]":
    entries = []
    for line in text.splitlines():
        device, *pairs = line.split()
        values = dict(pair.split("=") for pair in pairs)
        handles, objects = (
            (1 << 32) - 1 if values.get(key) == "max" else int(values.get(key, 0))
            for key in ("hca_handle", "hca_object")
        )
        entries.append(_filled(device=device, hca_handles=handles, hca_objects=objects))
    return entries


# --- limits in force --------------------------------------------------------------------------------------------


def standing(placement: CgroupPlacement, files: Files = _HERE) -> Standing:
    """The limits in force, for `plan.cgroups.compile_update`."""
    values: dict[str, int] = {}
    memory, cpu = placement.find("memory"), placement.find("cpu")
    if memory is not None:
        values |= (
            _standing_memory_v1(files, memory.path) if memory.version == 1 else _standing_memory_v2(files, memory.path)
        )
    if cpu is not None:
        values |= _standing_cpu_v1(files, cpu.path) if cpu.version == 1 else _standing_cpu_v2(files, cpu.path)
    return Standing(**values)


def _limit(value: int) -> int:
    return -1 if value >= _V1_UNLIMITED else value


def _standing_memory_v1(files: Files, path: str) -> dict[str, int]:
    return {
        "memory_limit": _limit(files.number(f"{path}/memory.limit_in_bytes")),
        "memory_swap": _limit(files.number(f"{path}/memory.memsw.limit_in_bytes")),
        "memory_usage": files.number(f"{path}/memory.usage_in_bytes"),
    }


def _standing_memory_v2(files: Files, path: str) -> dict[str, int]:
    limit, swap = _limit(files.number(f"{path}/memory.max")), _limit(files.number(f"{path}/memory.swap.max"))
    return {
        "memory_limit": limit,
        "memory_swap": -1 if -1 in {limit, swap} else limit + swap,
        "memory_usage": files.number(f"{path}/memory.current"),
    }


def _standing_cpu_v1(files: Files, path: str) -> dict[str, int]:
    return {
        "cpu_quota": files.number(f"{path}/cpu.cfs_quota_us") or -1,
        "cpu_period": files.number(f"{path}/cpu.cfs_period_us") or 100000,
        "cpu_burst": files.number(f"{path}/cpu.cfs_burst_us"),
    }


def _standing_cpu_v2(files: Files, path: str) -> dict[str, int]:
    text = files.maybe(f"{path}/cpu.max")
    quota, period = text.split() if text else ("max", "100000")
    return {
        "cpu_quota": -1 if quota == "max" else int(quota),
        "cpu_period": int(period),
        "cpu_burst": files.number(f"{path}/cpu.max.burst"),
    }
