"""Other projects' suites and engines. They can be run with any runtime, to test the tests:

BOXWRIGHT_TESTS_RUNTIME=/usr/sbin/runc pytest -m peers
"""

import os
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# the suite's name -> case -> (verdict of the suite's own runtime, verdict of the runtime under test)
Results = dict[str, dict[str, tuple[str, str]]]
RESULTS = pytest.StashKey[Results]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(RESULTS, {})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents or item.name == "test_the_machine_is_as_before":
            item.add_marker("peers")


@pytest.fixture(scope="session")
def runtime_path(request: pytest.FixtureRequest) -> str:
    """The runtime under test: $BOXWRIGHT_TESTS_RUNTIME, or the checkout's command."""
    named = os.environ.get("BOXWRIGHT_TESTS_RUNTIME")
    return named or str(request.getfixturevalue("boxwright_command"))


@pytest.fixture(scope="session")
def peer_results(request: pytest.FixtureRequest) -> Results:
    return request.config.stash.setdefault(RESULTS, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, cases in config.stash.get(RESULTS, {}).items():
        own = Counter(measure for measure, _ in cases.values())
        ours = Counter(verdict for _, verdict in cases.values())
        terminalreporter.section(f"the suite of {name}: {len(cases)} cases")
        terminalreporter.write_line(f"{'':12}{name:>10}{'here':>10}")
        for verdict in sorted(own | ours, key=lambda verdict: -own[verdict]):
            terminalreporter.write_line(f"{verdict:12}{own[verdict]:>10}{ours[verdict]:>10}")
        for case, (measure, verdict) in sorted(cases.items()):
            if measure != verdict:
                terminalreporter.write_line(f"{case}: {measure} there, {verdict} here")
