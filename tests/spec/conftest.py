"""The standard's own files, where they lie beside the repository."""

import os
from pathlib import Path

import pytest

import lacks
from fixtures_runtime import REPOSITORY


@pytest.fixture(scope="session")
def spec_dir() -> Path:
    """The directory of the runtime specification: BOXWRIGHT_SPEC_DIR, or beside the repository."""
    given = os.environ.get("BOXWRIGHT_SPEC_DIR")
    places = [Path(given)] if given else [parent / "shared/runtime-spec" for parent in REPOSITORY.parents[:2]]
    found = [place for place in places if (place / "schema").is_dir()]
    lacks.need("the files of the runtime specification", found)
    return found[0]
