"""Conversations with the kernel about links and addresses: rtnetlink(7) over a plain socket.

Only what moving a device needs. Not loaded unless a configuration has network devices.
"""

import os
from _socket import AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, socket
from errno import ENODEV
from struct import Struct

from boxwright._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NETLINK_ROUTE = 0
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR, RTM_NEWLINKPROP = 16, 18, 20, 22, 108
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_CREATE, NLM_F_EXCL = 1, 4, 0x300, 0x100, 0x400, 0x200
_NLM_F_APPEND = 0x800
_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK, _NETLINK_EXT_ACK = 270, 11
_NESTED, _TYPE_MASK = 0x8000, 0x3FFF
_RECEIVE_BYTES = 1 << 18

IFLA_ADDRESS, IFLA_IFNAME, IFLA_NET_NS_FD, IFLA_AF_SPEC, IFLA_PROP_LIST, IFLA_ALT_IFNAME = 1, 3, 28, 26, 52, 53
IFLA_NEW_IFINDEX, IFLA_NETNS_IMMUTABLE = 49, 67
IFF_UP, IFF_LOOPBACK = 1, 8
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_FLAGS = 1, 2, 3, 8
IFA_F_PERMANENT = 0x80
RT_SCOPE_UNIVERSE = 0

_HEADER = Struct("=IHHII")
_IFINFO = Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ATTRIBUTE = Struct("=HH")
_I32 = Struct("=i")
U32 = Struct("=I")


class Link(Record):
    """One network device: its index, name, IFF_* flags and all its attributes as the kernel gave them."""

    index: int
    name: str
    flags: int
    attributes: "tuple[tuple[int, bytes], ...]"

    def get(self, kind: int) -> bytes | None:
        """The payload of the attribute `kind`, None where the link has none."""
        for found, payload in self.attributes:
            if found == kind:
                return payload
        return None

    def alternative_names(self) -> tuple[str, ...]:
        """Its further names (ip-link(8), `altname`)."""
        inner = self.get(IFLA_PROP_LIST)
        return tuple(text_of(value) for kind, value in attributes(inner or b"") if kind == IFLA_ALT_IFNAME)


class Address(Record):
    """One address of a device. `flags` are IFA_F_*; `attributes` are as the kernel gave them."""

    family: int
    prefix_length: int
    scope: int
    index: int
    flags: int
    attributes: "tuple[tuple[int, bytes], ...]"


class NetlinkError(OSError):
    """The kernel's answer to a request that it refused; `explanation` is its own text, where it gives one."""

    def __init__(self, number: int, explanation: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.explanation = explanation


def open_socket() -> socket:
    """A netlink socket in the network namespace of the calling thread, where it stays."""
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)


