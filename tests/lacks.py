"""What the machine lacks is skipped by name; BOXWRIGHT_TESTS_STRICT=1 turns each such skip into a failure."""

import os
import shutil

import pytest


def need(name: str, present: object) -> None:
    """Go on where `present` is true, else skip (strict: fail) the test with the name of what is missing."""
    if present:
        return
    if os.environ.get("BOXWRIGHT_TESTS_STRICT") == "1":
        pytest.fail(f"lacks: {name}", pytrace=False)
    pytest.skip(f"lacks: {name}")


def need_root() -> None:
    need("root", os.geteuid() == 0)


def need_program(*names: str) -> None:
    """Each of `names` is on PATH, or in the directories of the super-user's programs."""
    for name in names:
        need(name, find_program(name))


def find_program(name: str) -> str | None:
    """Where `name` is, or None."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
