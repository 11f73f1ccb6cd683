import pytest

import lacks

pytest_plugins = [
    "fixtures_library",
    "fixtures_net",
    "fixtures_probe",
    "fixtures_roots",
    "fixtures_runtime",
    "leaks",
    "spec_table",
]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "root: needs the super-user")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root"):
        lacks.need_root()
