"""Control groups: where a container goes, and the steps that make, limit and enter its groups (config-linux.md).

Pure. `host.cgroup_probe` finds the layout and looks at the site; `host.cgroups` freezes, kills and removes.
"""

import os

from boxwright.errors import ConfigError, Problem, UnsupportedError
from boxwright.plan.cgroup_devices import compile_devices
from boxwright.plan.cgroup_layout import (
    CGROUPFS,
    DELEGATE_FILES,
    NONE,
    SWITCHED_OFF,
    SYSTEMD,
    CgroupEntry,
    CgroupLayout,
    CgroupPlacement,
    CgroupSite,
    Group,
    Hierarchy,
)
from boxwright.plan.ops import NO_SLOT, ChownAt, Close, MakeDirs, Open, Step, Upcall, Write, WriteAt, WriteChildPid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.cgroup_writes import Part
    from boxwright.spec.types import Config, IDMapping, Resources

ANCHOR = "config-linux.md#configLinuxControlGroups"
PATH_ANCHOR = "config-linux.md#configLinuxCgroupsPath"
OWNER_ANCHOR = "config-linux.md#cgroup-ownership"
_O_PATH, _O_DIRECTORY = os.O_PATH, os.O_DIRECTORY
_MODE = 0o755
# what a key of `unified` must not name: these move or end processes, they limit nothing
_NOT_LIMITS = ("cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze", "cgroup.type")


# --- where ------------------------------------------------------------------------------------------------------


def place(config: "Config", layout: CgroupLayout, container_id: str, driver: str) -> CgroupPlacement:
    """Where the container of `config` goes.

    An absolute cgroupsPath is taken below each mount point. A relative one, and the container's id where there is
    none, is taken below the group we are in ourselves; in the v2 tree beside it, since a group with processes
    cannot hand controllers down. Raises ConfigError for a path that leads upwards, and UnsupportedError where
    resources are asked for and no group can be made.
    """
    wanted = config.linux.cgroups_path if config.linux else None
    if driver in SWITCHED_OFF or layout.mode == "none" or not layout.writable:
        _refuse_limits(config, driver, layout)
        return CgroupPlacement(NONE)
    if driver == SYSTEMD:
        from boxwright.plan.systemd_unit import place_unit

        return place_unit(config, layout, container_id)
    pointer = config.linux.at("cgroupsPath") if config.linux else ""
    parts = _components(wanted or container_id, pointer)
    absolute = bool(wanted) and str(wanted).startswith("/")
    groups = [_group(hierarchy, layout, parts, absolute) for hierarchy in layout.hierarchies]
    return CgroupPlacement(CGROUPFS, tuple(groups))


def _components(path: str, pointer: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in {"", "."}]
    why = ""
    if ".." in parts:
        why = "must not contain `..`"
    elif not parts:
        why = "must not be the root of the hierarchy"
    elif "\n" in path or "\0" in path:
        why = "must not contain a newline or a NUL"
    if why:
        raise ConfigError([Problem(pointer, why, PATH_ANCHOR, value=path)])
    return parts


def _group(hierarchy: Hierarchy, layout: CgroupLayout, parts: list[str], absolute: bool) -> Group:
    base = "" if absolute else _base(hierarchy, layout).rstrip("/")
    mountpoint = hierarchy.mountpoint
    return Group(hierarchy.version, hierarchy.controllers, mountpoint, f"{mountpoint}{base}/{'/'.join(parts)}")


def _base(hierarchy: Hierarchy, layout: CgroupLayout) -> str:
    if hierarchy.version == 1:
        return hierarchy.own
    parent = hierarchy.own.rpartition("/")[0] or "/"
    top = layout.delegated.rstrip("/")
    return parent if f"{parent}/".startswith(f"{top}/") else layout.delegated


def _refuse_limits(config: "Config", driver: str, layout: CgroupLayout) -> None:
    """Without a group nothing can be limited. Device rules alone are let go: without root no device can be made."""
    resources = config.linux.resources if config.linux else None
    if resources is None:
        return
    for field, name in _SECTIONS:
        if getattr(resources, field):
            why = "control groups are switched off" if driver in SWITCHED_OFF else _why_no_group(layout)
            raise UnsupportedError(resources.at(name), "linux", why)
    if resources.devices and not layout.rootless:
        raise UnsupportedError(resources.at("devices"), "linux", "control groups are switched off")


