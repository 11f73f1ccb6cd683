"""The operations of `plan/ops.py` and those of the helper are the same: codes, names, fields, wire types."""

import subprocess

from boxwright.plan import ops
from boxwright.plan.ops import Op
from helper_harness import NATIVE, helper_path

LETTERS = {"int": "i", "str": "s", "bytes": "b", "tuple[str, ...]": "S", "tuple[int, ...]": "I"}


def _letter(kind: object) -> str:
    return LETTERS[kind.__name__ if kind in (int, str, bytes) else str(kind)]


def _python_operations() -> dict[int, tuple[str, str, str]]:
    return {
        op.CODE: (
            op.__name__,
            "".join(map(_letter, op._kinds.values())) or "-",
            ",".join(op._fields) or "-",
        )
        for op in Op.__subclasses__()
    }


def test_every_code_means_the_same_on_both_sides():
    lines = subprocess.run([helper_path(), "--ops"], check=True, capture_output=True, text=True).stdout.splitlines()
    helper = {int(code): (name, signature, fields) for code, name, signature, fields in map(str.split, lines)}
    assert helper == _python_operations()


def test_no_code_is_used_twice():
    assert len({op.CODE for op in Op.__subclasses__()}) == len(Op.__subclasses__())


def test_the_numbers_of_reports_are_the_same():
    header = (NATIVE / "actor.h").read_text()
    names = header.split("enum report_kind {")[1].split("}")[0].replace(" = 1", "").replace(" ", "").split(",")
    assert [getattr(ops, name) for name in names] == list(range(1, len(names) + 1))
