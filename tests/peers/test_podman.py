"""Podman with Boxwright in place of its runtime."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import IMAGE, Engine, put_back, write_image

import lacks
import leaks
from processes import descendants

BRIDGE = "bwtest0"
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()


class Podman(Engine):
    """Podman with its storage, state and network in a directory of the tests."""

    def run(self, *args: str, status: int = 0, stdin: str = "") -> str:
        """Standard output of a container that is removed at its end; without a network unless `args` say so."""
        network = [] if any(arg.startswith("--network") for arg in args) else ["--network", "none"]
        return self.call("run", "--pull", "never", "--rm", *network, *args, status=status, stdin=stdin).stdout

    def start(self, *options: str) -> str:
        """Name of a container that sleeps."""
        name = self.name()
        self.call(
            "run", "--pull", "never", "--detach", "--name", name, "--network", "none", *options, IMAGE, "sleep", "600"
        )
        return name


@pytest.fixture(scope="module")
def podman(runtime_path: str, tmp_path_factory: pytest.TempPathFactory, busybox_root: Path) -> Iterator[Podman]:
    lacks.need_root()
    lacks.need_program("podman", "conmon", "ip")
    before, known = leaks.take_snapshot(), set(descendants(leaks.OURSELVES))
    strays = _strays()
    directory = tmp_path_factory.mktemp("podman")
    directory.chmod(0o711)
    engine = Podman(_command(directory, runtime_path), directory, {"CONTAINERS_CONF": str(directory / "conf")})
    (directory / "conf").write_text(_configuration(directory))
    _write_network(directory)
    write_image(busybox_root, directory / "image.tar")
    try:
        engine.call("load", "--input", str(directory / "image.tar"))
        yield engine
        engine.call("rm", "--all", "--force", "--time", "0")
    finally:
        put_back(before, known)
        for path in _strays() - strays:
            shutil.rmtree(path)


def _command(directory: Path, runtime: str) -> list[str]:
    # file systems are not what is tested: plain copies work everywhere
    places = {name: str(directory / name) for name in ("root", "runroot", "tmpdir")}
    options = [word for name, path in places.items() for word in (f"--{name}", path)]
    return ["podman", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", runtime, *options]


def _configuration(directory: Path) -> str:
    """containers.conf. The limits it has otherwise need CAP_SYS_RESOURCE, which a test machine may not have."""
    return f"""
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
events_logger = "file"
lock_type = "file"
[network]
network_backend = "cni"
network_config_dir = "{directory}/networks"
"""


def _write_network(directory: Path) -> None:
    """A bridge without packet filter rules, under a name of its own."""
    ipam = {
        "type": "host-local",
        "dataDir": str(directory / "addresses"),
        "ranges": [[{"subnet": "10.213.47.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": False, "ipam": ipam}
    network = {"cniVersion": "0.4.0", "name": "podman", "plugins": [bridge]}
    (directory / "networks").mkdir()
    (directory / "networks/87-podman.conflist").write_text(json.dumps(network))


def _strays() -> set[Path]:
    """What Podman makes in places that cannot be configured: directories for hierarchies that the host does not have,
    and the cache of the network plugins.
    """
    paths = [Path("/var/lib/cni"), *(Path("/sys/fs/cgroup", name) for name in ("net_cls", "net_prio", "perf_event"))]
    return {path for path in paths if path.is_dir() and not path.is_mount()}


def test_run_gives_output_and_status(podman: Podman) -> None:
    assert podman.run("--hostname", "box", IMAGE, "hostname") == "box\n"
    podman.run(IMAGE, "sh", "-c", "exit 7", status=7)


def test_a_program_that_is_not_there_gives_127(podman: Podman) -> None:
    podman.run(IMAGE, "/no/such/program", status=127)


def test_a_program_that_is_not_executable_gives_126(podman: Podman) -> None:
    podman.run(IMAGE, "/etc/passwd", status=126)


def test_standard_input_is_passed(podman: Podman) -> None:
    assert podman.run("--interactive", IMAGE, "cat", stdin="over there\n") == "over there\n"


def test_a_terminal_is_given(podman: Podman) -> None:
    name = podman.name()
    shown = podman.call_on_terminal(
        "run",
        "--pull",
        "never",
        "--rm",
        "--name",
        name,
        "-it",
        "--network",
        "none",
        IMAGE,
        "sh",
        "-c",
        "tty; stty size",
    )
    assert "/dev/pts/0" in shown


def test_exec_joins_and_gives_its_status(podman: Podman) -> None:
    name = podman.start("--hostname", "joined")
    assert podman.call("exec", name, "hostname").stdout == "joined\n"
    assert podman.call(
        "exec", "--user", "1000:50", "--workdir", "/etc", name, "sh", "-c", "id -u; id -g; pwd"
    ).stdout == ("1000\n50\n/etc\n")
    podman.call("exec", name, "sh", "-c", "exit 5", status=5)
    podman.call("exec", name, "/no/such/program", status=127)


def test_exec_has_a_terminal(podman: Podman) -> None:
    name = podman.start()
    assert podman.call("exec", "-t", name, "tty").stdout.startswith("/dev/pts/")


def test_exec_in_the_background(podman: Podman) -> None:
    name = podman.start()
    podman.call("exec", "--detach", name, "sh", "-c", "echo done > /tmp/mark")
    podman.call("exec", name, "sh", "-c", "until [ -s /tmp/mark ]; do :; done")
    assert podman.call("exec", name, "cat", "/tmp/mark").stdout == "done\n"


def test_pause_and_unpause(podman: Podman) -> None:
    name = podman.start()
    podman.call("pause", name)
    assert podman.call("inspect", "--format", "{{.State.Status}}", name).stdout == "paused\n"
    podman.call("unpause", name)
    assert podman.call("exec", name, "echo", "awake").stdout == "awake\n"


def test_kill_and_wait(podman: Podman) -> None:
    name = podman.start()
    podman.call("kill", "--signal", "KILL", name)
    assert podman.call("wait", name).stdout == "137\n"
    assert podman.call("inspect", "--format", "{{.State.Status}}", name).stdout == "exited\n"


def test_stop_and_start_again(podman: Podman) -> None:
    name = podman.start()
    podman.call("stop", "--time", "0", name)
    podman.call("start", name)
    assert podman.call("inspect", "--format", "{{.State.Status}}", name).stdout == "running\n"


def test_a_container_that_never_started_is_removed(podman: Podman) -> None:
    name = podman.name()
    podman.call("create", "--pull", "never", "--network", "none", "--name", name, IMAGE, "true")
    podman.call("init", name)
    assert podman.call("inspect", "--format", "{{.State.Status}}", name).stdout == "initialized\n"
    podman.call("rm", "--force", "--time", "0", name)


def test_stats_count_processes(podman: Podman) -> None:
    name = podman.start()
    stats = json.loads(podman.call("stats", "--no-stream", "--format", "json", name).stdout)
    assert [(one["name"], one["pids"]) for one in stats] == [(name, "1")]


def test_limits_are_set(podman: Podman) -> None:
    memory, pids = ("memory.max", "pids.max") if V2 else ("memory/memory.limit_in_bytes", "pids/pids.max")
    shown = podman.run(
        "--memory", "64m", "--pids-limit", "20", IMAGE, "sh", "-c", f"cd /sys/fs/cgroup; cat {memory} {pids}"
    )
    assert shown.split() == [str(64 << 20), "20"]


def test_limits_are_updated(podman: Podman) -> None:
    memory = "memory.max" if V2 else "memory/memory.limit_in_bytes"
    name = podman.start("--memory", "64m")
    podman.call("update", "--memory", "96m", "--memory-swap", "96m", name)
    assert podman.call("exec", name, "cat", f"/sys/fs/cgroup/{memory}").stdout == f"{96 << 20}\n"


def test_user_capabilities_and_groups(podman: Podman) -> None:
    shown = podman.run(
        "--user",
        "1000:50",
        "--group-add",
        "77",
        "--cap-drop",
        "all",
        IMAGE,
        "sh",
        "-c",
        "id -G; grep CapBnd /proc/self/status",
    )
    assert shown.split() == ["50", "77", "CapBnd:", "0" * 16]
    kept = podman.run("--cap-drop", "all", "--cap-add", "kill", IMAGE, "grep", "CapEff", "/proc/self/status")
    assert int(kept.split()[1], 16) == 1 << 5


def test_mounts(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from outside\n")
    tmp_path.chmod(0o755)
    script = "cat /mnt/file; touch /mnt/x || echo read-only; touch /scratch/y && echo writable"
    shown = podman.run("-v", f"{tmp_path}:/mnt:ro", "--tmpfs", "/scratch", IMAGE, "sh", "-c", script)
    assert shown == "from outside\nread-only\nwritable\n"


def test_a_read_only_root(podman: Podman) -> None:
    podman.run("--read-only", IMAGE, "touch", "/etc/x", status=1)


def test_a_user_namespace(podman: Podman) -> None:
    shown = podman.run("--uidmap", "0:100000:5000", "--gidmap", "0:100000:5000", IMAGE, "cat", "/proc/self/uid_map")
    assert shown.split() == ["0", "100000", "5000"]


def test_no_network_has_a_loopback_only(podman: Podman) -> None:
    assert podman.run(IMAGE, "ls", "/sys/class/net").split() == ["lo"]


def test_the_host_s_network(podman: Podman) -> None:
    inside = podman.run("--network", "host", IMAGE, "ls", "/sys/class/net").split()
    assert inside == sorted(path.name for path in Path("/sys/class/net").iterdir())


def test_a_bridge(podman: Podman) -> None:
    lacks.need("CNI plugins", Path("/usr/lib/cni/bridge").exists() or Path("/opt/cni/bin/bridge").exists())
    shown = podman.run("--network", "podman", IMAGE, "ip", "-4", "-o", "address", "show", "eth0")
    assert "10.213.47." in shown


def test_namespaces_of_another_container_are_joined(podman: Podman) -> None:
    name = podman.start("--hostname", "first", "--ipc", "shareable")
    joined = [f"--{kind}=container:{name}" for kind in ("pid", "ipc", "uts", "network")]
    shown = podman.run(*joined, IMAGE, "sh", "-c", "hostname; tr '\\0' ' ' < /proc/1/cmdline")
    assert shown == "first\nsleep 600 "


def test_sysctls_and_rlimits(podman: Podman) -> None:
    options = ["--sysctl", "kernel.msgmax=65536", "--ulimit", "nofile=100:100", "--ulimit", "nproc=200:200"]
    shown = podman.run(
        *options, IMAGE, "sh", "-c", "cat /proc/sys/kernel/msgmax; ulimit -n; grep processes /proc/self/limits"
    )
    assert shown.split() == ["65536", "100", "Max", "processes", "200", "200", "processes"]


def test_logs_have_both_streams(podman: Podman) -> None:
    name = podman.name()
    podman.call(
        "run", "--pull", "never", "--name", name, "--network", "none", IMAGE, "sh", "-c", "echo one; echo two >&2"
    )
    logged = podman.call("logs", name)
    assert (logged.stdout, logged.stderr) == ("one\n", "two\n")
