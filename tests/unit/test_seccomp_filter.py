"""plan.seccomp_filter and host.seccomp: compiled programs mean what the section says (config-linux.md#seccomp)."""

import bpf_machine as machine
import pytest
import seccomp_reference as reference
from hypothesis import given
from hypothesis import strategies as st

from boxwright.errors import ConfigError, UnsupportedError
from boxwright.host.seccomp import compile_section, host_arch, syscall_numbers
from boxwright.plan.seccomp_arch import ARCHES, native_arch
from boxwright.plan.seccomp_filter import Number, compile_filter
from boxwright.plan.seccomp_flags import filter_flags, uses_notify
from boxwright.spec.types import Seccomp, Syscall, SyscallArg
from lacks import need

ALLOW = 0x7FFF0000
X86_64, X86, X32 = (ARCHES[f"SCMP_ARCH_{name}"] for name in ("X86_64", "X86", "X32"))
# names with numbers far apart and side by side; none that goes through a multiplexer
NAMES = ("read", "write", "open", "close", "getpid", "ioctl", "clone", "prctl", "openat2", "futex_waitv", "listns")
EDGES = [0, 1, 7, 0x5412, 2**31, 2**32 - 1, 2**32, 2**32 + 7, 5 * 2**32, 2**63, 2**64 - 1]
VALUES = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1))
CONDITIONS = st.builds(
    SyscallArg, st.integers(0, 5), VALUES, st.sampled_from([f"SCMP_CMP_{op}" for op in machine.OPERATORS]), VALUES
)
ACTIONS = st.sampled_from([(action, None) for action in reference.ACTIONS] + [("SCMP_ACT_ERRNO", 38)])


@st.composite
def rules(draw):
    action, errno_ret = draw(ACTIONS)
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    return Syscall(tuple(names), action, errno_ret, tuple(draw(st.lists(CONDITIONS, max_size=3))))


@st.composite
def sections(draw):
    action, errno_ret = draw(ACTIONS)
    arches = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
    listed = tuple(draw(st.lists(st.sampled_from(arches), unique=True)))
    return Seccomp(action, errno_ret, listed, syscalls=tuple(draw(st.lists(rules(), max_size=6))))


def answer(program, arch, nr, args=(0,) * 6):
    return machine.run(machine.decode(program.code), machine.seccomp_data(nr, arch.audit, args))


def numbers_on(arch):
    def number_of(name):
        found = syscall_numbers().resolve(arch, name)
        return None if found is None else found.direct

    return number_of


@given(sections(), st.data())
def test_program_means_what_the_section_says(section, data):
    program = compile_section(section, X86_64)
    instructions = machine.decode(program.code)
    named = {value for rule in section.syscalls for arg in rule.args for value in (arg.value, arg.value_two)}
    values = st.sampled_from(sorted(named | {(value + 1) % 2**64 for value in named} | {0, 2**32}))
    for arch in (X86_64, X86, X32):
        number_of = numbers_on(arch)
        for name in NAMES:
            for nr in (number_of(name), number_of(name) + 1):
                args = data.draw(st.lists(values, min_size=6, max_size=6))
                found = machine.run(instructions, machine.seccomp_data(nr, arch.audit, args))
                expected = reference.KILL_PROCESS
                if arch is X86_64 or arch.name in section.architectures:
                    expected = reference.decide(section, number_of, nr, args, arch.arg_bits)
                assert found == expected, (arch.name, nr, args)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.sampled_from(machine.OPERATORS))
def test_agrees_with_libseccomp_on_one_comparison(value, arg, operator):
    two = value & 0xFF00FF00FF00FF00
    section = Seccomp(
        "SCMP_ACT_ALLOW",
        syscalls=(Syscall(("getpid",), "SCMP_ACT_ERRNO", 7, (SyscallArg(1, value, f"SCMP_CMP_{operator}", two),)),),
    )
    native = host_arch()
    getpid = numbers_on(native)("getpid")
    theirs = machine.libseccomp_program(ALLOW, [(0x50007, getpid, [(1, operator, value, two)])])
    for tried in (arg, value, two, (value + 1) % 2**64, (value - 1) % 2**64, value ^ 2**32):
        args = (0, tried, 0, 0, 0, 0)
        data = machine.seccomp_data(getpid, native.audit, args)
        assert answer(compile_section(section), native, getpid, args) == machine.run(machine.decode(theirs), data)


@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_LOG"])
@pytest.mark.parametrize("arch", [X86, ARCHES["SCMP_ARCH_AARCH64"], ARCHES["SCMP_ARCH_ARM"]])
def test_foreign_architecture_is_killed_unless_listed(default, arch):
    rule = Syscall(("getpid",), "SCMP_ACT_ALLOW")
    section = Seccomp(default, syscalls=(rule,))
    assert answer(compile_section(section, X86_64), arch, numbers_on(arch)("getpid")) == reference.KILL_PROCESS
    listed = section.replace(architectures=(arch.name,))
    assert answer(compile_section(listed, X86_64), arch, numbers_on(arch)("getpid")) == ALLOW


