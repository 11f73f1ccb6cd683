"""`pip install .` in a fresh environment gives a command and a library that work."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lacks

REPOSITORY = Path(__file__).parents[2]
SECONDS = 300
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__", "_native", ".*_cache")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with Boxwright in it, installed from a copy of the checkout without what was built there."""
    lacks.need_program("musl-gcc", "make")
    directory = tmp_path_factory.mktemp("install")
    directory.chmod(0o755)
    shutil.copytree(REPOSITORY, directory / "source", ignore=LEFT_OUT, symlinks=True)
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True, timeout=SECONDS)
    words = [directory / "venv/bin/python", "-m", "pip", "install", "--quiet", directory / "source"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    lacks.need("a package index", "Could not find a version that satisfies" not in done.stderr)
    assert done.returncode == 0, done.stderr
    return directory / "venv"


def call(*words: "str | Path", cwd: Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_runs_something_in_a_box(environment: Path) -> None:
    command = environment / "bin/boxwright"
    assert call(command, "--version", cwd=environment).startswith("boxwright ")
    assert call(command, "run", "--", "hostname", cwd=environment) == "box\n"


def test_the_library_runs_something_in_a_box(environment: Path) -> None:
    script = "import boxwright; print(boxwright.__file__, boxwright.run(['hostname']).stdout)"
    file, said = call(environment / "bin/python", "-c", script, cwd=environment).split()
    assert Path(file).is_relative_to(environment)
    assert said == r"b'box\n'"


def test_what_types_are_is_told(environment: Path) -> None:
    package = next(environment.glob("lib/python3*/site-packages/boxwright"))
    assert (package / "py.typed").exists()
    assert (package / "_native/boxwright-helper").stat().st_mode & 0o111
