"""Tests that run in a guest with Debian's own kernel: the v2 tree alone, and systemd.

What is in `inside/`, and some of the tests of this machine, run there by the guest's own pytest; here each of them
is a test that tells what came of it.
"""

import ast
import os
from pathlib import Path

import pytest
from machine import Machine

from fixtures_runtime import REPOSITORY

collect_ignore = [] if "GUEST_PHASE" in os.environ else ["inside"]

INSIDE = Path(__file__).parent / "inside"
# tests of any machine that find another one in the guest
SHARED = {
    "bare": ("test_cgroups.py", "test_update.py", "test_events.py"),
    "systemd": ("test_systemd.py",),
}
# what only v1 has, and what is the same everywhere: a test of the command takes two seconds in there
ELSEWHERE = (
    "test_limits_are_in_force",
    "test_limits_are_updated_up_and_down",
    "test_devices_are_denied_by_the_kernel",
    "test_a_pids_limit_stops_a_fork_bomb",
    "test_v1_alone_kills_what_forks_away",
    "test_statistics_of_a_running_container",
    "test_the_watch_wakes_when_the_group_goes",
    "test_the_weight_file_is_found_without_leaving_a_group",
    "test_nothing_is_changed_where_a_rule_is_broken",
    "test_a_stopped_container_cannot",
    "test_a_schema_without_a_class_is_an_error",
    "test_nothing_to_do_is_no_error",
    "test_a_stopped_container_has_none",
    "test_the_command_prints_one_line",
    "test_the_look_at_the_machine_sees_an_orphan",
)
PHASES = ("bare", "systemd")
LAST = "tests/test_machine.py"


def tests_of(path: Path) -> list[str]:
    """The test functions of a file, as pytest's arguments in the repository."""
    nodes = ast.parse(path.read_text()).body
    names = [node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return [f"{path.relative_to(REPOSITORY)}::{name}" for name in names if name not in ELSEWHERE]


def guest_tests(phase: str) -> list[str]:
    """All tests of a phase; that nothing is left comes last."""
    files = [*sorted((INSIDE / phase).glob("test_*.py"))]
    files += [REPOSITORY / "tests/integration" / name for name in SHARED[phase]]
    return [test for path in [*files, REPOSITORY / LAST] for test in tests_of(path)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "guest_test" in metafunc.fixturenames:
        cases = [(phase, test) for phase in PHASES for test in guest_tests(phase)]
        ids = [f"{phase}-{test.rpartition('/')[2]}" for phase, test in cases]
        metafunc.parametrize("guest_test", cases, ids=ids)


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The guest, booted once with the tests that are selected here."""
    wanted: dict[str, list[str]] = {phase: [] for phase in PHASES}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and "guest_test" in item.fixturenames:
            phase, test = item.callspec.params["guest_test"]
            wanted[phase].append(test)
    made = Machine(wanted, tmp_path_factory.mktemp("guest"))
    made.run()
    return made