def test_x32_is_killed_unless_listed():
    section = Seccomp("SCMP_ACT_ALLOW")
    assert answer(compile_section(section, X86_64), X86_64, 0x40000000 | 39) == reference.KILL_PROCESS
    assert answer(compile_section(section, X86_64), X86_64, 0x3FFFFFFF) == ALLOW
    assert answer(compile_section(section, X86_64), X86_64, -1) == ALLOW  # a tracer skips the call
    x32 = section.replace(architectures=("SCMP_ARCH_X32",))
    assert answer(compile_section(x32, X86_64), X86_64, 0x40000000 | 39) == ALLOW


@pytest.mark.parametrize(
    ("default", "errno_ret", "expected"),
    [
        ("SCMP_ACT_ERRNO", None, reference.ENOSYS),
        ("SCMP_ACT_ERRNO", 1, reference.ENOSYS),
        ("SCMP_ACT_KILL", None, reference.ENOSYS),
        ("SCMP_ACT_TRAP", None, reference.ENOSYS),
        ("SCMP_ACT_NOTIFY", None, reference.ENOSYS),
        ("SCMP_ACT_TRACE", 5, 0x7FF00005),
        ("SCMP_ACT_LOG", None, 0x7FFC0000),
        ("SCMP_ACT_ALLOW", None, ALLOW),
    ],
)
def test_newer_than_a_denying_profile_is_enosys(default, errno_ret, expected):
    section = Seccomp(default, errno_ret, syscalls=(Syscall(("statx",), "SCMP_ACT_ALLOW"),))
    program = compile_section(section, X86_64)
    assert answer(program, X86_64, 332) == ALLOW
    assert answer(program, X86_64, 331) == reference.value_of(default, errno_ret)
    assert {answer(program, X86_64, nr) for nr in (333, 450, 0x3FFFFFFF)} == {expected}


def test_setup_on_s390x_stands_for_unknown_calls():
    section = Seccomp("SCMP_ACT_ERRNO", syscalls=(Syscall(("read",), "SCMP_ACT_ALLOW"),))
    s390x = ARCHES["SCMP_ARCH_S390X"]
    program = compile_section(section, s390x)
    assert [answer(program, s390x, nr) for nr in (0, 1, 3)] == [reference.ENOSYS, 0x50001, ALLOW]


def test_calls_newer_than_libseccomp_are_known():
    section = Seccomp("SCMP_ACT_ERRNO", syscalls=(Syscall(("listns", "uprobe"), "SCMP_ACT_ALLOW"),))
    program = compile_section(section.replace(architectures=("SCMP_ARCH_X32", "SCMP_ARCH_MIPSEL64")), X86_64)
    assert not program.skipped
    assert answer(program, X86_64, 470) == answer(program, X86_64, 336) == ALLOW
    assert answer(program, X86_64, 0x40000000 + 470) == ALLOW
    assert answer(program, ARCHES["SCMP_ARCH_MIPSEL64"], 5470) == ALLOW


def test_names_that_no_architecture_knows_are_skipped_and_told():
    rule = Syscall(("getpid", "no_such_call", "waitpid"), "SCMP_ACT_ALLOW")
    program = compile_section(Seccomp("SCMP_ACT_ERRNO", syscalls=(rule,)), X86_64)
    assert program.skipped == ("no_such_call",)
    assert answer(program, X86_64, 39) == ALLOW


def test_several_conditions_on_one_argument_are_alternatives():
    args = (SyscallArg(0, 1, "SCMP_CMP_EQ"), SyscallArg(0, 2, "SCMP_CMP_EQ"))
    section = Seccomp("SCMP_ACT_ERRNO", syscalls=(Syscall(("personality",), "SCMP_ACT_ALLOW", args=args),))
    program = compile_section(section, X86_64)
    assert [answer(program, X86_64, 135, (value, 0, 0, 0, 0, 0)) == ALLOW for value in range(4)] == [
        False, True, True, False,
    ]  # fmt: skip


SOCKETCALL, IPC, SYS_SOCKET, SYS_BIND, SHMGET = 102, 117, 1, 2, 23


def x86_section(default, *syscalls):
    return compile_section(Seccomp(default, architectures=("SCMP_ARCH_X86",), syscalls=syscalls), X86_64)


def test_multiplexed_calls_follow_the_call_they_stand_for():
    program = x86_section("SCMP_ACT_ERRNO", Syscall(("bind", "shmget"), "SCMP_ACT_ALLOW"))
    assert answer(program, X86, 361) == answer(program, X86, 395) == ALLOW
    assert answer(program, X86, SOCKETCALL, (SYS_BIND, 0, 0, 0, 0, 0)) == ALLOW
    assert answer(program, X86, SOCKETCALL, (SYS_SOCKET, 0, 0, 0, 0, 0)) == 0x50001
    # ipc has a version in the upper half
    assert answer(program, X86, IPC, (SHMGET | 1 << 16, 0, 0, 0, 0, 0)) == ALLOW


