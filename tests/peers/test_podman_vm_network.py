"""Podman's networks with containers in virtual machines: a bridge made by CNI plugins, and the host's."""

import os
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from engines import IMAGE
from test_podman import Podman, podman  # noqa: F401 - the fixture, with the runtime that is named here

import lacks
from fixtures_vm import need_machines

SERVER = "echo from the guest > /tmp/file; exec httpd -f -p 8000 -h /tmp"


@pytest.fixture(scope="session")
def runtime_path(boxwright_command: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another name for the command: an engine has no flag for the kind of box."""
    need_machines()
    link = tmp_path_factory.mktemp("link") / "boxwright-vm"
    link.symlink_to(boxwright_command)
    return str(link)


def fetched(url: str) -> str:
    end = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            assert time.monotonic() < end, f"{url} does not answer"
            time.sleep(0.1)


def test_a_bridge_leads_to_the_guest_and_out_of_it(podman: Podman, tmp_path: Path) -> None:  # noqa: F811
    """With the hosts and resolv.conf that the engine makes, and nothing left of it afterwards."""
    lacks.need("CNI plugins", Path("/usr/lib/cni/bridge").exists() or Path("/opt/cni/bin/bridge").exists())
    lacks.need_program("tc")
    name = podman.name()
    words = ("--detach", "--name", name, "--network", "podman", "--hostname", "box")
    podman.call("run", "--pull", "never", *words, IMAGE, "sh", "-c", SERVER)
    address = podman.call("inspect", "--format", "{{.NetworkSettings.Networks.podman.IPAddress}}", name).stdout.strip()
    assert address.startswith("10.213.47.")
    assert fetched(f"http://{address}:8000/file") == "from the guest\n"
    told = podman.call("exec", name, "ip", "-4", "-o", "address", "show", "eth0").stdout
    assert address in told
    assert podman.call("exec", name, "uname", "-r").stdout.strip() != os.uname().release
    assert f"{address}\tbox" in podman.call("exec", name, "cat", "/etc/hosts").stdout
    gateway = podman.call(
        "exec", name, "sh", "-c", "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'"
    ).stdout.strip()
    words = ["busybox", "httpd", "-f", "-p", f"{gateway}:8001", "-h", str(tmp_path)]
    (tmp_path / "host").write_text("from the host\n")
    lacks.need_program("busybox")
    with subprocess.Popen(words) as server:
        try:
            shown = podman.call(
                "exec", name, "sh", "-c", f"printf 'GET /host HTTP/1.0\\r\\n\\r\\n' | nc -w 10 {gateway} 8001"
            ).stdout
        finally:
            server.kill()
    assert "from the host" in shown
    podman.call("rm", "--force", "--time", "0", name)


def test_the_hosts_network_is_reached_from_a_device_of_the_guests_own(podman: Podman) -> None:  # noqa: F811
    lacks.need_program("slirp4netns")
    told = podman.run("--network", "host", IMAGE, "ip", "-4", "-o", "address")
    assert [line.split()[1:4:2] for line in told.splitlines()] == [["lo", "127.0.0.1/8"], ["eth0", "10.0.2.15/24"]]
