"""`boxwright.run`: what comes out of a box, and how it ends."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import boxwright
from boxwright import Limits, run
from boxwright.runtime.options import RunOptions
from boxwright.runtime.run import run as run_bundle
from fixtures_library import of_both_kinds, open_fds
from fixtures_runtime import default_config

pytestmark = pytest.mark.root
MIB = 1 << 20


@of_both_kinds
def test_output_and_exit_code(where):
    result = run(["sh", "-c", "echo out; echo err >&2; exit 3"], **where)
    assert (result.exit_code, result.signal, result.reason) == (3, None, "exited")
    assert (result.stdout, result.stderr, result.ok) == (b"out\n", b"err\n", False)
    assert run(["true"], **where).ok


@pytest.mark.parametrize("size", [0, 5, 65536, 3_000_000])
def test_input_of_any_size(where, size):
    assert int(run(["wc", "-c"], stdin=b"x" * size, **where).stdout) == size


def test_input_that_is_not_read_hurts_nobody(where):
    assert run(["true"], stdin=bytes(3_000_000), **where).ok


def test_input_from_a_file(where, tmp_path):
    (tmp_path / "input").write_bytes(b"from a file")
    with open(tmp_path / "input", "rb") as file:
        assert run(["cat"], stdin=file, **where).stdout == b"from a file"


def test_without_input_there_is_nothing_to_read(where):
    assert run(["cat"], **where).stdout == b""


def test_environment(where):
    result = run(["env"], env={"GREETING": "hello world", "PATH": "/bin"}, **where)
    variables = dict(line.split("=", 1) for line in result.stdout.decode().splitlines())
    assert variables["GREETING"] == "hello world"
    assert variables["PATH"] == "/bin"
    assert "PYTEST_CURRENT_TEST" not in variables


def test_user_and_directory(where):
    result = run(["sh", "-c", "id -u; id -g; pwd"], user=(7, 8), cwd="/mnt", **where)
    assert result.stdout.split() == [b"7", b"8", b"/mnt"]


def test_a_signal_ends_it(where):
    # the first process of a pid namespace takes no signal from itself that it has no handler for, but a fault
    result = run(["sh", "-c", "sh -c 'kill -SEGV $$'; exit $?"], **where)
    assert result.exit_code == 128 + signal.SIGSEGV
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run, ["sleep", "100"], name="to-be-killed", **where)
        _wait_running(where["runtime"], "to-be-killed")
        where["runtime"].kill("to-be-killed", signal.SIGKILL)
        result = future.result(10)
    assert (result.reason, result.signal, result.exit_code) == ("signalled", signal.SIGKILL, None)


def _wait_running(runtime, container_id):
    """Until the program itself is there."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for state in runtime.states():
            if state["id"] == container_id and state["pid"] and _command(state["pid"]) == "sleep\n":
                return
        time.sleep(0.005)
    raise AssertionError(f"{container_id} does not run")


def _command(pid):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@of_both_kinds
def test_what_was_written_before_the_time_limit_is_kept(where):
    started = time.monotonic()
    result = run(["sh", "-c", "echo before; sleep 100; echo after"], timeout_s=1.5, **where)
    assert time.monotonic() - started < 10
    assert (result.reason, result.signal, result.stdout) == ("timeout", signal.SIGKILL, b"before\n")
    assert result.usage.wall_s >= 0.2


def test_all_that_it_has_started_ends_with_it(where):
    result = run(["sh", "-c", "(setsid sleep 100 &) ; echo started"], timeout_s=10, **where)
    assert (result.reason, result.stdout) == ("exited", b"started\n")
    assert result.usage.wall_s < 5


def test_a_paused_box_meets_its_time_limit_too(where):
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run, ["sleep", "100"], name="paused", timeout_s=0.5, **where)
        _wait_running(where["runtime"], "paused")
        from boxwright.runtime.pause import pause

        pause(where["runtime"], "paused")
        assert future.result(10).reason == "timeout"


@of_both_kinds
def test_memory_limit(where):
    hog = ["sh", "-c", "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done"]
    result = run(hog, limits=Limits(memory_bytes=24 * MIB), timeout_s=20, **where)
    assert (result.reason, result.usage.oom_kills > 0) == ("oom", True)
    assert 12 * MIB < result.usage.memory_peak_bytes <= 24 * MIB


