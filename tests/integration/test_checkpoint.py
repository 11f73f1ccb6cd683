"""checkpoint and restore, as far as a host without a CRIU that works goes; tests/guest has the rest."""

import subprocess
from pathlib import Path

import pytest

import lacks
from fixtures_runtime import BundleFactory, Runtime, default_config

pytestmark = pytest.mark.root

BROKEN = "#!/bin/sh\necho 'Error (criu/kerndat.c:1): no such luck' >&2\nexit 1\n"


@pytest.fixture
def running(boxwright: Runtime, bundle: BundleFactory) -> Runtime:
    boxwright.create("c1", bundle(default_config("/bin/sleep", "60")))
    boxwright.start("c1")
    return boxwright


def criu_works() -> bool:
    criu = lacks.find_program("criu")
    return bool(criu) and subprocess.run([str(criu), "check"], capture_output=True, check=False).returncode == 0


def test_a_missing_criu_is_told(running: Runtime, tmp_path: Path) -> None:
    args = ("--criu", tmp_path / "criu", "checkpoint", "--image-path", tmp_path / "images", "c1")
    result = running.call(*args, check=False)
    assert result.status == 1
    assert f"`{tmp_path}/criu` is not installed" in result.stderr
    assert running.state("c1")["status"] == "running"


def test_a_criu_that_does_not_work_is_told_in_its_words(running: Runtime, tmp_path: Path) -> None:
    program = tmp_path / "criu"
    program.write_text(BROKEN)
    program.chmod(0o755)
    args = ("--criu", program, "checkpoint", "--image-path", tmp_path / "images", "c1")
    result = running.call(*args, check=False)
    assert result.status == 1
    assert "`checkpoint` is not supported by the `linux` box here" in result.stderr
    assert "check` says: Error (criu/kerndat.c:1): no such luck" in result.stderr
    assert running.state("c1")["status"] == "running"


def test_only_a_running_container_can_be_dumped(boxwright: Runtime, bundle: BundleFactory, tmp_path: Path) -> None:
    boxwright.create("c1", bundle(default_config("/bin/sleep", "60")))
    result = boxwright.call("checkpoint", "--image-path", tmp_path / "images", "c1", check=False)
    assert "container `c1` is created, not running" in result.stderr


def test_what_was_not_dumped_cannot_be_restored(boxwright: Runtime, bundle: BundleFactory, tmp_path: Path) -> None:
    path = bundle(default_config("/bin/sleep", "60"))
    result = boxwright.call("restore", "--bundle", path, "--image-path", tmp_path / "images", "c1", check=False)
    assert result.status == 1
    assert "only what `boxwright checkpoint` dumped can be restored" in result.stderr
    assert boxwright.ids() == []


def test_a_container_goes_on_where_it_was(running: Runtime, bundle: BundleFactory, tmp_path: Path) -> None:
    lacks.need("a CRIU that works", criu_works())
    images = tmp_path / "images"
    running.call("checkpoint", "--image-path", images, "c1")
    assert running.ids() == []
    path = bundle(default_config("/bin/sleep", "60"))
    running.call("restore", "--detach", "--bundle", path, "--image-path", images, "c2")
    assert running.state("c2")["status"] == "running"
