"""`pytest --spec-table`: which sections of the standard the tests hold us to, out of their `spec` marks."""

import pytest

_ANCHORS = pytest.StashKey[dict[str, tuple[str, ...]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--spec-table", action="store_true", help="print which sections of the standard the tests cover")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ANCHORS] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        anchors = tuple(anchor for mark in item.iter_markers("spec") for anchor in mark.args)
        if anchors:
            config.stash[_ANCHORS][item.nodeid] = anchors


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if not config.getoption("--spec-table"):
        return
    table: dict[str, list[int]] = {}
    for column, outcome in enumerate(("passed", "failed", "skipped")):
        for report in terminalreporter.stats.get(outcome, []):
            for anchor in config.stash[_ANCHORS].get(report.nodeid, ()):
                table.setdefault(anchor, [0, 0, 0])[column] += 1
    terminalreporter.section("the standard, by section")
    terminalreporter.write_line(f"{'passed':>7} {'failed':>7} {'skipped':>7}  section")
    for anchor, (passed, failed, skipped) in sorted(table.items()):
        terminalreporter.write_line(f"{passed:7} {failed:7} {skipped:7}  {anchor}")
