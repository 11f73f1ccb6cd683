"""Layouts of hosts, and configurations with what is asked of their control groups."""

import json
from typing import Any

from boxwright.plan.cgroup_layout import CgroupLayout, CgroupSite, Hierarchy
from boxwright.plan.cgroups import compile_create, place
from boxwright.plan.ops import Step, Write
from boxwright.spec.decode import decode
from boxwright.spec.types import Config

_V1 = ("cpu", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "net_cls", "net_prio", "rdma", "hugetlb")
V1 = CgroupLayout("v1", tuple(Hierarchy(1, (name,), f"/cg/{name}", "/us") for name in _V1))
V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc")
V2 = CgroupLayout("v2", (Hierarchy(2, V2_CONTROLLERS, "/cg", "/system.slice/us.service"),))
HYBRID = CgroupLayout(
    "hybrid",
    (
        Hierarchy(1, ("cpu", "cpuacct"), "/cg/cpu,cpuacct", "/us"),
        Hierarchy(1, ("memory",), "/cg/memory", "/us"),
        Hierarchy(1, ("name=systemd",), "/cg/systemd", "/us"),
        Hierarchy(2, ("hugetlb",), "/cg/unified", "/us"),
    ),
)
NOTHING = CgroupLayout("none")
NOT_OURS = CgroupLayout("v2", (), rootless=True, writable=False)
SITE = CgroupSite()


def config(resources: dict[str, Any] | None = None, path: str | None = "/box/one", **linux: Any) -> Config:
    section: dict[str, Any] = dict(linux)
    if resources is not None:
        section["resources"] = resources
    if path is not None:
        section["cgroupsPath"] = path
    return decode(json.dumps({"ociVersion": "1.3.0", "linux": section}).encode())


def created(layout: CgroupLayout, resources: dict[str, Any], site: CgroupSite = SITE) -> tuple[Step, ...]:
    wanted = config(resources)
    return compile_create(wanted, layout, place(wanted, layout, "id", "cgroupfs"), site)


def written(layout: CgroupLayout, resources: dict[str, Any], site: CgroupSite = SITE) -> list[tuple[str, str]]:
    """The limits that are written as (file below the container's group, text), without those for devices."""
    return limits(created(layout, resources, site))


def limits(steps: tuple[Step, ...]) -> list[tuple[str, str]]:
    found = []
    for step in steps:
        if isinstance(step.op, Write) and "/devices." not in step.op.path and "/box/one/" in step.op.path:
            found.append((step.op.path.rpartition("/box/one/")[2], step.op.data.decode()))
    return found
