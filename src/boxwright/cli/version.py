"""`--version`, in the form that engines parse."""

import os

from boxwright import __version__
from boxwright.cli.log import write_all
from boxwright.spec.constants import OCI_VERSION_MAX

# how crun tells what it was built with, which engines and test suites look for
FEATURES = "+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF"
_COMMIT_FILE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "_native", "commit")


def text() -> str:
    """`NAME version N`, the commit where the build recorded it, the version of the standard, and what is built in."""
    commit = _commit()
    lines = [
        f"boxwright version {__version__}",
        *([f"commit: {commit}"] if commit else []),
        f"spec: {OCI_VERSION_MAX}",
        FEATURES,
    ]
    return "\n".join(lines) + "\n"


def show() -> int:
    """Print the version."""
    write_all(1, text())
    return 0


def _commit() -> str:
    try:
        with open(_COMMIT_FILE, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""
