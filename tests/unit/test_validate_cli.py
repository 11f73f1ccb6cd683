"""`validate` lists every problem at once, with its place in the file."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.cli.log import Log
from boxwright.cli.settings import Globals
from boxwright.cli.validate import findings, run
from boxwright.errors import HostError
from boxwright.spec.positions import nearest, positions
from fixtures_runtime import default_config

BROKEN = """{
  "ociVersion": "1.3.0",
  "root": {"path": "rootfs"},
  "process": {
    "cwd": "relative",
    "args": ["sh"],
    "colour": "red",
    "rlimits": [{"type": "RLIMIT_NOFIEL", "soft": 1, "hard": 1}]
  },
  "linux": {
    "namespaces": [
      {"type": "pid"},
      {"type": "pid"}
    ]
  }
}
"""


def validate(*args: str) -> int:
    return run(list(args), Globals(log=Log()))


def write(directory: Path, text: str) -> Path:
    (directory / "config.json").write_text(text)
    return directory


def test_every_problem_with_its_place(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = write(tmp_path, BROKEN)
    assert validate(str(bundle)) == 1
    lines = capfd.readouterr().out.splitlines()
    name = f"{bundle}/config.json"
    assert any(line.startswith(f"{name}:5:12: error: /process/cwd = 'relative': must be an absolute") for line in lines)
    assert any(line.startswith(f"{name}:7:15: warning: /process/colour") for line in lines)
    assert any(line.startswith(f"{name}:8:26: error: /process/rlimits/0/type") for line in lines)
    assert any("RLIMIT_NOFILE" in line and "hint" in line for line in lines)
    assert any(line.startswith(f"{name}:13:") and "/linux/namespaces/1" in line for line in lines)
    assert lines[-1] == f"{name}: not valid, 3 errors and 1 warning"


def test_as_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert validate("--json", str(write(tmp_path, BROKEN) / "config.json")) == 1
    found = json.loads(capfd.readouterr().out)
    assert [(one["line"], one["severity"]) for one in found] == [
        (5, "error"),
        (7, "warning"),
        (8, "error"),
        (13, "error"),
    ]
    assert found[0]["pointer"] == "/process/cwd"
    assert found[0]["section"].startswith("config.md#")


def test_valid_configuration(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert validate(str(write(tmp_path, json.dumps(default_config())))) == 0
    assert capfd.readouterr().out == f"{tmp_path}/config.json: valid\n"


def test_warnings_alone_are_no_failure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert validate(str(write(tmp_path, json.dumps(default_config(extra=1))))) == 0
    assert "valid, 1 warning" in capfd.readouterr().out


def test_problems_of_types_are_all_told() -> None:
    document = b'{"ociVersion": 1, "process": {"cwd": [], "args": ["x"]}, "strange": 0}'
    found = findings(document)
    assert [finding.problem.pointer for finding in found] == ["/ociVersion", "/process/cwd", "/strange"]
    assert [finding.severity for finding in found] == ["error", "error", "warning"]


@pytest.mark.parametrize("document", [b"", b"{", b'{"a": 1,}', b"\xff", b'{"a": 1, "a": 2}', b"[" * 100_000])
def test_what_is_not_json_is_one_error(document: bytes) -> None:
    found = findings(document)
    assert any(finding.severity == "error" for finding in found)


def test_other_platforms_go_by_their_own_rules() -> None:
    document = {"ociVersion": "1.3.0", "windows": {"layerFolders": []}, "process": {"cwd": "C:\\", "args": ["cmd"]}}
    found = findings(json.dumps(document).encode())
    assert "/windows/layerFolders" in {finding.problem.pointer for finding in found}
    assert "/root" not in {finding.problem.pointer for finding in found}


def test_what_the_box_does_not_honour_is_a_warning() -> None:
    document = default_config(vm={"kernel": {"path": "/boot/vmlinuz"}})
    (found,) = findings(json.dumps(document).encode())
    assert found.severity == "warning"
    assert found.problem.pointer == "/vm"


def test_system_calls_that_are_not_known_are_warnings() -> None:
    document = default_config()
    rules = [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["openat", "no_such"], "action": "SCMP_ACT_LOG"},
    ]
    document["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}
    (found,) = findings(json.dumps(document).encode())
    assert (found.severity, found.problem.pointer) == ("warning", "/linux/seccomp/syscalls/1/names/1")
    assert found.problem.value == "no_such"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file"):
        validate(str(tmp_path))


# --- places -----------------------------------------------------------------------------------------------------


def test_places_of_values() -> None:
    places = positions('{\n  "a": [1,\n    {"b/c": "x\\"y"}],\n "d": true }')
    assert places == {"": (1, 1), "/a": (2, 8), "/a/0": (2, 9), "/a/1": (3, 5), "/a/1/b~1c": (3, 13), "/d": (4, 7)}
    assert nearest(places, "/a/1/missing/deep") == (3, 5)
    assert nearest(places, "/nothing") == (1, 1)


def test_escaped_names_are_the_names_they_mean() -> None:
    assert "/é" in positions('{"\\u00e9": 1}')


def pointers(value: object, at: str = "") -> list[str]:
    found = [at]
    if isinstance(value, dict):
        for name, below in value.items():
            found += pointers(below, f"{at}/{name.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for index, below in enumerate(value):
            found += pointers(below, f"{at}/{index}")
    return found


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=12,
)


@given(VALUES, st.sampled_from([None, 1, 3]), st.booleans())
def test_every_value_has_a_place(value: object, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert sorted(positions(text)) == sorted(pointers(value))
    lines = text.split("\n")
    for line, column in positions(text).values():
        assert lines[line - 1][column - 1] not in " ,:]}"


@given(st.text(alphabet='{}[]",:1a\\ \n'))
def test_no_text_makes_it_fail(text: str) -> None:
    assert isinstance(positions(text), dict)
