"""The helper trusts nothing in a plan: reading stays inside of it, and only a sound one is taken."""

import os
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boxwright.plan import ops
from boxwright.plan.encode import HEADER_BYTES, encode
from boxwright.plan.ops import Op
from helper_harness import NATIVE, helper_path, plan_fd, plan_of
from lacks import find_program, need

FUZZ_SECONDS = 3
NUMBERS = st.integers(-(1 << 63), (1 << 63) - 1)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)
VALUES = {
    "int": NUMBERS,
    "str": TEXTS,
    "bytes": st.binary(max_size=40),
    "tuple[str, ...]": st.lists(TEXTS, max_size=4).map(tuple),
    "tuple[int, ...]": st.lists(NUMBERS, max_size=4).map(tuple),
}
KINDS = sorted(Op.__subclasses__(), key=lambda op: op.CODE)


def _values(kind: object) -> st.SearchStrategy:
    return VALUES[kind.__name__ if kind in (int, str, bytes) else str(kind)]


def _operations(op: type[Op]) -> st.SearchStrategy[Op]:
    return st.tuples(*map(_values, op._kinds.values())).map(lambda values: op(*values))


LISTS = st.lists(st.sampled_from(KINDS).flatmap(_operations), max_size=5)
PLANS = st.builds(plan_of, LISTS, LISTS, LISTS, st.just(("inherited",)), st.integers(1, 1024))


@pytest.fixture(scope="module")
def accepts():
    """Whether the helper takes these bytes for a plan; performs nothing."""
    helper = str(helper_path())

    def check(data: bytes) -> bool:
        fd = plan_fd(data)
        try:
            pid = os.posix_spawn(helper, [helper, "--check", str(fd)], {}, file_actions=[(os.POSIX_SPAWN_DUP2, fd, fd)])
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        finally:
            os.close(fd)
        assert status in {0, 2}, status
        return status == 0

    return check


def test_every_operation_can_be_encoded_and_is_read(accepts):
    plan = plan_of([op(*(_plain(kind) for kind in op._kinds.values())) for op in KINDS])
    assert accepts(encode(plan))


def _plain(kind: object) -> object:
    return {"int": 1, "str": "text", "bytes": b"\0x"}.get(getattr(kind, "__name__", ""), ())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=PLANS)
def test_what_python_encodes_is_accepted(accepts, plan):
    assert accepts(encode(plan))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=PLANS, data=st.data())
def test_a_damaged_plan_is_read_without_harm(accepts, plan, data):
    damaged = bytearray(encode(plan))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    accepts(bytes(damaged))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=PLANS, data=st.data())
def test_a_cut_or_lengthened_plan_is_refused(accepts, plan, data):
    whole = encode(plan)
    assert not accepts(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert not accepts(whole + data.draw(st.binary(min_size=1, max_size=9)))


PLAIN = encode(plan_of([ops.SetHostname("name"), ops.Close(0)], inherited=("one",), slots=2))
FIRST_STEP = HEADER_BYTES


@pytest.mark.parametrize(
    ("at", "kind", "value"),
    [
        (0, "<I", 0),  # magic
        (4, "<I", 0xFFFFFFFF),  # total length
        (8, "<I", 1025),  # more slots than there can be
        (12, "<I", 3),  # more inherited than slots
        (16, "<I", 0),  # the outer's steps begin in the header
        (16, "<I", HEADER_BYTES + 1),  # a gap
        (20, "<I", 0xFFFFFFFF),  # count of steps
        (20, "<I", 1),  # bytes left over
        (24, "<I", 0),
        (FIRST_STEP, "<H", 0),  # no such operation
        (FIRST_STEP, "<H", 79),
        (FIRST_STEP, "<H", 0xFFFF),
        (FIRST_STEP + 2, "<H", 2),  # unknown flag
        (FIRST_STEP + 4, "<I", 0xFFFFFFFF),  # length of the arguments
        (FIRST_STEP + 4, "<I", 8),
        (FIRST_STEP + 8, "<I", 0xFFFFFFFF),  # length of the text
        (FIRST_STEP + 8, "<I", 3),  # no NUL where it ends
        (FIRST_STEP + 12, "<B", 0),  # a NUL inside
    ],
)
def test_each_field_is_checked(accepts, at, kind, value):
    assert accepts(PLAIN)
    damaged = bytearray(PLAIN)
    struct.pack_into(kind, damaged, at, value)
    assert not accepts(bytes(damaged))


def test_no_file_is_no_plan(accepts):
    assert not accepts(b"")
    for fd in ("0", "99", "", "x", "-1"):
        null = subprocess.DEVNULL
        assert subprocess.run([helper_path(), "--check", fd], stdin=null, check=False).returncode == 2


def test_the_reader_survives_the_fuzzer_under_sanitizers(tmp_path):
    need("clang", find_program("clang"))
    runtimes = list(Path("/usr/lib").glob("llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a"))
    need("libFuzzer of clang", runtimes)
    subprocess.run(["make", "-s", "-C", str(NATIVE), "fuzz"], check=True)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for op in KINDS:
        step = op(*(_plain(kind) for kind in op._kinds.values()))
        (corpus / op.__name__).write_bytes(encode(plan_of([step], [step], [step])))
    command = [NATIVE / "build/plan_fuzz", f"-max_total_time={FUZZ_SECONDS}", "-print_final_stats=1", "-len_control=0"]
    result = subprocess.run([*command, corpus], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "stat::number_of_executed_units" in result.stderr
