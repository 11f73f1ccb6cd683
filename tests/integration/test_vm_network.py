"""The network of a container in a machine: by the host's, and by a network namespace that is given by its path."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lacks
from boxwright.boxes.vm.network import parse_published
from boxwright.errors import ConfigError, HostError, UnsupportedError
from boxwright.host.tap import DEVICE as TUN
from boxwright.host.tap import open_tap
from boxwright.host.wiring import TAP_NAME, Namespace
from boxwright.runtime.vm import uplink
from fixtures_machine import Assets
from fixtures_net import Netns, listening, other_address
from fixtures_roots import open_parents
from fixtures_runtime import BundleFactory, Json, Runtime, default_config, started, wait_gone
from processes import command_of, descendants

TIMEOUT_S = 60.0
NETWORK = ("CAP_NET_BIND_SERVICE", "CAP_NET_RAW")


@pytest.fixture(autouse=True)
def _machines(assets: Assets) -> None:
    """A kernel, an initramfs and a hypervisor; what lacks is skipped by name."""
    lacks.need_root()


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as made:
        made.bind((address, 0))
        return int(made.getsockname()[1])


def fetched(url: str, process: "subprocess.Popen[str]") -> str:
    """The answer of a server that comes up some time."""
    end = time.monotonic() + TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError as error:
            assert time.monotonic() < end, f"{url}: {error}"
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)


def uplinks() -> list[str]:
    return [command for command in map(command_of, descendants(os.getpid())) if uplink.UPLINK in command]


# --- the host's network -----------------------------------------------------------------------------------------


def test_a_server_in_the_guest_is_reached_by_its_published_port(boxwright: Runtime) -> None:
    """By 127.0.0.1 where nothing else is said, by the address that is; nowhere else."""
    lacks.need_program("slirp4netns", "python3")
    here, other = free_port(), free_port()
    address = other_address()
    words = ("run", "--isolation", "vm", "--network", "host", "-p", f"{here}:80", "-p", f"{address}:{other}:80")
    server = "cp /proc/sys/kernel/osrelease /tmp; cd /tmp; python3 -m http.server 80 & read line"
    with started(boxwright, *words, "--", "sh", "-c", server) as process:
        kernel = fetched(f"http://127.0.0.1:{here}/osrelease", process)
        assert kernel != Path("/proc/sys/kernel/osrelease").read_text()
        assert fetched(f"http://{address}:{other}/osrelease", process) == kernel
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, here), timeout=5)
        assert len(uplinks()) == 1
    assert uplinks() == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", here), timeout=5)


def test_without_root_the_network_is_the_same(boxwright_command: str, tmp_path: Path, busybox_root: Path) -> None:
    """Only /dev/net/tun has to be open to users, as it is where udev makes it; where it is not, that is said."""
    lacks.need_program("slirp4netns", "unshare", "setpriv")
    reachable = all(parent.stat().st_mode & 0o001 for parent in Path(boxwright_command).resolve().parents)
    lacks.need("a checkout that other users can reach", reachable)
    home = tmp_path / "home"
    home.mkdir()
    open_parents(home)
    subprocess.run(["cp", "-a", busybox_root, home / "root"], check=True)
    subprocess.run(["chown", "-hR", f"{USER}:{USER}", home], check=True)
    address = other_address()
    with listening(address) as there:
        fetch = f"echo | busybox nc -w 20 {address} {there.getsockname()[1]}"
        words = (
            "run",
            "--isolation",
            "vm",
            "--network",
            "host",
            "--rootfs",
            str(home / "root"),
            "--",
            "sh",
            "-c",
            fetch,
        )
        refused = as_user(boxwright_command, home, *words, mode="600")
        assert refused.wait(TIMEOUT_S) == 1
        assert "/dev/net/tun" in (home / "errors").read_text()
        process = as_user(boxwright_command, home, *words, mode="666")
        reached, _ = there.accept()
        with reached:
            reached.send(b"the host is here")
        assert process.wait(TIMEOUT_S) == 0, (home / "errors").read_text()
    assert (home / "output").read_text() == "the host is here"
    assert uplinks() == []


USER = 54322


def as_user(command: str, home: Path, *words: str, mode: str) -> "subprocess.Popen[bytes]":
    """The command by a user without privileges, on a host whose /dev/net/tun has that mode."""
    place = home / "devices"
    place.mkdir(exist_ok=True)
    device = f"mount -t tmpfs tmpfs {place} && mknod -m {mode} {place}/tun c 10 200 && mount --bind {place}/tun {TUN}"
    become = f"setpriv --reuid {USER} --regid {USER} --clear-groups --inh-caps=-all"
    variables = f'PATH="$PATH" HOME={home} XDG_RUNTIME_DIR={home} BOXWRIGHT_ACCEL=tcg'
    script = f'{device} && exec {become} env -i {variables} "$@"'
    with (home / "output").open("wb") as output, (home / "errors").open("wb") as errors:
        command_words = ["unshare", "--mount", "sh", "-c", script, "sh", command, *words]
        return subprocess.Popen(command_words, cwd=home, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)


def test_a_port_that_is_taken_leaves_nothing(boxwright: Runtime) -> None:
    lacks.need_program("slirp4netns")
    with listening("127.0.0.1") as taken:
        port = taken.getsockname()[1]
        words = ("run", "--isolation", "vm", "--network", "host", "-p", f"{port}:80", "--", "true")
        result = boxwright.call(*words, check=False)
    assert result.status == 1
    assert f"cannot publish port 80 of the machine at `127.0.0.1:{port}/tcp`" in result.stderr
    assert boxwright.ids() == []
    assert uplinks() == []


def test_without_slirp4netns_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uplink, "UPLINK_PLACES", ("/nonexistent",))
    with pytest.raises(HostError, match="there is no `slirp4netns`") as caught:
        uplink.Uplink(None, (parse_published("1:2"),))  # type: ignore[arg-type]
    assert "install" in (caught.value.hint or "")


# --- a network namespace by its path ----------------------------------------------------------------------------


@contextmanager
def peered(inside: Netns, outside: Netns) -> Iterator[None]:
    """A pair of interfaces, as a CNI plugin makes it: `net1` is the container's."""
    inside.ip("link", "set", "lo", "up")
    inside.ip("link", "add", "net1", "mtu", "1400", "type", "veth", "peer", "name", "out1", "netns", str(outside.pid))
    for netns, device, last in ((inside, "net1", 2), (outside, "out1", 1)):
        netns.ip("address", "add", f"10.97.0.{last}/24", "dev", device)
        netns.ip("address", "add", f"fd97::{last}/64", "dev", device, "nodad")
        netns.ip("link", "set", device, "up")
    inside.ip("route", "add", "default", "via", "10.97.0.1")
    inside.ip("route", "add", "10.98.0.0/16", "via", "10.97.0.9", "metric", "50")
    yield


