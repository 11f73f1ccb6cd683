"""Session keyrings: each box has one of its own, in which nobody else finds, reads or puts a key."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from attacks import findings, wait_for

from fixtures_runtime import BundleFactory, Json, Runtime, default_config

pytestmark = pytest.mark.root

KEY = "boxwright-secret"
OWNER, BOX = "owner", "thief"
# in turn: to find the key in the other's keyring, to see what is in that, to take the key, to take the whole keyring,
# and to have it from what was taken
NOTHING = {
    **dict.fromkeys(("search", "list", "link", "link-ring", "read"), "EACCES"),
    "search-own": "ENOKEY",
}


def _config(*words: str) -> Json:
    return default_config("/bin/attacker", *words)


def _owner(boxwright: Runtime, bundle: BundleFactory, root: Path, *words: str) -> dict[str, str]:
    """Run a box that holds a key: the numbers of its keyring and of the key."""
    result = boxwright.create(OWNER, bundle(_config("keyring-add", KEY, *words), root=root))
    boxwright.start(OWNER)
    wait_for(lambda: "key" in findings(result.stderr))
    return _checked(result.stderr)


def _checked(text: str) -> dict[str, str]:
    """What the owner of a key tells, once it is sure that there is one."""
    found = findings(text)
    assert int(found["key"]) > 0, found
    return found


def _attempts(theirs: dict[str, str]) -> tuple[str, ...]:
    return "keyring-try", KEY, theirs["session"], theirs["key"]


def _assert_kept(theirs: dict[str, str], text: str, **changes: str) -> None:
    """Who tried has another keyring, and got nothing of this one but for `changes`."""
    found = findings(text)
    assert int(found.pop("session")) not in {int(theirs["session"]), -1}
    assert found == NOTHING | changes


def test_a_key_of_one_box_is_not_in_another(boxwright: Runtime, bundle: BundleFactory, hostile_root: Path) -> None:
    """Keyrings: another box of the same user neither finds nor reads a key, nor links the keyring into its own."""
    theirs = _owner(boxwright, bundle, hostile_root)
    result = boxwright.run(BOX, bundle(_config(*_attempts(theirs)), root=hostile_root))
    _assert_kept(theirs, result.stdout)


def test_a_keyring_that_others_made_before_is_not_joined(
    boxwright: Runtime, bundle: BundleFactory, hostile_root: Path
) -> None:
    """Keyrings: another box makes one by each name that the next may ask for, and opens it for everybody."""
    theirs = _owner(boxwright, bundle, hostile_root, f"_ses.{BOX}")
    config = default_config("/bin/attacker", "keyring-try", KEY, "0", "0")
    found = findings(boxwright.run(BOX, bundle(config, root=hostile_root)).stdout)
    assert found["session"] != theirs["session"]
    assert found["search-own"] == "ENOKEY"


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_key_of_the_caller_is_not_in_the_box(
    boxwright: Runtime,
    bundle: BundleFactory,
    hostile_root: Path,
    attacker: Path,
    background: Callable[..., "subprocess.Popen[str]"],
    verb: str,
) -> None:
    """Keyrings: the caller's session keyring is neither that of the box nor that of what `exec` runs in it."""
    boxwright.create(BOX, bundle(default_config("/bin/sleep", "300"), root=hostile_root))
    boxwright.start(BOX)
    ready = ["sh", "-c", 'read -r line; exec "$@" $line', "sh", *boxwright.command, "--root", str(boxwright.root)]
    words = ["exec", BOX, "/bin/attacker"] if verb == "exec" else ["run", "--bundle"]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = background(attacker, "keyring-add", KEY, "--", *ready, *words, **pipes)
    assert process.stderr
    theirs = _checked(process.stderr.readline() + process.stderr.readline())
    attempts = _attempts(theirs)
    line = " ".join(attempts)
    if verb == "run":
        line = f"{bundle(_config(*attempts), root=hostile_root)} {OWNER}"
    out, _ = process.communicate(line + "\n", timeout=30)
    _assert_kept(theirs, out, list="ok")  # the kernel lets the caller's user do that, where the caller does not
