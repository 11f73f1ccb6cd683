"""The standard's own files, where they lie beside the repository; its tests in virtual machines."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator
from referencing import Registry
from referencing.jsonschema import DRAFT4

import lacks
from fixtures_runtime import REPOSITORY
from spec_in_vm import VM, choose


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What runs a container runs it in a virtual machine too."""
    if "boxes" in metafunc.fixturenames:
        kinds = [pytest.param("linux", id=pytest.HIDDEN_PARAM), pytest.param(VM, marks=pytest.mark.vm)]
        metafunc.parametrize("isolation", kinds, indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = choose(items)


@pytest.fixture(scope="session")
def spec_dir() -> Path:
    """The directory of the runtime specification: BOXWRIGHT_SPEC_DIR, or beside the repository."""
    given = os.environ.get("BOXWRIGHT_SPEC_DIR")
    places = [Path(given)] if given else [parent / "shared/runtime-spec" for parent in REPOSITORY.parents[:2]]
    found = [place for place in places if (place / "schema").is_dir()]
    lacks.need("the files of the runtime specification", found)
    return found[0]


@pytest.fixture(scope="session")
def schemas(spec_dir: Path) -> dict[str, Any]:
    """The standard's schemas by the names of their files."""
    return {path.name: json.loads(path.read_text()) for path in (spec_dir / "schema").glob("*.json")}


@pytest.fixture(scope="session")
def validator(schemas: dict[str, Any]) -> Callable[[str], Draft4Validator]:
    """Validators for documents by the schema of that name."""
    resources = [(name, DRAFT4.create_resource(schema)) for name, schema in schemas.items()]
    registry = Registry().with_resources(resources)
    return lambda name: Draft4Validator(schemas[name], registry=registry)
