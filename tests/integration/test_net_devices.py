"""linux.netDevices: devices of the host in the container (config-linux.md#configLinuxNetworkDevices).

The `host` here is a network namespace too, so nothing happens to the machine's own devices.
"""

import errno
from collections.abc import Callable
from typing import Any

import pytest

from boxwright.errors import HostError
from boxwright.host.netlink import MovedDevices, move_devices
from boxwright.host.netns import in_network_namespace
from boxwright.spec.types import NetDevice
from fixtures_net import Netns

pytestmark = pytest.mark.root

GLOBAL = {"192.0.2.1/24", "192.0.2.2/24", "198.51.100.7/32", "2001:db8::1/64", "2001:db8::2/64"}


class Move:
    """Two namespaces with a veth pair, `dev0` and `peer0`, in the first."""

    def __init__(self, host: Netns, container: Netns) -> None:
        self.host = host
        self.container = container

    def __call__(self, **names: str) -> None:
        self.held(**names).close()

    def held(self, **names: str) -> MovedDevices:
        wanted = {name: NetDevice(new or None, pointer=f"/linux/netDevices/{name}") for name, new in names.items()}
        return in_network_namespace(self.host.fd, lambda: move_devices(wanted, self.container.pid))


@pytest.fixture
def move(netns: Callable[[], Netns]) -> Move:
    found = Move(netns(), netns())
    found.host.ip("link", "add", "dev0", "type", "veth", "peer", "name", "peer0")
    return found


