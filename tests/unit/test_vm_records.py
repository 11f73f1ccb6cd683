"""Streams of files between the host and a guest: what a guest sends is believed no more than a program."""

import os
import struct
from pathlib import Path

import pytest

from boxwright.api import machine_files
from boxwright.boxes.vm import records
from boxwright.boxes.vm.records import FileRecord, RecordReader, encode_record


def test_records_come_back_however_the_stream_is_cut() -> None:
    stream = encode_record(records.FILE, 0o640, b"name") + encode_record(records.DATA, 0, b"x" * 70)
    stream += encode_record(records.END) + encode_record(records.DONE)
    reader = RecordReader()
    found = [record for byte in stream for record in reader.feed(bytes([byte]))]
    assert found == [
        FileRecord(records.FILE, 0o640, b"name"),
        FileRecord(records.DATA, 0, b"x" * 70),
        FileRecord(records.END),
        FileRecord(records.DONE),
    ]
    assert reader.done


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<HHI", 0, 0, 0),
        struct.pack("<HHI", 7, 0, 0),
        struct.pack("<HHI", records.DATA, 0, records.PAYLOAD_BYTES + 1),
        encode_record(records.DONE) + encode_record(records.FILE, 0, b"x"),
    ],
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no file"):
        list(RecordReader().feed(data))


def test_a_record_has_a_limit() -> None:
    with pytest.raises(ValueError, match="holds 65536 bytes, not 65537"):
        encode_record(records.DATA, 0, bytes(records.PAYLOAD_BYTES + 1))


def test_a_mode_is_permissions_only() -> None:
    (record,) = RecordReader().feed(encode_record(records.FILE, 0o6755, b"set-id"))
    assert record.mode == 0o755


@pytest.fixture
def received(tmp_path: Path):
    """Takes records as `Box.get` does, into `target`."""

    def received(*found: FileRecord, most_bytes: int | None = None) -> Path:
        parent = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
        try:
            with machine_files._Tree(parent, "target", most_bytes) as tree:
                for record in found:
                    tree.take(record)
        finally:
            os.close(parent)
        return tmp_path / "target"

    yield received
    assert set(os.listdir(tmp_path)) <= {"target"}


DIRECTORY, END, DONE = FileRecord(records.DIRECTORY, 0o755), FileRecord(records.END), FileRecord(records.DONE)


def file(name: bytes, content: bytes = b"") -> tuple[FileRecord, ...]:
    return FileRecord(records.FILE, 0o600, name), FileRecord(records.DATA, 0, content), END


def test_a_tree_is_made(received) -> None:
    link = FileRecord(records.LINK, 0, b"link\0../elsewhere")
    target = received(DIRECTORY, *file(b"a", b"content"), link, END, DONE)
    assert (target / "a").read_bytes() == b"content"
    assert os.readlink(target / "link") == "../elsewhere"


@pytest.mark.parametrize("name", [b"", b".", b"..", b"../outside", b"/outside", b"a/b"])
def test_a_name_that_is_none_is_refused_and_nothing_stays(received, tmp_path: Path, name: bytes) -> None:
    with pytest.raises(ValueError, match="a name that is none"):
        received(DIRECTORY, *file(b"before"), *file(name, b"x"))
    assert os.listdir(tmp_path) == []


def test_a_link_is_not_written_through(received, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        received(DIRECTORY, FileRecord(records.LINK, 0, b"a\0" + bytes(tmp_path)), *file(b"a", b"x"))
    with pytest.raises(FileExistsError):
        link = FileRecord(records.LINK, 0, b"d\0" + bytes(tmp_path))
        received(DIRECTORY, link, FileRecord(records.DIRECTORY, 0o755, b"d"), *file(b"outside", b"x"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "found",
    [
        (END,),
        (*file(b""), *file(b"second")),
        (FileRecord(records.FILE), FileRecord(records.FILE, 0, b"in a file")),
        (DIRECTORY, DONE),
        (FileRecord(records.FILE), DONE),
    ],
)
def test_what_was_not_asked_for_is_refused(received, found: tuple[FileRecord, ...]) -> None:
    with pytest.raises(ValueError, match=r"it (sends|ends)"):
        received(*found)


def test_more_than_was_asked_for_is_an_error_whatever_the_guest_says(received, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File too large"):
        received(*file(b"", b"x" * 11), most_bytes=10)
    assert os.listdir(tmp_path) == []


def test_content_without_a_file_is_refused(received) -> None:
    with pytest.raises(ValueError, match="content"):
        received(DIRECTORY, FileRecord(records.DATA, 0, b"x"))


def test_a_tree_has_a_depth(received, tmp_path: Path) -> None:
    deeper = FileRecord(records.DIRECTORY, 0o755, b"d")
    with pytest.raises(OSError, match="symbolic links"):
        received(DIRECTORY, *[deeper] * records.DEEPEST)
    assert os.listdir(tmp_path) == []
