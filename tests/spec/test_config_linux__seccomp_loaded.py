"""config-linux.md: seccomp filters of every action in real containers, and the listener of SCMP_ACT_NOTIFY."""

import ctypes
import errno
import fcntl
import json
import os
import platform
import select
import socket
import struct
import threading
from pathlib import Path

import pytest

import lacks
from fixtures_probe import Boxes, status_in
from fixtures_runtime import Json

pytestmark = [pytest.mark.root, pytest.mark.spec("config-linux.md#configLinuxSeccomp")]

GETPPID = {"x86_64": 110, "aarch64": 173}.get(platform.machine(), -1)
SETUID = {"x86_64": 105, "aarch64": 146}.get(platform.machine(), -1)
FILTER, SIGSYS = "2", 31
IOCTL_NOTIF_RECV, IOCTL_NOTIF_SEND = 0xC0502100, 0xC0182101


@pytest.fixture(autouse=True)
def known_architecture():
    lacks.need("x86_64 or aarch64", GETPPID > 0)


def rule(action: str, *names: str, **more: object) -> Json:
    return {"names": list(names or ("getppid",)), "action": action} | more


def filtered(
    boxes: Boxes, *rules: Json, words: "tuple[str, ...]" = (), default: str = "SCMP_ACT_ALLOW", **more: object
):
    """A configuration with these rules, whose program calls getppid(2)."""
    config = boxes.config(*(words or ("syscall", str(GETPPID), ",", "args", "after")))
    config["linux"]["seccomp"] = {"defaultAction": default, "syscalls": list(rules)} | more
    return config


# ── actions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("entry", "seen"),
    [
        (rule("SCMP_ACT_ALLOW"), 0),
        (rule("SCMP_ACT_LOG"), 0),
        (rule("SCMP_ACT_ERRNO"), -errno.EPERM),
        (rule("SCMP_ACT_ERRNO", errnoRet=errno.ENOSYS), -errno.ENOSYS),
        (rule("SCMP_ACT_ERRNO", errnoRet=errno.EXDEV), -errno.EXDEV),
        # without a tracer the call is not there (seccomp(2))
        (rule("SCMP_ACT_TRACE"), -errno.ENOSYS),
        (rule("SCMP_ACT_TRACE", errnoRet=7), -errno.ENOSYS),
    ],
)
def test_actions_that_let_the_program_go_on(boxes: Boxes, entry, seen):
    assert boxes.output(filtered(boxes, entry)) == f"syscall {seen}\nafter\n"


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"])
def test_actions_that_end_a_program_of_one_thread(boxes: Boxes, action):
    result = boxes.run(filtered(boxes, rule(action)))
    assert result.stdout == ""
    assert result.status == 128 + SIGSYS


def test_trap_is_a_signal_that_can_be_caught(boxes: Boxes):
    config = filtered(boxes, rule("SCMP_ACT_TRAP"), words=("catch", ",", "syscall", str(GETPPID)))
    assert boxes.output(config) == f"signal {SIGSYS} code 1 call {GETPPID}\n"


@pytest.mark.parametrize(
    ("action", "alive"), [("SCMP_ACT_KILL", True), ("SCMP_ACT_KILL_THREAD", True), ("SCMP_ACT_KILL_PROCESS", False)]
)
def test_what_is_killed_is_the_thread_or_the_process(boxes: Boxes, action, alive):
    result = boxes.run(filtered(boxes, rule(action), words=("thread",)))
    assert (result.stdout == "alive\n") == alive
    assert result.status == (0 if alive else 128 + SIGSYS)


