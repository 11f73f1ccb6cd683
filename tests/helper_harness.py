"""Runs the native helper with a plan and collects what it reports.

The helper's init is a child of the process that spawned the outer (CLONE_PARENT), so it is reaped here.
"""

import array
import fcntl
import os
import signal
import socket
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple, Self

from boxwright.plan import ops
from boxwright.plan.encode import encode
from boxwright.plan.ops import Op, Plan, Step
from lacks import find_program, need, need_program

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "native"
RECORD = struct.Struct("<IIIiq")
BASE = 3
OUT_OF_THE_WAY = 300  # above every descriptor number that a child is given

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWTIME = 0x10000000, 0x20000000, 0x40000000, 0x80
MS_REC, MS_PRIVATE, MS_SLAVE = 0x4000, 1 << 18, 1 << 19

# A plan that mounts begins so: what it does is seen by nobody else, and is gone with its processes.
PRIVATE = (ops.Unshare(CLONE_NEWNS), ops.SetPropagation("/", MS_REC | MS_PRIVATE))


class Report(NamedTuple):
    """One record of the helper."""

    kind: int
    actor: int
    op: int
    error: int
    value: int
    text: str
    fds: tuple[int, ...] = ()


def helper_path() -> Path:
    """The helper, built from the present sources; skips by name where no C compiler is."""
    need("C compiler", find_program("musl-gcc") or find_program("cc"))
    need_program("make")
    with open(NATIVE / "Makefile", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["make", "-s", "-C", str(NATIVE)], check=True)
    return NATIVE / "build" / "boxwright-helper"


def plan_of(outer=(), joiner=(), init=(), inherited=(), slots=64) -> Plan:
    """A plan of bare operations or steps."""

    def steps(items):
        return tuple(item if isinstance(item, Step) else Step(item) for item in items)

    return Plan(steps(outer), steps(joiner), steps(init), tuple(inherited), slots)


def plan_fd(data: bytes) -> int:
    """A sealed memfd that holds `data`."""
    fd = os.memfd_create("plan", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return fd


class Running:
    """A helper at work. `with` it, and nothing is left behind."""

    def __init__(self, plan: Plan, *, inherited=(), base=BASE, stdin=None, stdout=None, stderr=None) -> None:
        self.helper = str(helper_path())
        self.reports: list[Report] = []
        self.children: list[int] = []
        self.statuses: dict[int, int] = {}
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        data = plan_fd(encode(plan))
        self.outer = self._spawn([data, theirs.fileno(), *inherited], base, (stdin, stdout, stderr))
        self.children.append(self.outer)
        os.close(data)
        theirs.close()

    def _spawn(self, fds, base, stdio) -> int:
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY) for fd in fds]
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, null if fd is None else fd, at) for at, fd in enumerate(stdio)]
        actions += [(os.POSIX_SPAWN_DUP2, fd, base + at) for at, fd in enumerate(high)]
        argv = ["boxwright-helper", str(base)]
        pid = os.posix_spawn(self.helper, argv, {}, file_actions=actions)
        for fd in (*high, null):
            os.close(fd)
        return pid

    def next(self) -> Report | None:
        """The next report; None at the end of all of them."""
        fds = array.array("i")
        data, control, _flags, _from = self.socket.recvmsg(4096, socket.CMSG_SPACE(16))
        if not data:
            return None
        for _level, _kind, payload in control:
            fds.frombytes(payload[: len(payload) - len(payload) % 4])
        report = Report(*RECORD.unpack_from(data), data[RECORD.size :].decode(errors="replace"), tuple(fds))
        self.reports.append(report)
        if report.kind in (ops.CHILD_PID, ops.JOINER_PID):
            self.children.append(report.value)
        return report

    def until(self, kind: int) -> Report:
        """Read up to a report of this kind."""
        while (report := self.next()) is not None:
            if report.kind == kind:
                return report
        raise AssertionError(f"no report of kind {kind}: {self.reports}")

    def finish(self) -> "Running":
        """Read all reports and reap all processes."""
        while self.next() is not None:
            pass
        for pid in self.children:
            self.status(pid)
        return self

    def status(self, pid: int) -> int:
        """The wait status of a child, as an exit code."""
        if pid not in self.statuses:
            self.statuses[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return self.statuses[pid]

    @property
    def init(self) -> int:
        """The init's pid."""
        return next(report.value for report in self.reports if report.kind == ops.CHILD_PID)

    def of_kind(self, kind: int) -> list[Report]:
        """The reports of one kind so far."""
        return [report for report in self.reports if report.kind == kind]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        for pid in self.children:
            if pid not in self.statuses:
                os.kill(pid, signal.SIGKILL)
                self.status(pid)
        self.socket.close()
        for report in self.reports:
            for fd in report.fds:
                os.close(fd)


def run_plan(plan: Plan, **options) -> Running:
    """Perform a plan to its end."""
    with Running(plan, **options) as running:
        return running.finish()


def run_ops(*operations: Op, init=(), **options) -> list[Report]:
    """Perform operations in the outer (and init) and give the reports."""
    slots = options.pop("slots", 64)
    inherited = options.get("inherited", ())
    return run_plan(plan_of(operations, (), init, map(str, inherited), slots), **options).reports


def output_of(plan: Plan, **options) -> tuple[str, list[Report]]:
    """Perform a plan whose program writes to stdout; its output and the reports."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as stream, Running(plan, stdout=writer, stderr=writer, **options) as running:
        os.close(writer)
        text = stream.read()
        return text, running.finish().reports


def program(script: str, *, env=("PATH=/usr/bin:/bin",)) -> tuple[Op, ...]:
    """The operations that execute a shell script."""
    return ops.FindProgram("sh", "/usr/bin:/bin"), ops.Exec(("sh", "-c", script), env)


ROOT_SLOT, TREE_SLOT, PLACE_SLOT, PROC_SLOT = 0, 1, 2, 4


def host_root(stage: Path, *operations: Op) -> list[Op]:
    """The init of a pid and a mount namespace whose root will be a copy of the host's, with a procfs of its own."""
    return [
        ops.SetPropagation("/", MS_REC | MS_SLAVE),
        ops.OpenTree(TREE_SLOT, ops.AT_HOST, "/", 0),
        ops.AttachRoot(TREE_SLOT, str(stage), ROOT_SLOT),
        ops.FsMount(PROC_SLOT, "proc", ("source=proc",), 0),
        ops.Resolve(PLACE_SLOT, ROOT_SLOT, "/proc", ops.DIRECTORY, 0o555, ops.NO_SYMLINKS),
        ops.MoveMount(PROC_SLOT, PLACE_SLOT),
        *operations,
    ]
