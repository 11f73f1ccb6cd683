"""Root filesystems to run in: busybox (made in milliseconds) and Debian (made once, then kept in a cache)."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lacks

DEBIAN_SUITE = "bookworm"
PROGRAMS = ("python3", "sqlite3", "gcc", "libc6-dev", "nginx-light", "postgresql")

# so that the rest is small enough for an image (boxes/vm/images.py); PostgreSQL does without its compiler
NOT_NEEDED = (
    "usr/share/doc",
    "usr/share/i18n",
    "usr/share/locale",
    "usr/share/man",
    "usr/lib/*/libLLVM*",
    "usr/lib/gcc/*/*/lto1",
    "usr/lib/postgresql/*/lib/bitcode",
    "usr/lib/postgresql/*/lib/llvmjit*",
    "var/lib/apt/lists/*",
)

# mount points too, so that one read-only root can serve many containers at once
DIRECTORIES = ("bin", "dev", "etc", "home", "mnt", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin", "var/tmp")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    "etc/group": "root:x:0:\nuser:x:1000:\nstaff:x:50:user\nnobody:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/resolv.conf": "",
    "etc/hostname": "",
}


def cache_dir() -> Path:
    """Where what is dear to make survives a session: outside of the repository, shared by all checkouts."""
    if "XDG_CACHE_HOME" in os.environ:
        path = Path(os.environ["XDG_CACHE_HOME"], "boxwright-tests")
    elif os.geteuid() == 0:
        path = Path("/var/cache/boxwright-tests")
    else:
        path = Path.home() / ".cache" / "boxwright-tests"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have `path` as a lock among sessions of tests on this machine."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The cached directory `name`; `make` fills it the first time. Half of one is never seen nor made twice."""
    target = cache_dir() / name
    with locked(cache_dir() / f".{name}.lock"):
        if not target.exists():
            partial = cache_dir() / f".{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                make(partial)
            except BaseException:
                shutil.rmtree(partial)
                raise
            partial.rename(target)
    return target


def make_busybox_root(path: Path) -> None:
    """Fill `path` with busybox, a link for each applet, and the files that say who is who."""
    busybox = lacks.find_program("busybox")
    lacks.need("busybox", busybox)
    assert busybox
    for name in DIRECTORIES:
        (path / name).mkdir(parents=True, exist_ok=True)
    (path / "tmp").chmod(0o1777)
    for name, text in FILES.items():
        (path / name).write_text(text)
    shutil.copy2(busybox, path / "bin" / "busybox")
    applets = subprocess.run([busybox, "--list-full"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        # all in /bin: programs are found whatever PATH a test sets
        link = path / "bin" / Path(applet).name
        if not link.exists():
            link.symlink_to("busybox")


@pytest.fixture(scope="session")
def busybox_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root filesystem of busybox. Shared: use it read-only, or `fresh_busybox_root`."""
    path = tmp_path_factory.mktemp("busybox") / "rootfs"
    path.mkdir()
    # pytest's own directories are closed to others, while a container's user must get to its root
    open_parents(path)
    make_busybox_root(path)
    _need_static(path / "bin" / "busybox")
    return path


@pytest.fixture
def fresh_busybox_root(busybox_root: Path, tmp_path: Path) -> Path:
    """A copy of the busybox root that the test may write to."""
    path = tmp_path / "busybox-rootfs"
    copy_root(busybox_root, path)
    return path


def copy_root(source: Path, target: Path) -> None:
    """Copy a root filesystem with owners, modes, links and times, sharing blocks where the filesystem can."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)
    open_parents(target)


@pytest.fixture(scope="session")
def debian_root() -> Path:
    """A minimal Debian, from the cache or fetched. Shared: use it read-only, or as a lower layer."""
    return cached(f"debian-{DEBIAN_SUITE}", _debootstrap)


@pytest.fixture(scope="session")
def debian_systemd_root() -> Path:
    """A Debian that boots: with systemd as its init. Shared: use it as a lower layer."""
    return cached(f"debian-{DEBIAN_SUITE}-systemd", lambda path: _debootstrap(path, "systemd-sysv", "dbus"))


@pytest.fixture(scope="session")
def debian_programs_root() -> Path:
    """A Debian with interpreters, a compiler, databases and a web server. Shared: use it as a lower layer."""
    return cached(f"debian-{DEBIAN_SUITE}-programs", _make_programs)


def _make_programs(path: Path) -> None:
    _debootstrap(path, *PROGRAMS)
    for pattern in NOT_NEEDED:
        for found in path.glob(pattern):
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink()


def _debootstrap(path: Path, *packages: str) -> None:
    lacks.need_root()
    lacks.need_program("debootstrap")
    command = ["debootstrap", "--variant=minbase"]
    if packages:
        command.append(f"--include={','.join(packages)}")
    command += [DEBIAN_SUITE, str(path)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
    reached = result.returncode == 0
    lacks.need(f"packages of Debian {DEBIAN_SUITE} (debootstrap: {_last_line(result)})", reached)
    shutil.rmtree(path / "var/cache/apt/archives", ignore_errors=True)


def _last_line(result: "subprocess.CompletedProcess[str]") -> str:
    lines = (result.stdout + result.stderr).strip().splitlines()
    return lines[-1] if lines else f"exit status {result.returncode}"


def _need_static(program: Path) -> None:
    content = program.read_bytes()
    lacks.need("a static busybox", b"/lib64/ld-" not in content and b"/lib/ld-" not in content)


def open_parents(path: Path) -> None:
    """Let every user walk to `path`, as far as the directories above it are ours."""
    for parent in path.parents:
        if parent == Path(tempfile.gettempdir()):
            return
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o111)