def _why_no_group(layout: CgroupLayout) -> str:
    if layout.mode == "none":
        return "no cgroup filesystem is mounted"
    return "this user may not make control groups (no delegated cgroup v2 group is writable)"


_SECTIONS = (
    ("memory", "memory"),
    ("cpu", "cpu"),
    ("pids", "pids"),
    ("block_io", "blockIO"),
    ("hugepage_limits", "hugepageLimits"),
    ("network", "network"),
    ("rdma", "rdma"),
    ("unified", "unified"),
)


# --- creating ---------------------------------------------------------------------------------------------------


def compile_create(
    config: "Config", layout: CgroupLayout, placement: CgroupPlacement, site: CgroupSite
) -> tuple[Step, ...]:
    """The outer's steps before the clone: make the groups, hand controllers down, set limits, give to the owner.

    With systemd as the driver there are none: its unit is made around the init (`compile_attach`). Raises
    UnsupportedError for a limit that the host's groups do not have.
    """
    if placement.driver != CGROUPFS:
        return ()
    resources = config.linux.resources if config.linux else None
    pointer = config.linux.at("cgroupsPath") if config.linux and config.linux.cgroups_path else ""
    steps = [Step(MakeDirs(group.path, _MODE), pointer, PATH_ANCHOR) for group in placement.groups]
    steps += _cpuset_steps(placement, site)
    steps += _enable_steps(resources, layout, placement)
    steps += _limit_steps(resources, placement, site)
    steps += compile_devices(resources, layout, placement)
    steps += _owner_steps(config, layout, placement, site)
    return tuple(steps)


def give_to_init(config: "Config", placement: CgroupPlacement) -> tuple[Step, ...]:
    """Give an init system in a user namespace the groups that it keeps its services in: those without limits of v1,
    and that of v2, of which the kernel lets it have no more than `DELEGATE_FILES`.
    """
    linux = config.linux
    if linux is None or not linux.uid_mappings or not linux.gid_mappings:
        return ()
    uid, gid = host_id(0, linux.uid_mappings), host_id(0, linux.gid_mappings)
    steps = []
    for group in placement.groups:
        if group.version == 1 and not group.controllers[0].startswith("name="):
            continue
        for name in ("", "/tasks", *(f"/{file}" for file in DELEGATE_FILES)):
            steps.append(Step(ChownAt(f"{group.path}{name}", uid, gid), "", OWNER_ANCHOR))
    return tuple(steps)


def compile_attach(
    config: "Config", layout: CgroupLayout, placement: CgroupPlacement, site: CgroupSite, token: int = 0
) -> tuple[Step, ...]:
    """The outer's steps after the clone: put the init into its groups.

    By cgroupfs, its pid is written to each `cgroup.procs`; `compile_enter` is the faster way. By systemd, an upcall
    (`token`) lets Python start the unit around the init, and then the limits are set that systemd has no
    properties for.
    """
    if placement.driver == CGROUPFS:
        return tuple(Step(WriteChildPid(f"{group.path}/cgroup.procs"), "", ANCHOR) for group in placement.groups)
    if placement.driver == NONE:
        return ()
    resources = config.linux.resources if config.linux else None
    steps = [Step(Upcall(token), "", ANCHOR)]
    steps += [Step(MakeDirs(group.path, _MODE), "", PATH_ANCHOR) for group in placement.groups]
    steps += _cpuset_steps(placement, site)
    steps += _limit_steps(resources, placement, site)
    steps += compile_devices(resources, layout, placement)
    steps += _owner_steps(config, layout, placement, site)
    # systemd moves the init into a scope in the hierarchies that it manages, which on v1 are not all; into a slice it
    # moves nobody
    steps += [
        Step(WriteChildPid(f"{group.path}/cgroup.procs"), "", ANCHOR)
        for group in placement.groups
        if group.version == 1 or not placement.unit.endswith(".scope")
    ]
    return tuple(steps)


