"""What a plan does with the root filesystem where the usual walls are missing."""

import json

import pytest

from boxwright.errors import UnsupportedError
from boxwright.plan.cgroup_layout import CgroupLayout, CgroupPlacement, CgroupSite
from boxwright.plan.compile import compile_create
from boxwright.plan.ops import AttachRoot, Chroot, FsMount, MoveMount, PivotRoot
from boxwright.plan.request import HostFacts, Request, RootSource
from boxwright.spec.decode import decode
from fixtures_runtime import Json, default_config

FACTS = HostFacts(euid=0, egid=0, privileged=True, cgroups=CgroupLayout("none"))


def without_mount_namespace(**changes: object) -> Json:
    """A container that shares the host's mount table, and asks for no mount."""
    config = default_config(mounts=[], root={"path": "/rootfs"}, **changes)
    kinds = [{"type": kind} for kind in ("pid", "network", "ipc", "uts")]
    config["linux"] = {"namespaces": kinds}
    return config


def plan_of(config: Json, root: RootSource | None = None):
    request = Request("box", "/bundle", root or RootSource("/rootfs"), CgroupPlacement("none"), CgroupSite(), ("", ""))
    return compile_create(decode(json.dumps(config).encode()), FACTS, request)


def test_without_a_mount_namespace_the_root_is_entered_and_nothing_is_mounted():
    ops = [type(step.op) for step in plan_of(without_mount_namespace()).init]
    assert Chroot in ops
    assert not {AttachRoot, FsMount, MoveMount, PivotRoot} & set(ops)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}]}, "/mounts"),
        ({"root": {"path": "/rootfs", "readonly": True}}, "/root/readonly"),
    ],
)
def test_what_would_be_mounted_on_the_host_is_refused(changes, pointer):
    with pytest.raises(UnsupportedError, match=pointer):
        plan_of(without_mount_namespace() | changes)


@pytest.mark.parametrize("name", ["maskedPaths", "readonlyPaths"])
def test_walls_that_are_mounts_are_refused(name):
    config = without_mount_namespace()
    config["linux"][name] = ["/proc/kcore"]
    with pytest.raises(UnsupportedError, match=name):
        plan_of(config)


def test_an_overlay_is_refused():
    with pytest.raises(UnsupportedError, match="/root"):
        plan_of(without_mount_namespace(), RootSource("/rootfs", "/stage", ("/rootfs",)))
