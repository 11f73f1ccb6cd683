"""Every step of a create fails once, and the runtime is killed once before every step: nothing stays behind."""

import errno
import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attacks import one_line_error, our_groups

import lacks
from fixtures_runtime import BundleFactory, Json, Runtime, default_config
from helper_harness import NATIVE
from processes import descendants, kill_descendants

pytestmark = pytest.mark.root

BOX = "faulty"
ACTORS = ("outer", "joiner", "init")
MOST_STEPS = 400
QUIET: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
# by these the runtime itself changes something, or learns that it was changed
CALLS = ("mkdir", "rename", "memfd_create", "bind", "recvmsg", "flock")


def rich_config() -> Json:
    """A configuration with steps of every kind that this machine can do."""
    config = default_config("/bin/sleep", "60")
    linux = config["linux"]
    linux["namespaces"] += [{"type": "time"}, {"type": "cgroup"}]
    linux["timeOffsets"] = {"boottime": {"secs": 5}}
    linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    linux["devices"] = [{"path": "/dev/more/null", "type": "c", "major": 1, "minor": 3}]
    linux["resources"]["pids"] = {"limit": 20}
    config["process"].update(oomScoreAdj=100, cwd="/tmp", rlimits=[{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}])
    hook = {"path": "/bin/true"}
    config["hooks"] = {"createRuntime": [hook], "createContainer": [hook], "poststop": [hook]}
    cgroups = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    config["mounts"].append(cgroups)
    return config


class Fault:
    """A helper that fails, or waits to be killed, before one step."""

    def __init__(self, helper: Path, directory: Path) -> None:
        self.environment = {**os.environ, "BOXWRIGHT_HELPER": str(helper)}
        self._step = directory / "step"
        for name in ("reached", "go"):
            os.mkfifo(directory / name)
        self.reached = os.open(directory / "reached", os.O_RDWR)
        self._go = os.open(directory / "go", os.O_RDWR)

    def arm(self, actor: int, index: int, error: int = 0) -> None:
        """The step to fail, by `error`; 0: to wait before."""
        self._step.write_text(f"{actor} {index} {error}\n")

    def was_reached(self) -> bool:
        """Whether it was come to the step since it was armed."""
        return bool(select.select([self.reached], [], [], 0)[0]) and bool(os.read(self.reached, 1))

    def go_on(self) -> None:
        """Let the step be performed."""
        os.write(self._go, b"x")

    def hold(self) -> None:
        """Who died with the runtime did not take the word to go on: the next one shall not either."""
        while select.select([self._go], [], [], 0)[0]:
            os.read(self._go, 1)

    def close(self) -> None:
        """Let everybody who waits go."""
        os.close(self.reached)
        os.close(self._go)


@pytest.fixture(scope="module")
def faulty_helper(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The helper with the faults compiled in, and the directory that steers it."""
    lacks.need_program("make")
    lacks.need("C compiler", lacks.find_program("musl-gcc") or lacks.find_program("cc"))
    build, directory = tmp_path_factory.mktemp("faulty-helper"), tmp_path_factory.mktemp("fault")
    flags = f"CFLAGS=-O1 -DFAULT_DIR='\"{directory}\"'"
    subprocess.run(["make", "-s", "-C", str(NATIVE), f"BUILD={build}", flags], check=True)
    return build / "boxwright-helper", directory


@pytest.fixture
def fault(faulty_helper: tuple[Path, Path]) -> Iterator[Fault]:
    """To be armed."""
    helper, directory = faulty_helper
    made = Fault(helper, directory)
    yield made
    made.close()
    for path in directory.iterdir():
        path.unlink()


def _left(boxwright: Runtime, known: set[int]) -> list[str]:
    """What a container has left: processes, state, control groups, mounts."""
    left = kill_descendants(known)
    left += boxwright.ids()
    left += our_groups()
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return left + [line for line in mounts if str(boxwright.directory) in line]


@pytest.mark.parametrize("actor", range(3), ids=ACTORS)
@pytest.mark.parametrize("error", [errno.EIO, errno.EPERM], ids=["EIO", "EPERM"])
def test_a_run_fails_cleanly_at_every_step(
    boxwright: Runtime, bundle: BundleFactory, fault: Fault, actor: int, error: int
) -> None:
    """runc #4757: whichever step the kernel refuses, there is one error that says which, and nothing is left."""
    known = set(descendants(os.getpid()))
    path = bundle(rich_config())
    unclear = []
    for index in range(MOST_STEPS):
        fault.arm(actor, index, error)
        result = boxwright.run(BOX, path, "--detach", env=fault.environment)
        if not fault.was_reached():
            assert result.status == 0, result
            boxwright.delete(BOX, "--force")
            break
        if result.status == 0:  # the plan can do without that step
            assert "warn" in result.stderr, result
            boxwright.delete(BOX, "--force")
        else:
            text = one_line_error(result)
            unclear += [text] if "cannot" not in text.splitlines()[0] else []
        assert _left(boxwright, known) == [], f"step {index}: {result}"
    assert index
    assert unclear == []


@pytest.mark.parametrize("actor", range(3), ids=ACTORS)
@pytest.mark.parametrize(("groups", "stride"), [("cgroupfs", 1), ("disabled", 4)], ids=["groups", "no groups"])
def test_a_killed_create_is_deleted_by_force_at_every_step(
    boxwright: Runtime, bundle: BundleFactory, fault: Fault, actor: int, groups: str, stride: int
) -> None:
    """runc #4534: SIGKILL for the runtime before a step, which is then performed by who outlives it for a moment;
    `delete --force` leaves no cgroup, mount, process or directory. Without control groups too, by which the processes
    could be found.
    """
    known = set(descendants(os.getpid()))
    config = rich_config()
    if groups == "disabled":
        del config["linux"]["resources"]
    path = bundle(config)
    boxwright.command = (*boxwright.command, "--cgroup-manager", groups)
    command = [*boxwright.command, "--root", str(boxwright.root), "create", "--bundle", str(path), BOX]
    for index in range(0, MOST_STEPS, stride):
        fault.arm(actor, index)
        runtime = subprocess.Popen(command, env=fault.environment, **QUIET)
        ended = os.pidfd_open(runtime.pid)
        ready = select.select([ended, fault.reached], [], [], 30)[0]
        os.close(ended)
        assert ready, f"step {index} hangs"
        if not fault.was_reached():
            assert runtime.wait() == 0
            boxwright.delete(BOX, "--force")
            break
        runtime.kill()
        runtime.wait()
        fault.go_on()
        deleted = boxwright.delete(BOX, "--force")
        assert deleted.stderr == "", deleted
        assert _left(boxwright, known) == [], f"step {index}"
        fault.hold()
    assert index


def test_a_runtime_killed_between_its_own_calls_is_cleaned_up_after(boxwright: Runtime, bundle: BundleFactory) -> None:
    """runc #4534: SIGKILL at each call by which the runtime itself changes something."""
    lacks.need_program("strace")
    known = set(descendants(os.getpid()))
    path = bundle(rich_config())
    command = [*boxwright.command, "--root", str(boxwright.root), "create", "--bundle", str(path), BOX]
    for call in CALLS:
        count = 0
        while True:
            count += 1
            strace = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
            inject = ["-e", f"inject={call}:signal=KILL:when={count}"]
            made = subprocess.run(
                [*strace, *inject, *command],
                check=False,
                **QUIET,
            )
            boxwright.delete(BOX, "--force")
            assert _left(boxwright, known) == [], f"{call} {count}"
            if made.returncode == 0:
                break
        assert count > 1, f"the runtime does not call {call}"
