"""Docker's daemon with Boxwright as one of its runtimes, and as its default."""

import json
import os
import shutil
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


class Docker(Engine):
    """The client of a daemon of the tests' own."""

    def run(self, *args: str, status: int = 0, stdin: str = "") -> str:
        """Standard output of a container that is removed at its end."""
        return self.call(
            "run", "--pull", "never", "--rm", *self._network(args), *args, status=status, stdin=stdin
        ).stdout

    def start(self, *options: str) -> str:
        """Name of a container that sleeps."""
        name = self.name()
        words = ("run", "--pull", "never", "--detach", "--name", name, *self._network(options), *options)
        self.call(*words, IMAGE, "sleep", "600")
        return name

    def status(self, name: str) -> str:
        return self.call("inspect", "--format", "{{.State.Status}}", name).stdout.strip()

    def clear(self) -> None:
        names = self.call("ps", "--all", "--quiet").stdout.split()
        if names:
            self.call("rm", "--force", *names)

    @staticmethod
    def _network(args: tuple[str, ...]) -> tuple[str, ...]:
        return () if any(arg.startswith("--network") for arg in args) else ("--network", "none")


@pytest.fixture(scope="module")
def docker(runtime_path: str, tmp_path_factory: pytest.TempPathFactory, busybox_root: Path) -> Iterator[Docker]:
    lacks.need_root()
    lacks.need_program("dockerd", "docker", "containerd", "containerd-shim-runc-v2")
    before, known = leaks.take_snapshot(), set(descendants(leaks.OURSELVES))
    strays = _strays()
    directory = tmp_path_factory.mktemp("dk")
    directory.chmod(0o711)
    (directory / "daemon.json").write_text(json.dumps(_configuration(directory, runtime_path)))
    write_image(busybox_root, directory / "image.tar")
    client = {"DOCKER_CONFIG": str(directory / "client"), "DOCKER_HOST": f"unix://{directory}/sock"}
    engine = Docker(["docker"], directory, client)
    words = [str(lacks.find_program("dockerd")), "--config-file", str(directory / "daemon.json")]
    with (directory / "log").open("w") as log:
        daemon = subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | {"TMPDIR": str(directory)})
    try:
        _wait_for(directory / "sock", daemon)
        engine.call("load", "--input", str(directory / "image.tar"))
        yield engine
        engine.clear()
    finally:
        daemon.terminate()
        daemon.wait(timeout=START_SECONDS)
        put_back(before, known)
        for path in _strays() - strays:
            shutil.rmtree(path)


def _configuration(directory: Path, runtime: str) -> dict[str, object]:
    """daemon.json. No network of the host is touched, and file systems are not what is tested: plain copies work."""
    return {
        "runtimes": {"boxwright": {"path": runtime}},
        "default-runtime": "boxwright",
        "hosts": [f"unix://{directory}/sock"],
        "data-root": str(directory / "data"),
        "exec-root": str(directory / "exec"),
        "pidfile": str(directory / "pid"),
        "storage-driver": "vfs",
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
    }


def _strays() -> set[Path]:
    """What Docker makes in places that cannot be configured."""
    return {path for path in (Path("/etc/docker"), Path("/run/docker"), Path("/opt/containerd")) if path.is_dir()}


