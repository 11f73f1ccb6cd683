"""What the program finds itself to be: identity, limits, descriptors, environment; and finding it at all."""

import ctypes
import errno
import os
import resource
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from boxwright.plan import ops
from helper_harness import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    Running,
    host_root,
    output_of,
    plan_of,
    program,
    run_ops,
    run_plan,
)

pytestmark = pytest.mark.root

PR_CAPBSET_READ = 23
CAP_CHOWN, CAP_KILL, CAP_SYS_RESOURCE = 1 << 0, 1 << 5, 1 << 24
UNKNOWN_CAP = 1 << 62


def _shown(script, *operations, flags=0, outer=(), **options):
    text, reports = output_of(plan_of([ops.Clone(flags), *outer], (), [*operations, *program(script)]), **options)
    assert not [r for r in reports if r.kind == ops.ERROR], (reports, text)
    return text


def _warnings(*operations):
    return [(r.op, r.error, r.value) for r in run_ops(*operations) if r.kind == ops.WARNING]


def _errors(*operations):
    return [(r.op, r.error) for r in run_ops(*operations)]


# --- namespaces of names ----------------------------------------------------------------------------------------


def test_names_of_the_host_are_set():
    names = (ops.SetHostname("boxed"), ops.SetDomainname("example"))
    assert _shown("hostname; cat /proc/sys/kernel/domainname", *names, flags=CLONE_NEWUTS).split() == [
        "boxed",
        "example",
    ]


def test_the_loopback_is_up():
    addresses = "cat /proc/net/if_inet6"  # an interface that is up has got one
    assert _shown(addresses, flags=CLONE_NEWNET) == ""
    assert _shown(addresses, ops.LoopbackUp(), flags=CLONE_NEWNET).split()[-1] == "lo"


def test_a_session_of_its_own():
    ours = os.getsid(0)
    sid = int(_shown("cut -d' ' -f6 /proc/self/stat", ops.NewSession(), ops.NewSession()))
    assert sid != ours


def test_a_session_keyring_is_joined_or_the_kernel_has_none():
    assert [r.error for r in run_ops(ops.NewKeyring())] in ([], [errno.EDQUOT])


# --- identity ---------------------------------------------------------------------------------------------------


def test_user_groups_and_no_capabilities():
    text = _shown("id -u; id -g; id -G; grep CapEff /proc/self/status", ops.SetUser(65534, 12, (20, 21), 0))
    assert text.split() == ["65534", "12", "12", "20", "21", "CapEff:", "0" * 16]


def test_groups_cannot_be_left_where_the_namespace_denies_and_that_is_no_error():
    outer = [
        ops.WriteChildFile(ops.INIT, "setgroups", b"deny"),
        ops.WriteChildFile(ops.INIT, "uid_map", b"0 0 1"),
        ops.WriteChildFile(ops.INIT, "gid_map", b"0 0 1"),
        ops.Post(ops.INIT),
    ]
    init = (ops.Await(ops.OUTER), ops.BecomeRoot(), ops.SetUser(0, 0, (), 0))
    assert _shown("id -u", *init, flags=CLONE_NEWUSER, outer=outer) == "0\n"
    denied = (*init[:-1], ops.SetUser(0, 0, (0,), 0))
    reports = run_plan(plan_of([ops.Clone(CLONE_NEWUSER), *outer], (), denied)).reports
    assert [r.error for r in reports if r.kind == ops.ERROR] == [errno.EPERM]


def test_groups_are_not_kept_silently_without_the_right_to_leave_them():
    """Without CAP_SETGID the refusal is ours, not the namespace's."""
    dropped = (ops.SetCaps(0, 0, 0, 0), ops.SetUser(0, 0, (), 0))
    assert _errors(*dropped) == [(1, errno.EPERM)]


