"""Network devices of the host moved into a container (config-linux.md#configLinuxNetworkDevices).

The kernel moves a device and renames it in one request, and forgets on the way its addresses and that it was up;
what it forgets is written down before and put in place again after. Not loaded unless a configuration has
network devices.
"""

import os
from errno import EEXIST, EINVAL, ENODEV

from boxwright.errors import HostError, describe_errno
from boxwright.host import rtnetlink
from boxwright.host.netns import in_network_namespace
from boxwright.host.rtnetlink import NetlinkError, Routes
from boxwright.plan import netlink as wire
from boxwright.plan.netlink import attribute, nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from boxwright.host.rtnetlink import Address, Link
    from boxwright.spec.types import NetDevice

ANCHOR = "config-linux.md#configLinuxNetworkDevices"
_AF_INET6 = 10
_IFLA_INET6_ADDR_GEN_MODE = 8
_STABLE_PRIVACY = 2  # made from a secret of the namespace, which cannot be moved
# what is set again should the kernel ever lose it: IFLA_ADDRESS, BROADCAST, MTU, TXQLEN, LINKMODE, IFALIAS, GROUP,
# GSO_MAX_SEGS, GSO_MAX_SIZE, GRO_MAX_SIZE, GSO_IPV4_MAX_SIZE, GRO_IPV4_MAX_SIZE
_KEPT_ATTRIBUTES = (1, 2, 4, 13, 17, 20, 27, 40, 41, 58, 63, 64)
_KEPT_FLAGS = 0x80 | 0x100 | 0x200 | 0x1000 | 0x8000  # NOARP, PROMISC, ALLMULTI, MULTICAST, DYNAMIC
# IFA_ADDRESS, LOCAL, LABEL, BROADCAST, CACHEINFO, RT_PRIORITY, PROTO
_KEPT_OF_ADDRESS = (1, 2, 3, 4, 6, 9, 11)
# IFA_F_NODAD, OPTIMISTIC, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN: the others the kernel computes
_KEPT_ADDRESS_FLAGS = 0x02 | 0x04 | 0x10 | 0x100 | 0x200 | 0x400
_LABEL_BYTES = 15


def move_devices(net_devices: "Mapping[str, NetDevice]", pid: int) -> "MovedDevices":
    """Move the devices, by their names here, to the network namespace of process `pid`, and set them up there.

    All are checked before the first is moved; if one cannot be moved, those before it are put back. Raises
    HostError. The caller closes what is returned.
    """
    moved = MovedDevices(pid)
    try:
        moved.move_all(net_devices)
    except BaseException:
        moved.close()
        raise
    return moved


class _Device:
    """One device on its way: what it was here (`before`, `addresses`) and its index in the container, once there."""

    __slots__ = ("addresses", "before", "host_name", "name", "new_index", "pointer")

    def __init__(self, host_name: str, wanted: "NetDevice", before: "Link", addresses: "list[Address]") -> None:
        self.host_name = host_name
        self.name = wanted.name or host_name
        self.pointer = wanted.pointer
        self.before = before
        self.addresses = addresses
        self.new_index = 0

    @property
    def was_up(self) -> bool:
        return bool(self.before.flags & wire.IFF_UP)

    def refused(self, what: str, error: int, hint: str | None = None) -> HostError:
        op = f"{what} network device `{self.host_name}`"
        return HostError(op, error, path=self.host_name, pointer=self.pointer, anchor=ANCHOR, hint=hint)


