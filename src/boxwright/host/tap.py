"""A tap device in the network namespace of the calling thread, by its descriptor (Linux: networking/tuntap)."""

import os
from errno import EBUSY, ENOENT, EPERM
from fcntl import ioctl
from struct import Struct

from boxwright.errors import HostError

DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_TUN_EXCL = 0x0002, 0x1000, 0x4000, 0x8000
_IFREQ = Struct("16sH22x")
_HINTS = {
    ENOENT: "load the kernel's module `tun`",
    EPERM: "making a network device needs CAP_NET_ADMIN over the network namespace",
    EBUSY: "another machine is connected to this network namespace",
}


def open_tap(name: str) -> int:
    """Make a tap; its descriptor, with which it disappears. The caller owns it. Raises HostError."""
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | _IFF_TUN_EXCL
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode(), flags))
        except BaseException:
            os.close(fd)
            raise
    except OSError as error:
        number = error.errno or 0
        raise HostError(f"make the tap `{name}`", number, path=DEVICE, hint=_HINTS.get(number)) from None
    return fd
