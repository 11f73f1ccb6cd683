"""Which mounts the jail and the guest get for the container's files, and what is refused."""

import stat

import pytest

from boxwright.boxes.vm import virtiofsd
from boxwright.boxes.vm.guest import guest_root
from boxwright.boxes.vm.ids import JailIds, disk_ids, mapped_ids
from boxwright.boxes.vm.shares import AT, Shares, make_shares, refuse_kinds, sources
from boxwright.boxes.vm.virtiofsd import Virtiofsd, command, options_in
from boxwright.errors import HostError, UnsupportedError
from boxwright.plan import ops
from boxwright.plan.mounts import fold
from boxwright.spec.constants import (
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
)
from boxwright.spec.decode import decode
from boxwright.spec.jsontext import encode_json
from boxwright.spec.types import Config, Mount

BASE = 1_000_000
MAPPED, ON_DISK = mapped_ids(None, BASE), disk_ids(None, BASE)
CONFINED = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
DEV = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}


def config(*mounts: dict[str, object], **linux: object) -> Config:
    document = {"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "mounts": list(mounts), "linux": linux}
    return decode(encode_json(document).encode())


def bind(source: str, *options: str, **more: object) -> dict[str, object]:
    return {"destination": "/data", "type": "none", "source": source, "options": list(options), **more}


def shared(*mounts: dict[str, object], ids: JailIds = MAPPED, overlay: bool = False, **linux: object) -> Shares:
    return make_shares(config(*mounts, **linux), "/bundle/rootfs", "/bundle", ids, overlay=overlay)


def volume(*options: str, ids: JailIds = MAPPED, **more: object) -> Mount:
    """The jail's mount of one volume."""
    return shared(DEV, bind("/srv/data", *options, **more), ids=ids).mounts[2]


def test_the_tree_holds_the_root_and_each_bind_mount_by_its_number_and_is_closed() -> None:
    found = shared(DEV, bind("/srv/data", "rbind"), bind("files", "bind"))
    assert [(m.destination, m.source) for m in found.mounts] == [
        ("/share", "share"),
        ("/share/root", "/bundle/rootfs"),
        ("/share/vol/1", "/srv/data"),
        ("/share/vol/2", "/bundle/files"),
        ("/share", "none"),
    ]
    closed = fold(found.mounts[-1].options)
    assert closed.remount
    assert closed.attr_set & MOUNT_ATTR_RDONLY


def test_the_guests_mounts_come_from_the_share_and_keep_their_lines() -> None:
    found = shared(DEV, bind("/srv/data", "rbind", "idmap", "ro", "noexec"))
    mount = found.config.mounts[1]
    assert (mount.source, mount.options) == (f"{AT}/vol/1", ("rbind", "ro", "noexec"))
    assert mount.at("source") == found.mounts[2].at("source") == "/mounts/1/source"
    assert found.root == f"{AT}/root"


@pytest.mark.parametrize("options", [(), ("suid", "dev", "exec"), ("rsuid", "rdev", "rexec")])
def test_nothing_that_is_shared_has_devices_or_programs_in_the_jail(options: tuple[str, ...]) -> None:
    for mount in shared(DEV, bind("/srv/data", "rbind", *options)).mounts[1:3]:
        folded = fold(mount.options)
        assert folded.attr_set & CONFINED == CONFINED
        assert folded.rec_set & CONFINED == CONFINED


@pytest.mark.parametrize(
    ("options", "readonly"),
    [
        (("ro",), True),
        (("rro",), True),
        (("rw",), False),
        (("ro", "rw"), False),
        (("ro", "rrw"), False),
        ((), False),
    ],
)
def test_read_only_is_the_hosts_doing_with_all_below(options: tuple[str, ...], readonly: bool) -> None:
    folded = fold(volume("rbind", *options).options)
    assert bool(folded.attr_set & MOUNT_ATTR_RDONLY) is readonly
    assert bool(folded.rec_set & MOUNT_ATTR_RDONLY) is readonly


def test_access_times_are_the_hosts_filesystems() -> None:
    assert fold(volume("rbind", "noatime").options).attr_set & MOUNT_ATTR_NOATIME


def test_a_root_under_an_overlay_is_read_only_on_the_host() -> None:
    assert not fold(shared(DEV).mounts[1].options).attr_set & MOUNT_ATTR_RDONLY
    assert fold(shared(DEV, overlay=True).mounts[1].options).attr_set & MOUNT_ATTR_RDONLY


def test_an_error_of_the_shared_root_names_the_roots_line() -> None:
    assert shared(DEV).mounts[1].at("source") == "/root/path"


def test_shares_are_id_mapped_as_a_whole_or_not_at_all() -> None:
    for mount in shared(DEV, bind("/srv/data", "bind")).mounts[1:3]:
        assert fold(mount.options).idmap == 2
        assert [m.host_id for m in mount.uid_mappings] == [BASE]
    for mount in shared(DEV, bind("/srv/data", "bind"), ids=ON_DISK).mounts[1:3]:
        assert fold(mount.options).idmap == 0
        assert not mount.uid_mappings


def test_a_mount_with_maps_of_its_own_keeps_them_in_a_jail_with_the_disks_ids() -> None:
    maps = [{"containerID": 5, "hostID": 0, "size": 1}]
    mount = volume("bind", "idmap", ids=ON_DISK, uidMappings=maps, gidMappings=maps)
    assert fold(mount.options).idmap == 1
    assert [(m.container_id, m.host_id) for m in mount.uid_mappings] == [(5, 0)]


def test_the_kernels_own_files_are_the_guests() -> None:
    mounts = [bind("/sys", "rbind"), bind("/proc/../sys/fs/cgroup/", "bind"), bind("/proc", "rbind")]
    found = shared(DEV, *mounts)
    assert len(found.mounts) == 3
    assert [mount.source for mount in found.config.mounts[1:]] == ["/sys", "/proc/../sys/fs/cgroup/", "/proc"]


def test_what_only_begins_like_the_kernels_files_is_shared() -> None:
    assert shared(DEV, bind("/system", "bind")).mounts[2].source == "/system"


@pytest.mark.parametrize("source", ["/dev", "/dev/shm", "//dev/./kvm"])
def test_devices_and_shared_memory_of_the_host_are_refused(source: str) -> None:
    with pytest.raises(UnsupportedError, match="not the guest's") as caught:
        sources(config(DEV, bind(source, "bind")), "/root", "/bundle", overlay=False)
    assert caught.value.property == "/mounts/1/source"


@pytest.mark.parametrize("option", ["shared", "rshared", "slave", "rslave"])
def test_propagation_is_refused(option: str) -> None:
    with pytest.raises(UnsupportedError, match="mount table") as caught:
        shared(DEV, bind("/srv/data", "rbind", option))
    assert caught.value.property == "/mounts/1/options"


@pytest.mark.parametrize("option", ["private", "rprivate", "unbindable", "runbindable"])
def test_what_nothing_propagates_to_may_be_shared(option: str) -> None:
    assert shared(DEV, bind("/srv/data", "rbind", option)).mounts[2].source == "/srv/data"


@pytest.mark.parametrize("kind", [stat.S_IFSOCK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
def test_what_connects_to_the_hosts_kernel_is_refused_by_its_line(kind: int) -> None:
    wanted = sources(config(DEV, bind("/run/some", "bind")), "/root", "/bundle", overlay=False)
    with pytest.raises(UnsupportedError, match="`/run/some`") as caught:
        refuse_kinds({"/root": stat.S_IFDIR, "/run/some": kind | 0o600}, wanted)
    assert caught.value.property == "/mounts/1/source"


def test_files_directories_and_what_is_not_there_are_not_refused() -> None:
    wanted = sources(
        config(DEV, bind("/a", "bind"), bind("/b", "bind"), bind("/c", "bind")), "/root", "/bundle", overlay=False
    )
    refuse_kinds({"/a": stat.S_IFREG | 0o644, "/b": stat.S_IFDIR | 0o755}, wanted)
    assert [source.path for source in wanted] == ["/root", "/a", "/b", "/c"]


def test_a_container_without_a_dev_gets_one_of_the_guests() -> None:
    assert [mount.destination for mount in shared().config.mounts] == ["/dev"]
    assert shared(overlay=True).config.mounts == ()
    assert len(shared(DEV).config.mounts) == 1


def test_a_device_node_on_shared_files_is_refused() -> None:
    node = {"type": "c", "path": "/srv/null", "major": 1, "minor": 3}
    with pytest.raises(UnsupportedError, match="no device node") as caught:
        shared(DEV, devices=[node])
    assert caught.value.property == "/linux/devices/0/path"
    assert shared(DEV, overlay=True, devices=[node]).config.linux


def test_the_guest_mounts_the_tree_once() -> None:
    plan = shared(DEV).mounting
    assert plan is not None
    made = [step.op for step in plan.outer]
    assert ops.FsMount(0, "virtiofs", ("source=boxwright",), 0) in made
    assert ops.AttachRoot(0, AT, 1) in made


def test_a_root_that_is_shared_by_parts_is_put_together_in_the_guest() -> None:
    branches = ((("etc", "/etc"), ("usr", "/usr")), (("bin", "usr/bin"),), ("var",))
    found = make_shares(config(DEV), "/", "/bundle", ON_DISK, overlay=True, branches=branches)
    parts = found.mounts[1:-1]
    assert [(m.destination, m.source) for m in parts] == [
        ("/share/root/etc", "/etc"),
        ("/share/root/usr", "/usr"),
        ("/share/root/var", "/var"),
    ]
    for mount in parts:
        folded = fold(mount.options)
        assert folded.attr_set & folded.rec_set & MOUNT_ATTR_RDONLY
        assert folded.rec_set & CONFINED == CONFINED
        assert mount.at("source") == "/root/path"
    root = guest_root(found.root, overlay=True, size_bytes=0, branches=branches)
    assert (root.binds, root.links, root.branches) == (("etc", "usr", "var"), (("bin", "usr/bin"),), ())


def test_nothing_shared_is_no_mount_and_no_server() -> None:
    found = make_shares(config(DEV), "", "/bundle", MAPPED, overlay=True)
    assert (found.mounts, found.mounting, found.root) == ((), None, "")


# --- virtiofsd --------------------------------------------------------------------------------------------------

C_HELP = """usage: virtiofsd [options]
    -o sandbox=namespace|chroot
    -o xattr|no_xattr          enable/disable xattr
    --rlimit-nofile=<num>      set maximum number of file descriptors
    --fd=FDNUM                 fd number of vhost-user socket
"""
RUST_HELP = """Usage: virtiofsd [OPTIONS]
      --shared-dir <SHARED_DIR>
      --fd <FD>
      --sandbox <SANDBOX>
      --seccomp <SECCOMP>
      --cache <CACHE>
      --xattr
      --modcaps <MODCAPS>
      --rlimit-nofile <RLIMIT_NOFILE>
"""


def test_the_one_in_c_takes_its_options_by_o() -> None:
    server = Virtiofsd("/v", options_in(C_HELP))
    words = command(server, "/share", 3)
    assert server.is_c
    assert words[:3] == ("/v", "--fd=3", "--rlimit-nofile=0")
    assert {"source=/share", "sandbox=chroot", "cache=auto", "announce_submounts", "modcaps=-mknod"} <= set(words)


def test_the_one_in_rust_is_told_only_what_it_knows() -> None:
    server = Virtiofsd("/v", options_in(RUST_HELP))
    words = command(server, "/share", 3)
    assert not server.is_c
    assert words[1:6] == ("--shared-dir=/share", "--fd=3", "--sandbox=chroot", "--seccomp=kill", "--cache=auto")
    assert "--announce-submounts" not in words


def test_another_program_is_not_taken_for_one() -> None:
    with pytest.raises(HostError, match="neither"):
        options_in("usage: cat [FILE]")


def test_making_devices_is_none_of_its_rights() -> None:
    assert not {"CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH"} & set(virtiofsd.CAPABILITIES)
