"""A machine that is lost: whoever did it, the container is stopped, the reason is said, and nothing is left."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from boxwright.errors import GuestError
from boxwright.runtime.context import Runtime as Library
from fixtures_machine import host_kernel
from fixtures_runtime import Json
from fixtures_vm import Machines, eventually

pytestmark = pytest.mark.root


WHY = {
    "keeper": "the machine was killed",
    "qemu-system-x86_64": "the guest is lost: hypervisor has ended, killed by signal 9",
    "virtiofsd": "the guest is lost: virtiofsd has ended, killed by signal 9",
}


def volume(config: Json) -> None:
    """What is shared has a server, and a machine with one boots by itself: it does not go on from a saved one."""
    config["mounts"].append({"destination": "/mnt", "source": "/etc", "options": ["bind", "ro"]})


def privileged(config: Json) -> None:
    """A container that may bring its kernel down."""
    volume(config)
    del config["linux"]["maskedPaths"], config["linux"]["readonlyPaths"]


def stopped(machines: Machines, container_id: str, children: dict[str, int]) -> str:
    """Wait until it is, and let nothing of it be left; what is said of why."""
    eventually(lambda: machines.state(container_id)["status"] == "stopped", "it is not stopped")
    eventually(lambda: machines.living(children) == [], "something of the machine lives on")
    gone = machines.exec(container_id, "true")
    assert (gone.status, "is stopped" in gone.stderr) == (255, True), gone
    machines.delete(container_id)
    assert container_id not in machines.ids()
    return gone.stderr


@pytest.mark.parametrize("victim", WHY)
def test_a_part_of_the_machine_is_killed(machines: Machines, victim: str) -> None:
    """exec waits in the guest meanwhile, and `run` in the foreground."""

    words = [*machines.command, "--root", str(machines.root)]
    path = machines.bundle("/bin/sh", "-c", "echo up; exec sleep 600", change=volume)
    out, err = (machines.directory / f"{victim}.{name}" for name in ("run", "exec"))
    with started([*words, "run", "--keep", "--bundle", str(path), victim], out) as run:
        eventually(lambda: "up" in out.read_text(), "the program did not start")
        children = machines.children(victim)
        with started([*words, "exec", victim, "sleep", "600"], err) as inside:
            eventually(lambda: "sleep 600" in machines.call("ps", victim).stdout, "nothing runs")
            os.kill(children[victim], signal.SIGKILL)
            status = run.wait(30)
            assert inside.wait(30) != 0, err.read_text()
    why = WHY[victim]
    assert status == (128 + signal.SIGKILL if victim == "keeper" else 255)
    assert why in out.read_text(), out.read_text()
    assert why in stopped(machines, victim, children)


@contextmanager
def started(words: list[str], output: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """A command with its output in a file, which is killed at last."""
    with output.open("wb") as stream:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_panic_of_the_guest_s_kernel(machines: Machines) -> None:
    machines.started("panic", "/bin/sh", "-c", "read x < /dev/zero; sleep 600", change=privileged)
    children = machines.children("panic")
    machines.exec("panic", "sh", "-c", "echo c > /proc/sysrq-trigger", timeout=20)
    assert "its kernel has panicked or switched the machine off" in stopped(machines, "panic", children)


def test_a_guest_that_powers_off(machines: Machines) -> None:
    machines.started("off", "/bin/sleep", "600", change=privileged)
    children = machines.children("off")
    machines.exec("off", "sh", "-c", "echo o > /proc/sysrq-trigger")
    assert "its kernel has panicked or switched the machine off" in stopped(machines, "off", children)


def test_a_guest_that_does_not_boot(machines: Machines, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"no kernel")

    def other(config: Json) -> None:
        config["vm"] = {"kernel": {"path": str(kernel)}}

    refused = machines.create("unbootable", machines.bundle("/bin/true", change=other), check=False)
    assert refused.status == 1
    assert str(kernel) in refused.stderr
    assert "unbootable" not in machines.ids()


def test_a_guest_that_never_answers(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boxwright.runtime.vm.create.BOOT_S", 8.0)

    def silent(config: Json) -> None:
        volume(config)
        config["vm"] = {"kernel": {"path": host_kernel().path, "parameters": ["module_blacklist=virtio_console"]}}

    library = Library(str(machines.root), isolation="vm")
    with pytest.raises(GuestError) as caught:
        library.create("silent", machines.bundle("/bin/true", change=silent))
    assert "the guest has not answered within" in caught.value.message
    assert any("virtio_console is blacklisted" in line for line in caught.value.details)
    assert "silent" not in machines.ids()
