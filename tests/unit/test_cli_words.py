"""Users, signals, sizes and durations as words of the command line."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.cli.quantities import parse_duration_s, parse_size
from boxwright.cli.signals import signal_number
from boxwright.cli.users import HIGHEST_ID, parse_id, parse_user
from boxwright.errors import UsageError


@pytest.mark.parametrize(
    ("word", "user"),
    [
        ("0", (0, None)),
        ("1", (1, None)),  # CVE-2026-30892: this became 0:0
        ("1:2", (1, 2)),
        ("0:0", (0, 0)),
        ("4294967294:4294967294", (HIGHEST_ID, HIGHEST_ID)),
    ],
)
def test_a_user_is_two_numbers(word: str, user: tuple[int, int | None]) -> None:
    assert parse_user(word) == user


@pytest.mark.parametrize(
    "word",
    [
        "",
        ":",
        "1:",
        ":1",
        "01",
        "1:01",
        "00",
        "-1",
        "+1",
        "1:-1",
        "4294967295",
        "4294967296",
        "1:4294967295",
        "99999999999999999999",
        "root",
        "1:root",
        "1:2:3",
        " 1",
        "1 ",
        "1\n",
        "0x1",
        "1e3",
        "1_0",
        "١",
        "1.0",
    ],
)
def test_what_is_no_number_is_no_user(word: str) -> None:
    with pytest.raises(UsageError):
        parse_user(word)


@given(st.text())
def test_an_id_reads_back_as_it_was_written(word: str) -> None:
    try:
        number = parse_id(word)
    except UsageError:
        return
    assert str(number) == word
    assert 0 <= number <= HIGHEST_ID


@pytest.mark.parametrize("name", [name for name in dir(signal) if name.startswith("SIG") and "_" not in name])
def test_every_signal_has_its_names(name: str) -> None:
    number = int(getattr(signal, name))
    assert {signal_number(word) for word in (name, name[3:], name.lower(), name[3:].lower(), str(number))} == {number}


@pytest.mark.parametrize(
    ("word", "number"),
    [("0", 0), ("64", 64), ("RTMIN+1", signal.SIGRTMIN + 1), ("SIGRTMAX-2", signal.SIGRTMAX - 2), ("rtmin+0", 34)],
)
def test_realtime_signals_are_counted(word: str, number: int) -> None:
    assert signal_number(word) == number


@pytest.mark.parametrize(
    "word",
    ["", "SIG", "65", "-9", "KIL", "_DFL", "SIG_IGN", "SIG_BLOCK", "RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMIN+", "9x"],
)
def test_what_is_no_signal_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        signal_number(word)


def test_a_misspelt_signal_gets_a_hint() -> None:
    with pytest.raises(UsageError) as caught:
        signal_number("SIGKLL")
    assert caught.value.hint == "did you mean `KILL`?"


@pytest.mark.parametrize(
    ("word", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512b", 512),
        ("1k", 1024),
        ("1K", 1024),
        ("1kb", 1024),
        ("1KiB", 1024),
        ("1.5m", 3 << 19),
        ("0.1k", 102),
        ("2 g", 2 << 30),
        ("1t", 1 << 40),
        ("8191p", 8191 << 50),
        ("9223372036854775807", (1 << 63) - 1),
        ("-1", -1),
    ],
)
def test_sizes_are_counted_by_1024(word: str, size: int) -> None:
    assert parse_size(word) == size


@pytest.mark.parametrize(
    "word", ["", "k", "-2", "-1k", "1x", "1kk", "1.5.5", ".5", "5.", "1e3", "1ki", "1ib", "٣", "8192p", "9" * 30]
)
def test_what_is_no_size_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        parse_size(word)


@pytest.mark.parametrize(
    ("word", "seconds"),
    [("5s", 5), ("5", 5), ("0.5", 0.5), ("500ms", 0.5), ("1m30s", 90), ("1.5h", 5400), ("250us", 0.00025)],
)
def test_durations_are_those_of_go(word: str, seconds: float) -> None:
    assert parse_duration_s(word) == seconds


@pytest.mark.parametrize("word", ["", "0", "0s", "-1s", "s", "5x", "1m30", "5 s", "1d", "٣s"])
def test_what_is_no_duration_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        parse_duration_s(word)
