"""A small assembler of classic BPF, the language of seccomp filters (seccomp(2), linux/filter.h).

Jumps of classic BPF reach 255 instructions ahead at most, and only ahead. The assembler takes labels and puts
unconditional jumps in between where a label is farther away.

    code = Assembler()
    code.load(DATA_NR)
    code.branch(JEQ, 39, "yes", "no")
    code.label("yes")
    code.ret(RET_ALLOW)
    ...
    program = code.assemble()
"""

import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# linux/bpf_common.h
LD_W_ABS = 0x20
AND_K = 0x54
JA = 0x05
JEQ = 0x15
JGT = 0x25
JGE = 0x35
RET_K = 0x06

# offsets in struct seccomp_data (linux/seccomp.h)
DATA_NR = 0
DATA_ARCH = 4
_DATA_ARGS = 16
_LOW, _HIGH = (0, 4) if sys.byteorder == "little" else (4, 0)

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_REACH = 255
_SOCK_FILTER = struct.Struct("=HBBI")
INSTRUCTION_BYTES = _SOCK_FILTER.size


def arg_low(index: int) -> int:
    """The offset of the low 32 bits of a system call's argument in struct seccomp_data."""
    return _DATA_ARGS + 8 * index + _LOW


def arg_high(index: int) -> int:
    """The offset of the high 32 bits of a system call's argument in struct seccomp_data."""
    return _DATA_ARGS + 8 * index + _HIGH


class BPFError(ValueError):
    """A program that the kernel would not take: a jump back, a lost label, too many instructions."""


def _bad(why: str) -> "NoReturn":
    raise BPFError(why)


class Assembler:
    """Collects instructions; `assemble` resolves the labels."""

    __slots__ = ("_branches", "_code", "_labels")

    def __init__(self) -> None:
        # opcode and operand; a branch has its two targets in `_branches` under the same position
        self._code: list[tuple[int, int]] = []
        self._branches: dict[int, tuple[str, str]] = {}
        self._labels: dict[str, int] = {}

    def label(self, name: str) -> None:
        """Name the position of the next instruction."""
        if name in self._labels:
            _bad(f"label `{name}` is there twice")
        self._labels[name] = len(self._code)

    def load(self, offset: int) -> None:
        """Load 32 bits of struct seccomp_data into the accumulator."""
        self._code.append((LD_W_ABS, offset))

    def mask(self, bits: int) -> None:
        """Keep only these bits of the accumulator."""
        self._code.append((AND_K, bits))

    def ret(self, action: int) -> None:
        """End with this SECCOMP_RET_ value."""
        self._code.append((RET_K, action))

    def branch(self, opcode: int, operand: int, if_true: str, if_false: str) -> None:
        """Compare the accumulator (JEQ, JGT, JGE) with the operand, unsigned, and go to one of two labels."""
        self._branches[len(self._code)] = (if_true, if_false)
        self._code.append((opcode, operand))

    def goto(self, target: str) -> None:
        """Go to a label."""
        self.branch(JA, 0, target, target)

    def assemble(self) -> bytes:
        """The program as an array of struct sock_filter.

        Raises BPFError if it would have more than 4096 instructions or a jump that goes nowhere or back.
        """
        far = self._far_jumps()
        at = self._positions(far)
        if at[-1] > MAX_INSTRUCTIONS:
            _bad(f"the program has {at[-1]} instructions; the kernel takes {MAX_INSTRUCTIONS}")
        out: list[bytes] = []
        for index, (opcode, operand) in enumerate(self._code):
            targets = self._branches.get(index)
            if targets is None:
                out.append(_SOCK_FILTER.pack(opcode, 0, 0, operand))
                continue
            goals = (self._target(targets[0], index, at), self._target(targets[1], index, at))
            out.extend(_encode_branch(opcode, operand, at[index], goals, far.get(index, 0)))
        return b"".join(out)

    def _target(self, name: str, index: int, at: list[int]) -> int:
        position = self._labels.get(name)
        if position is None or position >= len(self._code):
            _bad(f"label `{name}` names no instruction")
        if position <= index:
            _bad(f"label `{name}` lies behind its jump")
        return at[position]

    def _positions(self, far: dict[int, int]) -> list[int]:
        """Where each instruction stands once far branches have grown, and the length as last item."""
        at: list[int] = []
        position = 0
        for index in range(len(self._code)):
            at.append(position)
            position += 1 + far.get(index, 0).bit_count()
        at.append(position)
        return at

    def _far_jumps(self) -> dict[int, int]:
        """Bits by branch: 1 if the true target needs a long jump, 2 if the false one does.

        A branch that has grown moves others apart, so this repeats until nothing grows any more.
        """
        far: dict[int, int] = {}
        grown = True
        while grown:
            grown = False
            at = self._positions(far)
            for index, targets in self._branches.items():
                if self._code[index][0] == JA:
                    continue
                need = far.get(index, 0)
                for bit, name in zip((1, 2), targets, strict=True):
                    if self._target(name, index, at) - at[index] - 1 > _REACH:
                        need |= bit
                if need != far.get(index, 0):
                    far[index] = need
                    grown = True
        return far


def _encode_branch(opcode: int, operand: int, at: int, goals: tuple[int, int], far: int) -> list[bytes]:
    if opcode == JA:
        return [_SOCK_FILTER.pack(JA, 0, 0, goals[0] - at - 1)]
    offsets: list[int] = []
    jumps: list[bytes] = []
    for bit, goal in zip((1, 2), goals, strict=True):
        if far & bit:
            offsets.append(len(jumps))
            jumps.append(_SOCK_FILTER.pack(JA, 0, 0, goal - (at + 1 + len(jumps)) - 1))
        else:
            offsets.append(goal - at - 1)
    return [_SOCK_FILTER.pack(opcode, offsets[0], offsets[1], operand), *jumps]
