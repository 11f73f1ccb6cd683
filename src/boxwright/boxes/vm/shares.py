"""How the container's files reach the guest: virtiofsd serves a tree of bind mounts in the jail. Pure.

The tree is a read-only tmpfs with the root filesystem at `root`, and at `vol/N` the source of the bind mount
`/mounts/N`. Each is a mount of its own, so what is read-only is so by the host's kernel; none of them has devices or
programs for anybody in the jail, and nothing of the host is in it beside them. In the guest the whole tree is one
mount, the mounts in it appear when somebody goes there, and the container's own mounts are bound from it.
"""

import stat

from boxwright._record import Record
from boxwright.boxes.vm.ids import JailIds, share_mappings
from boxwright.errors import UnsupportedError
from boxwright.plan import ops
from boxwright.plan.builder import Builder
from boxwright.plan.mounts import Options, clean_path, fold
from boxwright.spec.constants import (
    MOUNT_ATTR_ATIME_FIELD,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
    MS_SHARED,
    MS_SLAVE,
)
from boxwright.spec.types import Config, Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from boxwright.plan.ops import Plan
    from boxwright.spec.types import Linux

    # directories by name and path, symbolic links by name and target, names of directories with mounts in them
    Branches = tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...], tuple[str, ...]]

TAG = "boxwright"
JAIL = "/share"  # the tree in the jail,
AT = "/run/boxwright/share"  # and in the guest
STAGE = "/run/boxwright/stage"
BOX = "vm"
_DEV = "/dev"
_DEV_OPTIONS = ("nosuid", "noexec", "strictatime", "mode=755", "size=65536k")
_KINDS = {
    stat.S_IFSOCK: "a socket connects programs on one kernel",
    stat.S_IFIFO: "a pipe connects programs on one kernel",
    stat.S_IFCHR: "a device is the host kernel's",
    stat.S_IFBLK: "a device is the host kernel's",
}
_TREE = ("nosuid", "nodev", "noexec", "mode=755", "size=1m")
_CONFINED = ("nosuid", "nodev", "noexec", "rnosuid", "rnodev", "rnoexec")


class Source(Record):
    """A path of the host that is to be shared, with what is `mounted` below it or without, and the pointer of the
    line that asks for it.
    """

    path: str
    pointer: str
    mounted: bool = True


class Shares(Record):
    """What is shared, and what follows for the two halves.

    `mounts` are the jail's, to be made in this order; `config` is the configuration with paths of the guest; `mounting`
    mounts the tree in the guest and is None where nothing is shared.
    """

    mounts: tuple[Mount, ...]
    config: Config
    root: str
    mounting: "Plan | None"


class RootMount(Mount):
    """The mount of the root filesystem: whatever is wrong with it is the line `root.path`'s doing."""

    def at(self, json_name: str | int, *more: str | int) -> str:
        """The pointer of the root's path."""
        del json_name, more
        return "/root/path"


def sources(config: Config, root_path: str, bundle: str, *, overlay: bool) -> tuple[Source, ...]:
    """What will be shared: the root if there is a `root_path` (covered by an `overlay` or not), and the sources of bind
    mounts.

    Raises UnsupportedError for mounts that cannot be what they ask for across two kernels.
    """
    found = [Source(root_path, "/root/path", not overlay)] if root_path else []
    for mount in config.mounts:
        if _is_shared(mount):
            options = fold(mount.options)
            _refuse(mount, options)
            found.append(Source(_path(mount, bundle), mount.at("source"), options.bind == 2))
    return tuple(found)


def refuse_kinds(found: "Mapping[str, int]", wanted: tuple[Source, ...]) -> None:
    """Raise UnsupportedError for a source that is no file and no directory. `found` has st_mode by path."""
    for source in wanted:
        why = _KINDS.get(stat.S_IFMT(found.get(source.path, 0)))
        if why:
            raise UnsupportedError(source.pointer, BOX, f"`{source.path}` cannot be in another machine: {why}")


