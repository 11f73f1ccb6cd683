"""Namespaces, id maps and who clones whom."""

import os

from boxwright.plan import ops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from boxwright.plan.builder import Builder
    from boxwright.plan.request import HostFacts
    from boxwright.spec.types import Config, IDMapping, Linux, Namespace, Process

ANCHOR = "config-linux.md#configLinuxNamespaces"
MAPS_ANCHOR = "config-linux.md#configLinuxUserNamespaceMappings"
TIME_ANCHOR = "config-linux.md#configLinuxTimeOffset"

CLONE_FLAGS = {
    "time": 0x00000080,
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}
# joined in this order: the user namespace gives the right to the others, the mount namespace takes the paths away
JOIN_ORDER = ("user", "ipc", "uts", "network", "pid", "cgroup", "time", "mount")
_O_RDONLY = 0
_O_PATH, _O_DIRECTORY = os.O_PATH, os.O_DIRECTORY
_PROC_SUPER_MAGIC = 0x9FA0  # statfs(2)


def find(linux: "Linux | None", kind: str) -> "Namespace | None":
    """The namespace entry of that type, or None where it is inherited."""
    if linux is None:
        return None
    for namespace in linux.namespaces:
        if namespace.type == kind:
            return namespace
    return None


def is_new(linux: "Linux | None", kind: str) -> bool:
    """Whether the container gets a namespace of that type of its own."""
    found = find(linux, kind)
    return found is not None and not found.path


def in_user_namespace(linux: "Linux | None") -> bool:
    """Whether the container is in a user namespace that is not the runtime's, new or joined."""
    return find(linux, "user") is not None


def map_text(mappings: "Sequence[IDMapping]") -> str:
    """The mappings as the kernel's uid_map wants them (user_namespaces(7))."""
    return "".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in mappings)


def new_flags(linux: "Linux") -> int:
    """CLONE_NEW* of what clone3 makes.

    A cgroup namespace is made later, from within the cgroup, a time namespace by the joiner.
    """
    flags = 0
    for namespace in linux.namespaces:
        if not namespace.path and namespace.type not in {"cgroup", "time"}:
            flags |= CLONE_FLAGS[namespace.type]
    return flags


def open_proc(b: "Builder") -> int:
    """Opens the procfs by which labels and settings are written, and gives its slot.

    It is the runtime's own, opened before any namespace is joined: what is at /proc of a mount namespace is the word
    of who lives there, and would take a label without a sign that nothing came of it (CVE-2019-16884).
    """
    proc = b.slot()
    b.add(ops.OUTER, ops.Open(proc, "/proc", _O_PATH | _O_DIRECTORY, _PROC_SUPER_MAGIC))
    return proc


def compile_clone(b: "Builder", config: "Config", facts: "HostFacts", proc: int, cgroup_slot: int) -> None:
    """The steps that lead to the init and its id maps."""
    linux = config.linux
    if linux is None:
        b.add(ops.OUTER, ops.Clone(0, cgroup_slot), about="container process")
        return
    joins = _open_joins(b, linux)
    own_time = is_new(linux, "time")
    flags = new_flags(linux)
    new_user = is_new(linux, "user")
    if not joins and not own_time:
        b.add(ops.OUTER, ops.Clone(flags, cgroup_slot), "/linux/namespaces", ANCHOR, about="container process")
        if new_user:
            _compile_maps(b, linux, facts, ops.INIT)
        return
    b.add(ops.OUTER, ops.ForkJoiner(), "/linux/namespaces", ANCHOR)
    b.add(ops.JOINER, ops.DieWithParent())
    if hidden_from_birth(linux, facts):
        compile_oom_score(b, config.process, proc)
    if own_time and new_user:
        # the time namespace has to belong to the new user namespace, so that one is made first
        _join(b, joins)
        b.add(ops.JOINER, ops.Unshare(CLONE_FLAGS["user"]), "/linux/namespaces", ANCHOR, about="user namespace")
        b.add(ops.JOINER, ops.Post(ops.OUTER))
        b.add(ops.OUTER, ops.Await(ops.JOINER))
        _compile_maps(b, linux, facts, ops.JOINER)
        b.add(ops.OUTER, ops.Post(ops.JOINER))
        b.add(ops.JOINER, ops.Await(ops.OUTER))
        flags &= ~CLONE_FLAGS["user"]
    else:
        _join(b, joins)
    if own_time:
        _compile_time(b, linux, proc)
    if hidden_from_birth(linux, facts):
        b.add(ops.JOINER, ops.SetDumpable(0))
    b.add(ops.JOINER, ops.Clone(flags, cgroup_slot), "/linux/namespaces", ANCHOR, about="container process")
    if new_user and not own_time:
        _compile_maps(b, linux, facts, ops.INIT)


