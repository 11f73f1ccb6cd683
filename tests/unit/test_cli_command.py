"""The command as a process: version, help, failures and what they leave in the log."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from boxwright.cli.help import lines
from boxwright.cli.list import table
from boxwright.cli.main import VERBS, Invocation, verb
from boxwright.cli.options import scan
from boxwright.cli.ps import chosen_lines
from boxwright.cli.reference import reference
from boxwright.cli.run_here import COMMAND as RUN_HERE
from boxwright.cli.settings import ROOT_COMMAND, Globals, globals_from
from boxwright.errors import BoxwrightError, UsageError
from fixtures_runtime import REPOSITORY
from loaded import loaded_by, unwanted

HOT_VERBS = ("create", "start", "state", "kill", "delete", "run", "exec")


def call(command: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([command, *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def settings(*words: str) -> Globals:
    return globals_from(scan(ROOT_COMMAND, words))


@pytest.mark.parametrize("flag", ["--version", "-v", "-version"])
def test_the_version_is_in_the_form_that_engines_parse(boxwright_command: str, flag: str) -> None:
    done = call(boxwright_command, flag)
    first, *rest = done.stdout.splitlines()
    assert (done.returncode, done.stderr, first.split()[:2]) == (0, "", ["boxwright", "version"])
    assert rest.pop().startswith("+SYSTEMD ")
    fields = dict(line.split(": ") for line in rest)
    assert fields.pop("spec") == "1.3.0"
    assert set(fields) <= {"commit"}


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command(boxwright_command: str, words: list[str]) -> None:
    done = call(boxwright_command, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {name} " in done.stdout for name in VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_every_command_tells_what_it_takes(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    command = verb(name).COMMAND
    assert command.name == name
    assert Invocation([name, "--help"]).run() == 0
    shown = capfd.readouterr().out
    assert Invocation(["help", name]).run() == 0
    assert capfd.readouterr().out == shown
    assert all(f"--{flag.name}" in shown for flag in command.flags)


def test_run_tells_of_both_its_forms(capfd: pytest.CaptureFixture[str]) -> None:
    assert Invocation(["run", "--help"]).run() == 0
    shown = capfd.readouterr().out
    assert all(f"--{flag.name}" in shown for flag in (*RUN_HERE.flags, *verb("run").COMMAND.flags))


@pytest.mark.parametrize("name", ["", "run here", *VERBS])
def test_names_of_flags_are_unique(name: str) -> None:
    command = {"": ROOT_COMMAND, "run here": RUN_HERE}.get(name) or verb(name).COMMAND
    flags = command.flags
    names = [name for flag in flags for name in (flag.name, flag.short) if name]
    assert len(names) == len(set(names))
    assert all(len(flag.short) < 2 and len(flag.name) > 1 and flag.help for flag in flags)
    assert all(len(line) <= 100 for line in lines(command))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["krate"], "there is no command `krate`\n  hint: did you mean `create`?"),
        (["--xyzzy"], "`boxwright` has no flag `--xyzzy`\n  hint: see `boxwright --help`"),
        (["state"], "`boxwright state` takes `ID`, none given\n  hint: see `boxwright state --help`"),
        (["--root", "/", "list"], "`--root` cannot be `/`: every directory there would be taken for a container"),
        (["--rootless=maybe", "list"], "`--rootless` cannot be `maybe`\n  hint: it is one of `auto`, `true`, `false`"),
    ],
)
def test_wrong_words_are_status_1(boxwright_command: str, words: list[str], message: str) -> None:
    done = call(boxwright_command, *words)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {message}\n")


def test_the_failure_is_the_last_entry_of_the_log(boxwright_command: str, tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    flags = ["--root", str(tmp_path / "root"), "--log", str(log), "--log-format=json"]
    done = call(boxwright_command, *flags, "state", "c1")
    entry = json.loads(log.read_text().splitlines()[-1])
    assert (done.returncode, done.stderr) == (1, "error: container `c1` does not exist\n")
    assert (entry["level"], entry["msg"]) == ("error", "container `c1` does not exist")


def test_a_reader_that_went_away_is_no_error_of_ours(boxwright_command: str) -> None:
    process = subprocess.Popen([boxwright_command, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


def test_output_that_cannot_be_written_is_an_error(boxwright_command: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([boxwright_command, "features"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"error: cannot write the output: No space left on device (ENOSPC)\n")


def test_closed_standard_descriptors_get_nothing_that_is_opened_later(boxwright_command: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    shell = f"exec {boxwright_command} --log {log} --root {tmp_path}/root state c1 <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == 1
    assert log.read_text().count("container `c1` does not exist") == 1


def test_an_unexpected_exception_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = f"""
import os, sys
sys.argv = ["boxwright", "--debug", "--log={log}", "--log-format=json", "list"]
sys.path.insert(0, {str(REPOSITORY / "src")!r})
import boxwright.cli.list
boxwright.cli.list.parse = None
from boxwright.cli.main import main
main()
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False)
    message = "internal error: TypeError: 'NoneType' object is not callable"
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith(f"error: {message}\n")
    assert json.loads(log.read_text())["msg"] == message


