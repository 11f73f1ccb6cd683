"""What the verbs that engines call load, in the life of a real container."""

import json
import os
from pathlib import Path

import pytest

import lacks
from fixtures_runtime import REPOSITORY, Json, Runtime, default_config
from loaded import base_python, loaded_by, unwanted

pytestmark = pytest.mark.root

# what asks for a container that exists has no business in deciding what one is made of
COMPILING = ("boxes", "plan.builder", "plan.compile", "spec.validate")
READING = ("spec.decode", "spec.types")
KEPT_OUT = {
    "start": (*COMPILING, *READING),
    "state": (*COMPILING, *READING, "host.spawn", "plan.ops"),
    "kill": (*COMPILING, *READING, "host.spawn", "plan.ops"),
    "delete": (*COMPILING, *READING, "host.spawn", "plan.ops"),
}
EVERY_VERB = ("create", "start", "state", "exec", "kill", "delete", "run")

Loaded = dict[str, frozenset[str]]


@pytest.fixture(scope="module")
def loaded_by_verb(boxwright_command: str, tmp_path_factory: pytest.TempPathFactory, busybox_root: Path) -> Loaded:
    unfrozen = f"{boxwright_command}-unfrozen"  # what loads as it goes; the command itself has loaded already
    script = unfrozen if os.path.exists(unfrozen) else boxwright_command
    with open(script, "rb") as file:
        lacks.need("a command written by tools/make-launcher", b"python" in file.readline())
    directory = tmp_path_factory.mktemp("verbs")
    runtime = Runtime([base_python(), "-ISXutf8", "-X", "importtime", script], directory)
    try:
        return _life(runtime, directory, busybox_root)
    finally:
        runtime.close()


def _life(runtime: Runtime, directory: Path, root: Path) -> Loaded:
    long = _bundle(directory / "long", default_config("/bin/sleep", "60"), root)
    short = _bundle(directory / "short", default_config("/bin/true"), root)
    life = {
        "create": runtime.create("c1", long),
        "start": runtime.start("c1"),
        "state": runtime.call("state", "c1"),
        "exec": runtime.exec("c1", "/bin/true", check=True),
        "kill": runtime.kill("c1"),
        "delete": runtime.delete("c1", "--force"),
        "run": runtime.run("c2", short, check=True),
    }
    return {verb: _imported(result.stderr) for verb, result in life.items()}


def _bundle(path: Path, config: Json, root: Path) -> Path:
    path.mkdir()
    config["root"]["path"] = str(root)
    (path / "config.json").write_text(json.dumps(config))
    return path


def _imported(stderr: str) -> frozenset[str]:
    """The names in the output of `-X importtime`."""
    lines = (line for line in stderr.splitlines() if line.startswith("import time:"))
    return frozenset(line.rpartition("|")[2].strip() for line in lines) - {"imported package"}


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_a_hot_verb_loads_only_what_is_free(verb: str, loaded_by_verb: Loaded) -> None:
    assert "boxwright.cli.main" in loaded_by_verb[verb]
    assert unwanted(loaded_by_verb[verb]) == set()


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_the_frozen_command_holds_what_a_hot_verb_loads(verb: str, loaded_by_verb: Loaded) -> None:
    script = REPOSITORY / "tools/frozen-command.py"
    held = loaded_by(f"exec(open({str(script)!r}).read())")
    # an extension module's place in memory is another at each start
    assert loaded_by_verb[verb] - held <= {"_json", "_sha2"}


@pytest.mark.parametrize("verb", KEPT_OUT)
def test_a_hot_verb_loads_nothing_that_others_need(verb: str, loaded_by_verb: Loaded) -> None:
    kept_out = {f"boxwright.{name}" for name in KEPT_OUT[verb]}
    assert loaded_by_verb[verb] & kept_out == set()
    assert loaded_by_verb["create"] >= {f"boxwright.{name}" for name in COMPILING}
