"""How the container's files reach the guest: virtiofsd serves a tree of bind mounts in the jail."""

from boxwright._record import Record
from boxwright.plan import ops
from boxwright.plan.builder import Builder
from boxwright.spec.types import Config, Mount

TAG = "boxwright"
AT = "/run/boxwright/share"


class Shares(Record):
    mounts: tuple[Mount, ...]
    config: Config
    root: str
    argv: tuple[str, ...]
    capabilities: int
    tag: str
    mounting: "ops.Plan"


def is_bind(mount: Mount) -> bool:
    return "bind" in mount.options or "rbind" in mount.options


def make_shares(config: Config, root_path: str, *, overlay: bool) -> Shares:
    mounts = [
        Mount("/share", "tmpfs", "share", ("nosuid", "nodev", "mode=755")),
        Mount("/share/root", "none", root_path, ("bind", "idmap", "nosuid", "nodev", *(("ro",) if overlay else ()))),
    ]
    guest = []
    for index, mount in enumerate(config.mounts):
        if is_bind(mount):
            mounts.append(mount.replace(destination=f"/share/vol/{index}", options=(*mount.options, "idmap")))
            guest.append(mount.replace(source=f"{AT}/vol/{index}"))
        else:
            guest.append(mount)
    b = Builder(())
    tree, at = b.slot(), b.slot()
    b.add(ops.OUTER, ops.MakeDirs(AT, 0o755))
    b.add(ops.OUTER, ops.MakeDirs("/run/boxwright/stage", 0o755))
    b.add(ops.OUTER, ops.FsMount(tree, "virtiofs", (f"source={TAG}",), 0))
    b.add(ops.OUTER, ops.AttachRoot(tree, AT, at))
    b.add(ops.OUTER, ops.Ready())
    argv = ("/usr/lib/qemu/virtiofsd", "--fd=3", "-o", "source=/share", "-o", "sandbox=chroot", "-o", "cache=auto",
            "-o", "xattr", "-o", "announce_submounts")  # fmt: skip
    return Shares(tuple(mounts), config.replace(mounts=tuple(guest)), f"{AT}/root", argv, 0x1FFFFFFFFFF, TAG, b.build())
