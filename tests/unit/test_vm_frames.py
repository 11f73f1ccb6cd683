"""The frames of the machine's protocol."""

import re

import pytest

from boxwright.boxes.vm import frames
from boxwright.boxes.vm.frames import Frame
from fixtures_runtime import REPOSITORY


def test_a_frame_comes_back_as_it_was() -> None:
    frame = Frame(frames.GUEST_DATA, b"hello", 2)
    assert frames.decode_frame(frames.encode_frame(frame)) == frame


def test_the_header_is_twelve_little_endian_bytes() -> None:
    packet = frames.encode_frame(Frame(frames.CREDIT, b"\x01\0\0\0", 1))
    assert packet == b"\x04\0\0\0\0\0\0\0\x05\0\x01\0\x01\0\0\0"


def test_a_payload_has_a_limit() -> None:
    frames.encode_frame(Frame(frames.DATA, bytes(frames.PAYLOAD_BYTES)))
    with pytest.raises(ValueError, match="holds 32768 bytes, not 32769"):
        frames.encode_frame(Frame(frames.DATA, bytes(frames.PAYLOAD_BYTES + 1)))


@pytest.mark.parametrize("packet", [b"", b"\0" * 11, b"\x05\0\0\0" + bytes(8), bytes(13)])
def test_what_is_no_frame_is_refused(packet: bytes) -> None:
    with pytest.raises(ValueError, match=r"it (is shorter|says)"):
        frames.decode_frame(packet)


def test_a_plan_goes_in_pieces_that_are_the_plan() -> None:
    plan = bytes(range(256)) * 300
    pieces = list(frames.plan_frames(plan))
    assert [piece.type for piece in pieces] == [frames.PLAN] * 3
    assert b"".join(piece.payload for piece in pieces) == plan


def test_a_plan_has_a_limit() -> None:
    with pytest.raises(ValueError, match="a plan for a guest"):
        list(frames.plan_frames(bytes(frames.PLAN_BYTES + 1)))


def test_a_greeting_is_facts_by_name() -> None:
    facts = frames.hello_facts(b"\x01\0\0\0kernel=6.1\ncontrollers=cpu memory\nodd\n")
    assert facts == {"kernel": "6.1", "controllers": "cpu memory", "odd": ""}


@pytest.mark.parametrize(("payload", "why"), [(b"\x01\0", "no version"), (b"\x02\0\0\0", "version 2")])
def test_a_greeting_of_another_version_is_refused(payload: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        frames.hello_facts(payload)


def test_a_seed_carries_the_time_and_bounded_entropy() -> None:
    frame = frames.seed_frame(1_500_000_000_000_000_007, b"e" * 32)
    assert frame.payload == (1_500_000_000).to_bytes(8, "little") + (7).to_bytes(8, "little") + b"e" * 32
    with pytest.raises(ValueError, match="at most 256"):
        frames.seed_frame(0, bytes(257))


def test_an_end_has_exactly_its_numbers() -> None:
    assert frames.exit_of(b"\x09\0\0\0" + b"\x01" + bytes(39)).user_us == 1
    with pytest.raises(ValueError, match="in place of 44"):
        frames.exit_of(b"\x09\0\0\0")


def test_the_numbers_are_those_of_the_helper() -> None:
    text = (REPOSITORY / "native/frames.h").read_text()
    types = {name: int(number) for name, number in re.findall(r"^    FRAME_(\w+) = (\d+),$", text, re.MULTILINE)}
    flags = {name: int(number) for name, number in re.findall(r"\b((?:RUN|SIGNAL)_\w+) = (\d+)\b", text)}
    assert types.pop("VERSION") == frames.VERSION
    assert types.pop("HEADER_BYTES") == frames.HEADER_BYTES
    assert types.pop("PAYLOAD_MAX") == frames.PAYLOAD_BYTES
    assert types.pop("EXIT_BYTES") == frames._EXIT.size
    ours = {name: number for name, number in types.items() if not name.endswith(("_MAX", "_MIN", "_BYTES"))}
    assert len(ours) == 23
    assert ours == {name: getattr(frames, name) for name in ours}
    assert {name: number for name, number in flags.items() if not name.endswith(("_FLAGS", "_BYTES"))} == {
        "RUN_INIT": frames.INIT,
        "RUN_GATE": frames.GATE,
        "RUN_JOIN": frames.JOIN,
        "RUN_TERMINAL": frames.TERMINAL,
        "RUN_STDIN": frames.STDIN,
        "SIGNAL_EVERY": frames.EVERY,
        "SIGNAL_INIT": frames.TO_INIT,
        "SIGNAL_SESSION": frames.SESSION,
    }
