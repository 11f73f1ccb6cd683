"""Containers in virtual machines, by the command line: what they need of the host, and bundles for them."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lacks
from boxwright.boxes.vm import images
from boxwright.boxes.vm.cache import Cache
from boxwright.boxes.vm.doctor import VIRTIOFSD_PLACES
from boxwright.host.processes import start_time
from fixtures_machine import host_kernel
from fixtures_runtime import Json, Result, Runtime, default_config

WAIT_SECONDS = 30.0
HELPER_COMM = "boxwright-helper"[:15]  # as the kernel has it


class Machines(Runtime):
    """The command line for containers in virtual machines. Its bundles have the busybox root, read-only."""

    def __init__(self, command: str, directory: Path, rootfs: Path, *options: str) -> None:
        super().__init__([command, "--isolation", "vm", *options], directory)
        self._rootfs = rootfs
        self._bundles = 0

    def bundle(self, *args: str, change: Callable[[Json], None] | None = None, **changes: Any) -> Path:
        """A bundle of a container that runs `args`. `change` is done to its configuration at last."""
        config = default_config(*args, **({"root": {"path": str(self._rootfs), "readonly": True}} | changes))
        if change is not None:
            change(config)
        self._bundles += 1
        path = self.directory / f"bundle{self._bundles}"
        path.mkdir()
        (path / "config.json").write_text(json.dumps(config))
        return path

    def started(self, container_id: str, *args: str, **changes: Any) -> Result:
        """Create and start a container; what it prints is in the result."""
        created = self.create(container_id, self.bundle(*args, **changes))
        self.start(container_id)
        return created

    def output(self, container_id: str, *words: str) -> str:
        """What a further process of the container prints."""
        result = self.exec(container_id, *words)
        assert result.status == 0, result
        return result.stdout

    def children(self, container_id: str) -> dict[str, int]:
        """The processes of a container's machine on the host: `keeper`, and the programs by their names."""
        keeper = int(self.state(container_id)["pid"])
        found = {"keeper": keeper}
        for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split():
            found[os.path.basename(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode())] = int(pid)
        return found

    def close(self) -> None:
        """Remove every container, and reap what has ended since: the tests' process adopts what a detached `exec` leaves
        (see `leaks`), and the keeper of a machine, first of its pid namespace, ends after all others of that.
        """
        super().close()
        eventually(lambda: not _reap_adopted(), "a keeper does not end")

    @staticmethod
    def living(children: dict[str, int]) -> list[str]:
        """Those of them that have not ended; a zombie has."""
        return [name for name, pid in children.items() if start_time(pid)]


def _reap_adopted() -> list[int]:
    """Reap the helpers among our children that have ended; those that are left."""
    left = []
    for pid in map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()):
        if Path(f"/proc/{pid}/comm").read_text().strip() != HELPER_COMM:
            continue
        if os.waitpid(pid, os.WNOHANG)[0] == 0:
            left.append(pid)
    return left


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def need_machines() -> None:
    """Skip by name what a container in a virtual machine needs and the host does not have."""
    lacks.need_root()
    lacks.need_program("qemu-system-x86_64")
    lacks.need("virtiofsd", any(os.path.exists(path) for path in VIRTIOFSD_PLACES))
    host_kernel()


@pytest.fixture
def isolation(request: pytest.FixtureRequest) -> str:
    """The box that containers are put into."""
    box: str = getattr(request, "param", "linux")
    if box == "vm":
        need_machines()
    return box


@pytest.fixture(scope="module")
def machines(
    boxwright_command: str, busybox_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machines]:
    """The command line for containers in virtual machines, with a state directory for the tests of one file."""
    need_machines()
    directory = tmp_path_factory.mktemp("machines")
    directory.chmod(0o711)
    found = Machines(boxwright_command, directory, busybox_root)
    yield found
    found.close()


@pytest.fixture(scope="session")
def settled_root(busybox_root: Path) -> Path:
    """The busybox root, once it is old enough that an image can be made of it."""
    lacks.need("mkfs.erofs", images.mkfs())
    eventually(lambda: images.image_of(str(busybox_root), Cache()), "there is no image of the root")
    return busybox_root
