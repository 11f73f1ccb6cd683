"""A client of QEMU's machine protocol: one command, one answer; what QEMU tells unasked is passed over.

See QEMU's docs/interop/qmp-spec.rst. One client at a time is served; a second one waits for its greeting.
"""

import os
import time
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket

from boxwright.errors import GuestError, HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self

TIMEOUT_S = 10.0
# a broken hypervisor must not fill our memory; the longest true answers are some ten thousand bytes
_GREATEST_LINE_BYTES = 1 << 20


class QmpError(GuestError):
    """QEMU refused a command. `kind` is its class of error (`GenericError`, `CommandNotFound` …)."""

    def __init__(self, command: str, kind: str, description: str) -> None:
        self.command = command
        self.kind = kind
        self.description = description
        super().__init__(f"the hypervisor refused `{command}`: {description}")


class Qmp:
    """A connection, with its capabilities agreed upon. Closed by leaving the `with`, or by `close`."""

    def __init__(self, connection: socket, timeout_s: float = TIMEOUT_S) -> None:
        """Take a connected socket and wait for the greeting. Raises HostError, GuestError as `execute` does."""
        self._socket = connection
        self._rest = b""
        try:
            greeting = self._line("greet", time.monotonic() + timeout_s)
            if "QMP" not in greeting:
                raise GuestError("what is connected does not greet as QEMU does")
            self.execute("qmp_capabilities", timeout_s=timeout_s)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection; the machine stays as it is."""
        self._socket.close()

    def execute(
        self, command: str, arguments: "Mapping[str, Any] | None" = None, *, timeout_s: float = TIMEOUT_S
    ) -> "Any":  # noqa: ANN401 - what QEMU's schema says of the command
        """What QEMU returns for a command.

        Raises QmpError where it refuses, GuestError where it speaks nonsense, HostError where it is gone or silent.
        """
        import json

        end = time.monotonic() + timeout_s
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = dict(arguments)
        self._send(command, json.dumps(request).encode() + b"\n", end)
        return self._answer(command, end)

    def _answer(self, command: str, end: float) -> "Any":  # noqa: ANN401 - what QEMU's schema says of the command
        while True:
            answer = self._line(command, end)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                error = answer["error"] if isinstance(answer["error"], dict) else {}
                raise QmpError(command, str(error.get("class", "")), str(error.get("desc", "no reason given")))

    def give(self, name: str, fd: int) -> None:
        """Give QEMU a descriptor under a name, for a later command. It stays ours too. Raises as `execute` does."""
        import json
        from array import array

        request = json.dumps({"execute": "getfd", "arguments": {"fdname": name}}).encode() + b"\n"
        try:
            self._socket.sendmsg([request], [(SOL_SOCKET, SCM_RIGHTS, array("i", [fd]).tobytes())])
        except OSError as error:
            raise _lost("getfd", error) from error
        self._answer("getfd", time.monotonic() + TIMEOUT_S)

    def _send(self, command: str, data: bytes, end: float) -> None:
        self._socket.settimeout(max(end - time.monotonic(), 0.001))
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise _lost(command, error) from error

    def _line(self, command: str, end: float) -> "dict[str, Any]":
        """The next object that QEMU sends."""
        import json

        while b"\n" not in self._rest:
            if len(self._rest) > _GREATEST_LINE_BYTES:
                raise GuestError(f"the hypervisor's answer to `{command}` has no end")
            self._rest += self._received(command, end)
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise GuestError(f"the hypervisor's answer to `{command}` is no JSON object")
        return found

    def _received(self, command: str, end: float) -> bytes:
        left_s = end - time.monotonic()
        try:
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            data = self._socket.recv(65536)
        except OSError as error:
            raise _lost(command, error) from error
        if not data:
            raise HostError(f"do `{command}` with the machine", 0, cause="its hypervisor has ended")
        return data


def connect(path: str, timeout_s: float = TIMEOUT_S) -> Qmp:
    """A connection to the socket on which a hypervisor listens. Raises HostError, GuestError."""
    connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        connection.settimeout(timeout_s)
        _connect(connection, path)
    except OSError as error:
        connection.close()
        raise HostError(f"reach the hypervisor at `{path}`", error.errno or 0, path=path) from error
    return Qmp(connection, timeout_s)


def _connect(connection: socket, path: str) -> None:
    """The address of a socket has 107 bytes at most: a longer path is gone by its directory's descriptor."""
    directory = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)


def _lost(command: str, error: OSError) -> HostError:
    cause = "its hypervisor does not answer" if isinstance(error, TimeoutError) else "its hypervisor is gone"
    return HostError(f"do `{command}` with the machine", error.errno or 0, cause=cause)
