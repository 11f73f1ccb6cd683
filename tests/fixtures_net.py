"""Network namespaces that last as long as a test, each held by a process that sleeps; and this host's own addresses."""

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import lacks


class Netns:
    """One network namespace. `pid` is the process that holds it, `fd` a descriptor of it."""

    def __init__(self) -> None:
        # the shell writes once it is inside, so nobody looks too early
        words = ["unshare", "--net", "sh", "-c", "echo; exec sleep 600"]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._process.stdout
        assert self._process.stdout.readline() == b"\n"
        self.pid = self._process.pid
        self.fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)
        self._process.kill()
        self._process.communicate()

    def ip(self, *words: str) -> str:
        """Run ip(8) in the namespace; its output."""
        return self._run("ip", *words)

    def _run(self, *words: str) -> str:
        command = ["nsenter", f"--net=/proc/{self.pid}/ns/net", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done
        return done.stdout

    def link(self, name: str) -> dict[str, Any]:
        """What ip(8) says of one device, its addresses with it."""
        (found,) = [one for one in self.links() if one.get("ifname") == name]
        return found

    def details(self, name: str) -> dict[str, Any]:
        """What ip(8) says of one device beside its addresses."""
        (found,) = json.loads(self._run("ip", "-json", "-details", "link", "show", "dev", name))
        assert isinstance(found, dict)
        return found

    def links(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._run("ip", "-json", "-details", "address", "show"))
        return found

    def names(self) -> set[str]:
        return {link["ifname"] for link in self.links()}


@pytest.fixture
def netns() -> Iterator[Callable[[], Netns]]:
    """Make network namespaces."""
    lacks.need_root()
    lacks.need_program("ip", "unshare", "nsenter")
    with ExitStack() as stack:

        def make() -> Netns:
            made = Netns()
            stack.callback(made.close)
            return made

        yield make


TIMEOUT_S = 60.0


def other_address() -> str:
    """An address of this host that is not the loopback's."""
    told = subprocess.run(["ip", "-json", "-4", "addr", "show", "scope", "global"], capture_output=True, check=True)
    found = [info["local"] for link in json.loads(told.stdout) for info in link.get("addr_info", []) if "local" in info]
    lacks.need("address of the host beside 127.0.0.1", found)
    return str(found[0])


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    with socket.create_server((address, 0)) as server:
        server.settimeout(TIMEOUT_S)
        yield server
