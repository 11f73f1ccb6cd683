"""Compiles the seccomp section of a configuration into a BPF program (config-linux.md#configLinuxSeccomp).

Pure: the numbers of system calls come in from outside (`host.seccomp` asks libseccomp for them). We write the program
ourselves because libseccomp before 2.6.1 weakens filters that compare 64-bit arguments in several rules, and because
numbers that lie side by side and share an answer need one comparison here instead of one each.

What a program decides:

1. A call of an architecture that is neither listed nor native kills the process; so does x32 unless it is listed.
2. Where the default action denies, a number above the greatest one named for its architecture gives ENOSYS: it is
   newer than the profile, and C libraries fall back on ENOSYS but not on EPERM.
3. Rules whose action is the default action are left out.
4. A rule without `args` decides, the first one of several. Otherwise the first rule whose conditions all hold decides;
   a rule with several conditions on one argument counts as one rule for each condition.
5. Otherwise the default action.
"""

from boxwright._record import Record
from boxwright.errors import ConfigError, Problem, UnsupportedError
from boxwright.plan.bpf import (
    DATA_ARCH,
    DATA_NR,
    INSTRUCTION_BYTES,
    JEQ,
    JGE,
    JGT,
    Assembler,
    BPFError,
    arg_high,
    arg_low,
)
from boxwright.plan.seccomp_arch import ARCHES, NO_CALL, X32_BIT, Arch
from boxwright.plan.seccomp_flags import ANCHOR
from boxwright.spec.seccomp_constants import ACTIONS, OPERATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from boxwright.spec.types import Seccomp, Syscall, SyscallArg

    # operator, argument, value, valueTwo
    Condition = tuple[str, int, int, int]
    Rule = tuple[tuple[Condition, ...], int]
    # one action, or rules to try in order
    Outcome = int | tuple[Rule, ...]

_EPERM = 1
_ENOSYS = 38

_ERRNO = ACTIONS["SCMP_ACT_ERRNO"]
_KILL_PROCESS = ACTIONS["SCMP_ACT_KILL_PROCESS"]
_TRACE = ACTIONS["SCMP_ACT_TRACE"]
_RETURN_ENOSYS = _ERRNO | _ENOSYS
# the greatest errno that user space can see (MAX_ERRNO), and what a tracer's message holds
_GREATEST_DATA = {_ERRNO: 4095, _TRACE: 0xFFFF}
_LAST_ARG = 5
_U32 = 0xFFFFFFFF


class Number(Record):
    """How one architecture makes a system call: by its own number, by a multiplexer (socketcall, ipc), or both.

    `mux_mask` are the bits of the multiplexer's first argument that select the operation.
    """

    direct: int | None
    mux: int | None = None
    mux_operation: int = 0
    mux_mask: int = _U32


class Program(Record):
    """A compiled filter. `code` is an array of struct sock_filter, `skipped` the names no listed architecture knows."""

    code: bytes
    skipped: tuple[str, ...] = ()

    @property
    def instruction_count(self) -> int:
        """How many of the 4096 instructions the kernel takes are used."""
        return len(self.code) // INSTRUCTION_BYTES


if TYPE_CHECKING:
    # None where no call has that name; `Number(None)` where the call exists on other architectures only
    Resolve = Callable[[Arch, str], Number | None]


def _wrong(pointer: str, rule: str, value: object = None) -> "NoReturn":
    raise ConfigError([Problem(pointer, rule, ANCHOR, value=value)])


def action_value(action: str, errno_ret: int | None, action_pointer: str, errno_pointer: str) -> int:
    """The SECCOMP_RET_ value of an action with its errno (EPERM by default).

    Raises ConfigError for an unknown action, an errno with an action that takes none, or one out of range.
    """
    base = ACTIONS.get(action)
    if base is None:
        _wrong(action_pointer, "is no seccomp action", action)
    greatest = _GREATEST_DATA.get(base)
    if greatest is None:
        if errno_ret is not None:
            _wrong(errno_pointer, f"cannot go with the action `{action}`", errno_ret)
        return base
    data = _EPERM if errno_ret is None else errno_ret
    if not 0 <= data <= greatest:
        _wrong(errno_pointer, f"must be at most {greatest}", errno_ret)
    return base | data


