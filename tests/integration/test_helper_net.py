"""The helper's requests to the kernel's routing, in a network namespace of their own."""

import errno
import json

from boxwright.plan import netlink as wire
from boxwright.plan import ops
from boxwright.plan.netlink import InterfaceAddress, Neighbour, Route
from helper_harness import CLONE_NEWNET, output_of, plan_of, program, run_ops
from lacks import need_program, need_root


def on(device: str, request: bytes, at: int = wire.INDEX_AT) -> ops.Netlink:
    return ops.Netlink(request, device, at)


def route(device: str, wanted: Route) -> ops.Netlink:
    request, at = wire.route_request(wanted)
    return on(device, request, at)


def made_link() -> ops.Netlink:
    """A pair of devices; it names no device, so nothing is filled in."""
    info = wire.nested(18, wire.attribute(1, b"veth"))
    body = wire.IFINFO.pack(0, 0, 0, 0, 0) + wire.attribute(wire.IFLA_IFNAME, b"one\0") + info
    flags = wire.NLM_F_REQUEST | wire.NLM_F_ACK | wire.NLM_F_CREATE
    return ops.Netlink(wire.message(wire.RTM_NEWLINK, flags, body), "", -1)


def test_a_device_is_set_up_by_requests():
    need_root()
    need_program("ip")
    steps = (
        ops.Unshare(CLONE_NEWNET),
        made_link(),
        on("one", wire.link_request(name="net1", mtu=1300)),
        on("net1", wire.link_request(up=True)),
        on("veth0", wire.link_request(up=True)),
        on("net1", wire.address_request(InterfaceAddress(b"\x0a\0\x09\2", 24, b"\x0a\0\x09\xff"))),
        on("net1", wire.address_request(InterfaceAddress(bytes.fromhex("fd" + "00" * 14 + "02"), 64))),
        route("net1", Route(wire.AF_INET, gateway=b"\x0a\0\x09\1", priority=7)),
        route("net1", Route(wire.AF_INET6, bytes.fromhex("fd01" + "00" * 14), 64, priority=9)),
        on("net1", wire.neighbour_request(Neighbour(b"\x0a\0\x09\1", b"\2\0\0\0\0\1"))),
    )
    script = "ip -j addr show net1; ip -j route; ip -j -6 route show fd01::/64; ip -j neigh show dev net1 nud permanent"
    text, reports = output_of(plan_of((*steps, *program(script, env=("PATH=/usr/sbin:/usr/bin:/sbin:/bin",)))))
    assert not [report for report in reports if report.error], reports
    addresses, routes, routes6, neighbours = map(json.loads, text.splitlines())
    assert addresses[0]["mtu"] == 1300
    assert "UP" in addresses[0]["flags"]
    assert [one["local"] for one in addresses[0]["addr_info"] if one["scope"] == "global"] == ["10.0.9.2", "fd00::2"]
    assert {"dst": "default", "gateway": "10.0.9.1", "metric": 7}.items() <= routes[0].items()
    assert (routes6[0]["dst"], routes6[0]["metric"]) == ("fd01::/64", 9)
    assert (neighbours[0]["dst"], neighbours[0]["lladdr"]) == ("10.0.9.1", "02:00:00:00:00:01")


def test_a_refusal_is_the_kernels_own():
    need_root()
    unshared = ops.Unshare(CLONE_NEWNET)
    (report,) = run_ops(unshared, on("nosuch", wire.link_request(up=True)))
    assert (report.kind, report.op, report.error) == (ops.ERROR, 1, errno.ENODEV)
    (report,) = run_ops(unshared, ops.LoopbackUp(), route("lo", Route(wire.AF_INET, gateway=b"\x0a\0\x09\1")))
    assert report.error == errno.ENETUNREACH
    assert report.text == "Nexthop has invalid gateway"
    (report,) = run_ops(unshared, on("lo", b"short"))
    assert report.error == errno.EMSGSIZE
    (report,) = run_ops(unshared, on("lo", wire.link_request(up=True), 1000))
    assert report.error == errno.EINVAL
