"""config.md: the process, seen by the process."""

import fcntl
import os
import pty
import resource
import socket
import struct
import subprocess
import termios
from pathlib import Path

import pytest

import lacks
from boxwright.spec.constants import CAPABILITIES, RLIMITS
from fixtures_probe import Boxes, status_in
from fixtures_runtime import Json

pytestmark = pytest.mark.root

SETS = ("inheritable", "permitted", "effective", "bounding", "ambient")
STATUS_NAMES = dict(zip(SETS, ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), strict=True))


def process(boxes: Boxes, *words: str, **changes: object) -> Json:
    """A configuration whose process has these keys changed."""
    config = boxes.config(*words)
    config["process"] |= changes
    return config


# ── args, env, cwd ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("config.md#configProcess")
def test_arguments_arrive_as_they_are(boxes: Boxes):
    words = ["two words", "", "$HOME", "*", "ü", "'\"", "--flag"]
    config = process(boxes, args=["/bin/probe", "args", *words])
    assert boxes.output(config) == " ".join(words) + "\n"


@pytest.mark.spec("config.md#configProcess")
def test_the_environment_is_the_configured_one(boxes: Boxes):
    env = ["PATH=/bin", "A=1", "B=", "C=x=y", "HOME=/here", "U=ü"]
    assert boxes.output(process(boxes, "env", env=env)).splitlines() == env


@pytest.mark.spec("config.md#configProcess")
def test_nothing_of_the_caller_s_environment_gets_in(boxes: Boxes):
    result = boxes.run(process(boxes, "env", env=["HOME=/"]), env=os.environ | {"SECRET": "of the caller"})
    assert result.stdout == "HOME=/\n"


@pytest.mark.spec("config.md#configProcess")
@pytest.mark.parametrize("cwd", ["/", "/tmp", "/mnt/a"])
def test_the_program_starts_in_cwd(boxes: Boxes, cwd):
    assert boxes.output(process(boxes, "cwd", cwd=cwd)) == f"{cwd}\n"


@pytest.mark.spec("config.md#configProcess")
@pytest.mark.parametrize(
    ("program", "path", "found"),
    [
        ("probe", "/bin", True),
        ("probe", "/nowhere:/bin", True),
        ("probe", "/etc:/bin", True),
        ("probe", "/nowhere", False),
        ("probe", None, True),  # execvp(3) has a path of its own where PATH is not set
        ("/bin/probe", "/nowhere", True),
        ("bin/probe", "/nowhere", True),
        ("./bin/probe", "/nowhere", True),
        ("./probe", "/bin", False),
        ("passwd", "/etc", False),
        ("/etc/passwd", "/bin", False),
        ("/bin", "/bin", False),
        ("", "/bin", False),
    ],
)
def test_the_program_is_found_as_execvp_does(boxes: Boxes, program, path, found):
    env = ["A=1"] if path is None else [f"PATH={path}"]
    config = process(boxes, args=[program, "args", "found"], env=env)
    if found:
        assert boxes.output(config) == "found\n"
    else:
        assert "/process/args" in boxes.refused(config)


@pytest.mark.spec("config.md#configProcess")
@pytest.mark.parametrize("changes", [{"args": []}, {"args": None}, {"cwd": "tmp"}, {"cwd": ""}, {"cwd": None}])
def test_a_wrong_process_is_refused(boxes: Boxes, changes):
    config = process(boxes, **changes)
    config["process"] = {key: value for key, value in config["process"].items() if value is not None}
    key = next(iter(changes))
    assert key in boxes.refused(config)


@pytest.mark.spec("config.md#configProcess")
def test_a_working_directory_that_is_a_file_is_an_error(boxes: Boxes):
    assert "/process/cwd" in boxes.refused(process(boxes, cwd="/etc/passwd"))