def make_shares(
    config: Config, root_path: str, bundle: str, ids: JailIds, *, overlay: bool, branches: "Branches | None" = None
) -> Shares:
    """Share the root at `root_path` (none if it is empty) and the bind mounts of `config`.

    With `overlay` the root is covered in the guest, and nothing is written through; with `branches` it is shared by
    parts, as a caller without privileges cannot leave out what is mounted in it. Raises UnsupportedError as `sources`
    does.
    """
    if branches is not None:
        mounts = _by_parts(root_path, branches)
    else:
        mounts = [_root(config.linux, root_path, ids, overlay=overlay)] if root_path else []
    guests = []
    for index, mount in enumerate(config.mounts):
        if _is_shared(mount):
            options = fold(mount.options)
            _refuse(mount, options)
            mounts.append(_volume(config.linux, mount, options, ids, _path(mount, bundle), index))
            guests.append(_guests(mount, index))
        else:
            guests.append(mount)
    root = f"{AT}/root" if root_path else ""
    tree = _tree(mounts) if mounts else ()
    mounting = _mounting() if mounts else None
    guest = with_devices(config.replace(mounts=tuple(guests)), overlay=overlay or not root_path)
    return Shares(tree, guest, root, mounting)


# --- what cannot be ---------------------------------------------------------------------------------------------


def _is_shared(mount: Mount) -> bool:
    """A bind mount from the host. One of the kernel's own files (procfs, sysfs) is the guest kernel's."""
    options = fold(mount.options)
    if not options.bind or options.remount:
        return False
    return not _is_below(mount.source or "", "/proc", "/sys")


def _refuse(mount: Mount, options: Options) -> None:
    if _is_below(mount.source or "", "/dev"):
        why = "devices and shared memory of the host are not the guest's"
        raise UnsupportedError(mount.at("source"), BOX, why, hint="mount a tmpfs, or use linux.devices")
    for flags in options.propagation:
        if flags & (MS_SHARED | MS_SLAVE):
            why = "mounts made later do not reach another kernel's mount table"
            raise UnsupportedError(mount.at("options"), BOX, why, hint="use `private` or `rprivate`")


def _is_below(source: str, *places: str) -> bool:
    path = clean_path(source)
    return source.startswith("/") and any(path == place or path.startswith(f"{place}/") for place in places)


def with_devices(config: Config, *, overlay: bool) -> Config:
    """The configuration with a /dev of the guest's own, unless it has one or the root is covered by an overlay.

    The server may not make device nodes in the shared root: the host's kernel lets nobody do so in a user namespace.
    Raises UnsupportedError for a node that would have to be elsewhere.
    """
    if overlay:
        return config
    if not _is_made(config, _DEV):
        config = config.replace(mounts=(Mount(_DEV, "tmpfs", "tmpfs", _DEV_OPTIONS), *config.mounts))
    for device in config.linux.devices if config.linux else ():
        if not _is_made(config, device.path):
            why = "no device node can be made on files of the host"
            raise UnsupportedError(device.at("path"), BOX, why, hint="put it below /dev, or make the root read-only")
    return config


def _is_made(config: Config, path: str) -> bool:
    """Whether it is on a filesystem that the guest makes."""
    made = [mount.destination for mount in config.mounts if not fold(mount.options).bind]
    return any(_is_below(clean_path(path), clean_path(place)) for place in made)


# --- the jail's mounts ------------------------------------------------------------------------------------------


def _path(mount: Mount, bundle: str) -> str:
    source = mount.source or ""
    return source if source.startswith("/") else f"{bundle}/{source}"


def _tree(mounts: list[Mount]) -> tuple[Mount, ...]:
    """The tmpfs with the places of the mounts, which is closed once they are there."""
    closed = Mount(JAIL, "none", "none", ("remount", "bind", "ro", "nosuid", "nodev", "noexec"))
    return (Mount(JAIL, "tmpfs", "share", _TREE), *mounts, closed)


