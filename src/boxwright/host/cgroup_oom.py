"""Out of memory: how often the kernel killed in a container's group, and a descriptor to wait on for it."""

import errno
import os
import select

from boxwright.errors import HostError
from boxwright.host.cgroups import read as read_here
from boxwright.plan.cgroup_layout import CgroupPlacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    Reader = Callable[[str], str]


def oom_kills(placement: CgroupPlacement, read: "Reader" = read_here) -> int:
    """How many processes of the container the kernel killed for want of memory, by its files as `read` reads them.

    0 where that is not counted (before Linux 4.13), where there is no memory group, and where it is gone.
    """
    group = placement.find("memory")
    if group is None:
        return 0
    file = "memory.oom_control" if group.version == 1 else "memory.events"
    try:
        text = read(f"{group.path}/{file}")
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENODEV}:
            return 0
        raise HostError(f"read `{group.path}/{file}`", error.errno or 0, path=group.path) from error
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return 0


class OomWatch:
    """Wakes its waiter when the container runs out of memory, and when its group is removed.

    `fileno()` is to be polled for `events` (POLLIN for the eventfd of v1, POLLPRI for `memory.events` of v2). After
    that, `take()` says how many kills are new.
    """

    def __init__(self, placement: CgroupPlacement) -> None:
        group = placement.find("memory")
        if group is None:
            raise HostError("watch the memory of a container without a memory group", errno.EOPNOTSUPP)
        self._placement = placement
        self._seen = oom_kills(placement)
        try:
            if group.version == 1:
                self.events = select.POLLIN
                self._descriptor = _register(group.path)
            else:
                self.events = select.POLLPRI
                self._descriptor = os.open(f"{group.path}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
                os.pread(self._descriptor, 4096, 0)  # what was before does not wake
        except OSError as error:
            raise HostError(f"watch cgroup `{group.path}`", error.errno or 0, path=group.path) from error
        self._is_eventfd = group.version == 1

    def fileno(self) -> int:
        """The descriptor to poll; it stays ours."""
        return self._descriptor

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for something to happen; False if nothing did in time."""
        poll = select.poll()
        poll.register(self._descriptor, self.events)
        return bool(poll.poll(timeout_seconds * 1000))

    def take(self) -> int:
        """The number of kills since the last call. Clears what woke us."""
        try:
            if self._is_eventfd:
                os.eventfd_read(self._descriptor)
            else:
                os.pread(self._descriptor, 4096, 0)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.ENODEV}:
                raise
        before, self._seen = self._seen, max(self._seen, oom_kills(self._placement))
        return self._seen - before

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def watch_oom(placement: CgroupPlacement) -> OomWatch:
    """A watch on the container's memory group; close it. Raises HostError."""
    return OomWatch(placement)


def _register(path: str) -> int:
    """An eventfd that v1's memory controller signals (Documentation/admin-guide/cgroup-v1/memory.rst, section 10)."""
    watched = os.open(f"{path}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
    control = os.open(f"{path}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        os.write(control, f"{event} {watched}".encode())
    except OSError:
        os.close(event)
        raise
    finally:
        os.close(control)
        os.close(watched)
    return event
