"""Which optional files the host's groups have. Read only where a configuration asks for what depends on them."""

import os

from boxwright.plan.cgroup_layout import CgroupPlacement, Group

_V1_WEIGHTS = ("blkio.weight", "blkio.bfq.weight")
_V2_WEIGHTS = ("io.bfq.weight", "io.weight")


def io_weight_file(placement: CgroupPlacement) -> str:
    """The file that takes block I/O weights: of CFQ or BFQ on v1, of BFQ or the cost model on v2. "" where no
    scheduler knows weights.
    """
    group = placement.find("blkio") or placement.find("io")
    if group is None:
        return ""
    names = _V1_WEIGHTS if group.version == 1 else _V2_WEIGHTS
    found = files_like(group, "blkio." if group.version == 1 else "io.")
    for name in names:
        if name in found:
            return name
    return ""


def files_like(group: Group, prefix: str) -> frozenset[str]:
    """The files of a controller in a group beside or above the place of `group`; none are in the root of a tree.

    Where there is no other group, one is made for a moment, which on v2 has the files of what is handed down.
    """
    parent = group.path
    while not os.path.isdir(parent):
        parent = parent.rpartition("/")[0]
    for path in (parent, *_children(group.mountpoint)) if parent != group.mountpoint else _children(parent):
        if found := _files(path, prefix):
            return found
    probe = f"{parent}/boxwright-probe-{os.getpid()}"
    os.mkdir(probe)
    try:
        return _files(probe, prefix)
    finally:
        os.rmdir(probe)


def _children(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _files(path: str, prefix: str) -> frozenset[str]:
    return frozenset(name for name in os.listdir(path) if name.startswith(prefix))


def page_sizes(group: Group) -> list[str]:
    """The sizes of huge pages, as `2MB`, that the group has files for."""
    sizes = {name.split(".")[1] for name in _files(group.path, "hugetlb.")}
    return sorted(sizes)
