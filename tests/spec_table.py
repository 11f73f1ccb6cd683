"""The table of the standard's sections and the tests that hold us to them, out of their `spec` marks.

It is printed at the end of a run of everything, or with `pytest --spec-table`.
"""

import pytest

from spec_sections import anchors

_ANCHORS = pytest.StashKey[dict[str, tuple[str, ...]]]()
_OUTCOMES = ("passed", "failed", "skipped")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--spec-table", action="store_true", help="print which sections of the standard the tests cover")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ANCHORS] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        named = dict.fromkeys(anchor for mark in item.iter_markers("spec") for anchor in mark.args)
        if named:
            config.stash[_ANCHORS][item.nodeid] = tuple(named)


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if not (config.getoption("--spec-table") or _runs_everything(config)):
        return
    table = {anchor: dict.fromkeys(_OUTCOMES, 0) for anchor in anchors()}
    for outcome in _OUTCOMES:
        for report in terminalreporter.stats.get(outcome, []):
            for anchor in config.stash[_ANCHORS].get(report.nodeid, ()):
                table.setdefault(anchor, dict.fromkeys(_OUTCOMES, 0))[outcome] += 1
    terminalreporter.section("the standard, by section")
    terminalreporter.write_line(f"{'passed':>7} {'failed':>7} {'skipped':>7}  section")
    for anchor, counts in table.items():
        terminalreporter.write_line(" ".join(f"{counts[outcome]:7}" for outcome in _OUTCOMES) + f"  {anchor}")
    covered = sum(counts["passed"] > 0 for counts in table.values())
    terminalreporter.write_line(f"{covered} of {len(table)} sections have tests that pass")


def _runs_everything(config: pytest.Config) -> bool:
    chosen = any(config.getoption(name, None) for name in ("keyword", "markexpr", "collectonly", "lf"))
    return config.args_source == pytest.Config.ArgsSource.TESTPATHS and not chosen
