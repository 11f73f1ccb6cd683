"""containerd, by its own client, with Boxwright in place of its runtime."""

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import IMAGE, Engine, put_back, write_image

import lacks
import leaks
from processes import descendants

START_SECONDS = 30
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()


class Containerd(Engine):
    """The client of a containerd of the tests' own."""

    runtime: str

    def run(self, *args: str, status: int = 0, stdin: str = "") -> str:
        """Standard output of a container that is removed at its end; `args` are options, `--`, and the program."""
        options, program = args[: args.index("--")], args[args.index("--") + 1 :]
        said = self.call(*self._run("--rm", *options), IMAGE, self.name(), *program, status=status, stdin=stdin)
        return said.stdout

    def run_on_terminal(self, *program: str) -> str:
        return self.call_on_terminal(*self._run("--rm", "--tty"), IMAGE, self.name(), *program)

    def start(self, *options: str) -> str:
        """Name of a container that sleeps."""
        name = self.name()
        self.call(*self._run("--detach", *options), IMAGE, name, "sleep", "600")
        return name

    def _run(self, *options: str) -> tuple[str, ...]:
        return ("run", "--snapshotter", "native", "--runc-binary", self.runtime, *options)

    def exec(self, name: str, *program: str, user: str = "", status: int = 0) -> str:
        options = ["--user", user] if user else []
        return self.call("tasks", "exec", "--exec-id", self.name(), *options, name, *program, status=status).stdout

    def task(self, name: str) -> tuple[int, str]:
        """The task's process and status."""
        rows = [line.split() for line in self.call("tasks", "list").stdout.splitlines()]
        return next((int(row[1]), row[2]) for row in rows if row[0] == name)

    def clear(self) -> None:
        for name in self.call("tasks", "list", "--quiet").stdout.split():
            self.call("tasks", "delete", "--force", name)
        for name in self.call("containers", "list", "--quiet").stdout.split():
            self.call("containers", "delete", name)


@pytest.fixture(scope="module")
def containerd(runtime_path: str, tmp_path_factory: pytest.TempPathFactory, busybox_root: Path) -> Iterator[Containerd]:
    lacks.need_root()
    lacks.need_program("containerd", "ctr", "containerd-shim-runc-v2")
    before, known = leaks.take_snapshot(), set(descendants(leaks.OURSELVES))
    directory = tmp_path_factory.mktemp("cd")
    directory.chmod(0o711)
    (directory / "config.toml").write_text(_configuration(directory))
    write_image(busybox_root, directory / "image.tar")
    engine = Containerd(["ctr", "--address", str(directory / "sock")], directory, {})
    engine.runtime = runtime_path
    with (directory / "log").open("w") as log:
        daemon = subprocess.Popen(["containerd", "--config", str(directory / "config.toml")], stdout=log, stderr=log)
    try:
        _wait_for(directory / "sock", daemon)
        engine.call("images", "import", "--snapshotter", "native", str(directory / "image.tar"))
        yield engine
        engine.clear()
    finally:
        daemon.terminate()
        daemon.wait(timeout=START_SECONDS)
        put_back(before, known)


def _configuration(directory: Path) -> str:
    """Its tasks and images alone: without the interface for Kubernetes, and with plain copies for snapshots."""
    return f"""
version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{directory}/sock"
"""