@pytest.mark.parametrize(
    ("default", "action", "expected"),
    [("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", 0x50001), ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", 0x50001)],
)
def test_multiplexed_conditions_are_judged_by_the_strictest_answer(default, action, expected):
    rule = Syscall(("socket",), action, args=(SyscallArg(0, 40, "SCMP_CMP_NE"),))
    program = x86_section(default, rule)
    assert answer(program, X86, SOCKETCALL, (SYS_SOCKET, 0, 0, 0, 0, 0)) == expected
    named = x86_section("SCMP_ACT_ERRNO", rule, Syscall(("socketcall",), "SCMP_ACT_ALLOW"))
    assert answer(named, X86, SOCKETCALL, (SYS_SOCKET, 0, 0, 0, 0, 0)) == ALLOW


def rule_at(**values):
    rule = Syscall(**{"names": ("getpid",), "action": "SCMP_ACT_ALLOW", **values}, pointer="/linux/seccomp/syscalls/0")
    return Seccomp("SCMP_ACT_LOG", syscalls=(rule,), pointer="/linux/seccomp")


def arg_at(index, op):
    return (SyscallArg(index, 0, op, pointer="/linux/seccomp/syscalls/0/args/0"),)


@pytest.mark.parametrize(
    ("section", "pointer"),
    [
        (Seccomp("SCMP_ACT_MAYBE", pointer="/linux/seccomp"), "/linux/seccomp/defaultAction"),
        (Seccomp("SCMP_ACT_ALLOW", 1, pointer="/linux/seccomp"), "/linux/seccomp/defaultErrnoRet"),
        (Seccomp("SCMP_ACT_ERRNO", 4096, pointer="/linux/seccomp"), "/linux/seccomp/defaultErrnoRet"),
        (Seccomp("SCMP_ACT_LOG", None, ("VAX",), pointer="/linux/seccomp"), "/linux/seccomp/architectures/0"),
        (rule_at(action="ALLOW"), "/linux/seccomp/syscalls/0/action"),
        (rule_at(errno_ret=3), "/linux/seccomp/syscalls/0/errnoRet"),
        (rule_at(action="SCMP_ACT_TRACE", errno_ret=65536), "/linux/seccomp/syscalls/0/errnoRet"),
        (rule_at(names=()), "/linux/seccomp/syscalls/0/names"),
        (rule_at(args=arg_at(6, "SCMP_CMP_EQ")), "/linux/seccomp/syscalls/0/args/0/index"),
        (rule_at(args=arg_at(0, "SCMP_CMP_LIKE")), "/linux/seccomp/syscalls/0/args/0/op"),
    ],
)
def test_errors_name_the_line(section, pointer):
    with pytest.raises(ConfigError) as caught:
        compile_section(section)
    assert caught.value.problems[0].pointer == pointer


def test_architecture_that_libseccomp_lacks_is_left_to_be_killed():
    lacking = [name for name, arch in ARCHES.items() if not syscall_numbers().knows_arch(arch)]
    need("a libseccomp older than the list of architectures", lacking)
    section = Seccomp("SCMP_ACT_ALLOW")
    assert compile_section(section.replace(architectures=tuple(lacking))) == compile_section(section)
    with pytest.raises(UnsupportedError, match=lacking[0]) as caught:
        compile_section(section, ARCHES[lacking[0]])
    assert "libseccomp" in caught.value.hint


def test_too_long_a_program_is_unsupported():
    args = tuple(SyscallArg(index, 1 << 40, "SCMP_CMP_EQ") for index in range(6))
    section = Seccomp("SCMP_ACT_ALLOW", syscalls=(Syscall(("a",), "SCMP_ACT_KILL", args=args),) * 400)
    with pytest.raises(UnsupportedError, match="4096"):
        compile_filter(section, X86_64, lambda _arch, _name: Number(1))


def test_unknown_machine_is_an_error():
    with pytest.raises(UnsupportedError, match="vax"):
        native_arch("vax")


def test_tokens_are_those_of_libseccomp():
    for arch in ARCHES.values():
        if syscall_numbers().knows_arch(arch):
            assert syscall_numbers().name_of(arch, numbers_on(arch)("close")) == "close"
    assert numbers_on(X32)("close") == 0x40000003


def test_flags():
    notify = Syscall(("mkdir",), "SCMP_ACT_NOTIFY")
    killable = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
    plain = Seccomp("SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", killable))
    assert filter_flags(plain) == 0b110
    assert not uses_notify(plain)
    assert uses_notify(Seccomp("SCMP_ACT_NOTIFY"))
    tsync = Seccomp("SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_TSYNC", killable), syscalls=(notify,))
    assert filter_flags(tsync.replace(listener_path="/run/agent")) == 0b111001
    with pytest.raises(ConfigError, match="/listenerPath"):
        filter_flags(tsync)
    with pytest.raises(ConfigError) as caught:
        filter_flags(Seccomp("SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_LOG", "LOG"), pointer="/linux/seccomp"))
    assert caught.value.problems[0].pointer == "/linux/seccomp/flags/1"
