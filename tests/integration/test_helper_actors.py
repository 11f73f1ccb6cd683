"""The helper's three processes: how they come to be, wait for each other, report, and end together."""

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time

import pytest

from boxwright.plan import ops
from boxwright.plan.ops import INIT, JOINER, OUTER, Step
from helper_harness import (
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    Running,
    helper_path,
    output_of,
    plan_of,
    program,
    run_ops,
    run_plan,
)

pytestmark = pytest.mark.root

SLEEP = program("exec sleep 60")


def test_an_empty_plan_reports_nothing_and_succeeds():
    running = run_plan(plan_of())
    assert running.reports == []
    assert running.status(running.outer) == 0


def test_an_error_tells_actor_step_and_errno(tmp_path):
    running = run_plan(plan_of([ops.SetDumpable(1), ops.Write(str(tmp_path / "none"), b"x"), ops.SetDumpable(0)]))
    (report,) = running.reports
    assert (report.kind, report.actor, report.op, report.error) == (ops.ERROR, OUTER, 1, errno.ENOENT)
    assert running.status(running.outer) == 1


def test_a_soft_step_warns_and_the_next_ones_are_done(tmp_path):
    made = tmp_path / "made"
    steps = [Step(ops.Write(str(tmp_path / "none"), b"x"), soft=True), ops.MakeDirs(str(made), 0o755)]
    running = run_plan(plan_of(steps))
    assert [(r.kind, r.op, r.error) for r in running.reports] == [(ops.WARNING, 0, errno.ENOENT)]
    assert made.is_dir()


def test_the_init_is_our_child_and_its_pid_is_reported_first():
    running = run_plan(plan_of([ops.Clone(0)], (), [ops.Write("/nonexistent", b"")]))
    assert [(r.kind, r.actor) for r in running.reports] == [(ops.CHILD_PID, OUTER), (ops.ERROR, INIT)]
    assert running.status(running.init) == 1


def test_the_joiner_clones_an_init_whose_pid_the_outer_learns(tmp_path):
    pid_file = tmp_path / "pid"
    pid_file.touch()
    outer = [ops.ForkJoiner(), ops.WriteChildPid(str(pid_file)), ops.Post(INIT)]
    joiner = [ops.Unshare(CLONE_NEWPID), ops.Clone(0)]
    init = [ops.Await(OUTER), *program("echo $$")]
    text, reports = output_of(plan_of(outer, joiner, init))
    assert text == "1\n"
    assert [(r.kind, r.actor) for r in reports] == [(ops.JOINER_PID, OUTER), (ops.CHILD_PID, JOINER)]
    assert int(pid_file.read_text()) == reports[1].value


def test_post_and_await_order_the_actors(tmp_path):
    log = tmp_path / "log"
    outer = [
        ops.Clone(0),
        ops.Await(INIT),
        ops.MakeDirs(f"{log}/first/second", 0o755),
        ops.Post(INIT),
    ]
    init = [
        ops.MakeDirs(f"{log}/first", 0o755),
        ops.Post(OUTER),
        ops.Await(OUTER),
        ops.Open(0, f"{log}/first/second", 0),
    ]
    running = run_plan(plan_of(outer, (), init))
    assert not running.of_kind(ops.ERROR)


@pytest.mark.parametrize("joined", [False, True])
def test_when_the_init_fails_only_it_reports_and_all_end(joined):
    clone = [ops.Clone(0)]
    outer = [*([ops.ForkJoiner()] if joined else clone), ops.Await(INIT), ops.Ready()]
    running = run_plan(plan_of(outer, clone if joined else (), [ops.Open(0, "/nonexistent", 0)]))
    assert [(r.actor, r.error) for r in running.of_kind(ops.ERROR)] == [(INIT, errno.ENOENT)]
    assert running.status(running.outer) == 1


def test_when_the_joiner_fails_only_it_reports_and_all_end():
    running = run_plan(plan_of([ops.ForkJoiner(), ops.WriteChildPid("/nonexistent")], [ops.Setns(5, 0)]))
    first, *others = running.of_kind(ops.ERROR)
    assert (first.actor, first.error) == (JOINER, errno.EBADF)
    assert [(r.actor, r.error) for r in others] == [(OUTER, errno.ESRCH)]


