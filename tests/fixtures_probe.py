"""Containers of the probe (probe.c): a configuration in, what the program saw out.

Every container has an id of its own on this machine, since ids are names of cgroups too, and what a refused create
leaves behind is looked for each time.
"""

import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import lacks
from fixtures_roots import make_busybox_root, open_parents
from fixtures_runtime import TIMEOUT_SECONDS, Json, Result, Runtime, default_config, wait_gone
from processes import descendants

SOURCE = Path(__file__).parent / "probe.c"
CGROUPS = Path("/sys/fs/cgroup")
_numbers = itertools.count(1)


def unique_id(name: str = "box") -> str:
    """An id that no other test, here or in another run, uses."""
    return f"bw-{os.getpid()}-{next(_numbers)}-{name}"


def build_probe(path: Path) -> None:
    """Compile the probe, static: it runs in roots that hold nothing else."""
    compiler = lacks.find_program("musl-gcc") or lacks.find_program("cc")
    lacks.need("a C compiler", compiler)
    assert compiler
    subprocess.run([compiler, "-static", "-O1", "-w", "-o", path, SOURCE], check=True)


@pytest.fixture(scope="session")
def probe_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("probe") / "probe"
    build_probe(path)
    return path


@pytest.fixture(scope="session")
def probe_root(tmp_path_factory: pytest.TempPathFactory, probe_program: Path) -> Path:
    """A root with busybox, the probe and places to mount on. Shared: use it read-only, or as a copy."""
    path = tmp_path_factory.mktemp("probe-root") / "rootfs"
    path.mkdir()
    open_parents(path)
    make_busybox_root(path)
    shutil.copy2(probe_program, path / "bin/probe")
    for name in ("mnt/a", "mnt/b", "mnt/c"):
        (path / name).mkdir()
    for name in ("mnt/file", "mnt/other"):
        (path / name).write_text(f"{name}\n")
    return path


class Boxes:
    """Containers of one test with one runtime."""

    def __init__(self, runtime: Runtime, directory: Path, root: Path) -> None:
        self.runtime = runtime
        self.directory = directory
        self.root = root

    # --- configurations and bundles ---

    def config(self, *words: str) -> Json:
        """A configuration of the usual kind; `words` are the probe's verbs."""
        return _by_id(default_config("/bin/probe", *words))

    def shell(self, script: str) -> Json:
        """The same with a shell script."""
        return _by_id(default_config("/bin/sh", "-c", script))

    def bundle(self, config: Json, *, copy: bool = False, writable: bool = False) -> Path:
        """A bundle of `config` on the shared root, or on a copy of it that is `writable`, or as configured."""
        path = self.directory / f"bundle{next(_numbers)}"
        path.mkdir()
        root = config.get("root")
        if copy or writable:
            subprocess.run(["cp", "-a", self.root, path / "rootfs"], check=True)
            config = config | {"root": {"path": "rootfs"}} if writable else config
        elif root and root.get("path") == "rootfs":
            config = config | {"root": root | {"path": str(self.root)}}
        (path / "config.json").write_text(json.dumps(config))
        return path

    # --- whole lives ---

    def run(self, config: Json, *options: str, writable: bool = False, **how: Any) -> Result:
        """Run to the end in the foreground."""
        return self.runtime.run(unique_id(), self.bundle(config, writable=writable), *options, **how)

    def run_bundle(self, bundle: Path, *options: str, **how: Any) -> Result:
        """The same with a bundle."""
        return self.runtime.run(unique_id(), bundle, *options, **how)

    def output(self, config: Json, *options: str, **how: Any) -> str:
        """What the program writes; it has to end well."""
        result = self.run(config, *options, **how)
        assert result.status == 0, result
        return result.stdout

    def probe(self, *words: str, **changes: Any) -> str:
        """What the probe's verbs write, with keys of the configuration replaced."""
        return self.output(self.config(*words) | changes)

    def refused(self, config: Json, *options: str, writable: bool = False, **how: Any) -> str:
        """The message of a create that fails, once it is sure that nothing of it is left."""
        return self.refused_bundle(self.bundle(config, writable=writable), *options, **how)

    def refused_bundle(self, bundle: Path, *options: str, **how: Any) -> str:
        """The same with a bundle."""
        container, mounts, before = unique_id("no"), self._mounts(), living()
        ids = self.runtime.ids()
        result = self.runtime.create(container, bundle, *options, check=False, **how)
        assert result.status != 0, result
        assert result.stderr, "nothing says why"
        assert self.runtime.ids() == ids
        assert groups_of(container) == []
        assert self._mounts() == mounts
        assert living() <= before
        return result.stderr

    def _mounts(self) -> list[str]:
        """What is mounted below the directories of this run of the tests."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return sorted(line for line in lines if f" {self.directory.parent}/" in line)

    # --- held at each stage ---

    def created(self, config: Json, *options: str, copy: bool = False, writable: bool = False, **how: Any) -> "Box":
        """A container whose program waits for `start`."""
        box = Box(self.runtime, unique_id(), self.bundle(config, copy=copy, writable=writable))
        box.result = self.runtime.create(box.id, box.bundle, *options, **how)
        return box

    def started(self, config: Json, *options: str, **how: Any) -> "Box":
        """A container whose program is executed."""
        box = self.created(config, *options, **how)
        box.start()
        return box


class Box:
    """One container."""

    result: Result  # of its create: its output is the container's

    def __init__(self, runtime: Runtime, container_id: str, bundle: Path) -> None:
        self.runtime = runtime
        self.id = container_id
        self.bundle = bundle

    def start(self, **how: Any) -> Result:
        return self.runtime.start(self.id, **how)

    def state(self) -> Json:
        return self.runtime.state(self.id)

    @property
    def pid(self) -> int:
        pid: int = self.state()["pid"]
        return pid

    def kill(self, signal: str = "KILL", **how: Any) -> Result:
        return self.runtime.kill(self.id, signal, **how)

    def wait_output(self, text: str) -> None:
        """Wait until the program has written `text`, and nothing else."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.result.stdout != text:
            assert time.monotonic() < deadline, self.result
            time.sleep(0.001)

    def wait(self) -> Json:
        """Wait for the end of its program."""
        return self.runtime.wait_stopped(self.id)

    def delete(self, *options: str, **how: Any) -> Result:
        return self.runtime.delete(self.id, *options, **how)

    def exec(self, *words: str, **how: Any) -> Result:
        return self.runtime.exec(self.id, *words, **how)

    def end(self) -> str:
        """Kill it, wait, delete it; what it wrote."""
        state = self.state()
        if state["status"] != "stopped":
            self.kill("KILL")
            wait_gone(state["pid"])  # and reap it: others of its pid namespace wait for that
        self.delete()
        return self.result.stdout