def test_pids_limit_bounds_a_fork_bomb(where):
    script = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo all"
    result = run(["sh", "-c", script], limits=Limits(pids=20), timeout_s=10, **where)
    assert b"all" not in result.stdout
    assert b"fork" in result.stderr


def test_a_flood_of_output_is_cut(where):
    limits = Limits(output_bytes=10_000)
    result = run(["sh", "-c", "yes | head -c 5000000; echo end >&2"], limits=limits, **where)
    assert (len(result.stdout), result.truncated, result.stderr) == (10_000, True, b"end\n")


def test_a_full_disk_is_the_boxs_own(where):
    result = run(["dd", "if=/dev/zero", "of=/big", "bs=1M", "count=20"], limits=Limits(root_bytes=4 * MIB), **where)
    assert result.exit_code == 1
    assert b"No space left" in result.stderr


def test_limits_of_each_process(where):
    limits = Limits(open_files=77, file_bytes=1 * MIB)
    result = run(["sh", "-c", "ulimit -n; ulimit -f"], limits=limits, **where)
    assert result.stdout.split() == [b"77", b"2048"]


def test_what_is_written_goes_with_the_box(where, busybox_root):
    assert run(["sh", "-c", "echo x > /etc/made && rm /etc/hosts"], **where).ok
    assert not (busybox_root / "etc/made").exists()
    assert (busybox_root / "etc/hosts").exists()
    assert run(["touch", "/etc/made"], read_only=True, **where).exit_code == 1


def test_mounts(where, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/file").write_text("content")
    mounts = [boxwright.Bind(str(tmp_path / "shared"), "/ro"), boxwright.Bind(str(tmp_path / "shared"), "/rw", True)]
    result = run(["sh", "-c", "cat /ro/file; echo new > /rw/new; touch /ro/no"], mounts=mounts, **where)
    assert (result.stdout, result.exit_code) == (b"content", 1)
    assert (tmp_path / "shared/new").read_text() == "new\n"


def test_network_is_none_unless_it_is_asked_for(where):
    count = ["sh", "-c", "ls /sys/class/net | wc -l"]
    assert int(run(count, **where).stdout) == 1
    assert int(run(count, network="host", **where).stdout) == len(os.listdir("/sys/class/net"))


def test_usage(where):
    script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
    usage = run(["sh", "-c", script], **where).usage
    assert 0 < usage.cpu_s <= usage.wall_s * os.cpu_count() + 0.1
    assert usage.memory_peak_bytes > 0


def test_over_the_hosts_root(runtime):
    result = run(
        ["/bin/sh", "-c", "echo x > /etc/boxwright-test; cat /etc/boxwright-test; cat /etc/shadow"], runtime=runtime
    )
    assert result.stdout == b"x\n"
    assert not os.path.exists("/etc/boxwright-test")


def test_a_bundle_with_its_own_program_and_with_another(runtime, bundle):
    config = default_config("/bin/echo", "its own")
    config["process"]["env"].append("FROM=bundle")
    path = bundle(config)
    assert run(bundle=path, runtime=runtime).stdout == b"its own\n"
    result = run(["sh", "-c", "echo $FROM $MORE; touch /made"], bundle=path, env={"MORE": "here"}, runtime=runtime)
    assert result.stdout == b"bundle here\n"
    assert result.exit_code == 1  # its root filesystem is read-only


def test_a_program_that_is_not_there(where):
    for _ in range(2):  # the second time its plan is made from the first one's
        with pytest.raises(boxwright.HostError, match="cannot execute `no-such-program`") as caught:
            run(["no-such-program"], **where)
        assert "/process/args/0" in caught.value.render()


def test_plans_from_a_template_differ_where_boxes_do(where):
    hostname = ["sh", "-c", "hostname; cat /proc/1/environ | tr '\\0' '\\n' | grep ^N="]
    for number in range(3):
        result = run(hostname, hostname=f"box{number % 2}", env={"N": str(number)}, **where)
        assert result.stdout.split() == [b"box%d" % (number % 2), b"N=%d" % number]


def test_many_threads_at_once(where):
    def one(number):
        return run(["sh", "-c", "cat; exit $N"], stdin=b"%d" % number, env={"N": str(number)}, **where)

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(one, range(48)))
    assert [(result.exit_code, int(result.stdout)) for result in results] == [(n, n) for n in range(48)]


