"""The network of a machine: what config.json asks for, and how the guest's device is set up. Pure.

A machine has one network device, or none:

- none where the container has a network namespace of its own (the guest's kernel makes it);
- one on the hypervisor's own stack of protocols (user mode) where the container is in no network namespace but the
  host's. That stack is in the jail's network namespace, which `slirp4netns` connects to the host's: between the guest
  and the host's loopback there is a kernel that keeps 127.0.0.0/8 to itself, whatever packets the guest makes;
- one on a tap in the network namespace that is joined by its path, connected to the interface there.
"""

from boxwright._record import Record
from boxwright.boxes.require import PUBLISH_ANNOTATION
from boxwright.boxes.vm.machine import NO_NETWORK, TAP, USER_NETWORK
from boxwright.errors import ConfigError, Problem
from boxwright.plan import netlink, ops
from boxwright.plan.builder import Builder
from boxwright.plan.namespaces import find
from boxwright.plan.netlink import AF_INET, InterfaceAddress, Neighbour, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.ops import Plan
    from boxwright.spec.types import Config

DEVICE = "eth0"  # the guest's kernel names its only device so
ANCHOR = "config-linux.md#configLinuxNamespaces"
NAMESPACES = "/linux/namespaces"
LOCAL = "127.0.0.1"
PROTOCOLS = ("tcp", "udp")
MOST_PUBLISHED = 64
# the guest's network in user mode, and that between the jail and the host; what the host has there is not reached
UPLINK = "slirp4netns"
UPLINK_PLACES = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")
GUEST_NETWORK, JAIL_NETWORK = "10.0.2.0/24", "10.0.3.0/24"
GUEST_ADDRESS, GUEST_GATEWAY, GUEST_BROADCAST = b"\x0a\0\2\x0f", b"\x0a\0\2\2", b"\x0a\0\2\xff"
JAIL_ADDRESS = "10.0.3.100"
USER_MTU = 1500
USER_MAC = "52:54:00:12:34:56"  # of a network that nobody else is on
FIRST_FORWARD = 40000  # ports in the jail at which what is published comes by


class Published(Record):
    """A port of the host that leads to one of the guest."""

    protocol: str
    address: str
    host_port: int
    port: int


class Interface(Record):
    """What the guest's device is to be: the values of the interface that it stands for."""

    name: str
    mac: str
    mtu: int
    addresses: tuple[InterfaceAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    pointer: str = NAMESPACES


def network_kind(config: "Config") -> str:
    """NO_NETWORK, USER_NETWORK or TAP."""
    namespace = find(config.linux, "network")
    if namespace is None:
        return USER_NETWORK
    return TAP if namespace.path else NO_NETWORK


def user_interface() -> Interface:
    """The guest's interface in user mode."""
    address = InterfaceAddress(GUEST_ADDRESS, 24, GUEST_BROADCAST)
    return Interface(DEVICE, USER_MAC, USER_MTU, (address,), (Route(AF_INET, gateway=GUEST_GATEWAY),))


def guest_plan(interface: Interface) -> "Plan":
    """What is done in the guest, before the container is made there."""
    b = Builder(())
    b.add(ops.OUTER, ops.LoopbackUp(), interface.pointer, ANCHOR)
    name = interface.name

    def ask(request: bytes, about: str, device: str = name, at: int = netlink.INDEX_AT) -> None:
        b.add(ops.OUTER, ops.Netlink(request, device, at), interface.pointer, ANCHOR, about=about)

    renamed = name if name != DEVICE else ""
    ask(netlink.link_request(name=renamed, mtu=interface.mtu), f"name the network device `{name}`", DEVICE)
    ask(netlink.link_request(up=True), f"set the network device `{name}` up")
    for address in interface.addresses:
        ask(netlink.address_request(address), f"give `{name}` the address `{shown(address.address)}`")
    for neighbour in interface.neighbours:
        ask(netlink.neighbour_request(neighbour), f"tell where `{shown(neighbour.address)}` is")
    for route in sorted(interface.routes, key=lambda route: bool(route.gateway)):
        request, at = netlink.route_request(route)
        to = f"{shown(route.destination)}/{route.prefix_length}" if route.destination else "everywhere"
        ask(request, f"add the route of `{name}` to `{to}`", at=at)
    b.add(ops.OUTER, ops.Ready())
    return b.build()


def shown(address: bytes) -> str:
    """An address as people write it; groups of zeros of an IPv6 one are not left out."""
    if len(address) == 4:
        return ".".join(map(str, address))
    return ":".join(f"{address[at] << 8 | address[at + 1]:x}" for at in range(0, len(address), 2))


# --- published ports --------------------------------------------------------------------------------------------


def published(config: "Config") -> tuple[Published, ...]:
    """What the annotation asks for. Raises ConfigError with every word that is none of a port."""
    text = config.annotations.get(PUBLISH_ANNOTATION, "")
    found, problems = [], []
    pointer = f"/annotations/{PUBLISH_ANNOTATION}"
    for word in text.split(","):
        try:
            found += [parse_published(word)] if word else []
        except ValueError as error:
            problems.append(Problem(pointer, str(error), "config.md#configAnnotations", value=word))
    if found and network_kind(config) != USER_NETWORK:
        rule = "ports are published only of a machine whose network is the host's; any other network is its owner's"
        problems.append(Problem(pointer, rule, "config.md#configAnnotations", value=text))
    if len(found) > MOST_PUBLISHED:
        rule = f"at most {MOST_PUBLISHED} ports are published"
        problems.append(Problem(pointer, rule, "config.md#configAnnotations"))
    if problems:
        raise ConfigError(problems)
    return tuple(found)


def parse_published(word: str) -> Published:
    """`[ADDRESS:]HOSTPORT:PORT[/tcp|/udp]`. Raises ValueError, whose text is the rule that is broken."""
    ports, slash, protocol = word.partition("/")
    if slash and protocol not in PROTOCOLS:
        raise ValueError(f"the protocol of `{word}` is one of {', '.join(PROTOCOLS)}")
    numbers = ports.split(":")
    if len(numbers) == 2:
        numbers.insert(0, LOCAL)
    if len(numbers) != 3:
        raise ValueError(f"`{word}` is not `[ADDRESS:]HOSTPORT:PORT`")
    address, host_port, port = numbers
    if not _is_address(address):
        raise ValueError(f"`{address}` in `{word}` is no IPv4 address")
    return Published(protocol or PROTOCOLS[0], address, _port(host_port, word), _port(port, word))


def _is_address(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 4 and all(_is_number(part) and int(part) < 256 and str(int(part)) == part for part in parts)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5


def _port(text: str, word: str) -> int:
    if not _is_number(text) or not 0 < int(text) < 65536:
        raise ValueError(f"`{text}` in `{word}` is no port: it is from 1 to 65535")
    return int(text)


def forwards(wanted: "tuple[Published, ...]") -> tuple[tuple[str, int, int], ...]:
    """For each the protocol, the port in the jail by which it comes, and the port in the guest."""
    return tuple((one.protocol, FIRST_FORWARD + index, one.port) for index, one in enumerate(wanted))
