import pytest

import lacks

# each before those that import it, so that its assertions are rewritten
pytest_plugins = [
    "fixtures_machine",
    "fixtures_net",
    "fixtures_roots",
    "fixtures_runtime",
    "fixtures_probe",
    "fixtures_vm",
    "fixtures_library",
    "leaks",
    "spec_table",
]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "root: needs the super-user")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root"):
        lacks.need_root()