def joined(netns: Netns, *args: str) -> Json:
    """A configuration in that network namespace."""
    config = default_config(*args)
    config["process"]["capabilities"] = {kind: list(NETWORK) for kind in ("bounding", "effective", "permitted")}
    namespaces = config["linux"]["namespaces"]
    for namespace in namespaces:
        if namespace["type"] == "network":
            namespace["path"] = f"/proc/{netns.pid}/ns/net"
    return config


def inside(netns: Netns, *words: str) -> "subprocess.CompletedProcess[str]":
    command = ["nsenter", f"--net=/proc/{netns.pid}/ns/net", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)


def queueing(netns: Netns) -> set[str]:
    return {line.split()[1] for line in inside(netns, "tc", "qdisc", "show").stdout.splitlines()}


def test_the_guest_stands_where_the_interface_of_a_namespace_does(
    boxwright: Runtime, bundle: BundleFactory, netns, busybox_root: Path
) -> None:
    """Its addresses, routes and size; both ways; and the namespace is afterwards what it was before."""
    lacks.need_program("tc", "nsenter")
    ours, others = netns(), netns()
    busybox = str(busybox_root / "bin/busybox")
    with peered(ours, others):
        mac, before = ours.link("net1")["address"], ours.links()
        config = joined(ours, "/bin/sh", "-c", SERVER)
        boxwright.call("--isolation", "vm", "create", "--bundle", bundle(config), "there")
        boxwright.start("there")
        assert ours.names() == {"lo", "net1", TAP_NAME}
        jail = boxwright.state("there")["pid"]
        assert os.readlink(f"/proc/{jail}/ns/net") not in {
            os.readlink(f"/proc/{pid}/ns/net") for pid in (ours.pid, others.pid, "self")
        }

        told = boxwright.exec("there", "/bin/busybox", "ip", "addr", "show", "net1").stdout
        assert f"link/ether {mac}" in told
        assert "mtu 1400" in told
        assert "inet 10.97.0.2/24" in told
        assert "inet6 fd97::2/64" in told
        told = boxwright.exec("there", "/bin/busybox", "ip", "route").stdout
        assert "default via 10.97.0.1 dev net1" in told
        assert "10.98.0.0/16 via 10.97.0.9 dev net1" in told
        assert "metric 50" in told

        release = inside(others, busybox, "wget", "-q", "-O", "-", "http://10.97.0.2/osrelease").stdout.strip()
        assert release
        assert release != os.uname().release
        by_six = inside(others, busybox, "wget", "-q", "-O", "-", "http://[fd97::2]/osrelease").stdout.strip()
        assert by_six == release
        assert inside(others, busybox, "ping", "-c", "2", "-W", "10", "10.97.0.2").returncode == 0
        pinged = boxwright.exec("there", "/bin/busybox", "ping", "-c", "2", "-W", "10", "10.97.0.1")
        assert pinged.status == 0, pinged

        second = boxwright.call("--isolation", "vm", "create", "--bundle", bundle(config), "second", check=False)
        assert second.status == 1
        assert "another machine is connected to its interface" in second.stderr

        boxwright.kill("there")
        wait_gone(jail)
        boxwright.delete("there")
        assert ours.names() == {"lo", "net1"}
        assert queueing(ours) == {"noqueue"}
        assert steady(ours.links()) == steady(before)


