"""Conversations with the kernel about links and addresses: rtnetlink(7) over a plain socket.

Only what moving a device needs. Not loaded unless a configuration has network devices.
"""

import os
from _socket import AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, socket
from errno import ENODEV
from struct import Struct

from boxwright._record import Record
from boxwright.plan.netlink import (
    HEADER,
    IFA_FLAGS,
    IFADDR,
    IFINFO,
    IFLA_IFNAME,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    U32,
    aligned,
    attribute,
    attributes,
    message,
    nested,
    text,
    text_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NETLINK_ROUTE = 0
RTM_NEWLINKPROP = 108
_NLM_F_APPEND = 0x800
_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLMSGERR_ATTR_MSG = 1
_SOL_NETLINK, _NETLINK_EXT_ACK = 270, 11
_RECEIVE_BYTES = 1 << 18

IFLA_NET_NS_FD, IFLA_PROP_LIST, IFLA_ALT_IFNAME = 28, 52, 53
IFLA_NEW_IFINDEX, IFLA_NETNS_IMMUTABLE = 49, 67
IFF_LOOPBACK = 8
IFA_LABEL = 3
IFA_F_PERMANENT = 0x80
RT_SCOPE_UNIVERSE = 0

_I32 = Struct("=i")


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
            answers = self.ask(RTM_GETLINK, 0, IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, text(name)))
        except NetlinkError as refusal:
            if refusal.errno == ENODEV:
                return None
            raise
        return _link(answers[0])

    def link(self, index: int) -> Link:
        """The device of that index."""
        return _link(self.ask(RTM_GETLINK, 0, IFINFO.pack(0, 0, index, 0, 0))[0])

    def links(self) -> list[Link]:
        """All devices of the namespace."""
        return [_link(answer) for answer in self.ask(RTM_GETLINK, NLM_F_DUMP, IFINFO.pack(0, 0, 0, 0, 0))]

    def addresses(self, index: int) -> list[Address]:
        """The addresses of a device, of every family, in the kernel's order."""
        found = map(_address, self.ask(RTM_GETADDR, NLM_F_DUMP, IFADDR.pack(0, 0, 0, 0, 0)))
        return [one for one in found if one.index == index]

    def change(self, index: int, attributes_: bytes = b"", *, flags: int = 0, mask: int = 0) -> None:
        """Change a device: its attributes, and those of its IFF_* flags that `mask` has."""
        self.ask(RTM_NEWLINK, NLM_F_ACK, IFINFO.pack(0, 0, index, flags, mask) + attributes_)

    def add_alternative_name(self, index: int, name: str) -> None:
        """Give a device one more name."""
        properties = nested(IFLA_PROP_LIST, attribute(IFLA_ALT_IFNAME, text(name)))
        kind = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL | _NLM_F_APPEND
        self.ask(RTM_NEWLINKPROP, kind, IFINFO.pack(0, 0, index, 0, 0) + properties)

    def add_address(self, address: Address) -> None:
        """Add an address to the device that it names."""
        head = IFADDR.pack(address.family, address.prefix_length, address.flags & 0xFF, address.scope, address.index)
        body = b"".join(attribute(kind, payload) for kind, payload in address.attributes)
        self.ask(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, head + body)

    def ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """One request and the bodies of its answers; a dump that changed while it was read is asked for again."""
        while True:
            self._sequence += 1
            self._socket.send(message(kind, flags | NLM_F_REQUEST, body, self._sequence))
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
    while at + HEADER.size <= len(data):
        length, kind, flags, sequence, _port = HEADER.unpack_from(data, at)
        yield kind, flags, sequence, data[at + HEADER.size : at + length]
        at += aligned(length)


def _raise_refusal(flags: int, body: bytes) -> None:
    number = -int(_I32.unpack_from(body)[0])
    if not number:
        return
    explanation = ""
    if flags & _NLM_F_ACK_TLVS:
        # after the request's own header stands its body too, unless the answer is capped
        start = 4 + (HEADER.size if flags & _NLM_F_CAPPED else aligned(HEADER.unpack_from(body, 4)[0]))
        found = (text_of(value) for kind, value in attributes(body[start:]) if kind == _NLMSGERR_ATTR_MSG)
        explanation = next(found, "")
    raise NetlinkError(number, explanation)


def _link(body: bytes) -> Link:
    _family, _type, index, flags, _change = IFINFO.unpack_from(body)
    found = tuple(attributes(body[IFINFO.size :]))
    name = next((text_of(value) for kind, value in found if kind == IFLA_IFNAME), "")
    return Link(index, name, flags, found)


def _address(body: bytes) -> Address:
    family, prefix_length, flags, scope, index = IFADDR.unpack_from(body)
    found = tuple(attributes(body[IFADDR.size :]))
    for kind, value in found:
        if kind == IFA_FLAGS:
            flags = U32.unpack(value)[0]
    return Address(family, prefix_length, scope, index, flags, found)
