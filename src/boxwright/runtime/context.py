"""What all operations share: where the state is, which cgroup driver, where warnings go."""

import os

from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    StrPath = str | os.PathLike[str]
    Log = Callable[[str, str], None]

_SHARED = "/tmp"
_DIRECTORY = 0o040000  # S_IFDIR


def _silent(_level: str, _message: str) -> None:
    """The library says nothing unless it is asked to."""


class Runtime:
    """The scope in which container ids are unique, and how its containers are made. Safe to share between threads."""

    def __init__(
        self, root: str = "", *, cgroup_driver: str = "cgroupfs", log: "Log" = _silent, isolation: str = ""
    ) -> None:
        """`root` is the state directory; empty is `/run/boxwright`, or `$XDG_RUNTIME_DIR/boxwright` without root.

        `isolation` is the kind of box for every container; empty is what each configuration asks for.
        """
        self.isolation = isolation
        self.root = os.path.abspath(root) if root else default_root()
        self.cgroup_driver = cgroup_driver
        self._log = log

    # --- the operations of the standard (runtime.md#runtimeOperations) ---

    def create(self, container_id: str, bundle: "StrPath", *, pid_file: str = "", console_socket: str = "") -> int:
        """Make a container from an OCI bundle; its program waits for `start`. Gives the pid of its init.

        The container's standard streams are ours. `pid_file` is written when it is made; a terminal goes to the socket
        `console_socket`. Raises ConfigError, UnsupportedError, ExistsError, UsageError, HostError or HookError, and
        leaves nothing behind then.
        """
        from boxwright.runtime.create import create
        from boxwright.runtime.options import CreateOptions

        options = CreateOptions(os.path.abspath(bundle), pid_file=pid_file, console_socket=console_socket)
        return create(self, container_id, options)

    def start(self, container_id: str) -> None:
        """Let a created container run its program. Raises StateError, NotFoundError, HookError, HostError."""
        from boxwright.runtime.start import start

        start(self, container_id)

    def state(self, container_id: str) -> "dict[str, Any]":
        """The state of a container, as the standard defines it, with more beside. Raises NotFoundError."""
        from boxwright.runtime.state import state

        return state(self, container_id)

    def kill(self, container_id: str, signal: int) -> None:
        """Send a signal to the init of a container. Raises StateError if it does not run, NotFoundError."""
        from boxwright.runtime.kill import kill

        kill(self, container_id, signal)

    def delete(self, container_id: str, *, force: bool = False) -> None:
        """Remove a stopped container, or with `force` any. Raises StateError, NotFoundError (not with `force`)."""
        from boxwright.runtime.delete import delete

        delete(self, container_id, force=force)

    def states(self) -> "list[dict[str, Any]]":
        """The states of all containers, by id."""
        from boxwright.runtime.state import list_states

        return list_states(self)

    # --- what the operations share ---

    def warn(self, message: str) -> None:
        """Log a warning; it never changes what happens (runtime.md#runtimeWarnings)."""
        self._log("warning", message)

    def debug(self, message: str) -> None:
        """Log what only somebody looking for a fault wants to read."""
        self._log("debug", message)

    def prepare(self) -> None:
        """Make the state directory if it is missing. Raises HostError."""
        try:
            os.makedirs(self.root, 0o700, exist_ok=True)
            if self._is_cleaned:
                os.chmod(self.root, 0o1700)  # what is sticky stays
        except OSError as error:
            raise HostError(f"make the state directory `{self.root}`", error.errno or 0, path=self.root) from None
        if os.path.dirname(self.root) == _SHARED:
            _check_owner(self.root)

    @property
    def _is_cleaned(self) -> bool:
        """Old files of XDG_RUNTIME_DIR may be removed by who looks after it (XDG base directory specification)."""
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        return bool(runtime) and self.root == f"{runtime}/boxwright"

    @property
    def cache(self) -> str:
        """Where compiled programs are kept; lost with the state directory."""
        return os.path.join(self.root, ".cache")


def default_root() -> str:
    """The state directory of this user."""
    if os.geteuid() == 0 and not os.environ.get("BOXWRIGHT_ROOTLESS"):
        return "/run/boxwright"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return os.path.join(runtime, "boxwright")
    root = f"{_SHARED}/boxwright-{os.geteuid()}"
    _check_owner(root)
    return root


def _check_owner(path: str) -> None:
    """In a directory of everybody's, anybody could have made ours: what is in it would be believed."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if found.st_uid != os.geteuid() or found.st_mode & 0o170022 != _DIRECTORY:
        hint = "set XDG_RUNTIME_DIR, or name another with `--root`"
        raise HostError(f"use the state directory `{path}`, which others can write to", 0, path=path, hint=hint)