def listed_arches(section: "Seccomp", native: Arch) -> tuple[Arch, ...]:
    """The architectures of a section, the native one first. Raises ConfigError for a name that is none."""
    found = {native.name: native}
    for position, name in enumerate(section.architectures):
        arch = ARCHES.get(name)
        if arch is None:
            _wrong(section.at("architectures", position), "is no seccomp architecture", name)
        found[name] = arch
    return tuple(found.values())


def compile_filter(section: "Seccomp", native: Arch, resolve: "Resolve") -> Program:
    """Compile a section for a host whose own architecture is `native`.

    Raises ConfigError with the pointer of the wrong value, and UnsupportedError for a section that needs more than the
    4096 instructions the kernel takes.
    """
    default = action_value(
        section.default_action, section.default_errno_ret, section.at("defaultAction"), section.at("defaultErrnoRet")
    )
    rules = [(rule.names, checked) for rule in section.syscalls for checked in _rules_of(rule)]
    arches = listed_arches(section, native)
    code = Assembler()
    code.load(DATA_ARCH)
    tables = [(arch, _Table(arch, default, rules, resolve)) for arch in arches]
    _emit(code, tables, default)
    try:
        assembled = code.assemble()
    except BPFError as error:
        raise UnsupportedError("linux.seccomp", "linux", str(error)) from error
    return Program(assembled, _unknown_names(section, arches, resolve))


def _unknown_names(section: "Seccomp", arches: tuple[Arch, ...], resolve: "Resolve") -> tuple[str, ...]:
    names = dict.fromkeys(name for rule in section.syscalls for name in rule.names)
    return tuple(name for name in names if all(resolve(arch, name) is None for arch in arches))


def _rules_of(rule: "Syscall") -> "list[Rule]":
    """One entry of `syscalls` as rules, checked."""
    action = action_value(rule.action, rule.errno_ret, rule.at("action"), rule.at("errnoRet"))
    if not rule.names:
        _wrong(rule.at("names"), "must name at least one system call")
    conditions = tuple(_condition(arg) for arg in rule.args)
    indexes = [index for _, index, _, _ in conditions]
    if len(set(indexes)) < len(indexes):
        return [((condition,), action) for condition in conditions]
    return [(conditions, action)]


def _condition(arg: "SyscallArg") -> "Condition":
    if arg.op not in OPERATORS:
        _wrong(arg.at("op"), "is no seccomp operator", arg.op)
    if not 0 <= arg.index <= _LAST_ARG:
        _wrong(arg.at("index"), f"must be at most {_LAST_ARG}", arg.index)
    return arg.op, arg.index, arg.value, arg.value_two or 0


def _permissiveness(action: int) -> int:
    """The kernel's order of actions: the least of several wins (SCMP_ACT_KILL_PROCESS is negative)."""
    kind = action & 0xFFFF0000
    return kind - (1 << 32) if kind & 0x80000000 else kind


class _Table:
    """What each number of one architecture leads to: from `starts[i]` up to the next start it is `outcomes[i]`."""

    __slots__ = ("arch", "outcomes", "starts")

    def __init__(
        self, arch: Arch, default: int, rules: "list[tuple[tuple[str, ...], Rule]]", resolve: "Resolve"
    ) -> None:
        self.arch = arch
        collector = _Collector(arch, default)
        for names, rule in rules:
            for name in names:
                number = resolve(arch, name)
                if number is not None:
                    collector.add(number, rule)
        self.starts, self.outcomes = collector.ranges()


