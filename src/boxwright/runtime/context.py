"""What all operations share: where the state is, which cgroup driver, where warnings go."""

import os

from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Log = Callable[[str, str], None]


def _silent(_level: str, _message: str) -> None:
    """The library says nothing unless it is asked to."""


class Runtime:
    """The scope in which container ids are unique, and how its containers are made. Safe to share between threads."""

    def __init__(self, root: str = "", *, cgroup_driver: str = "cgroupfs", log: "Log" = _silent) -> None:
        """`root` is the state directory; empty is `/run/boxwright`, or `$XDG_RUNTIME_DIR/boxwright` without root."""
        self.root = os.path.abspath(root) if root else default_root()
        self.cgroup_driver = cgroup_driver
        self._log = log

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
    return os.path.join(runtime, "boxwright") if runtime else f"/tmp/boxwright-{os.geteuid()}"
