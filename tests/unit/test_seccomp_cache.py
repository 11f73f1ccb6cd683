"""host.seccomp_cache: entries by content, trusted only in a directory of one's own."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from boxwright.errors import ConfigError, HostError
from boxwright.host import seccomp_cache
from boxwright.host.seccomp import compile_section, host_arch
from boxwright.plan.default_profile import default_seccomp
from boxwright.spec.types import Seccomp, Syscall, SyscallArg
from lacks import need_root

SECTION = Seccomp("SCMP_ACT_ERRNO", syscalls=(Syscall(("read", "write"), "SCMP_ACT_ALLOW"),))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(seccomp_cache, "_memory", {})
    return tmp_path / "run" / "seccomp"


def forget(monkeypatch):
    monkeypatch.setattr(seccomp_cache, "_memory", {})


def only_entry(cache):
    (entry,) = cache.iterdir()
    return entry


def test_entry_is_private_and_read_back(cache, monkeypatch):
    program = seccomp_cache.program_for(SECTION, str(cache))
    assert program == (compile_section(SECTION).code, "")
    entry = only_entry(cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    forget(monkeypatch)
    monkeypatch.setattr(seccomp_cache, "_compile", lambda _section: pytest.fail("compiled again"))
    assert seccomp_cache.program_for(SECTION, str(cache)) == program


@pytest.mark.parametrize("count", [1, 16, 17, 300])
def test_what_is_left_out_is_remarked_from_the_cache_too(cache, monkeypatch, count):
    names = tuple(f"no_such_call_{number}" for number in range(count))
    section = SECTION.replace(syscalls=(*SECTION.syscalls, Syscall((*names, "openat"), "SCMP_ACT_ALLOW")))
    program, remark = seccomp_cache.program_for(section, str(cache))
    assert all((f"`{name}`" in remark) == (number < 16) for number, name in enumerate(names))
    assert ("284 more" in remark) == (count == 300)
    assert "openat" not in remark
    forget(monkeypatch)
    monkeypatch.setattr(seccomp_cache, "_compile", lambda _section: pytest.fail("compiled again"))
    assert seccomp_cache.program_for(section, str(cache)) == (program, remark)


def test_names_are_not_cut_to_those_of_calls(cache):
    section = SECTION.replace(syscalls=(*SECTION.syscalls, Syscall(("openat\0x", "openat\u0301"), "SCMP_ACT_ALLOW")))
    assert seccomp_cache.program_for(section, str(cache))[0] == compile_section(SECTION).code


def test_the_longest_remark_fits_into_an_entry(cache, monkeypatch):
    names = tuple(f"\U0001f4e6{number}\ud800" * 1000 for number in range(300))
    section = SECTION.replace(syscalls=(*SECTION.syscalls, Syscall(names, "SCMP_ACT_ALLOW")))
    compiled = seccomp_cache.program_for(section, str(cache))
    forget(monkeypatch)
    monkeypatch.setattr(seccomp_cache, "_compile", lambda _section: pytest.fail("compiled again"))
    assert seccomp_cache.program_for(section, str(cache)) == compiled


def test_memory_spares_the_directory(cache):
    program = seccomp_cache.program_for(SECTION, str(cache))
    assert seccomp_cache.program_for(SECTION, "/nonexistent/cache") == program


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:0],
        lambda whole: whole[:-8],
        lambda whole: whole[:-1],
        lambda whole: whole + whole[-8:],
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
        lambda whole: b"X" + whole[1:],
        lambda whole: whole[:48],
    ],
)
def test_damaged_entry_is_compiled_again(cache, monkeypatch, damage):
    program = seccomp_cache.program_for(SECTION, str(cache))
    entry = only_entry(cache)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    forget(monkeypatch)
    assert seccomp_cache.program_for(SECTION, str(cache)) == program
    assert only_entry(cache).read_bytes() == whole


@pytest.mark.parametrize("plant", ["symlink", "fifo"])
def test_entry_that_is_no_file_is_replaced(cache, monkeypatch, tmp_path, plant):
    program = seccomp_cache.program_for(SECTION, str(cache))
    entry = only_entry(cache)
    elsewhere = tmp_path / "elsewhere"
    entry.rename(elsewhere)
    if plant == "symlink":
        entry.symlink_to(elsewhere)
    else:
        os.mkfifo(entry)
    before = elsewhere.read_bytes()
    forget(monkeypatch)
    assert seccomp_cache.program_for(SECTION, str(cache)) == program
    assert entry.is_file()
    assert not entry.is_symlink()
    assert elsewhere.read_bytes() == before


def test_directory_behind_a_symlink_is_refused(cache, tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    cache.parent.mkdir()
    cache.symlink_to(tmp_path / "real")
    with pytest.raises(HostError) as caught:
        seccomp_cache.program_for(SECTION, str(cache))
    assert caught.value.path == str(cache)
    assert not list((tmp_path / "real").iterdir())


@pytest.mark.parametrize("mode", [0o701, 0o720, 0o777])
def test_directory_open_to_others_is_refused(cache, mode):
    cache.mkdir(parents=True)
    cache.chmod(mode)
    with pytest.raises(HostError, match="seccomp programs"):
        seccomp_cache.program_for(SECTION, str(cache))


def test_directory_of_another_user_is_refused(cache):
    need_root()
    cache.mkdir(parents=True, mode=0o700)
    os.chown(cache, 65534, 65534)
    with pytest.raises(HostError, match="seccomp programs"):
        seccomp_cache.program_for(SECTION, str(cache))


def test_wrong_section_leaves_no_entry(cache):
    wrong = Seccomp("SCMP_ACT_ALLOW", 5, pointer="/linux/seccomp")
    with pytest.raises(ConfigError):
        seccomp_cache.program_for(wrong, str(cache))
    assert not list(cache.iterdir())


def test_everything_that_matters_is_in_the_key():
    arg = SyscallArg(0, 1, "SCMP_CMP_MASKED_EQ", 1)
    rule = Syscall(("read",), "SCMP_ACT_ERRNO", 5, (arg,))
    base = Seccomp("SCMP_ACT_ERRNO", 1, ("SCMP_ARCH_X86",), syscalls=(rule,))
    variants = [
        base,
        base.replace(default_action="SCMP_ACT_KILL"),
        base.replace(default_errno_ret=None),
        base.replace(architectures=()),
        base.replace(syscalls=()),
        *(
            base.replace(syscalls=(changed,))
            for changed in (
                rule.replace(names=("read", "write")),
                rule.replace(action="SCMP_ACT_TRACE"),
                rule.replace(errno_ret=None),
                rule.replace(args=()),
                *(
                    rule.replace(args=(arg.replace(**{field: value}),))
                    for field, value in (("index", 2), ("value", 2), ("value_two", None), ("op", "SCMP_CMP_EQ"))
                ),
            )
        ),
    ]
    assert len({seccomp_cache.section_key(section) for section in variants}) == len(variants)
    # where it stands and who listens changes nothing in the program
    same = Seccomp("SCMP_ACT_ERRNO", 1, ("SCMP_ARCH_X86",), (), "/sock", "x", (rule,), pointer="/linux/seccomp")
    assert seccomp_cache.section_key(same) == seccomp_cache.section_key(base)


def test_default_program_is_the_compiled_profile(cache, monkeypatch):
    program = seccomp_cache.default_program(frozenset({"CAP_SYS_CHROOT", "CAP_CHOWN"}), str(cache))
    assert program == compile_section(default_seccomp(("CAP_SYS_CHROOT",), host_arch())).code
    forget(monkeypatch)
    monkeypatch.setattr(seccomp_cache, "_compile_default", lambda _held: pytest.fail("compiled again"))
    # a capability that the profile does not look at is the same profile
    assert seccomp_cache.default_program(("CAP_KILL", "CAP_SYS_CHROOT"), str(cache)) == program


def test_two_at_once_leave_one_whole_entry(cache):
    programs = []
    threads = [
        threading.Thread(
            target=lambda: programs.append(
                seccomp_cache._from_directory("k" * 64, str(cache), lambda: (compile_section(SECTION).code, ""))
            )
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(programs) == {(compile_section(SECTION).code, "")}
    assert len(programs) == 8
    assert only_entry(cache).name == "k" * 64


def test_hit_loads_neither_ctypes_nor_the_profile(cache):
    seccomp_cache.default_program((), str(cache))
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from boxwright.host import seccomp_cache\n"
        "assert len(seccomp_cache.default_program((), sys.argv[2])) > 800\n"
        "print(*sorted(sys.modules))"
    )
    source = os.path.dirname(os.path.dirname(os.path.dirname(seccomp_cache.__file__)))
    command = [sys.executable, "-I", "-S", "-c", script, source, str(cache)]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    cold = {"ctypes", "hashlib", "re", "enum", "json", "typing", "collections", "functools", "boxwright.host.seccomp"}
    assert not cold & set(loaded)
    assert not {"boxwright.plan.default_profile", "boxwright.plan.default_profile_data"} & set(loaded)
