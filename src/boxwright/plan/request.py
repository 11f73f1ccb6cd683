"""What `compile` is given beside the configuration: facts of the host and the circumstances of the call."""

from boxwright._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.cgroup_layout import CgroupLayout, CgroupPlacement, CgroupSite
    from boxwright.plan.resctrl import ResctrlSite


class HostFacts(Record):
    """What was probed of the host, as far as compiling needs it."""

    euid: int
    egid: int
    privileged: bool  # may mount and map ids at will: root with its capabilities in the first user namespace
    cgroups: "CgroupLayout"
    newuidmap: str = ""  # paths of the set-user-id mapping tools, empty where missing
    newgidmap: str = ""
    last_capability: int = 40
    apparmor: tuple[str, ...] | None = None  # the profiles there are; None: not looked at, or it cannot be told
    selinux: bool = False
    resctrl: str = ""  # mount point of resctrl, empty where missing


class RootSource(Record):
    """Where the container's root file system comes from.

    A plain directory; or with `stage` (an existing empty directory of ours) an overlay whose lower directories are
    `lowers`, top first, and whose upper one is a tmpfs of `size_bytes` (0: the kernel's default).

    A user namespace cannot overlay a tree with mounts in it. There the root is a tmpfs, `branches` (name, path) are
    overlaid one by one, `links` (name, target) made again, and `binds` bound read-only from `path`.

    The lower layer may also be the EROFS filesystem on a block device: `device` is its path.
    """

    path: str
    stage: str = ""
    lowers: tuple[str, ...] = ()
    size_bytes: int = 0
    mapped: bool = False  # show the files by the container's id maps, as if they were its own
    branches: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    binds: tuple[str, ...] = ()
    device: str = ""


class Request(Record):
    """One `create` or `run`."""

    container_id: str
    bundle: str
    root: RootSource
    placement: "CgroupPlacement"
    site: "CgroupSite"
    state: tuple[str, str]  # the text of the state around the pid, status `creating`
    created_state: tuple[str, str] = ("", "")  # the same, status `created`: for hooks of start
    environment: tuple[str, ...] = ()  # for hooks that name none of their own
    seccomp: bytes = b""
    gate: bool = False  # wait for `start`; else execute at once
    console: bool = False  # the master goes to an inherited socket `console`; else with the report
    listener: bool = False  # an inherited socket `seccomp` takes the notify descriptor
    listener_state: tuple[str, ...] = ()
    preserve_fds: int = 0
    no_pivot: bool = False
    new_keyring: bool = True
    idle: bool = False  # hold the box without a program
    resctrl: "ResctrlSite | None" = None  # None: not looked at, as no configuration asks for it
    lifeline: bool = False  # an inherited pipe `lifeline`: an idle box ends when its write end is closed
    own_stdio: bool = True  # give its pipes and terminal to the program's user: it may open them by their names
    bound: bool = False  # a program dies with the thread that made it (PR_SET_PDEATHSIG)


UPCALL_SYSTEMD_UNIT, UPCALL_NET_DEVICES, UPCALL_NOTED = 1, 2, 3