# ── who ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("config.md#configPOSIXUser")
@pytest.mark.parametrize(
    ("user", "seen"),
    [
        ({"uid": 0, "gid": 0}, "uid 0 0 0\ngid 0 0 0\ngroups"),
        ({"uid": 1000, "gid": 50}, "uid 1000 1000 1000\ngid 50 50 50\ngroups"),
        (
            {"uid": 7, "gid": 8, "additionalGids": [9, 10, 4_000_000_000]},
            "uid 7 7 7\ngid 8 8 8\ngroups 9 10 4000000000",
        ),
        ({"uid": 0, "gid": 0, "additionalGids": [5]}, "uid 0 0 0\ngid 0 0 0\ngroups 5"),
    ],
)
def test_the_user_of_the_program(boxes: Boxes, user, seen):
    assert boxes.output(process(boxes, "ids", user=user)) == f"{seen}\n"


@pytest.mark.spec("config.md#configPOSIXUser")
def test_the_user_in_a_user_namespace_is_the_container_s(boxes: Boxes):
    config = process(boxes, "ids", ",", "pause", user={"uid": 5, "gid": 6, "additionalGids": [7]})
    mapping = [{"containerID": 0, "hostID": 100_000, "size": 65536}]
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    box = boxes.started(config)
    status = status_in(Path(f"/proc/{box.pid}/status").read_text())
    assert (status["Uid"], status["Gid"]) == ("\t".join(["100005"] * 4), "\t".join(["100006"] * 4))
    assert status["Groups"] == "100007"
    box.wait_output("uid 5 5 5\ngid 6 6 6\ngroups 7\n")


@pytest.mark.spec("config.md#configPOSIXUser")
@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_umask(boxes: Boxes, umask):
    user = {"uid": 0, "gid": 0, "umask": umask}
    assert boxes.output(process(boxes, "umask", user=user)) == f"{umask:04o}\n"


@pytest.mark.spec("config.md#configPOSIXUser")
@pytest.mark.parametrize("umask", [0o027, 0o002])
def test_umask_is_the_caller_s_where_none_is_set(boxes: Boxes, umask):
    before = os.umask(umask)
    try:
        bundle = boxes.bundle(boxes.config("umask"))
        assert boxes.run_bundle(bundle).stdout == f"{umask:04o}\n"
    finally:
        os.umask(before)


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("config.md#configPOSIXProcess")
@pytest.mark.parametrize("name", RLIMITS)
def test_rlimits_are_exact(boxes: Boxes, name):
    number = RLIMITS[name]
    hard = resource.getrlimit(number)[1]
    hard = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    if name == "RLIMIT_AS":
        hard = 1 << 30
    soft = max(0, hard - 1)
    config = process(boxes, "rlimit", str(number), rlimits=[{"type": name, "soft": soft, "hard": hard}])
    assert boxes.output(config) == f"{number} {soft} {hard}\n"


@pytest.mark.spec("config.md#configPOSIXProcess")
def test_several_rlimits_and_those_that_are_not_named(boxes: Boxes):
    limits = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}]
    stack = RLIMITS["RLIMIT_STACK"]
    config = process(boxes, "rlimit", "4", "7", str(stack), rlimits=limits)
    soft, hard = (value % (1 << 64) for value in resource.getrlimit(stack))
    assert boxes.output(config).splitlines() == ["4 0 0", "7 64 128", f"{stack} {soft} {hard}"]


@pytest.mark.spec("config.md#configPOSIXProcess")
@pytest.mark.parametrize(
    "limits",
    [
        [{"type": "RLIMIT_NOISE", "soft": 1, "hard": 1}],
        [{"type": "NOFILE", "soft": 1, "hard": 1}],
        [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}] * 2,
        [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}],
        [{"type": "RLIMIT_CORE", "soft": 2}],
        [{"type": "RLIMIT_CORE", "soft": -1, "hard": 1}],
    ],
)
def test_wrong_rlimits_create_nothing(boxes: Boxes, limits):
    assert "/process/rlimits/" in boxes.refused(process(boxes, rlimits=limits))


