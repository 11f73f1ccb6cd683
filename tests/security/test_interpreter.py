"""What the command and the helper load is theirs: nothing of the caller's directory and environment, nor of an image."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import lacks
from fixtures_runtime import REPOSITORY, BundleFactory, Runtime, default_config

pytestmark = pytest.mark.root

# what Python looks for at its start, and what the command imports: at once, or when it comes to it
MODULES = (
    *("boxwright", "encodings", "site", "sitecustomize", "usercustomize", "os", "io", "abc", "codecs", "stat"),
    *("errno", "select", "struct", "time", "json", "re", "enum", "socket", "ctypes", "subprocess", "tempfile"),
    *("textwrap", "shutil", "pathlib", "signal", "datetime", "urllib", "jeepney", "rich"),
)
# it may be loaded before there is an `open`
MODULE = """\
import posix
posix.write(posix.open({log!r}, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND), __name__.encode() + b" ")
"""
PT_DYNAMIC, PT_INTERP = 2, 3


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A directory with modules that leave their names in `log`, at all places where modules are looked for."""
    path = tmp_path / "planted"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for place in ("", f"lib/{version}", f"lib/{version}/site-packages", f".local/lib/{version}/site-packages"):
        directory = path / place
        directory.mkdir(parents=True, exist_ok=True)
        for name in MODULES:
            (directory / f"{name}.py").write_text(MODULE.format(log=str(path / "log")))
        (directory / "planted.pth").write_text("import json\n")
    return path


def _environment(planted: Path) -> dict[str, str]:
    """What would lead an interpreter there, if it looked."""
    where = str(planted)
    names = ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX", "HOME")
    startup = {"PYTHONSTARTUP": f"{where}/json.py", "PYTHONINSPECT": "1", "PYTHONBREAKPOINT": "json.x"}
    return {**dict.fromkeys(names, where), **startup, "PATH": os.environ["PATH"]}


@pytest.mark.parametrize("name", ["boxwright", "boxwright-unfrozen"])
def test_no_module_of_the_caller_is_imported(
    boxwright_command: str, bundle: BundleFactory, tmp_path: Path, planted: Path, name: str
) -> None:
    """CVE-2019-14271: modules in the current directory, in PYTHON* and below HOME are none of the command's."""
    command = Path(boxwright_command).with_name(name)
    lacks.need(f"a command `{name}` beside the one under test", command.exists())
    environment = _environment(planted)
    without_home = {key: value for key, value in environment.items() if key != "PYTHONHOME"}
    subprocess.run([sys.executable, "-c", ""], env=without_home, cwd=planted, check=False, capture_output=True)
    assert (planted / "log").read_text()
    (planted / "log").unlink()
    runtime = Runtime([str(command)], tmp_path)
    path = bundle(default_config("/bin/true"))
    how = {"env": environment, "cwd": planted}
    for words in (("features",), ("list",), ("explain", str(path)), ("doctor",), ("run", "--bundle", str(path), "c1")):
        result = runtime.call(*words, check=words[0] != "doctor", **how)
        assert "Traceback" not in result.stderr
        assert not (planted / "log").exists(), words


def test_the_helper_loads_no_library() -> None:
    """CVE-2019-14271: inside of an image the helper has no loader, no libc and no NSS to find there."""
    content = (REPOSITORY / "src/boxwright/_native/boxwright-helper").read_bytes()
    assert content[:5] == b"\x7fELF\x02"
    (table,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    kinds = {struct.unpack_from("<I", content, table + index * size)[0] for index in range(count)}
    assert kinds
    assert not kinds & {PT_DYNAMIC, PT_INTERP}
