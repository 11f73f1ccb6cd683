"""Messages of rtnetlink(7) as bytes: what the helper's `Netlink` sends, and the host's own conversations. Pure."""

from struct import Struct

from boxwright._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR = 16, 17, 18, 20, 22
RTM_NEWROUTE, RTM_GETROUTE, RTM_NEWNEIGH, RTM_GETNEIGH = 24, 26, 28, 30
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC, RTM_NEWTFILTER = 36, 37, 38, 44
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_CREATE, NLM_F_EXCL = 1, 4, 0x300, 0x100, 0x400, 0x200
AF_INET, AF_INET6 = 2, 10
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_AF_SPEC = 1, 3, 4, 26
IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_NONE = 8, 1
IFF_UP = 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD = 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS, RTA_TABLE = 1, 4, 5, 6, 7, 8, 15
NDA_DST, NDA_LLADDR, NUD_PERMANENT = 1, 2, 0x80
ROUTE_MAIN, RTN_UNICAST = 254, 1
RTNH_F_ONLINK = 4

HEADER = Struct("=IHHII")
IFINFO = Struct("=BxHiII")  # family, type, index, flags, change
IFADDR = Struct("=BBBBI")  # family, prefix length, flags, scope, index
RTMSG = Struct("=BBBBBBBBI")  # family, destination's and source's length, tos, table, protocol, scope, type, flags
NDMSG = Struct("=BxxxiHBB")  # family, index, state, flags, type
TCMSG = Struct("=BxxxiIII")  # family, index, handle, parent, info
_ATTRIBUTE = Struct("=HH")
U32 = Struct("=I")
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF
INDEX_AT = HEADER.size + 4  # of the device, in messages about links, addresses and neighbours
_SCOPE_LINK, _PROTOCOL_STATIC = 253, 4
_CHANGE = NLM_F_REQUEST | NLM_F_ACK
_MAKE = _CHANGE | NLM_F_CREATE | NLM_F_REPLACE


def attributes(data: bytes) -> "Iterator[tuple[int, bytes]]":
    """The attributes of a message's body: (type, payload)."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += aligned(length)


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute as bytes."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(aligned(length) - length)


def nested(kind: int, *inner: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | _NESTED, b"".join(inner))


def text(value: str) -> bytes:
    """A name as the kernel wants it."""
    return value.encode("utf-8", "surrogateescape") + b"\0"


def text_of(payload: bytes) -> str:
    """A name as the kernel gives it."""
    return payload.rstrip(b"\0").decode("utf-8", "surrogateescape")


def aligned(length: int) -> int:
    """The length with its padding."""
    return (length + 3) & ~3


def message(kind: int, flags: int, body: bytes, sequence: int = 1) -> bytes:
    """A whole message."""
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body


class InterfaceAddress(Record):
    """An address of an interface, in the network's byte order, with the length of its network's prefix.

    `scope` and `flags` (IFA_F_*) are the kernel's.
    """

    address: bytes
    prefix_length: int
    broadcast: bytes = b""
    peer: bytes = b""
    scope: int = 0
    flags: int = 0

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return AF_INET if len(self.address) == 4 else AF_INET6


class Route(Record):
    """A route through an interface: to `destination` (empty: everywhere), by `gateway` if that is not empty.

    `source` is the address that packets get, `scope`, `priority`, `protocol` and `flags` are the kernel's;
    `mtu` 0 is the interface's.
    """

    family: int
    destination: bytes = b""
    prefix_length: int = 0
    gateway: bytes = b""
    source: bytes = b""
    scope: int = 0
    priority: int = 0
    protocol: int = _PROTOCOL_STATIC
    flags: int = 0
    mtu: int = 0


class Neighbour(Record):
    """A neighbour whose link-layer address is set by hand."""

    address: bytes
    link: bytes


def link_request(*, name: str = "", mtu: int = 0, up: bool = False) -> bytes:
    """Rename the device whose index stands at INDEX_AT, give it an MTU, set it up: what is asked for."""
    flags = IFF_UP if up else 0
    body = IFINFO.pack(0, 0, 0, flags, flags)
    body += attribute(IFLA_IFNAME, text(name)) if name else b""
    body += attribute(IFLA_MTU, U32.pack(mtu)) if mtu else b""
    return message(RTM_NEWLINK, _CHANGE, body)


def address_request(address: InterfaceAddress) -> bytes:
    """Add an address to the device whose index stands at INDEX_AT. Nobody is asked whether it is in use already."""
    body = IFADDR.pack(address.family, address.prefix_length, 0, address.scope, 0)
    body += attribute(IFA_LOCAL, address.address) + attribute(IFA_ADDRESS, address.peer or address.address)
    body += attribute(IFA_BROADCAST, address.broadcast) if address.broadcast else b""
    flags = address.flags | (IFA_F_NODAD if address.family == AF_INET6 else 0)
    body += attribute(IFA_FLAGS, U32.pack(flags)) if flags else b""
    return message(RTM_NEWADDR, _MAKE, body)


def route_request(route: Route) -> "tuple[bytes, int]":
    """Add a route, and where in the message the index of its device stands."""
    head = (route.family, route.prefix_length, 0, 0, ROUTE_MAIN, route.protocol, route.scope, RTN_UNICAST, route.flags)
    body = RTMSG.pack(*head) + attribute(RTA_OIF, U32.pack(0))
    at = HEADER.size + len(body) - U32.size
    body += attribute(RTA_DST, route.destination) if route.destination else b""
    body += attribute(RTA_GATEWAY, route.gateway) if route.gateway else b""
    body += attribute(RTA_PREFSRC, route.source) if route.source else b""
    body += attribute(RTA_PRIORITY, U32.pack(route.priority)) if route.priority else b""
    body += nested(RTA_METRICS, attribute(2, U32.pack(route.mtu))) if route.mtu else b""
    return message(RTM_NEWROUTE, _MAKE, body), at


def neighbour_request(neighbour: Neighbour) -> bytes:
    """Add a neighbour on the device whose index stands at INDEX_AT."""
    family = AF_INET if len(neighbour.address) == 4 else AF_INET6
    body = NDMSG.pack(family, 0, NUD_PERMANENT, 0, 0)
    body += attribute(NDA_DST, neighbour.address) + attribute(NDA_LLADDR, neighbour.link)
    return message(RTM_NEWNEIGH, _MAKE, body)
