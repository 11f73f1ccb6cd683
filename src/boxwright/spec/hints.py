"""What to say next to a problem: the name that was probably meant. Loaded only where there is a problem."""

import difflib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# the options that filesystems of containers know themselves, by the kernel's documentation of each
FILESYSTEM_OPTIONS: dict[str, tuple[str, ...]] = {
    "tmpfs": (
        "size",
        "nr_blocks",
        "nr_inodes",
        "mode",
        "uid",
        "gid",
        "huge",
        "mpol",
        "inode32",
        "inode64",
        "noswap",
        "quota",
        "usrquota",
        "grpquota",
        "casefold",
    ),
    "devpts": ("newinstance", "ptmxmode", "mode", "uid", "gid", "max"),
    "proc": ("hidepid", "gid", "subset"),
    "sysfs": (),
    "mqueue": (),
    "cgroup2": (
        "nsdelegate",
        "favordynmods",
        "memory_localevents",
        "memory_recursiveprot",
        "memory_hugetlb_accounting",
        "pids_localevents",
    ),
    "overlay": (
        "lowerdir",
        "upperdir",
        "workdir",
        "redirect_dir",
        "index",
        "uuid",
        "nfs_export",
        "userxattr",
        "xino",
        "metacopy",
        "verity",
        "volatile",
        "default_permissions",
    ),
}


def did_you_mean(value: str, known: "Iterable[str]") -> str | None:
    """`did you mean …?` with the nearest known name; None where none is near."""
    names = list(known)
    by_lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(value.lower(), list(by_lower), n=1, cutoff=0.6)
    return f"did you mean `{by_lower[near[0]]}`?" if near else None