def test_the_default_action_is_for_what_no_rule_names(boxes: Boxes):
    config = filtered(boxes, rule("SCMP_ACT_ERRNO", errnoRet=errno.EXDEV), default="SCMP_ACT_ALLOW")
    assert boxes.output(config).startswith(f"syscall {-errno.EXDEV}\n")
    needed = [
        "read",
        "write",
        "open",
        "openat",
        "close",
        "fstat",
        "newfstatat",
        "mmap",
        "munmap",
        "mprotect",
        "brk",
        "execve",
        "exit_group",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "readlink",
        "readlinkat",
        "getrandom",
        "writev",
        "ioctl",
        "rt_sigprocmask",
        "rt_sigaction",
        "futex",
        "uname",
    ]
    allow = rule("SCMP_ACT_ALLOW", *needed)
    for more, error in (({}, errno.EPERM), ({"defaultErrnoRet": errno.ENOSYS}, errno.ENOSYS)):
        config = filtered(boxes, allow, default="SCMP_ACT_ERRNO", **more)
        assert boxes.output(config) == f"syscall {-error}\nafter\n"


def test_a_name_that_is_not_known_is_passed_over_and_told(boxes: Boxes):
    config = filtered(boxes, rule("SCMP_ACT_ERRNO", "getppid", "no_such_call_yet"))
    bundle = boxes.bundle(config)
    for _compiled_or_cached in range(2):
        result = boxes.run_bundle(bundle)
        assert result.stdout == f"syscall {-errno.EPERM}\nafter\n"
        (said,) = result.stderr.splitlines()
        assert "warning" in said
        assert "`no_such_call_yet`" in said
        assert "getppid" not in said


@pytest.mark.parametrize(
    ("op", "value", "two", "matching", "other"),
    [
        ("SCMP_CMP_NE", 5, None, 6, 5),
        ("SCMP_CMP_LT", 5, None, 4, 5),
        ("SCMP_CMP_LE", 5, None, 5, 6),
        ("SCMP_CMP_EQ", 5, None, 5, 6),
        ("SCMP_CMP_GE", 5, None, 5, 4),
        ("SCMP_CMP_GT", 5, None, 6, 5),
        ("SCMP_CMP_MASKED_EQ", 0xF0, 0x20, 0x2F, 0x3F),
        ("SCMP_CMP_EQ", 1 << 40, None, 1 << 40, 0),
        ("SCMP_CMP_GT", (1 << 32) - 1, None, 1 << 33, 1),
    ],
)
def test_operators_on_arguments(boxes: Boxes, op, value, two, matching, other):
    condition = {"index": 2, "value": value, "op": op} | ({} if two is None else {"valueTwo": two})
    words = [word for number in (matching, other) for word in ("syscall", str(GETPPID), "0", "0", str(number), ",")]
    config = filtered(boxes, rule("SCMP_ACT_ERRNO", args=[condition]), words=tuple(words[:-1]))
    assert boxes.output(config) == f"syscall {-errno.EPERM}\nsyscall 0\n"


def test_all_conditions_of_a_rule_have_to_hold(boxes: Boxes):
    conditions = [{"index": index, "value": 1, "op": "SCMP_CMP_EQ"} for index in (0, 1)]
    words = ("syscall", str(GETPPID), "1", "1", ",", "syscall", str(GETPPID), "1", "0")
    config = filtered(boxes, rule("SCMP_ACT_ERRNO", args=conditions), words=words)
    assert boxes.output(config) == f"syscall {-errno.EPERM}\nsyscall 0\n"


@pytest.mark.parametrize(
    "flag",
    [
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    ],
)
@pytest.mark.parametrize("new_privileges", [False, True])
def test_flags(boxes: Boxes, flag, new_privileges):
    config = filtered(boxes, rule("SCMP_ACT_ERRNO"), flags=[flag], words=("cat", "/proc/self/status"))
    config["process"]["noNewPrivileges"] = not new_privileges
    status = status_in(boxes.output(config))
    assert (status["Seccomp"], status["Seccomp_filters"]) == (FILTER, "1")
    if flag.endswith("SPEC_ALLOW") and platform.machine() == "x86_64":
        assert status["Speculation_Store_Bypass"] in {"thread vulnerable", "not vulnerable", "vulnerable"}


