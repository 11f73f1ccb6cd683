"""What config.json says of a machine's network: which device, which ports, and what is done in the guest."""

import pytest

from boxwright.api import recipe
from boxwright.api.arguments import options_for
from boxwright.api.options import BoxOptions
from boxwright.api.recipe import Recipe, annotations
from boxwright.boxes.vm import network
from boxwright.boxes.vm.jail import Jail, jail_config
from boxwright.boxes.vm.machine import NO_NETWORK, TAP, USER_NETWORK, MachineSpec, Network
from boxwright.boxes.vm.network import Interface, Published, parse_published, published
from boxwright.boxes.vm.qemu import qemu_argv
from boxwright.errors import ConfigError, UsageError
from boxwright.plan import netlink, ops
from boxwright.plan.describe import describe
from boxwright.plan.netlink import AF_INET, InterfaceAddress, Neighbour, Route
from boxwright.spec.types import Config, Linux, Namespace, Root


def config_of(*namespaces: Namespace, publish: str = "") -> Config:
    notes = {network.PUBLISH_ANNOTATION: publish} if publish else {}
    return Config("1.2.0", root=Root("/"), linux=Linux(namespaces=namespaces), annotations=notes)


def test_the_namespace_says_which_device_the_machine_has():
    assert network.network_kind(config_of(Namespace("pid"), Namespace("network"))) == NO_NETWORK
    assert network.network_kind(config_of(Namespace("network", "/run/netns/x"))) == TAP
    assert network.network_kind(config_of(Namespace("pid"))) == USER_NETWORK
    assert network.network_kind(Config("1.2.0")) == USER_NETWORK


@pytest.mark.parametrize("namespaces", [(), (Namespace("network"),), (Namespace("network", "/run/netns/x"),)])
def test_the_jail_is_in_a_network_namespace_of_its_own(namespaces):
    jail = jail_config(config_of(*namespaces), Jail((), "/helper", ((), ()), 0, 1 << 28))
    assert jail.linux is not None
    assert [n.path for n in jail.linux.namespaces if n.type == "network"] == [None]


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("8080:80", Published("tcp", "127.0.0.1", 8080, 80)),
        ("8080:80/udp", Published("udp", "127.0.0.1", 8080, 80)),
        ("0.0.0.0:53:5353/tcp", Published("tcp", "0.0.0.0", 53, 5353)),
        ("65535:1", Published("tcp", "127.0.0.1", 65535, 1)),
    ],
)
def test_a_port_is_published_on_the_loopback_unless_told_otherwise(word, wanted):
    assert parse_published(word) == wanted


@pytest.mark.parametrize(
    "word",
    [
        *("", "80", "80:", ":80", "0:80", "80:65536", "80:-1", "80:8x", "80:80/sctp", "80:80/", "1:2:3:4", "80:٣"),
        *(
            "localhost:80:80",
            "256.0.0.1:80:80",
            "1.2.3:80:80",
            "01.2.3.4:80:80",
            "::1:80:80",
            "80:80,hostfwd=tcp::1-:1",
        ),
    ],
)
def test_what_is_no_port_is_refused(word):
    with pytest.raises(ValueError, match=r"`"):
        parse_published(word)


def test_every_wrong_word_of_the_annotation_is_told():
    assert published(config_of(publish="8080:80,53:53/udp")) == (
        Published("tcp", "127.0.0.1", 8080, 80),
        Published("udp", "127.0.0.1", 53, 53),
    )
    with pytest.raises(ConfigError) as caught:
        published(config_of(publish="1:2,x,3:y"))
    assert [problem.value for problem in caught.value.problems] == ["x", "3:y"]
    assert {problem.pointer for problem in caught.value.problems} == {"/annotations/boxwright.publish"}
    with pytest.raises(ConfigError, match="at most 64"):
        published(config_of(publish=",".join(["1:2"] * 65)))


@pytest.mark.parametrize("path", [None, "/run/netns/x"])
def test_ports_of_another_network_are_its_owners(path):
    with pytest.raises(ConfigError, match="whose network is the host's"):
        published(config_of(Namespace("network", path), publish="8080:80"))


def test_the_library_publishes_what_can_be():
    options = options_for(["true"], isolation="vm", network="host", publish=["8080:80"])
    assert annotations(options)[network.PUBLISH_ANNOTATION] == "8080:80"
    assert network.PUBLISH_ANNOTATION not in annotations(BoxOptions(("true",)))
    for isolation, net in (("linux", "host"), ("vm", "none")):
        with pytest.raises(UsageError, match="of a `vm` box with the network `host` only"):
            options_for(["true"], isolation=isolation, network=net, publish=["8080:80"])
    with pytest.raises(UsageError, match="is not `"):
        options_for(["true"], isolation="vm", network="host", publish=["8080"])


