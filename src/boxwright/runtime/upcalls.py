"""What the helper asks Python to do while a container is made: the things that need a library or a conversation."""

import errno

from boxwright.errors import BoxwrightError, HostError
from boxwright.plan.request import UPCALL_NET_DEVICES, UPCALL_NOTED, UPCALL_SYSTEMD_UNIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.host.netlink import MovedDevices
    from boxwright.plan.cgroup_layout import CgroupPlacement
    from boxwright.spec.types import Config


class Upcalls:
    """Answers the helper with an errno, and keeps the error itself for who follows the helper."""

    def __init__(self, config: "Config", placement: "CgroupPlacement") -> None:
        self._config = config
        self._placement = placement
        self._devices: MovedDevices | None = None
        self.error: BoxwrightError | None = None

    def __call__(self, token: int, pid: int) -> int:
        """Do what `token` names for the init `pid`."""
        try:
            self._do(token, pid)
        except BoxwrightError as error:
            self.error = error
            return error.errno if isinstance(error, HostError) else errno.EIO
        return 0

    def _do(self, token: int, pid: int) -> None:
        if token == UPCALL_SYSTEMD_UNIT:
            from boxwright.host.systemd import start_unit

            start_unit(self._config, self._placement, pid)
        elif token == UPCALL_NET_DEVICES and self._config.linux is not None:
            from boxwright.host.netlink import move_devices

            self._devices = move_devices(self._config.linux.net_devices, pid)
        elif token != UPCALL_NOTED:  # asked for its answer alone
            raise BoxwrightError(f"the helper asks for something unknown ({token})")

    def undo(self) -> None:
        """Bring back what would be lost with a container that cannot be made. Raises HostError."""
        if self._devices is not None:
            self._devices.put_back()

    def close(self) -> None:
        """Let go of what `undo` needs."""
        if self._devices is not None:
            self._devices.close()
            self._devices = None