def hidden_from_birth(linux: "Linux | None", facts: "HostFacts") -> bool:
    """Whether the joiner makes itself undumpable, and with it the init that it clones.

    Who is in the namespaces joined already must not look into the init (CVE-2016-9962): not even before its first
    step. But without privileges nobody can write the id maps of such a process.
    """
    if linux is None or not any(namespace.path for namespace in linux.namespaces):
        return False
    return facts.privileged or not is_new(linux, "user")


def compile_oom_score(b: "Builder", process: "Process | None", proc: int) -> None:
    """The joiner's own score, for the init to inherit: its file belongs to root once it is undumpable."""
    if process is not None and process.oom_score_adj is not None:
        op = ops.WriteAt(proc, "self/oom_score_adj", str(process.oom_score_adj).encode())
        b.add(ops.JOINER, op, process.at("oomScoreAdj"), "config.md#configLinuxProcess")


def _open_joins(b: "Builder", linux: "Linux") -> "list[tuple[Namespace, int]]":
    by_kind = {namespace.type: namespace for namespace in linux.namespaces if namespace.path}
    joins = []
    for kind in JOIN_ORDER:
        if kind in by_kind:
            namespace, slot = by_kind[kind], b.slot()
            b.add(ops.OUTER, ops.Open(slot, str(namespace.path), _O_RDONLY), namespace.at("path"), ANCHOR)
            joins.append((namespace, slot))
    return joins


def _join(b: "Builder", joins: "list[tuple[Namespace, int]]") -> None:
    """The user id stays what it was: the cgroups to enter are the host's, and the capabilities come by joining."""
    for namespace, slot in joins:
        kind = CLONE_FLAGS[namespace.type]
        b.add(ops.JOINER, ops.Setns(slot, kind), namespace.at("path"), ANCHOR, about=f"{namespace.type} namespace")


def _compile_time(b: "Builder", linux: "Linux", proc: int) -> None:
    b.add(ops.JOINER, ops.Unshare(CLONE_FLAGS["time"]), "/linux/namespaces", ANCHOR, about="time namespace")
    for clock, offset in linux.time_offsets.items():
        text = f"{clock} {offset.secs or 0} {offset.nanosecs or 0}\n"
        b.add(ops.JOINER, ops.WriteAt(proc, "self/timens_offsets", text.encode()), offset.pointer, TIME_ANCHOR)


def _compile_maps(b: "Builder", linux: "Linux", facts: "HostFacts", actor: int) -> None:
    if facts.privileged:
        _write_maps(b, linux, actor)
        return
    if _maps_only_self(linux.uid_mappings, facts.euid) and _maps_only_self(linux.gid_mappings, facts.egid):
        b.add(ops.OUTER, ops.WriteChildFile(actor, "setgroups", b"deny"), "/linux/gidMappings", MAPS_ANCHOR)
        _write_maps(b, linux, actor)
        return
    for name, tool, mappings in (
        ("uidMappings", facts.newuidmap, linux.uid_mappings),
        ("gidMappings", facts.newgidmap, linux.gid_mappings),
    ):
        argv = [tool or f"/usr/bin/new{name[:3]}map", "%p"]
        for m in mappings:
            argv += [str(m.container_id), str(m.host_id), str(m.size)]
        b.add(ops.OUTER, ops.RunTool(actor, tuple(argv)), f"/linux/{name}", MAPS_ANCHOR)


def _write_maps(b: "Builder", linux: "Linux", actor: int) -> None:
    for name, file, mappings in (
        ("gidMappings", "gid_map", linux.gid_mappings),
        ("uidMappings", "uid_map", linux.uid_mappings),
    ):
        if mappings:
            data = map_text(mappings).encode()
            b.add(ops.OUTER, ops.WriteChildFile(actor, file, data), f"/linux/{name}", MAPS_ANCHOR)


def _maps_only_self(mappings: "Sequence[IDMapping]", own: int) -> bool:
    return len(mappings) == 1 and mappings[0].host_id == own and mappings[0].size == 1