@pytest.mark.spec("config.md#configPOSIXProcess")
def test_infinity_is_a_limit(boxes: Boxes):
    infinity = (1 << 64) - 1
    limits = [{"type": "RLIMIT_CPU", "soft": infinity, "hard": infinity}]
    number = RLIMITS["RLIMIT_CPU"]
    assert boxes.output(process(boxes, "rlimit", str(number), rlimits=limits)) == f"{number} {infinity} {infinity}\n"


# ── capabilities ────────────────────────────────────────────────────────────────────────────────────────────────────


def masks(boxes: Boxes, capabilities: object, **changes: object) -> dict[str, int]:
    config = process(boxes, "cat", "/proc/self/status", capabilities=capabilities, **changes)
    if capabilities is None:
        del config["process"]["capabilities"]
    status = status_in(boxes.output(config))
    return {kind: int(status[name], 16) for kind, name in STATUS_NAMES.items()}


def mask(*names: str) -> int:
    return sum(1 << CAPABILITIES[name] for name in names)


@pytest.mark.spec("config.md#configLinuxProcess")
def test_all_five_capability_sets_are_exact(boxes: Boxes):
    wanted = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW", "CAP_FOWNER"],
        "permitted": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
        "effective": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
        "inheritable": ["CAP_KILL", "CAP_CHOWN"],
        "ambient": ["CAP_KILL"],
    }
    user = {"uid": 1000, "gid": 1000}
    # execve(2) of a user that is not root leaves the ambient ones as permitted and effective (capabilities(7))
    assert masks(boxes, wanted, user=user, noNewPrivileges=False) == {
        "bounding": mask(*wanted["bounding"]),
        "permitted": mask("CAP_KILL"),
        "effective": mask("CAP_KILL"),
        "inheritable": mask(*wanted["inheritable"]),
        "ambient": mask("CAP_KILL"),
    }


@pytest.mark.spec("config.md#configLinuxProcess")
def test_root_gets_what_the_bounding_set_lets_through(boxes: Boxes):
    names = ["CAP_KILL", "CAP_CHOWN"]
    found = masks(boxes, {"bounding": names, "permitted": names, "effective": names})
    assert found == dict.fromkeys(("bounding", "permitted", "effective"), mask(*names)) | {
        "inheritable": 0,
        "ambient": 0,
    }


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize("capabilities", [None, {}, {"bounding": []}])
@pytest.mark.parametrize("uid", [0, 1000])
def test_no_capabilities(boxes: Boxes, capabilities, uid):
    assert masks(boxes, capabilities, user={"uid": uid, "gid": uid}) == dict.fromkeys(SETS, 0)


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize("kind", SETS)
def test_unknown_capabilities_are_warned_of_and_left_out(boxes: Boxes, kind):
    capabilities = {name: ["CAP_KILL"] for name in SETS}
    capabilities[kind] = ["CAP_KILL", "CAP_TO_FLY"]
    result = boxes.run(process(boxes, "args", "on", capabilities=capabilities))
    assert (result.status, result.stdout) == (0, "on\n")
    assert "CAP_TO_FLY" in result.stderr
    assert "warning" in result.stderr


@pytest.mark.spec("config.md#configLinuxProcess")
def test_capabilities_that_cannot_be_granted_are_warned_of(boxes: Boxes):
    own = int(status_in(Path("/proc/self/status").read_text())["CapBnd"], 16)
    missing = [name for name, number in CAPABILITIES.items() if not own >> number & 1]
    lacks.need("a missing capability", missing)
    names = ["CAP_KILL", missing[0]]
    result = boxes.run(process(boxes, "args", "on", capabilities=dict.fromkeys(SETS, names)))
    assert (result.status, result.stdout) == (0, "on\n"), result
    assert missing[0] in result.stderr


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize(("value", "seen"), [(True, "1"), (False, "0"), (None, "0")])
def test_no_new_privileges(boxes: Boxes, value, seen):
    config = process(boxes, "cat", "/proc/self/status", noNewPrivileges=value)
    if value is None:
        del config["process"]["noNewPrivileges"]
    assert status_in(boxes.output(config))["NoNewPrivs"] == seen


