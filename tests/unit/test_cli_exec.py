"""`exec`: the process that the flags describe."""

import json
from pathlib import Path

import pytest

from boxwright.cli.exec import COMMAND, adjusted, read_process
from boxwright.cli.main import Invocation
from boxwright.cli.options import parse
from boxwright.errors import ConfigError, UsageError
from boxwright.spec.types import Capabilities, Process, User

BASE = Process(
    cwd="/", args=("sh",), env=("A=1",), user=User(uid=5, gid=6, additional_gids=(7,)), no_new_privileges=True
)


def process(*words: str, base: Process = BASE) -> Process:
    return adjusted(base, parse(COMMAND, [*words, "id", "true"]))


def test_what_is_not_given_stays() -> None:
    assert process() == BASE


def test_variables_are_added() -> None:
    assert process("-e", "B=2", "--env", "C=").env == ("A=1", "B=2", "C=")


@pytest.mark.parametrize("word", ["B", "=2", ""])
def test_a_variable_has_a_name_and_a_value(word: str) -> None:
    with pytest.raises(UsageError, match="is not `NAME=VALUE`"):
        process("--env", word)


def test_a_user_without_a_group_keeps_the_group() -> None:
    assert process("-u", "1").user == User(uid=1, gid=6, additional_gids=(7,))


def test_a_user_with_a_group_has_both() -> None:
    assert process("-u", "1:2", "-g", "8", "-g", "9").user == User(uid=1, gid=2, additional_gids=(7, 8, 9))


def test_a_capability_is_never_inheritable() -> None:
    base = BASE.replace(capabilities=Capabilities(bounding=("CAP_KILL",), inheritable=(), ambient=()))
    sets = process("-c", "CAP_KILL", "-c", "net_raw", base=base).capabilities
    assert sets == Capabilities(
        bounding=("CAP_KILL", "CAP_NET_RAW"),
        effective=("CAP_KILL", "CAP_NET_RAW"),
        permitted=("CAP_KILL", "CAP_NET_RAW"),
        inheritable=(),
        ambient=(),
    )


def test_the_rest_is_replaced() -> None:
    changed = process("-t", "--cwd=/tmp", "--no-new-privs=false", "--apparmor", "profile", "--process-label", "a:b:c:d")
    assert (changed.terminal, changed.cwd, changed.no_new_privileges) == (True, "/tmp", False)
    assert (changed.apparmor_profile, changed.selinux_label) == ("profile", "a:b:c:d")


def test_a_process_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "process.json"
    path.write_text(json.dumps({"cwd": "/srv", "args": ["ls"], "terminal": True}))
    assert read_process(str(path)) == Process(cwd="/srv", args=("ls",), terminal=True)


def test_a_bad_process_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"):
        read_process(str(tmp_path / "none"))
    (tmp_path / "bad").write_text('{"cwd": 1}')
    with pytest.raises(ConfigError, match=f"{tmp_path}/bad: /cwd = 1: expected a string"):
        read_process(str(tmp_path / "bad"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "takes `ID COMMAND [ARGUMENT…]`, none given"),
        ("c1", "`boxwright exec` needs a command"),
        ("--process p.json c1 ls", "`--process` names what to run already"),
        ("--preserve-fds=x c1 ls", "`--preserve-fds` needs a number"),
        ("c1 ls", "container `c1` does not exist"),
    ],
)
def test_what_was_not_run_is_status_255(
    words: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert Invocation(["--root", str(tmp_path), "exec", *words.split()]).run() == 255
    assert message in capfd.readouterr().err
