"""The host's control groups: what is mounted, what stands where a container goes, freezing, killing, removing.

What is read here is kernel files, by plain system calls. Statistics are in `host.cgroup_stats`.
"""

import errno
import os
import select
import time

from boxwright.errors import HostError
from boxwright.plan.cgroup_layout import CgroupLayout, CgroupPlacement, CgroupSite, Group, Hierarchy
from boxwright.plan.cgroups import PATH_ANCHOR, wants_owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.spec.types import Config

FREEZE_SECONDS = 5.0
REMOVE_SECONDS = 2.0
KILL_SECONDS = 5.0
_SIGKILL = 9
_READ_BYTES = 65536


def read(path: str) -> str:
    """The text of a kernel file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = b""
        # a sequence file gives whole lines that fit its own buffer, so only an empty answer is the end
        while more := os.read(descriptor, _READ_BYTES):
            found += more
        return found.decode("utf-8", "surrogateescape")
    finally:
        os.close(descriptor)


def write(path: str, text: str) -> None:
    """Write `text` to a kernel file. Raises HostError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostError(f"write `{text}` to `{path}`", error.errno or 0, path=path) from error


# --- what there is ----------------------------------------------------------------------------------------------


def probe() -> CgroupLayout:
    """The host's hierarchies and our own group in each (/proc/self/mountinfo, /proc/self/cgroup)."""
    return parse_layout(read("/proc/self/mountinfo"), read("/proc/self/cgroup"))


def parse_layout(mountinfo: str, own_groups: str) -> CgroupLayout:
    """The layout from the text of the two files; only what can be written to is in it."""
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
    return _layout([_offered(hierarchy) for hierarchy in found.values()])


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
    if any(True for _ in _pids_below(group.path)):
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


# --- processes --------------------------------------------------------------------------------------------------


def main_group(placement: CgroupPlacement) -> Group | None:
    """The group whose processes are the container's: that of the freezer on v1, the v2 one without it."""
    return placement.find("freezer") or placement.unified() or (placement.groups[0] if placement.groups else None)


def pids(placement: CgroupPlacement, recursive: bool = True) -> list[int]:
    """The container's processes by the host's numbers; with those of groups below its own if `recursive`. A
    container whose group is gone has none.
    """
    group = main_group(placement)
    if group is None:
        return []
    if recursive:
        return list(_pids_below(group.path))
    return _pids_in(group.path)


def _pids_in(path: str) -> list[int]:
    try:
        return [int(pid) for pid in read(f"{path}/cgroup.procs").split()]
    except (FileNotFoundError, OSError) as error:
        if error.errno in {errno.ENOENT, errno.ENODEV}:
            return []
        if error.errno == errno.EOPNOTSUPP:  # a threaded group: its processes are listed above it
            return []
        raise HostError(f"read `{path}/cgroup.procs`", error.errno or 0, path=path) from error


def _pids_below(path: str) -> "Iterator[int]":
    yield from _pids_in(path)
    for child in _children(path):
        yield from _pids_below(child)


def _children(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


# --- freezing ---------------------------------------------------------------------------------------------------


def is_frozen(placement: CgroupPlacement) -> bool:
    """Whether the container is paused. A group that is gone is not."""
    group = main_group(placement)
    if group is None:
        return False
    try:
        if group.version == 2:
            return "frozen 1" in read(f"{group.path}/cgroup.events")
        # a container is paused once it is told to be, though some of its tasks may still be on their way
        return "freezer" in group.controllers and read(f"{group.path}/freezer.state") != "THAWED\n"
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENODEV}:
            return False
        raise HostError(f"read the freezer of `{group.path}`", error.errno or 0, path=group.path) from error


def freeze(placement: CgroupPlacement, timeout_seconds: float = FREEZE_SECONDS) -> None:
    """Stop every process of the container and wait until all stand.

    Raises HostError; one that is not done in time (ETIMEDOUT) is thawed again.
    """
    group = _freezer(placement)
    if group.version == 2:
        _freeze_v2(group, timeout_seconds)
    else:
        _freeze_v1(group, timeout_seconds)


