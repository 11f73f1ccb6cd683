"""Rules for the mounts (config.md#configMounts, #configLinuxMountOptions)."""

from boxwright.errors import Problem
from boxwright.spec.constants import MOUNT_OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.spec.types import Config, Mount

_OPTIONS = "config.md#configLinuxMountOptions"


def kinds_of(mount: "Mount") -> "dict[str, int]":
    """Which kinds of options a mount has (`constants.MOUNT_OPTIONS`), and where the first of each stands."""
    kinds: dict[str, int] = {}
    for index, option in enumerate(mount.options):
        known = MOUNT_OPTIONS.get(option)
        if known is not None:
            kinds.setdefault(known[0], index)
    return kinds


def linux_mounts(config: "Config") -> "Iterator[Problem]":
    """All rules of one mount, for each of them."""
    linux = config.linux
    has_user = linux is not None and any(one.type == "user" for one in linux.namespaces)
    for mount in config.mounts:
        kinds = kinds_of(mount)
        yield from destination(mount)
        yield from bind_source(mount, kinds)
        yield from tmpfs_copy(mount, kinds)
        if "idmap" in kinds or mount.uid_mappings or mount.gid_mappings:
            yield from id_mapping(mount, kinds, has_user)


def destination(mount: "Mount") -> "Iterator[Problem]":
    """There is one; a relative one is read from the root, and deprecated."""
    path, where = mount.destination, mount.at("destination")
    if not path:
        yield Problem(where, "must not be empty", mount.anchor)
    elif not path.startswith("/"):
        yield Problem(where, "should be an absolute path", mount.anchor, value=path, fatal=False)


def bind_source(mount: "Mount", kinds: "dict[str, int]") -> "Iterator[Problem]":
    """A bind mount binds something."""
    if "bind" in kinds and "remount" not in kinds and not mount.source:
        yield Problem(mount.pointer, "`source` is missing for a bind mount", mount.anchor)


def tmpfs_copy(mount: "Mount", kinds: "dict[str, int]") -> "Iterator[Problem]":
    """Only an empty filesystem in memory can begin with a copy of what it covers."""
    if "copyup" in kinds and mount.type != "tmpfs":
        where = mount.at("options", kinds["copyup"])
        yield Problem(where, "is only for a mount of type `tmpfs`", _OPTIONS, value="tmpcopyup")


def id_mapping(mount: "Mount", kinds: "dict[str, int]", has_user: bool) -> "Iterator[Problem]":
    """Mappings come for both kinds of ids; without any, those of the container's user namespace are used."""
    from boxwright.spec.validate_linux import mapping_ranges

    given = (mount.uid_mappings, mount.gid_mappings)
    if bool(given[0]) != bool(given[1]):
        missing, other = ("gidMappings", "uidMappings") if given[0] else ("uidMappings", "gidMappings")
        anchor = "config.md#configPOSIXMounts"
        yield Problem(mount.at(missing), f"must be given along with `{other}`", anchor)
    for mappings in given:
        yield from mapping_ranges(mappings)
    if "idmap" in kinds and not any(given) and not has_user:
        where = mount.at("options", kinds["idmap"])
        rule = "needs mappings of the mount or a namespace of type `user`"
        yield Problem(where, rule, _OPTIONS, value=mount.options[kinds["idmap"]])
