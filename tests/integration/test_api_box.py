"""`boxwright.Box`: a box that stays."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import boxwright
from boxwright import DEVNULL, Limits
from fixtures_library import of_both_kinds, open_fds
from fixtures_runtime import default_config
from loaded import SOURCE

pytestmark = pytest.mark.root
MIB = 1 << 20


def test_a_forced_delete_says_whom_nobody_has_reaped(where, runtime, tmp_path):
    """An init does not end before all of its pid namespace are reaped; one that `spawn` started is ours to reap."""
    said: list[str] = []
    told = boxwright.Runtime(str(tmp_path / "state"), log=lambda _level, message: said.append(message))
    with boxwright.Box(**where) as box, box.spawn(["sleep", "100"]) as process:
        began = time.monotonic()
        init = box.state()["pid"]
        told.delete(box.id, force=True)
        assert time.monotonic() - began < 8  # and not until it gives up
        assert runtime.states() == []
        (message,) = said
        assert f"process {init} of container `{box.id}`" in message
        assert f"{process.pid} (child of {os.getpid()})" in message
        assert process.wait() == -signal.SIGKILL


def test_a_forced_delete_of_what_ends_says_nothing(where, tmp_path):
    said: list[str] = []
    told = boxwright.Runtime(str(tmp_path / "state"), log=lambda _level, message: said.append(message))
    with boxwright.Box(**where) as box:
        told.delete(box.id, force=True)
    assert said == []


def test_programs_share_the_box(box):
    assert box.exec(["sh", "-c", "echo kept > /tmp/file"]).ok
    assert box.exec(["cat", "/tmp/file"]).stdout == b"kept\n"
    assert box.exec(["sh", "-c", "echo $$"]).stdout != b"1\n"


def test_the_time_of_a_program_is_its_whole_time(box):
    """Also of one that is over before its caller hears that it runs."""
    for argv in (["sleep", "0.05"], ["sh", "-c", "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done"]):
        usage = box.exec(argv).usage
        assert 0 < usage.cpu_s <= usage.wall_s + 0.01  # the kernel may count in ticks
    assert box.exec(["sleep", "0.05"]).usage.wall_s >= 0.05


def test_exec_takes_over_what_is_not_said(where):
    with boxwright.Box(env={"A": "1", "B": "2"}, cwd="/mnt", user=5, **where) as box:
        script = "echo $A $B $(pwd) $(id -u)"
        assert box.exec(["sh", "-c", script]).stdout == b"1 2 /mnt 5\n"
        changed = box.exec(["sh", "-c", script], env={"B": "3"}, cwd="/tmp", user=(6, 7))
        assert changed.stdout == b"1 3 /tmp 6\n"


def test_exec_with_input_and_a_time_limit(box):
    assert box.exec(["wc", "-c"], stdin=bytes(300_000)).stdout == b"300000\n"
    result = box.exec(["sh", "-c", "echo before; sleep 100 | cat"], timeout_s=1.5)
    assert (result.reason, result.stdout) == ("timeout", b"before\n")
    assert b"sleep" not in box.exec(["ps"]).stdout
    assert box.exec(["true"]).ok


def test_exec_of_what_is_not_there(box):
    with pytest.raises(boxwright.HostError, match="no-such-program"):
        box.exec(["no-such-program"])
    assert box.exec(["true"]).ok


@of_both_kinds
def test_memory_of_the_box_is_limited_and_one_death_is_not_the_next_ones(where):
    with boxwright.Box(limits=Limits(memory_bytes=24 * MIB), **where) as box:
        hog = ["sh", "-c", "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done"]
        assert box.exec(hog, timeout_s=20).reason == "oom"
        assert box.exec(["sh", "-c", "exit 3"]).reason == "exited"
        assert box.stats().oom_kills > 0


def test_streams_of_a_spawned_program(box):
    with box.spawn(["sh", "-c", "while read line; do echo got $line; echo $line >&2; done"]) as process:
        for word in (b"one", b"two"):
            process.stdin.write(word + b"\n")
            assert process.stdout.readline() == b"got " + word + b"\n"
            assert process.stderr.readline() == word + b"\n"
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(10) == 0
        assert process.reason == "exited"


def test_streams_of_the_callers(box, tmp_path):
    with (
        open(tmp_path / "out", "wb") as file,
        box.spawn(["sh", "-c", "echo to the file; echo lost >&2"], stdin=DEVNULL, stdout=file, stderr=DEVNULL) as p,
    ):
        assert (p.stdin, p.stdout, p.stderr) == (None, None, None)
        assert p.wait(10) == 0
    assert (tmp_path / "out").read_bytes() == b"to the file\n"


def test_a_terminal(box):
    with box.spawn(["sh", "-c", "tty; read x; stty size; echo bye"], tty=True) as process:
        process.resize(40, 100)
        process.stdin.write(b"go\n")
        output = process.stdout.read()
        assert process.wait(10) == 0
    assert output.split() == [b"go", b"/dev/pts/0", b"40", b"100", b"bye"] or b"40 100" in output
    assert b"/dev/pts/0" in output


def test_signals_and_waiting(box):
    with box.spawn(["sleep", "100"]) as process:
        with pytest.raises(TimeoutError):
            process.wait(0.01)
        process.kill(signal.SIGTERM)
        assert select.select([process.fileno()], [], [], 10)[0]
        assert (process.wait(), process.poll(), process.reason) == (-signal.SIGTERM, -signal.SIGTERM, "signalled")
        process.kill()


def test_pause_and_resume(box):
    with box.spawn(["sh", "-c", "while true; do echo x; sleep 0.01; done"]) as process:
        process.stdout.readline()
        box.pause()
        assert box.state()["status"] == "paused"
        with pytest.raises(boxwright.StateError):
            box.exec(["true"])
        box.resume()
        assert box.state()["status"] == "running"
        os.read(process.stdout.fileno(), 1 << 16)
        assert process.stdout.readline()


@of_both_kinds
def test_a_paused_box_can_be_closed(where):
    with boxwright.Box(**where) as box:
        process = box.spawn(["sleep", "100"])
        box.pause()
    assert process.poll() == -signal.SIGKILL
    process.close()


def test_limits_are_changed_while_it_runs(box):
    box.update(Limits(memory_bytes=64 * MIB, pids=50))
    assert box.stats().memory_limit_bytes == 64 * MIB
    assert box.limits.pids == 50
    box.update(Limits(memory_bytes=None))
    assert box.stats().memory_limit_bytes is None
    with pytest.raises(boxwright.UsageError, match="root_bytes"):
        box.update(Limits(root_bytes=1))


def test_statistics(box):
    before = box.stats()
    box.exec(["sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"])
    after = box.stats()
    assert after.cpu_s > before.cpu_s
    assert (after.pids, after.oom_kills) == (1, 0)
    assert 0 < after.memory_bytes <= after.memory_peak_bytes
    assert after.raw["pids"]["limit"] == 1024


def test_the_command_line_finds_it(where, boxwright_command):
    with boxwright.Box(name="by-name", **where):
        words = [boxwright_command, "--root", where["runtime"].root, "exec", "by-name", "echo", "hello"]
        assert subprocess.check_output(words) == b"hello\n"


def test_a_box_that_is_not_open(where):
    box = boxwright.Box(name="mine", **where)
    with pytest.raises(boxwright.StateError, match="`mine` is closed"):
        box.exec(["true"])
    with box:
        assert box.id == "mine"
        with pytest.raises(boxwright.StateError, match="`mine` is open"):
            box.open()
        with pytest.raises(boxwright.ExistsError):
            boxwright.Box(name="mine", **where).open()
    box.close()
    with box:  # it can be opened again
        assert box.exec(["true"]).ok


@of_both_kinds
def test_its_end_from_without(where):
    with boxwright.Box(**where) as box:
        with box.spawn(["sleep", "100"]) as process:
            box.kill(signal.SIGTERM)
            assert process.wait(10) == -signal.SIGKILL
        while box.state()["status"] != "stopped":
            time.sleep(0.01)
        with pytest.raises(boxwright.StateError):
            box.exec(["true"])


def test_the_init_reaps_orphans(box):
    box.exec(["sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.01 &) ; done"])
    end = time.monotonic() + 5
    while box.stats().pids > 1 and time.monotonic() < end:
        time.sleep(0.01)
    assert box.stats().pids == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_leaves_nothing(where, error):
    boxwright.run(["true"], **where)
    before = open_fds()
    processes = []

    def broken_off():
        with boxwright.Box(**where) as box:
            processes.append(box.spawn(["sleep", "100"]))
            raise error

    with pytest.raises(error):
        broken_off()
    assert processes[0].poll() == -signal.SIGKILL
    processes[0].close()
    assert {name for name in open_fds() - before if "pipe" not in name} == set()


@of_both_kinds
def test_an_interrupted_run_leaves_nothing(where):
    timer = threading.Timer(0.3, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        boxwright.run(["sleep", "100"], **where)
    timer.join()
    assert where["runtime"].states() == []


@of_both_kinds
def test_closing_ends_what_was_spawned_and_never_waited_for(where):
    with boxwright.Box(**where) as box:
        processes = [box.spawn(["sleep", "100"]) for _ in range(3)] + [box.spawn(["true"])]
    assert [process.poll() for process in processes[:3]] == [-signal.SIGKILL] * 3
    for process in processes:
        process.close()


def test_a_box_for_threads(box):
    def one(number):
        return int(box.exec(["sh", "-c", "cat"], stdin=b"%d" % number).stdout)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))) == list(range(24))


def test_a_box_outlives_the_thread_that_made_it(where):
    with ThreadPoolExecutor(1) as pool:
        box = pool.submit(boxwright.Box(**where).open).result()
    try:
        assert box.exec(["true"]).ok
    finally:
        box.close()


def test_a_box_of_a_bundle(runtime, bundle):
    config = default_config("/bin/false")
    config["process"]["env"].append("FROM=bundle")
    with boxwright.Box(bundle=bundle(config), runtime=runtime) as box:
        assert box.exec(["sh", "-c", "echo $FROM"]).stdout == b"bundle\n"


_HOLDER = """
import sys
sys.path.insert(0, {source!r})
import boxwright
where = dict(rootfs={rootfs!r}, runtime=boxwright.Runtime({state!r}), name="held", isolation={isolation!r})
if {kind!r} == "run":
    boxwright.run(["sleep", "100"], mounts=[boxwright.Bind({shared!r}, "/shared", True)], **where)
