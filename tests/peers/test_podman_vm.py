"""Podman with its containers in virtual machines: the runtime is `boxwright-vm`, a link to the command."""

import os
import platform
from pathlib import Path

import pytest
from engines import IMAGE
from test_podman import Podman, podman  # noqa: F401 - the fixture, with the runtime that is named here

from fixtures_vm import need_machines


@pytest.fixture(scope="session")
def runtime_path(boxwright_command: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another name for the command: an engine has no flag for the kind of box."""
    need_machines()
    link = tmp_path_factory.mktemp("link") / "boxwright-vm"
    link.symlink_to(boxwright_command)
    return str(link)


def test_run_is_on_another_kernel(podman: Podman) -> None:  # noqa: F811
    script = "uname -r; hostname; cat; exit 7"
    shown = podman.run("--interactive", "--hostname", "box", IMAGE, "sh", "-c", script, status=7, stdin="input\n")
    release, *rest = shown.splitlines()
    assert release != platform.release()
    assert rest == ["box", "input"]
    podman.run(IMAGE, "/no/such/program", status=127)


def test_a_terminal_is_given(podman: Podman) -> None:  # noqa: F811
    words = ["run", "--pull", "never", "--rm", "-it", "--network", "none", IMAGE, "sh", "-c", "tty; stty size"]
    assert "/dev/pts/0" in podman.call_on_terminal(*words)


def test_a_container_lives_and_is_removed(podman: Podman, tmp_path: Path) -> None:  # noqa: F811
    """One machine: exec, volumes, pause, kill, statistics, logs, rm."""
    (tmp_path / "file").write_text("from outside\n")
    tmp_path.chmod(0o755)
    name = podman.start("--volume", f"{tmp_path}:/mnt:ro", "--user", "0", "--memory", "128m", "--pids-limit", "100")
    assert podman.call("exec", name, "cat", "/mnt/file").stdout == "from outside\n"
    assert podman.call("exec", name, "uname", "-r").stdout.strip() != os.uname().release
    options = ["--user", "1000:50", "--workdir", "/etc"]
    assert podman.call("exec", *options, name, "sh", "-c", "id -u; id -g; pwd").stdout == "1000\n50\n/etc\n"
    podman.call("exec", name, "sh", "-c", "exit 5", status=5)
    podman.call("exec", name, "/no/such/program", status=127)
    assert podman.call("exec", "-t", name, "tty").stdout.startswith("/dev/pts/")
    podman.call("exec", "--detach", name, "sh", "-c", "echo done > /tmp/mark")
    podman.call("exec", name, "sh", "-c", "until [ -s /tmp/mark ]; do :; done")

    podman.call("pause", name)
    assert podman.call("inspect", "--format", "{{.State.Status}}", name).stdout == "paused\n"
    podman.call("unpause", name)
    assert podman.call("exec", name, "echo", "awake").stdout == "awake\n"

    assert podman.call("exec", name, "cat", "/sys/fs/cgroup/memory.max").stdout == f"{128 << 20}\n"
    podman.call("update", "--memory", "100m", "--memory-swap", "100m", name)
    assert podman.call("exec", name, "cat", "/sys/fs/cgroup/memory.max").stdout == f"{100 << 20}\n"
    assert podman.call("top", name).stdout.startswith("USER")

    podman.call("kill", "--signal", "KILL", name)
    assert podman.call("wait", name).stdout == "137\n"
    assert podman.call("inspect", "--format", "{{.State.Status}}", name).stdout == "exited\n"
    podman.call("start", name)
    assert podman.call("inspect", "--format", "{{.State.Status}}", name).stdout == "running\n"
    podman.call("rm", "--force", "--time", "0", name)
    assert name not in podman.call("ps", "--all", "--format", "{{.Names}}").stdout


def test_one_that_never_started_is_removed(podman: Podman) -> None:  # noqa: F811
    name = podman.name()
    podman.call("create", "--pull", "never", "--network", "none", "--name", name, IMAGE, "true")
    podman.call("init", name)
    assert podman.call("inspect", "--format", "{{.State.Status}}", name).stdout == "initialized\n"
    podman.call("rm", "--force", "--time", "0", name)


def test_logs_have_both_streams(podman: Podman) -> None:  # noqa: F811
    name = podman.name()
    script = "echo one; echo two >&2"
    podman.call("run", "--pull", "never", "--name", name, "--network", "none", IMAGE, "sh", "-c", script)
    logged = podman.call("logs", name)
    assert (logged.stdout, logged.stderr) == ("one\n", "two\n")
