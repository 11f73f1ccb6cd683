"""systemd over D-Bus: the transient unit around a container (org.freedesktop.systemd1(5)).

jeepney is loaded here and nowhere else, and only where the systemd driver is asked for.
"""

import errno
import os

from boxwright.errors import HostError, UnsupportedError
from boxwright.host.cgroups import read
from boxwright.plan.cgroup_layout import CgroupPlacement
from boxwright.plan.systemd_unit import resource_properties, systemd_properties

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Self

    from jeepney import Message  # type: ignore[import-untyped]
    from jeepney.io.blocking import DBusConnection  # type: ignore[import-untyped]

    from boxwright.plan.systemd_unit import Property
    from boxwright.spec.types import Config, Resources

BUS_NAME = "org.freedesktop.systemd1"
OBJECT = "/org/freedesktop/systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
JOB_SECONDS = 30.0
_UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"
_NOT_THERE = ("org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.UnknownObject")


def start_unit(config: "Config", placement: CgroupPlacement, pid: int) -> None:
    """Start the container's unit around the process `pid` and wait until it is in its group.

    A failed unit of that name is reset first. Raises HostError, and UnsupportedError without jeepney.
    """
    properties = systemd_properties(config, placement, device_drivers())
    if placement.unit.endswith(".scope"):
        properties += (("PIDs", "au", [pid]),)
    with Manager(placement.user) as manager:
        manager.start_transient(placement.unit, properties)


def update_unit(resources: "Resources", placement: CgroupPlacement) -> None:
    """Tell systemd the limits that it has properties for, lest it sets the old ones again. Raises HostError."""
    properties = resource_properties(resources, placement)
    if properties:
        with Manager(placement.user) as manager:
            manager.set_properties(placement.unit, properties)


def stop_unit(placement: CgroupPlacement) -> None:
    """Stop the container's unit, and reset it if it failed; one that is gone is no error. Raises HostError."""
    with Manager(placement.user) as manager:
        manager.stop(placement.unit)
        manager.reset_failed(placement.unit)


def device_drivers() -> dict[tuple[str, int], str]:
    """The drivers of /proc/devices by (`c` or `b`, major number)."""
    found: dict[tuple[str, int], str] = {}
    kind = "c"
    for line in read("/proc/devices").splitlines():
        if line.endswith("devices:"):
            kind = line[0].lower()
        elif line.strip():
            major, name = line.split(None, 1)
            found.setdefault((kind, int(major)), name)
    return found