def thaw(placement: CgroupPlacement) -> None:
    """Let the container's processes go on. Raises HostError."""
    group = _freezer(placement)
    if group.version == 2:
        write(f"{group.path}/cgroup.freeze", "0")
    else:
        write(f"{group.path}/freezer.state", "THAWED")


def _freezer(placement: CgroupPlacement) -> Group:
    group = main_group(placement)
    if group is None or (group.version == 1 and "freezer" not in group.controllers):
        raise HostError("freeze a container without a freezer group", errno.EOPNOTSUPP)
    return group


def _freeze_v1(group: Group, timeout_seconds: float) -> None:
    """The state stays FREEZING while a task forks or sleeps where it cannot stop; writing it again takes hold of
    new tasks, and a short thaw frees those that wait for one that stands already.
    """
    path = f"{group.path}/freezer.state"
    end = time.monotonic() + timeout_seconds
    attempt = 0
    write(path, "FROZEN")
    while read(path) != "FROZEN\n":
        if time.monotonic() >= end:
            write(path, "THAWED")
            raise HostError(f"freeze cgroup `{group.path}`", errno.ETIMEDOUT, path=path)
        attempt += 1
        if attempt % 50 == 0:
            write(path, "THAWED")
            time.sleep(0.002)
        if attempt > 5:
            time.sleep(0.001)
        write(path, "FROZEN")


