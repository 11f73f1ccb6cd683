"""process.apparmorProfile where the kernel has AppArmor, as Debian's has."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures_runtime import BundleFactory, Json, Runtime, default_config

pytestmark = pytest.mark.root

NAME = "boxwright-guest"
PROFILE = f"""
profile {NAME} flags=(attach_disconnected, mediate_deleted) {{
  file,
  capability,
  signal,
  deny /dev/shm/secret rw,
}}
"""


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[str]:
    """A profile in the kernel for as long as the test."""
    path = tmp_path / "profile"
    path.write_text(PROFILE)
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache", path], check=True)
    yield NAME
    subprocess.run(["apparmor_parser", "--remove", path], check=True)


def confined(profile: str, script: str) -> Json:
    config = default_config("/bin/sh", "-c", script)
    config["process"]["apparmorProfile"] = profile
    return config


def test_the_program_is_confined(boxwright: Runtime, bundle: BundleFactory, profile: str) -> None:
    script = "cat /proc/self/attr/current; echo > /dev/shm/open && ! echo 2>/dev/null > /dev/shm/secret"
    result = boxwright.run("c1", bundle(confined(profile, script)))
    assert (result.status, result.stdout) == (0, f"{NAME} (enforce)\n"), result


def test_unconfined_is_no_profile_that_has_to_be_loaded(boxwright: Runtime, bundle: BundleFactory) -> None:
    result = boxwright.run("c1", bundle(confined("unconfined", "cat /proc/self/attr/current")))
    assert (result.status, result.stdout) == (0, "unconfined\n"), result


def test_a_profile_may_be_loaded_where_securityfs_is_not_seen(
    boxwright: Runtime, bundle: BundleFactory, profile: str, tmp_path: Path
) -> None:
    """What cannot be looked up is left to the kernel: only `start` meets what is missing then."""
    words = ["unshare", "--mount", "sh", "-c", 'umount /sys/kernel/security && exec "$@"', "sh"]
    unseen = Runtime([*words, *boxwright.command], tmp_path)
    assert unseen.run("c1", bundle(confined(profile, "true"))).status == 0
    unseen.create("c2", bundle(confined("boxwright-missing", "true")))
    result = unseen.start("c2", check=False)
    assert (result.status != 0, "boxwright-missing" in result.stderr) == (True, True), result
    unseen.delete("c2")


def test_so_is_a_further_process(boxwright: Runtime, bundle: BundleFactory, profile: str) -> None:
    boxwright.create("c1", bundle(confined(profile, "sleep 300")))
    boxwright.start("c1")
    result = boxwright.exec("c1", "/bin/cat", "/proc/self/attr/current")
    assert (result.status, result.stdout) == (0, f"{NAME} (enforce)\n"), result
    boxwright.kill("c1")
    boxwright.wait_stopped("c1")


def without_proc(config: Json) -> Json:
    """With what the image has at /proc."""
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/proc"]
    config["linux"] |= {"maskedPaths": [], "readonlyPaths": []}
    config["root"]["readonly"] = False
    return config


def false_proc(path: Path) -> list[Path]:
    """Files that take a label, where one is written to."""
    files = [path / who / "attr" / name for who in ("self", "thread-self") for name in ("exec", "apparmor/exec")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o666)
    return files


DENIED = "echo > /dev/shm/open && ! echo 2>/dev/null > /dev/shm/secret && echo confined"


def test_a_false_procfs_of_the_image_does_not_get_it(boxwright: Runtime, bundle: BundleFactory, profile: str) -> None:
    path = bundle(without_proc(confined(profile, DENIED)), copy=True)
    files = false_proc(path / "rootfs/proc")
    result = boxwright.run("c1", path)
    assert (result.status, result.stdout) == (0, "confined\n"), result
    assert [file.read_text() for file in files] == [""] * len(files)


def test_a_false_procfs_of_a_joined_box_does_not_get_it(
    boxwright: Runtime, bundle: BundleFactory, profile: str
) -> None:
    path = bundle(without_proc(default_config("/bin/sleep", "300")), copy=True)
    files = false_proc(path / "rootfs/proc")
    boxwright.create("c1", path)
    boxwright.start("c1")
    config = without_proc(confined(profile, DENIED))
    config |= {"mounts": [], "root": {"path": "/"}}
    for namespace in config["linux"]["namespaces"]:
        if namespace["type"] == "mount":
            namespace["path"] = f"/proc/{boxwright.state('c1')['pid']}/ns/mnt"
    result = boxwright.run("c2", bundle(config))
    assert (result.status, result.stdout) == (0, "confined\n"), result
    assert [file.read_text() for file in files] == [""] * len(files)
    boxwright.kill("c1")
    boxwright.wait_stopped("c1")


@pytest.mark.parametrize("verb", ["create", "run"])
def test_a_profile_that_is_not_loaded_is_an_error(boxwright: Runtime, bundle: BundleFactory, verb: str) -> None:
    path = bundle(confined("boxwright-missing", "echo it runs"))
    result = boxwright.call(verb, "--bundle", path, "c1", check=False)
    assert (result.status != 0, result.stdout) == (True, ""), result
    assert "/process/apparmorProfile" in result.stderr
    assert "boxwright-missing" in result.stderr
    assert boxwright.ids() == []


def test_without_one_nothing_is_confined(boxwright: Runtime, bundle: BundleFactory) -> None:
    result = boxwright.run("c1", bundle(default_config("/bin/cat", "/proc/self/attr/current")))
    assert (result.status, result.stdout) == (0, "unconfined\n"), result
