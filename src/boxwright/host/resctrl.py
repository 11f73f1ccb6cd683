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