class _Collector:
    __slots__ = ("_arch", "_default", "_greatest", "_muxed", "_rules")

    def __init__(self, arch: Arch, default: int) -> None:
        self._arch = arch
        self._default = default
        self._greatest = -1
        self._rules: dict[int, list[Rule]] = {}
        self._muxed: dict[Number, list[Rule]] = {}

    def add(self, number: Number, rule: "Rule") -> None:
        if number.direct is not None:
            self._greatest = max(self._greatest, number.direct)
        if rule[1] == self._default:
            return
        if number.direct is not None:
            self._rules.setdefault(number.direct, []).append(rule)
        if number.mux is not None:
            self._muxed.setdefault(number.replace(direct=None), []).append(rule)

    def ranges(self) -> "tuple[list[int], list[Outcome]]":
        """Neighbouring numbers with one outcome are one range; all 2**32 numbers are covered."""
        self._fold_muxed()
        answers: dict[int, Outcome] = {number: _outcome(rules) for number, rules in self._rules.items()}
        beyond: Outcome = self._default
        # SCMP_ACT_TRACE counts as permissive: a tracer emulates calls that the profile has never heard of
        if _permissiveness(self._default) < _permissiveness(_TRACE) and self._greatest >= 0:
            beyond = _RETURN_ENOSYS
            if self._arch.name in ("SCMP_ARCH_S390", "SCMP_ARCH_S390X"):
                # an unknown number that does not fit the instruction arrives as 0, once setup(2)
                answers.setdefault(0, _RETURN_ENOSYS)
        starts, outcomes = [0], [answers.get(0, self._default)]
        edges = {at for number in answers for at in (number, number + 1)} | {self._greatest + 1}
        for at in sorted(edges - {0}):
            outcome = answers.get(at, self._default if at <= self._greatest else beyond)
            if outcome != outcomes[-1]:
                starts.append(at)
                outcomes.append(outcome)
        return starts, outcomes

    def _fold_muxed(self) -> None:
        """Rules on calls that also go through a multiplexer become rules on its first argument.

        The multiplexer's other arguments lie in memory, where a filter cannot look. So a rule with conditions may
        hold or not, and the strictest answer that is possible is taken.
        """
        for number, rules in self._muxed.items():
            assert number.mux is not None
            found = _outcome(rules)
            if not isinstance(found, int):
                found = min([*(action for _, action in found), self._default], key=_permissiveness)
            if found != self._default:
                selector = ("SCMP_CMP_MASKED_EQ", 0, number.mux_mask, number.mux_operation)
                self._rules.setdefault(number.mux, []).append(((selector,), found))


def _outcome(rules: "list[Rule]") -> "Outcome":
    for conditions, action in rules:
        if not conditions:
            return action
    return tuple(rules)


def _emit(code: Assembler, tables: list[tuple[Arch, _Table]], default: int) -> None:
    """The whole program: by architecture, then by number, then by argument."""
    sections: dict[int, list[_Table]] = {}
    for arch, table in tables:
        sections.setdefault(arch.audit, []).append(table)
    for audit in sections:
        code.branch(JEQ, audit, f"arch{audit:x}", f"not{audit:x}")
        code.label(f"not{audit:x}")
    code.ret(_KILL_PROCESS)
    for audit, shared in sections.items():
        code.label(f"arch{audit:x}")
        code.load(DATA_NR)
        if audit == ARCHES["SCMP_ARCH_X86_64"].audit:
            _emit_x86_64(code, {table.arch.name: table for table in shared}, default)
        else:
            _TreeWriter(code, shared[0], default).write()


def _emit_x86_64(code: Assembler, tables: dict[str, _Table], default: int) -> None:
    """x86-64 and x32 share one audit number: a bit of the call's number tells them apart."""
    code.branch(JGE, X32_BIT, "x32?", "SCMP_ARCH_X86_64")
    code.label("x32?")
    code.branch(JEQ, NO_CALL, "no-call", "SCMP_ARCH_X32")
    code.label("no-call")
    native = tables.get("SCMP_ARCH_X86_64")
    # -1 never is a system call: it gets what an unknown number gets
    last = _KILL_PROCESS if native is None else native.outcomes[-1]
    code.ret(last if isinstance(last, int) else default)
    for name in ("SCMP_ARCH_X86_64", "SCMP_ARCH_X32"):
        code.label(name)
        if name in tables:
            _TreeWriter(code, tables[name], default).write()
        else:
            code.ret(_KILL_PROCESS)