def test_capabilities_survive_the_change_of_user_when_kept():
    script = "sed -n 's/^Cap//p' /proc/self/status"
    caps = (CAP_CHOWN | CAP_KILL,) * 4
    text = _shown(script, ops.BoundCaps(caps[0]), ops.SetUser(1000, 1000, (), 1), ops.SetCaps(*caps))
    assert dict(line.split(":\t") for line in text.split("\n") if line) == {
        "Inh": "0000000000000021",
        "Prm": "0000000000000021",
        "Eff": "0000000000000021",
        "Bnd": "0000000000000021",
        "Amb": "0000000000000021",
    }


def test_missing_capabilities_are_warned_of_with_their_mask():
    few = ops.SetCaps(CAP_CHOWN, CAP_CHOWN, 0, 0)
    more = ops.SetCaps(CAP_CHOWN | CAP_KILL, CAP_CHOWN | CAP_KILL, CAP_CHOWN, CAP_KILL)
    assert _warnings(few, more) == [(1, errno.EPERM, CAP_KILL)]


def test_capabilities_unknown_to_the_kernel_are_warned_of():
    assert _warnings(ops.BoundCaps(CAP_CHOWN | UNKNOWN_CAP)) == [(0, errno.EPERM, UNKNOWN_CAP)]


def test_capabilities_that_are_not_bounded_are_warned_of():
    libc = ctypes.CDLL(None)
    missing = 0 if libc.prctl(PR_CAPBSET_READ, 24, 0, 0, 0) == 1 else CAP_SYS_RESOURCE
    keep = CAP_CHOWN | CAP_SYS_RESOURCE
    expected = [(1, errno.EPERM, CAP_SYS_RESOURCE)]
    if missing:
        expected.insert(0, (0, errno.EPERM, missing))
    assert _warnings(ops.BoundCaps(keep), ops.BoundCaps(CAP_CHOWN), ops.BoundCaps(keep))[-1] == (2, *expected[-1][1:])


def test_inheritable_capabilities_beyond_the_bound_are_left_out():
    sets = ops.SetCaps(CAP_CHOWN, CAP_CHOWN, CAP_CHOWN | CAP_KILL, 0)
    text = _shown("grep CapInh /proc/self/status", ops.BoundCaps(CAP_CHOWN), sets)
    assert int(text.split()[1], 16) in {CAP_CHOWN, CAP_CHOWN | CAP_KILL}


def test_no_new_privileges():
    assert _shown("grep NoNewPrivs /proc/self/status", ops.NoNewPrivs()).split()[1] == "1"


@pytest.mark.parametrize(("value", "owner"), [(0, 0), (1, 1000)])
def test_a_process_that_is_not_dumpable_belongs_to_root(value, owner):
    """What /proc shows of it is what others may open: its memory, its executable (CVE-2019-5736)."""
    init = [ops.SetUser(1000, 1000, (), 0), ops.SetDumpable(value), ops.Ready(), ops.Await(ops.OUTER)]
    with Running(plan_of([ops.Clone(0), ops.Upcall(1)], (), init)) as running:
        while {ops.UPCALL, ops.READY} - {report.kind for report in running.reports}:
            running.next()
        assert os.stat(f"/proc/{running.init}/maps").st_uid == owner


# --- limits and scheduling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("outside", [False, True])
def test_limits_are_set_by_the_init_or_by_the_outer(outside):
    limit = ops.SetRlimit(resource.RLIMIT_NOFILE, 99, 100)
    script = "ulimit -Sn; ulimit -Hn"
    inside, outer = ((ops.Await(ops.OUTER),), [limit, ops.Post(ops.INIT)]) if outside else ((limit,), [])
    assert _shown(script, *inside, outer=outer).split() == ["99", "100"]


def test_a_limit_refused_is_an_error():
    assert _errors(ops.Clone(0), ops.SetRlimit(999, 1, 1))[-1:] == [(1, errno.EINVAL)]


def test_affinity_of_the_init():
    cpu = max(os.sched_getaffinity(0))
    mask = (1 << cpu).to_bytes(128, "little")
    assert _shown("grep Cpus_allowed_list /proc/self/status", ops.SetAffinity(mask)).split()[1] == str(cpu)
    outer = [ops.SetAffinity(mask), ops.Post(ops.INIT)]
    assert _shown("grep Cpus_allowed_list /proc/self/status", ops.Await(ops.OUTER), outer=outer).split()[1] == str(cpu)


