"""Whose ids the jail has, and how the owners of the shared files come to be those that the container sees. Pure.

An id in the guest is the container's: a user namespace of the container is the jail's, and the guest has none. There
are two ways to make it so, and one machine uses one of them for all of its files:

- *mapped*: the jail has ids that nobody else has, and each shared mount is id-mapped (mount_setattr(2)) so that the
  owner on the disk is the same id of the jail. The server of the files is nobody on the host.
- *own*: where the filesystem of one of them cannot be id-mapped (an overlay, FUSE, network filesystems), or without
  root. The jail's ids are those on the disk. As root of the host the server has its uid then, and no more: its
  capabilities are those of the jail's user namespace, and it sees the shared mounts alone.

In both, the ids from `spare` on are for the hypervisor, and no file is ever given to them.
"""

from boxwright._record import Record
from boxwright.plan.namespaces import is_new
from boxwright.spec.types import IDMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from boxwright.spec.types import Linux

    Mappings = tuple[IDMapping, ...]

FILE_IDS = 65536
MOST_FILE_IDS = 1 << 20
SPARE_IDS = 16


class JailIds(Record):
    """The id maps of the jail's user namespace.

    `base` is the host's id of the jail's root where the shared mounts are to be id-mapped, else -1. `top` is one more
    than the greatest id that a file can have in the guest. `spare` is the first id that is for processes only, 0 where
    there are not enough ids to set some apart.
    """

    uid_mappings: "Mappings"
    gid_mappings: "Mappings"
    top: int
    spare: int
    base: int = -1

    @property
    def mapped(self) -> bool:
        """Whether the shared mounts are id-mapped."""
        return self.base >= 0


def wanted_ids(linux: "Linux | None") -> int:
    """How many ids of the host a jail needs that has its own: those of the files, and the spare ones."""
    return _top(linux) + SPARE_IDS


def mapped_ids(linux: "Linux | None", base: int) -> JailIds:
    """A jail with the `wanted_ids` of the host from `base` on."""
    top = _top(linux)
    maps = (IDMapping(0, base, top + SPARE_IDS),)
    return JailIds(maps, maps, top, top, base)


def disk_ids(linux: "Linux | None", base: int) -> JailIds:
    """A jail whose ids are those on the disk, and for its own processes those of the host from `base` on. For root."""
    top = _top(linux)
    spare = IDMapping(top, base + top, SPARE_IDS)
    uids, gids = _container(linux, FILE_IDS)
    return JailIds((*_below(uids, top), spare), (*_below(gids, top), spare), top, top)


def callers_ids(linux: "Linux | None", uids: "Mappings", gids: "Mappings") -> JailIds:
    """A jail of a caller without privileges: the container's own maps, else `uids` and `gids`."""
    if linux is not None and is_new(linux, "user") and linux.uid_mappings and linux.gid_mappings:
        uids, gids = linux.uid_mappings, linux.gid_mappings
    top = min(_end(uids), _end(gids))
    spare = top - SPARE_IDS if top > 2 * SPARE_IDS else 0
    return JailIds(uids, gids, top, spare)


def owners_agree(linux: "Linux | None", *, privileged: bool) -> bool:
    """Whether the owner of a file on the disk is the same id in the guest, so that an image of the disk will do."""
    uids, gids = _container(linux, FILE_IDS)
    return privileged and all(m.container_id == m.host_id for m in (*uids, *gids))


def share_mappings(
    linux: "Linux | None", ids: JailIds, own: "tuple[Mappings, Mappings]" = ((), ())
) -> "tuple[Mappings, Mappings]":
    """The maps of an id-mapped share: who owns a file on the disk, and who in the jail, as ids of the host.

    `own` are the maps that the mount itself asks for (config.md#configPOSIXMounts): to ids of the host, which the
    container's user namespace then shows as its own. What is not the container's to see is nobody's.
    """
    uids, gids = _container(linux, ids.top)
    return _through(own[0] or _same(uids), uids, ids), _through(own[1] or _same(gids), gids, ids)


def _through(disk: "Mappings", container: "Mappings", ids: JailIds) -> "Mappings":
    """Disk → host → container → jail, for the ids that come through all of them."""
    found = []
    for first in disk:
        for second in container:
            low = max(first.host_id, second.host_id)
            high = min(first.host_id + first.size, second.host_id + second.size)
            inside = second.container_id + low - second.host_id
            size = min(high - low, ids.top - inside)
            if size > 0:
                found.append(IDMapping(first.container_id + low - first.host_id, ids.base + inside, size))
    return tuple(found)


def _same(container: "Mappings") -> "Mappings":
    """The ids on the disk are those of the host."""
    return tuple(IDMapping(m.host_id, m.host_id, m.size) for m in container)


def _container(linux: "Linux | None", most: int) -> "tuple[Mappings, Mappings]":
    """The container's own id maps: without a user namespace its ids are those of the host."""
    if linux is not None and is_new(linux, "user") and linux.uid_mappings and linux.gid_mappings:
        return linux.uid_mappings, linux.gid_mappings
    same = (IDMapping(0, 0, most),)
    return same, same


def _below(mappings: "Mappings", top: int) -> "Iterable[IDMapping]":
    for mapping in mappings:
        if mapping.container_id < top:
            yield mapping.replace(size=min(mapping.size, top - mapping.container_id))


def _top(linux: "Linux | None") -> int:
    uids, gids = _container(linux, FILE_IDS)
    return min(max(FILE_IDS, _end(uids), _end(gids)), MOST_FILE_IDS)


def _end(mappings: "Mappings") -> int:
    return max((m.container_id + m.size for m in mappings), default=0)
