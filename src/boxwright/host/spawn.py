"""Start the helper on a plan and follow what it answers.

The helper runs from a sealed copy of itself in memory, so nothing a container does can reach the file on disk
(CVE-2019-5736), and the interpreter is never forked.
"""

import fcntl
import os
from _signal import SIGKILL
from _socket import AF_UNIX, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socketpair
from _thread import allocate_lock
from struct import Struct

from boxwright.errors import BoxwrightError
from boxwright.host.processes import HELPER_NAME
from boxwright.plan import ops
from boxwright.plan.encode import encode
from boxwright.plan.ops import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Sequence
    from typing import Protocol

    Upcalls = Callable[[int, int], int]

    class EncodedPlan(Protocol):
        """A plan that is encoded already."""

        data: bytes
        inherited: tuple[str, ...]

        @property
        def plan(self) -> Plan:
            """The plan itself."""


_RECORD = Struct("<IIIiq")
_SEALS = 0x0001 | 0x0002 | 0x0004 | 0x0008  # seal, shrink, grow, write
_F_ADD_SEALS = 1033
_REPORT_BYTES = 4096
_WALL = 0x40000000
_HIGH_FD = 128  # our own descriptors go above what the plan hands over
_helper_fd = -1
_helper_lock = allocate_lock()


class Report:
    """One answer of the helper: what kind, who, which step, errno, a value and a text."""

    __slots__ = ("actor", "errno", "fds", "kind", "op", "text", "value")

    def __init__(self, data: bytes, fds: "Sequence[int]") -> None:
        self.kind, self.actor, self.op, self.errno, self.value = _RECORD.unpack_from(data)
        self.text = data[_RECORD.size :].decode("utf-8", "replace")
        self.fds = tuple(fds)


def helper_path() -> str:
    """Where the helper's binary is: beside the package, or as BOXWRIGHT_HELPER says."""
    named = os.environ.get("BOXWRIGHT_HELPER")
    if named:
        return named
    return os.path.join(os.path.dirname(os.path.dirname(__file__)), "_native", "boxwright-helper")


def sealed_helper() -> int:
    """A descriptor of the sealed in-memory copy of the helper; made once in a process."""
    global _helper_fd  # noqa: PLW0603 - one copy serves the whole process
    with _helper_lock:
        if _helper_fd < 0:
            _helper_fd = _seal(helper_path())
        return _helper_fd


def _seal(path: str) -> int:
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise BoxwrightError(
            f"the helper `{path}` is missing", hint="build it with `make helper`, or set BOXWRIGHT_HELPER"
        ) from None
    try:
        copy = os.memfd_create(HELPER_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        size = os.fstat(source).st_size
        while size > 0:
            size -= os.sendfile(copy, source, None, size)
    finally:
        os.close(source)
    fcntl.fcntl(copy, _F_ADD_SEALS, _SEALS)
    sealed = fcntl.fcntl(copy, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD)
    os.close(copy)
    return sealed


def _plan_file(data: bytes) -> int:
    fd = os.memfd_create("boxwright-plan", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return fd


class Helper:
    """A helper at work on a plan. `pid` is the init's once known; the helper's own processes are reaped by `finish`."""

    def __init__(
        self,
        plan: "Plan | EncodedPlan",
        inherited: "Sequence[int]",
        preserve_fds: int = 0,
        stdio: "Sequence[int]" = (),
    ) -> None:
        """Start it. `inherited` are the descriptors for the plan's first slots, `stdio` what becomes the program's
        standard input, output and error (ours if empty). All are borrowed: they stay the caller's.
        """
        if len(inherited) != len(plan.inherited):
            raise ValueError(f"the plan wants {plan.inherited}, given {len(inherited)} descriptors")
        self._plan = plan
        self.pid = 0
        self._joiner = 0
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
        self.socket: socket = ours
        plan_fd = _plan_file(encode(plan) if isinstance(plan, Plan) else plan.data)
        try:
            self._helper = _spawn((plan_fd, theirs.fileno(), *inherited), 3 + preserve_fds, stdio)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(plan_fd)

    @property
    def plan(self) -> Plan:
        """What it works on."""
        return self._plan if isinstance(self._plan, Plan) else self._plan.plan

    def next(self) -> Report | None:
        """The next report, or None when every actor has ended or executed the program. Blocks."""
        report = receive(self.socket)
        if report is None:
            return None
        if report.kind == ops.CHILD_PID:
            self.pid = report.value
        elif report.kind == ops.JOINER_PID:
            self._joiner = report.value
        return report

    def answer(self, errno: int) -> None:
        """Answer an UPCALL."""
        self.socket.send(errno.to_bytes(8, "little", signed=True))

    def abort(self) -> None:
        """Kill the helper's own processes; what they reported of an init is known afterwards."""
        for pid in (self._helper, self._joiner):
            _kill(pid)
        self.socket.setblocking(False)
        try:
            while (report := self.next()) is not None:
                for fd in report.fds:
                    os.close(fd)
        except BlockingIOError:
            return  # an init is left that has its end still open

    def finish(self) -> None:
        """Close our end and reap the helper's own processes (not the init)."""
        self.socket.close()
        for pid, flags in ((self._helper, 0), (self._joiner, _WALL)):
            if pid:
                _reap(pid, flags)


def receive(sock: "socket") -> Report | None:
    """One report from a report socket; None at its end."""
    try:
        data, ancillary, _flags, _address = sock.recvmsg(_REPORT_BYTES, 256, MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        # said once, where the other end died with an answer of ours unread; what it has sent before is still there
        data, ancillary, _flags, _address = sock.recvmsg(_REPORT_BYTES, 256, MSG_CMSG_CLOEXEC)
    if len(data) < _RECORD.size:
        return None
    return Report(data, [fd for item in ancillary for fd in descriptors(item)])


def descriptors(item: "tuple[int, int, bytes]") -> list[int]:
    """The descriptors in one piece of ancillary data (unix(7)); ours from then on."""
    level, kind, data = item
    if level != SOL_SOCKET or kind != SCM_RIGHTS:
        return []
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data) - 3, 4)]


def _spawn(fds: "Sequence[int]", base: int, stdio: "Sequence[int]") -> int:
    numbers = [*range(len(stdio)), *range(base, base + len(fds))]
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD + base + len(fds)) for fd in (*stdio, *fds)]
    helper = sealed_helper()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in zip(high, numbers, strict=True)]
        return os.posix_spawn(f"/proc/self/fd/{helper}", [HELPER_NAME, str(base)], {}, file_actions=actions)
    finally:
        for fd in high:
            os.close(fd)


def _kill(pid: int) -> None:
    """A child that has not been reaped by us."""
    try:
        if pid:
            os.kill(pid, SIGKILL)
    except ProcessLookupError:
        return  # somebody else's SIGCHLD handling reaped it


def _reap(pid: int, flags: int) -> None:
    try:
        os.waitpid(pid, flags)
    except ChildProcessError:
        return  # somebody else's SIGCHLD handling reaped it
