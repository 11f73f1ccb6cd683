"""systemd's names, properties and messages for a container."""

import os
import socket
import threading
from typing import Any

import pytest
from cgroup_hosts import HYBRID, V1, V2, config

from boxwright.errors import ConfigError, UnsupportedError
from boxwright.plan.cgroup_layout import CgroupLayout, Hierarchy
from boxwright.plan.cgroups import place
from boxwright.plan.systemd_unit import annotation_properties, expand_slice, mask_bytes, systemd_properties
from boxwright.spec.types import Config

INFINITY = (1 << 64) - 1


def properties(resources: dict[str, Any], layout: CgroupLayout = V2) -> dict[str, Any]:
    wanted = config(resources, path="a.slice:box:one")
    found = systemd_properties(wanted, place(wanted, layout, "id", "systemd"))
    return {name: value for name, _, value in found}


def test_slice_prefix_and_name() -> None:
    placement = place(config(path="a-b.slice:box:one"), HYBRID, "id", "systemd")
    assert (placement.slice, placement.unit) == ("a-b.slice", "box-one.scope")
    assert [group.path for group in placement.groups][:2] == [
        "/cg/cpu,cpuacct/a.slice/a-b.slice/box-one.scope",
        "/cg/memory/a.slice/a-b.slice/box-one.scope",
    ]


@pytest.mark.parametrize(
    ("path", "slice_name", "unit"),
    [
        (None, "system.slice", "boxwright-id.scope"),
        (":box:one", "system.slice", "box-one.scope"),
        ("::one", "system.slice", "one.scope"),
        ("a.slice:box:one.slice", "a.slice", "one.slice"),
    ],
)
def test_defaults_of_names(path: str | None, slice_name: str, unit: str) -> None:
    placement = place(config(path=path), V2, "id", "systemd")
    assert (placement.slice, placement.unit) == (slice_name, unit)


@pytest.mark.parametrize(
    "path", ["/a/b", "a:b", "a.slice:b:", "a:b:c", "-a.slice:b:c", "a--b.slice:b:c", ".slice:b:c", "a.slice:b:c/d"]
)
def test_other_forms_are_refused(path: str) -> None:
    with pytest.raises(ConfigError):
        place(config(path=path), V2, "id", "systemd")


def test_the_root_slice_is_the_root() -> None:
    assert expand_slice("-.slice") == ""


def test_a_users_unit_is_below_its_manager() -> None:
    own = "/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope"
    layout = CgroupLayout("v2", (Hierarchy(2, ("memory",), "/cg", own),), rootless=True, delegated="/user.slice")
    placement = place(config(path=None), layout, "id", "systemd")
    assert placement.user
    assert placement.groups[0].path == "/cg/user.slice/user-1000.slice/user@1000.service/user.slice/boxwright-id.scope"
    elsewhere = layout.replace(hierarchies=(Hierarchy(2, ("memory",), "/cg", "/user.slice/session-1.scope"),))
    with pytest.raises(UnsupportedError):
        place(config(path=None), elsewhere, "id", "systemd")


def test_a_scope_is_delegated_and_a_slice_is_not() -> None:
    assert properties({})["Delegate"] is True
    assert properties({})["Slice"] == "a.slice"
    wanted = config(path="a.slice:box:b.slice")
    found = {name: value for name, _, value in systemd_properties(wanted, place(wanted, V2, "id", "systemd"))}
    assert "Delegate" not in found
    assert found["Wants"] == ["a.slice"]


def test_limits_of_v2() -> None:
    found = properties(
        {
            "memory": {"limit": 100, "swap": 300, "reservation": 50},
            "cpu": {"shares": 1024, "quota": 12345, "period": 100000, "cpus": "0,9", "mems": "0"},
            "pids": {"limit": -1},
        }
    )
    assert (found["MemoryMax"], found["MemorySwapMax"], found["MemoryLow"]) == (100, 200, 50)
    assert (found["CPUWeight"], found["CPUQuotaPeriodUSec"]) == (100, 100000)
    assert found["CPUQuotaPerSecUSec"] == 130000  # 12.345 % is rounded up to whole percents
    assert (found["AllowedCPUs"], found["AllowedMemoryNodes"]) == (b"\x01\x02", b"\x01")
    assert found["TasksMax"] == INFINITY
    assert "DevicePolicy" not in found


def test_limits_of_v1() -> None:
    found = properties({"memory": {"limit": -1}, "cpu": {"shares": 512, "quota": -1}}, V1)
    assert (found["MemoryLimit"], found["CPUShares"], found["CPUQuotaPerSecUSec"]) == (INFINITY, 512, INFINITY)


def test_idle_is_weight_0() -> None:
    assert properties({"cpu": {"idle": 1, "shares": 5}})["CPUWeight"] == 0


