"""The host's control groups: what is mounted, and what stands where a container is to go.

`host.cgroups` freezes, kills and removes; `host.cgroup_stats` counts.
"""

import errno
import os
import time

from boxwright.errors import HostError
from boxwright.host.cgroups import pids_below, read
from boxwright.plan.cgroup_layout import CgroupLayout, CgroupPlacement, CgroupSite, Group, Hierarchy
from boxwright.plan.cgroups import PATH_ANCHOR, wants_owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.spec.types import Config

FRESH_S = 5.0
_last: list[tuple[tuple[str, str, str], float, CgroupLayout]] = []

# --- what there is ----------------------------------------------------------------------------------------------


_parsed: tuple[tuple[str, str], list[Hierarchy]] | None = None


def probe() -> CgroupLayout:
    """The host's hierarchies and our own group in each (/proc/self/mountinfo, /proc/self/cgroup).

    What the two files say is always read; what they do not say (which controllers the v2 tree offers, what can be
    written to) is looked at again after `FRESH_S` seconds.
    """
    texts = read("/proc/self/mountinfo"), read("/proc/self/cgroup"), str(os.geteuid())
    now_s = time.monotonic()
    if not _last or _last[-1][0] != texts or now_s - _last[-1][1] > FRESH_S:
        _last[:] = [(texts, now_s, parse_layout(*texts[:2]))]
    return _last[-1][2]


def parse_layout(mountinfo: str, own_groups: str) -> CgroupLayout:
    """The layout from the text of the two files; only what can be written to is in it."""
    global _parsed  # noqa: PLW0603 - they seldom change while a process lives
    texts = (mountinfo, own_groups)
    if _parsed is None or _parsed[0] != texts:
        _parsed = (texts, _hierarchies(mountinfo, own_groups))
    return _layout([_offered(hierarchy) for hierarchy in _parsed[1]])


def _hierarchies(mountinfo: str, own_groups: str) -> list[Hierarchy]:
    own = [line.split(":", 2)[1:] for line in own_groups.splitlines()]
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(" "), after.split(" ", 2)
        mountpoint = _unescape(fields[4])
        found.pop(mountpoint, None)  # what is mounted over is not there
        if kind not in {"cgroup", "cgroup2"}:
            continue
        for names, path in own:
            if _is_hierarchy(kind, names, options):
                inside = _inside(path, _unescape(fields[3]))
                known = any(names.split(",") == list(other.controllers) for other in found.values())
                if inside and not known:
                    controllers = tuple(names.split(",")) if names else ()
                    found[mountpoint] = Hierarchy(1 if names else 2, controllers, mountpoint, inside)
    return list(found.values())


def _is_hierarchy(kind: str, names: str, options: str) -> bool:
    if kind == "cgroup2":
        return not names
    return bool(names) and set(names.split(",")) <= set(options.split(","))


def _inside(path: str, root: str) -> str:
    """`path` as seen below a mount whose root is `root`; "" if it is not below it."""
    if path.startswith("/.."):
        return "/"  # outside of our cgroup namespace, whose root this mount shows
    if root == "/":
        return path
    return path[len(root) :] or "/" if f"{path}/".startswith(f"{root}/") else ""


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def _offered(hierarchy: Hierarchy) -> Hierarchy:
    if hierarchy.version == 1:
        return hierarchy
    controllers = tuple(read(f"{hierarchy.mountpoint}/cgroup.controllers").split())
    return hierarchy.replace(controllers=controllers)


def _layout(hierarchies: list[Hierarchy]) -> CgroupLayout:
    versions = {hierarchy.version for hierarchy in hierarchies}
    mode = "hybrid" if len(versions) == 2 else "v1" if 1 in versions else "v2" if versions else "none"
    if all(os.access(hierarchy.mountpoint, os.W_OK) for hierarchy in hierarchies):
        return CgroupLayout(mode, tuple(hierarchies), rootless=os.geteuid() != 0, writable=bool(hierarchies))
    usable, delegated = [], "/"
    for hierarchy in hierarchies:
        top = _topmost_writable(hierarchy)
        if top:
            usable.append(_delegated_controllers(hierarchy, top))
        if hierarchy.version == 2 and top:
            delegated = top
    return CgroupLayout(mode, tuple(usable), _in_user_namespace(), bool(usable), delegated)