class _TreeWriter:
    """Writes a table as a balanced tree of comparisons, followed by what its leaves do."""

    __slots__ = ("_code", "_default", "_leaves", "_prefix", "_table")

    def __init__(self, code: Assembler, table: _Table, default: int) -> None:
        self._code = code
        self._table = table
        self._default = default
        self._prefix = table.arch.name
        self._leaves: dict[Outcome, str] = {}

    def write(self) -> None:
        self._node(0, len(self._table.starts))
        for outcome, label in list(self._leaves.items()):
            if not isinstance(outcome, int):
                self._code.label(label)
                self._rules(label, outcome)
        for outcome, label in self._leaves.items():
            if isinstance(outcome, int):
                self._code.label(label)
                self._code.ret(outcome)

    def _leaf(self, outcome: "Outcome") -> str:
        return self._leaves.setdefault(outcome, f"{self._prefix}.leaf{len(self._leaves)}")

    def _node(self, low: int, high: int) -> None:
        """The code for ranges low..high-1."""
        if high - low == 1:
            self._code.goto(self._leaf(self._table.outcomes[low]))
            return
        middle = (low + high) // 2
        above = self._goal(middle, high)
        below = self._goal(low, middle)
        self._code.branch(JGE, self._table.starts[middle], above, below)
        for label, start, end in ((below, low, middle), (above, middle, high)):
            if end - start > 1:
                self._code.label(label)
                self._node(start, end)

    def _goal(self, low: int, high: int) -> str:
        return self._leaf(self._table.outcomes[low]) if high - low == 1 else f"{self._prefix}.{low}-{high}"

    def _rules(self, prefix: str, rules: "tuple[Rule, ...]") -> None:
        for position, (conditions, action) in enumerate(rules):
            missed = f"{prefix}.{position + 1}"
            for place, condition in enumerate(conditions):
                met = f"{prefix}.{position}.{place}"
                self._condition(condition, met, missed)
                self._code.label(met)
            self._code.goto(self._leaf(action))
            self._code.label(missed)
        self._code.goto(self._leaf(self._default))

    def _condition(self, condition: "Condition", met: str, missed: str) -> None:
        operator, index, value, value_two = condition
        if operator in ("SCMP_CMP_LT", "SCMP_CMP_LE"):
            opposite = "SCMP_CMP_GE" if operator == "SCMP_CMP_LT" else "SCMP_CMP_GT"
            self._condition((opposite, index, value, 0), missed, met)
        elif operator == "SCMP_CMP_NE":
            self._equal(index, ~0, value, missed, met)
        elif operator == "SCMP_CMP_EQ":
            self._equal(index, ~0, value, met, missed)
        elif operator == "SCMP_CMP_MASKED_EQ":
            self._equal(index, value, value_two, met, missed)
        else:
            self._greater(JGE if operator == "SCMP_CMP_GE" else JGT, index, value, met, missed)

    def _equal(self, index: int, mask: int, value: int, met: str, missed: str) -> None:
        """Compare under a mask; 32-bit calls have no high half, whatever the register holds."""
        low = f"{met}/{missed}/low"
        if self._table.arch.arg_bits == 64:
            self._equal_half(arg_high(index), mask >> 32, value >> 32, low, missed)
            self._code.label(low)
        self._equal_half(arg_low(index), mask, value, met, missed)

    def _equal_half(self, offset: int, mask: int, value: int, met: str, missed: str) -> None:
        self._code.load(offset)
        if mask & _U32 != _U32:
            self._code.mask(mask & _U32)
        self._code.branch(JEQ, value & _U32, met, missed)

    def _greater(self, opcode: int, index: int, value: int, met: str, missed: str) -> None:
        high, low = f"{met}/{missed}/high", f"{met}/{missed}/low"
        if self._table.arch.arg_bits == 64:
            self._code.load(arg_high(index))
            self._code.branch(JGT, value >> 32, met, high)
            self._code.label(high)
            self._code.branch(JEQ, value >> 32, low, missed)
            self._code.label(low)
        elif value > _U32:
            self._code.goto(missed)  # no 32-bit argument reaches it
            return
        self._code.load(arg_low(index))
        self._code.branch(opcode, value & _U32, met, missed)