def test_v1_devices_are_systemds_too() -> None:
    wanted = config({"devices": [{"allow": True, "type": "b", "major": 8, "access": "r"}]}, path=None)
    found = systemd_properties(wanted, place(wanted, V1, "id", "systemd"), {("b", 8): "sd"})
    values = {name: value for name, _, value in found}
    assert values["DevicePolicy"] == "strict"
    assert ("block-sd", "r") in values["DeviceAllow"]
    assert ("/dev/char/1:3", "rwm") in values["DeviceAllow"]
    assert ("char-pts", "rwm") in values["DeviceAllow"]
    assert ("char-*", "m") in values["DeviceAllow"]
    assert properties({"devices": [{"allow": True}]}, V1)["DevicePolicy"] == "auto"


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,,2", "-1", "0x3"])
def test_lists_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        mask_bytes(text)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("CollectMode", "'inactive-or-failed'", ("CollectMode", "s", "inactive-or-failed")),
        ("SendSIGHUP", "true", ("SendSIGHUP", "b", True)),
        ("TimeoutStopUSec", "uint64 123456789", ("TimeoutStopUSec", "t", 123456789)),
        ("TimeoutStopSec", "1.5", ("TimeoutStopUSec", "t", 1500000)),
        ("OOMScoreAdjust", "-5", ("OOMScoreAdjust", "i", -5)),
        ("After", "['a.service', 'b.service']", ("After", "as", ["a.service", "b.service"])),
    ],
)
def test_annotations_are_properties(name: str, text: str, expected: tuple[str, str, Any]) -> None:
    assert annotation_properties(Config("1.3.0", annotations={f"org.systemd.property.{name}": text})) == [expected]


def test_other_annotations_are_not() -> None:
    assert annotation_properties(Config("1.3.0", annotations={"org.systemd.propertyX": "1", "a": "b"})) == []
    with pytest.raises(UnsupportedError):
        annotation_properties(Config("1.3.0", annotations={"org.systemd.property.X": "<(1, 2)>"}))


# --- messages -----------------------------------------------------------------------------------------------------


def test_the_start_of_a_scope_is_a_message() -> None:
    from jeepney import Parser

    from boxwright.host.systemd import start_message

    wanted = config({"cpu": {"cpus": "0"}, "pids": {"limit": 5}}, path="a.slice:box:one")
    found = (*systemd_properties(wanted, place(wanted, V1, "id", "systemd")), ("PIDs", "au", [77]))
    message = start_message("box-one.scope", found)
    (again,) = Parser().feed(message.serialise(serial=1))
    unit, mode, values, auxiliary = again.body
    assert (unit, mode, auxiliary) == ("box-one.scope", "replace", [])
    assert dict(values)["PIDs"] == ("au", [77])
    assert dict(values)["AllowedCPUs"] == ("ay", b"\x01")
    assert dict(values)["Delegate"] == ("b", True)


class Bus:
    """A message bus with a manager on it that says what it is asked to, over a real socket."""

    def __init__(self, path: str, results: list[str]) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._results = results
        self.asked: list[tuple[str, Any]] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            self._authenticate(connection)
            self._answer(connection)

    def _authenticate(self, connection: socket.socket) -> None:
        got = b""
        while not got.endswith(b"BEGIN\r\n"):
            got += connection.recv(1)
            if got.endswith(b"\r\n") and b"AUTH" in got and not got.endswith(b"BEGIN\r\n"):
                connection.sendall(b"OK 00000000000000000000000000000000\r\n")
                got = b""

    def _answer(self, connection: socket.socket) -> None:
        from jeepney import HeaderFields, Parser, new_error, new_method_return

        parser, serial = Parser(), 0
        while data := connection.recv(4096):
            for message in parser.feed(data):
                member = message.header.fields[HeaderFields.member]
                self.asked.append((member, message.body))
                serial += 1
                job = "/org/freedesktop/systemd1/job/9"
                if member == "Hello":
                    reply = new_method_return(message, "s", (":1.1",))
                elif member in {"StartTransientUnit", "StopUnit"}:
                    result = self._results.pop(0)
                    if result.startswith("org."):
                        reply = new_error(message, result, "s", ("no",))
                    else:
                        connection.sendall(self._removed(job, result, message.body[0]).serialise(serial=serial))
                        serial += 1
                        reply = new_method_return(message, "o", (job,))
                else:
                    reply = new_method_return(message)
                connection.sendall(reply.serialise(serial=serial))

    @staticmethod
    def _removed(job: str, result: str, unit: str) -> Any:
        from jeepney import DBusAddress, new_signal

        emitter = DBusAddress("/org/freedesktop/systemd1", interface="org.freedesktop.systemd1.Manager")
        return new_signal(emitter, "JobRemoved", "uoss", (9, job, unit, result))


@pytest.fixture
def bus(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = []

    def make(*results: str) -> Bus:
        path = os.fspath(tmp_path / "bus")
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={path}")
        made.append(Bus(path, list(results)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def manager() -> Any:
    from boxwright.host.systemd import Manager

    return Manager(user=True)


def test_a_unit_is_started_once_its_job_is_done(bus: Any) -> None:
    served = bus("done")
    with manager() as talk:
        talk.start_transient("x.scope", [("PIDs", "au", [5])])
    assert [member for member, _ in served.asked] == ["Hello", "AddMatch", "Subscribe", "StartTransientUnit"]


def test_a_failed_unit_of_that_name_is_reset_first(bus: Any) -> None:
    served = bus("org.freedesktop.systemd1.UnitExists", "done")
    with manager() as talk:
        talk.start_transient("x.scope", [])
    assert [member for member, _ in served.asked if member not in {"Hello", "AddMatch", "Subscribe"}] == [
        "StartTransientUnit",
        "ResetFailedUnit",
        "StartTransientUnit",
    ]


def test_a_job_that_fails_is_an_error(bus: Any) -> None:
    from boxwright.errors import HostError

    bus("failed")
    with manager() as talk, pytest.raises(HostError, match="ended as `failed`"):
        talk.start_transient("x.scope", [])


def test_stopping_what_is_gone_is_no_error(bus: Any) -> None:
    bus("org.freedesktop.systemd1.NoSuchUnit")
    with manager() as talk:
        talk.stop("x.scope")


def test_no_bus_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from boxwright.errors import HostError

    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(tmp_path))
    with pytest.raises(HostError, match="message bus"):
        manager()
