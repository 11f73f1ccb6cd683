"""The flags before the command: which containers, which cgroup driver, where to log."""

import os
import sys

from boxwright._record import Record
from boxwright.cli.log import FORMATS, LEVELS, Log
from boxwright.cli.options import TEXT, Command, Flag
from boxwright.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.options import Options
    from boxwright.runtime.context import Runtime

_BY_NAME = {"boxwright-vm": "vm", "boxwright-sandbox": "sandbox"}
_CGROUP_MANAGERS = ("cgroupfs", "systemd", "disabled")

ROOT_COMMAND = Command(
    name="",
    summary="run OCI containers in a Linux box, a virtual machine or a user-space kernel",
    usage="COMMAND [ARGUMENT…]",
    flags=(
        Flag(
            "root",
            "the directory that holds the state of containers; should be a tmpfs",
            TEXT,
            value="DIR",
            default="/run/boxwright, or $XDG_RUNTIME_DIR/boxwright without root",
        ),
        Flag("log", "append messages to this file as well", TEXT, value="FILE", default="the standard error"),
        Flag("log-format", "the form of the log: `text` or `json`", TEXT, value="FORMAT", default="text"),
        Flag(
            "log-level",
            "the least level to log: `debug`, `info`, `warning` or `error`",
            TEXT,
            value="LEVEL",
            default="warning",
        ),
        Flag("debug", "log at level `debug`, and show where an internal error arose"),
        Flag("systemd-cgroup", "short for `--cgroup-manager systemd`"),
        Flag(
            "cgroup-manager",
            "who makes cgroups: `cgroupfs`, `systemd` or `disabled`",
            TEXT,
            value="MANAGER",
            default="cgroupfs",
        ),
        Flag(
            "rootless",
            "accepted as runc has it; what the user may do decides: `true`, `false` or `auto`",
            TEXT,
            value="WHEN",
            default="auto",
        ),
        Flag(
            "isolation",
            "the kind of every box: `linux` or `vm`",
            TEXT,
            value="BOX",
            default="by the command's name (`boxwright-vm`), or as each configuration asks",
        ),
        Flag("criu", "the CRIU program for `checkpoint` and `restore`", TEXT, value="PROGRAM", default="criu"),
        Flag("version", "print the version", short="v"),
        Flag("help", "print this help", short="h"),
    ),
    most=None,
    in_order=True,
)


class Globals(Record):
    """The flags before the command. `rootless` is None for `auto`; `root` is absolute or empty."""

    log: Log
    root: str = ""
    debug: bool = False
    cgroup_manager: str = "cgroupfs"
    rootless: bool | None = None
    criu: str = "criu"
    isolation: str = ""

    def runtime(self) -> "Runtime":
        """The scope that the flags name."""
        from boxwright.runtime.context import Runtime

        return Runtime(self.root, cgroup_driver=self.cgroup_manager, log=self.log, isolation=self.isolation)


def globals_from(options: "Options") -> Globals:
    """Check the flags before the command and open the log. Raises UsageError."""
    debug = options.switch("debug")
    manager = options.choice("cgroup-manager", _CGROUP_MANAGERS, "cgroupfs")
    level = options.choice("log-level", LEVELS, "warning")
    return Globals(
        log=Log(options.text("log"), options.choice("log-format", FORMATS, "text"), "debug" if debug else level),
        root=_root(options.text("root")),
        debug=debug,
        cgroup_manager="systemd" if options.switch("systemd-cgroup") else manager,
        rootless=_rootless(options.text("rootless")),
        criu=options.text("criu", "criu"),
        isolation=_isolation(options),
    )


def _isolation(options: "Options") -> str:
    """The kind of box that the flag says, or the name of the command: an engine knows a runtime by its path alone."""
    if not options.given("isolation"):
        return _BY_NAME.get(os.path.basename(sys.argv[0]), "")
    from boxwright.boxes.require import BOXES  # few need it

    return options.choice("isolation", BOXES, "")


def _root(path: str) -> str:
    if not path:
        return ""
    absolute = os.path.abspath(path)
    if absolute == "/":
        raise UsageError("`--root` cannot be `/`: every directory there would be taken for a container")
    return absolute


def _rootless(word: str) -> bool | None:
    known = {"": None, "auto": None, "true": True, "1": True, "false": False, "0": False}
    if word.lower() not in known:
        raise UsageError(f"`--rootless` cannot be `{word}`", hint="it is one of `auto`, `true`, `false`")
    return known[word.lower()]
