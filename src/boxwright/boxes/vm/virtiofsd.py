"""virtiofsd: the program that serves the shared files, whichever of its two makes is installed.

One is QEMU's own, written in C (up to QEMU 7.2), whose options are `-o NAME=VALUE`; the other a program of its own,
written in Rust. Which one it is, and what it can do, is told by its `--help`, never by a version.
"""

import os

from boxwright._record import Record
from boxwright.boxes.vm.cache import digest_of, identity_of
from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.boxes.vm.cache import Cache

# in this order: where a distribution has both, the one beside QEMU is the older one
PLACES = (
    "/usr/libexec/virtiofsd",
    "/usr/lib/virtiofsd",
    "/usr/lib/qemu/virtiofsd",
    "/usr/libexec/qemu/virtiofsd",
    "/usr/bin/virtiofsd",
)
# what it is to begin with: the rights over files that root has in its user namespace, and what it needs to give up
# the rest itself (a new root directory, the bounding set); making device nodes is not among them
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
TIMEOUT_S = 10
_HINT = "install `virtiofsd` (in Debian 12 and older it is a part of qemu-system-common)"


class Virtiofsd(Record):
    """The program: where it is, and the options of ours that its `--help` knows."""

    path: str
    options: tuple[str, ...]

    @property
    def is_c(self) -> bool:
        """Whether it is the one that is a part of QEMU."""
        return "-o" in self.options


def find_virtiofsd(cache: "Cache") -> Virtiofsd:
    """The first one that is there. Raises HostError if there is none, or it does not say what it can do."""
    path = next((place for place in PLACES if os.access(place, os.X_OK)), "")
    if not path:
        raise HostError("share the container's files", 0, cause="there is no `virtiofsd`", hint=_HINT)
    name = f"virtiofsd-{digest_of(path, *identity_of(path))}"
    known = cache.get(name)
    if known is None:
        known = " ".join(options_in(_help(path))).encode()
        cache.put(name, known)
    return Virtiofsd(path, tuple(known.decode().split()))


def options_in(text: str) -> tuple[str, ...]:
    """Which of the options that matter a help text names. Raises HostError where it is not that of a virtiofsd."""
    words = {word.strip(",.").partition("=")[0].partition("|")[0] for word in text.split()}
    if "--fd" not in words or not words & {"sandbox", "--shared-dir"}:
        raise HostError(
            "share the container's files", 0, cause="`virtiofsd --help` names neither `sandbox` nor `--shared-dir`"
        )
    if "--shared-dir" not in words:
        return ("-o",)
    return tuple(name for name in _RUST if name in words)


def command(server: Virtiofsd, directory: str, fd: int) -> tuple[str, ...]:
    """Serve `directory` to the one that connects to the listening socket `fd`.

    It changes its root to the directory and filters its own system calls. Names and attributes are believed for a
    second at most (`auto`): the host may change the files meanwhile. `never` would cost twelve times as much for a walk
    through a tree; `always` little less than this. Nothing is raised above the limits of the jail.
    """
    if server.is_c:
        words = (f"source={directory}", "sandbox=chroot", "cache=auto", "xattr", "announce_submounts")
        more = ("modcaps=-mknod", "log_level=err")
        options = tuple(word for option in (*words, *more) for word in ("-o", option))
        return (server.path, f"--fd={fd}", "--rlimit-nofile=0", *options)
    values = {**_RUST, "--shared-dir": f"={directory}", "--fd": f"={fd}"}
    return (server.path, *(f"{name}{values[name]}" for name in server.options))


# --announce-submounts is the default of later ones, which do not all know the word any more
_RUST = {
    "--shared-dir": "",
    "--fd": "",
    "--sandbox": "=chroot",
    "--seccomp": "=kill",
    "--cache": "=auto",
    "--xattr": "",
    "--announce-submounts": "",
    "--inode-file-handles": "=never",
    "--modcaps": "=-mknod",
    "--rlimit-nofile": "=0",
    "--log-level": "=error",
}


def _help(path: str) -> str:
    import subprocess

    try:
        done = subprocess.run(
            [path, "--help"], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"ask `{path}` for its options", getattr(error, "errno", 0) or 0) from error
    return (done.stdout + done.stderr).decode("utf-8", "replace")