else:
    with boxwright.Box(**where) as box, box.spawn(["sleep", "100"]) as process:
        print("up", flush=True)
        process.wait()
"""


@of_both_kinds
@pytest.mark.parametrize("kind", ["run", "box"])
def test_a_box_dies_with_its_process_and_the_next_one_cleans_up(kind, where, busybox_root, tmp_path):
    runtime = where["runtime"]
    script = _HOLDER.format(
        source=str(SOURCE),
        rootfs=str(busybox_root),
        state=runtime.root,
        shared=str(tmp_path),
        kind=kind,
        isolation=where["isolation"],
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        pidfd = os.pidfd_open(_pid_of(runtime, "held"))
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    try:
        _reap_until_gone(pidfd)
    finally:
        os.close(pidfd)
    assert [state["id"] for state in runtime.states()] == ["held"]
    boxwright.run(["true"], **where)
    assert runtime.states() == []


def _pid_of(runtime, container_id):
    """Of a box whose program runs."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for state in runtime.states():
            if state["id"] == container_id and state["status"] == "running":
                with open(f"/proc/{state['pid']}/comm") as file:
                    if file.read() != "boxwright-helpe\n" or _children(state["pid"]):
                        return state["pid"]
        time.sleep(0.01)
    raise AssertionError(f"{container_id} does not run")


def _children(pid):
    """Whether further processes were started beside an idle init: they are in its pid namespace."""
    namespace = os.readlink(f"/proc/{pid}/ns/pid")
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != pid:
            try:
                if os.readlink(f"/proc/{name}/ns/pid") == namespace:
                    return True
            except OSError:
                continue  # it has just ended
    return False


def _reap_until_gone(pidfd):
    """Orphans come to us, the subreaper; the init of a pid namespace ends when all in it are reaped."""
    end = time.monotonic() + 10
    while not select.select([pidfd], [], [], 0.01)[0]:
        assert time.monotonic() < end, "the box has outlived its process"
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            continue


def test_a_forked_process_does_not_hold_the_boxes_of_its_parent(where):
    with boxwright.Box(**where) as box:
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        try:
            from boxwright.host.lifeline import lifeline

            target = os.readlink(f"/proc/self/fd/{lifeline()}")
            end = time.monotonic() + 5
            while target in _fds_of(child) and time.monotonic() < end:
                time.sleep(0.01)
            assert target not in _fds_of(child)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert box.exec(["true"]).ok


def _fds_of(pid):
    return {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
