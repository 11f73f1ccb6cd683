"""The records of which a stream of files is made: `TakeFiles` reads them in the guest, `GiveFiles` writes them there.

    u16 kind    u16 mode    u32 length    then so many bytes

A FILE (its name) is followed by its content as DATA and by END; a DIRECTORY (its name) by what is in it and END; a LINK
has its name, NUL, and where it leads. What is asked for itself has no name. DONE is the last record: without it
something has gone wrong on the way. `native/ops_transfer.c` says the same in C.
"""

from struct import Struct

from boxwright._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FILE, DATA, END, DIRECTORY, LINK, DONE = range(1, 7)
PAYLOAD_BYTES = 65536
DEEPEST = 128
PERMISSIONS = 0o777

_HEAD = Struct("<HHI")


class FileRecord(Record):
    """One record."""

    kind: int
    mode: int = 0
    payload: bytes = b""


def encode_record(kind: int, mode: int = 0, payload: bytes = b"") -> bytes:
    """A record on its way. Raises ValueError for one that is too long."""
    if len(payload) > PAYLOAD_BYTES:
        raise ValueError(f"a record holds {PAYLOAD_BYTES} bytes, not {len(payload)}")
    return _HEAD.pack(kind, mode, len(payload)) + payload


class RecordReader:
    """Cuts a stream into its records, of which nothing is believed."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self.done = False

    def feed(self, data: bytes) -> "Iterator[FileRecord]":
        """The records that are complete with this. Raises ValueError for what is none."""
        self._waiting += data
        while len(self._waiting) >= _HEAD.size:
            kind, mode, length = _HEAD.unpack_from(self._waiting)
            if self.done or not FILE <= kind <= DONE or length > PAYLOAD_BYTES:
                raise ValueError("what it sends is no file")
            end = _HEAD.size + length
            if len(self._waiting) < end:
                return
            payload = bytes(self._waiting[_HEAD.size : end])
            del self._waiting[:end]
            self.done = kind == DONE
            yield FileRecord(kind, mode & PERMISSIONS, payload)
