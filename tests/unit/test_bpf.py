"""plan.bpf: labels, long jumps and limits, run on a machine for classic BPF."""

import bpf_machine as machine
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxwright.plan.bpf import DATA_NR, JEQ, JGE, JGT, Assembler, BPFError


def ladder(values, padding):
    """Each value leads to a return of its own, far behind the comparisons."""
    code = Assembler()
    code.load(DATA_NR)
    for position, value in enumerate(values):
        code.branch(JEQ, value, f"hit{position}", f"next{position}")
        code.label(f"next{position}")
    code.ret(0)
    for position, value in enumerate(values):
        for _ in range(padding):
            code.ret(0xBAD)
        code.label(f"hit{position}")
        code.ret(value + 1)
    return machine.decode(code.assemble())


@given(st.lists(st.integers(0, 2**32 - 2), min_size=1, max_size=60, unique=True), st.integers(0, 20))
def test_jumps_reach_their_labels_at_any_distance(values, padding):
    program = ladder(values, padding)
    for value in values:
        assert machine.run(program, machine.seccomp_data(value, 0)) == value + 1


def test_both_targets_of_a_branch_can_be_far():
    code = Assembler()
    code.load(DATA_NR)
    code.branch(JGT, 10, "above", "below")
    for _ in range(400):
        code.ret(0xBAD)
    code.label("above")
    code.ret(1)
    code.label("below")
    code.ret(2)
    program = machine.decode(code.assemble())
    assert [machine.run(program, machine.seccomp_data(nr, 0)) for nr in (10, 11)] == [2, 1]


def test_comparisons_are_unsigned():
    code = Assembler()
    code.load(DATA_NR)
    code.branch(JGE, 0x80000000, "high", "low")
    code.label("low")
    code.ret(1)
    code.label("high")
    code.ret(2)
    program = machine.decode(code.assemble())
    assert machine.run(program, machine.seccomp_data(0xFFFFFFFF, 0)) == 2
    assert machine.run(program, machine.seccomp_data(0x7FFFFFFF, 0)) == 1


def test_jump_back_is_refused():
    code = Assembler()
    code.label("start")
    code.load(DATA_NR)
    code.goto("start")
    with pytest.raises(BPFError, match="behind"):
        code.assemble()


@pytest.mark.parametrize("name", ["nowhere", "end"])
def test_label_without_instruction_is_refused(name):
    code = Assembler()
    code.goto(name)
    code.label("end")
    with pytest.raises(BPFError, match="names no instruction"):
        code.assemble()


def test_label_twice_is_refused():
    code = Assembler()
    code.label("here")
    with pytest.raises(BPFError, match="twice"):
        code.label("here")


def test_more_than_4096_instructions_are_refused():
    code = Assembler()
    for _ in range(4096):
        code.ret(0)
    assert len(code.assemble()) == 4096 * 8
    code.ret(0)
    with pytest.raises(BPFError, match="4097"):
        code.assemble()
