"""A container's processes through its control groups: listing, freezing, killing, joining; and removing the groups.

Nothing here knows config.json: a placement from the state file is enough.
"""

import errno
import os
import select
import time

from boxwright.errors import HostError
from boxwright.plan.cgroup_layout import NONE, SYSTEMD, CgroupPlacement, Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

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
        return list(pids_below(group.path))
    return _pids_in(group.path)


def _pids_in(path: str) -> list[int]:
    try:
        return [int(pid) for pid in read(f"{path}/cgroup.procs").split()]
    except OSError as error:
        # gone, or a threaded group, whose processes are listed above it
        if error.errno in {errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP}:
            return []
        raise HostError(f"read `{path}/cgroup.procs`", error.errno or 0, path=path) from error


def pids_below(path: str) -> "Iterator[int]":
    """The processes of the group at `path` and of those below it."""
    yield from _pids_in(path)
    if _has_children(path):
        for directory, name in _walk(path):
            if name is None:
                yield from _pids_at(directory)


def _pids_at(directory: int) -> list[int]:
    try:
        return _pids_in(f"/proc/self/fd/{directory}")
    except HostError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return []


def _has_children(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(entry.is_dir(follow_symlinks=False) for entry in entries)
    except FileNotFoundError:
        return False


def _walk(path: str) -> "Iterator[tuple[int, str | None]]":
    """Descend to every group below `path`: on arrival its directory and None, on leaving it its parent's directory
    and its name. However deep a container has nested them, by names that no path is long enough for.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    directory = os.open(path, flags)
    names: list[str] = []
    waiting = [_groups_in(directory)]
    try:
        while True:
            if waiting[-1]:
                name = waiting[-1].pop()
                try:
                    below = os.open(name, flags, dir_fd=directory)
                except FileNotFoundError:
                    continue
                os.close(directory)
                directory = below
                yield directory, None
                names.append(name)
                waiting.append(_groups_in(directory))
            elif names:
                waiting.pop()
                above = os.open("..", flags, dir_fd=directory)
                os.close(directory)
                directory = above
                yield directory, names.pop()
            else:
                return
    finally:
        os.close(directory)


def _groups_in(directory: int) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


# --- freezing ---------------------------------------------------------------------------------------------------


def is_frozen(placement: CgroupPlacement) -> bool:
    """Whether the container is paused. A group that is gone is not."""
    group = main_group(placement)
    if group is None:
        return False
    try:
        # a container is paused once it is told to be, though some of its tasks may still be on their way there, or are
        # dying of a signal; on v2 a group above may have been told
        if group.version == 2:
            return read(f"{group.path}/cgroup.freeze") == "1\n" or "frozen 1" in read(f"{group.path}/cgroup.events")
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
    """Let the container's processes go on; nothing to do where they cannot be stopped. Raises HostError."""
    group = main_group(placement)
    if group is not None and group.version == 2:
        write(f"{group.path}/cgroup.freeze", "0")
    elif group is not None and "freezer" in group.controllers:
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
    by_kernel = False
    while pids(placement):
        unified = placement.unified()
        # what cgroup.kill has hit needs a moment to end; what is left then is in the v1 groups alone
        if by_kernel and delay > 0.01:
            _signal_standing(placement, _SIGKILL)
        elif unified is not None and _kill_group(unified):
            by_kernel = True
            if is_frozen(placement):
                thaw(placement)  # a process that v1 has frozen does not even die
        else:
            _signal_standing(placement, _SIGKILL)
        if time.monotonic() >= end:
            raise HostError("kill every process of the container", errno.ETIMEDOUT)
        time.sleep(delay)
        delay = min(delay * 2, 0.05)


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
    from _signal import pidfd_send_signal  # `signal` costs an enum

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
    except OSError as error:
        # a path longer than any that the runtime makes: groups that a container has nested in its own
        if error.errno == errno.ENAMETOOLONG:
            return True
        raise
    for line in lines:
        names, path = line.split(":", 2)[1:]
        if (names == "") == (group.version == 2) and (not names or names.split(",")[0] in group.controllers):
            # seen from a mount of a part of the hierarchy, our path is the end of the whole one
            return f"{path}/".endswith(f"{wanted}/") or f"{wanted}/" in f"{path}/"
    return False


# --- removing ---------------------------------------------------------------------------------------------------


def destroy(placement: CgroupPlacement, timeout_seconds: float = REMOVE_SECONDS) -> None:
    """Remove the groups that creating the container made, with those made below them; what was there before stays.

    A group whose last process is just ending is tried again for a while; systemd is told to stop its unit. Raises
    the first HostError, after all were tried.
    """
    failed = None
    # a unit whose groups were there before is another's: creating was refused, and it goes on
    if placement.driver == SYSTEMD and any(group.made for group in placement.groups):
        from boxwright.host.systemd import stop_unit

        stop_unit(placement)
    for group in placement.groups:
        if not group.made:
            continue
        try:
            _remove(group.path, timeout_seconds)
        except OSError as error:
            failed = failed or HostError(f"remove cgroup `{group.path}`", error.errno or 0, path=group.path)
            continue
        if placement.driver != SYSTEMD:
            _remove_parents(group)
    if failed:
        raise failed


def _remove(path: str, timeout_seconds: float) -> None:
    if _rmdir(path):
        return
    end = time.monotonic() + timeout_seconds
    try:
        for directory, name in _walk(path):
            if name is not None:
                _remove_one(name, end, directory)
    except FileNotFoundError:
        return
    _remove_one(path, end)


def _remove_one(name: str, end: float, directory: int | None = None) -> None:
    """Try until `end`: the last process of the group may be on its way out."""
    delay = 0.0005
    while not _rmdir(name, directory):
        if time.monotonic() >= end:
            raise OSError(errno.EBUSY, "busy", name)
        time.sleep(delay)
        delay = min(delay * 2, 0.05)


def _rmdir(name: str, directory: int | None = None) -> bool:
    try:
        os.rmdir(name, dir_fd=directory)
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
    if placement.driver == NONE:
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
