"""Messages of rtnetlink(7), byte by byte, and as the kernel itself takes and tells them."""

import socket

from boxwright.plan import netlink as wire
from boxwright.plan.netlink import InterfaceAddress, Neighbour, Route


def body_of(message: bytes) -> tuple[int, int, bytes]:
    length, kind, flags, sequence, port = wire.HEADER.unpack_from(message)
    assert (length, sequence, port) == (len(message), 1, 0)
    return kind, flags, message[wire.HEADER.size :]


def test_an_attribute_is_padded_but_its_length_is_not():
    assert wire.attribute(3, b"ab\0").hex() == "07000300" + "61620000"
    assert wire.nested(26, wire.attribute(1, b"")).hex() == "08001a80" + "04000100"
    assert list(wire.attributes(wire.attribute(3, b"ab\0") + wire.attribute(4, b"1234"))) == [
        (3, b"ab\0"),
        (4, b"1234"),
    ]
    assert list(wire.attributes(b"\x03\0\x01\0")) == []  # shorter than its own head: the end


def test_a_link_is_renamed_sized_and_set_up():
    kind, flags, body = body_of(wire.link_request(name="net1", mtu=1400, up=True))
    assert (kind, flags) == (wire.RTM_NEWLINK, wire.NLM_F_REQUEST | wire.NLM_F_ACK)
    assert body[: wire.IFINFO.size].hex() == "00000000" + "00000000" + "01000000" + "01000000"
    assert dict(wire.attributes(body[wire.IFINFO.size :])) == {
        wire.IFLA_IFNAME: b"net1\0",
        wire.IFLA_MTU: (1400).to_bytes(4, "little"),
    }
    assert wire.HEADER.size + 4 == wire.INDEX_AT


def test_an_address_says_its_family_by_its_length():
    _, flags, body = body_of(wire.address_request(InterfaceAddress(b"\x0a\0\x02\x0f", 24, b"\x0a\0\x02\xff")))
    assert flags & wire.NLM_F_CREATE
    assert body[:8].hex() == "02180000" + "00000000"
    assert dict(wire.attributes(body[8:])) == {1: b"\x0a\0\x02\x0f", 2: b"\x0a\0\x02\x0f", 4: b"\x0a\0\x02\xff"}
    address = socket.inet_pton(socket.AF_INET6, "fd00::2")
    _, _, body = body_of(wire.address_request(InterfaceAddress(address, 64, scope=0)))
    assert body[0] == wire.AF_INET6
    assert dict(wire.attributes(body[8:]))[wire.IFA_FLAGS] == b"\2\0\0\0"  # nobody is asked whether it is in use
    _, _, body = body_of(wire.address_request(InterfaceAddress(b"\x0a\0\0\1", 32, peer=b"\x0a\0\0\2")))
    assert dict(wire.attributes(body[8:])) == {1: b"\x0a\0\0\2", 2: b"\x0a\0\0\1"}


def test_a_route_names_its_device_where_it_says():
    message, at = wire.route_request(Route(wire.AF_INET, gateway=b"\x0a\0\2\2", priority=100, mtu=1300))
    changed = message[:at] + b"\7\0\0\0" + message[at + 4 :]
    _, _, body = body_of(changed)
    found = dict(wire.attributes(body[wire.RTMSG.size :]))
    assert body[: wire.RTMSG.size].hex() == "02000000" + "fe040001" + "00000000"
    assert found[wire.RTA_OIF] == b"\7\0\0\0"
    assert found[wire.RTA_GATEWAY] == b"\x0a\0\2\2"
    assert found[wire.RTA_PRIORITY] == b"\x64\0\0\0"
    assert dict(wire.attributes(found[wire.RTA_METRICS])) == {2: (1300).to_bytes(4, "little")}
    assert wire.RTA_DST not in found


def test_a_neighbour_stays():
    _, _, body = body_of(wire.neighbour_request(Neighbour(b"\x0a\0\0\1", b"\2\0\0\0\0\1")))
    assert body[:12].hex() == "02000000" + "00000000" + "80000000"
    assert dict(wire.attributes(body[12:])) == {1: b"\x0a\0\0\1", 2: b"\2\0\0\0\0\1"}
