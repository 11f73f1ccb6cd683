"""The way from a jail's network namespace to the host's: `slirp4netns`, a process beside the machine.

It ends with the hypervisor, which holds the other end of a pipe that it watches. It forwards to the host's addresses
but those of the host's loopback, and answers no name lookups itself: its own resolver is the host's, wherever that is.
"""

import os
import select
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket
from time import monotonic, sleep

from boxwright.boxes.vm.network import FIRST_FORWARD, JAIL_ADDRESS, JAIL_NETWORK, UPLINK, UPLINK_PLACES
from boxwright.errors import HostError
from boxwright.host.processes import start_time
from boxwright.host.spawn import Helper
from boxwright.plan import ops
from boxwright.plan.builder import Builder
from boxwright.runtime.following import Follower
from boxwright.spec.jsontext import encode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.boxes.vm.network import Published
    from boxwright.plan.ops import Plan
    from boxwright.runtime.containers import Container

LOG = "slirp4netns.log"
_API = "slirp4netns"
_EXIT_FD, _READY_FD, _DIRECTORY_FD = 3, 4, 5
_READY_S = 10.0
_MTU = 65520  # of a network without wires: the larger, the fewer packets to handle
_ANSWER_BYTES = 4096
_OPEN = "is /dev/net/tun there, and may you open it?"
_HINT = "install `slirp4netns`, or give the container a network namespace"


class Uplink:
    """The connection of one machine, not yet begun. What is not handed on is closed by `close`."""

    def __init__(self, container: "Container", wanted: "tuple[Published, ...]") -> None:
        """Raises HostError if there is no slirp4netns."""
        self._container = container
        self._wanted = wanted
        if not any(os.access(f"{directory}/{UPLINK}", os.X_OK) for directory in UPLINK_PLACES):
            raise HostError("connect a machine to the host's network", 0, cause=f"there is no `{UPLINK}`", hint=_HINT)
        self._watched, self._held = os.pipe2(os.O_CLOEXEC)
        self._ready = -1

    def held(self) -> int:
        """The descriptor that the hypervisor is to hold: the caller's from now on."""
        fd, self._held = self._held, -1
        return fd

    def close(self) -> None:
        """Close what is ours."""
        for fd in (self._watched, self._held, self._ready):
            if fd >= 0:
                os.close(fd)
        self._watched = self._held = self._ready = -1

    def start(self, pid: int) -> None:
        """Connect the network namespace of the process. Raises HostError; `wait` tells when it is connected."""
        self._ready, ready = os.pipe2(os.O_CLOEXEC)
        directory = os.open(self._container.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        log = os.open(self._container.path(LOG), flags, 0o600)
        try:
            stdio = (null, log, log, self._watched, ready, directory)
            started = self._run(Helper(_plan(pid, api=bool(self._wanted)), (), 3, stdio))
        finally:
            for fd in (ready, directory, null, log):
                os.close(fd)
        self._container.write(network={"uplink": started, "started": start_time(started)})

    def _run(self, helper: Helper) -> int:
        try:
            return Follower(self._container.runtime, helper, self._container.config()).until_executed().pid
        finally:
            helper.finish()

    def wait(self) -> None:
        """Until it is connected, and what is published is. Raises HostError."""
        poll = select.poll()
        poll.register(self._ready, select.POLLIN)
        if not poll.poll(_READY_S * 1000) or not os.read(self._ready, 1):
            what, cause = "connect the machine to the host's network", f"`{UPLINK}` failed"
            raise HostError(what, 0, cause=cause, notes=self._said(), hint=_OPEN)
        for index, one in enumerate(self._wanted):
            self._publish(one, FIRST_FORWARD + index)
        if self._wanted:
            os.unlink(self._container.path(_API))

    def _said(self) -> list[str]:
        with open(self._container.path(LOG), encoding="utf-8", errors="replace") as file:
            return [line.rstrip() for line in file.readlines()[-5:]]

    def _publish(self, one: "Published", port: int) -> None:
        arguments = {
            "proto": one.protocol,
            "host_addr": one.address,
            "host_port": one.host_port,
            "guest_addr": JAIL_ADDRESS,
            "guest_port": port,
        }
        answer = self._ask(encode_json({"execute": "add_hostfwd", "arguments": arguments}).encode())
        if b'"error"' in answer:
            what = f"publish port {one.port} of the machine at `{one.address}:{one.host_port}/{one.protocol}`"
            hint = "is the port in use, or below 1024 and you not root?"
            raise HostError(what, 0, cause=f"`{UPLINK}` refused it", pointer="/annotations", hint=hint)

    def _ask(self, request: bytes) -> bytes:
        """One request a connection. It listens once it is connected, or a moment later."""
        deadline_s = monotonic() + _READY_S
        while True:
            sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
            directory = os.open(self._container.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                sock.settimeout(_READY_S)
                sock.connect(f"/proc/self/fd/{directory}/{_API}")
                sock.sendall(request)
                sock.shutdown(1)
                return sock.recv(_ANSWER_BYTES)
            except (FileNotFoundError, ConnectionRefusedError):
                if monotonic() > deadline_s:
                    raise
            except TimeoutError:
                return b'{"error"'
            finally:
                sock.close()
                os.close(directory)
            sleep(0.005)


def _plan(pid: int, *, api: bool) -> "Plan":
    """Execute it in a session of its own."""
    argv = [UPLINK, "--configure", f"--mtu={_MTU}", f"--cidr={JAIL_NETWORK}", "--disable-host-loopback"]
    argv += ["--disable-dns", "--enable-sandbox", "--enable-seccomp"]
    argv += [f"--exit-fd={_EXIT_FD}", f"--ready-fd={_READY_FD}"]
    argv += [f"--api-socket=/proc/self/fd/{_DIRECTORY_FD}/{_API}"] if api else []
    path = ":".join(UPLINK_PLACES)
    b = Builder(())
    b.add(ops.OUTER, ops.Clone(0, ops.NO_SLOT), about=UPLINK)
    b.add(ops.INIT, ops.NewSession())
    b.add(ops.INIT, ops.FindProgram(UPLINK, path), about=UPLINK)
    b.add(ops.INIT, ops.Ready())
    b.add(ops.INIT, ops.Exec((*argv, str(pid), "uplink"), (f"PATH={path}",)))
    return b.build()
