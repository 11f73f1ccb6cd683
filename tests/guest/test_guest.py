"""What the tests in the guest found."""

import pytest
from machine import Machine

pytestmark = pytest.mark.guest


def test_in_the_guest(machine: Machine, guest_test: tuple[str, str]) -> None:
    phase, test = guest_test
    results = machine.of(phase, test)
    assert results, f"{machine.why or 'the guest said nothing of it'}\n{machine.console()}"
    failed = [result["text"] for result in results if result["outcome"] == "failed"]
    assert not failed, "\n".join(failed)
    skipped = [result["text"] for result in results if result["outcome"] == "skipped"]
    if len(skipped) == len(results):
        pytest.skip(skipped[0].removeprefix("Skipped: "))