@pytest.mark.parametrize(
    "architectures", [["SCMP_ARCH_X86_64"], ["SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X32"], []]
)
def test_architectures(boxes: Boxes, architectures):
    lacks.need("x86_64", platform.machine() == "x86_64")
    config = filtered(boxes, rule("SCMP_ACT_ERRNO"), architectures=architectures)
    assert boxes.output(config) == f"syscall {-errno.EPERM}\nafter\n"


def test_no_filter_unless_asked_for(boxes: Boxes):
    assert status_in(boxes.probe("cat", "/proc/self/status"))["Seccomp"] == "0"


def test_exec_has_the_same_filter(boxes: Boxes):
    box = boxes.started(filtered(boxes, rule("SCMP_ACT_ERRNO"), words=("pause",)))
    assert box.exec("/bin/probe", "syscall", str(GETPPID)).stdout == f"syscall {-errno.EPERM}\n"


@pytest.mark.parametrize("user", [{"uid": 0, "gid": 0}, {"uid": 1000, "gid": 1000}])
@pytest.mark.parametrize("new_privileges", [False, True])
def test_a_filter_on_what_the_runtime_itself_calls(boxes: Boxes, user, new_privileges):
    config = filtered(boxes, rule("SCMP_ACT_ERRNO", "setuid", "mount", "capset", "prctl", "close_range"))
    config["process"] |= {"user": user, "noNewPrivileges": not new_privileges}
    config["process"]["args"] = ["/bin/probe", "syscall", str(SETUID), "0"]
    assert boxes.output(config) == f"syscall {-errno.EPERM}\n"


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("new_privileges", [False, True])
def test_loading_a_filter_leaves_no_capability_behind(boxes: Boxes, uid, new_privileges):
    config = filtered(boxes, rule("SCMP_ACT_ERRNO"), words=("cat", "/proc/self/status"))
    config["process"] |= {"user": {"uid": uid, "gid": uid}, "noNewPrivileges": not new_privileges}
    config["process"]["capabilities"] = {kind: ["CAP_KILL"] for kind in ("bounding", "permitted", "effective")}
    status = status_in(boxes.output(config))
    kill = 1 << 5
    held = kill if uid == 0 else 0
    assert [int(status[name], 16) for name in ("CapBnd", "CapPrm", "CapEff", "CapAmb")] == [kill, held, held, 0]
    box = boxes.started(config | {"process": config["process"] | {"args": ["/bin/probe", "pause"]}})
    status = status_in(box.exec("/bin/probe", "cat", "/proc/self/status").stdout)
    assert [int(status[name], 16) for name in ("CapBnd", "CapPrm", "CapEff", "CapAmb")] == [kill, held, held, 0]


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"defaultAction": "SCMP_ACT_NONE"},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO"}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getppid"]}]},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("SCMP_ACT_NONE")]},
        {"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1},
        {"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1},
        *(
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule(action, errnoRet=1)]}
            for action in ("SCMP_ACT_KILL", "SCMP_ACT_TRAP", "SCMP_ACT_LOG", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_NOTIFY")
        ),
        {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NONE"]},
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]},
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [rule("SCMP_ACT_ERRNO", args=[{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}])],
        },
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [rule("SCMP_ACT_ERRNO", args=[{"index": 0, "value": 1, "op": "SCMP_CMP_NO"}])],
        },
        {"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"},
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule("SCMP_ACT_NOTIFY")]},
        {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/no/such/socket"},
    ],
)
def test_wrong_sections_create_nothing(boxes: Boxes, section):
    config = boxes.config()
    config["linux"]["seccomp"] = section
    assert "/linux/seccomp" in boxes.refused(config)


# ── the listener ────────────────────────────────────────────────────────────────────────────────────────────────────


