"""crun's own tests, run with Boxwright as their runtime. What crun passes on this machine is the measure."""

from collections.abc import Iterator
from pathlib import Path

import crun_suite
import pytest
from crun_exceptions import EXCEPTIONS
from crun_suite import CASE_SECONDS, OK

from fixtures_roots import cache_dir, locked

EXCEPTION_SECONDS = 5

# the suite's name to its cases, each with the verdict of its own runtime and of the one under test
Results = dict[str, dict[str, tuple[str, str]]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a case. Where the suite cannot be had, one test says what for."""
    if "case" not in metafunc.fixturenames:
        return
    try:
        names = crun_suite.cases(crun_suite.prepare())
    except (pytest.skip.Exception, pytest.fail.Exception):
        names = ["suite"]
    metafunc.parametrize("case", names)


@pytest.fixture(scope="module")
def suite() -> Iterator[Path]:
    """The suite, for one session at a time: what a case leaves could not be told from what others are using."""
    prepared = crun_suite.prepare()
    with locked(cache_dir() / ".crun-suite-runs.lock"):
        yield prepared


@pytest.fixture(scope="module")
def measures(suite: Path) -> dict[str, tuple[str, bool]]:
    return crun_suite.baseline(suite)


def test_case(
    case: str, suite: Path, measures: dict[str, tuple[str, bool]], runtime_path: str, peer_results: Results
) -> None:
    measure, crun_leaves = measures[case]
    # some wait for good for what they will not get
    seconds = EXCEPTION_SECONDS if case in EXCEPTIONS else CASE_SECONDS
    outcome = crun_suite.run_case(suite, case, runtime_path, seconds)
    peer_results.setdefault("crun", {})[case] = (measure, outcome.verdict)
    if case in EXCEPTIONS:
        assert outcome.verdict != OK, f"the exception is stale: {EXCEPTIONS[case]}"
        pytest.xfail(EXCEPTIONS[case])
    if outcome.verdict == OK:
        # some cases leave a container on purpose
        assert crun_leaves or not outcome.left
        return
    if measure == OK:
        # what was so when the measure was taken need not be so now: one case wants process ids of five digits
        measure, _ = crun_suite.measure_now(suite, case)
    if measure != OK:
        pytest.skip(f"crun itself: {measure}")
    pytest.fail(f"{outcome.verdict}, where crun is ok\n{outcome.output}\nleft: {outcome.left}", pytrace=False)