def _in_user_namespace() -> bool:
    return os.geteuid() != 0 or read("/proc/self/uid_map").split() != ["0", "0", "4294967295"]


def _topmost_writable(hierarchy: Hierarchy) -> str:
    """The topmost group that is ours, beginning from our own; "" if none is."""
    found, path = "", hierarchy.own
    while os.access(hierarchy.mountpoint + path, os.W_OK):
        # to move a process, its new and old group's common ancestor must let us
        if hierarchy.version == 2 and not os.access(f"{hierarchy.mountpoint}{path}/cgroup.procs", os.W_OK):
            break
        found = path
        if path == "/":
            break
        path = path.rpartition("/")[0] or "/"
    return found


def _delegated_controllers(hierarchy: Hierarchy, top: str) -> Hierarchy:
    if hierarchy.version == 1:
        return hierarchy
    controllers = tuple(read(f"{hierarchy.mountpoint}{top}/cgroup.controllers").split())
    return hierarchy.replace(controllers=controllers)


# --- what stands at the place -----------------------------------------------------------------------------------


def inspect(config: "Config", layout: CgroupLayout, placement: CgroupPlacement) -> tuple[CgroupPlacement, CgroupSite]:
    """Look at the container's place before anything is made: what of its path is missing, what a new cpuset must
    be filled with.

    Raises HostError where a group is not fit: it has processes, or it is frozen
    (config-linux.md#configLinuxControlGroups).
    """
    pointer = config.linux.at("cgroupsPath") if config.linux and config.linux.cgroups_path else ""
    groups = []
    existing = False
    for group in placement.groups:
        made = _missing(group.path, group.mountpoint)
        if not made:
            existing = True
            _check_empty(group, pointer)
        _check_thawed(group, made, pointer)
        groups.append(group.replace(made=made))
    placement = placement.replace(groups=tuple(groups))
    site = _cpuset_site(placement)
    if existing:
        from boxwright.host.cgroup_stats import standing

        site = site.replace(standing=standing(placement))
    if wants_owner(config, layout):
        site = site.replace(delegate=_delegate_files(site.delegate))
    block = config.linux.resources.block_io if config.linux and config.linux.resources else None
    if block is not None and (block.weight or block.weight_device):
        from boxwright.host.cgroup_files import io_weight_file

        site = site.replace(io_weight=io_weight_file(placement))
    return placement, site


def _missing(path: str, mountpoint: str) -> str:
    """The topmost directory of `path` that is not there."""
    missing = ""
    while path != mountpoint and not os.path.isdir(path):
        missing = path
        path = path.rpartition("/")[0]
    return missing


def _check_empty(group: Group, pointer: str) -> None:
    if any(True for _ in pids_below(group.path)):
        op = f"place a container in cgroup `{group.path}`, which has processes"
        raise HostError(op, errno.EBUSY, path=group.path, pointer=pointer, anchor=PATH_ANCHOR)


def _check_thawed(group: Group, made: str, pointer: str) -> None:
    path = made.rpartition("/")[0] if made else group.path
    if path == group.mountpoint:
        return  # the root of a hierarchy cannot be frozen
    if group.version == 2:
        frozen = "frozen 1" in read(f"{path}/cgroup.events")
    else:
        frozen = "freezer" in group.controllers and read(f"{path}/freezer.state") != "THAWED\n"
    if frozen:
        op = f"place a container in cgroup `{path}`, which is frozen"
        raise HostError(op, errno.EBUSY, path=path, pointer=pointer, anchor=PATH_ANCHOR)


def _cpuset_site(placement: CgroupPlacement) -> CgroupSite:
    group = placement.find("cpuset")
    if group is None or group.version == 2:
        return CgroupSite()
    path = group.made.rpartition("/")[0] if group.made else group.path
    while True:
        cpus, mems = read(f"{path}/cpuset.cpus").strip(), read(f"{path}/cpuset.mems").strip()
        if (cpus and mems) or path == group.mountpoint:
            return CgroupSite(cpuset_base=path, cpus=cpus, mems=mems)
        path = path.rpartition("/")[0]


def _delegate_files(default: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(read("/sys/kernel/cgroup/delegate").split())
    except FileNotFoundError:
        return default