class Agent(threading.Thread):
    """A seccomp agent: takes one container process state, then answers every notification with 77."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.state: Json = {}
        self.connections = 0
        self.closed = False
        self.descriptors: list[int] = []
        self.calls: list[int] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()

    def run(self) -> None:
        connection, _ = self._listener.accept()
        self.connections += 1
        with connection:
            data, self.descriptors, _, _ = socket.recv_fds(connection, 65536, 8)
            while chunk := connection.recv(65536):
                data += chunk
        self.closed = True
        self.state = json.loads(data)
        self._serve(self.descriptors[0])

    def _serve(self, fd: int) -> None:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while True:
            events = poll.poll(20_000)
            if not events or events[0][1] & select.POLLHUP:
                return
            request = bytearray(80)
            fcntl.ioctl(fd, IOCTL_NOTIF_RECV, request)
            identity, _, _, number = struct.unpack_from("=QIIi", request)
            self.calls.append(number)
            fcntl.ioctl(fd, IOCTL_NOTIF_SEND, struct.pack("=QqiI", identity, 77, 0, 0))

    def close(self) -> None:
        for fd in self.descriptors:
            os.close(fd)
        self._listener.close()


@pytest.fixture
def agent(boxes: Boxes):
    made = Agent(boxes.directory / "agent")
    made.start()
    yield made
    made.join(30)
    made.close()
    assert not made.is_alive()


@pytest.mark.spec("config-linux.md#containerprocessstate")
@pytest.mark.parametrize("metadata", [None, 'opaque "data" ü'])
def test_the_agent_gets_the_state_and_answers_for_the_kernel(boxes: Boxes, agent: Agent, metadata, validator):
    more = {"listenerPath": str(boxes.directory / "agent")} | (
        {} if metadata is None else {"listenerMetadata": metadata}
    )
    config = filtered(boxes, rule("SCMP_ACT_NOTIFY"), **more) | {"annotations": {"org.example": "1"}}
    box = boxes.created(config)
    pid = box.pid
    box.start()
    box.wait()
    agent.join(30)
    assert box.result.stdout == "syscall 77\nafter\n"
    assert agent.calls == [GETPPID]
    assert (agent.connections, agent.closed, len(agent.descriptors)) == (1, True, 1)
    state = agent.state
    assert state["fds"] == ["seccompFd"]
    assert state["pid"] == pid
    assert state.get("metadata", "") == (metadata or "")
    assert state["ociVersion"]
    validator("state-schema.json").validate(state["state"])
    inner = state["state"]
    assert (inner["id"], inner["status"], inner["pid"], inner["bundle"]) == (box.id, "creating", pid, str(box.bundle))
    assert inner["annotations"] == {"org.example": "1"}


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("new_privileges", [False, True])
def test_a_run_with_an_agent(boxes: Boxes, new_privileges):
    config = filtered(boxes, rule("SCMP_ACT_NOTIFY"), listenerPath=str(boxes.directory / "agent"))
    config["process"]["noNewPrivileges"] = not new_privileges
    assert boxes.output(config) == "syscall 77\nafter\n"


@pytest.mark.usefixtures("agent")
def test_wait_killable_goes_with_notify(boxes: Boxes):
    config = filtered(
        boxes,
        rule("SCMP_ACT_NOTIFY"),
        listenerPath=str(boxes.directory / "agent"),
        flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
    )
    assert boxes.output(config) == "syscall 77\nafter\n"


def test_a_listener_path_means_nothing_without_notify(boxes: Boxes):
    config = filtered(boxes, rule("SCMP_ACT_ERRNO"), listenerPath="/no/such/socket", listenerMetadata="x")
    assert boxes.output(config) == f"syscall {-errno.EPERM}\nafter\n"


def test_the_kernel_and_the_test_agree_on_sizes():
    sizes = (ctypes.c_uint16 * 3)()
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp = {"x86_64": 317, "aarch64": 277}[platform.machine()]
    assert libc.syscall(seccomp, 3, 0, ctypes.byref(sizes)) == 0
    assert (sizes[0], sizes[1]) == (80, 24)