@pytest.mark.parametrize("joined", [False, True])
def test_when_the_outer_fails_the_others_are_killed(joined):
    clone = [ops.Clone(0)]
    outer = [*([ops.ForkJoiner()] if joined else clone), ops.Write("/nonexistent", b"")]
    running = run_plan(plan_of(outer, clone if joined else (), [ops.Await(OUTER), *SLEEP]))
    assert [(r.actor, r.error) for r in running.of_kind(ops.ERROR)] == [(OUTER, errno.ENOENT)]
    statuses = [running.status(pid) for pid in running.children]
    assert statuses[0] == 1
    assert all(status != 0 for status in statuses[-1:])


def test_a_program_that_was_already_executed_is_killed_when_the_outer_fails():
    with Running(plan_of([ops.Clone(0), ops.Upcall(7)], (), SLEEP)) as running:
        upcall = running.until(ops.UPCALL)
        assert upcall.value == running.init
        running.socket.send((errno.EBUSY).to_bytes(8, "little"))
        error = running.until(ops.ERROR)
        assert (error.actor, error.op, error.error) == (OUTER, 1, errno.EBUSY)
        running.finish()
        assert running.status(running.init) == -signal.SIGKILL


def test_an_upcall_answered_with_0_goes_on():
    with Running(plan_of([ops.Upcall(1), ops.Ready()])) as running:
        running.until(ops.UPCALL)
        running.socket.send(bytes(8))
        assert running.until(ops.READY).op == 1
        running.finish()


def test_the_end_of_the_report_socket_is_the_execution_of_the_program():
    with Running(plan_of([ops.Clone(0)], (), [ops.Ready(), *SLEEP])) as running:
        running.until(ops.READY)
        assert running.next() is None
        assert "boxwright-helper" not in os.readlink(f"/proc/{running.init}/exe")


def test_the_gate_holds_the_init_and_the_one_who_opens_it_hears_the_rest(tmp_path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(tmp_path / "gate"))
    listener.listen(1)
    init = [ops.Ready(), ops.Gate(0), ops.Open(1, "/nonexistent", 0)]
    with listener, Running(plan_of([ops.Clone(0)], (), init, ("gate",)), inherited=[listener.fileno()]) as running:
        running.until(ops.READY)
        assert running.status(running.outer) == 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as opener:
            opener.settimeout(10)
            opener.connect(str(tmp_path / "gate"))
            running.socket.close()
            running.socket = opener
            error = running.until(ops.ERROR)
            assert (error.op, error.error) == (2, errno.ENOENT)
            assert running.next() is None


def test_an_init_waiting_for_a_dead_outer_ends_without_a_report():
    plan = plan_of([ops.Clone(0), ops.Upcall(1)], (), [ops.Await(OUTER), *SLEEP])
    with Running(plan) as running:
        running.until(ops.UPCALL)
        os.kill(running.outer, signal.SIGKILL)
        assert running.next() is None
        assert running.status(running.init) == 1


def test_nobody_listening_at_ready_means_that_there_is_no_container():
    with Running(plan_of([ops.Clone(0)], (), [ops.Await(OUTER), ops.Ready(), *SLEEP])) as running:
        running.until(ops.CHILD_PID)
        running.socket.close()
        assert running.status(running.init) == 1


SPAWNER = """
import sys, time
from helper_harness import Running, plan_of, program
from boxwright.plan import ops
ready = [ops.Ready()] if sys.argv[1] == "ready" else []
init = [ops.DieWithParent(), *ready, *program("exec sleep 60")]
with Running(plan_of([ops.Clone(0)], (), init)) as running:
    while running.next() is not None:
        pass
    print(running.init, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("kind", "dies"), [("early", True), ("ready", False)])
def test_the_init_dies_with_its_parent_until_it_is_ready(kind, dies):
    """The parent of the init is whoever spawned the helper: a process of its own here, that is killed."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    command = [sys.executable, "-c", SPAWNER, kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as spawner:
        assert spawner.stdout is not None
        pid = int(spawner.stdout.readline())
        pidfd = os.pidfd_open(pid)
        spawner.kill()
    ended = bool(select.select([pidfd], [], [], 10 if dies else 0.2)[0])
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    os.waitpid(pid, 0)  # ours now, as we are its subreaper
    assert ended == dies