# files of /proc say that they are empty, and a server believes them
SERVER = "mkdir /dev/shm/www; cp /proc/sys/kernel/osrelease /dev/shm/www; busybox httpd -f -p 80 -h /dev/shm/www"


def steady(links: list[Json]) -> list[Json]:
    """What of the interfaces does not come and go with time."""
    kept = [{key: link[key] for key in ("ifname", "address", "mtu")} for link in links]
    for one, link in zip(kept, links, strict=True):
        one["addresses"] = [(i["local"], i["prefixlen"]) for i in link["addr_info"] if i["scope"] == "global"]
    return kept


def test_the_guest_reaches_what_the_interface_reaches(
    boxwright: Runtime, bundle: BundleFactory, netns, busybox_root: Path
) -> None:
    lacks.need_program("tc", "nsenter")
    ours, others = netns(), netns()
    busybox = str(busybox_root / "bin/busybox")
    with peered(ours, others):
        words = ["nsenter", f"--net=/proc/{others.pid}/ns/net", busybox, "httpd", "-f", "-p", "80", "-h", "/etc"]
        server = subprocess.Popen(words)
        try:
            # 2 MB by segments that are larger than the interface's size
            script = "busybox wget -q -O - http://10.97.0.1/services | busybox md5sum"
            result = boxwright.call(
                *("--isolation", "vm", "run", "--bundle", bundle(joined(ours, "/bin/sh", "-c", script)), "reaching")
            )
        finally:
            server.kill()
            server.wait()
    digest = subprocess.run(["md5sum", "/etc/services"], capture_output=True, text=True, check=True).stdout.split()[0]
    assert result.stdout.split()[0] == digest
    assert ours.names() == {"lo", "net1"}
    assert queueing(ours) == {"noqueue"}


def test_a_container_is_deleted_whose_namespace_went_before_it(
    boxwright: Runtime, bundle: BundleFactory, netns
) -> None:
    lacks.need_program("tc", "nsenter")
    ours = netns()
    holder = Netns()
    try:
        holder.ip("link", "add", "net1", "type", "veth", "peer", "name", "out1", "netns", str(ours.pid))
        holder.ip("link", "set", "net1", "up")
        config = joined(holder, "/bin/sleep", "600")
        boxwright.call("--isolation", "vm", "create", "--bundle", bundle(config), "gone")
    finally:
        holder.close()
    done = boxwright.delete("gone", "--force")
    assert done.stderr == ""
    assert boxwright.ids() == []
    end = time.monotonic() + TIMEOUT_S
    while ours.names() != {"lo"}:  # the kernel takes a namespace down when it has the time
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_namespace_without_an_interface_gives_a_loopback_alone(
    boxwright: Runtime, bundle: BundleFactory, netns
) -> None:
    config = joined(netns(), "/bin/busybox", "ip", "-o", "link")
    result = boxwright.call("--isolation", "vm", "run", "--bundle", bundle(config), "alone")
    assert [line.split()[1] for line in result.stdout.splitlines()] == ["lo:"]


