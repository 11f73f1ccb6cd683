"""Containers of a user who has a systemd manager of his own, and a part of the v2 tree by it."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtures_runtime import BundleFactory, Runtime, default_config

pytestmark = pytest.mark.root

MIB = 1 << 20
USER = 1000
DIRECTORY = f"/run/user/{USER}"
TREE = Path(f"/sys/fs/cgroup/user.slice/user-{USER}.slice/user@{USER}.service")


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def as_user() -> Iterator[list[str]]:
    """The beginning of a command that the user's own systemd runs."""
    subprocess.run(["loginctl", "enable-linger", str(USER)], check=True)
    environment = ["env", "-i", f"XDG_RUNTIME_DIR={DIRECTORY}", "HOME=/home/guest", f"PATH={os.environ['PATH']}"]
    identity = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"]
    wait_for(Path(DIRECTORY, "bus").exists)
    yield [*identity, *environment, "systemd-run", "--user", "--quiet", "--wait", "--pipe", "-p", "Delegate=yes"]
    subprocess.run(["loginctl", "disable-linger", str(USER)], check=True)
    subprocess.run(["loginctl", "terminate-user", str(USER)], check=False)
    wait_for(lambda: not TREE.exists())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the user's own state is."""
    path = tmp_path / "user"
    path.mkdir()
    os.chown(path, USER, USER)
    return path


@pytest.fixture
def users_bundle(bundle: BundleFactory) -> Path:
    """A container of 65536 ids, the user's own for root."""
    config = default_config("/bin/sleep", "300")
    del config["linux"]["cgroupsPath"]
    mappings = [
        {"containerID": 0, "hostID": USER, "size": 1},
        {"containerID": 1, "hostID": 100000, "size": 65535},
    ]
    config["linux"] |= {"uidMappings": mappings, "gidMappings": mappings}
    config["linux"]["namespaces"] += [{"type": "user"}, {"type": "cgroup"}]
    config["linux"]["resources"] |= {"pids": {"limit": 9}, "memory": {"limit": 64 * MIB}}
    path = bundle(config)
    for parent in (path, *path.parents[:-2]):
        parent.chmod(0o755)
    return path


def check(user: Runtime, bundle: Path, where: str) -> None:
    """The container's life, its group and its limits."""
    user.create("c1", bundle)
    try:
        (group,) = TREE.rglob(where)
        assert (group / "pids.max").read_text() == "9\n"
        assert (group / "memory.max").read_text() == f"{64 * MIB}\n"
        user.start("c1")
        result = user.exec("c1", "/bin/sh", "-c", "cat /proc/self/cgroup; id -u")
        assert (result.status, result.stdout) == (0, "0::/\n0\n"), result
        user.call("update", "--pids-limit", "11", "c1")
        assert (group / "pids.max").read_text() == "11\n"
        user.call("pause", "c1")
        assert user.state("c1")["status"] == "paused"
    finally:
        user.delete("c1", "--force")
    assert not group.exists()


def test_a_scope_of_the_users_own_manager(
    as_user: list[str], boxwright_command: str, users_bundle: Path, directory: Path
) -> None:
    user = Runtime([*as_user, boxwright_command, "--systemd-cgroup"], directory)
    check(user, users_bundle, "user.slice/boxwright-c1.scope")


def test_a_group_in_what_is_delegated_to_the_user(
    as_user: list[str], boxwright_command: str, users_bundle: Path, directory: Path
) -> None:
    check(Runtime([*as_user, boxwright_command], directory), users_bundle, "c1")