def test_scheduler_io_priority_personality_and_memory_policy():
    batch = ops.SetScheduler(3, 0, 7, 0, 0, 0, 0)
    text = _shown("cut -d' ' -f19,41 /proc/self/stat", batch)
    assert text.split() == ["7", "3"]
    best_effort_6 = (2 << 13) | 6
    ionice = _shown("ionice -p $$ 2>/dev/null || echo best-effort: prio 6", ops.SetIOPriority(best_effort_6))
    assert ionice.strip() == "best-effort: prio 6"
    assert _shown("cat /proc/self/personality", ops.SetPersonality(8)).strip() == "00000008"
    assert "interleave:0" in _shown("cat /proc/self/numa_maps", ops.SetMemoryPolicy(3, b"\1"))
    assert _errors(ops.SetMemoryPolicy(3, bytes(200))) == [(0, errno.EINVAL)]


# --- descriptors, mask, directory -------------------------------------------------------------------------------


def test_no_descriptor_of_the_helper_or_its_starter_reaches_the_program(tmp_path):
    leaked = os.open(str(tmp_path), os.O_RDONLY)
    os.set_inheritable(leaked, True)
    inherited = os.open("/dev/null", os.O_RDONLY)
    try:
        opens = [ops.Open(slot, "/etc/passwd", 0) for slot in range(1, 9)]
        init = [ops.Ready(), *opens, *program("exec ls -l /proc/self/fd")]
        plan = plan_of([ops.ForkJoiner()], [ops.Clone(0)], init, ("inherited",))
        text, _ = output_of(plan, inherited=[inherited])
    finally:
        os.close(leaked)
        os.close(inherited)
    numbers = [int(line.split()[8]) for line in text.splitlines()[1:]]
    assert numbers == [0, 1, 2, 3], text  # 3 is the directory that ls reads


def test_descriptors_below_the_base_are_the_programs(tmp_path):
    (tmp_path / "file").write_text("kept\n")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    init = [ops.DupTo(0, 3), *program("cat <&3; ls /proc/self/fd | wc -l")]
    try:
        text, reports = output_of(plan_of([ops.Clone(0)], (), init, ("file",)), inherited=[fd], base=5)
    finally:
        os.close(fd)
    assert text.split()[0] == "kept", reports


def test_a_descriptor_of_the_helper_is_no_place_to_dup_to():
    for number in (3, 4, 100, -1):
        assert _errors(ops.Open(0, "/", 0), ops.DupTo(0, number)) == [(1, errno.EINVAL)]


def test_keep_fds_closes_at_execution():
    text = _shown("ls /proc/self/fd", ops.KeepFds(3))
    assert text.split() == ["0", "1", "2", "3"]


def test_stdio_is_given_to_its_user_but_not_the_null_device():
    reader, writer = os.pipe()
    os.fchown(writer, 5, 5)
    plan = plan_of([ops.Clone(0)], (), [ops.OwnStdio(1234), *program("true")])
    try:
        run_plan(plan, stdout=writer, stderr=writer)
        found = os.fstat(writer)
    finally:
        os.close(reader)
        os.close(writer)
    assert (found.st_uid, found.st_gid) == (1234, 5)
    assert os.stat("/dev/null").st_uid == 0


def test_the_umask_is_the_one_given_or_the_runtimes(tmp_path):
    old = os.umask(0o027)
    try:
        assert _shown("umask").strip() == "0027"
        made = str(tmp_path / "made")
        assert _shown("umask", ops.SetUmask(0o135), ops.MakeDirs(made, 0o777)).strip() == "0135"
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(made).st_mode) == 0o777


def test_signals_are_as_new():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    old = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        text = _shown("grep -E 'Sig(Blk|Ign)' /proc/self/status")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGUSR2, old)
    assert [int(line.split()[1], 16) for line in text.splitlines()] == [0, 0]


