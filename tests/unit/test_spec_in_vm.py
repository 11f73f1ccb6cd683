"""The tables of which tests of the standard are run in machines."""

import re
from collections import Counter

import spec_in_vm
from fixtures_runtime import REPOSITORY

SPEC = REPOSITORY / "tests/spec"


def test_every_name_in_the_tables_is_that_of_a_test() -> None:
    known = {path.name for path in SPEC.glob("test_*.py")}
    for path in SPEC.glob("test_*.py"):
        known.update(re.findall(r"^def (test_\w+)", path.read_text(), flags=re.M))
    named = [*spec_in_vm.reasons(), *spec_in_vm.SHOWN, *spec_in_vm.CHOSEN]
    assert set(named) - known == set()


def test_no_test_is_in_two_tables() -> None:
    tables = (*spec_in_vm.BESIDE.values(), *spec_in_vm.REFUSED.values(), spec_in_vm.SHOWN, spec_in_vm.CHOSEN)
    counted = Counter(name for table in tables for name in table)
    assert [name for name, times in counted.items() if times > 1] == []
