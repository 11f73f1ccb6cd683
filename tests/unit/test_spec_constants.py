"""The tables against what Python and the machine's headers know."""

import os
import resource
import signal

import pytest

from boxwright.errors import UsageError
from boxwright.spec.constants import (
    CAPABILITIES,
    NAMESPACES,
    RLIMITS,
    SCHEDULER_POLICIES,
    SIGNALS,
    signal_number,
)


def test_signals_are_those_of_python():
    own = {f"SIG{name}" for name in SIGNALS}
    assert {one.name for one in signal.Signals} <= own
    for one in signal.Signals:
        assert signal_number(one.name) == one


def test_rlimits_are_those_of_python():
    known = [name for name in RLIMITS if hasattr(resource, name)]
    assert len(known) > 12
    assert all(getattr(resource, name) == RLIMITS[name] for name in known)


def test_scheduling_policies_are_those_of_python():
    known = [name for name in SCHEDULER_POLICIES if hasattr(os, name)]
    assert "SCHED_FIFO" in known
    assert all(getattr(os, name) == SCHEDULER_POLICIES[name] for name in known)


def test_each_namespace_has_a_file():
    assert {name for _, name in NAMESPACES.values()} <= set(os.listdir("/proc/self/ns"))
    flags = [flag for flag, _ in NAMESPACES.values()]
    assert len(set(flags)) == len(flags) == 8


def test_capabilities_are_numbered_as_the_kernel_counts():
    assert len(CAPABILITIES) == 41
    assert (CAPABILITIES["CAP_CHOWN"], CAPABILITIES["CAP_SYS_ADMIN"], CAPABILITIES["CAP_MKNOD"]) == (0, 21, 27)
    assert CAPABILITIES["CAP_CHECKPOINT_RESTORE"] == 40


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("KILL", 9),
        ("SIGKILL", 9),
        ("sigkill", 9),
        ("9", 9),
        ("0", 0),
        ("64", 64),
        ("RTMIN", 34),
        ("RTMIN+1", 35),
        ("SIGRTMIN+30", 64),
        ("RTMAX-2", 62),
        ("SIGRTMAX-30", 34),
    ],
)
def test_signal_numbers(text, number):
    assert signal_number(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "SIG", "FOO", "-1", "65", "99999999999", "1.0", " 9", "9 ", "RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMIN+",
     "KILL+1", "RTMINx1", "RTMIN++1", "٩", "SIGSIGKILL"],
)  # fmt: skip
def test_what_is_no_signal(text):
    with pytest.raises(UsageError, match="is no signal"):
        signal_number(text)