def _wait_for(path: Path, daemon: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert daemon.poll() is None, (path.parent / "log").read_text()
        with socket.socket(socket.AF_UNIX) as client:
            if path.exists() and client.connect_ex(str(path)) == 0:
                return
        assert time.monotonic() < deadline, (path.parent / "log").read_text()
        time.sleep(0.02)


def test_the_daemon_knows_the_runtime(docker: Docker) -> None:
    shown = json.loads(docker.call("info", "--format", "{{json .}}").stdout)
    assert "boxwright" in shown["Runtimes"]
    assert shown["DefaultRuntime"] == "boxwright"


def test_the_runtime_s_state_is_where_the_manual_says(docker: Docker) -> None:
    name = docker.start()
    made = docker.call("inspect", "--format", "{{.Id}}", name).stdout.strip()
    assert (docker.directory / "exec/runtime-runc/moby" / made / "state.json").exists()


def test_run_gives_output_and_status(docker: Docker) -> None:
    assert docker.run("--runtime", "boxwright", "--hostname", "box", IMAGE, "hostname") == "box\n"
    docker.run(IMAGE, "sh", "-c", "exit 7", status=7)


def test_a_program_that_is_not_there_gives_127(docker: Docker) -> None:
    docker.run(IMAGE, "/no/such/program", status=127)


def test_a_program_that_is_not_executable_gives_126(docker: Docker) -> None:
    docker.run(IMAGE, "/etc/passwd", status=126)


def test_standard_input_is_passed(docker: Docker) -> None:
    assert docker.run("--interactive", IMAGE, "cat", stdin="over there\n") == "over there\n"


def test_a_terminal_is_given(docker: Docker) -> None:
    words = ("run", "--pull", "never", "--rm", "--tty", "--interactive", "--network", "none", IMAGE, "tty")
    assert "/dev/pts/0" in docker.call_on_terminal(*words)


def test_exec_joins_and_gives_its_status(docker: Docker) -> None:
    name = docker.start("--hostname", "joined")
    assert docker.call("exec", name, "hostname").stdout == "joined\n"
    shown = docker.call("exec", "--user", "1000:50", "--workdir", "/etc", name, "sh", "-c", "id -u; id -g; pwd")
    assert shown.stdout == "1000\n50\n/etc\n"
    docker.call("exec", name, "sh", "-c", "exit 5", status=5)


def test_exec_has_a_terminal(docker: Docker) -> None:
    name = docker.start()
    assert docker.call("exec", "--tty", name, "tty").stdout.startswith("/dev/pts/")


def test_pause_and_unpause(docker: Docker) -> None:
    name = docker.start()
    docker.call("pause", name)
    assert docker.status(name) == "paused"
    docker.call("unpause", name)
    assert docker.call("exec", name, "echo", "awake").stdout == "awake\n"


def test_kill_and_wait(docker: Docker) -> None:
    name = docker.start()
    docker.call("kill", "--signal", "KILL", name)
    assert docker.call("wait", name).stdout == "137\n"
    assert docker.status(name) == "exited"


def test_stop_and_start_again(docker: Docker) -> None:
    name = docker.start()
    docker.call("stop", "--time", "0", name)
    docker.call("start", name)
    assert docker.status(name) == "running"


def test_a_container_that_never_started_is_removed(docker: Docker) -> None:
    name = docker.name()
    docker.call("create", "--pull", "never", "--network", "none", "--name", name, IMAGE, "true")
    docker.call("rm", name)


def test_processes_are_listed(docker: Docker) -> None:
    name = docker.start()
    rows = docker.call("top", name).stdout.splitlines()
    assert len(rows) == 2
    assert rows[1].endswith("sleep 600")


def test_stats_count_processes(docker: Docker) -> None:
    name = docker.start()
    shown = json.loads(docker.call("stats", "--no-stream", "--format", "{{json .}}", name).stdout)
    assert (shown["Name"], shown["PIDs"]) == (name, "1")


def test_limits_are_set(docker: Docker) -> None:
    memory, pids = ("memory.max", "pids.max") if V2 else ("memory/memory.limit_in_bytes", "pids/pids.max")
    script = f"cd /sys/fs/cgroup; cat {memory} {pids}"
    shown = docker.run("--memory", "64m", "--pids-limit", "20", IMAGE, "sh", "-c", script)
    assert shown.split() == [str(64 << 20), "20"]


def test_limits_are_updated(docker: Docker) -> None:
    memory = "memory.max" if V2 else "memory/memory.limit_in_bytes"
    name = docker.start("--memory", "64m", "--memory-swap", "64m")
    docker.call("update", "--memory", "96m", "--memory-swap", "96m", name)
    assert docker.call("exec", name, "cat", f"/sys/fs/cgroup/{memory}").stdout == f"{96 << 20}\n"


def test_user_capabilities_and_groups(docker: Docker) -> None:
    script = "id -G; grep CapBnd /proc/self/status"
    options = ("--user", "1000:50", "--group-add", "77", "--cap-drop", "all")
    assert docker.run(*options, IMAGE, "sh", "-c", script).split() == ["50", "77", "CapBnd:", "0" * 16]


def test_the_default_filter_is_loaded(docker: Docker) -> None:
    shown = docker.run(IMAGE, "grep", "Seccomp:", "/proc/self/status")
    assert shown.split() == ["Seccomp:", "2"]


def test_mounts(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from outside\n")
    tmp_path.chmod(0o755)
    script = "cat /mnt/file; touch /mnt/x || echo read-only; touch /scratch/y && echo writable"
    shown = docker.run("--volume", f"{tmp_path}:/mnt:ro", "--tmpfs", "/scratch", IMAGE, "sh", "-c", script)
    assert shown == "from outside\nread-only\nwritable\n"


def test_a_read_only_root(docker: Docker) -> None:
    docker.run("--read-only", IMAGE, "touch", "/etc/x", status=1)


def test_no_network_has_a_loopback_only(docker: Docker) -> None:
    assert docker.run(IMAGE, "ls", "/sys/class/net").split() == ["lo"]


def test_the_host_s_network(docker: Docker) -> None:
    inside = docker.run("--network", "host", IMAGE, "ls", "/sys/class/net").split()
    assert inside == sorted(path.name for path in Path("/sys/class/net").iterdir())


def test_logs_have_both_streams(docker: Docker) -> None:
    name = docker.name()
    script = "echo one; echo two >&2"
    docker.call("run", "--pull", "never", "--name", name, "--network", "none", IMAGE, "sh", "-c", script)
    logged = docker.call("logs", name)
    assert (logged.stdout, logged.stderr) == ("one\n", "two\n")