# ── scheduling, memory, affinity ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize("value", [0, 1, 500, 1000])
def test_oom_score_adj_is_set(boxes: Boxes, value):
    assert boxes.output(process(boxes, "cat", "/proc/self/oom_score_adj", oomScoreAdj=value)) == f"{value}\n"


@pytest.mark.spec("config.md#configLinuxProcess")
def test_oom_score_adj_is_not_touched_where_it_is_not_set(boxes: Boxes):
    before = Path("/proc/self/oom_score_adj").read_text()
    Path("/proc/self/oom_score_adj").write_text("321")
    try:
        assert boxes.probe("cat", "/proc/self/oom_score_adj") == "321\n"
    finally:
        try:
            Path("/proc/self/oom_score_adj").write_text(before)
        except PermissionError:
            raise AssertionError("the score cannot be lowered again") from None


def _may(policy: int, priority: int) -> bool:
    """Whether the kernel lets us be scheduled so: tried in a child."""
    pid = os.fork()
    if pid == 0:
        try:
            os.sched_setscheduler(0, policy, os.sched_param(priority))
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize(
    ("scheduler", "seen"),
    [
        ({"policy": "SCHED_OTHER"}, "policy 0 flags 0 nice 0 priority 0"),
        ({"policy": "SCHED_OTHER", "nice": 7}, "policy 0 flags 0 nice 7 priority 0"),
        ({"policy": "SCHED_OTHER", "nice": -3}, "policy 0 flags 0 nice -3 priority 0"),
        ({"policy": "SCHED_BATCH", "nice": 5}, "policy 3 flags 0 nice 5 priority 0"),
        ({"policy": "SCHED_IDLE"}, "policy 5 flags 0"),
        ({"policy": "SCHED_FIFO", "priority": 9}, "policy 1 flags 0 nice 0 priority 9"),
        ({"policy": "SCHED_RR", "priority": 1}, "policy 2 flags 0 nice 0 priority 1"),
        (
            {"policy": "SCHED_RR", "priority": 2, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            "policy 2 flags 1 nice 0 priority 2",
        ),
    ],
)
def test_scheduler(boxes: Boxes, scheduler, seen):
    policy = {"SCHED_FIFO": os.SCHED_FIFO, "SCHED_RR": os.SCHED_RR}.get(scheduler["policy"])
    lacks.need("real-time scheduling", policy is None or _may(policy, scheduler["priority"]))
    config = process(boxes, "sched", scheduler=scheduler)
    if policy is not None and Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists():
        config["linux"]["resources"]["cpu"] = {"realtimeRuntime": 1000, "realtimePeriod": 1_000_000}
    assert boxes.output(config).startswith(f"{seen} ")


@pytest.mark.spec("config.md#configLinuxProcess")
def test_the_deadline_scheduler(boxes: Boxes):
    scheduler = {"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 20_000_000}
    result = boxes.run(process(boxes, "sched", scheduler=scheduler | {"flags": ["SCHED_FLAG_RECLAIM"]}))
    lacks.need("deadline scheduling", "EPERM" not in result.stderr and "EBUSY" not in result.stderr)
    assert result.stdout == "policy 6 flags 2 nice 0 priority 0 runtime 1000000 deadline 10000000 period 20000000\n"


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize(
    "scheduler",
    [
        {"policy": "SCHED_NONE"},
        {},
        {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NONE"]},
        {"policy": "SCHED_FIFO", "priority": 100},
        {"policy": "SCHED_ISO"},
    ],
)
def test_wrong_schedulers_are_errors(boxes: Boxes, scheduler):
    result = boxes.run(process(boxes, "args", "ran", scheduler=scheduler))
    assert result.status != 0
    assert result.stdout == ""
    assert "scheduler" in result.stderr


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize(
    ("io", "seen"),
    [
        ({"class": "IOPRIO_CLASS_BE", "priority": 0}, "class 2 priority 0"),
        ({"class": "IOPRIO_CLASS_BE", "priority": 7}, "class 2 priority 7"),
        ({"class": "IOPRIO_CLASS_RT", "priority": 3}, "class 1 priority 3"),
        ({"class": "IOPRIO_CLASS_IDLE", "priority": 0}, "class 3 priority 0"),
    ],
)
def test_io_priority_is_for_the_whole_group(boxes: Boxes, io, seen):
    assert boxes.output(process(boxes, "ioprio", ioPriority=io)) == f"{seen} group same\n"


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize(
    "io",
    [
        {"class": "IOPRIO_CLASS_NONE", "priority": 0},
        {"class": "IOPRIO_CLASS_BE", "priority": 8},
        {"class": "IOPRIO_CLASS_BE", "priority": -1},
        {"priority": 1},
    ],
)
def test_wrong_io_priorities_are_errors(boxes: Boxes, io):
    assert "/process/ioPriority" in boxes.refused(process(boxes, ioPriority=io))


@pytest.mark.spec("config.md#configLinuxProcess")
def test_exec_cpu_affinity_is_for_exec_alone(boxes: Boxes):
    cpus = sorted(os.sched_getaffinity(0))
    lacks.need("two CPUs", len(cpus) > 1)
    config = process(boxes, "affinity", ",", "pause", execCPUAffinity={"initial": str(cpus[0]), "final": str(cpus[1])})
    box = boxes.started(config)
    box.wait_output(" ".join(map(str, cpus)) + " \n")
    assert box.exec("/bin/probe", "affinity").stdout == f"{cpus[1]} \n"


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize("final", [{}, {"final": ""}])
def test_without_a_final_affinity_the_initial_one_stays(boxes: Boxes, final):
    cpus = sorted(os.sched_getaffinity(0))
    lacks.need("two CPUs", len(cpus) > 1)
    box = boxes.started(process(boxes, "pause", execCPUAffinity={"initial": str(cpus[1])} | final))
    assert box.exec("/bin/probe", "affinity").stdout == f"{cpus[1]} \n"


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize("affinity", [{"initial": "x"}, {"final": "1-"}, {"initial": "3-1"}])
def test_wrong_affinities_are_errors(boxes: Boxes, affinity):
    assert "/process/execCPUAffinity" in boxes.refused(process(boxes, execCPUAffinity=affinity))


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize("key", ["apparmorProfile", "selinuxLabel"])
def test_a_label_that_cannot_be_applied_is_an_error(boxes: Boxes, key):
    files = {"apparmorProfile": "/sys/module/apparmor/parameters/enabled", "selinuxLabel": "/sys/fs/selinux/enforce"}
    lacks.need(f"a host without {key}", not Path(files[key]).exists())
    result = boxes.run(process(boxes, "args", "ran", **{key: "no-such-label"}))
    assert result.status != 0
    assert result.stdout == ""
    assert key in result.stderr


@pytest.mark.spec("config.md#configLinuxProcess")
def test_a_profile_without_apparmor_is_an_error_of_create(boxes: Boxes):
    lacks.need("a host without AppArmor", not Path("/sys/module/apparmor").exists())
    message = boxes.refused(process(boxes, "args", "ran", apparmorProfile="no-such-label"))
    assert "`/process/apparmorProfile` is not supported by the `linux` box here: AppArmor is not active" in message


# ── descriptors and signals ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.spec("runtime-linux.md#runtimeLinuxFileDescriptors")
def test_only_the_standard_descriptors_are_open(boxes: Boxes):
    extra = [os.open("/etc/hostname", os.O_RDONLY) for _ in range(3)]
    try:
        bundle = boxes.bundle(boxes.config("fds"))
        for words in (("run",), ("create",)):
            container = f"bw-{os.getpid()}-fds-{words[0]}"
            result = boxes.runtime.call(*words, "--bundle", bundle, container, pass_fds=extra)
            if words == ("create",):
                boxes.runtime.start(container)
                boxes.runtime.wait_stopped(container)
            assert [line.split()[0] for line in result.stdout.splitlines()] == ["0", "1", "2"]
    finally:
        for fd in extra:
            os.close(fd)


@pytest.mark.spec("runtime-linux.md#runtimeLinuxFileDescriptors")
def test_standard_descriptors_that_are_closed_are_dev_null(boxes: Boxes):
    bundle, container = boxes.bundle(boxes.config("fds")), f"bw-{os.getpid()}-closed"
    words = [*boxes.runtime.command, "--root", boxes.runtime.root, "run", "--bundle", bundle, container]
    out = boxes.directory / "out"
    with out.open("w") as file:
        subprocess.run(["sh", "-c", '"$@" <&- 2>&-', "sh", *map(str, words)], check=True, stdout=file)
    lines = out.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
    assert lines[0].endswith("/dev/null")


@pytest.mark.spec("runtime-linux.md#runtimeLinuxFileDescriptors")
@pytest.mark.parametrize("asked", [1, 2])
def test_preserved_descriptors_are_passed(boxes: Boxes, asked):
    paths = [boxes.directory / name for name in ("first", "second")]
    for path in paths:
        path.write_text(path.name)
    config = boxes.shell(f"cat <&3; {'cat <&4' if asked == 2 else '(: <&4) 2>&1 || echo closed'}")
    bundle, container = boxes.bundle(config), f"bw-{os.getpid()}-preserved{asked}"
    words = [*boxes.runtime.command, "--root", boxes.runtime.root, "run", f"--preserve-fds={asked}", "--bundle", bundle]
    script = f'exec 3<{paths[0]} 4<{paths[1]} && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *map(str, words), container], check=False, capture_output=True, text=True
    )
    assert done.stdout.startswith("first")
    assert ("second" in done.stdout) == (asked == 2), done


@pytest.mark.spec("runtime-linux.md#runtimeLinuxFileDescriptors")
@pytest.mark.parametrize("pid", ["own", "none"])
def test_socket_activation(boxes: Boxes, pid):
    path = boxes.directory / "passed"
    path.write_text("passed\n")
    config = boxes.shell('echo "$LISTEN_FDS $LISTEN_PID $$"; cat <&3')
    bundle, container = boxes.bundle(config), f"bw-{os.getpid()}-listen-{pid}"
    words = [*boxes.runtime.command, "--root", boxes.runtime.root, "run", "--bundle", bundle, container]
    own = "LISTEN_PID=$$" if pid == "own" else ""
    script = f'exec 3<{path}; export LISTEN_FDS=1 {own}; exec "$@"'
    done = subprocess.run(["sh", "-c", script, "sh", *map(str, words)], check=False, capture_output=True, text=True)
    assert done.stdout == "1 1 1\npassed\n", done


def test_signals_are_as_a_program_expects_them(boxes: Boxes):
    bundle, container = boxes.bundle(boxes.config("signals")), f"bw-{os.getpid()}-signals"
    words = [*boxes.runtime.command, "--root", boxes.runtime.root, "run", "--bundle", bundle, container]
    script = 'trap "" INT QUIT PIPE USR1 CHLD; exec "$@"'
    done = subprocess.run(["sh", "-c", script, "sh", *map(str, words)], check=True, capture_output=True, text=True)
    assert done.stdout == ""


def test_the_program_leads_a_session_as_the_first_process(boxes: Boxes):
    assert boxes.probe("session") == "pid 1 ppid 0 sid 1 pgrp 1\n"


# ── terminals ───────────────────────────────────────────────────────────────────────────────────────────────────────


def take_terminal(listener: socket.socket) -> "tuple[int, str]":
    """The master that the runtime sends, and the name it sends with it."""
    connection, _ = listener.accept()
    with connection:
        data, fds, _, _ = socket.recv_fds(connection, 4096, 1)
    assert len(fds) == 1
    return fds[0], data.decode()


def read_all(master: int) -> str:
    text = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:
            break
        if not chunk:
            break
        text += chunk
    return text.decode().replace("\r\n", "\n")


@pytest.fixture
def console(boxes: Boxes):
    """A listening console socket and its path."""
    path = boxes.directory / "console"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        yield listener, path


@pytest.mark.spec("config.md#configProcess", "config-linux.md#configLinuxDefaultDevices")
def test_a_terminal_comes_through_the_console_socket(boxes: Boxes, console):
    listener, path = console
    config = process(
        boxes,
        *("tty", ",", "fds", ",", "stat", "/dev/console", ",", "session"),
        terminal=True,
        consoleSize={"height": 33, "width": 77},
        user={"uid": 1000, "gid": 1000},
    )
    box = boxes.created(config, "--console-socket", path)
    master, _ = take_terminal(listener)
    box.start()
    text = read_all(master).splitlines()
    os.close(master)
    assert text[0] == "tty 111 rows 33 columns 77 control 0"
    fds = dict(line.split() for line in text[1:4])
    assert set(fds) == {"0", "1", "2"}
    assert set(fds.values()) <= {"/dev/pts/0", "/dev/console"}
    console_line = text[4].split()
    assert console_line[1] == "c"
    assert console_line[2].split(":")[0] == "136"
    assert console_line[4].split(":")[0] == "1000"
    assert text[5] == "pid 1 ppid 0 sid 1 pgrp 1"


@pytest.mark.spec("config.md#configProcess")
def test_a_terminal_passes_both_ways_and_takes_its_size(boxes: Boxes, console):
    listener, path = console
    config = boxes.shell("stty -echo; read line; echo got $line; stty size")
    config["process"]["terminal"] = True
    box = boxes.created(config, "--console-socket", path)
    master, _ = take_terminal(listener)
    box.start()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 11, 22, 0, 0))
    os.write(master, b"hello\n")
    text = read_all(master)
    os.close(master)
    assert "got hello" in text
    assert text.splitlines()[-1] == "11 22"