def test_the_working_directory_is_made_if_asked_for(tmp_path):
    missing = str(tmp_path / "a/b")
    assert _errors(ops.SetCwd(missing, 0)) == [(0, errno.ENOENT)]
    assert _shown("pwd", ops.SetCwd(missing, 1)).strip() == missing


def test_a_working_directory_that_no_path_leads_to_is_refused(tmp_path):
    """CVE-2024-21626: where the kernel tells `(unreachable)`, the directory is not in the root."""
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        os.chdir(tmp_path)
        subprocess.run(["umount", "--lazy", tmp_path], check=True, cwd="/")
        assert _errors(ops.SetCwd(".", 0)) == [(0, errno.EXDEV)]
    finally:
        os.fchdir(before)
        os.close(before)


def test_a_working_directory_outside_of_the_root_is_refused(tmp_path):
    """CVE-2024-21626: a directory that an open descriptor leads to lies beyond the new root."""
    (tmp_path / "stage").mkdir()
    init = host_root(
        tmp_path / "stage",
        ops.Open(9, "/etc", os.O_RDONLY | os.O_DIRECTORY),
        ops.PivotRoot(0),
        *(ops.SetCwd(f"/proc/self/fd/{fd}", 0) for fd in range(3, 4)),
    )
    led_out = 0
    for fd in range(3, 20):
        plan = plan_of([ops.Clone(CLONE_NEWNS | CLONE_NEWPID)], (), [*init[:-1], ops.SetCwd(f"/proc/self/fd/{fd}", 0)])
        errors = [r.error for r in run_plan(plan).reports if r.kind == ops.ERROR]
        assert errors in ([errno.ELOOP], [errno.ENOENT]), errors
        led_out += errors == [errno.ELOOP]
    assert led_out


# --- the program ------------------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path):
    """Directories with a program, a file that is none, and a directory of that name."""
    for name in ("good", "plain", "dir"):
        (tmp_path / name).mkdir()
    (tmp_path / "good/tool").write_text("#!/bin/sh\necho $0 $*; echo $VAR\n")
    (tmp_path / "good/tool").chmod(0o755)
    (tmp_path / "plain/tool").write_text("no program")
    (tmp_path / "dir/tool").mkdir()
    return tmp_path


def _run(name, path, *operations, argv=("tool", "argument"), env=("VAR=value",)):
    init = [*operations, ops.FindProgram(name, path), ops.Exec(argv, env)]
    text, reports = output_of(plan_of([ops.Clone(0)], (), init))
    errors = [(r.op, r.error) for r in reports if r.kind == ops.ERROR]
    return errors or text


def test_the_first_executable_on_the_path_is_run(programs):
    path = f"/none:{programs}/plain:{programs}/dir:{programs}/good"
    assert _run("tool", path) == f"{programs}/good/tool argument\nvalue\n"


def test_an_empty_element_is_the_current_directory(programs):
    cwd = ops.SetCwd(str(programs / "good"), 0)
    for path in ("", ":/none", "/none:", "/none::/other"):
        assert _run("tool", path, cwd).startswith("tool argument\n")


def test_a_name_with_a_slash_is_not_searched_for(programs):
    assert _run(f"{programs}/good/tool", "/none") == f"{programs}/good/tool argument\nvalue\n"
    assert _run("good/tool", "/none", ops.SetCwd(str(programs), 0)).startswith("good/tool argument\n")
    assert _run("./tool", f"{programs}/good") == [(0, errno.ENOENT)]


def test_what_is_no_program_is_told_at_the_search(programs):
    assert _run("tool", "/none") == [(0, errno.ENOENT)]
    assert _run("", f"{programs}/good") == [(0, errno.ENOENT)]
    assert _run("tool", f"/none:{programs}/plain:/none") == [(0, errno.EACCES)]
    assert _run("tool", f"{programs}/dir") == [(0, errno.EACCES)]
    assert _run(f"{programs}/dir/tool", "") == [(0, errno.EACCES)]
    assert _run(f"{programs}/plain/tool/x", "") == [(0, errno.ENOTDIR)]
    assert _run("tool", "/" + "x" * 5000) == [(0, errno.ENOENT)]