# --- what is refused --------------------------------------------------------------------------------------------


def look(netns: Netns) -> object:
    found = Namespace(f"/proc/{netns.pid}/ns/net", "/linux/namespaces/1/path")
    try:
        return found.look()
    finally:
        found.close()


def test_interfaces_that_cannot_be_handed_over_are_refused_by_name(netns) -> None:
    two = netns()
    two.ip("link", "add", "one", "type", "veth", "peer", "name", "two")
    assert look(two) is None  # nothing is up
    two.ip("link", "set", "one", "up")
    two.ip("link", "set", "two", "up")
    with pytest.raises(UnsupportedError, match="has the interfaces `two`, `one`"):
        look(two)
    tap = netns()
    tap.ip("tuntap", "add", "tap0", "mode", "tap")
    tap.ip("link", "set", "tap0", "up")
    with pytest.raises(UnsupportedError, match=r"`tap0`: what is behind it is a program on the host"):
        look(tap)
    with pytest.raises(HostError, match="cannot open the network namespace `/nonexistent`"):
        Namespace("/nonexistent", "/linux/namespaces/1/path")
    with pytest.raises(HostError, match="enter the network namespace"):
        Namespace("/proc/self/ns/uts", "/linux/namespaces/1/path")


def test_somebody_elses_redirection_is_left_alone(netns) -> None:
    lacks.need_program("tc", "nsenter")
    ours = netns()
    ours.ip("link", "add", "one", "type", "veth", "peer", "name", "two")
    ours.ip("link", "set", "one", "up")
    assert inside(ours, "tc", "qdisc", "add", "dev", "one", "clsact").returncode == 0
    found = Namespace(f"/proc/{ours.pid}/ns/net", "/linux/namespaces/1/path")
    try:
        wire = found.look()
        assert wire is not None
        with pytest.raises(HostError, match="redirect what the interface `one`") as caught:
            found.connect(wire)
    finally:
        found.close()
    assert "tc qdisc show dev one" in (caught.value.hint or "")
    assert ours.names() == {"lo", "one", "two"}
    assert "clsact" in queueing(ours)


def test_a_tap_goes_with_its_descriptor_and_can_be_connected_again(netns) -> None:
    lacks.need_program("tc", "nsenter")
    ours = netns()
    ours.ip("link", "add", "one", "type", "veth", "peer", "name", "two")
    ours.ip("link", "set", "one", "up")
    found = Namespace(f"/proc/{ours.pid}/ns/net", "/linux/namespaces/1/path")
    try:
        for _ in range(2):
            wire = found.look()
            assert wire is not None
            fd = found.connect(wire)
            assert ours.link(TAP_NAME)["operstate"] in {"UP", "UNKNOWN"}
            assert ours.link(TAP_NAME)["addr_info"] == []
            os.close(fd)
            assert ours.names() == {"lo", "one", "two"}
            found.disconnect("one")
            found.disconnect("one")  # no error where nothing is in the way
            found.disconnect("nosuch")
            assert "ingress" not in queueing(ours)
    finally:
        found.close()


def test_making_a_tap_needs_a_name_that_is_free(netns) -> None:
    from boxwright.host.netns import in_network_namespace

    ours = netns()
    first = in_network_namespace(ours.fd, lambda: open_tap("tap9"))
    try:
        with pytest.raises(HostError, match="make the tap `tap9`"):
            in_network_namespace(ours.fd, lambda: open_tap("tap9"))
    finally:
        os.close(first)


def test_ports_of_a_namespace_are_not_published(boxwright: Runtime, bundle: BundleFactory) -> None:
    config = default_config(annotations={"boxwright.publish": "8080:80"})
    result = boxwright.call("--isolation", "vm", "run", "--bundle", bundle(config), "published", check=False)
    assert result.status == 1
    assert "ports are published only of a machine whose network is the host's" in result.stderr
    assert ConfigError.__name__ not in result.stderr
    assert boxwright.ids() == []