@pytest.mark.spec("config.md#configProcess")
def test_a_terminal_of_the_caller_s(boxes: Boxes):
    config = process(boxes, "tty", terminal=True, consoleSize={"height": 12, "width": 34})
    bundle, container = boxes.bundle(config), f"bw-{os.getpid()}-terminal"
    words = [*boxes.runtime.command, "--root", str(boxes.runtime.root), "run", "--bundle", str(bundle), container]
    pid, master = pty.fork()
    if pid == 0:
        os.execv(words[0], words)
    text = read_all(master)
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert text.startswith("tty 111 rows")
    assert text.endswith("control 0\n")


@pytest.mark.spec("config.md#configProcess")
@pytest.mark.parametrize("value", [False, None])
def test_console_size_means_nothing_without_a_terminal(boxes: Boxes, value):
    config = process(boxes, "tty", ",", "stat", "/dev/console", terminal=value, consoleSize={"height": 5, "width": 6})
    if value is None:
        del config["process"]["terminal"]
    first, second = boxes.output(config).splitlines()
    assert first == "tty 000 control -6"
    assert second == "/dev/console -2"


@pytest.mark.spec("config.md#configProcess")
def test_a_terminal_that_nobody_would_hold_is_an_error(boxes: Boxes):
    message = boxes.refused(process(boxes, "tty", terminal=True))
    assert "console" in message
    assert boxes.run(process(boxes, "tty", terminal=True), "--detach").status != 0
    assert boxes.runtime.ids() == []


@pytest.mark.spec("config.md#configProcess")
def test_a_console_socket_that_nobody_listens_on_is_an_error(boxes: Boxes):
    config = process(boxes, "tty", terminal=True)
    assert "console socket" in boxes.refused(config, "--console-socket", str(boxes.directory / "nobody"))