def test_what_the_user_may_not_execute_is_no_program(programs):
    (programs / "good/tool").chmod(0o700)
    programs.chmod(0o755)
    programs.parent.chmod(0o755)
    assert _run(f"{programs}/good/tool", "", ops.SetUser(1000, 1000, (), 0)) == [(1, errno.EACCES)]


def test_what_execve_refuses_is_told(programs):
    (programs / "good/tool").write_text("#!/none/interpreter\n")
    assert _run("tool", f"{programs}/good") == [(1, errno.ENOENT)]
    (programs / "good/tool").write_bytes(b"\x7fELF nonsense")
    assert _run("tool", f"{programs}/good") == [(1, errno.ENOEXEC)]
    (programs / "good/tool").write_text("#!/bin/sh\n")
    assert _run("tool", f"{programs}/good", argv=("tool", "x" * (1 << 18))) == [(1, errno.E2BIG)]


def test_arguments_and_environment_arrive_whole():
    arguments = tuple(f"argument {number}" for number in range(5000))
    env = tuple(f"V{number}=ä{number}" for number in range(2000))
    script = 'echo $#; env | grep -c ^V; printf \'%s\' "$V1999"; shift 4998; echo " $1"'
    init = [
        ops.FindProgram("sh", "/bin"),
        ops.Exec(("sh", "-c", script, "sh", *arguments), ("PATH=/bin:/usr/bin", *env)),
    ]
    text, _ = output_of(plan_of([ops.Clone(0)], (), init))
    assert text.split("\n") == ["5000", "2000", "ä1999 argument 4998", ""]


def test_the_home_directory_is_that_of_the_user_in_the_roots_own_file():
    root_home = next(line.split(":")[5] for line in Path("/etc/passwd").read_text().splitlines() if ":0:0:" in line)
    assert _shown("echo $HOME", ops.FindHome(0)).strip() == root_home
    assert _shown("echo $HOME", ops.FindHome(4_000_000_000)).strip() == "/"


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "long"])
def test_a_passwd_that_is_none_harms_nobody(tmp_path, kind):
    etc = ops.OpenTree(5, ops.AT_HOST, str(tmp_path), 0), ops.Resolve(6, 0, "/etc", ops.EXISTING, 0, 0)
    passwd = tmp_path / "passwd"
    if kind == "fifo":
        os.mkfifo(passwd)
    elif kind == "directory":
        passwd.mkdir()
    elif kind == "device":
        passwd.symlink_to("/dev/zero")
    else:
        passwd.write_text("x" * 5000 + ":x:7:7::/never:\n" + "a:x:7:7::/late")
    (tmp_path / "stage").mkdir()
    init = host_root(tmp_path / "stage", *etc, ops.MoveMount(5, 6), ops.PivotRoot(0), ops.FindHome(7))
    flags = CLONE_NEWNS | CLONE_NEWPID
    text, reports = output_of(plan_of([ops.Clone(flags)], (), [*init, *program("echo $HOME")]))
    assert text.strip() == ("/late" if kind == "long" else "/"), reports


def test_an_idle_init_reaps_and_ends_on_sigterm(tmp_path):
    script = f"(sleep 0.05; echo done > {tmp_path}/orphan) & exit 0"
    hook = ops.RunHook("/bin/sh", ("sh", "-c", script), ("PATH=/bin:/usr/bin",), 0, ("",), ops.PID_OF_SELF)
    null = ops.Open(0, "/dev/null", os.O_RDWR)
    with Running(plan_of([ops.Clone(CLONE_NEWPID)], (), [null, hook, ops.Ready(), ops.Idle(0)])) as running:
        running.until(ops.READY)
        assert running.next() is None
        children = Path(f"/proc/{running.init}/task/{running.init}/children")
        deadline = time.monotonic() + 10
        while children.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "orphan").read_text() == "done\n"
        assert children.read_text() == ""
        assert sorted(os.listdir(f"/proc/{running.init}/fd")) == ["0", "1", "2", "3"]  # 3: its signalfd
        os.kill(running.init, signal.SIGTERM)
        running.finish()
        assert running.status(running.init) == 0
