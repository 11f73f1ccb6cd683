"""NOTIFY_SOCKET: what a service says of itself reaches the manager outside (sd_notify(3))."""

import os
import queue
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lacks
from fixtures_runtime import REPOSITORY, BundleFactory, Json, Runtime, default_config

pytestmark = pytest.mark.root

SOURCE = REPOSITORY / "tests/programs/say.c"


class Manager:
    """A service manager, as far as its socket goes: it reads at once what it is told.

    A barrier's descriptor is dropped with its message, which is the answer; then all before it has been read.
    """

    def __init__(self, address: str) -> None:
        self.env = {**os.environ, "NOTIFY_SOCKET": address}
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._address)
        self._heard: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while message := self._socket.recv(4096).decode():
            if message != "BARRIER=1":
                self._heard.put(message.split("\n"))

    def close(self) -> None:
        if self._reader.is_alive():
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", self._address)
            self._reader.join()
        self._socket.close()

    def hear(self) -> list[str]:
        """The lines of the next message."""
        return self._heard.get(timeout=20)

    def heard(self) -> list[list[str]]:
        """All messages that have come."""
        return [self._heard.get() for _ in range(self._heard.qsize())]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "manager"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def say(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that says its arguments to the socket."""
    lacks.need_program("musl-gcc")
    program = tmp_path_factory.mktemp("say") / "say"
    subprocess.run(["musl-gcc", "-static", "-Wall", "-Werror", "-Os", "-o", program, SOURCE], check=True)
    return program


Service = Callable[..., Path]


@pytest.fixture
def service(bundle: BundleFactory, fresh_busybox_root: Path, say: Path) -> Service:
    """A bundle whose program says these words, then runs the command `then`."""
    shutil.copy(say, fresh_busybox_root / "bin/say")

    def make(*words: str, then: str = "exec sleep 60", **changes: object) -> Path:
        spoken = " ".join(f"'{word}'" for word in words)
        config: Json = default_config("/bin/sh", "-c", f"say {spoken}; {then}", **changes)
        return bundle(config, root=fresh_busybox_root)

    return make


def ready(pid: int, *words: str) -> list[list[str]]:
    """What a service says with its readiness, and what the proxy adds to it."""
    return [[*words], [f"MAINPID={pid}"]]


def test_start_returns_when_the_service_is_ready(boxwright: Runtime, service: Service, manager: Manager) -> None:
    boxwright.create("c1", service("STATUS=starting", "STATUS=up\\nREADY=1"), env=manager.env)
    assert manager.heard() == []
    boxwright.start("c1", env=manager.env)
    pid = boxwright.state("c1")["pid"]
    assert manager.heard() == [["STATUS=starting"], *ready(pid, "STATUS=up", "READY=1")]


def test_start_waits_and_others_do_not(boxwright: Runtime, service: Service, manager: Manager) -> None:
    boxwright.create("c1", service("STATUS=starting", "wait", "READY=1"), env=manager.env)
    starting = threading.Thread(target=boxwright.start, args=("c1",), kwargs={"env": manager.env})
    starting.start()
    assert manager.hear() == ["STATUS=starting"]
    assert starting.is_alive()
    assert boxwright.state("c1")["status"] == "running"
    boxwright.kill("c1", "USR1", "--all")
    assert manager.hear()[0] == "READY=1"
    starting.join(20)
    assert not starting.is_alive()


def test_start_returns_when_the_service_ends_without_a_word(
    boxwright: Runtime, service: Service, manager: Manager
) -> None:
    boxwright.create("c1", service("ERRNO=2", then="exit 1"), env=manager.env)
    boxwright.start("c1", env=manager.env)
    assert manager.heard() == [["ERRNO=2"]]


def test_only_what_a_service_may_say_is_passed_on(boxwright: Runtime, service: Service, manager: Manager) -> None:
    words = ("MAINPID=1", "FDSTORE=1\\nFDNAME=x", "NOTIFYACCESS=all\\nSTOPPING=1", "MAINPID=1\\nREADY=1")
    boxwright.create("c1", service(*words), env=manager.env)
    boxwright.start("c1", env=manager.env)
    assert manager.heard() == [["STOPPING=1"], *ready(boxwright.state("c1")["pid"], "READY=1")]


def test_run_detached_waits_too(boxwright: Runtime, service: Service, manager: Manager) -> None:
    boxwright.run("c1", service("READY=1"), "--detach", env=manager.env, check=True)
    assert manager.heard() == ready(boxwright.state("c1")["pid"], "READY=1")


def test_run_in_the_foreground_passes_on_all_its_life(boxwright: Runtime, service: Service, manager: Manager) -> None:
    words = ("READY=1", "RELOADING=1\\nMONOTONIC_USEC=5", "READY=1", "barrier", "WATCHDOG=1", "STOPPING=1")
    result = boxwright.run("c1", service(*words, then="exit 7"), env=manager.env)
    assert result.status == 7, result
    said = [lines for lines in manager.heard() if not lines[0].startswith("MAINPID")]
    assert said == [["READY=1"], ["RELOADING=1", "MONOTONIC_USEC=5"], ["READY=1"], ["WATCHDOG=1"], ["STOPPING=1"]]


def test_another_user_may_speak(boxwright: Runtime, service: Service, manager: Manager) -> None:
    process = default_config()["process"] | {"user": {"uid": 1000, "gid": 1000}}
    process["args"] = ["/bin/sh", "-c", "say READY=1"]
    assert boxwright.run("c1", service(process=process), env=manager.env).status == 0
    assert manager.heard()[0][0] == "READY=1"


def test_an_abstract_address_is_one(boxwright: Runtime, service: Service, tmp_path: Path) -> None:
    manager = Manager(f"@{tmp_path}")
    try:
        boxwright.run("c1", service("READY=1", then="true"), env=manager.env, check=True)
        assert manager.heard()[0][0] == "READY=1"
    finally:
        manager.close()


def test_a_manager_that_is_gone_is_a_warning(boxwright: Runtime, service: Service, manager: Manager) -> None:
    manager.close()
    result = boxwright.run("c1", service("READY=1", then="exit 3"), env=manager.env)
    assert result.status == 3
    assert "cannot tell the service manager" in result.stderr


def test_without_the_variable_there_is_no_socket(boxwright: Runtime, service: Service) -> None:
    result = boxwright.run("c1", service(then="echo $NOTIFY_SOCKET.; ls -d /run/notify"))
    assert result.stdout == ".\n"


def test_the_configuration_of_the_engine_is_not_changed(boxwright: Runtime, service: Service, manager: Manager) -> None:
    path = service()
    before = (path / "config.json").read_bytes()
    boxwright.create("c1", path, env=manager.env)
    assert (path / "config.json").read_bytes() == before
    assert (boxwright.root / "c1/config.json").read_bytes() == before


def test_a_failure_behind_the_gate_names_its_line(boxwright: Runtime, service: Service, manager: Manager) -> None:
    """The plan is compiled again to tell which step failed, and has the mount of the socket in it too."""
    hooks = {"startContainer": [{"path": "/bin/false", "args": ["false"]}]}
    boxwright.create("c1", service(hooks=hooks), env=manager.env)
    result = boxwright.start("c1", env=manager.env, check=False)
    assert result.status == 1
    assert "startContainer hook `/bin/false` failed with exit status 1" in result.stderr
