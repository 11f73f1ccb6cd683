"""Why a new filesystem was refused: which of its options, and what it would have taken."""

import errno as e

from boxwright.spec.constants import MOUNT_OPTIONS
from boxwright.spec.hints import FILESYSTEM_OPTIONS, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.hints import Failure
    from boxwright.plan.ops import FsMount, Reconfigure

# every filesystem takes these (fs/fs_context.c), and with SELinux those
_COMMON = ("source", "ro", "rw", "sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand")
_SELINUX = ("context", "fscontext", "defcontext", "rootcontext")
PARAMETERS: dict[str, tuple[str, ...]] = {
    **FILESYSTEM_OPTIONS,
    "ramfs": ("mode",),
    "bpf": ("mode", "uid", "gid", "delegate_cmds", "delegate_maps", "delegate_progs", "delegate_attachs"),
    "hugetlbfs": ("size", "pagesize", "min_size", "nr_inodes", "mode", "uid", "gid"),
}
# options of mount(8) that the standard does not know, taken for the filesystem's own
_NOT_FILESYSTEM = {
    "nofail": "only mount(8) and fstab know it",
    "user": "only mount(8) and fstab know it",
    "auto": "only mount(8) and fstab know it",
    "noauto": "only mount(8) and fstab know it",
    "_netdev": "only mount(8) and fstab know it",
    "z": "engines relabel for SELinux by `:z`; the runtime does not know it",
    "Z": "engines relabel for SELinux by `:Z`; the runtime does not know it",
}
# further types, so that a real one that is missing is not taken for a slip
_OTHER_TYPES = (
    *("cgroup", "ext4", "xfs", "btrfs", "f2fs", "zfs", "erofs", "squashfs", "iso9660", "vfat", "exfat", "ntfs3", "udf"),
    *("nfs", "nfs4", "cifs", "ceph", "fuse", "9p", "virtiofs", "debugfs", "tracefs", "securityfs", "configfs"),
)
OF_TYPE, OF_CREATION = -1, -2


def parameter_hint(fstype: str, param: str, errno: int) -> str:
    """What to say about the refused parameter `key` or `key=value` of the filesystem."""
    key, equals, value = param.partition("=")
    known = PARAMETERS.get(fstype)
    if key in _NOT_FILESYSTEM and key not in (known or ()):
        return f"`{key}` is no option of `{fstype}`: {_NOT_FILESYSTEM[key]}"
    if known is not None and key in {*known, *_COMMON, *_SELINUX}:
        return _value_hint(fstype, key, value if equals else "", errno)
    if known is None and errno != e.EINVAL:
        return ""
    meant = did_you_mean(key, [*(known or ()), *MOUNT_OPTIONS])
    return f"{fstype} does not know the option `{key}`{f'; {meant}' if meant else ''}"


def _value_hint(fstype: str, key: str, value: str, errno: int) -> str:
    if key in {"uid", "gid"} and errno == e.EINVAL:
        return f"the id {value} is not mapped in the user namespace of the box"
    if key in {"upperdir", "workdir", "lowerdir"} and errno == e.ENOENT:
        return f"the directory of `{key}` does not exist"
    if value:
        return f"{fstype} does not take the value `{value}` for `{key}`"
    return f"{fstype} wants a value for `{key}`, or the kernel was built without it"


def type_hint(fstype: str) -> str:
    """What to say about a filesystem type that the kernel refuses."""
    known = (*PARAMETERS, *_OTHER_TYPES)
    meant = None if fstype in known else did_you_mean(fstype, known)
    if fstype in {"bind", "none", ""}:
        return "a bind mount needs `bind` or `rbind` among its options"
    return f"this kernel does not have the filesystem `{fstype}`; {meant or 'see /proc/filesystems'}"


def creation_hint(op: "FsMount", failure: "Failure") -> str:
    """What to say where each parameter was taken and the filesystem as a whole was not."""
    hint = ""
    if failure.errno == e.EPERM and failure.new_user:
        hint = _userns_hint(op.fstype)
    elif op.fstype == "overlay":
        hint = _overlay_hint(failure.errno)
    elif failure.errno == e.EBUSY and op.fstype == "cgroup":
        hint = "the controllers are in another hierarchy: mount the same sets as the host"
    elif failure.errno == e.ENOTBLK:
        hint = "the source must be a block device"
    elif failure.errno == e.ENOENT:
        hint = "the source does not exist"
    elif failure.errno == e.EINVAL and op.fstype not in {"tmpfs", "proc", "sysfs", "devpts", "mqueue"}:
        hint = "the source does not hold this filesystem, or the options do not go together"
    return hint


def _userns_hint(fstype: str) -> str:
    if fstype == "proc":
        return "a user namespace may mount `proc` only with a pid namespace of its own and a full procfs around it"
    if fstype == "sysfs":
        return "a user namespace may mount `sysfs` only with a network namespace of its own: bind /sys instead"
    if fstype == "mqueue":
        return "a user namespace may mount `mqueue` only with an ipc namespace of its own"
    if fstype in {"cgroup", "cgroup2"}:
        return "a user namespace may mount it only with a cgroup namespace of its own"
    return f"a user namespace may not mount `{fstype}`"


def _overlay_hint(errno: int) -> str:
    return {
        e.EINVAL: "upperdir and workdir must be two directories of one file system, not on overlay themselves, "
        "and no lower directory may have locked mounts below",
        e.ENOENT: "a directory of lowerdir, upperdir or workdir does not exist",
        e.EBUSY: "upperdir or workdir is in use by another overlay",
        e.ESTALE: "upperdir was used with other lower directories",
        e.ELOOP: "lowerdir, upperdir and workdir lie in each other",
        e.EPERM: "overlay needs CAP_SYS_ADMIN, or a kernel that allows it in user namespaces (with `userxattr`)",
        e.EROFS: "upperdir is on a read-only file system",
    }.get(errno, "")


def refused_parameter(op: "FsMount | Reconfigure", failure: "Failure") -> tuple[str, str]:
    """The parameter that the report names and the pointer of the line it came from; empty if it names none."""
    index = failure.value
    if not 0 <= index < len(op.params) or (failure.errno == 0):
        return "", ""
    parts = failure.step.parts
    return op.params[index], parts[index] if index < len(parts) else ""


def kernel_message(text: str) -> str:
    """The filesystem context's log without its severity letters (`e tmpfs: …`)."""
    lines = [line[2:] if line[1:2] == " " and line[:1] in "ewi" else line for line in text.splitlines()]
    return "; ".join(line.strip() for line in lines if line.strip())