def _freeze_v2(group: Group, timeout_seconds: float) -> None:
    end = time.monotonic() + timeout_seconds
    descriptor = os.open(f"{group.path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLPRI)
        write(f"{group.path}/cgroup.freeze", "1")
        while b"frozen 1" not in os.pread(descriptor, 4096, 0):
            left = end - time.monotonic()
            if left <= 0:
                write(f"{group.path}/cgroup.freeze", "0")
                raise HostError(f"freeze cgroup `{group.path}`", errno.ETIMEDOUT, path=group.path)
            poll.poll(left * 1000)
    finally:
        os.close(descriptor)


# --- killing ----------------------------------------------------------------------------------------------------


def kill_all(placement: CgroupPlacement, signal: int = _SIGKILL, timeout_seconds: float = KILL_SECONDS) -> None:
    """Send `signal` to every process of the container, those included that fork meanwhile.

    SIGKILL goes by cgroup.kill where there is one, and returns when no process is left; a frozen container is
    thawed for it. Other signals are sent while the container stands still, which is then as frozen as before.
    Raises HostError (ETIMEDOUT) if processes are left.
    """
    if signal != _SIGKILL:
        _signal_standing(placement, signal)
        return
    end = time.monotonic() + timeout_seconds
    delay = 0.0002
    while not _kill_once(placement):
        if time.monotonic() >= end:
            raise HostError("kill every process of the container", errno.ETIMEDOUT)
        time.sleep(delay)
        delay = min(delay * 2, 0.05)


def _kill_once(placement: CgroupPlacement) -> bool:
    """Kill what is there; True if nothing was."""
    unified = placement.unified()
    if unified is not None and _kill_group(unified) and is_frozen(placement):
        thaw(placement)  # a process that v1 has frozen does not even die
    if not pids(placement):
        return True
    if unified is None or main_group(placement) != unified:
        _signal_standing(placement, _SIGKILL)
    return not pids(placement)


def _kill_group(group: Group) -> bool:
    try:
        write(f"{group.path}/cgroup.kill", "1")
    except HostError as error:
        # before Linux 5.14 there is none; the group may be gone too
        if error.errno not in {errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP}:
            raise
        return False
    return True


def _signal_standing(placement: CgroupPlacement, signal: int) -> None:
    """Signal all processes while they stand: so none forks away, and no number is used anew between reading and
    sending.
    """
    group = main_group(placement)
    if group is None or not os.path.isdir(group.path):
        return
    was_frozen = is_frozen(placement)
    can_freeze = group.version == 2 or "freezer" in group.controllers
    if can_freeze and not was_frozen:
        try:
            freeze(placement, 0.5)
        except HostError as error:
            # what cannot stand still is signalled as it runs; for SIGKILL the caller looks again
            if error.errno not in {errno.ETIMEDOUT, errno.ENOENT, errno.ENODEV}:
                raise
    try:
        for pid in pids(placement):
            _signal_member(pid, signal, group)
    finally:
        if can_freeze and (signal == _SIGKILL or not was_frozen) and os.path.isdir(group.path):
            thaw(placement)


def _signal_member(pid: int, signal: int, group: Group) -> None:
    from _signal import pidfd_send_signal  # type: ignore[import-not-found] # `signal` costs an enum

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if _is_member(pid, group):
            pidfd_send_signal(descriptor, signal)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def _is_member(pid: int, group: Group) -> bool:
    """Whether `pid`, whose pidfd we hold, is in the group or below: then it is the one that we read."""
    wanted = group.path[len(group.mountpoint) :]
    try:
        lines = read(f"/proc/{pid}/cgroup").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    for line in lines:
        names, path = line.split(":", 2)[1:]
        if (names == "") == (group.version == 2) and (not names or names.split(",")[0] in group.controllers):
            # seen from a mount of a part of the hierarchy, our path is the end of the whole one
            return f"{path}/".endswith(f"{wanted}/") or f"{wanted}/" in f"{path}/"
    return False


# --- removing ---------------------------------------------------------------------------------------------------


def destroy(placement: CgroupPlacement, timeout_seconds: float = REMOVE_SECONDS) -> None:
    """Remove the groups that creating the container made, with those made below them; what was there before stays.

    A group whose last process is just ending is tried again for a while. Raises the first HostError, after all
    were tried.
    """
    failed = None
    for group in placement.groups:
        if not group.made:
            continue
        try:
            _remove(group.path, timeout_seconds)
        except OSError as error:
            failed = failed or HostError(f"remove cgroup `{group.path}`", error.errno or 0, path=group.path)
            continue
        _remove_parents(group)
    if failed:
        raise failed


def _remove(path: str, timeout_seconds: float) -> None:
    if _rmdir(path):
        return
    for child in _children(path):
        _remove(child, timeout_seconds)
    end = time.monotonic() + timeout_seconds
    delay = 0.0005
    while not _rmdir(path):
        if time.monotonic() >= end:
            raise OSError(errno.EBUSY, "busy", path)
        time.sleep(delay)
        delay = min(delay * 2, 0.05)


def _rmdir(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in {errno.EBUSY, errno.ENOTEMPTY, errno.EINTR}:
            raise
        return False
    return True


def _remove_parents(group: Group) -> None:
    """The directories that were made on the way, as far as no other container uses them."""
    path = group.path
    while path != group.made:
        path = path.rpartition("/")[0]
        if not _rmdir(path):
            return


# --- joining ----------------------------------------------------------------------------------------------------


def placement_for_exec(placement: CgroupPlacement, init_pid: int, subgroups: tuple[str, ...] = ()) -> CgroupPlacement:
    """Where a process that joins the container goes: its groups, or those below them that `subgroups` name.

    `subgroups` are paths, each for all groups or, as `cpu,memory:path`, for those of the named controllers. Raises
    HostError for one that leads upwards or is not there. On v2 a group that has handed controllers down cannot
    take processes, and the init's own group below it is taken.
    """
    if placement.driver == "none":
        return placement
    groups = [_settled(group, init_pid) for group in placement.groups]
    for text in subgroups:
        names, colon, path = text.rpartition(":")
        wanted = names.split(",") if colon else []
        parts = [part for part in path.split("/") if part not in {"", "."}]
        if ".." in parts or "\0" in path:
            raise HostError(f"join cgroup `{path}`, which leads out of the container's", errno.EINVAL, path=path)
        for index, group in enumerate(placement.groups):
            if not wanted or any(name in group.controllers for name in wanted):
                groups[index] = group.replace(path=_existing("/".join([group.path, *parts])))
    return placement.replace(groups=tuple(groups))


def _existing(path: str) -> str:
    if not os.path.isdir(path):
        raise HostError(f"join cgroup `{path}`", errno.ENOENT, path=path)
    return path


def _settled(group: Group, init_pid: int) -> Group:
    if group.version == 1 or not read(f"{group.path}/cgroup.subtree_control").strip():
        return group
    for line in read(f"/proc/{init_pid}/cgroup").splitlines():
        if line.startswith("0::"):
            path = group.mountpoint + line[3:]
            if path.startswith(f"{group.path}/"):
                return group.replace(path=path)
    return group
