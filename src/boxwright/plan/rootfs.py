"""The root of the box: where it comes from, devices, masks, and making it the root."""

import os

from boxwright.plan import ops
from boxwright.plan.mounts import clean_path, fold, leave_peers
from boxwright.plan.namespaces import MAPS_ANCHOR, in_user_namespace, map_text
from boxwright.spec.constants import (
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    MS_REC,
    MS_SLAVE,
    ROOTFS_PROPAGATIONS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from boxwright.plan.builder import Builder
    from boxwright.plan.mounts import Mounts
    from boxwright.plan.request import HostFacts, Request, RootSource
    from boxwright.spec.types import Config, Device, IDMapping, Linux

ROOT_ANCHOR = "config.md#configRoot"
DEVICES_ANCHOR = "config-linux.md#configLinuxDevices"
DEFAULT_DEVICES_ANCHOR = "config-linux.md#configLinuxDefaultDevices"
LINKS_ANCHOR = "runtime-linux.md#runtimeLinuxDevSymbolicLinks"
MASKED_ANCHOR = "config-linux.md#configLinuxMaskedPaths"
READONLY_ANCHOR = "config-linux.md#configLinuxReadonlyPaths"
PROPAGATION_ANCHOR = "config-linux.md#configLinuxRootfsMountPropagation"

O_PATH = os.O_PATH
O_RDWR = os.O_RDWR
O_DIRECTORY = os.O_DIRECTORY
_S_IFCHR, _S_IFBLK, _S_IFIFO = 0o020000, 0o060000, 0o010000
_DEVICE_TYPES = {"c": _S_IFCHR, "u": _S_IFCHR, "b": _S_IFBLK, "p": _S_IFIFO}
_DEFAULT_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
_LINKS = (
    ("/dev/fd", "/proc/self/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0", "/proc/self/fd"),
    ("/dev/stdout", "/proc/self/fd/1", "/proc/self/fd"),
    ("/dev/stderr", "/proc/self/fd/2", "/proc/self/fd"),
    ("/dev/core", "/proc/kcore", "/proc/kcore"),
)


class Rootfs:
    """Compiles the root, its devices and its walls into the plan under construction."""

    def __init__(self, b: "Builder", config: "Config", facts: "HostFacts", request: "Request") -> None:
        self._b = b
        self._config = config
        self._facts = facts
        self._request = request
        self._linux = config.linux
        self._own_mounts = self._linux is not None and any(n.type == "mount" for n in self._linux.namespaces)
        self._may_mknod = facts.privileged and not in_user_namespace(self._linux)
        self._tree = ops.NO_SLOT
        self._lower = ops.NO_SLOT
        self._shelf = ops.NO_SLOT
        self._nodes: dict[str, int] = {}  # trees of device nodes that the outer made, by pointer
        self.slot = b.slot()

    def compile_sources(self) -> None:
        """The outer's part: what the init may not do.

        Its group may not let it open the device that the root is on. In a user namespace nobody can make a node, so the
        configured ones are made outside.
        """
        linux, device = self._linux, self._request.root.device
        if device:  # the container may not open it
            self._lower = self._b.slot()
            mount = ops.FsMount(self._lower, "erofs", (f"source={device}", "ro"), MOUNT_ATTR_RDONLY)
            self._b.add(ops.OUTER, mount, "/root/path", ROOT_ANCHOR)
        if linux is None or self._may_mknod or not self._facts.privileged:
            return
        if self._request.root.mapped:
            self._compile_mapped(linux)
        if linux.devices:
            self._compile_nodes(linux)

    def _compile_mapped(self, linux: "Linux") -> None:
        """The lower layer of the overlay, whose owners are mapped as the container's users are."""
        b, userns, root = self._b, self._b.slot(), self._request.root
        self._lower = b.slot()
        op = ops.Userns(userns, map_text(linux.uid_mappings), map_text(linux.gid_mappings))
        b.add(ops.OUTER, op, "/linux/uidMappings", MAPS_ANCHOR)
        b.add(ops.OUTER, ops.OpenTree(self._lower, ops.AT_HOST, root.path, 0), "/root/path", ROOT_ANCHOR)
        mapped = ops.SetAttr(self._lower, MOUNT_ATTR_IDMAP, 0, 0, userns, 0)
        b.add(ops.OUTER, mapped, "/root/path", MAPS_ANCHOR, about="root filesystem")

    def _compile_nodes(self, linux: "Linux") -> None:
        b, shelf = self._b, self._b.slot()
        b.add(ops.OUTER, ops.FsMount(shelf, "tmpfs", ("source=devices", "mode=755"), 0), about="device nodes")
        for index, device in enumerate(linux.devices):
            uid, gid = _outside(device.uid or 0, linux.uid_mappings), _outside(device.gid or 0, linux.gid_mappings)
            mode, name, tree = _mode(device), str(index), b.slot()
            node = ops.MakeNode(shelf, name, mode, device.major or 0, device.minor or 0, uid, gid)
            b.add(ops.OUTER, node, device.pointer, DEVICES_ANCHOR, about=device.path)
            b.add(ops.OUTER, ops.OpenTree(tree, shelf, name, 0), device.pointer, DEVICES_ANCHOR)
            self._nodes[device.pointer] = tree

    @property
    def own_mounts(self) -> bool:
        """Whether the box has a mount table that is not the host's."""
        return self._own_mounts

    def compile_stage(self) -> None:
        """What comes before the init changes its user: the host's mount table left, and the stage of an overlay.

        The way to the stage may be open to the runtime's user alone. From then on it is the current directory, and
        its parts are named from there.
        """
        if not self._own_mounts:
            return
        away = leave_peers(self._linux)
        b, root = self._b, self._request.root
        b.add(ops.INIT, ops.SetPropagation("/", away | MS_REC), "/linux/rootfsPropagation", PROPAGATION_ANCHOR)
        if not root.stage:
            return
        scratch, self._shelf = b.slot(), b.slot()
        size = (f"size={root.size_bytes}",) if root.size_bytes else ()
        params = ("source=boxwright", "mode=755", "uid=0", "gid=0", *size)
        b.add(ops.INIT, ops.FsMount(scratch, "tmpfs", params, 0), about="overlay")
        b.add(ops.INIT, ops.AttachRoot(scratch, root.stage, self._shelf), about="overlay")
        b.add(ops.INIT, ops.SetCwd(root.stage, 0), about="overlay")

    def compile_entry(self) -> None:
        """The new root, made where it has to be made, and attached."""
        b, root = self._b, self._request.root
        if not self._own_mounts:
            b.add(ops.INIT, ops.Open(self.slot, root.path, O_PATH | O_DIRECTORY), "/root/path", ROOT_ANCHOR)
            return
        self._tree = b.slot()
        if root.branches or root.links or root.binds:
            self._compile_branches(root)
        elif root.stage:
            self._compile_overlay(root)
        else:
            b.add(ops.INIT, ops.OpenTree(self._tree, ops.AT_HOST, root.path, ops.RECURSIVE), "/root/path", ROOT_ANCHOR)
            b.add(ops.INIT, ops.AttachRoot(self._tree, root.path, self.slot), "/root/path", ROOT_ANCHOR)

    def _make_dirs(self, *names: str) -> None:
        for name in names:
            self._b.add(ops.INIT, ops.MakeDirAt(self._shelf, name, 0o755, 0, 0), about=name)

    def _compile_overlay(self, root: "RootSource") -> None:
        b, lowers = self._b, root.lowers
        self._make_dirs("upper", "work", "root")
        if root.mapped or root.device:
            self._make_dirs("lower")
            b.add(ops.INIT, ops.AttachRoot(self._lower, "lower", b.slot()), "/root/path", ROOT_ANCHOR)
            lowers = ("lower",)
        params = ("source=overlay", *lower_params(lowers), "upperdir=upper", "workdir=work", *self._xattrs())
        b.add(ops.INIT, ops.FsMount(self._tree, "overlay", params, 0), "/root/path", ROOT_ANCHOR, about="/")
        b.add(ops.INIT, ops.AttachRoot(self._tree, "root", self.slot), "/root/path", ROOT_ANCHOR)

    def _xattrs(self) -> tuple[str, ...]:
        """In a user namespace an overlay may not use the attributes of the host's root (overlayfs, `userxattr`)."""
        return () if self._facts.privileged and not in_user_namespace(self._linux) else ("userxattr",)

    def _compile_branches(self, root: "RootSource") -> None:
        b = self._b
        self._make_dirs("root")
        b.add(ops.INIT, ops.OpenTree(self._tree, self._shelf, "root", 0), "/root/path", ROOT_ANCHOR)
        b.add(ops.INIT, ops.AttachRoot(self._tree, "root", self.slot), "/root/path", ROOT_ANCHOR)
        for name, target in root.links:
            b.add(ops.INIT, ops.MakeSymlink(self.slot, name, target, ""), "/root/path", ROOT_ANCHOR)
        for name, path in root.branches:
            self._make_dirs(f"upper/{name}", f"work/{name}")
            tree, where = b.slot(), (f"upperdir=upper/{name}", f"workdir=work/{name}")
            params = ("source=overlay", *lower_params((path,)), *where, *self._xattrs())
            op = ops.FsMount(tree, "overlay", params, 0)
            b.add(ops.INIT, op, "/root/path", ROOT_ANCHOR, about=f"/{name}")
            self._place(tree, name)
        for name in root.binds:
            tree = b.slot()
            source = f"{root.path.rstrip('/')}/{name}"
            b.add(ops.INIT, ops.OpenTree(tree, ops.AT_HOST, source, ops.RECURSIVE), "/root/path", ROOT_ANCHOR)
            b.add(ops.INIT, ops.SetAttr(tree, MOUNT_ATTR_RDONLY, 0, 0, ops.NO_SLOT, 1), about=f"/{name}")
            self._place(tree, name)

    def _place(self, tree: int, name: str) -> None:
        target = self._b.slot()
        self._b.add(ops.INIT, ops.Resolve(target, self.slot, name, ops.DIRECTORY, 0o755, 0), "/root/path", ROOT_ANCHOR)
        self._b.add(ops.INIT, ops.MoveMount(tree, target), "/root/path", ROOT_ANCHOR, about=f"/{name}")

    def compile_devices(self) -> None:
        """Default and configured device nodes and the links beside them."""
        if self._has_host_dev():
            return
        for path, major, minor in _DEFAULT_DEVICES:
            self._node(path, _S_IFCHR | 0o666, major, minor, 0, 0, "", DEFAULT_DEVICES_ANCHOR)
        for device in self._linux.devices if self._linux else ():
            self._device(device)
        for path, target, source in _LINKS:
            self._b.add(ops.INIT, ops.MakeSymlink(self.slot, path, target, source), "", LINKS_ANCHOR)
        self._b.add(
            ops.INIT, ops.MakeSymlink(self.slot, "/dev/ptmx", "pts/ptmx", "/dev/pts/ptmx"), "", DEFAULT_DEVICES_ANCHOR
        )

    def _has_host_dev(self) -> bool:
        """/dev bound from the host brings its nodes, and nothing of ours may be written into it."""
        return any(clean_path(m.destination) == "/dev" and fold(m.options).bind for m in self._config.mounts)

    def _device(self, device: "Device") -> None:
        mode, path = _mode(device), clean_path(device.path)
        uid, gid = device.uid or 0, device.gid or 0
        self._node(path, mode, device.major or 0, device.minor or 0, uid, gid, device.pointer, DEVICES_ANCHOR)

    def _node(self, path: str, mode: int, major: int, minor: int, uid: int, gid: int, why: str, anchor: str) -> None:
        b = self._b
        if self._may_mknod or mode & 0o170000 == _S_IFIFO:
            b.add(ops.INIT, ops.MakeNode(self.slot, path, mode, major, minor, uid, gid), why, anchor, about=path)
            return
        tree, target = self._nodes.get(why, ops.NO_SLOT), b.slot()
        if tree == ops.NO_SLOT:
            tree = b.slot()
            b.add(ops.INIT, ops.OpenTree(tree, ops.AT_HOST, path, 0), why, anchor)
            b.add(ops.INIT, ops.CheckNode(tree, mode, major, minor), why, anchor, about=path)
        # a file of the image may be a place for a default device, while a configured one has to be what it is
        kind, like = (ops.SAME_NODE, tree) if why else (ops.FILE, ops.NO_SLOT)
        b.add(ops.INIT, ops.Resolve(target, self.slot, path, kind, 0o666, 0, like), why, anchor)
        b.add(ops.INIT, ops.MoveMount(tree, target), why, anchor, about=path)

    def compile_console(self) -> None:
        """The terminal, if the process has one (config.md#configProcess)."""
        process = self._config.process
        if process is None or not process.terminal:
            return
        size = process.console_size
        height, width = (size.height, size.width) if size else (0, 0)
        out = self._b.inherited("console")
        bind = int(not self._has_host_dev() and self._own_mounts)
        op = ops.Console(self.slot, height, width, process.user.uid, out, bind)
        self._b.add(ops.INIT, op, process.at("terminal"), "config.md#configProcess")

    def compile_cwd(self) -> None:
        """The working directory is made if it is missing, while the root can still be written to."""
        process = self._config.process
        if process is not None and process.cwd != "/":
            op = ops.Resolve(self._b.slot(), self.slot, clean_path(process.cwd), ops.DIRECTORY, 0o755, 0)
            self._b.add(ops.INIT, op, process.at("cwd"), "config.md#configProcess")

    def compile_walls(self, mounts: "Mounts") -> None:
        """Read-only root, masked and read-only paths."""
        b, linux = self._b, self._linux
        root = self._config.root
        if root is not None and root.readonly and self._own_mounts:
            b.add(
                ops.INIT,
                ops.SetAttr(self._tree, MOUNT_ATTR_RDONLY, 0, 0, ops.NO_SLOT, 0),
                "/root/readonly",
                ROOT_ANCHOR,
            )
        if linux is None or not (linux.masked_paths or linux.readonly_paths):
            return
        for index, path in enumerate(linux.readonly_paths):
            op = ops.MakeReadonly(*mounts.wall(clean_path(path)))
            b.add(ops.INIT, op, f"/linux/readonlyPaths/{index}", READONLY_ANCHOR, about=clean_path(path))
        null = b.slot()
        b.add(ops.INIT, ops.Open(null, "/dev/null", O_PATH), "/linux/maskedPaths", MASKED_ANCHOR)
        for index, path in enumerate(linux.masked_paths):
            mask = ops.Mask(*mounts.wall(clean_path(path)), null)
            b.add(ops.INIT, mask, f"/linux/maskedPaths/{index}", MASKED_ANCHOR, about=clean_path(path))

    def compile_pivot(self) -> None:
        """Make it the root, and give it the propagation that was asked for."""
        b = self._b
        if not self._own_mounts:
            b.add(ops.INIT, ops.Chroot(self.slot), "/root/path", ROOT_ANCHOR)
            return
        wanted = ROOTFS_PROPAGATIONS.get((self._linux.rootfs_propagation if self._linux else None) or "", 0)
        if self._request.no_pivot:
            b.add(ops.INIT, ops.MoveRoot(self.slot, self._request.root.path), "/root/path", ROOT_ANCHOR)
        else:
            b.add(ops.INIT, ops.PivotRoot(self.slot), "/root/path", ROOT_ANCHOR)
        if wanted & ~MS_REC not in {0, MS_SLAVE, MS_PRIVATE}:
            b.add(ops.INIT, ops.SetPropagation("/", wanted), "/linux/rootfsPropagation", PROPAGATION_ANCHOR)


def lower_params(lowers: "Sequence[str]") -> tuple[str, ...]:
    """The lower layers of an overlay, top first. Several go in one by one: a parameter holds at most 255 bytes."""
    return (f"lowerdir={lowers[0]}",) if len(lowers) == 1 else tuple(f"lowerdir+={path}" for path in lowers)


def _mode(device: "Device") -> int:
    return _DEVICE_TYPES[device.type] | (0o666 if device.file_mode is None else device.file_mode & 0o7777)


def _outside(inside: int, mappings: "Sequence[IDMapping]") -> int:
    """The host's id of one of the container's; an unmapped one stays root's."""
    for m in mappings:
        if m.container_id <= inside < m.container_id + m.size:
            return m.host_id + inside - m.container_id
    return 0
