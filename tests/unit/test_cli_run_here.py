"""`run [FLAG…] -- COMMAND…`: the box that the flags describe, and which of the two forms was meant."""

from pathlib import Path

import pytest

from boxwright.api.options import Bind, BoxOptions
from boxwright.api.records import Limits
from boxwright.cli.main import Invocation
from boxwright.cli.run import _engine_form
from boxwright.cli.run_here import box_options
from boxwright.errors import UsageError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-- ls -l", BoxOptions(("ls", "-l"), pids=1024)),
        ("-t ls", BoxOptions(("ls",), pids=1024, terminal=True)),
        ("-it -- sh", BoxOptions(("sh",), pids=1024, terminal=True, interactive=True)),
        ("--interactive=false -- sh", BoxOptions(("sh",), pids=1024, interactive=False)),
        ("--memory 64m --cpus 1.5 --pids 9 -- x", BoxOptions(("x",), memory_bytes=64 << 20, cpus=1.5, pids=9)),
        ("--memory -1 --pids -1 -- x", BoxOptions(("x",))),
        ("--timeout 1m -- x", BoxOptions(("x",), pids=1024, timeout_s=60.0)),
        ("--user 1:2 -- x", BoxOptions(("x",), pids=1024, uid=1, gid=2)),
        ("--network host --isolation vm -- x", BoxOptions(("x",), pids=1024, network="host", isolation="vm")),
        ("--read-only --no-overlay --init-system -- x",
         BoxOptions(("x",), pids=1024, read_only=True, overlay=False, init_system=True)),
        ("--name n --hostname h --cwd /srv -- x", BoxOptions(("x",), pids=1024, name="n", hostname="h", cwd="/srv")),
        ("--bind /usr -- x", BoxOptions(("x",), pids=1024, binds=(Bind("/usr", "/usr"),))),
        ("--bind /usr:rw -- x", BoxOptions(("x",), pids=1024, binds=(Bind("/usr", "/usr", True),))),
        ("--bind /usr:/srv:ro -- x", BoxOptions(("x",), pids=1024, binds=(Bind("/usr", "/srv"),))),
        ("--rw /usr -- x", BoxOptions(("x",), pids=1024, binds=(Bind("/usr", "/usr", True),))),
        ("--rootfs / -- x", BoxOptions(("x",), pids=1024, rootfs="/")),
        ("--bundle /usr --", BoxOptions((), bundle="/usr", pids=None)),
        ("--bundle /usr --pids 9 --", BoxOptions((), bundle="/usr", pids=9)),
        ("-- x", BoxOptions(("x",), pids=Limits().pids)),
    ],
)  # fmt: skip
def test_flags_describe_a_box(words: str, expected: BoxOptions) -> None:
    assert box_options(words.split()) == expected


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--",
        "--rootfs /nonexistent -- x",
        "--bind /nonexistent -- x",
        "--bind /usr:srv -- x",
        "--bind /a:/b:/c -- x",
        "--cpus 0 -- x",
        "--cpus -1 -- x",
        "--cpus 1.5.5 -- x",
        "--cpus nan -- x",
        "--pids -2 -- x",
        "--network x -- x",
        "--isolation jail -- x",
        "--user root -- x",
        "--memory lots -- x",
        "--timeout 0 -- x",
        "--env =x -- x",
    ],
)
def test_what_describes_no_box_is_refused(words: str) -> None:
    with pytest.raises(UsageError):
        box_options(words.split())


def test_variables_are_set_or_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOXWRIGHT_TEST_SET", "value")
    monkeypatch.delenv("BOXWRIGHT_TEST_UNSET", raising=False)
    words = ["-e", "A=b=c", "-e", "BOXWRIGHT_TEST_SET", "-e", "BOXWRIGHT_TEST_UNSET", "--", "x"]
    assert box_options(words).env == ("A=b=c", "BOXWRIGHT_TEST_SET=value")


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    assert box_options(["--bind", "sub", "--rootfs", ".", "--", "x"]) == BoxOptions(
        ("x",), pids=1024, rootfs=str(tmp_path), binds=(Bind(f"{tmp_path}/sub", f"{tmp_path}/sub"),)
    )


@pytest.mark.parametrize("words", ["id", "-b . id", "--bundle=. -d --keep id", "--no-pivot -f x.json id"])
def test_an_id_alone_is_the_engines_form(words: str) -> None:
    options = _engine_form(words.split())
    assert options is not None
    assert options.arguments == ["id"]


@pytest.mark.parametrize("words", ["-t id", "-it id", "--rootfs=/ id", "--memory 1g id"])
def test_a_flag_of_the_other_form_decides(words: str) -> None:
    assert _engine_form(words.split()) is None


def test_a_flag_of_neither_form_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert Invocation(["run", "--bundel=.", "id"]).run() == 1
    assert capfd.readouterr().err == (
        "error: `boxwright run` has no flag `--bundel`\n  hint: did you mean `--bundle`?\n"
    )
