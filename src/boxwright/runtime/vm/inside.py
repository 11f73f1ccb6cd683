"""What is read of a container in its guest: processes, and the files of its control group. Nothing is run for it."""

from errno import ENODEV, ENOENT, ESRCH

from boxwright._record import Record
from boxwright.boxes.vm.client import ANSWER_S, Client
from boxwright.boxes.vm.guest import GROUP, guest_facts
from boxwright.errors import GuestError, StateError
from boxwright.plan.cgroup_layout import CGROUPFS, CgroupPlacement, Group
from boxwright.runtime.containers import PAUSED, RUNNING
from boxwright.runtime.vm.lost import lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from boxwright.runtime.containers import Container

# what a guest has of its own: the rest stands for devices of the host
CONTROLLERS = frozenset({"cpu", "cpuset", "io", "memory", "pids"})
_GONE = frozenset({ENOENT, ENODEV, ESRCH})
_TICKS_A_SECOND = 100  # USER_HZ, on every architecture
_UTIME, _STIME, _PPID = 11, 12, 1  # fields of /proc/PID/stat behind the name: proc(5)


class GuestProcess(Record):
    """A process of the container, by the numbers of the guest. `cpu_s` is the time that it has used."""

    pid: int
    parent: int
    uid: int
    state: str
    cpu_s: int
    command: str


class Inside:
    """A connection by which a container's kernel files are read. Close it."""

    def __init__(self, container: "Container") -> None:
        """Raises StateError where the machine is paused: it answers nobody. Raises GuestError."""
        refuse_paused(container)
        self._container = container
        try:
            self.client = Client(container.directory)
            self._greet()
        except GuestError as error:
            raise lost(container, error) from None

    def _greet(self) -> None:
        try:
            self.client.greet(ANSWER_S)
        except BaseException:
            self.client.close()
            raise
        tree = guest_facts(self.client.hello).cgroups.hierarchies[0]
        had = tuple(name for name in tree.controllers if name in CONTROLLERS)
        self.placement = CgroupPlacement(CGROUPFS, (Group(2, had, tree.mountpoint, f"{tree.mountpoint}{GROUP}"),))

    @property
    def memory_bytes(self) -> int:
        """What the guest has of memory, without what its kernel took when it booted."""
        return int(self.client.hello["memory_bytes"])

    def read(self, path: str) -> str:
        """The text of a file of the guest below /proc or /sys. Raises OSError as its kernel has it, GuestError."""
        try:
            return self.client.read(path).decode("utf-8", "surrogateescape")
        except GuestError as error:
            raise lost(self._container, error) from None

    def processes(self) -> "list[GuestProcess]":
        """The processes of the container, by their numbers."""
        found = map(self._process, sorted(self.pids()))
        return [process for process in found if process is not None]

    def pids(self) -> "Iterator[int]":
        """The guest's numbers of the container's processes, with those in control groups below its own."""
        yield from self._pids_below(self.placement.groups[0].path)

    def _pids_below(self, group: str) -> "Iterator[int]":
        yield from map(int, self._text(f"{group}/cgroup.procs").split())
        for name in self._text(group).splitlines():
            yield from self._pids_below(f"{group}/{name}")

    def _process(self, pid: int) -> GuestProcess | None:
        stat, status = self._text(f"/proc/{pid}/stat"), self._text(f"/proc/{pid}/status")
        if not stat or not status:
            return None  # it has ended meanwhile
        name, _, rest = stat.partition("(")[2].rpartition(")")
        fields = rest.split()
        uid = next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:"))
        words = self._text(f"/proc/{pid}/cmdline").rstrip("\0").replace("\0", " ")
        ticks = int(fields[_UTIME]) + int(fields[_STIME])
        return GuestProcess(
            pid, int(fields[_PPID]), int(uid), fields[0], ticks // _TICKS_A_SECOND, words or f"[{name}]"
        )

    def _text(self, path: str) -> str:
        """The text of a file, empty where it has gone."""
        try:
            return self.read(path)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return ""

    def close(self) -> None:
        """Give the connection up."""
        self.client.close()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def refuse_paused(container: "Container") -> None:
    """Raise StateError for a paused machine: nothing in it runs, its agent no more than the rest."""
    if container.status() == PAUSED:
        raise StateError(container.id, PAUSED, RUNNING, hint="resume it first: a paused machine answers nobody")