def test_global_flags_of_runc_and_crun_are_known() -> None:
    found = settings("--root", "/run/x/../y", "--systemd-cgroup", "--rootless=true", "--criu=/bin/criu", "--debug", "x")
    assert (found.root, found.cgroup_manager, found.rootless) == ("/run/y", "systemd", True)
    assert (found.criu, found.debug) == ("/bin/criu", True)
    assert settings("--cgroup-manager=disabled", "x").cgroup_manager == "disabled"
    assert (settings("x").cgroup_manager, settings("x").rootless, settings("x").root) == ("cgroupfs", None, "")


@pytest.mark.parametrize("words", ["--cgroup-manager=none", "--log-format=xml", "--log-level=loud"])
def test_values_of_global_flags_are_checked(words: str) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        settings(words, "x")


def test_a_table_is_as_wide_as_its_cells() -> None:
    long = "/a/bundle/with/a/long/name"
    states = [{"id": "c1", "pid": 7, "status": "running", "bundle": long, "created": "now", "owner": "root"}]
    heading, row = table(states).splitlines()
    assert heading.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert row.split() == ["c1", "7", "running", long, "now", "root"]
    assert heading.index("CREATED") == row.index("now")


def test_ps_keeps_the_lines_of_the_container() -> None:
    listing = "UID   PID  PPID CMD\nroot    1     0 init\nroot   20     1 sleep 1\nroot  200     1 x 20\n"
    assert chosen_lines(listing, {20}) == "UID   PID  PPID CMD\nroot   20     1 sleep 1\n"


def test_ps_needs_the_column_of_ids() -> None:
    with pytest.raises(BoxwrightError, match="printed no column `PID`"):
        chosen_lines("CMD\ninit\n", {1})


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_completion_is_a_script(shell: str, boxwright_command: str) -> None:
    script = call(boxwright_command, "completion", shell).stdout
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    asked = f'{script}\nCOMP_WORDS=(boxwright exec --proc); COMP_CWORD=2; _boxwright; echo "${{COMPREPLY[@]}}"'
    if shell == "bash":
        done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["--process=", "--process-label="]


def test_the_reference_is_up_to_date() -> None:
    page = REPOSITORY / "docs/reference/cli.md"
    assert page.read_text() == reference(), "write it anew: python -m boxwright.cli.reference docs/reference/cli.md"


@pytest.mark.parametrize("name", HOT_VERBS)
def test_a_hot_verb_loads_little(name: str) -> None:
    loaded = loaded_by(f"import boxwright.cli.main, boxwright.cli.{name}, boxwright.runtime.{name}")
    assert unwanted(loaded) - loaded_by("import os") <= {"_sha256", "_sha2"}
    others = set(VERBS) - {name} | {"run_here", "help", "failure", "suggest", "version"}
    assert not loaded & {f"boxwright.cli.{other}" for other in others}
