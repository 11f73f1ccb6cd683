"""What the tests of container engines share: an image, calling with a deadline, and putting the machine back."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import leaks
from processes import kill_descendants, run_to_the_end

IMAGE = "localhost/busybox:latest"
CALL_SECONDS = 60


def write_image(root: Path, target: Path) -> None:
    """Write the archive of an image with `root` as its only layer, in the form of `docker save`."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        archive.add(root, arcname=".")
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    with tarfile.open(target, "w") as archive:
        _add(archive, "layer.tar", layer.getvalue())
        _add(archive, "config.json", json.dumps(config).encode())
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


class Said:
    """What a call of an engine gave."""

    def __init__(self, words: Sequence[str], status: int, stdout: str, stderr: str) -> None:
        self.words = words
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    def __repr__(self) -> str:
        return f"status {self.status} of {' '.join(self.words)}\nstdout: {self.stdout}\nstderr: {self.stderr}"


class Engine:
    """An engine's command line. `directory` takes all it writes, as far as it can be told."""

    def __init__(self, command: Sequence[str], directory: Path, env: Mapping[str, str]) -> None:
        self.command = tuple(command)
        self.directory = directory
        self.env = dict(os.environ) | dict(env)
        self._names = 0

    def name(self) -> str:
        """A new name for a container."""
        self._names += 1
        return f"boxwright-test-{os.getpid()}-{self._names}"

    def call(self, *args: str, status: int = 0, stdin: str = "") -> Said:
        """Call the engine; anything but `status` fails the test."""
        words = [*self.command, *args]
        # files, as what stays behind a call would keep a pipe open
        with open(self.directory / "stdout", "w+") as out, open(self.directory / "stderr", "w+") as err:
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=out, stderr=err, env=self.env, text=True)
            try:
                process.communicate(stdin, timeout=CALL_SECONDS)
            finally:
                process.kill()
            out.seek(0)
            err.seek(0)
            said = Said(words, process.wait(), out.read(), err.read())
        assert said.status == status, said
        return said

    def call_on_terminal(self, *args: str) -> str:
        """Call the engine with a terminal; give what it showed there."""
        ended = run_to_the_end([*self.command, *args], self.directory, self.env, CALL_SECONDS, terminal=True)
        assert ended.status == 0, ended.output
        return ended.output


def put_back(before: leaks.Snapshot, known: "set[int]") -> None:
    """Undo what an engine does to the machine and leaves, as a service that runs for good may.

    Only what came since `before` is touched; what a runtime is to remove itself, as a container's own cgroup, is left
    for the look at the machine to find.
    """
    kill_descendants(known)
    now = leaks.take_snapshot()
    for kind, undo in UNDO.items():
        for name in sorted(now[kind] - before[kind], reverse=True):
            undo(name)


def _unmount(name: str) -> None:
    target = name.rpartition(" on ")[2]
    if target.startswith(("/run/netns", "/run/containerd")) or target.endswith("/exec/netns/default"):
        subprocess.run(["umount", target], check=True)


def _remove_group(name: str) -> None:
    """The engines' own parents of groups, once nothing is in them."""
    path = Path(name)
    if path.name in {"libpod_parent", "conmon", "default", "docker"} and not any(
        entry.is_dir() for entry in path.iterdir()
    ):
        path.rmdir()


def _remove_link(name: str) -> None:
    subprocess.run(["ip", "link", "delete", Path(name).name], check=True)


def _remove_if_empty(name: str) -> None:
    """An engine's state directory for good, where only what the runtime keeps for its next start is left in it."""
    for directory, _, _ in os.walk(name, topdown=False):
        if directory.endswith("/.cache"):
            shutil.rmtree(directory)
        elif not os.listdir(directory):
            os.rmdir(directory)


UNDO = {
    "mounts": _unmount,
    "cgroups": _remove_group,
    "network interfaces": _remove_link,
    "state directories": _remove_if_empty,
}
