"""What a seccomp section means, said as plainly as possible: the yardstick for compiled programs."""

U64 = (1 << 64) - 1
KILL_PROCESS = 0x80000000
ENOSYS = 0x00050026
ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
}
PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")


def value_of(action, errno_ret):
    if action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        return ACTIONS[action] | (1 if errno_ret is None else errno_ret)
    return ACTIONS[action]


def holds(condition, args, bits):
    value, two = condition.value, condition.value_two or 0
    arg = args[condition.index] & U64
    if bits == 32:
        arg &= 0xFFFFFFFF
        if condition.op in ("SCMP_CMP_EQ", "SCMP_CMP_NE", "SCMP_CMP_MASKED_EQ"):
            value, two = value & 0xFFFFFFFF, two & 0xFFFFFFFF
    return {
        "SCMP_CMP_NE": arg != value,
        "SCMP_CMP_LT": arg < value,
        "SCMP_CMP_LE": arg <= value,
        "SCMP_CMP_EQ": arg == value,
        "SCMP_CMP_GE": arg >= value,
        "SCMP_CMP_GT": arg > value,
        "SCMP_CMP_MASKED_EQ": arg & value == two,
    }[condition.op]


def matches(rule, args, bits):
    if len({condition.index for condition in rule.args}) < len(rule.args):
        return any(holds(condition, args, bits) for condition in rule.args)
    return all(holds(condition, args, bits) for condition in rule.args)


def decide(section, number_of, nr, args, bits):
    """The answer to a call of a listed architecture; `number_of(name)` gives its numbers there, or None."""
    default = value_of(section.default_action, section.default_errno_ret)
    named = [number_of(name) for rule in section.syscalls for name in rule.names]
    known = [number for number in named if number is not None]
    if known and nr > max(known) and section.default_action not in PERMISSIVE:
        return ENOSYS
    about = [rule for rule in section.syscalls if nr in [number_of(name) for name in rule.names]]
    about = [rule for rule in about if value_of(rule.action, rule.errno_ret) != default]
    for rule in sorted(about, key=lambda rule: bool(rule.args)):
        if matches(rule, args, bits):
            return value_of(rule.action, rule.errno_ret)
    return default
