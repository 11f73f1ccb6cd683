"""What the attacks share: the hostile program, a root with it, and processes beside a test."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attacks import our_groups

import lacks
from fixtures_roots import copy_root

ATTACKER = Path(__file__).with_name("attacker.c")


@pytest.fixture(scope="session")
def attacker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hostile program: static, for any root."""
    compiler = lacks.find_program("gcc") or lacks.find_program("cc")
    lacks.need("C compiler", compiler)
    target = tmp_path_factory.mktemp("attacker") / "attacker"
    subprocess.run([str(compiler), "-O1", "-static", "-o", target, ATTACKER], check=True)
    return target


@pytest.fixture(scope="session")
def hostile_root(tmp_path_factory: pytest.TempPathFactory, busybox_root: Path, attacker: Path) -> Path:
    """The busybox root with the hostile program as /bin/attacker. Shared: use it read-only, or copy it."""
    path = tmp_path_factory.mktemp("hostile") / "rootfs"
    copy_root(busybox_root, path)
    shutil.copy2(attacker, path / "bin/attacker")
    return path


@pytest.fixture(autouse=True)
def _no_shared_parents() -> Iterator[None]:
    """Of two boxes at once, the one that made their groups' parent may be the first to go, and leaves it."""
    yield
    for directory in reversed(our_groups()):
        os.rmdir(directory)


@pytest.fixture
def background() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start commands beside the test; those still there at its end are killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*command: object, **how: object) -> "subprocess.Popen[str]":
        words = [str(word) for word in command]
        process: subprocess.Popen[str] = subprocess.Popen(words, text=True, stdout=subprocess.PIPE, **how)  # type: ignore[call-overload]
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
