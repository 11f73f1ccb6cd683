"""The five operations and their two conveniences, as an engine calls them."""

from pathlib import Path

import pytest

from fixtures_runtime import BundleFactory, Runtime, default_config

pytestmark = pytest.mark.root


def test_run_gives_output_and_status(boxwright: Runtime, bundle: BundleFactory) -> None:
    result = boxwright.run("c1", bundle(default_config("/bin/sh", "-c", "hostname; id -u; exit 7")))
    assert (result.status, result.stdout.split()) == (7, ["box", "0"])
    assert boxwright.ids() == []


def test_a_container_goes_through_its_states(boxwright: Runtime, bundle: BundleFactory, tmp_path: Path) -> None:
    path = bundle(default_config("/bin/sleep", "60"))
    boxwright.create("c1", path, "--pid-file", str(tmp_path / "pid"))
    created = boxwright.state("c1")
    assert (created["status"], created["id"], created["bundle"]) == ("created", "c1", str(path))
    assert created["pid"] == int((tmp_path / "pid").read_text())
    boxwright.start("c1")
    assert boxwright.state("c1")["status"] == "running"
    boxwright.kill("c1", "KILL")
    boxwright.wait_stopped("c1")
    boxwright.delete("c1")
    assert boxwright.call("state", "c1", check=False).status != 0


def test_nothing_of_the_program_runs_before_start(boxwright: Runtime, bundle: BundleFactory) -> None:
    created = boxwright.create("c1", bundle(default_config("/bin/echo", "started")))
    assert created.stdout == ""
    boxwright.start("c1")
    boxwright.wait_stopped("c1")
    assert created.stdout == "started\n"


def test_exec_joins_the_container(boxwright: Runtime, bundle: BundleFactory) -> None:
    boxwright.create("c1", bundle(default_config("/bin/sleep", "60")))
    boxwright.start("c1")
    result = boxwright.exec("c1", "/bin/sh", "-c", "hostname; cat /proc/1/cmdline; exit 3")
    assert (result.status, result.stdout) == (3, "box\n/bin/sleep\00060\0")


def test_a_writable_root_is_the_bundle_s_own(boxwright: Runtime, bundle: BundleFactory) -> None:
    config = default_config("/bin/touch", "/made", root={"path": "rootfs"})
    path = bundle(config, copy=True)
    assert boxwright.run("c1", path).status == 0
    assert (path / "rootfs/made").exists()


def test_a_created_container_can_be_deleted_by_force(boxwright: Runtime, bundle: BundleFactory) -> None:
    boxwright.create("c1", bundle(default_config("/bin/sleep", "60")))
    boxwright.delete("c1", "--force")
    assert boxwright.ids() == []