@pytest.mark.parametrize("number", range(5))
def test_a_run_whose_box_another_thread_deletes_tells_its_end(runtime, where, number):
    name = f"box-deleted-{os.getpid()}-{number}"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, ["sh", "-c", "echo up; sleep 100"], name=name, **where)
        wait_running(runtime, name)
        runtime.delete(name, force=True)
        result = running.result()
    assert (result.reason, result.signal, result.exit_code) == ("signalled", signal.SIGKILL, None)
    assert runtime.states() == []


def test_a_box_that_another_thread_deletes_can_be_closed(runtime, where):
    name = f"box-deleted-{os.getpid()}"
    with boxwright.Box(name=name, **where) as box, ThreadPoolExecutor(1) as pool:
        running = pool.submit(box.exec, ["sleep", "100"])
        deadline = time.monotonic() + 60
        while b"sleep" not in box.exec(["ps"]).stdout:
            assert time.monotonic() < deadline
        runtime.delete(name, force=True)
        assert running.result().signal == signal.SIGKILL
    assert runtime.states() == []


def test_a_run_in_the_foreground_whose_container_another_thread_deletes_tells_its_end(runtime, bundle):
    options = RunOptions(str(bundle(default_config("/bin/sleep", "100"))))
    name = f"box-deleted-{os.getpid()}"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_bundle, runtime, name, options)
        wait_running(runtime, name)
        runtime.delete(name, force=True)
        assert running.result() == 128 + signal.SIGKILL


def test_a_container_that_took_the_id_of_a_deleted_one_is_left_alone(runtime, where, bundle):
    """What a run leaves is removed by its end, but not what somebody else has made under its name since."""
    name = f"box-deleted-{os.getpid()}"
    with boxwright.Box(name=name, **where):
        runtime.delete(name, force=True)
        runtime.create(name, bundle(default_config("/bin/true")))
    assert [state["status"] for state in runtime.states()] == ["created"]
    runtime.delete(name)


def wait_running(runtime, name):
    deadline = time.monotonic() + 60
    while {state["id"]: state["status"] for state in runtime.states()}.get(name) != "running":
        assert time.monotonic() < deadline


def test_a_box_of_an_ended_threads_process_is_gone(where):
    results = []
    thread = threading.Thread(target=lambda: results.append(run(["true"], **where)))
    thread.start()
    thread.join()
    assert results[0].ok


def test_nothing_is_left_open(where):
    run(["true"], **where)
    before = open_fds()
    for timeout_s in (None, 0.05):
        run(["sh", "-c", "cat; sleep 1" if timeout_s else "cat"], stdin=bytes(200_000), timeout_s=timeout_s, **where)
    with pytest.raises(boxwright.HostError):
        run(["no-such-program"], stdin=bytes(200_000), **where)
    assert open_fds() == before


def test_the_command_line_takes_a_bundle_too(boxwright, bundle):
    path = bundle(default_config("/bin/echo", "its own"))
    words = ["run", "--bundle", str(path), "--env", "A=b", "--", "sh", "-c", "echo $A; exit 4"]
    result = boxwright.call(*words, check=False)
    assert (result.status, result.stdout) == (4, "b\n"), result


def test_low_level_life(runtime, bundle, tmp_path):
    path = bundle(default_config("/bin/sleep", "100"))
    pid = runtime.create("low", path, pid_file=str(tmp_path / "pid"))
    assert (tmp_path / "pid").read_text() == str(pid)
    assert runtime.state("low")["status"] == "created"
    runtime.start("low")
    assert runtime.state("low")["status"] == "running"
    with pytest.raises(boxwright.StateError):
        runtime.delete("low")
    runtime.kill("low", signal.SIGKILL)
    os.waitpid(pid, 0)
    assert json.loads(json.dumps(runtime.state("low")))["status"] == "stopped"
    runtime.delete("low")
    with pytest.raises(boxwright.NotFoundError):
        runtime.state("low")