class MovedDevices:
    """The devices that were moved, until `close`: they can be `put_back`, as the namespace is held that long."""

    def __init__(self, pid: int) -> None:
        """Open both namespaces. Raises HostError if they are one and the same."""
        self._moved: list[_Device] = []
        self._fds: list[int] = []
        self._conversations: list[Routes] = []
        try:
            self._here_fd = self._open("/proc/thread-self/ns/net")
            self._there_fd = self._open(f"/proc/{pid}/ns/net")
            if os.path.samestat(os.fstat(self._here_fd), os.fstat(self._there_fd)):
                op = "move network devices to a container that shares the network namespace of the runtime"
                raise HostError(op, EINVAL, pointer="/linux/netDevices", anchor=ANCHOR)
            self._here = self._converse(self._here_fd)
            self._there = self._converse(self._there_fd)
        except BaseException:
            self.close()
            raise

    def _open(self, path: str) -> int:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            op = f"open the network namespace `{path}`"
            raise HostError(op, error.errno or 0, path=path, pointer="/linux/netDevices", anchor=ANCHOR) from error
        self._fds.append(fd)
        return fd

    def _converse(self, namespace_fd: int) -> Routes:
        routes = Routes(in_network_namespace(namespace_fd, rtnetlink.open_socket))
        self._conversations.append(routes)
        return routes

    def close(self) -> None:
        """Let go of the namespaces; the devices stay where they are."""
        for routes in self._conversations:
            routes.close()
        for fd in self._fds:
            os.close(fd)
        self._conversations, self._fds = [], []

    def move_all(self, net_devices: "Mapping[str, NetDevice]") -> None:
        """Move the devices, or none of them. Raises HostError."""
        devices = [self._checked(name, wanted) for name, wanted in net_devices.items()]
        try:
            for device in devices:
                self._move(device)
                self._arrange(device)
        except HostError as error:
            try:
                self.put_back()
            except HostError as further:
                error.details += (f"and {further.message}",)
            raise

    def put_back(self) -> None:
        """Bring the devices back under their old names, with addresses and state as they were. Raises the first
        HostError, after all were tried.
        """
        failed = None
        while self._moved:
            device = self._moved.pop()
            try:
                self._return(device)
            except NetlinkError as refusal:
                failed = failed or device.refused("bring back", refusal.errno or 0, refusal.explanation or None)
        if failed:
            raise failed

    # --- before ---

    def _checked(self, host_name: str, wanted: "NetDevice") -> _Device:
        """The device as it is, if it can be moved."""
        link = self._here.find(host_name)
        if link is None or link.name != host_name:
            hint = f"`{host_name}` is an alternative name of `{link.name}`" if link else None
            op = f"find network device `{host_name}`"
            raise HostError(op, ENODEV, path=host_name, pointer=wanted.pointer, anchor=ANCHOR, hint=hint)
        device = _Device(host_name, wanted, link, list(map(_kept, filter(_is_kept, self._addresses(link.index)))))
        if link.flags & rtnetlink.IFF_LOOPBACK or link.get(rtnetlink.IFLA_NETNS_IMMUTABLE) == b"\1":
            raise device.refused("move", EINVAL, "the kernel binds it to its network namespace")
        if "%" not in device.name and self._there.find(device.name) is not None:
            op = f"move network device `{host_name}` to `{device.name}`, which the container has already"
            raise HostError(op, EEXIST, path=host_name, pointer=device.pointer, anchor=ANCHOR)
        return device

    def _addresses(self, index: int) -> "list[Address]":
        """In the order in which they are to be added again: IPv6 lists the one that was added last first."""
        found = self._here.addresses(index)
        older = [one for one in found if one.family != _AF_INET6]
        return older + [one for one in reversed(found) if one.family == _AF_INET6]

    # --- the move ---

    def _move(self, device: _Device) -> None:
        index = device.before.index
        known = {link.index for link in self._there.links()}
        request = attribute(wire.IFLA_IFNAME, wire.text(device.name))
        request += attribute(rtnetlink.IFLA_NET_NS_FD, wire.U32.pack(self._there_fd))
        try:
            self._here.change(index, flags=0, mask=wire.IFF_UP)
            self._here.change(index, request)
            device.new_index = self._arrived(device, known)
        except NetlinkError as refusal:
            error = device.refused("move", refusal.errno or 0, refusal.explanation or None)
            self._recover(device, known, error)
            raise error from None
        self._moved.append(device)

    def _arrived(self, device: _Device, known: set[int]) -> int:
        """The index of the device in the container: it is new there, since other ones were `known`."""
        arrived = [link.index for link in self._there.links() if link.index not in known and _is_same(link, device)]
        if len(arrived) != 1:
            raise NetlinkError(ENODEV)
        return arrived[0]

    def _recover(self, device: _Device, known: set[int], error: HostError) -> None:
        """After a refusal, wherever the device is by now, it comes to be here as it was before."""
        try:
            if self._here.find(device.host_name) is None:  # moved, but not renamed
                device.new_index = self._arrived(device, known)
                self._return(device)
            else:
                self._settle(self._here, device, device.before.index, up=device.was_up)
        except NetlinkError as refusal:
            error.details += (f"and it is not as it was before: {describe_errno(refusal.errno or 0)}",)

    def _arrange(self, device: _Device) -> None:
        try:
            self._settle(self._there, device, device.new_index, up=True)
        except NetlinkError as refusal:
            raise device.refused(
                "set up in the container the", refusal.errno or 0, refusal.explanation or None
            ) from None

    def _return(self, device: _Device) -> None:
        self._there.change(device.new_index, flags=0, mask=wire.IFF_UP)
        request = attribute(wire.IFLA_IFNAME, wire.text(device.host_name))
        request += attribute(rtnetlink.IFLA_NET_NS_FD, wire.U32.pack(self._here_fd))
        self._there.change(device.new_index, request)
        link = self._here.find(device.host_name)
        if link is None:
            raise NetlinkError(ENODEV)
        self._settle(self._here, device, link.index, up=device.was_up)

    def _settle(self, routes: Routes, device: _Device, index: int, *, up: bool) -> None:
        """Give the device its attributes, names and addresses again, and set it up."""
        now, before = routes.link(index), device.before
        lost = b"".join(_differing(now, before)) + _ipv6_mode(now, before)
        if lost or (now.flags ^ before.flags) & _KEPT_FLAGS:
            routes.change(index, lost, flags=before.flags & _KEPT_FLAGS, mask=_KEPT_FLAGS)
        for name in set(before.alternative_names()) - set(now.alternative_names()):
            routes.add_alternative_name(index, name)
        for address in device.addresses:
            routes.add_address(_relabelled(address.replace(index=index), device.host_name, now.name))
        if up:
            routes.change(index, flags=wire.IFF_UP, mask=wire.IFF_UP)