class Routes:
    """One namespace's links and addresses. Every method raises NetlinkError, an OSError."""

    def __init__(self, sock: socket) -> None:
        """`sock` is owned from here on."""
        self._socket = sock
        self._sequence = 0
        sock.bind((0, 0))
        sock.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)

    def close(self) -> None:
        """End the conversation."""
        self._socket.close()

    def find(self, name: str) -> Link | None:
        """The device that answers to `name`, by its name or an alternative one."""
        try:
            answers = self._ask(RTM_GETLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, text(name)))
        except NetlinkError as refusal:
            if refusal.errno == ENODEV:
                return None
            raise
        return _link(answers[0])

    def link(self, index: int) -> Link:
        """The device of that index."""
        return _link(self._ask(RTM_GETLINK, 0, _IFINFO.pack(0, 0, index, 0, 0))[0])

    def links(self) -> list[Link]:
        """All devices of the namespace."""
        return [_link(answer) for answer in self._ask(RTM_GETLINK, NLM_F_DUMP, _IFINFO.pack(0, 0, 0, 0, 0))]

    def addresses(self, index: int) -> list[Address]:
        """The addresses of a device, of every family, in the kernel's order."""
        found = map(_address, self._ask(RTM_GETADDR, NLM_F_DUMP, _IFADDR.pack(0, 0, 0, 0, 0)))
        return [one for one in found if one.index == index]

    def change(self, index: int, attributes_: bytes = b"", *, flags: int = 0, mask: int = 0) -> None:
        """Change a device: its attributes, and those of its IFF_* flags that `mask` has."""
        self._ask(RTM_NEWLINK, NLM_F_ACK, _IFINFO.pack(0, 0, index, flags, mask) + attributes_)

    def add_alternative_name(self, index: int, name: str) -> None:
        """Give a device one more name."""
        properties = attribute(IFLA_PROP_LIST | _NESTED, attribute(IFLA_ALT_IFNAME, text(name)))
        kind = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL | _NLM_F_APPEND
        self._ask(RTM_NEWLINKPROP, kind, _IFINFO.pack(0, 0, index, 0, 0) + properties)

    def add_address(self, address: Address) -> None:
        """Add an address to the device that it names."""
        head = _IFADDR.pack(address.family, address.prefix_length, address.flags & 0xFF, address.scope, address.index)
        body = b"".join(attribute(kind, payload) for kind, payload in address.attributes)
        self._ask(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, head + body)

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """One request and the bodies of its answers; a dump that changed while it was read is asked for again."""
        while True:
            self._sequence += 1
            length = _HEADER.size + len(body)
            self._socket.send(_HEADER.pack(length, kind, flags | NLM_F_REQUEST, self._sequence, 0) + body)
            whole, answers = self._answers(dump=flags & NLM_F_DUMP == NLM_F_DUMP)
            if whole:
                return answers

    def _answers(self, *, dump: bool) -> tuple[bool, list[bytes]]:
        whole = True
        answers: list[bytes] = []
        while True:
            for kind, flags, sequence, body in _messages(self._socket.recv(_RECEIVE_BYTES)):
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & _NLM_F_DUMP_INTR
                if kind == _NLMSG_DONE:
                    return whole, answers
                if kind == _NLMSG_ERROR:
                    _raise_refusal(flags, body)
                    return True, answers
                answers.append(body)
            if answers and not dump:
                return True, answers


def _messages(data: bytes) -> "Iterator[tuple[int, int, int, bytes]]":
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, at)
        yield kind, flags, sequence, data[at + _HEADER.size : at + length]
        at += _aligned(length)


def _raise_refusal(flags: int, body: bytes) -> None:
    number = -int(_I32.unpack_from(body)[0])
    if not number:
        return
    explanation = ""
    if flags & _NLM_F_ACK_TLVS:
        # after the request's own header stands its body too, unless the answer is capped
        start = 4 + (_HEADER.size if flags & _NLM_F_CAPPED else _aligned(_HEADER.unpack_from(body, 4)[0]))
        found = (text_of(value) for kind, value in attributes(body[start:]) if kind == _NLMSGERR_ATTR_MSG)
        explanation = next(found, "")
    raise NetlinkError(number, explanation)


def _link(body: bytes) -> Link:
    _family, _type, index, flags, _change = _IFINFO.unpack_from(body)
    found = tuple(attributes(body[_IFINFO.size :]))
    name = next((text_of(value) for kind, value in found if kind == IFLA_IFNAME), "")
    return Link(index, name, flags, found)


def _address(body: bytes) -> Address:
    family, prefix_length, flags, scope, index = _IFADDR.unpack_from(body)
    found = tuple(attributes(body[_IFADDR.size :]))
    for kind, value in found:
        if kind == IFA_FLAGS:
            flags = U32.unpack(value)[0]
    return Address(family, prefix_length, scope, index, flags, found)


def attributes(data: bytes) -> "Iterator[tuple[int, bytes]]":
    """The attributes of a message's body: (type, payload)."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute as bytes."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(_aligned(length) - length)


def nested(kind: int, *inner: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | _NESTED, b"".join(inner))


def text(value: str) -> bytes:
    """A name as the kernel wants it."""
    return os.fsencode(value) + b"\0"


def text_of(payload: bytes) -> str:
    """A name as the kernel gives it."""
    return os.fsdecode(payload.rstrip(b"\0"))


def _aligned(length: int) -> int:
    return (length + 3) & ~3
