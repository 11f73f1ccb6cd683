"""Run CRIU, and say what it says when it fails. Not loaded but by `checkpoint` and `restore`."""

import os
import shutil
import subprocess

from boxwright.errors import BoxwrightError, UnsupportedError
from boxwright.plan.criu import OpenFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# in a mount table of its own, so that nothing is left of it: CRIU wants the root to be a mount point
_WITH_ROOT = ("unshare", "--mount", "--propagation", "private", "--", "sh", "-c")
_BIND_AND_RUN = 'mount --rbind "$0" "$1" && shift && exec "$@"'
_ERRORS_SHOWN = 5


def check(program: str) -> None:
    """Raise UnsupportedError, with CRIU's reason, where it is missing or does not work on this host."""
    if shutil.which(program) is None:
        raise UnsupportedError("checkpoint", "linux", f"`{program}` is not installed", hint="install CRIU")
    done = subprocess.run([program, "check"], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("Error")] or said
        raise UnsupportedError("checkpoint", "linux", f"`{program} check` says: {errors[0] if errors else 'no'}")


def run(command: "Sequence[str]", log: str, pass_fds: "Sequence[int]" = ()) -> None:
    """Run CRIU and wait for it. Raises BoxwrightError with the errors of its `log`."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=pass_fds, check=False)
    _raise_failure(command, done, log)


def run_on_root(command: "Sequence[str]", log: str, root: str, place: str, pass_fds: "Sequence[int]" = ()) -> None:
    """As `run`, with the directory `root` bound at `place`, and our descriptors 0 to 2 for what is restored."""
    words = [*_WITH_ROOT, _BIND_AND_RUN, root, place, *command]
    done = subprocess.run(words, pass_fds=pass_fds, check=False)
    _raise_failure(command, done, log)


def _raise_failure(command: "Sequence[str]", done: "subprocess.CompletedProcess[bytes]", log: str) -> None:
    if done.returncode == 0:
        return
    words = (done.stdout or b"").decode(errors="replace").splitlines()
    raise BoxwrightError(
        f"`{command[0]} {command[1]}` failed with exit status {done.returncode}",
        details=[f"said: {line}" for line in _errors_of(log) or words[-_ERRORS_SHOWN:]],
        hint=f"the whole story is in `{log}`",
    )


def _errors_of(log: str) -> list[str]:
    try:
        with open(log, errors="replace") as file:
            return [line.strip() for line in file if "Error" in line][-_ERRORS_SHOWN:]
    except FileNotFoundError:
        return []


def open_files(pid: int, count: int = 3) -> list[OpenFile]:
    """The first descriptors of a process; one that it has closed has an empty target."""
    return [_open_file(pid, number) for number in range(count)]


def _open_file(pid: int, number: int) -> OpenFile:
    path = f"/proc/{pid}/fd/{number}"
    try:
        target, inode = os.readlink(path), os.stat(path).st_ino
        with open(f"/proc/{pid}/fdinfo/{number}") as file:
            info = dict(line.split(":", 1) for line in file if ":" in line)
    except FileNotFoundError:
        return OpenFile(number, "", 0, 0)
    return OpenFile(number, target, int(info.get("mnt_id", "0")), inode)
