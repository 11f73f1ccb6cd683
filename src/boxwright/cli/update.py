"""`update`: change the limits of a container."""

import sys

from boxwright.cli.options import NUMBER, TEXT, Command, Flag, parse
from boxwright.cli.quantities import parse_size
from boxwright.errors import UsageError
from boxwright.spec.types import CPU, BlockIO, Memory, Pids, Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.options import Options
    from boxwright.cli.settings import Globals

_LIMITS = (
    Flag("blkio-weight", "the weight of its block I/O, 10 to 1000", NUMBER, value="WEIGHT"),
    Flag("cpu-share", "its weight for CPU time", NUMBER, value="SHARES"),
    Flag("cpu-quota", "its CPU time in each period, in microseconds; -1: no limit", NUMBER, value="MICROSECONDS"),
    Flag("cpu-period", "the period of the quota, in microseconds", NUMBER, value="MICROSECONDS"),
    Flag("cpu-burst", "how much unused quota it can save up, in microseconds", NUMBER, value="MICROSECONDS"),
    Flag("cpu-rt-runtime", "its realtime in each realtime period, in microseconds", NUMBER, value="MICROSECONDS"),
    Flag("cpu-rt-period", "the period of the realtime limit, in microseconds", NUMBER, value="MICROSECONDS"),
    Flag("cpu-idle", "1: run it only where nothing else wants to (SCHED_IDLE)", NUMBER, value="0|1"),
    Flag("cpuset-cpus", "the CPUs it can use, such as `0-3,7`", TEXT, value="LIST"),
    Flag("cpuset-mems", "the memory nodes it can use", TEXT, value="LIST"),
    Flag("memory", "its memory in bytes, or such as `512m`; -1: no limit", TEXT, value="SIZE"),
    Flag("memory-reservation", "its memory while memory is short", TEXT, value="SIZE"),
    Flag("memory-swap", "its memory and swap together; -1: no limit", TEXT, value="SIZE"),
    Flag("kernel-memory", "its memory inside of the kernel (cgroup v1)", TEXT, value="SIZE"),
    Flag("kernel-memory-tcp", "its TCP buffers (cgroup v1)", TEXT, value="SIZE"),
    Flag("pids-limit", "the greatest number of tasks; -1: no limit", NUMBER, value="N"),
)

COMMAND = Command(
    "update",
    "change the limits of a container",
    "ID",
    (
        Flag("resources", "read the limits from this file, in the form of config.json's; `-`: standard input", TEXT,
             short="r", value="FILE"),
        *_LIMITS,
        Flag("l3-cache-schema", "the schema of Intel RDT for the L3 cache", TEXT, value="SCHEMA"),
        Flag("mem-bw-schema", "the schema of Intel RDT for memory bandwidth", TEXT, value="SCHEMA"),
    ),
    least=1,
    most=1,
    notes="What is not given stays as it is.",
)  # fmt: skip


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)
    resources = resources_from(options)

    from boxwright.runtime.update import update

    update(
        settings.runtime(),
        options.arguments[0],
        resources,
        l3_cache_schema=options.text("l3-cache-schema") or None,
        mem_bw_schema=options.text("mem-bw-schema") or None,
    )
    return 0


def resources_from(options: "Options") -> Resources:
    """The limits of the file, or of the flags. Raises UsageError where both are given, ConfigError."""
    limits = [flag.name for flag in _LIMITS if options.given(flag.name)]
    if not options.given("resources"):
        return _from_flags(options)
    if limits:
        raise UsageError(f"`--resources` and `--{limits[0]}` exclude each other")
    return _from_file(options.text("resources"))


def _from_file(path: str) -> Resources:
    from boxwright.spec.decode import decode_resources

    if path == "-":
        return decode_resources(sys.stdin.buffer.read(), source="standard input")
    try:
        with open(path, "rb") as file:
            return decode_resources(file.read(), source=path)
    except OSError as error:
        raise UsageError(f"cannot read the resources file `{path}`: {error.strerror}") from None


def _from_flags(options: "Options") -> Resources:
    weight = _natural(options, "blkio-weight")
    pids = options.optional_number("pids-limit")
    return Resources(
        memory=_memory(options),
        cpu=_cpu(options),
        pids=None if pids is None else Pids(limit=pids),
        block_io=None if weight is None else BlockIO(weight=weight),
    )


def _memory(options: "Options") -> Memory | None:
    memory = Memory(
        limit=_size(options, "memory"),
        reservation=_size(options, "memory-reservation"),
        swap=_size(options, "memory-swap"),
        kernel=_size(options, "kernel-memory"),
        kernel_tcp=_size(options, "kernel-memory-tcp"),
    )
    if memory.limit == -1 and memory.swap is None:
        memory = memory.replace(swap=-1)  # memory without a limit, with swap kept under one, is refused by the kernel
    return None if memory == Memory() else memory


def _cpu(options: "Options") -> CPU | None:
    cpu = CPU(
        shares=_natural(options, "cpu-share"),
        quota=options.optional_number("cpu-quota"),
        burst=_natural(options, "cpu-burst"),
        period=_natural(options, "cpu-period"),
        realtime_runtime=options.optional_number("cpu-rt-runtime"),
        realtime_period=_natural(options, "cpu-rt-period"),
        cpus=options.text("cpuset-cpus") or None,
        mems=options.text("cpuset-mems") or None,
        idle=options.optional_number("cpu-idle"),
    )
    return None if cpu == CPU() else cpu


def _natural(options: "Options", name: str) -> int | None:
    return options.count(name) if options.given(name) else None


def _size(options: "Options", name: str) -> int | None:
    return parse_size(options.text(name)) if options.given(name) else None
