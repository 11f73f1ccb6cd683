"""Flags that several commands share, and what they mean."""

import os

from boxwright.cli.options import NUMBER, TEXT, Flag
from boxwright.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.options import Options

BUNDLE = Flag("bundle", "the bundle's directory", TEXT, short="b", value="DIR", default="the current directory")
CONSOLE_SOCKET = Flag(
    "console-socket", "a Unix socket that receives the master end of the container's terminal", TEXT, value="SOCKET"
)
PID_FILE = Flag("pid-file", "write the process id to this file", TEXT, value="FILE")
PIDFD_SOCKET = Flag("pidfd-socket", "a Unix socket that receives a pidfd of the process", TEXT, value="SOCKET")
PRESERVE_FDS = Flag(
    "preserve-fds",
    "hand descriptors 3 to 2+N to the program, after those that LISTEN_FDS counts",
    NUMBER,
    value="N",
    default="0",
)
DETACH = Flag("detach", "return once the program runs", short="d")
NO_PIVOT = Flag("no-pivot", "move the root instead of pivot_root(2), for a rootfs on a ramdisk")
NO_SUBREAPER = Flag("no-subreaper", "do not adopt processes whose parent ends")
FORMAT = Flag("format", "`table` or `json`", TEXT, short="f", value="FORMAT", default="table")

CREATE_FLAGS = (
    BUNDLE,
    Flag("config", "read this file in place of the bundle's config.json", TEXT, short="f", value="FILE"),
    CONSOLE_SOCKET,
    PID_FILE,
    PIDFD_SOCKET,
    NO_PIVOT,
    Flag("no-new-keyring", "keep the caller's session keyring"),
    PRESERVE_FDS,
    NO_SUBREAPER,
)


def bundle_of(options: "Options") -> str:
    """The bundle as an absolute path. Raises UsageError where there is no such directory."""
    named = options.text("bundle") or "."
    if not os.path.isdir(named):
        raise UsageError(f"the bundle `{named}` is not a directory: no such file or directory")
    return os.path.abspath(named)
