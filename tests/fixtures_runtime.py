"""The command under test, bundles to give it, and the configuration to start from."""

import itertools
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fixtures_roots import copy_root

REPOSITORY = Path(__file__).parent.parent
TIMEOUT_SECONDS = 60

Json = dict[str, Any]
_numbers = itertools.count()

CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
NAMESPACES = ("pid", "network", "ipc", "uts", "mount")
MASKED = ("acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi")
READONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")


def default_config(*args: str, **changes: object) -> Json:
    """What `spec` of a runtime gives, without a terminal: `changes` replace whole top-level keys."""
    config: Json = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(args) or ["/bin/true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "box",
        "mounts": default_mounts(),
        "linux": {
            # by its id alone a container would meet those of other test runs on the machine
            "cgroupsPath": f"boxwright-tests-{os.getpid()}-{next(_numbers)}",
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "maskedPaths": [*(f"/proc/{name}" for name in MASKED), "/sys/firmware"],
            "readonlyPaths": [f"/proc/{name}" for name in READONLY],
        },
    }
    return config | changes


def default_mounts() -> list[Json]:
    """/proc, /dev with its pts, shm and mqueue, and /sys read-only."""
    return [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
    ]


def _mount(destination: str, kind: str, source: str, *options: str) -> Json:
    mount: Json = {"destination": destination, "type": kind, "source": source}
    return mount | {"options": list(options)} if options else mount


class Result:
    """What a command left: its status, and files that a container may still be writing to."""

    def __init__(self, args: Sequence[str], status: int, out: Path, err: Path) -> None:
        self.args = args
        self.status = status
        self._out = out
        self._err = err

    @property
    def stdout(self) -> str:
        return self._out.read_text(errors="surrogateescape")

    @property
    def stderr(self) -> str:
        return self._err.read_text(errors="surrogateescape")

    def __repr__(self) -> str:
        return f"status {self.status} of {self.args}\nstdout: {self.stdout}\nstderr: {self.stderr}"


class Runtime:
    """A runtime's command line with a state directory of its own."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self.command = tuple(command)
        self.directory = directory
        self.root = directory / "state"
        self._calls = 0

    def call(
        self,
        *args: str | Path,
        check: bool = True,
        stdin: int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Result:
        """Run the command with `args` after its global options.

        Its output goes to files: a pipe would stay open for as long as the container that inherits it lives.
        """
        words = [*self.command, "--root", str(self.root), *map(str, args)]
        self._calls += 1
        out, err = (self.directory / f"{self._calls}.{name}" for name in ("out", "err"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.run(
                words,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                env=env,
                cwd=cwd,
                timeout=timeout,
                check=False,
            )
        result = Result(words, process.returncode, out, err)
        assert not check or result.status == 0, result
        return result

    def run(self, container_id: str, bundle: Path, *options: str, **how: Any) -> Result:
        """The container's status is the result's, so it is not taken for a failure."""
        return self.call("run", "--bundle", bundle, *options, container_id, **({"check": False} | how))

    def create(self, container_id: str, bundle: Path, *options: str, **how: Any) -> Result:
        """The result's output is the container's, as far as it has got when it is read."""
        return self.call("create", "--bundle", bundle, *options, container_id, **how)

    def start(self, container_id: str, **how: Any) -> Result:
        return self.call("start", container_id, **how)

    def state(self, container_id: str) -> Json:
        state: Json = json.loads(self.call("state", container_id).stdout)
        return state

    def kill(self, container_id: str, signal: str = "KILL", *options: str, **how: Any) -> Result:
        return self.call("kill", *options, container_id, signal, **how)

    def delete(self, container_id: str, *options: str, **how: Any) -> Result:
        return self.call("delete", *options, container_id, **how)

    def exec(self, container_id: str, *words: str, **how: Any) -> Result:
        return self.call("exec", container_id, *words, **({"check": False} | how))

    def ids(self) -> list[str]:
        """Every container that has a state directory."""
        entries = self.root.iterdir() if self.root.exists() else ()
        return sorted(path.name for path in entries if path.is_dir() and not path.name.startswith("."))

    def wait_stopped(self, container_id: str, timeout: float = TIMEOUT_SECONDS) -> Json:
        """Wait for the end of the container's process, then give the state."""
        state = self.state(container_id)
        if state["status"] != "stopped":
            wait_gone(state["pid"], timeout)
            state = self.state(container_id)
        assert state["status"] == "stopped", state
        return state

    def close(self) -> None:
        """Remove every container that the test left."""
        for container_id in self.ids():
            self.delete(container_id, "--force")


@contextmanager
def started(runtime: Runtime, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A command that runs until its input ends."""
    command = [*runtime.command, "--root", str(runtime.root), *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            yield process
        finally:
            if process.stdin and not process.stdin.closed:
                process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.terminate()


def wait_gone(pid: int, timeout: float = TIMEOUT_SECONDS) -> None:
    """Wait until the process ends, whoever's child it is, and reap it if it is ours."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([pidfd], [], [], timeout)[0], f"process {pid} is still there after {timeout} s"
    finally:
        os.close(pidfd)
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # its parent is another


@pytest.fixture(scope="session")
def boxwright_command(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command to test: $BOXWRIGHT, the checkout's own, or one written for the package that the tests import."""
    if named := os.environ.get("BOXWRIGHT"):
        return str(Path(named).resolve())
    built = REPOSITORY / ".venv/bin/boxwright"
    if built.exists():
        return str(built)
    target = tmp_path_factory.mktemp("bin") / "boxwright"
    tool = REPOSITORY / "tools/make-launcher"
    subprocess.run([sys.executable, tool, target, REPOSITORY / "src"], check=True)
    return str(target)


@pytest.fixture
def boxwright(boxwright_command: str, tmp_path: Path, isolation: str) -> Iterator[Runtime]:
    """The command line, with a state directory that goes with the test."""
    directory = tmp_path / "boxwright"
    directory.mkdir()
    options = () if isolation == "linux" else ("--isolation", isolation)
    runtime = Runtime([boxwright_command, *options], directory)
    yield runtime
    runtime.close()


BundleFactory = Callable[..., Path]


@pytest.fixture
def bundle(tmp_path: Path, busybox_root: Path) -> BundleFactory:
    """Write bundles: `bundle(config)` runs on the shared busybox root, `copy=True` on a root of its own.

    `root` is another root filesystem. The path that the configuration's `root.path` names is a directory in the
    bundle for a copy, else the shared root itself, which is then to be read-only.
    """
    made = 0

    def write(config: Json | None = None, *, root: Path | None = None, copy: bool = False) -> Path:
        nonlocal made
        made += 1
        path = tmp_path / f"bundle{made}"
        path.mkdir()
        config = default_config() if config is None else config
        if copy:
            copy_root(root or busybox_root, path / "rootfs")
        elif config.get("root", {}).get("path") == "rootfs":
            config = config | {"root": config["root"] | {"path": str(root or busybox_root)}}
        (path / "config.json").write_text(json.dumps(config))
        return path

    return write
