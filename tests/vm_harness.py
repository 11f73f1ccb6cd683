"""Drives the agent, the keeper and the proxy by hand-made frames; no machine is needed.

An agent runs as the first process of a pid namespace, on one end of a socket pair, in place of a guest.
"""

import contextlib
import os
import select
import signal
import socket
import stat
import struct
import subprocess
from typing import NamedTuple, Self

from boxwright.plan import ops
from boxwright.plan.encode import encode
from boxwright.plan.ops import Plan
from helper_harness import CLONE_NEWNS, CLONE_NEWPID, RECORD, helper_path, host_root, plan_fd, plan_of, program

HEAD = struct.Struct("<IIHH")
WINDOW_BYTES, PAYLOAD_MAX = 65536, 32768
PLAN, RUN, DATA, EOF, CREDIT, SIGNAL, WINSIZE, ANSWER, START, READ, SEED, CLOSE, STOP, GREET = range(1, 15)
HELLO, REPORT, REPORTED, GUEST_DATA, GUEST_EOF, GUEST_CREDIT, EXIT, CONTENT, DONE = range(64, 73)
INIT, GATE, JOIN, TERMINAL, STDIN = 1, 2, 4, 8, 16
EVERY, TO_INIT, SESSION = 1, 2, 4
TIMEOUT_S = 20


class Frame(NamedTuple):
    """One frame."""

    type: int
    payload: bytes = b""
    channel: int = 0
    stream: int = 0

    def encode(self) -> bytes:
        return HEAD.pack(len(self.payload), self.channel, self.type, self.stream) + self.payload


class Exit(NamedTuple):
    """What EXIT says."""

    status: int
    user_us: int
    system_us: int
    resident_bytes: int
    oom_kills: int
    peak_bytes: int

    @property
    def code(self) -> int:
        return os.waitstatus_to_exitcode(self.status)


def read_exit(frame: Frame) -> Exit:
    return Exit(*struct.unpack("<iQQQQQ", frame.payload))


def run_payload(flags: int, rows: int = 0, columns: int = 0) -> bytes:
    return struct.pack("<IHH", flags, rows, columns)


