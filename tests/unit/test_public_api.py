"""What `import boxwright` gives and what it costs."""

import inspect

import pytest

import boxwright
from boxwright import aio
from boxwright.errors import BoxwrightError
from loaded import loaded_by, unwanted

PUBLIC = {
    "DEVNULL",
    "PIPE",
    "Bind",
    "Box",
    "BoxwrightError",
    "ConfigError",
    "ExistsError",
    "GuestError",
    "HookError",
    "HostError",
    "ImageError",
    "Limits",
    "NotFoundError",
    "Problem",
    "Process",
    "Result",
    "Runtime",
    "StateError",
    "Stats",
    "UnsupportedError",
    "Usage",
    "UsageError",
    "__version__",
    "aio",
    "run",
}


def test_the_public_surface_changes_only_on_purpose():
    assert set(boxwright.__all__) == PUBLIC
    assert set(dir(boxwright)) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_can_be_had(name):
    assert getattr(boxwright, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute `nothing`"):
        _ = boxwright.nothing


def test_importing_loads_nothing_else():
    own = {name for name in loaded_by("import boxwright") if name.startswith("boxwright")}
    assert own == {"boxwright"}
    assert unwanted(loaded_by("import boxwright")) == set()


def test_running_loads_nothing_dear():
    assert unwanted(loaded_by("import boxwright; boxwright.run")) == set()


def test_all_errors_are_of_one_family():
    errors = [getattr(boxwright, name) for name in PUBLIC if name.endswith("Error")]
    assert len(errors) == 11
    assert all(issubclass(error, BoxwrightError) for error in errors)


@pytest.mark.parametrize("name", ["run", "Box"])
def test_the_asyncio_twin_takes_the_same_arguments(name):
    assert inspect.signature(getattr(aio, name)).parameters == inspect.signature(getattr(boxwright, name)).parameters


@pytest.mark.parametrize("name", ["exec", "spawn", "put", "get", "kill", "pause", "resume", "update", "stats", "state"])
def test_the_methods_of_the_asyncio_box_take_the_same_arguments(name):
    twins = [inspect.signature(getattr(cls, name)).parameters for cls in (boxwright.Box, aio.Box)]
    assert twins[0] == twins[1]


def test_every_public_thing_is_documented():
    for cls in (boxwright.Box, aio.Box, boxwright.Process, aio.Process, boxwright.Runtime, boxwright.Limits):
        assert inspect.getdoc(cls)
        for name, member in inspect.getmembers(cls, inspect.isfunction):
            assert name.startswith("_") or inspect.getdoc(member), f"{cls.__name__}.{name}"
