"""`spec`: the configuration to start from."""

import json
from pathlib import Path

import pytest

from boxwright.cli.main import Invocation
from boxwright.spec.decode import decode
from boxwright.spec.default import default_config
from boxwright.spec.validate import validate


@pytest.mark.parametrize("rootless", [False, True])
def test_the_default_is_valid(rootless: bool) -> None:
    document = default_config(rootless=rootless, uid=1000, gid=1001)
    assert validate(decode(json.dumps(document).encode())) == []


def test_the_default_gives_no_capability_to_a_program_by_its_file() -> None:
    capabilities = default_config()["process"]["capabilities"]
    assert sorted(capabilities) == ["bounding", "effective", "permitted"]


def test_the_rootless_default_maps_the_caller() -> None:
    linux = default_config(rootless=True, uid=1000, gid=1001)["linux"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert linux["gidMappings"] == [{"containerID": 0, "hostID": 1001, "size": 1}]
    kinds = {namespace["type"] for namespace in linux["namespaces"]}
    assert ("user" in kinds, "network" in kinds, "resources" in linux) == (True, False, False)


@pytest.mark.parametrize("flags", [[], ["--rootless"]])
def test_it_is_written_into_the_bundle(flags: list[str], tmp_path: Path) -> None:
    assert Invocation(["spec", "--bundle", str(tmp_path), *flags]).run() == 0
    text = (tmp_path / "config.json").read_text()
    assert text.startswith('{\n    "ociVersion": ')
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert ("uidMappings" in json.loads(text)["linux"]) == bool(flags)


def test_a_configuration_that_exists_is_left_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("mine")
    assert Invocation(["spec", "--bundle", str(tmp_path)]).run() == 1
    assert (tmp_path / "config.json").read_text() == "mine"
    assert f"error: `{tmp_path}/config.json` exists\n" in capfd.readouterr().err


def test_a_bundle_that_does_not_exist_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert Invocation(["spec", "-b", str(tmp_path / "none")]).run() == 1
    assert "No such file or directory" in capfd.readouterr().err
