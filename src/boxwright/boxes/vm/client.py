"""A connection to the keeper of a machine: one channel to the guest."""

import os
import select
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket
from time import monotonic

from boxwright.boxes.vm import frames
from boxwright.boxes.vm.frames import Frame
from boxwright.errors import GuestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

PACKET_BYTES = frames.PAYLOAD_BYTES + 64
ANSWER_S = 30.0  # an agent that is alive answers in milliseconds
CONTROL = "control"


def listen(directory: str, name: str, kind: int, most: int) -> socket:
    """A listening socket of that name in `directory`, for nobody but its owner; `most` may wait to be accepted.

    Bound by the directory's descriptor: a path may be too long for an address.
    """
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    made = socket(AF_UNIX, kind | SOCK_CLOEXEC, 0)
    try:
        made.bind(f"/proc/self/fd/{fd}/{name}")
        os.chmod(name, 0o600, dir_fd=fd)  # before it listens: by the caller's umask it might be everybody's
        made.listen(most)
    except OSError:
        made.close()
        raise
    finally:
        os.close(fd)
    return made


class Client:
    """One channel. Closed, the process that it has started in the guest is killed, unless it is the init."""

    def __init__(self, directory: str) -> None:
        """Connect to the keeper whose control socket is in `directory`. Raises GuestError if there is none."""
        self.hello: dict[str, str] = {}
        self._socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.connect(f"/proc/self/fd/{fd}/{CONTROL}")
        except OSError as error:
            self._socket.close()
            raise GuestError("the machine is gone", details=[os.strerror(error.errno or 0)]) from None
        finally:
            os.close(fd)

    def fileno(self) -> int:
        """Readable when a frame is there, or the machine is gone."""
        return self._socket.fileno()

    def send(self, frame: Frame) -> None:
        """Send a frame. Raises GuestError if the machine is gone."""
        try:
            self._socket.send(frames.encode_frame(frame))
        except (BrokenPipeError, ConnectionResetError):
            raise GuestError("the machine is gone") from None

    def receive(self, timeout_s: float = ANSWER_S) -> Frame:
        """The next frame. Raises GuestError if none comes in time, or the machine is gone."""
        if not _readable(self._socket.fileno(), timeout_s):
            raise GuestError(f"the guest has not answered within {timeout_s:.3g} s")
        try:
            packet = self._socket.recv(PACKET_BYTES)
        except ConnectionResetError:
            # said once, where the keeper has closed with something unread; what it has sent before is still there
            packet = self._socket.recv(PACKET_BYTES)
        if not packet:
            raise GuestError("the machine is gone")
        try:
            return frames.decode_frame(packet)
        except ValueError as error:
            raise GuestError(f"the keeper has sent what is no frame: {error}") from None

    def greet(self, timeout_s: float) -> "dict[str, str]":
        """Wait for the guest to say what it is. Raises GuestError."""
        frame = self.receive(timeout_s)
        try:
            if frame.type != frames.HELLO:
                raise ValueError(f"a frame of type {frame.type} comes before its greeting")
            self.hello = frames.hello_facts(frame.payload)
        except ValueError as error:
            raise GuestError(f"the guest cannot be understood: {error}") from None
        return self.hello

    def done(self, timeout_s: float = ANSWER_S) -> int:
        """Wait for DONE; its errno. Raises GuestError."""
        while (frame := self.receive(timeout_s)).type != frames.DONE:
            continue
        return _checked(frame)

    def read(self, path: str, timeout_s: float = ANSWER_S) -> bytes:
        """The content of a file of the guest below /proc or /sys. Raises OSError as the guest's kernel has it."""
        self.send(frames.read_frame(path))
        found = bytearray()
        while (frame := self.receive(timeout_s)).type != frames.DONE:
            if frame.type == frames.CONTENT:
                found += frame.payload
        if number := _checked(frame):
            raise OSError(number, os.strerror(number), path)
        return bytes(found)

    def close(self) -> None:
        """Give the channel up."""
        self._socket.close()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _checked(frame: Frame) -> int:
    try:
        return frames.done_errno(frame.payload)
    except ValueError as error:
        raise GuestError(f"the guest cannot be understood: {error}") from None


def _readable(fd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    end_s = monotonic() + timeout_s
    while True:
        left_ms = max(0, int((end_s - monotonic()) * 1000) + 1)
        if poll.poll(left_ms):
            return True
        if monotonic() >= end_s:
            return False