def addresses(link: dict[str, Any]) -> list[str]:
    return [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"] if one["scope"] == "global"]


def test_the_device_goes_by_its_own_name_and_is_up(move: Move) -> None:
    move(dev0="")
    assert move.host.names() == {"lo", "peer0"}
    assert "UP" in move.container.link("dev0")["flags"]


def test_the_device_gets_the_name_that_is_asked_for(move: Move) -> None:
    move(dev0="eth0")
    assert move.container.names() == {"lo", "eth0"}


@pytest.mark.parametrize("state", ["up", "down"])
def test_permanent_global_addresses_of_every_family_go_along(move: Move, state: str) -> None:
    for address in sorted(GLOBAL):
        move.host.ip("address", "add", address, "dev", "dev0")
    move.host.ip("address", "add", "203.0.113.1/24", "dev", "dev0", "valid_lft", "300", "preferred_lft", "300")
    move.host.ip("address", "add", "169.254.1.1/16", "dev", "dev0", "scope", "link")
    move.host.ip("link", "set", "dev0", state)
    before = move.host.link("dev0")
    move(dev0="eth0")
    after = addresses(move.container.link("eth0"))
    assert set(after) == GLOBAL
    assert after == [one for one in addresses(before) if one in GLOBAL]


def test_what_an_address_has_goes_along(move: Move) -> None:
    options = ("metric", "77", "peer", "192.0.2.9/24")
    move.host.ip("address", "add", "192.0.2.1", *options, "dev", "dev0", "label", "dev0:a", "noprefixroute")
    move.host.ip("address", "add", "2001:db8::1/64", "dev", "dev0", "nodad", "preferred_lft", "0")
    move(dev0="eth0")
    found = {one["local"]: one for one in move.container.link("eth0")["addr_info"]}
    ours = found["192.0.2.1"]
    assert (ours["address"], ours["label"], ours["metric"], ours["noprefixroute"]) == ("192.0.2.9", "eth0:a", 77, True)
    assert (found["2001:db8::1"]["nodad"], found["2001:db8::1"]["deprecated"]) == (True, True)


def test_attributes_go_along(move: Move) -> None:
    move.host.ip("link", "set", "dev0", "mtu", "1400", "address", "02:00:00:00:00:42", "txqueuelen", "77")
    move.host.ip("link", "set", "dev0", "alias", "uplink", "group", "7", "addrgenmode", "none", "allmulticast", "on")
    move.host.ip("link", "property", "add", "dev", "dev0", "altname", "a-much-longer-name-than-others")
    before = move.host.details("dev0")
    move(dev0="eth0")
    after = move.container.details("eth0")
    for kind in ("mtu", "address", "txqlen", "ifalias", "group", "inet6_addr_gen_mode", "altnames", "gso_max_size"):
        assert after[kind] == before[kind], kind
    assert "ALLMULTI" in after["flags"]


def test_an_existing_name_is_an_error_and_nothing_moves(move: Move) -> None:
    move.container.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
    move.host.ip("link", "add", "dev1", "type", "veth", "peer", "name", "peer1")
    with pytest.raises(HostError, match="which the container has already") as caught:
        move(dev1="", dev0="eth0")
    assert (caught.value.errno, caught.value.pointer) == (errno.EEXIST, "/linux/netDevices/dev0")
    assert move.host.names() == {"lo", "dev0", "peer0", "dev1", "peer1"}


def test_a_template_lets_the_kernel_choose(move: Move) -> None:
    move.container.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
    move.host.ip("address", "add", "192.0.2.1/24", "dev", "dev0")
    move(dev0="eth%d")
    assert addresses(move.container.link("eth2")) == ["192.0.2.1/24"]


def test_the_host_name_may_be_taken_in_the_container(move: Move) -> None:
    move.container.ip("link", "add", "dev0", "type", "veth", "peer", "name", "peer0")
    move(dev0="eth0")
    assert move.container.names() == {"lo", "dev0", "peer0", "eth0"}


def test_a_missing_device_is_an_error(move: Move) -> None:
    with pytest.raises(HostError, match="find network device `nope`") as caught:
        move(dev0="", nope="")
    assert (caught.value.errno, caught.value.pointer) == (errno.ENODEV, "/linux/netDevices/nope")
    assert "dev0" in move.host.names()


def test_an_alternative_name_is_no_name(move: Move) -> None:
    move.host.ip("link", "property", "add", "dev", "dev0", "altname", "other")
    with pytest.raises(HostError) as caught:
        move(other="")
    assert caught.value.hint == "`other` is an alternative name of `dev0`"


def test_a_device_bound_to_its_namespace_is_an_error(move: Move) -> None:
    with pytest.raises(HostError, match="move network device `lo`"):
        move(lo="eth0")


def test_a_shared_namespace_is_an_error(move: Move) -> None:
    with pytest.raises(HostError, match="shares the network namespace"):
        in_network_namespace(move.host.fd, lambda: move_devices({"dev0": NetDevice()}, move.host.pid))


def test_a_refusal_of_the_kernel_puts_everything_back(move: Move) -> None:
    # a bridge is bound to its namespace; older kernels say so only when it is moved
    move.host.ip("link", "add", "br0", "type", "bridge")
    move.host.ip("address", "add", "192.0.2.1/24", "dev", "dev0")
    move.host.ip("address", "add", "2001:db8::1/64", "dev", "dev0")
    move.host.ip("link", "set", "dev0", "up")
    with pytest.raises(HostError, match="move network device `br0`") as caught:
        move(dev0="eth0", br0="")
    assert (caught.value.errno, caught.value.details[1:]) == (errno.EINVAL, ())
    assert set(addresses(move.host.link("dev0"))) == {"192.0.2.1/24", "2001:db8::1/64"}
    assert "UP" in move.host.link("dev0")["flags"]


def test_a_taken_template_end_puts_the_device_back(move: Move) -> None:
    """The check passes, since a template names no device, and the kernel refuses once the device has moved."""
    move.host.ip("address", "add", "192.0.2.1/24", "dev", "dev0")
    with pytest.raises(HostError, match="move network device `dev0`") as caught:
        move(dev0="a%x")
    assert (caught.value.errno, caught.value.details[1:]) == (errno.EINVAL, ())
    assert addresses(move.host.link("dev0")) == ["192.0.2.1/24"]
    assert move.container.names() == {"lo"}


def test_devices_can_be_put_back(move: Move) -> None:
    move.host.ip("address", "add", "192.0.2.1/24", "dev", "dev0")
    move.host.ip("address", "add", "2001:db8::1/64", "dev", "dev0")
    moved = move.held(dev0="eth0")
    try:
        assert move.container.names() == {"lo", "eth0"}
        moved.put_back()
    finally:
        moved.close()
    assert set(addresses(move.host.link("dev0"))) == {"192.0.2.1/24", "2001:db8::1/64"}
    assert "UP" not in move.host.link("dev0")["flags"]
