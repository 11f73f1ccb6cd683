"""Readiness of a service in a container, told to the service manager outside: a proxy of sd_notify(3).

The container gets a socket of its own: the manager's would let it speak with the manager unchecked, and the manager
would not know the sender. Loaded only where NOTIFY_SOCKET is set.
"""

import os
import select
from _socket import AF_UNIX, MSG_CMSG_CLOEXEC, MSG_DONTWAIT, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_DGRAM, SOL_SOCKET, socket

from boxwright.errors import HostError
from boxwright.host.processes import open_pidfd
from boxwright.host.spawn import descriptors
from boxwright.spec.types import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.containers import Container
    from boxwright.runtime.context import Runtime
    from boxwright.spec.types import Config

DIRECTORY = "notify"
_MOUNT_POINT = "/run/notify"
_NAME = "notify"
_VARIABLE = "NOTIFY_SOCKET"
# what a service may tell the manager of itself; MAINPID is ours to say, and descriptors are not handed on
_PASSED_ON = frozenset(
    {
        b"BUSERROR",
        b"ERRNO",
        b"EXIT_STATUS",
        b"EXTEND_TIMEOUT_USEC",
        b"MONOTONIC_USEC",
        b"READY",
        b"RELOADING",
        b"STATUS",
        b"STOPPING",
        b"WATCHDOG",
        b"WATCHDOG_USEC",
    }
)
_MESSAGE_BYTES = 4096
_ANCILLARY_BYTES = 1024
_BARRIER_MS = 5000


def make_directory(container: "Container") -> None:
    """The directory that is mounted in the container; the socket is bound in it before the program runs."""
    os.mkdir(container.path(DIRECTORY), 0o755)


def mount_point() -> str:
    """Where the container has the directory: at the path of the manager's socket, as programs may have been told."""
    manager = os.environ.get(_VARIABLE, "")
    return os.path.normpath(manager) if manager.startswith("/") else _MOUNT_POINT


def with_notify(config: "Config", container: "Container") -> "Config":
    """The configuration with the directory mounted, and the variable for the program."""
    options = ("bind", "nosuid", "noexec", "nodev", "ro")
    place = mount_point()
    mount = Mount(place, "bind", container.path(DIRECTORY), options)
    config = config.replace(mounts=(*config.mounts, mount))
    if config.process is None:
        return config
    others = (entry for entry in config.process.env if not entry.startswith(f"{_VARIABLE}="))
    env = (*others, f"{_VARIABLE}={place}/{_NAME}")
    return config.replace(process=config.process.replace(env=env))


class NotifyProxy:
    """Takes what the container says on its socket and passes it on to the manager's."""

    def __init__(self, container: "Container", manager: str) -> None:
        """Bind the container's socket. `manager` is the address of NOTIFY_SOCKET. Raises HostError."""
        self._runtime: Runtime = container.runtime
        self._said = False
        self.pid = 0  # the main process, as the manager knows it
        self._manager = b"\0" + os.fsencode(manager[1:]) if manager.startswith("@") else os.fsencode(manager)
        self._socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
        directory = container.path(DIRECTORY)
        try:
            _bind(self._socket, directory)
        except OSError as error:
            self._socket.close()
            raise HostError(f"bind the notify socket in `{directory}`", error.errno or 0, path=directory) from error

    def fileno(self) -> int:
        """Readable when `forward` has something to do."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()

    def forward(self) -> bool:
        """Pass on what is there; whether the service is ready by it."""
        ready = False
        while (message := self._receive()) is not None:
            lines = [line for line in message.split(b"\n") if line.partition(b"=")[0] in _PASSED_ON]
            if lines:
                self._send(b"\n".join(lines))
            if b"READY=1" in lines:
                ready = True
                self._send(b"MAINPID=%d" % self.pid)
        return ready

    def until_ready(self, container: "Container") -> None:
        """Pass messages on until the service is ready, or the container has ended."""
        self.pid = container.pid
        pidfd = open_pidfd(container.pid, container.started_at)
        try:
            ended = pidfd < 0
            while not (self.forward() or ended):
                ended = self._wait(pidfd)
        finally:
            if pidfd >= 0:
                os.close(pidfd)
        self.settle()

    def _wait(self, pidfd: int) -> bool:
        """Wait for a message or the end of the process; whether it has ended."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        return any(fd == pidfd for fd, _events in poll.poll())

    def _receive(self) -> bytes | None:
        """One message, None if there is none. Descriptors that come along are closed, which answers a barrier."""
        try:
            message, ancillary, _flags, _sender = self._socket.recvmsg(
                _MESSAGE_BYTES, _ANCILLARY_BYTES, MSG_DONTWAIT | MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        for item in ancillary:
            for fd in descriptors(item):
                os.close(fd)
        return message

    def _send(self, message: bytes, descriptor: int = -1) -> bool:
        ancillary = [(SOL_SOCKET, SCM_RIGHTS, descriptor.to_bytes(4, "little"))] if descriptor >= 0 else []
        sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
        try:
            sender.sendmsg([message], ancillary, 0, self._manager)
        except OSError as error:
            name = os.fsdecode(self._manager)
            self._runtime.warn(f"cannot tell the service manager at `{name}`: {error.strerror}")
            return False
        finally:
            sender.close()
        self._said = True
        return True

    def settle(self) -> None:
        """Wait until the manager has read all that was passed on: it looks up who has sent, so the sender must not
        end before (sd_notify_barrier(3)).
        """
        if not self._said:
            return
        self._said = False
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            sent = self._send(b"BARRIER=1", theirs)
            os.close(theirs)
            if sent:
                poll = select.poll()
                poll.register(ours, 0)  # its other end is closed: POLLHUP
                poll.poll(_BARRIER_MS)
        finally:
            os.close(ours)


def _bind(sock: socket, directory: str) -> None:
    """Bind by a short path, whatever the length of ours; any user of the container may write."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.bind(f"/proc/self/fd/{fd}/{_NAME}")
        os.chmod(_NAME, 0o666, dir_fd=fd)
    finally:
        os.close(fd)
