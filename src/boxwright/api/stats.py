"""What a box takes, out of what its control groups tell."""

from boxwright.api.records import Stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNLIMITED = (1 << 63) - (1 << 20)  # the largest limit that cgroup v1 shows is near 2**63
_NS = 1_000_000_000


def stats_from(raw: "dict[str, Any]", oom_kills: int) -> Stats:
    """The record of a document as `events --stats` prints it."""
    usage, memory = raw["cpu"]["usage"], raw["memory"]["usage"]
    limit = memory.get("limit", 0)
    return Stats(
        cpu_s=usage.get("total", 0) / _NS,
        user_s=usage.get("user", 0) / _NS,
        system_s=usage.get("kernel", 0) / _NS,
        memory_bytes=memory.get("usage", 0),
        memory_peak_bytes=memory.get("max", 0),
        memory_limit_bytes=None if limit == 0 or limit >= _UNLIMITED else limit,
        pids=raw["pids"].get("current", 0),
        oom_kills=oom_kills,
        raw=raw,
    )