def _root(linux: "Linux | None", path: str, ids: JailIds, *, overlay: bool) -> Mount:
    """The root as the server sees it. What is mounted below it is no part of an overlay over it, as on one kernel."""
    how = ("bind", *_CONFINED, "ro") if overlay else ("rbind", *_CONFINED)
    uids, gids = share_mappings(linux, ids) if ids.mapped else ((), ())
    options = (*how, *(("idmap" if overlay else "ridmap",) if ids.mapped else ()))
    return RootMount(f"{JAIL}/root", "none", path, options, uids, gids, pointer="/root/path")


def _by_parts(path: str, branches: "Branches") -> list[Mount]:
    """What a caller without privileges may show of a root with mounts in it (`host.subids.branches`), read-only."""
    whole, _, bound = branches
    parts = [(name, "bind", source) for name, source in whole]
    parts += [(name, "rbind", f"{path.rstrip('/')}/{name}") for name in bound]
    return [
        RootMount(f"{JAIL}/root/{name}", "none", source, (how, *_CONFINED, "ro", "rro"), pointer="/root/path")
        for name, how, source in parts
    ]


def _volume(linux: "Linux | None", mount: Mount, options: Options, ids: JailIds, path: str, index: int) -> Mount:
    """A volume as the server sees it. Read-only is read-only for all below it: in the guest what is mounted there
    takes the flags of the mount that it appears in, so it could not be otherwise.
    """
    words = ["rbind" if options.bind == 2 else "bind", *_CONFINED, *_access_times(options)]
    if _is_readonly(options):
        words += ["ro", "rro"]
    own = (mount.uid_mappings, mount.gid_mappings)
    if options.idmap and not mount.uid_mappings and linux is not None:
        own = (linux.uid_mappings, linux.gid_mappings)
    if ids.mapped:
        own = share_mappings(linux, ids, own)
        words.append("ridmap")
    elif own[0]:
        words.append("ridmap" if options.idmap == 2 else "idmap")
    return mount.replace(
        destination=f"{JAIL}/vol/{index}",
        type="none",
        source=path,
        options=tuple(words),
        uid_mappings=own[0],
        gid_mappings=own[1],
    )


def _is_readonly(options: Options) -> bool:
    recursive = options.rec_set & MOUNT_ATTR_RDONLY
    once = options.attr_set & ~options.rec_clear & MOUNT_ATTR_RDONLY
    return bool(recursive or once)


def _access_times(options: Options) -> list[str]:
    """They are kept by the host's filesystem, so they are the jail's mount's."""
    mode = options.attr_set & MOUNT_ATTR_ATIME_FIELD
    names = {MOUNT_ATTR_NOATIME: ["noatime"], MOUNT_ATTR_STRICTATIME: ["strictatime"]}.get(mode, [])
    return [*names, *(["nodiratime"] if options.attr_set & MOUNT_ATTR_NODIRATIME else [])]


# --- the guest's ------------------------------------------------------------------------------------------------


def _guests(mount: Mount, index: int) -> Mount:
    """The same mount of the container, from where the share is in the guest; its ids are right already."""
    kept = tuple(option for option in mount.options if option not in {"idmap", "ridmap"})
    return mount.replace(source=f"{AT}/vol/{index}", options=kept, uid_mappings=(), gid_mappings=())


def _mounting() -> "Plan":
    b = Builder(())
    tree, at = b.slot(), b.slot()
    b.add(ops.OUTER, ops.MakeDirs(AT, 0o755))
    b.add(ops.OUTER, ops.MakeDirs(STAGE, 0o755))
    b.add(ops.OUTER, ops.FsMount(tree, "virtiofs", (f"source={TAG}",), 0), about="the container's files")
    b.add(ops.OUTER, ops.AttachRoot(tree, AT, at), about="the container's files")
    b.add(ops.OUTER, ops.Ready())
    return b.build()
