"""A machine's tap connected to the interface of a network namespace, so that the guest stands in the interface's place.

What arrives at one is sent out of the other, both ways, by the kernel's traffic control (tc-mirred(8)): the namespace
itself, its addresses and its routes stay as they are, and whoever made it finds it unchanged. The tap disappears with
its descriptor; what is left then, the queueing discipline of the interface, `disconnect` takes away.
"""

import os
from errno import EEXIST, EINVAL, ENODEV, ENOENT
from struct import Struct

from boxwright._record import Record
from boxwright.errors import HostError, UnsupportedError
from boxwright.host import rtnetlink
from boxwright.host.netns import in_network_namespace
from boxwright.host.rtnetlink import NetlinkError, Routes
from boxwright.host.tap import open_tap
from boxwright.plan import netlink as wire
from boxwright.plan.netlink import InterfaceAddress, Neighbour, Route, attribute, nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from boxwright.host.rtnetlink import Address, Link

TAP_NAME = "boxwright0"
ANCHOR = "config-linux.md#configLinuxNamespaces"
# kinds of interface that cannot be handed over, and why
_KINDS = {
    "tun": "what is behind it is a program on the host (slirp4netns, pasta, a VPN), which does not expect the packets "
    "that a guest of its own can make, such as some to the host's 127.0.0.1",
    "ipvlan": "it has the link-layer address of another interface, and only one kernel can answer to that",
}
_MODULES = "load the kernel's modules `sch_ingress`, `cls_u32` and `act_mirred`"
_LINKINFO, _INFO_KIND, _IFF_NOARP = 18, 1, 0x80
_IFA_F_NOPREFIXROUTE, _SCOPE_UNIVERSE, _SCOPE_LINK = 0x200, 0, 253
_PROTOCOL_KERNEL, _PROTOCOL_RA = 2, 9
_RTA_MULTIPATH, _METRIC_MTU = 9, 2
_INGRESS_PARENT, _INGRESS = 0xFFFFFFF1, 0xFFFF0000
_CLSACT_KINDS = ("ingress", "clsact")
_TCA_KIND, _TCA_OPTIONS = 1, 2
_U32_SELECTOR, _U32_ACTIONS = 5, 7
_ACT_KIND, _ACT_OPTIONS, _MIRRED_PARMS = 1, 2, 2
_ETH_P_ALL, _PRIORITY = 0x0003, 1
_STOLEN, _EGRESS_REDIRECT = 4, 1
# tc_u32_sel with one key: terminal, and a mask of nothing, which every packet matches
_SELECTOR = Struct("=BBBxHHhhI" + "IIii").pack(1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
_MIRRED = Struct("=IIiiiiI")


class Wire(Record):
    """What is known of an interface before it is handed over."""

    interface: str
    index: int
    mac: str
    mtu: int
    addresses: tuple[InterfaceAddress, ...]
    routes: tuple[Route, ...]
    neighbours: tuple[Neighbour, ...]


class Namespace:
    """A network namespace that is joined by its path, until `close`."""

    def __init__(self, path: str, pointer: str) -> None:
        """Raises HostError if it cannot be opened or entered."""
        self.path, self.pointer = path, pointer
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._refused(f"open the network namespace `{path}`", error.errno or 0) from None
        try:
            self.routes = Routes(in_network_namespace(self.fd, rtnetlink.open_socket))
        except BaseException:
            os.close(self.fd)
            raise

    def close(self) -> None:
        """Let go of it."""
        self.routes.close()
        os.close(self.fd)

    @property
    def identity(self) -> tuple[int, int]:
        """What tells it from another namespace that has its path later on."""
        found = os.fstat(self.fd)
        return found.st_dev, found.st_ino

    def _refused(self, what: str, error: int, explanation: str = "", hint: str | None = None) -> HostError:
        notes = [f"the kernel says: {explanation}"] if explanation else []
        return HostError(what, error, path=self.path, pointer=self.pointer, anchor=ANCHOR, notes=notes, hint=hint)

    # --- looking ---

    def look(self) -> Wire | None:
        """Its interface, or None where there is only a loopback one. Raises UnsupportedError, HostError."""
        try:
            link = self._only_link(self.routes.links())
            return self._wire(link) if link else None
        except NetlinkError as refusal:
            what = f"look at the interfaces of the network namespace `{self.path}`"
            raise self._refused(what, refusal.errno or 0, refusal.explanation) from None

    def _only_link(self, links: "Iterable[Link]") -> "Link | None":
        links = list(links)
        if any(link.name == TAP_NAME for link in links):
            raise self._unsupported("another machine is connected to its interface, and two kernels cannot share one")
        up = [link for link in links if link.flags & wire.IFF_UP and not link.flags & rtnetlink.IFF_LOOPBACK]
        if len(up) > 1:
            names = ", ".join(f"`{link.name}`" for link in up)
            raise self._unsupported(f"it has the interfaces {names}, and the machine has one network device")
        if up and (why := _why_not(up[0])):
            raise self._unsupported(f"of its interface `{up[0].name}`: {why}")
        return up[0] if up else None

    def _unsupported(self, why: str) -> UnsupportedError:
        return UnsupportedError(self.pointer, "vm", f"the network namespace `{self.path}`: {why}")

    def _wire(self, link: "Link") -> Wire:
        routes = self.routes
        mtu = wire.U32.unpack(link.get(wire.IFLA_MTU) or bytes(4))[0]
        mac = (link.get(wire.IFLA_ADDRESS) or b"").hex(":")
        return Wire(
            link.name,
            link.index,
            mac,
            mtu,
            tuple(_address(one) for one in routes.addresses(link.index) if one.scope == _SCOPE_UNIVERSE),
            tuple(self._routes(link)),
            tuple(self._neighbours(link.index)),
        )

    def _routes(self, link: "Link") -> "Iterable[Route]":
        for answer in self.routes.ask(wire.RTM_GETROUTE, wire.NLM_F_DUMP, wire.RTMSG.pack(*[0] * 9)):
            family, prefix_length, _, _, table, protocol, scope, kind, flags = wire.RTMSG.unpack_from(answer)
            found = dict(wire.attributes(answer[wire.RTMSG.size :]))
            if table != wire.ROUTE_MAIN or kind != wire.RTN_UNICAST or protocol in {_PROTOCOL_KERNEL, _PROTOCOL_RA}:
                continue  # the guest's kernel makes its own of those
            if _RTA_MULTIPATH in found:
                raise self._unsupported("it has a route by several ways, which has not been tried in a guest")
            if found.get(wire.RTA_OIF) == wire.U32.pack(link.index):
                yield _route(family, prefix_length, protocol, scope, flags, found)

    def _neighbours(self, index: int) -> "Iterable[Neighbour]":
        for answer in self.routes.ask(wire.RTM_GETNEIGH, wire.NLM_F_DUMP, wire.NDMSG.pack(0, 0, 0, 0, 0)):
            _family, device, state, _flags, _kind = wire.NDMSG.unpack_from(answer)
            found = dict(wire.attributes(answer[wire.NDMSG.size :]))
            if device == index and state & wire.NUD_PERMANENT and wire.NDA_LLADDR in found:
                yield Neighbour(found[wire.NDA_DST], found[wire.NDA_LLADDR])

    # --- connecting ---

    def connect(self, wanted: Wire) -> int:
        """Connect a new tap to the interface; its descriptor, which is the caller's. Raises HostError."""
        try:
            self._check_free(wanted)
            fd = in_network_namespace(self.fd, lambda: open_tap(TAP_NAME))
            try:
                self._connect(wanted)
            except BaseException:
                os.close(fd)
                self.disconnect(wanted.interface)
                raise
        except NetlinkError as refusal:
            hint = _MODULES if refusal.errno in {ENOENT, EINVAL} else None
            what = f"connect a machine to the interface `{wanted.interface}` of `{self.path}`"
            raise self._refused(what, refusal.errno or 0, refusal.explanation, hint) from None
        return fd

    def _check_free(self, wanted: Wire) -> None:
        if self._has_ingress(wanted.index):
            what = f"redirect what the interface `{wanted.interface}` of `{self.path}` receives"
            hint = f"somebody does that already: see `tc qdisc show dev {wanted.interface}` in the namespace"
            raise self._refused(what, EEXIST, hint=hint)

    def _has_ingress(self, index: int) -> bool:
        for answer in self.routes.ask(wire.RTM_GETQDISC, wire.NLM_F_DUMP, wire.TCMSG.pack(0, index, 0, 0, 0)):
            found = dict(wire.attributes(answer[wire.TCMSG.size :]))
            device = wire.TCMSG.unpack_from(answer)[1]
            if device == index and wire.text_of(found.get(_TCA_KIND, b"")) in _CLSACT_KINDS:
                return True
        return False

    def _connect(self, wanted: Wire) -> None:
        routes = self.routes
        tap = routes.find(TAP_NAME)
        if tap is None:
            raise NetlinkError(ENODEV)
        # it has no address of its own, and says nothing by itself
        quiet = nested(wire.AF_INET6, attribute(wire.IFLA_INET6_ADDR_GEN_MODE, bytes((wire.ADDR_GEN_NONE,))))
        changes = attribute(wire.IFLA_MTU, wire.U32.pack(wanted.mtu)) + nested(wire.IFLA_AF_SPEC, quiet)
        routes.change(tap.index, changes)
        routes.change(tap.index, flags=wire.IFF_UP, mask=wire.IFF_UP)
        for here, there in ((tap.index, wanted.index), (wanted.index, tap.index)):
            _add_ingress(routes, here)
            _redirect(routes, here, there)

    def disconnect(self, interface: str) -> None:
        """Let the interface have what it receives again; no error where nothing is in the way. Raises HostError."""
        try:
            link = self.routes.find(interface)
            if link is not None:
                body = wire.TCMSG.pack(0, link.index, _INGRESS, _INGRESS_PARENT, 0)
                self.routes.ask(wire.RTM_DELQDISC, wire.NLM_F_ACK, body)
        except NetlinkError as refusal:
            if refusal.errno not in {ENOENT, EINVAL, ENODEV}:
                what = f"disconnect the interface `{interface}` of `{self.path}`"
                raise self._refused(what, refusal.errno or 0, refusal.explanation) from None


def _why_not(link: "Link") -> str:
    """Why an interface cannot be handed to a machine; empty if it can."""
    info = dict(wire.attributes(link.get(_LINKINFO) or b""))
    kind = wire.text_of(info.get(_INFO_KIND, b""))
    if kind in _KINDS:
        return _KINDS[kind]
    if len(link.get(wire.IFLA_ADDRESS) or b"") != 6 or link.flags & _IFF_NOARP:
        return "it is none of Ethernet's"
    return ""


def _address(address: "Address") -> InterfaceAddress:
    found = dict(address.attributes)
    local = found.get(wire.IFA_LOCAL) or found[wire.IFA_ADDRESS]
    peer = found.get(wire.IFA_ADDRESS, local)
    return InterfaceAddress(
        local,
        address.prefix_length,
        found.get(wire.IFA_BROADCAST, b""),
        peer if peer != local else b"",
        address.scope,
        address.flags & _IFA_F_NOPREFIXROUTE,
    )


def _route(family: int, prefix_length: int, protocol: int, scope: int, flags: int, found: dict[int, bytes]) -> Route:
    metrics = dict(wire.attributes(found.get(wire.RTA_METRICS, b"")))
    return Route(
        family,
        found.get(wire.RTA_DST, b""),
        prefix_length,
        found.get(wire.RTA_GATEWAY, b""),
        found.get(wire.RTA_PREFSRC, b""),
        scope,
        wire.U32.unpack(found.get(wire.RTA_PRIORITY, bytes(4)))[0],
        protocol,
        flags & wire.RTNH_F_ONLINK,
        wire.U32.unpack(metrics.get(_METRIC_MTU, bytes(4)))[0],
    )


def _add_ingress(routes: Routes, index: int) -> None:
    body = wire.TCMSG.pack(0, index, _INGRESS, _INGRESS_PARENT, 0) + attribute(_TCA_KIND, b"ingress\0")
    routes.ask(wire.RTM_NEWQDISC, wire.NLM_F_ACK | wire.NLM_F_CREATE | wire.NLM_F_EXCL, body)


def _redirect(routes: Routes, here: int, there: int) -> None:
    """Send whatever `here` receives out of `there`."""
    parms = _MIRRED.pack(0, 0, _STOLEN, 0, 0, _EGRESS_REDIRECT, there)
    action = attribute(_ACT_KIND, b"mirred\0") + nested(_ACT_OPTIONS, attribute(_MIRRED_PARMS, parms))
    options = attribute(_U32_SELECTOR, _SELECTOR) + nested(_U32_ACTIONS, nested(1, action))
    info = _PRIORITY << 16 | int.from_bytes(_ETH_P_ALL.to_bytes(2, "big"), "little")
    body = wire.TCMSG.pack(0, here, 0, _INGRESS, info) + attribute(_TCA_KIND, b"u32\0") + nested(_TCA_OPTIONS, options)
    routes.ask(wire.RTM_NEWTFILTER, wire.NLM_F_ACK | wire.NLM_F_CREATE | wire.NLM_F_EXCL, body)