def compile_enter(placement: CgroupPlacement, first_slot: int) -> CgroupEntry:
    """How the init enters its groups by itself, in place of `compile_attach` (cgroupfs only).

    Descriptors are opened by the outer, so it works from inside any namespace, as long as the init has not changed
    its user id.
    """
    opens, enters, clone_slot, slot = [], [], NO_SLOT, first_slot
    for group in placement.groups:
        opens.append(Step(Open(slot, group.path, _O_PATH | _O_DIRECTORY), "", ANCHOR))
        if group.version == 2:
            clone_slot = slot
        else:
            enters.append(Step(WriteAt(slot, "tasks", b"0"), "", ANCHOR))
        enters.append(Step(Close(slot), "", ANCHOR))
        slot += 1
    return CgroupEntry(tuple(opens), clone_slot, tuple(enters), slot)


def compile_update(resources: "Resources", placement: CgroupPlacement, site: CgroupSite) -> tuple[Step, ...]:
    """The steps that change the limits of a container that exists, ordered so that each write is valid when it is
    made; `site.standing` has what is in force.

    Device rules are left as they were at creation: engines send the whole object back to change one limit. Raises
    UnsupportedError and ConfigError as `compile_create`, and ConfigError where checkBeforeUpdate forbids it.
    """
    if not placement.groups:
        for field, name in _SECTIONS:
            if getattr(resources, field):
                raise UnsupportedError(resources.at(name), "linux", "the container has no control group")
        return ()
    return tuple(_limit_steps(resources, placement, site))


# --- parts ------------------------------------------------------------------------------------------------------


def _cpuset_steps(placement: CgroupPlacement, site: CgroupSite) -> list[Step]:
    """On v1 nobody can enter a cpuset without CPUs and memory nodes, and a new one has none."""
    group = placement.find("cpuset")
    if group is None or group.version != 1 or not site.cpuset_base:
        return []
    steps = []
    path = site.cpuset_base
    for part in group.path[len(path) :].split("/"):
        if part:
            path = f"{path}/{part}"
            steps.append(Step(Write(f"{path}/cpuset.cpus", site.cpus.encode()), "", ANCHOR))
            steps.append(Step(Write(f"{path}/cpuset.mems", site.mems.encode()), "", ANCHOR))
    return steps


def _enable_steps(resources: "Resources | None", layout: CgroupLayout, placement: CgroupPlacement) -> list[Step]:
    """Hand the controllers of the v2 tree down to the container's group, from the top."""
    group, hierarchy = placement.unified(), layout.unified()
    if group is None or hierarchy is None or not hierarchy.controllers:
        return []
    needed = _needed(resources, group)
    rest = [name for name in hierarchy.controllers if name not in needed]
    steps = []
    for path in _above(group, layout.delegated):
        # what the configuration asks for must be had; the rest is for statistics, and a host may deny it
        for names, soft in ((needed, False), (rest, True)):
            if names:
                data = " ".join(f"+{name}" for name in names).encode()
                steps.append(Step(Write(f"{path}/cgroup.subtree_control", data), "", ANCHOR, soft=soft))
    return steps


def _above(group: Group, top: str) -> list[str]:
    """The directories from the topmost that is ours down to the parent of the group."""
    path = group.mountpoint + top.rstrip("/")
    paths = [path]
    for part in group.path[len(path) :].split("/")[1:-1]:
        path = f"{path}/{part}"
        paths.append(path)
    return paths


def _needed(resources: "Resources | None", group: Group) -> list[str]:
    if resources is None:
        return []
    found = []
    cpu = resources.cpu
    if cpu and (cpu.cpus or cpu.mems):
        found.append("cpuset")
    for field, controller in (
        ("cpu", "cpu"),
        ("memory", "memory"),
        ("pids", "pids"),
        ("block_io", "io"),
        ("hugepage_limits", "hugetlb"),
        ("rdma", "rdma"),
    ):
        if getattr(resources, field):
            found.append(controller)
    for key in resources.unified:
        name = key.partition(".")[0]
        if name not in found:
            found.append(name)
    return [name for name in found if name in group.controllers]


def _limit_steps(resources: "Resources | None", placement: CgroupPlacement, site: CgroupSite) -> list[Step]:
    steps: list[Step] = []
    if resources is not None:
        for part, name, controllers in _parts(resources):
            group = next(filter(None, map(placement.find, controllers)), None)
            if group is None:
                raise UnsupportedError(resources.at(name), "linux", f"the host has no `{controllers[0]}` controller")
            steps += _part_of(group)[part](resources, group.path, site)
        if resources.unified:
            steps += _unified_steps(resources, placement)
    return steps


