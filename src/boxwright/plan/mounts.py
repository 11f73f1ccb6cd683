"""Mounts of the container: options folded, each type compiled to operations on detached mounts.

Nothing is mounted by path: a tree is made or copied detached, its attributes are set, the place is resolved inside
the root to a descriptor, and the one is attached to the other.
"""

from boxwright._record import Record
from boxwright.errors import ConfigError, Problem, UnsupportedError
from boxwright.plan import ops
from boxwright.plan.namespaces import find, in_user_namespace, is_new, map_text
from boxwright.spec.constants import (
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_RDONLY,
    MOUNT_OPTIONS,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    SUPERBLOCK_PARAMETERS,
    fold_attribute,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    Shown = tuple[str, str, tuple[str, ...]]

    from boxwright.plan.builder import Builder
    from boxwright.plan.cgroup_layout import CgroupLayout, CgroupPlacement
    from boxwright.plan.request import HostFacts, Request
    from boxwright.spec.types import Config, Linux, Mount

ANCHOR = "config.md#configMounts"
INIT_SYSTEM_ANNOTATION = "boxwright.init-system"
OPTIONS_ANCHOR = "config.md#configLinuxMountOptions"
# what lies beneath /proc may be covered only here: files that make a container's own numbers visible (lxcfs)
PROC_FILES = frozenset(
    f"/proc/{name}" for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo")
)
# kernel filesystems have no device: read-only is a property of the mount alone
_WITHOUT_DEVICE = frozenset({"tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay", "bpf"})


class Options(Record):
    """The options of one mount, folded. `data` are the filesystem's own, with their indices in `data_at`."""

    attr_set: int
    attr_clear: int
    rec_set: int
    rec_clear: int
    propagation: tuple[int, ...]
    bind: int  # 0 no, 1 bind, 2 rbind
    remount: bool
    idmap: int  # 0 no, 1 idmap, 2 ridmap
    copy_up: bool
    data: tuple[str, ...]
    data_at: tuple[int, ...]


def fold(options: "tuple[str, ...]") -> Options:
    """Fold the list of options: later ones win, as in mount(8); unknown ones are the filesystem's."""
    attrs, recursive = (0, 0), (0, 0)
    propagation: list[int] = []
    special = {"bind": 0, "remount": 0, "idmap": 0, "copyup": 0}
    data: dict[str, int] = {}
    for index, option in enumerate(options):
        entry = MOUNT_OPTIONS.get(option, ("data", 0, 0))
        kind = entry[0]
        if kind == "attribute":
            attrs = fold_attribute(*attrs, entry)
        elif kind == "recursive":
            recursive = fold_attribute(*recursive, entry)
        elif kind == "propagation":
            propagation.append(entry[1])
        elif kind in special:
            special[kind] = 2 if entry[1] & MS_REC else 1
        elif kind == "superblock":
            _fold_superblock(data, entry, index)
        elif kind == "data" and option:
            data[option] = index
    return Options(
        *attrs,
        *recursive,
        tuple(propagation),
        special["bind"],
        bool(special["remount"]),
        special["idmap"],
        bool(special["copyup"]),
        tuple(data),
        tuple(data.values()),
    )


def _fold_superblock(data: dict[str, int], entry: "tuple[str, int, int]", index: int) -> None:
    """A superblock option is a flag parameter of fsconfig(2); the few it has no name for have no effect any more."""
    wanted, cleared = entry[1], entry[2]
    set_name, clear_name = SUPERBLOCK_PARAMETERS.get(wanted or cleared, (None, None))
    name, opposite = (set_name, clear_name) if wanted else (clear_name, set_name)
    if opposite:
        data.pop(opposite, None)
    if name and wanted:
        data[name] = index


def leave_peers(linux: "Linux | None") -> int:
    """How mounts copied from the host leave their peer groups: as slaves, or without any tie where the root has none.

    A shared root is one of a peer group of its own, not the host's (config-linux.md#configLinuxRootfsMountPropagation).
    """
    wanted = (linux.rootfs_propagation if linux else None) or ""
    return MS_PRIVATE if wanted.endswith(("private", "unbindable")) else MS_SLAVE


def clean_path(path: str) -> str:
    """The path, absolute and without `.`, `..` and doubled slashes, as seen from the container's root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/" + "/".join(parts)


class Mounts:
    """Compiles the list of mounts into the plan under construction."""

    def __init__(self, b: "Builder", config: "Config", facts: "HostFacts", request: "Request", root: int) -> None:
        self._b = b
        self._config = config
        self._linux: Linux | None = config.linux
        self._facts = facts
        self._request = request
        self._root = root
        self._in_user_namespace = in_user_namespace(config.linux)
        # a privileged outer opens the sources: the user of the box may have no right to walk there
        self._source_actor = ops.OUTER if self._in_user_namespace and facts.privileged else ops.INIT

    def compile_sources(self) -> None:
        """The steps of the outer: copies of the trees that the init cannot reach itself, and id-mapping namespaces."""
        self._trees = [self._open_source(mount) for mount in self._config.mounts]

    def compile(self) -> None:
        """The steps of the init, in the listed order."""
        for mount, tree in zip(self._config.mounts, self._trees, strict=True):
            self._mount(mount, fold(mount.options), tree)

    def _open_source(self, mount: "Mount") -> int:
        options = fold(mount.options)
        if options.remount or not options.bind:
            return ops.NO_SLOT
        mapped = self._userns(mount, options)
        outward = self._propagates_outward(options)
        if self._source_actor != ops.OUTER and mapped == ops.NO_SLOT and not outward:
            return ops.NO_SLOT
        tree = self._tree_of(ops.OUTER, mount, options)
        if not outward:
            self._detach_from_host(mount, tree)
        if mapped != ops.NO_SLOT:
            recursive = int(options.idmap == 2)
            op = ops.SetAttr(tree, MOUNT_ATTR_IDMAP, 0, 0, mapped, recursive)
            self._b.add(ops.OUTER, op, mount.pointer, "config.md#configPOSIXMounts", about=mount.destination)
        return tree

    def _propagates_outward(self, options: Options) -> bool:
        """Mounts made in the box appear on the host only where the mount is shared and the root is to be, too."""
        wanted = (self._linux.rootfs_propagation if self._linux else None) or ""
        shared = options.propagation and options.propagation[-1] & MS_SHARED
        return self._facts.privileged and wanted.endswith("shared") and bool(shared)

    def _detach_from_host(self, mount: "Mount", tree: int) -> None:
        """A copy of a shared tree is its peer: what the box mounted there would be mounted on the host as well."""
        away = leave_peers(self._linux)
        op = ops.SetAttr(tree, 0, 0, away, ops.NO_SLOT, 1)
        self._b.add(ops.OUTER, op, mount.at("source"), "config-linux.md#configLinuxRootfsMountPropagation")

    def _userns(self, mount: "Mount", options: Options) -> int:
        """The slot of a user namespace with the mount's id maps, or NO_SLOT for none."""
        if not options.idmap and not mount.uid_mappings:
            return ops.NO_SLOT
        uids, gids = mount.uid_mappings, mount.gid_mappings
        if not uids and self._linux is not None:
            uids, gids = self._linux.uid_mappings, self._linux.gid_mappings
        if not uids or not gids:
            rule = "an id-mapped mount needs uidMappings and gidMappings, its own or the container's"
            raise ConfigError([Problem(mount.pointer, rule, OPTIONS_ANCHOR)])
        if not self._facts.privileged:
            raise UnsupportedError("mounts[].uidMappings", "linux", "id-mapped mounts need root")
        slot = self._b.slot()
        op = ops.Userns(slot, map_text(uids), map_text(gids))
        self._b.add(ops.OUTER, op, mount.pointer, "config.md#configPOSIXMounts", about=mount.destination)
        return slot

    def _tree_of(self, actor: int, mount: "Mount", options: Options) -> int:
        source = mount.source or ""
        if not source.startswith("/"):
            source = f"{self._request.bundle}/{source}"
        slot = self._b.slot()
        flags = ops.RECURSIVE if options.bind == 2 else 0
        self._b.add(actor, ops.OpenTree(slot, ops.AT_HOST, source, flags), mount.at("source"), ANCHOR)
        return slot

    def _mount(self, mount: "Mount", options: Options, tree: int) -> None:
        if options.remount:
            self._remount(mount, options)
        elif options.bind:
            self._check_proc(mount)
            self._bind(mount, options, tree)
        elif mount.type == "cgroup":
            self._cgroup(mount, options)
        elif mount.type in {"proc", "sysfs"} and not self._may_mount(mount.type):
            self._bind_kernel(mount, options)
        else:
            self._check_proc(mount)
            self._filesystem(mount, options)

    # --- binds ---

    def _bind(self, mount: "Mount", options: Options, tree: int) -> None:
        if tree == ops.NO_SLOT:
            tree = self._tree_of(ops.INIT, mount, options)
        self._attributes(mount, options, tree)
        target = self._resolve(mount, ops.LIKE, like=tree)
        self._attach(mount, options, tree, target)

    def _bind_kernel(self, mount: "Mount", options: Options) -> None:
        """proc or sysfs of the host, where the namespace it would show is the host's and the user namespace is not."""
        tree = self._b.slot()
        source = "/proc" if mount.type == "proc" else "/sys"
        self._b.add(ops.INIT, ops.OpenTree(tree, ops.AT_HOST, source, ops.RECURSIVE), mount.at("type"), ANCHOR)
        self._attributes(mount, options, tree)
        self._attach(mount, options, tree, self._resolve(mount, ops.DIRECTORY, ops.NO_SYMLINKS))

    def _may_mount(self, fstype: str) -> bool:
        """The kernel lets a user namespace mount proc and sysfs only with a pid and network namespace that it owns."""
        if self._facts.privileged and not self._in_user_namespace:
            return True
        kind = "pid" if fstype == "proc" else "network"
        # with a user namespace that exists already a namespace of the same owner may have been made
        return is_new(self._linux, kind) or (not is_new(self._linux, "user") and find(self._linux, kind) is not None)

    def _check_proc(self, mount: "Mount") -> None:
        """Nothing but procfs on /proc, and nothing beneath it but the known files (CVE-2019-16884)."""
        path = clean_path(mount.destination)
        if path != "/proc" and not path.startswith("/proc/"):
            return
        if path in PROC_FILES or (path == "/proc" and (mount.type == "proc" or mount.source == "/proc")):
            return
        rule = "nothing may be mounted over procfs but " + ", ".join(sorted(PROC_FILES))
        raise ConfigError([Problem(mount.at("destination"), rule, ANCHOR, value=mount.destination)])

    # --- new filesystems ---

    def _filesystem(self, mount: "Mount", options: Options) -> None:
        params, parts = self._params(mount, options)
        tree = self._b.slot()
        attr = options.attr_set & ~MOUNT_ATTR_RDONLY if options.copy_up else options.attr_set
        op = ops.FsMount(tree, str(mount.type), params, attr)
        self._b.add(ops.INIT, op, mount.pointer, ANCHOR, parts=parts, about=mount.destination)
        strict = ops.NO_SYMLINKS if mount.type in {"proc", "sysfs"} else 0
        target = self._resolve(mount, ops.DIRECTORY, strict)
        if options.copy_up:
            self._b.add(ops.INIT, ops.CopyUp(tree, target), mount.pointer, OPTIONS_ANCHOR, about=mount.destination)
        self._attributes(mount, options, tree, fresh=not options.copy_up)
        self._attach(mount, options, tree, target)

    def _params(self, mount: "Mount", options: Options) -> "tuple[tuple[str, ...], tuple[str, ...]]":
        params, parts = [], []
        if mount.source:
            params.append(f"source={mount.source}")
            parts.append(mount.at("source"))
        if options.attr_set & MOUNT_ATTR_RDONLY and mount.type not in _WITHOUT_DEVICE:
            params.append("ro")
            parts.append(mount.at("options"))
        for option, index in zip(options.data, options.data_at, strict=True):
            for param in option.split(","):
                if mount.type == "devpts" and self._unmapped_gid(param):
                    continue
                params.append(param)
                parts.append(mount.at("options", index))
        label = self._linux.mount_label if self._linux else None
        if label and self._facts.selinux and mount.type in {"tmpfs", "mqueue", "devpts", "ramfs"}:
            params.append(f"context={label}")
            parts.append("/linux/mountLabel")
        return tuple(params), tuple(parts)

    def _unmapped_gid(self, param: str) -> bool:
        """`gid=5` of devpts is refused in a user namespace without that group, and only of use with it."""
        if not self._in_user_namespace or not param.startswith("gid=") or not param[4:].isdigit():
            return False
        gid = int(param[4:])
        mappings = self._linux.gid_mappings if self._linux else ()
        return not any(m.container_id <= gid < m.container_id + m.size for m in mappings)

    def _remount(self, mount: "Mount", options: Options) -> None:
        target = self._resolve(mount, ops.EXISTING)
        if options.data and not options.bind:
            parts = tuple(mount.at("options", index) for index in options.data_at)
            op = ops.Reconfigure(target, options.data)
            self._b.add(ops.INIT, op, mount.pointer, OPTIONS_ANCHOR, parts=parts, about=mount.destination)
        self._attributes(mount, options, target)
        self._propagate(mount, options, target)

    # --- cgroup ---

    def _cgroup(self, mount: "Mount", options: Options) -> None:
        """The container's part of each hierarchy, by bind mounts: needs no right to mount cgroup filesystems."""
        shown = visible_groups(self._request.placement, self._facts.cgroups)
        if len(shown) == 1 and not shown[0][0]:
            own = self._options_of_group(options, limits=False)
            self._bind_cgroup(mount, own, shown[0][1], mount.destination)
            return
        tree = self._b.slot()
        op = ops.FsMount(tree, "tmpfs", ("source=tmpfs", "mode=755"), options.attr_set & ~MOUNT_ATTR_RDONLY)
        self._b.add(ops.INIT, op, mount.pointer, ANCHOR, about=mount.destination)
        self._attach(mount, options, tree, self._resolve(mount, ops.DIRECTORY, ops.NO_SYMLINKS))
        for name, source, links in shown:
            own = self._options_of_group(options, limits=name != "unified" and "name=" not in name)
            self._bind_cgroup(mount, own, source, f"{mount.destination}/{name.removeprefix('name=')}")
            for link in links:
                path = f"{mount.destination}/{link}"
                self._b.add(ops.INIT, ops.MakeSymlink(self._root, path, name, ""), mount.pointer, ANCHOR)
        if options.attr_set & MOUNT_ATTR_RDONLY:
            self._b.add(
                ops.INIT, ops.SetAttr(tree, MOUNT_ATTR_RDONLY, 0, 0, ops.NO_SLOT, 0), mount.pointer, OPTIONS_ANCHOR
            )

    def _options_of_group(self, options: Options, *, limits: bool) -> Options:
        """An init system must write to the hierarchies that it keeps its services in, but never to its own limits.

        On v2 the kernel guards those at the root of a cgroup namespace (cgroup_namespaces(7)).
        """
        if limits or self._config.annotations.get(INIT_SYSTEM_ANNOTATION) != "true":
            return options
        return options.replace(attr_set=options.attr_set & ~MOUNT_ATTR_RDONLY)

    def _bind_cgroup(self, mount: "Mount", options: Options, source: str, destination: str) -> None:
        tree, target = self._b.slot(), self._b.slot()
        self._b.add(ops.INIT, ops.OpenTree(tree, ops.AT_HOST, source, 0), mount.pointer, ANCHOR)
        self._attributes(mount, options, tree)
        op = ops.Resolve(target, self._root, destination, ops.DIRECTORY, 0o755, 0)
        self._b.add(ops.INIT, op, mount.at("destination"), ANCHOR)
        self._attach(mount, options, tree, target, about=destination)

    # --- shared ends ---

    def _resolve(self, mount: "Mount", kind: int, flags: int = 0, like: int = ops.NO_SLOT) -> int:
        slot = self._b.slot()
        op = ops.Resolve(slot, self._root, clean_path(mount.destination), kind, 0o755, flags, like)
        self._b.add(ops.INIT, op, mount.at("destination"), ANCHOR)
        return slot

    def _attributes(self, mount: "Mount", options: Options, tree: int, *, fresh: bool = False) -> None:
        """Attributes of the one mount, then those of the whole tree. A fresh mount was made with its own."""
        for attr_set, attr_clear, recursive in (
            (options.attr_set, options.attr_clear, 0),
            (options.rec_set, options.rec_clear, 1),
        ):
            if (fresh and not recursive) or not attr_set | attr_clear:
                continue
            op = ops.SetAttr(tree, attr_set, attr_clear, 0, ops.NO_SLOT, recursive)
            self._b.add(ops.INIT, op, mount.at("options"), OPTIONS_ANCHOR, about=mount.destination)

    def _attach(self, mount: "Mount", options: Options, tree: int, target: int, about: str = "") -> None:
        about = about or mount.destination
        self._b.add(ops.INIT, ops.MoveMount(tree, target), mount.at("destination"), ANCHOR, about=about)
        self._propagate(mount, options, tree)

    def _propagate(self, mount: "Mount", options: Options, tree: int) -> None:
        for flags in options.propagation:
            op = ops.SetAttr(tree, 0, 0, flags & ~MS_REC, ops.NO_SLOT, int(bool(flags & MS_REC)))
            self._b.add(ops.INIT, op, mount.at("options"), OPTIONS_ANCHOR, about=mount.destination)


def visible_groups(placement: "CgroupPlacement", layout: "CgroupLayout") -> "list[Shown]":
    """What a cgroup mount shows: the name below the mount point ("" where it is the mount itself, `name=…` for a
    hierarchy without controllers), the host's directory, and further names for it. Without a group of its own a
    container sees the caller's, read-only.
    """
    if placement.groups:
        found = [(g.version, g.controllers, g.path) for g in placement.groups]
    else:
        found = [(h.version, h.controllers, f"{h.mountpoint}{h.own}") for h in layout.hierarchies]
    if len(found) == 1 and found[0][0] == 2:
        return [("", found[0][2], ())]
    shown = []
    for version, controllers, path in found:
        name = ",".join(controllers) if version == 1 else "unified"
        shown.append((name, path, controllers if version == 1 and len(controllers) > 1 else ()))
    return shown
