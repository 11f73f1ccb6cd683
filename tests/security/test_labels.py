"""Labels of AppArmor and SELinux are the kernel's or an error: whatever is called /proc, they are written to no other.

None of this needs either of them: a label that no kernel takes must not be taken by somebody else.
"""

from pathlib import Path

import pytest
from attacks import one_line_error

from fixtures_runtime import BundleFactory, Json, Runtime, default_config

pytestmark = pytest.mark.root

BOX, OTHER = "labelled", "other"
PROPERTIES = ("apparmorProfile", "selinuxLabel")
NO_LABEL = ":boxwright://no-such-label"  # of another namespace: left to the kernel, not looked up beforehand
FILES = ("exec", "current", "apparmor/exec", "apparmor/current")


def _labelled(name: str, **changes: object) -> Json:
    config = default_config("/bin/echo", "it runs", **changes)
    config["process"][name] = NO_LABEL
    return config


def _without_proc(config: Json) -> Json:
    """With what the image has at /proc, which can be written to."""
    config["root"]["readonly"] = False
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/proc"]
    config["linux"] |= {"maskedPaths": [], "readonlyPaths": []}
    return config


def _false_attributes(path: Path) -> Path:
    """Files that take whatever label is written to them."""
    for name in FILES:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("")
        (path / name).chmod(0o666)
    return path


def _false_proc(path: Path) -> Path:
    """A directory that looks like a procfs to who writes labels, however he calls himself."""
    for name in ("self", "thread-self", "1"):
        _false_attributes(path / name / "attr")
    return path


def _written(path: Path) -> dict[str, str]:
    """The files below that have something in them."""
    found = {str(file.relative_to(path)): file.read_text() for file in path.rglob("*") if file.is_file()}
    return {name: text for name, text in found.items() if text}


def _refusal(result: object, name: str) -> str:
    """The message, once it is sure that the program did not run and that the line is named."""
    message = one_line_error(result)
    assert f"/process/{name}" in message
    assert "it runs" not in result.stdout  # type: ignore[attr-defined]
    return message


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_false_procfs_of_the_image_takes_no_label(boxwright: Runtime, bundle: BundleFactory, name: str) -> None:
    """CVE-2019-16884: an image with files where a label is written to, and no procfs over them."""
    path = bundle(_without_proc(_labelled(name)), copy=True)
    false = _false_proc(path / "rootfs/proc")
    _refusal(boxwright.run(BOX, path), name)
    assert _written(false) == {}


@pytest.mark.parametrize("name", PROPERTIES)
def test_a_false_procfs_of_a_joined_box_takes_no_label(boxwright: Runtime, bundle: BundleFactory, name: str) -> None:
    """CVE-2019-16884: the mount namespace that is joined belongs to a box whose /proc is not one."""
    path = bundle(_without_proc(default_config("/bin/sleep", "300")), copy=True)
    false = _false_proc(path / "rootfs/proc")
    boxwright.create(OTHER, path)
    boxwright.start(OTHER)
    config = _without_proc(_labelled(name))
    config["mounts"] = []
    config["root"]["path"] = "/"
    for namespace in config["linux"]["namespaces"]:
        if namespace["type"] == "mount":
            namespace["path"] = f"/proc/{boxwright.state(OTHER)['pid']}/ns/mnt"
    _refusal(boxwright.run(BOX, bundle(config)), name)
    assert _written(false) == {}


COVERS = {
    "false files": 'mount --bind "$1" /proc/$pid/attr',
    "another file of procfs": 'for file in /proc/$pid/attr/*; do mount --bind /proc/$pid/comm "$file"; done',
}


@pytest.mark.parametrize("name", PROPERTIES)
@pytest.mark.parametrize("cover", COVERS)
def test_a_covered_procfs_takes_no_label(
    boxwright: Runtime, bundle: BundleFactory, tmp_path: Path, name: str, cover: str
) -> None:
    """CVE-2025-52881: something mounted over the files of the very process, seen by it, that would take the label."""
    false = _false_attributes(tmp_path / "false")
    script = f"set -e; pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); {COVERS[cover]}; echo covered > {tmp_path}/done"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script, "sh", str(false)]}
    path = bundle(_labelled(name, hooks={"createContainer": [hook]}))
    _refusal(boxwright.run(BOX, path), name)
    assert (tmp_path / "done").read_text() == "covered\n"
    assert _written(false) == {}