def _parts(resources: "Resources") -> "list[tuple[str, str, tuple[str, ...]]]":
    """What is asked for: the part, its name in config.json, the controllers that could do it (v1's, v2's)."""
    cpu, network = resources.cpu, resources.network
    placed = cpu is not None and (cpu.cpus or cpu.mems)
    # a cpu object that only places has nothing to ask of the cpu controller
    timed = cpu is not None and cpu.replace(cpus=None, mems=None) != type(cpu)()
    asked = (
        (timed, "cpu", "cpu", ("cpu",)),
        (placed, "cpuset", "cpu", ("cpuset",)),
        (resources.memory, "memory", "memory", ("memory",)),
        (resources.pids, "pids", "pids", ("pids",)),
        (resources.block_io, "block_io", "blockIO", ("blkio", "io")),
        (resources.hugepage_limits, "hugetlb", "hugepageLimits", ("hugetlb",)),
        (network and network.class_id is not None, "net_cls", "network", ("net_cls",)),
        (network and network.priorities, "net_prio", "network", ("net_prio",)),
        (resources.rdma, "rdma", "rdma", ("rdma",)),
    )
    return [(part, name, controllers) for there, part, name, controllers in asked if there]


def _part_of(group: Group) -> "dict[str, Part]":
    if group.version == 1:
        from boxwright.plan.cgroups_v1 import V1_PARTS

        return V1_PARTS
    from boxwright.plan.cgroups_v2 import V2_PARTS

    return V2_PARTS


def _unified_steps(resources: "Resources", placement: CgroupPlacement) -> list[Step]:
    anchor = "config-linux.md#configLinuxUnified"
    group = placement.unified()
    steps = []
    for key, value in resources.unified.items():
        pointer = resources.at("unified", key)
        controller, dot, rest = key.partition(".")
        if not dot or not controller or not rest or "/" in key or "\0" in key or key in _NOT_LIMITS:
            raise ConfigError([Problem(pointer, "is not the name of a limit of cgroup v2", anchor, value=key)])
        if group is None:
            raise UnsupportedError(pointer, "linux", "the host has no cgroup v2 tree")
        if controller not in {"cgroup", *group.controllers}:
            raise UnsupportedError(pointer, "linux", f"the cgroup v2 tree has no `{controller}` controller")
        # the kernel reads one line of a write
        lines = [line for line in value.split("\n") if line] or [value]
        steps += [Step(Write(f"{group.path}/{key}", line.encode()), pointer, anchor) for line in lines]
    return steps


def wants_owner(config: "Config", layout: CgroupLayout) -> bool:
    """Whether the group is to belong to the container's user: on v2 only, with a cgroup namespace of its own, and
    with /sys/fs/cgroup mounted read-write (config-linux.md#cgroup-ownership).
    """
    linux = config.linux
    if layout.mode != "v2" or linux is None:
        return False
    if not any(namespace.type == "cgroup" and not namespace.path for namespace in linux.namespaces):
        return False
    found = [mount for mount in config.mounts if mount.destination.rstrip("/") == "/sys/fs/cgroup"]
    return bool(found) and found[-1].source == "cgroup" and "ro" not in found[-1].options


def _owner_steps(config: "Config", layout: CgroupLayout, placement: CgroupPlacement, site: CgroupSite) -> list[Step]:
    group = placement.unified()
    if group is None or config.linux is None or not wants_owner(config, layout):
        return []
    uid = config.process.user.uid if config.process else 0
    owner = host_id(uid, config.linux.uid_mappings)
    paths = [group.path, *(f"{group.path}/{name}" for name in site.delegate)]
    return [Step(ChownAt(path, owner, -1), "", OWNER_ANCHOR) for path in paths]


def host_id(number: int, mappings: "tuple[IDMapping, ...]") -> int:
    """The id outside of the user namespace; without mappings the same. -1 for one that is not mapped."""
    if not mappings:
        return number
    for mapping in mappings:
        if mapping.container_id <= number < mapping.container_id + mapping.size:
            return mapping.host_id + number - mapping.container_id
    return -1