class Manager:
    """A conversation with the system's manager, or with the user's own."""

    def __init__(self, user: bool = False) -> None:
        try:
            from jeepney import DBusErrorResponse
            from jeepney.io.blocking import open_dbus_connection
        except ModuleNotFoundError as error:
            hint = "install `boxwright[systemd]`, or use the cgroupfs driver"
            raise UnsupportedError("--systemd-cgroup", "linux", "jeepney is not installed", hint=hint) from error
        self._refused = DBusErrorResponse
        address = _user_bus() if user else "SYSTEM"
        try:
            self._connection: DBusConnection = open_dbus_connection(address)
        except OSError as error:
            raise HostError("connect to systemd's message bus", error.errno or 0) from error

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def start_transient(self, unit: str, properties: "Iterable[Property]") -> None:
        """StartTransientUnit, waiting for its job. Raises HostError (EEXIST for a unit that runs)."""
        message = start_message(unit, properties)
        try:
            self._job(message, unit, "start")
        except HostError as error:
            if error.errno != errno.EEXIST:
                raise
            self.reset_failed(unit)
            self._job(message, unit, "start")

    def set_properties(self, unit: str, properties: "Iterable[Property]") -> None:
        """SetUnitProperties for as long as the unit lives. Raises HostError."""
        self._call(set_message(unit, properties), f"set properties of unit `{unit}`")

    def stop(self, unit: str) -> None:
        """StopUnit, waiting for its job; a unit that is gone is no error. Raises HostError."""
        try:
            self._job(manager_call("StopUnit", "ss", (unit, "replace")), unit, "stop")
        except HostError as error:
            if error.errno != errno.ENOENT:
                raise

    def reset_failed(self, unit: str) -> None:
        """ResetFailedUnit; a unit that is gone is no error. Raises HostError."""
        try:
            self._call(manager_call("ResetFailedUnit", "s", (unit,)), f"reset unit `{unit}`")
        except HostError as error:
            if error.errno != errno.ENOENT:
                raise

    def property(self, name: str) -> "Any":  # noqa: ANN401
        """A property of the manager, as `Version` or `ControlGroup`. Raises HostError."""
        from jeepney import DBusAddress, Properties

        address = DBusAddress(OBJECT, bus_name=BUS_NAME, interface=MANAGER)
        return self._call(Properties(address).get(name), f"read `{name}` of systemd")[0][1]

    def _job(self, message: "Message", unit: str, verb: str) -> None:
        """Call what makes a job, and wait until it has left the queue."""
        from jeepney import MatchRule, message_bus

        rule = MatchRule(type="signal", interface=MANAGER, member="JobRemoved", path=OBJECT)
        what = f"{verb} unit `{unit}`"
        self._call(message_bus.AddMatch(rule), what)
        self._call(manager_call("Subscribe"), what)
        with self._connection.filter(rule, bufsize=1000) as queue:
            job = self._call(message, what)[0]
            while True:
                try:
                    signal = self._connection.recv_until_filtered(queue, timeout=JOB_SECONDS)
                except TimeoutError as error:
                    raise HostError(f"{what} in {JOB_SECONDS:.0f} s", errno.ETIMEDOUT) from error
                _, path, _, result = signal.body
                if path == job:
                    break
        if result != "done":
            raise HostError(f"{what}, whose job ended as `{result}`", errno.EIO)

    def _call(self, message: "Message", what: str) -> "Any":  # noqa: ANN401
        from jeepney.wrappers import unwrap_msg  # type: ignore[import-untyped]

        try:
            return unwrap_msg(self._connection.send_and_get_reply(message, timeout=JOB_SECONDS))
        except self._refused as error:
            raise HostError(f"{what} ({error.name}: {error.data})", _errno_of(error.name)) from error
        except TimeoutError as error:
            raise HostError(what, errno.ETIMEDOUT) from error
        except OSError as error:
            raise HostError(what, error.errno or errno.EIO) from error


def _errno_of(name: str) -> int:
    if name == _UNIT_EXISTS:
        return errno.EEXIST
    if name in _NOT_THERE:
        return errno.ENOENT
    return errno.EACCES if name.endswith((".AccessDenied", ".InteractiveAuthorizationRequired")) else errno.EIO


def _user_bus() -> str:
    """The session bus of the environment, else the user's own in its runtime directory."""
    if os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return "SESSION"
    directory = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return f"unix:path={directory}/bus"


# --- messages ---------------------------------------------------------------------------------------------------


def manager_call(method: str, signature: str | None = None, body: "tuple[Any, ...]" = ()) -> "Message":
    """A call of the manager."""
    from jeepney import DBusAddress, new_method_call

    return new_method_call(DBusAddress(OBJECT, bus_name=BUS_NAME, interface=MANAGER), method, signature, body)


def start_message(unit: str, properties: "Iterable[Property]") -> "Message":
    """StartTransientUnit(unit, "replace", properties, no auxiliary units)."""
    return manager_call("StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "replace", _variants(properties), []))


def set_message(unit: str, properties: "Iterable[Property]") -> "Message":
    """SetUnitProperties(unit, for this life only, properties)."""
    return manager_call("SetUnitProperties", "sba(sv)", (unit, True, _variants(properties)))


def _variants(properties: "Iterable[Property]") -> "list[tuple[str, tuple[str, object]]]":
    return [(name, (signature, value)) for name, signature, value in properties]