def groups_of(container_id: str) -> list[str]:
    """The cgroups with the container's name in theirs."""
    return [path for path, _, _ in os.walk(CGROUPS) if container_id in path]


def living() -> set[int]:
    """Our descendants but those that have ended: an init is handed to us, the subreaper of the tests, to reap."""
    return {pid for pid in descendants(os.getpid()) if state_of(pid) not in {"", "Z"}}


def state_of(pid: int) -> str:
    """The state letter of a process, empty if it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Mounted:
    """One line of mountinfo (proc_pid_mountinfo(5))."""

    def __init__(self, line: str) -> None:
        before, _, after = line.partition(" - ")
        fields = before.split()
        self.root, self.target = fields[3], fields[4]
        self.options = set(fields[5].split(","))
        self.tags = {tag.partition(":")[0] for tag in fields[6:]}
        self.type, self.source, own = after.split(" ")
        self.data = set(own.split(","))


def mounts_in(text: str) -> dict[str, Mounted]:
    """The lines of a mountinfo by target; of several on one place the last, which is what is seen."""
    return {mount.target: mount for mount in map(Mounted, text.splitlines())}


def _by_id(config: Json) -> Json:
    """With the cgroups that a container has by its id: these are no other's."""
    del config["linux"]["cgroupsPath"]
    return config


def status_in(text: str) -> dict[str, str]:
    """The lines of a /proc/PID/status."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


# ── pieces of configurations ────────────────────────────────────────────────────────────────────────────────────────


def tmpfs(*options: str, at: str = "/mnt/a") -> Json:
    """A tmpfs with these options."""
    return {"destination": at, "type": "tmpfs", "source": "here", "options": list(options)}


def bind(source: object, *options: str, at: str = "/mnt/a") -> Json:
    """A bind mount of `source`."""
    return {"destination": at, "source": str(source), "options": list(options)}


def seen(boxes: "Boxes", *mounts: Json, **changes: object) -> "dict[str, Mounted]":
    """The container's mounts by place."""
    config = boxes.config("cat", "/proc/self/mountinfo") | changes
    config["mounts"] += mounts
    return mounts_in(boxes.output(config))


def mapping(container: int, host: int, size: int) -> list[Json]:
    """One range of ids."""
    return [{"containerID": container, "hostID": host, "size": size}]


def user_namespace(config: Json) -> Json:
    """The configuration with a user namespace of 65536 ids."""
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"] |= {"uidMappings": mapping(0, 100_000, 65536), "gidMappings": mapping(0, 100_000, 65536)}
    return config


@pytest.fixture
def boxes(boxwright: Runtime, tmp_path: Path, probe_root: Path) -> Boxes:
    """Containers of the probe; what a test leaves is removed."""
    lacks.need_root()
    open_parents(tmp_path / "for users of boxes")
    tmp_path.chmod(0o755)
    return Boxes(boxwright, tmp_path, probe_root)
