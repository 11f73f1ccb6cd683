"""The program that decides about devices on cgroup v2 (BPF_PROG_TYPE_CGROUP_DEVICE, bpf(2)).

Each access has the device's kind, numbers and the bits it wants. The program walks the rules from the last to the
first and keeps in a register what is still to be decided: a rule that allows takes its bits away, and nothing left
is a yes; a rule that denies one of them is a no; the first rule of all is the default.
"""

from struct import pack

from boxwright.plan.cgroup_devices import ALL, ANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.cgroup_devices import DeviceRule

# struct bpf_cgroup_dev_ctx: access_type (access << 16 | kind), major, minor
_ACCESS_TYPE, _MAJOR, _MINOR = 0, 4, 8
_KINDS = {"b": 1, "c": 2}

# opcodes (linux/bpf_common.h, linux/bpf.h), with an immediate (K) or a register (X)
LOAD_WORD = 0x61  # dst = *(u32 *)(src + off)
MOVE_K, MOVE_X, AND_K, SHIFT_RIGHT_K = 0xB4, 0xBC, 0x54, 0x74  # 32 bits wide
JUMP_NOT_EQUAL_K, JUMP_SET_K = 0x56, 0x46  # 32 bits wide
JUMP, EXIT = 0x05, 0x95
_RESULT, _CONTEXT, _KIND, _LEFT, _MAJOR_REG, _MINOR_REG = 0, 1, 2, 3, 4, 5


def assemble(rules: "tuple[DeviceRule, ...]") -> bytes:
    """The program of `rules` (as `cgroup_devices.device_rules` gives them) as an array of struct bpf_insn."""
    program = [
        _op(LOAD_WORD, _KIND, _CONTEXT, _ACCESS_TYPE),
        _op(MOVE_X, _LEFT, _KIND),
        _op(AND_K, _KIND, value=0xFFFF),
        _op(SHIFT_RIGHT_K, _LEFT, value=16),
        _op(LOAD_WORD, _MAJOR_REG, _CONTEXT, _MAJOR),
        _op(LOAD_WORD, _MINOR_REG, _CONTEXT, _MINOR),
    ]
    for rule in reversed(rules[1:]):
        program += _rule(rule)
    program += _answer(rules[0].allow)
    return b"".join(program)


def _rule(rule: "DeviceRule") -> list[bytes]:
    body = _allow(rule.access) if rule.allow else _deny(rule.access)
    tests = [(_KIND, _KINDS[rule.kind])]
    if rule.major != ANY:
        tests.append((_MAJOR_REG, rule.major))
    if rule.minor != ANY:
        tests.append((_MINOR_REG, rule.minor))
    code = []
    for index, (register, value) in enumerate(tests):
        past = len(tests) - index - 1 + len(body)
        code.append(_op(JUMP_NOT_EQUAL_K, register, offset=past, value=value))
    return code + body


def _allow(access: int) -> list[bytes]:
    if access == ALL:
        return _answer(True)
    yes = _answer(True)
    return [
        _op(AND_K, _LEFT, value=ALL & ~access),
        _op(JUMP_NOT_EQUAL_K, _LEFT, offset=len(yes), value=0),
        *yes,
    ]


def _deny(access: int) -> list[bytes]:
    no = _answer(False)
    # there is no "jump if none is set", so the jump past the answer is jumped over
    return [_op(JUMP_SET_K, _LEFT, offset=1, value=access), _op(JUMP, offset=len(no)), *no]


def _answer(allow: bool) -> list[bytes]:
    return [_op(MOVE_K, _RESULT, value=int(allow)), _op(EXIT)]


def _op(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """struct bpf_insn: code, two registers of four bits, a signed offset, an immediate."""
    signed = value - (1 << 32) if value >= 1 << 31 else value
    return pack("<BBhi", code, source << 4 | target, offset, signed)