def test_a_user_namespace_gets_its_maps_from_the_outer():
    outer = [
        ops.Clone(CLONE_NEWUSER),
        ops.WriteChildFile(INIT, "uid_map", b"0 100000 1000\n"),
        ops.WriteChildFile(INIT, "gid_map", b"0 200000 1000\n"),
        ops.Post(INIT),
    ]
    init = [ops.Await(OUTER), ops.BecomeRoot(), *program("id -u; id -g; id -G; cat /proc/self/uid_map")]
    text, reports = output_of(plan_of(outer, (), init))
    assert not [r for r in reports if r.kind == ops.ERROR]
    assert text.split() == ["0", "0", "0", "0", "100000", "1000"]


def test_a_time_namespace_gets_its_offsets_from_the_joiner():
    joiner = [
        ops.Unshare(CLONE_NEWTIME),
        ops.Open(0, "/proc", os.O_PATH | os.O_DIRECTORY),
        ops.WriteAt(0, "self/timens_offsets", b"boottime 1000000 0"),
        ops.Clone(CLONE_NEWUTS),
    ]
    text, reports = output_of(plan_of([ops.ForkJoiner()], joiner, program("cat /proc/uptime")))
    assert not [r for r in reports if r.kind == ops.ERROR]
    assert float(text.split()[0]) > time.clock_gettime(time.CLOCK_BOOTTIME) + 999_000


def test_a_namespace_is_joined_by_descriptor():
    holder = subprocess.Popen(
        ["unshare", "--uts", "sh", "-c", "hostname joined; echo; exec sleep 60"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        joiner = [ops.Open(0, f"/proc/{holder.pid}/ns/uts", os.O_RDONLY), ops.Setns(0, CLONE_NEWUTS), ops.Clone(0)]
        text, _ = output_of(plan_of([ops.ForkJoiner()], joiner, program("hostname")))
        assert text == "joined\n"
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_the_tool_is_told_the_pid_and_its_words_come_back():
    with Running(
        plan_of([ops.Clone(0), ops.RunTool(INIT, ("/bin/sh", "-c", "echo no $1 >&2; exit 3", "x", "%p"))])
    ) as r:
        r.finish()
        (error,) = r.of_kind(ops.ERROR)
        assert (error.error, os.waitstatus_to_exitcode(error.value)) == (errno.ECANCELED, 3)
        assert error.text == f"no {r.init}\n"


@pytest.mark.parametrize("base", ["", "2", "-3", "3x", " 3", "99999999999999999999"])
def test_a_base_that_is_no_descriptor_of_ours_is_refused(base):
    assert subprocess.run([helper_path(), base], check=False).returncode == 2


def test_slots_are_checked():
    assert [r.error for r in run_ops(ops.Setns(64, 0))] == [errno.EBADF]
    assert [r.error for r in run_ops(ops.Open(64, "/", 0))] == [errno.EBADF]
    assert [r.error for r in run_ops(ops.Open(-1, "/", 0))] == [errno.EBADF]
    assert [r.error for r in run_ops(ops.Open(0, "/", 0), ops.Close(0), ops.Setns(0, 0))] == [errno.EBADF]
    assert run_ops(ops.Close(63)) == []


@pytest.mark.parametrize("actor", [JOINER, INIT, 3, -1])
def test_nobody_to_wait_for_is_an_error(actor):
    assert [r.error for r in run_ops(ops.Await(actor))] == [errno.ESRCH]
    assert [r.error for r in run_ops(ops.WriteChildFile(actor, "comm", b"x"))] == [errno.ESRCH]
