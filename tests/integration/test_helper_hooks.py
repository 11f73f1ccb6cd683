"""Hooks: their surroundings, their failures, their time."""

import errno
import os
import time

import pytest

from boxwright.plan import ops
from boxwright.plan.ops import Step
from helper_harness import CLONE_NEWPID, plan_of, run_ops, run_plan

pytestmark = pytest.mark.root


def _hook(script, *, timeout_ms=0, state=("{}",), pid_of=ops.PID_OF_SELF, env=("PATH=/bin:/usr/bin",), path="/bin/sh"):
    return ops.RunHook(path, ("hook", "-c", script), env, timeout_ms, state, pid_of)


def test_a_hook_gets_the_state_its_arguments_and_exactly_its_environment(tmp_path):
    out = tmp_path / "out"
    script = f"exec > {out}; cat; echo; echo $0; tr '\\0' ' ' < /proc/self/environ; pwd"
    assert run_ops(_hook(script, env=("A=1", "PATH=/bin:/usr/bin"))) == []
    assert out.read_text().split("\n")[:3] == ["{}", "hook", "A=1 PATH=/bin:/usr/bin " + os.getcwd()]


@pytest.mark.parametrize("length", [0, 1, 70_000, 1_000_000])
def test_a_state_of_any_length_arrives(tmp_path, length):
    out = tmp_path / "out"
    assert run_ops(_hook(f"cat > {out}", state=("x" * length,))) == []
    assert out.stat().st_size == length


def test_the_pid_in_the_state_is_the_runtimes_or_the_containers_view(tmp_path):
    seen = {name: tmp_path / name for name in ("outer", "init", "self")}
    state = ('{"pid":', "}")
    outer = [
        ops.Clone(CLONE_NEWPID),
        _hook(f"cat > {seen['outer']}", state=state, pid_of=ops.PID_OF_CHILD),
        ops.Post(ops.INIT),
    ]
    init = [
        ops.Await(ops.OUTER),
        _hook(f"cat > {seen['init']}", state=state, pid_of=ops.PID_OF_CHILD),
        _hook(f"cat > {seen['self']}", state=state, pid_of=ops.PID_OF_SELF),
    ]
    running = run_plan(plan_of(outer, (), init))
    pid = f'{{"pid":{running.init}}}'
    assert [path.read_text() for path in seen.values()] == [pid, pid, '{"pid":1}']


def test_a_hook_that_does_not_read_is_no_failure():
    assert run_ops(_hook("exec <&-; sleep 0.05", state=("x" * 1_000_000,))) == []


def test_a_failing_hook_is_told_with_status_and_last_words():
    (report,) = run_ops(_hook("seq 2000; echo the end >&2; exit 7"))
    assert (report.kind, report.error) == (ops.HOOK_FAILED, errno.ECANCELED)
    assert os.waitstatus_to_exitcode(report.value) == 7
    assert len(report.text) == 1024
    assert report.text.endswith("1999\n2000\nthe end\n")


def test_a_hook_killed_by_a_signal_is_told_so():
    (report,) = run_ops(_hook("kill -9 $$"))
    assert os.waitstatus_to_exitcode(report.value) == -9


def test_a_soft_hook_only_warns():
    steps = [Step(_hook("echo why; exit 1"), soft=True), ops.Ready()]
    reports = run_plan(plan_of(steps)).reports
    assert [(r.kind, r.text) for r in reports] == [(ops.WARNING, "why\n"), (ops.READY, "")]


@pytest.mark.parametrize(
    ("path", "error"), [("/nonexistent/hook", errno.ENOENT), ("/etc/passwd", errno.EACCES), ("/", errno.EACCES)]
)
def test_a_hook_that_cannot_be_executed_is_an_error(path, error):
    assert [(r.kind, r.error) for r in run_ops(_hook("", path=path))] == [(ops.ERROR, error)]


def test_a_hook_out_of_time_is_killed_with_its_children(tmp_path):
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    (report,) = run_ops(_hook(f"echo working; sleep 60 & echo $! > {pid_file}; wait", timeout_ms=150))
    assert time.monotonic() - started < 10
    assert (report.kind, report.error, report.value) == (ops.HOOK_FAILED, errno.ETIMEDOUT, -1)
    assert report.text == "working\n"
    child = int(pid_file.read_text())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9  # we are its subreaper


def test_a_hook_in_time_is_not_waited_for_longer():
    started = time.monotonic()
    assert run_ops(_hook("exit 0", timeout_ms=60_000)) == []
    assert time.monotonic() - started < 10


def test_what_a_hook_leaves_running_is_not_waited_for(tmp_path):
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    assert run_ops(_hook(f"sleep 60 & echo $! > {pid_file}")) == []
    assert time.monotonic() - started < 10
    pid = int(pid_file.read_text())
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def test_a_hook_gets_no_descriptor_but_stdio_and_signals_as_new(tmp_path):
    out = tmp_path / "out"
    script = f"exec > {out}; ls /proc/self/fd; grep -E 'Sig(Ign|Blk)' /proc/self/status"
    assert run_ops(ops.Open(0, "/etc", 0), _hook(script)) == []
    words = out.read_text().split()
    assert words == ["0", "1", "2", "3", "SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
