"""What the host has of control groups, and which of them a container gets. `host.cgroup_probe` fills the values."""

from boxwright._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CGROUPFS, SYSTEMD, NONE = "cgroupfs", "systemd", "none"
SWITCHED_OFF = frozenset({NONE, "disabled"})  # as engines ask for it
# the list that config-linux.md gives for hosts without /sys/kernel/cgroup/delegate
DELEGATE_FILES = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")


class Hierarchy(Record):
    """One mounted hierarchy.

    `controllers` are those of a v1 mount (`name=…` for a named one), or those that the top of the v2 tree offers.
    `own` is the calling process's group below `mountpoint`, beginning with `/`.
    """

    version: int
    controllers: tuple[str, ...]
    mountpoint: str
    own: str = "/"


class CgroupLayout(Record):
    """The host's control groups: `mode` is `v1`, `v2`, `hybrid` or `none`.

    `writable` says whether groups can be made at all. `rootless` is True where we are not the host's root;
    `delegated` is then the topmost group of the v2 tree that is ours, below its mount point, else "/".
    """

    mode: str
    hierarchies: tuple[Hierarchy, ...] = ()
    rootless: bool = False
    writable: bool = True
    delegated: str = "/"

    def unified(self) -> Hierarchy | None:
        """The v2 tree, if one is mounted."""
        for hierarchy in self.hierarchies:
            if hierarchy.version == 2:
                return hierarchy
        return None


class Group(Record):
    """The container's group in one hierarchy.

    `path` is the host's path; `made` is the topmost directory of it that creating the container makes ("" if all
    of it was there before), so that deleting removes no more than that.
    """

    version: int
    controllers: tuple[str, ...]
    mountpoint: str
    path: str
    made: str = ""


class CgroupPlacement(Record):
    """Where a container's processes are held. It is kept in the state file (`to_json`, `from_json`).

    `driver` is `cgroupfs`, `systemd` or `none`. `slice` and `unit` are systemd's names, `user` says that it is the
    user's own manager.
    """

    driver: str
    groups: tuple[Group, ...] = ()
    slice: str = ""
    unit: str = ""
    user: bool = False

    def find(self, controller: str) -> Group | None:
        """The group that `controller` is used by, or None where the host does not have it."""
        for group in self.groups:
            if controller in group.controllers:
                return group
        return None

    def unified(self) -> Group | None:
        """The group of the v2 tree."""
        for group in self.groups:
            if group.version == 2:
                return group
        return None

    def to_json(self) -> "dict[str, Any]":
        """Plain values for the state file."""
        return {
            "driver": self.driver,
            "slice": self.slice,
            "unit": self.unit,
            "user": self.user,
            "groups": [
                {
                    "version": group.version,
                    "controllers": list(group.controllers),
                    "mountpoint": group.mountpoint,
                    "path": group.path,
                    "made": group.made,
                }
                for group in self.groups
            ],
        }

    @classmethod
    def from_json(cls, value: "dict[str, Any]") -> "CgroupPlacement":
        """The reverse of `to_json`."""
        groups = tuple(
            Group(item["version"], tuple(item["controllers"]), item["mountpoint"], item["path"], item["made"])
            for item in value["groups"]
        )
        return cls(value["driver"], groups, value["slice"], value["unit"], value["user"])


class Standing(Record):
    """Limits in force in an existing group, for the order in which new ones can replace them.

    Bytes and microseconds; -1 is no limit. `memory_swap` is memory and swap together, as config.json counts.
    """

    memory_limit: int = -1
    memory_swap: int = -1
    memory_usage: int = 0
    cpu_quota: int = -1
    cpu_period: int = 100000
    cpu_burst: int = 0


class CgroupSite(Record):
    """What the container's place looks like before anything is made.

    On v1 a new cpuset is empty and must be filled from above: `cpuset_base` is the deepest directory that has both
    `cpus` and `mems`. `io_weight` names the file that takes block I/O weights (`blkio.bfq.weight`, `io.weight` …),
    "" where none is known. `delegate` are the files a cgroup's owner may own. `standing` is None unless the group
    is there already.
    """

    cpuset_base: str = ""
    cpus: str = ""
    mems: str = ""
    io_weight: str = ""
    delegate: tuple[str, ...] = DELEGATE_FILES
    standing: Standing | None = None


class CgroupEntry(Record):
    """How the init enters its groups without a write of ours to `cgroup.procs`.

    Such a write takes the kernel's lock of all thread groups and waits for an RCU grace period, 8 to 20 ms. A
    process that moves itself alone does not (`0` to a v1 `tasks` file), and CLONE_INTO_CGROUP does not either.
    `opens` are for the outer before the clone, `clone_slot` is for `Clone`, `enters` is what the init does first.
    `next_slot` is the first slot that is still free.
    """

    opens: "tuple[Any, ...]"
    clone_slot: int
    enters: "tuple[Any, ...]"
    next_slot: int
