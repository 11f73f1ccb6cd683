"""Parsing flags from tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.cli.options import (
    LIST,
    NUMBER,
    TEXT,
    Command,
    Flag,
    HelpRequested,
    Options,
    UnknownFlagError,
    parse,
)
from boxwright.errors import UsageError

FLAGS = (
    Flag("detach", "", short="d"),
    Flag("tty", "", short="t"),
    Flag("user", "", TEXT, short="u"),
    Flag("env", "", LIST, short="e"),
    Flag("preserve-fds", "", NUMBER),
)
ANYWHERE = Command("demo", "", "ID", FLAGS, most=None)
IN_ORDER = Command("demo", "", "ID COMMAND", FLAGS, most=None, in_order=True)


def given_flags(options: Options) -> dict[str, tuple[str, ...]]:
    return {flag.name: options.every(flag.name) for flag in FLAGS if options.given(flag.name)}


@pytest.mark.parametrize(
    ("words", "flags", "arguments"),
    [
        ("a b", {}, ["a", "b"]),
        ("--detach a", {"detach": ("true",)}, ["a"]),
        ("-detach a", {"detach": ("true",)}, ["a"]),
        ("-d a", {"detach": ("true",)}, ["a"]),
        ("--d a", {"detach": ("true",)}, ["a"]),
        ("--detach=false a", {"detach": ("false",)}, ["a"]),
        ("-d=1 a", {"detach": ("true",)}, ["a"]),
        ("--user 1 a", {"user": ("1",)}, ["a"]),
        ("--user=1 a", {"user": ("1",)}, ["a"]),
        ("-user=1 a", {"user": ("1",)}, ["a"]),
        ("-u 1 a", {"user": ("1",)}, ["a"]),
        ("-u1 a", {"user": ("1",)}, ["a"]),
        ("-u=1 a", {"user": ("1",)}, ["a"]),
        ("--user -1 a", {"user": ("-1",)}, ["a"]),
        ("--user= a", {"user": ("",)}, ["a"]),
        ("-dt a", {"detach": ("true",), "tty": ("true",)}, ["a"]),
        ("-dtu 1 a", {"detach": ("true",), "tty": ("true",), "user": ("1",)}, ["a"]),
        ("-du1 a", {"detach": ("true",), "user": ("1",)}, ["a"]),
        ("-e A=b -e C=d=e a", {"env": ("A=b", "C=d=e")}, ["a"]),
        ("--preserve-fds 3 a", {"preserve-fds": ("3",)}, ["a"]),
        ("a --detach", {"detach": ("true",)}, ["a"]),
        ("-- --detach", {}, ["--detach"]),
        ("a -- -x", {}, ["a", "-x"]),
        ("a -", {}, ["a", "-"]),
    ],
)
def test_flags_are_found_anywhere(words: str, flags: dict[str, tuple[str, ...]], arguments: list[str]) -> None:
    options = parse(ANYWHERE, words.split())
    assert (given_flags(options), options.arguments) == (flags, arguments)


def test_flags_end_at_the_first_argument_of_a_command_that_runs_one() -> None:
    options = parse(IN_ORDER, ["-d", "id", "ls", "-t", "--", "--bogus"])
    assert given_flags(options) == {"detach": ("true",)}
    assert options.arguments == ["id", "ls", "-t", "--", "--bogus"]


@given(st.lists(st.text(), max_size=5))
def test_words_behind_two_dashes_are_left_alone(words: list[str]) -> None:
    assert parse(ANYWHERE, ["-d", "--", *words]).arguments == words


@given(st.text())
def test_a_value_behind_an_equals_sign_is_taken_whole(value: str) -> None:
    assert parse(ANYWHERE, [f"--user={value}"]).text("user") == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--bogus", "`boxwright demo` has no flag `--bogus`"),
        ("-x", "`boxwright demo` has no flag `-x`"),
        ("-dx", "`boxwright demo` has no flag `-dx`"),
        ("---detach", "`boxwright demo` has no flag `---detach`"),
        ("--user", "`--user` needs a value"),
        ("-u", "`--user` needs a value"),
        ("--detach=maybe", "`--detach` is on or off: `maybe` is neither `true` nor `false`"),
        ("--preserve-fds three", "`--preserve-fds` needs a number: `three` is none"),
        ("--preserve-fds ٣", "`--preserve-fds` needs a number: `٣` is none"),
        ("--preserve-fds=", "`--preserve-fds` needs a number: `` is none"),
    ],
)
def test_what_is_wrong_is_named(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(ANYWHERE, words.split())
    assert caught.value.message == message


def test_a_near_miss_gets_a_hint() -> None:
    with pytest.raises(UnknownFlagError) as caught:
        parse(ANYWHERE, ["--detahc"])
    assert caught.value.hint == "did you mean `--detach`?"


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["-help"], ["a", "--help"], ["-d", "--help", "--bogus"]])
def test_help_is_asked_for_anywhere(words: list[str]) -> None:
    with pytest.raises(HelpRequested) as caught:
        parse(ANYWHERE, words)
    assert caught.value.command is ANYWHERE


def test_arguments_are_counted() -> None:
    command = Command("demo", "", "ID [SIGNAL]", least=1, most=2)
    with pytest.raises(UsageError, match=r"^`boxwright demo` takes `ID \[SIGNAL\]`, none given$"):
        parse(command, [])
    with pytest.raises(UsageError, match=r"given 3: `a b c`$"):
        parse(command, ["a", "b", "c"])
    assert parse(command, ["a", "b"]).arguments == ["a", "b"]


def test_the_last_word_counts() -> None:
    options = parse(ANYWHERE, ["--user=1", "-d", "--user=2", "--detach=false"])
    assert (options.text("user"), options.switch("detach")) == ("2", False)


def test_what_is_not_given_has_a_default() -> None:
    options = parse(ANYWHERE, [])
    assert (options.text("user", "x"), options.number("preserve-fds", 7), options.path("user")) == ("x", 7, "")
    assert options.optional_number("preserve-fds") is None


def test_a_count_is_not_negative() -> None:
    with pytest.raises(UsageError, match="cannot be negative"):
        parse(ANYWHERE, ["--preserve-fds=-1"]).count("preserve-fds")


def test_a_choice_names_what_can_be_chosen() -> None:
    options = parse(ANYWHERE, ["--user=yaml"])
    with pytest.raises(UsageError) as caught:
        options.choice("user", ("table", "json"), "table")
    assert caught.value.hint == "it is one of `table`, `json`"
