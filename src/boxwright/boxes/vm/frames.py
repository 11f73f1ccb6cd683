"""The frames between us, the keeper and the guest's agent (docs/decisions/0050-vm-box.md, "The protocol").

`native/frames.h` says the same in C.
"""

from struct import Struct

from boxwright._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = 1
PAYLOAD_BYTES = 32768
PLAN_BYTES = 4 << 20
WINDOW_BYTES = 65536
ENTROPY_BYTES = 256

# to the guest
PLAN, RUN, DATA, EOF, CREDIT, SIGNAL, WINSIZE, ANSWER, START, READ, SEED, CLOSE, STOP, GREET = range(1, 15)
# from the guest
HELLO, REPORT, REPORTED, GUEST_DATA, GUEST_EOF, GUEST_CREDIT, EXIT, CONTENT, DONE = range(64, 73)
# flags of RUN
INIT, GATE, JOIN, TERMINAL, STDIN = 1, 2, 4, 8, 16
# flags of SIGNAL
EVERY, TO_INIT, SESSION = 1, 2, 4

_HEADER = Struct("<IIHH")
HEADER_BYTES = _HEADER.size
_RUN = Struct("<IHH")
_SIGNAL = Struct("<iI")
_SEED = Struct("<qq")
_ANSWER = Struct("<q")
_EXIT = Struct("<iQQQQQ")
_DONE = Struct("<I")
_CREDIT = Struct("<I")
_VERSION = Struct("<I")


class Frame(Record):
    """One frame; `stream` is 0 to 2 where it means something."""

    type: int
    payload: bytes = b""
    stream: int = 0


class Exit(Record):
    """How a process of the guest ended: its wait status, its CPU time and its greatest resident size.

    `oom_kills` are the processes of the container that the guest's kernel has killed for want of memory until then,
    `peak_bytes` is the greatest amount of memory that the container took, 0 where that is not counted.
    """

    status: int
    user_us: int
    system_us: int
    resident_bytes: int
    oom_kills: int
    peak_bytes: int


def encode_frame(frame: Frame) -> bytes:
    """A frame as a packet of a client's socket. Raises ValueError for one that is too long."""
    if len(frame.payload) > PAYLOAD_BYTES:
        raise ValueError(f"a frame holds {PAYLOAD_BYTES} bytes, not {len(frame.payload)}")
    return _HEADER.pack(len(frame.payload), 0, frame.type, frame.stream) + frame.payload


def decode_frame(packet: bytes) -> Frame:
    """The frame in a packet. Raises ValueError if it is none."""
    if len(packet) < _HEADER.size:
        raise ValueError("it is shorter than a frame's header")
    length, _channel, kind, stream = _HEADER.unpack_from(packet)
    payload = packet[_HEADER.size :]
    if length != len(payload):
        raise ValueError(f"it says {length} bytes and has {len(payload)}")
    return Frame(kind, payload, stream)


def plan_frames(data: bytes) -> "Iterator[Frame]":
    """An encoded plan in pieces. Raises ValueError for one that the agent would not take."""
    if len(data) > PLAN_BYTES:
        raise ValueError(f"a plan for a guest can have {PLAN_BYTES} bytes, this one has {len(data)}")
    for start in range(0, len(data), PAYLOAD_BYTES):
        yield Frame(PLAN, data[start : start + PAYLOAD_BYTES])


def run_frame(flags: int, rows: int = 0, columns: int = 0) -> Frame:
    """Perform the plan that was sent."""
    return Frame(RUN, _RUN.pack(flags, rows, columns))


def signal_frame(number: int, flags: int) -> Frame:
    """Send a signal."""
    return Frame(SIGNAL, _SIGNAL.pack(number, flags))


def answer_frame(errno: int) -> Frame:
    """Answer an upcall."""
    return Frame(ANSWER, _ANSWER.pack(errno))


def seed_frame(realtime_ns: int, entropy: bytes) -> Frame:
    """Set the clock and stir the random numbers. Raises ValueError for too much entropy."""
    if len(entropy) > ENTROPY_BYTES:
        raise ValueError(f"a seed has at most {ENTROPY_BYTES} bytes")
    seconds, nanoseconds = divmod(realtime_ns, 10**9)
    return Frame(SEED, _SEED.pack(seconds, nanoseconds) + entropy)


def read_frame(path: str) -> Frame:
    """Ask for the content of a file below /proc or /sys."""
    return Frame(READ, path.encode())


def credit_frame(size_bytes: int, stream: int) -> Frame:
    """Let that much more come of a stream."""
    return Frame(CREDIT, _CREDIT.pack(size_bytes), stream)


def credit_of(payload: bytes) -> int:
    """How much more may be sent. Raises ValueError."""
    (found,) = _unpack(_CREDIT, payload)
    return found


def done_errno(payload: bytes) -> int:
    """The errno of a DONE. Raises ValueError."""
    (found,) = _unpack(_DONE, payload)
    return found


def exit_of(payload: bytes) -> Exit:
    """What an EXIT says. Raises ValueError."""
    return Exit(*_unpack(_EXIT, payload))


def hello_facts(payload: bytes) -> "dict[str, str]":
    """What the guest says of itself. Raises ValueError if it speaks another version of the protocol."""
    if len(payload) < _VERSION.size:
        raise ValueError("it has no version")
    (version,) = _VERSION.unpack_from(payload)
    if version != VERSION:
        raise ValueError(f"it speaks version {version} of the protocol, not {VERSION}")
    lines = payload[_VERSION.size :].decode("utf-8", "replace").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _unpack(layout: Struct, payload: bytes) -> "tuple[int, ...]":
    if len(payload) != layout.size:
        raise ValueError(f"it has {len(payload)} bytes in place of {layout.size}")
    return layout.unpack(payload)
