"""The resctrl filesystem: where it is mounted, what stands there, and removing what was made (resctrl.rst).

Not loaded unless a configuration has the section intelRdt.
"""

import os
from errno import ENOENT

from boxwright.errors import HostError
from boxwright.host.cgroups import read
from boxwright.plan.resctrl import ANCHOR, ResctrlSite, class_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from boxwright.spec.types import IntelRdt


def mount_point(mountinfo: str = "/proc/self/mountinfo") -> str:
    """Where resctrl is mounted as a whole; "" where it is not."""
    for line in read(mountinfo).splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if after.startswith("resctrl ") and fields[3] == "/":
            return fields[4].replace("\\040", " ")
    return ""


def inspect(rdt: "IntelRdt", container_id: str, mountpoint: str) -> ResctrlSite:
    """What stands below `mountpoint` of the container's groups. Raises HostError."""
    if not mountpoint:
        return ResctrlSite()
    path = class_path(rdt, mountpoint, container_id)
    try:
        schemata = read(f"{path}/schemata") if os.path.isdir(path) else ""
    except OSError as error:
        op = f"read the schemata of `{path}`"
        raise HostError(op, error.errno or 0, path=path, pointer=rdt.pointer, anchor=ANCHOR) from error
    return ResctrlSite(
        mountpoint,
        existing=os.path.isdir(path),
        schemata=schemata,
        monitoring=os.path.isdir(f"{mountpoint}/mon_groups"),
        monitored=os.path.isdir(f"{path}/mon_groups/{container_id}"),
    )


def remove_groups(directories: "Sequence[str]") -> None:
    """Remove the container's groups; those that are gone are no error. The kernel moves what is left in them to the
    group above. Raises the first HostError, after all were tried.
    """
    failed = None
    for path in directories:
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno != ENOENT:
                failed = failed or HostError(f"remove `{path}`", error.errno or 0, path=path, anchor=ANCHOR)
    if failed:
        raise failed


def remove_unused(directories: "Sequence[str]") -> None:
    """As `remove_groups`, after a create that failed: a class that somebody else uses by now stays."""
    for path in directories:
        if os.path.isdir(path) and not read(f"{path}/tasks").strip():
            remove_groups((path,))


def statistics(directories: "Sequence[str]") -> "dict[str, Any]":
    """The part `intel_rdt` of a container's statistics: schemata of its class and of the default one, and what its
    monitoring group counts, by cache. Raises OSError where a group is gone.
    """
    group, monitor = directories[0], directories[-1]
    found = _schemata_statistics(group)
    counted = f"{monitor}/mon_data"
    domains = sorted(os.listdir(counted)) if os.path.isdir(counted) else []
    caches = [f"{counted}/{name}" for name in domains if name.startswith("mon_L3_")]
    mbm = [
        {"mbm_total_bytes": _count(f"{cache}/mbm_total_bytes"), "mbm_local_bytes": _count(f"{cache}/mbm_local_bytes")}
        for cache in caches
    ]
    cmt = [{"llc_occupancy": _count(f"{cache}/llc_occupancy")} for cache in caches]
    return found | ({"mbm_stats": mbm, "cmt_stats": cmt} if caches else {})


def _schemata_statistics(group: str) -> "dict[str, Any]":
    found: dict[str, Any] = {}
    root = group if os.path.isdir(f"{group}/info") else group.rpartition("/")[0]
    for directory, suffix in ((root, "_root"), (group, "")):
        for line in read(f"{directory}/schemata").splitlines():
            resource = line.strip().partition(":")[0]
            for prefix, name in (("L3", "l3_cache_schema"), ("MB", "mem_bw_schema")):
                if resource == prefix:
                    found[f"{name}{suffix}"] = line.strip()
    return found


def _count(path: str) -> int:
    """A counter; 0 where the hardware has none, or says that it cannot tell now."""
    try:
        text = read(path).strip()
    except FileNotFoundError:
        return 0
    return int(text) if text.isdigit() else 0