def test_the_hypervisors_own_stack_listens_where_the_uplink_leads():
    wanted = (Published("tcp", "127.0.0.1", 8080, 80), Published("udp", "0.0.0.0", 53, 5353))
    device = Network(USER_NETWORK, mac=network.USER_MAC, forwards=network.forwards(wanted))
    argv = qemu_argv(MachineSpec(1 << 28, "/k", "/i", 3, tsc_khz=1, network=device), "qemu")
    words = argv[argv.index("-netdev") + 1]
    assert words == "user,id=n0,ipv6=off,net=10.0.2.0/24,hostfwd=tcp::40000-:80,hostfwd=udp::40001-:5353"
    assert f"virtio-net-device,netdev=n0,mac={network.USER_MAC}" in argv


def test_the_guests_device_is_made_what_the_interface_is():
    interface = Interface(
        "net1",
        "02:00:00:00:00:01",
        1400,
        (InterfaceAddress(b"\x0a\0\0\2", 24),),
        (Route(AF_INET, gateway=b"\x0a\0\0\1"), Route(AF_INET, b"\x0a\1\0\0", 16)),
        (Neighbour(b"\x0a\0\0\1", b"\2\0\0\0\0\2"),),
        pointer="/linux/namespaces/3/path",
    )
    plan = network.guest_plan(interface)
    assert [describe(step) for step in plan.outer[:-1]] == [
        "set the loopback interface up",
        "name the network device `net1`",
        "set the network device `net1` up",
        "give `net1` the address `10.0.0.2`",
        "tell where `10.0.0.1` is",
        "add the route of `net1` to `10.1.0.0/16`",  # before the one by a gateway
        "add the route of `net1` to `everywhere`",
    ]
    assert {step.pointer for step in plan.outer[:-1]} == {"/linux/namespaces/3/path"}
    requests = [step.op for step in plan.outer if isinstance(step.op, ops.Netlink)]
    assert [op.device for op in requests] == ["eth0", *["net1"] * 5]
    assert all(op.request[op.at : op.at + 4] == bytes(4) for op in requests)
    assert b"net1\0" in requests[0].request


def test_user_mode_leads_everywhere_by_the_gateway():
    plan = network.guest_plan(network.user_interface())
    renaming = plan.outer[1].op
    assert isinstance(renaming, ops.Netlink)
    assert netlink.text("eth0") not in renaming.request  # it is called so already
    assert describe(plan.outer[-2]) == "add the route of `eth0` to `everywhere`"


def test_addresses_are_shown_as_people_write_them():
    assert network.shown(b"\x0a\0\2\x0f") == "10.0.2.15"
    assert network.shown(bytes.fromhex("fd00" + "00" * 12 + "0002")) == "fd00:0:0:0:0:0:0:2"


# --- where names are looked up ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "isolation", "shown"),
    [
        ("nameserver 127.0.0.53\n", "vm", True),
        ("options edns0\nnameserver 127.0.0.53\nnameserver ::1\n", "vm", True),
        ("nameserver 127.0.0.53\nnameserver 192.0.2.1\n", "vm", False),
        ("search example.org\n", "vm", False),
        ("nameserver 127.0.0.53\n", "linux", False),
    ],
)
def test_a_guest_is_shown_a_resolver_that_it_can_reach(tmp_path, monkeypatch, text, isolation, shown):
    (tmp_path / "stub").write_text(text)
    (tmp_path / "resolv.conf").symlink_to("stub")
    (tmp_path / "upstream").write_text("nameserver 192.0.2.53\n")
    monkeypatch.setattr(recipe, "RESOLVER", str(tmp_path / "resolv.conf"))
    monkeypatch.setattr(recipe, "RESOLVER_UPSTREAM", str(tmp_path / "upstream"))
    document = Recipe(BoxOptions(("true",), isolation=isolation, network="host"), privileged=True).document()
    found = [mount["source"] for mount in document["mounts"] if mount["destination"] == str(tmp_path / "stub")]
    assert found == ([str(tmp_path / "upstream")] if shown else [])
    without = Recipe(BoxOptions(("true",), isolation=isolation), privileged=True).document()
    assert not [mount for mount in without["mounts"] if mount["destination"] == str(tmp_path / "stub")]
