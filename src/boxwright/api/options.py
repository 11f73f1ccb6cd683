"""What a command in a box can be told: shared by `boxwright run -- …` and the library."""

from boxwright._record import Record

DEFAULT_PIDS = 1024  # stops a fork bomb, and is more than what most programs need
ISOLATIONS = ("linux", "vm", "sandbox")
NETWORKS = ("none", "host")


class Bind(Record):
    """A path of the host that is seen in the box. Both are absolute."""

    source: str
    destination: str
    writable: bool = False


class BoxOptions(Record):
    """A command and the box to run it in. Paths of the host are absolute.

    The root filesystem is `rootfs`, or that of `bundle` with the rest of its configuration, or, with neither, the
    host's own. It is covered by an overlay that takes all writes and is dropped with the box, unless `overlay` is
    off; `read_only` lets nothing be written at all. Writable `binds` are written to for real.

    `env` are `NAME=VALUE` texts on top of a small default environment; `uid` and `gid` None are the caller's in a
    box made of the host's root, and the configuration's otherwise. `memory_bytes`, `cpus` (1.5 is one and a half)
    and `pids` None are no limit. A box that lives longer than `timeout_s` is killed, and its status is 124.
    `root_bytes` is how much the overlay and each of the box's other scratch directories can take; None is the
    kernel's default, half of the memory. `file_bytes` and `open_files` are limits of each process (setrlimit(2)).

    `publish` are ports of the host that lead to the box, `[ADDRESS:]HOSTPORT:PORT[/udp]`: of a `vm` box with the
    network `host` only.

    With `show_cwd` a box made of the host's root shows the current directory, read-only, and works there.

    `terminal` gives the command a terminal; without `interactive` it reads nothing from the caller.
    `init_system` is for a command that is an init: it gets what systemd asks of a container. A `bound` box does not
    outlive the process that made it.
    """

    args: tuple[str, ...]
    rootfs: str = ""
    bundle: str = ""
    binds: tuple[Bind, ...] = ()
    env: tuple[str, ...] = ()
    cwd: str = ""
    uid: int | None = None
    gid: int | None = None
    hostname: str = ""
    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = None
    timeout_s: float | None = None
    network: str = "none"
    publish: tuple[str, ...] = ()
    terminal: bool = False
    interactive: bool = True
    isolation: str = "linux"
    init_system: bool = False
    name: str = ""
    read_only: bool = False
    overlay: bool = True
    root_bytes: int | None = None
    file_bytes: int | None = None
    open_files: int | None = None
    bound: bool = False
    show_cwd: bool = True
