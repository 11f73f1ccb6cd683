"""What the library takes and gives: limits, usage, results, statistics."""

from boxwright._record import Record
from boxwright.api.options import DEFAULT_PIDS, Bind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    Reason = Literal["exited", "signalled", "timeout", "oom"]

EXITED: "Reason" = "exited"
SIGNALLED: "Reason" = "signalled"
TIMEOUT: "Reason" = "timeout"
OOM: "Reason" = "oom"

MIB, GIB = 1 << 20, 1 << 30

__all__ = ["EXITED", "OOM", "SIGNALLED", "TIMEOUT", "Bind", "Limits", "Result", "Stats", "Usage"]


class Limits(Record):
    """What a box can take of the host. None is no limit.

    The defaults stop a fork bomb, a flood of output and a program that fills the disk; `memory_bytes` and a time limit
    are for the caller to choose.

    - `memory_bytes`: memory of all processes of the box, its scratch files included (they are kept in memory), with no
      swap beside it.
    - `cpus`: time of that many CPUs; 1.5 is one and a half.
    - `pids`: processes and threads at once.
    - `output_bytes`: how much of standard output, and of standard error, is kept; what is over is read and dropped,
      and `Result.truncated` says so.
    - `root_bytes`: how much can be written to the overlay over the root filesystem, and to each of the scratch
      directories that a box without a bundle has (`/tmp`, `/run` and, over the host's root, `/var/tmp`, `/home` and
      `/root`).
    - `file_bytes`, `open_files`: the largest file and the number of open descriptors, for each process (setrlimit(2)).
    """

    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = DEFAULT_PIDS
    output_bytes: int | None = 64 * MIB
    root_bytes: int | None = 1 * GIB
    file_bytes: int | None = None
    open_files: int | None = None


class Usage(Record):
    """What a program has taken.

    `user_s` and `system_s` are the CPU time of the program and of all children that it waited for, in seconds; in
    `run` also of everything else in the box, with the making of the box. `wall_s` is from its start to its end.
    `memory_peak_bytes` is the greatest amount of memory of the whole box where it has a memory group, and else of the
    largest process. `oom_kills` is how many processes of the box the kernel killed meanwhile for want of memory.
    """

    user_s: float
    system_s: float
    wall_s: float
    memory_peak_bytes: int
    oom_kills: int = 0

    @property
    def cpu_s(self) -> float:
        """User and system time together, in seconds."""
        return self.user_s + self.system_s


class Result(Record):
    """How a program ended, and what it wrote.

    One of `exit_code` and `signal` is set, the other is None. `reason` is

    - `exited`: it ended by itself;
    - `signalled`: a signal ended it;
    - `timeout`: it was killed at the time limit; what it wrote until then is there;
    - `oom`: the kernel killed a process of the box for want of memory, and the program did not end with 0.

    `truncated` says that more was written than `Limits.output_bytes`.
    """

    exit_code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    usage: Usage
    reason: "Reason"
    truncated: bool = False

    @property
    def ok(self) -> bool:
        """Whether the program ended by itself with 0."""
        return self.exit_code == 0 and self.reason == EXITED


class Stats(Record):
    """What a box takes now, by its control groups.

    Seconds and bytes; 0 where the host's groups do not count it. `memory_limit_bytes` None is no limit. `raw` is all
    that the groups tell, in the shape of `boxwright events --stats`. cgroup v1 counts `user_s` and `system_s` by ticks
    of 10 ms, `cpu_s`, which is both, exactly.
    """

    cpu_s: float
    user_s: float
    system_s: float
    memory_bytes: int
    memory_peak_bytes: int
    memory_limit_bytes: int | None
    pids: int
    oom_kills: int
    raw: "dict[str, Any]"
