"""System containers: Debian boots with systemd as its init, to its target, and shuts down when it is asked to."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixtures_runtime import Runtime

pytestmark = pytest.mark.root

BOOT_SECONDS = 60
System = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def name() -> str:
    return f"system-{os.getpid()}"


@contextmanager
def booted(boxwright: Runtime, name: str, root: Path, *flags: str) -> "Iterator[subprocess.Popen[bytes]]":
    words = [*boxwright.command, "--root", str(boxwright.root), "run", "--name", name, "--init-system"]
    log = boxwright.directory / "console"
    with log.open("wb") as console:
        running = subprocess.Popen(
            [*words, "--rootfs", str(root), *flags], stdin=subprocess.DEVNULL, stdout=console, stderr=console
        )
        try:
            _wait_for_target(boxwright, name, running, log)
            yield running
        finally:
            running.send_signal(signal.SIGKILL)
            running.wait()


def _wait_for_target(boxwright: Runtime, name: str, running: "subprocess.Popen[bytes]", log: Path) -> None:
    """`--wait` needs the bus, which is not there at first."""
    deadline = time.monotonic() + BOOT_SECONDS
    answer = ""
    while time.monotonic() < deadline and running.poll() is None:
        answer = boxwright.exec(name, "systemctl", "is-system-running", "--wait").stdout.strip()
        if answer in {"running", "degraded"}:
            return
    pytest.fail(f"not booted: `{answer}`, {log.read_text(errors='replace')}", pytrace=False)


def test_systemd_boots_to_its_target_and_stops_cleanly(
    boxwright: Runtime, name: str, debian_systemd_root: Path
) -> None:
    with booted(boxwright, name, debian_systemd_root) as system:
        assert boxwright.exec(name, "systemctl", "is-system-running").stdout == "running\n"
        failed = boxwright.exec(name, "systemctl", "--failed", "--no-legend", "--plain").stdout
        assert failed == ""
        assert boxwright.exec(name, "cat", "/proc/1/comm").stdout == "systemd\n"
        system.send_signal(signal.SIGTERM)
        assert system.wait(BOOT_SECONDS) == 0
    assert boxwright.ids() == []


def test_a_service_runs_in_it_and_poweroff_ends_it(boxwright: Runtime, name: str, debian_systemd_root: Path) -> None:
    with booted(boxwright, name, debian_systemd_root) as system:
        run = ("systemd-run", "--wait", "--pipe", "--quiet", "--property=DynamicUser=yes", "id", "-u")
        service = boxwright.exec(name, *run)
        assert service.status == 0, service
        assert 61184 <= int(service.stdout) <= 65519  # the users that systemd makes up
        # the command may lose its connection before it can tell its own success
        boxwright.exec(name, "systemctl", "poweroff")
        assert system.wait(BOOT_SECONDS) == 0
    assert boxwright.ids() == []


def test_it_cannot_lift_its_own_limits(boxwright: Runtime, name: str, debian_systemd_root: Path) -> None:
    with booted(boxwright, name, debian_systemd_root, "--pids", "200"):
        files = "$(ls /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null)"
        written = boxwright.exec(name, "sh", "-c", f"for f in {files}; do echo max > $f; done; cat {files}")
        assert written.stdout == "200\n", written
