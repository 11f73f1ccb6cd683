"""The log file in the forms that engines read, and what stands on the standard error."""

import json
from pathlib import Path

import pytest

from boxwright.cli.failure import internal, one_line
from boxwright.cli.log import Log, json_entry, text_entry
from boxwright.errors import BoxwrightError, HostError, UsageError

MOMENT = "2024-05-06T07:08:09Z"
ERROR = HostError("mount `tmpfs`", 22, pointer="/mounts/0/options/1", anchor="config.md#mounts", hint="try `size`")


def test_a_text_entry_is_quoted() -> None:
    entry = text_entry("error", 'two\nlines and a "quote"', MOMENT)
    assert entry == f'time="{MOMENT}" level=error msg="two\\nlines and a \\"quote\\""\n'


def test_a_json_entry_is_one_line_of_json() -> None:
    entry = json_entry("warning", 'two\nlines, "quotes", ünï and \udcff', MOMENT)
    assert entry.count("\n") == 1
    assert json.loads(entry.encode()) == {
        "level": "warning",
        "msg": 'two\nlines, "quotes", ünï and \ufffd',
        "time": MOMENT,
    }


def test_an_engine_gets_the_whole_story_on_one_line() -> None:
    assert one_line(ERROR) == (
        "cannot mount `tmpfs`: invalid argument (EINVAL); from /mounts/0/options/1 (config.md#mounts); hint: try `size`"
    )


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_failure_is_logged_and_shown(form: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    log = Log(str(path), form)
    log("warning", "careful")
    log("debug", "not logged")
    log.failure("it broke; because", "it broke\n  because")
    before, warning, error = path.read_text().splitlines()
    assert (before, "careful" in warning, "it broke; because" in error) == ("before", True, True)
    if form == "json":
        assert [json.loads(line)["level"] for line in (warning, error)] == ["warning", "error"]
    assert capfd.readouterr() == ("", "error: it broke\n  because\n")


def test_without_a_file_messages_are_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log(threshold="debug")
    log("debug", "detail")
    log.failure("it broke; because", "it broke\n  because")
    assert capfd.readouterr() == ("", "debug: detail\nerror: it broke\n  because\n")


@pytest.mark.parametrize("path", ["", "/dev/stderr"])
def test_json_on_the_standard_error_is_nothing_but_json(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    log = Log(path, "json")
    log("warning", "careful")
    log.failure("it broke", "it broke")
    lines = capfd.readouterr().err.splitlines()
    assert [json.loads(line)["msg"] for line in lines] == ["careful", "it broke"]


def test_the_log_file_is_made(tmp_path: Path) -> None:
    Log(str(tmp_path / "log"))
    assert (tmp_path / "log").stat().st_size == 0
    Log(f"file:{tmp_path / 'other'}")
    assert (tmp_path / "other").exists()


@pytest.mark.parametrize("path", ["/nonexistent/log", "syslog:boxwright", "journald:boxwright"])
def test_where_nothing_can_be_logged_is_an_error(path: str) -> None:
    with pytest.raises(UsageError) as caught:
        Log(path)
    assert path in caught.value.message


def test_an_unexpected_exception_is_one_line_and_a_hint(capfd: pytest.CaptureFixture[str]) -> None:
    internal(ZeroDivisionError("oops\nand more"), Log(), debug=False)
    assert capfd.readouterr().err == (
        "error: internal error: ZeroDivisionError: oops\n  hint: `boxwright --debug …` shows where it arose\n"
    )
    internal(ZeroDivisionError("oops"), Log(), debug=True)
    assert capfd.readouterr().err == "ZeroDivisionError: oops\nerror: internal error: ZeroDivisionError: oops\n"


def test_an_error_without_details_is_its_message() -> None:
    assert one_line(BoxwrightError("short")) == "short"
