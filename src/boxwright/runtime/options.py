"""What each operation can be told beside the container's id."""

from boxwright._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.spec.types import Process


class CreateOptions(Record):
    """How to create. `bundle` is absolute; `config_path` is its config.json unless given.

    `notify_socket` is the address of a service manager's socket (NOTIFY_SOCKET, sd_notify(3)): the program gets one
    whose messages are passed on to it.
    """

    bundle: str
    config_path: str = ""
    console_socket: str = ""
    pid_file: str = ""
    pidfd_socket: str = ""
    no_pivot: bool = False
    no_new_keyring: bool = False
    preserve_fds: int = 0
    notify_socket: str = ""


class RunOptions(CreateOptions):
    """How to run: in the foreground unless `detach`; deleted afterwards unless `keep`."""

    detach: bool = False
    keep: bool = False
    no_subreaper: bool = False


class ExecOptions(Record):
    """A further process for a container."""

    process: "Process"
    detach: bool = False
    console_socket: str = ""
    pid_file: str = ""
    pidfd_socket: str = ""
    preserve_fds: int = 0
    ignore_paused: bool = False
    cgroup: tuple[str, ...] = ()