class Wire:
    """Frames over a socket; `packets` is for a client's connection, else it is a byte stream."""

    def __init__(self, sock: socket.socket, *, packets: bool) -> None:
        self.socket = sock
        self.packets = packets
        self.data = b""
        self.kept: list[Frame] = []
        sock.settimeout(TIMEOUT_S)

    def send(self, kind: int, payload: bytes = b"", channel: int = 0, stream: int = 0) -> None:
        self.socket.sendall(Frame(kind, payload, channel, stream).encode())

    def next(self, channel: int | None = None) -> Frame | None:
        """The next frame (of one channel: those of others are kept for later); None at the end."""
        for at, frame in enumerate(self.kept):
            if channel in (None, frame.channel):
                return self.kept.pop(at)
        while (frame := self._receive()) is not None:
            if channel in (None, frame.channel):
                return frame
            self.kept.append(frame)
        return None

    def _receive(self) -> Frame | None:
        while (frame := self._take()) is None:
            try:
                more = self.socket.recv(HEAD.size + PAYLOAD_MAX)
            except ConnectionResetError:
                return None
            if not more:
                return None
            self.data += more
        return frame

    def _take(self) -> Frame | None:
        if len(self.data) < HEAD.size:
            return None
        length, channel, kind, stream = HEAD.unpack_from(self.data)
        if len(self.data) < HEAD.size + length:
            return None
        payload = self.data[HEAD.size : HEAD.size + length]
        self.data = self.data[HEAD.size + length :]
        return Frame(kind, payload, channel, stream)

    def until(self, *kinds: int, channel: int | None = None) -> Frame:
        """Skip to a frame of one of these types."""
        while (frame := self.next(channel)) is not None:
            if frame.type in kinds:
                return frame
        raise AssertionError(f"the end came before a frame of type {kinds}")

    def is_quiet(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        return not self.kept and not self.data and not select.select([self.socket], [], [], seconds)[0]

    def send_plan(self, plan: Plan | bytes, flags: int, rows: int = 0, columns: int = 0, channel: int = 0) -> None:
        data = plan if isinstance(plan, bytes) else encode(plan)
        for at in range(0, len(data), PAYLOAD_MAX):
            self.send(PLAN, data[at : at + PAYLOAD_MAX], channel)
        self.send(RUN, run_payload(flags, rows, columns), channel)

    def credit(self, channel: int = 0, size: int = WINDOW_BYTES) -> None:
        for stream in (1, 2):
            self.send(CREDIT, struct.pack("<I", size), channel, stream)


class Agent(Wire):
    """An agent as pid 1 of a pid namespace, on a socket pair."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(ours, packets=False)
        command = [
            "unshare",
            "-pmf",
            "--mount-proc",
            "--kill-child",
            str(helper_path()),
            "--agent",
            str(theirs.fileno()),
        ]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self.send(GREET)
        self.hello = self.until(HELLO).payload

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()


def machine_file(*children: tuple[int, str, list[tuple[int, int]], bytes]) -> bytes:
    parts = [b"BXM1", struct.pack("<I", len(children))]
    for flags, name, descriptors, plan in children:
        parts += [struct.pack("<II", flags, len(name)), name.encode(), b"\0", struct.pack("<I", len(descriptors))]
        parts += [struct.pack("<II", *pair) for pair in descriptors]
        parts += [struct.pack("<I", len(plan)), plan]
    return b"".join(parts)


AGENT_FD = 3


def agent_plan(fd: int = AGENT_FD) -> bytes:
    """The plan of a child that is an agent in place of a hypervisor: first process of a pid namespace of its own."""
    helper = str(helper_path())
    argv = ("unshare", "-pmf", "--mount-proc", "--kill-child", helper, "--agent", str(fd))
    steps = (ops.FindProgram("unshare", "/usr/bin:/bin"), ops.Exec(argv, ("PATH=/usr/bin:/bin",)))
    return encode(plan_of(steps))


class Keeper:
    """A keeper as the first process of a pid namespace, with an agent of ours or (`guest=True`) ourselves as the guest."""

    def __init__(self, directory, *, guest: bool = False, machine=None, lifeline=None, pass_more=(), **options) -> None:
        self.control_path = str(directory / "control")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(self.control_path)
        listener.listen(64)
        port, guest_port = socket.socketpair()
        self.status_path = directory / "status"
        status = os.open(self.status_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        machine_fd = plan_fd(self._machine(machine, guest, guest_port))
        fds = [machine_fd, listener.fileno(), port.fileno(), status]
        if lifeline is not None:
            fds.append(lifeline)
        kept = [*fds, *pass_more, *(() if guest else (guest_port.fileno(),))]
        command = ["unshare", "-pf", "--kill-child", str(helper_path()), "--keep", *map(str, fds)]
        options.setdefault("stdin", subprocess.DEVNULL)
        self.process = subprocess.Popen(command, pass_fds=kept, **options)
        self.guest = Wire(guest_port, packets=False) if guest else None
        for sock in (listener, port, *(() if guest else (guest_port,))):
            sock.close()
        os.close(machine_fd)
        os.close(status)
        self.clients: list[Wire] = []
        if self.guest:
            assert self.guest.until(GREET).channel == 0

    @staticmethod
    def _machine(machine, guest: bool, port: socket.socket) -> bytes:
        if machine is not None:
            return machine
        if guest:
            return machine_file()
        return machine_file((1, "agent", [(port.fileno(), AGENT_FD), (2, 2)], agent_plan()))

    def connect(self, *, hello: bool = True) -> Wire:
        """A client's connection, after its HELLO."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(self.control_path)
        client = Wire(sock, packets=True)
        self.clients.append(client)
        if hello:
            assert client.next().type == HELLO
        return client

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait(timeout_s)

    @property
    def status(self) -> list[str]:
        """The words of its last line."""
        return self.status_path.read_text().split()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.process.poll() is None:
            for pid in children_of(self.process.pid):  # its change of user has lost it the signal of its parent's death
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream and not stream.closed:
                stream.close()
        for client in self.clients:
            client.socket.close()
        if self.guest:
            self.guest.socket.close()


def hello_lines(payload: bytes) -> dict[str, str]:
    """What HELLO says, after its version."""
    assert payload[:4] == struct.pack("<I", 1)
    return dict(line.split("=", 1) for line in payload[4:].decode().splitlines())


def terminal_plan_of(stage, script: str) -> Plan:
    """A shell script on a terminal of a devpts of its own, in a copy of the host's root."""
    dev = (
        ops.FsMount(5, "tmpfs", ("source=dev",), 0),
        ops.Resolve(2, 0, "/dev", ops.DIRECTORY, 0o755, 0),
        ops.MoveMount(5, 2),
        ops.MakeNode(0, "/dev/tty", stat.S_IFCHR | 0o666, 5, 0, 0, 0),
        ops.MakeNode(0, "/dev/null", stat.S_IFCHR | 0o666, 1, 3, 0, 0),
        ops.FsMount(5, "devpts", ("newinstance", "ptmxmode=0666"), 0),
        ops.Resolve(2, 0, "/dev/pts", ops.DIRECTORY, 0o755, 0),
        ops.MoveMount(5, 2),
    )
    console = (ops.NewSession(), ops.Console(0, 0, 0, 0, ops.NO_SLOT, 0), ops.PivotRoot(0))
    init = [*host_root(stage, *dev), *console, *program(script)]
    return plan_of([ops.Clone(CLONE_NEWNS | CLONE_NEWPID)], (), init)


def shell(script, *operations, outer=(), flags=0, inherited=()):
    """The plan of a shell script in an init of its own."""
    return plan_of([*outer, ops.Clone(flags)], (), [*operations, *program(script)], inherited)


class Result:
    """What came on a channel until its end."""

    def __init__(self, agent, channel, *, credit=True):
        self.output = {1: b"", 2: b""}
        self.reports = []
        self.exit: Exit | None = None
        ended = set()
        while not (self.exit and ended == {1, 2}):
            frame = agent.next(channel)
            assert frame is not None, "the agent is gone"
            if frame.type == GUEST_DATA:
                self.output[frame.stream] += frame.payload
                if credit:
                    agent.send(CREDIT, struct.pack("<I", len(frame.payload)), channel, frame.stream)
            elif frame.type == GUEST_EOF:
                assert frame.stream not in ended
                ended.add(frame.stream)
            elif frame.type == EXIT:
                assert self.exit is None
                self.exit = read_exit(frame)
            elif frame.type == REPORT:
                self.reports.append(RECORD.unpack_from(frame.payload))


def performed(agent, plan, channel=2, flags=0):
    """Have a plan performed, and take all that comes of it."""
    agent.send_plan(plan, flags, channel=channel)
    agent.credit(channel)
    return Result(agent, channel)


def done(wire, channel=None):
    """The errno of the next DONE."""
    return struct.unpack("<I", wire.until(DONE, channel=channel).payload)[0]


def signal_payload(number, flags=0):
    """The payload of SIGNAL."""
    return struct.pack("<iI", number, flags)


def started(keeper, plan, flags=0, **size):
    """A client that has run the init's plan, and has followed its reports."""
    client = keeper.connect()
    client.send_plan(plan, INIT | flags, **size)
    client.until(REPORTED)
    return client


def executed(keeper, plan, flags=0, **size):
    """The same for another process."""
    client = keeper.connect()
    client.send_plan(plan, flags, **size)
    client.until(REPORTED)
    return client


def proxy_of(client, **options):
    """A proxy that takes over a client's connection."""
    fd = client.socket.fileno()
    return subprocess.Popen([str(helper_path()), "--proxy", str(fd)], pass_fds=[fd], **options)


def children_of(pid):
    """The pids of its children."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]