def _is_same(link: "Link", device: _Device) -> bool:
    """Whether a device that is new in the namespace is the one that was sent, under whichever name."""
    start, pattern, _end = device.name.partition("%")
    named = link.name in {device.name, device.host_name} or (bool(pattern) and link.name.startswith(start))
    return named and link.get(wire.IFLA_ADDRESS) == device.before.get(wire.IFLA_ADDRESS)


def _differing(now: "Link", before: "Link") -> list[bytes]:
    wanted = [(kind, before.get(kind)) for kind in _KEPT_ATTRIBUTES]
    return [attribute(kind, value) for kind, value in wanted if value is not None and value != now.get(kind)]


def _ipv6_mode(now: "Link", before: "Link") -> bytes:
    """How the device makes its own IPv6 addresses (ip-link(8), `addrgenmode`): it would start anew with the default."""
    wanted, there = _mode_of(before), _mode_of(now)
    if not wanted or wanted == there or wanted[0] == _STABLE_PRIVACY:
        return b""
    return nested(wire.IFLA_AF_SPEC, nested(_AF_INET6, attribute(_IFLA_INET6_ADDR_GEN_MODE, wanted)))


def _mode_of(link: "Link") -> bytes:
    for family, inner in wire.attributes(link.get(wire.IFLA_AF_SPEC) or b""):
        if family == _AF_INET6:
            return next((value for kind, value in wire.attributes(inner) if kind == _IFLA_INET6_ADDR_GEN_MODE), b"")
    return b""


def _is_kept(address: "Address") -> bool:
    return bool(address.flags & rtnetlink.IFA_F_PERMANENT) and address.scope == rtnetlink.RT_SCOPE_UNIVERSE


def _kept(address: "Address") -> "Address":
    flags = address.flags & _KEPT_ADDRESS_FLAGS
    found = [(kind, value) for kind, value in address.attributes if kind in _KEPT_OF_ADDRESS]
    found.append((wire.IFA_FLAGS, wire.U32.pack(flags)))
    return address.replace(flags=flags, attributes=tuple(found))


def _relabelled(address: "Address", old: str, new: str) -> "Address":
    """An IPv4 label is the device's name and something after it; the kernel renames it with the device."""
    changed = []
    for kind, value in address.attributes:
        if kind != rtnetlink.IFA_LABEL:
            changed.append((kind, value))
            continue
        label = wire.text_of(value)
        wanted = new + label[len(old) :] if label.startswith(old) else label
        if len(wanted) <= _LABEL_BYTES:
            changed.append((kind, wire.text(wanted)))
    return address.replace(attributes=tuple(changed))