def _wait_for(path: Path, daemon: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert daemon.poll() is None, (path.parent / "log").read_text()
        with socket.socket(socket.AF_UNIX) as client:
            if path.exists() and client.connect_ex(str(path)) == 0:
                return
        assert time.monotonic() < deadline, (path.parent / "log").read_text()
        time.sleep(0.02)


def test_run_gives_output_and_status(containerd: Containerd) -> None:
    assert containerd.run("--", "echo", "over here") == "over here\n"
    containerd.run("--", "sh", "-c", "exit 7", status=7)


def test_a_program_that_is_not_there_is_an_error(containerd: Containerd) -> None:
    said = containerd.call(*containerd._run("--rm"), IMAGE, containerd.name(), "/no/such/program", status=1)
    assert "no such file or directory" in said.stderr.lower()


def test_a_terminal_is_given(containerd: Containerd) -> None:
    assert "/dev/pts/0" in containerd.run_on_terminal("tty")


def test_exec_joins_and_gives_its_status(containerd: Containerd) -> None:
    name = containerd.start()
    assert containerd.exec(name, "cat", "/proc/1/cmdline") == "sleep\0" + "600\0"
    containerd.exec(name, "sh", "-c", "exit 5", status=5)


def test_pause_and_resume(containerd: Containerd) -> None:
    name = containerd.start()
    containerd.call("tasks", "pause", name)
    assert containerd.task(name)[1] == "PAUSED"
    containerd.call("tasks", "resume", name)
    assert containerd.task(name)[1] == "RUNNING"
    assert containerd.exec(name, "echo", "awake") == "awake\n"


def test_processes_are_listed(containerd: Containerd) -> None:
    name = containerd.start()
    rows = [line.split() for line in containerd.call("tasks", "ps", name).stdout.splitlines()]
    pids = [int(row[0]) for row in rows[1:]]
    assert [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids] == [b"sleep\0" + b"600\0"]


def test_metrics_count_processes(containerd: Containerd) -> None:
    name = containerd.start()
    shown = containerd.call("tasks", "metrics", "--format", "json", name).stdout
    assert json.loads(shown)["pids"]["current"] == 1


def test_kill_ends_the_task(containerd: Containerd) -> None:
    name = containerd.start()
    pidfd = os.pidfd_open(containerd.task(name)[0])
    try:
        containerd.call("tasks", "kill", "--signal", str(int(signal.SIGKILL)), name)
        assert select.select([pidfd], [], [], START_SECONDS)[0]
    finally:
        os.close(pidfd)
    containerd.call("tasks", "delete", name)
    containerd.call("containers", "delete", name)


def test_a_task_is_removed_by_force(containerd: Containerd) -> None:
    name = containerd.start()
    containerd.call("tasks", "delete", "--force", name)
    assert name not in containerd.call("tasks", "list", "--quiet").stdout.split()


def test_a_memory_limit_is_set(containerd: Containerd) -> None:
    name = containerd.start("--memory-limit", str(64 << 20))
    metrics = json.loads(containerd.call("tasks", "metrics", "--format", "json", name).stdout)
    limit = metrics["memory"]["usage_limit"] if V2 else metrics["memory"]["usage"]["limit"]
    assert limit == 64 << 20


def test_exec_as_another_user(containerd: Containerd) -> None:
    name = containerd.start()
    assert containerd.exec(name, "sh", "-c", "id -u; id -g", user="1000:50").split() == ["1000", "50"]


def test_namespaces_are_joined_by_path(containerd: Containerd) -> None:
    name = containerd.start()
    pid = containerd.task(name)[0]
    joined = [word for kind in ("network", "ipc") for word in ("--with-ns", f"{kind}:/proc/{pid}/ns/{kind[:3]}")]
    shown = containerd.run(*joined, "--", "sh", "-c", "cd /proc/self/ns; readlink net; readlink ipc").split()
    assert shown == [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "ipc")]


def test_capabilities_are_dropped(containerd: Containerd) -> None:
    script = "grep CapBnd /proc/self/status"
    before = int(containerd.run("--", "sh", "-c", script).split()[1], 16)
    after = int(containerd.run("--cap-drop", "CAP_KILL", "--", "sh", "-c", script).split()[1], 16)
    assert (before & 1 << 5, after) == (1 << 5, before & ~(1 << 5))


def test_the_default_seccomp_profile_is_loaded(containerd: Containerd) -> None:
    assert containerd.run("--seccomp", "--", "grep", "Seccomp:", "/proc/self/status").split() == ["Seccomp:", "2"]


def test_a_read_only_root_and_a_bind_mount(containerd: Containerd, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from outside\n")
    mount = f"type=bind,src={tmp_path},dst=/mnt,options=rbind:ro"
    script = "cat /mnt/file; touch /mnt/x || touch /etc/x || echo both read-only"
    shown = containerd.run("--read-only", "--mount", mount, "--", "sh", "-c", script)
    assert shown == "from outside\nboth read-only\n"


def test_a_user_namespace(containerd: Containerd) -> None:
    shown = containerd.run("--uidmap", "0:100000:5000", "--gidmap", "0:100000:5000", "--", "cat", "/proc/self/uid_map")
    assert shown.split() == ["0", "100000", "5000"]


def test_the_host_s_network(containerd: Containerd) -> None:
    inside = containerd.run("--net-host", "--", "ls", "/sys/class/net").split()
    assert inside == sorted(path.name for path in Path("/sys/class/net").iterdir())
