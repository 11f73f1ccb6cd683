"""Mounts, made and attached by descriptor, and the walls around what they show."""

import errno
import os
import stat
from pathlib import Path

import pytest

from boxwright.plan import ops
from boxwright.plan.ops import INIT
from boxwright.spec.constants import MOUNT_ATTR_RDONLY
from helper_harness import (
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    MS_PRIVATE,
    MS_REC,
    PRIVATE,
    host_root,
    output_of,
    plan_of,
    program,
    run_ops,
)

pytestmark = pytest.mark.root

O_PATH_DIR = os.O_PATH | os.O_DIRECTORY
MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 2, 4, 8
MS_SHARED = 1 << 20
ROOT, TREE, PLACE, NULL = 0, 1, 2, 3


def _tmpfs(slot=TREE, *params, attr=0):
    return ops.FsMount(slot, "tmpfs", ("source=made", *params), attr)


def _attach(path, tree=TREE, kind=ops.DIRECTORY):
    return ops.Resolve(PLACE, ROOT, path, kind, 0o755, 0), ops.MoveMount(tree, PLACE)


def _shown(directory, script, *operations):
    """What a script prints that runs after `operations` in a private mount namespace, with `directory` as ROOT."""
    opened = ops.Open(ROOT, str(directory), O_PATH_DIR)
    init = [*PRIVATE, opened, *operations, ops.SetCwd(str(directory), 0), *program(f"exec 2>&1; {script}")]
    text, reports = output_of(plan_of([ops.Clone(0)], (), init))
    assert not [r for r in reports if r.kind == ops.ERROR], reports
    return text


def _refused(directory, *operations):
    """The error that the last operation gives, after the same beginning."""
    reports = run_ops(*PRIVATE, ops.Open(ROOT, str(directory), O_PATH_DIR), *operations)
    (error,) = [r for r in reports if r.kind == ops.ERROR]
    assert error.op == len(operations) + len(PRIVATE)
    return error


def test_a_filesystem_is_attached_with_parameters_and_attributes(tmp_path):
    mount = _tmpfs(TREE, "size=64k", "mode=751", attr=MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
    text = _shown(tmp_path, "grep ' made ' /proc/self/mountinfo; stat -c %a m/deep", mount, *_attach("/m/deep"))
    assert f"{tmp_path}/m/deep rw,nosuid,nodev" in text
    assert "size=64k" in text
    assert text.endswith("751\n")
    assert (tmp_path / "m/deep").is_dir()
    assert not os.path.ismount(tmp_path / "m/deep")


def test_a_refused_parameter_is_named_with_the_kernels_words(tmp_path):
    error = _refused(tmp_path, _tmpfs(TREE, "mode=755", "szie=64k"))
    assert (error.error, error.value) == (errno.EINVAL, 2)
    assert error.text == "e tmpfs: Unknown parameter 'szie'"


def test_an_unknown_type_and_a_refused_creation_have_their_own_numbers(tmp_path):
    error = _refused(tmp_path, ops.FsMount(TREE, "nonexistentfs", (), 0))
    assert (error.error, error.value) == (errno.ENODEV, -1)
    error = _refused(tmp_path, ops.FsMount(TREE, "ext4", ("source=/nonexistent",), 0))
    assert (error.error, error.value) == (errno.ENOENT, -2)


def test_a_bind_mount_is_a_copy_of_the_tree(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("bound")
    tree = ops.OpenTree(TREE, ops.AT_HOST, str(tmp_path / "source"), 0)
    read_only = ops.SetAttr(TREE, MOUNT_ATTR_RDONLY, 0, 0, ops.NO_SLOT, 0)
    text = _shown(tmp_path, "cat target/file; : > target/file", tree, read_only, *_attach("/target"))
    assert text.startswith("bound")
    assert "Read-only file system" in text


def test_a_tree_in_a_root_is_resolved_in_that_root(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/here").touch()
    (tmp_path / "link").symlink_to("/etc")
    text = _shown(tmp_path, "ls target", ops.OpenTree(TREE, ROOT, "/link", 0), *_attach("/target"))
    assert text == "here\n"


def test_recursive_trees_carry_what_is_mounted_below(tmp_path):
    below = (_tmpfs(TREE), *_attach("/source/below"))
    for flags, kinds in ((0, "ext4"), (ops.RECURSIVE, "tmpfs")):
        tree = ops.OpenTree(4, ROOT, "/source", flags)
        text = _shown(tmp_path, "stat -f -c %T target/below", *below, tree, *_attach("/target", tree=4))
        assert ("tmpfs" in text) == (kinds == "tmpfs")


def test_attributes_and_propagation_are_set_on_a_whole_tree(tmp_path):
    tree = (_tmpfs(TREE), *_attach("/m"), _tmpfs(4), *_attach("/m/below", tree=4))
    shared = ops.SetAttr(TREE, MOUNT_ATTR_NOEXEC, 0, MS_SHARED, ops.NO_SLOT, 1)
    lines = _shown(tmp_path, "grep ' made ' /proc/self/mountinfo", *tree, shared).splitlines()
    assert len(lines) == 2
    assert all("noexec" in line and "shared:" in line for line in lines)


def test_a_superblock_is_reconfigured(tmp_path):
    change = (
        *_attach("/m"),
        ops.Resolve(PLACE, ROOT, "/m", ops.EXISTING, 0, 0),
        ops.Reconfigure(PLACE, ("size=128k",)),
    )
    assert "size=128k" in _shown(tmp_path, "grep ' made ' /proc/self/mountinfo", _tmpfs(TREE, "size=64k"), *change)
    bad = (*change[:-1], ops.Reconfigure(PLACE, ("size=1k", "bogus=1")))
    error = _refused(tmp_path, _tmpfs(), *bad)
    assert (error.value, error.error) == (1, errno.EINVAL)
    assert "bogus" in error.text


def test_an_id_mapped_mount_shows_other_owners(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").touch()
    mapped = (
        ops.Userns(5, "0 1000 100", "0 2000 100"),
        ops.OpenTree(TREE, ROOT, "/source", 0),
        ops.SetAttr(TREE, 0, 0, 0, 5, 0),
    )
    assert _shown(tmp_path, "stat -c '%u %g' target/file", *mapped, *_attach("/target")) == "1000 2000\n"


def test_refused_maps_are_an_error_and_leave_no_process(tmp_path):
    assert _refused(tmp_path, ops.Userns(5, "nonsense", "0 0 1")).error == errno.EINVAL


def test_copy_up_brings_everything_that_a_directory_of_files_has(tmp_path):
    source = tmp_path / "source"
    (source / "dir/below").mkdir(parents=True)
    (source / "dir/file").write_bytes(b"x" * 100_000)
    (source / "dir/file").chmod(0o4751)
    (source / "dir/below/link").symlink_to("/nowhere")
    os.mkfifo(source / "fifo", 0o640)
    os.chown(source / "dir", 11, 12)
    source.chmod(0o1770)
    os.utime(source / "dir", (1_000_000, 1_000_000))
    copied = (ops.Resolve(4, ROOT, "/source", ops.EXISTING, 0, 0), _tmpfs(), ops.CopyUp(TREE, 4), *_attach("/source"))
    script = (
        "cd source && stat -f -c %T . && stat -c '%n %f %u %g %s %Y' . dir fifo && md5sum dir/file && ls -l dir/below"
    )
    there = _shown(tmp_path, script, *copied)
    here = _shown(tmp_path, script)
    assert there.startswith("tmpfs\n")
    assert [line for line in there.splitlines()[1:] if "dir 4" not in line and not line.startswith(". ")] == [
        line for line in here.splitlines()[1:] if "dir 4" not in line and not line.startswith(". ")
    ]
    assert "dir 41ed 11 12" in there
    assert " 1000000" in there
    assert ". 43f8 0 0" in there


def test_copy_up_stops_where_another_filesystem_begins(tmp_path):
    inner = (_tmpfs(), *_attach("/source/inner"), ops.MakeDirAt(TREE, "secret", 0o755, 0, 0))
    copied = (
        ops.Resolve(4, ROOT, "/source", ops.EXISTING, 0, 0),
        _tmpfs(5),
        ops.CopyUp(5, 4),
        *_attach("/copy", tree=5),
    )
    assert _shown(tmp_path, "ls -A copy; ls -A copy/inner", *inner, *copied) == "inner\n"


# --- walls ------------------------------------------------------------------------------------------------------

DEV_NULL = ops.Open(NULL, "/dev/null", os.O_PATH)


def test_masked_files_read_empty_and_masked_directories_are_empty_and_read_only(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").touch()
    (tmp_path / "file").write_text("secret")
    masks = [ops.Mask(ROOT, path, NULL) for path in ("/one", "/file", "/two", "/none", "/file/none")]
    text = _shown(tmp_path, "ls one two; cat file; touch one/x; ls", DEV_NULL, *masks)
    assert "secret" not in text
    assert "Read-only file system" in text
    assert (tmp_path / "file").read_text() == "secret"


def test_masked_directories_share_one_filesystem(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    masks = [ops.Mask(ROOT, path, NULL) for path in ("/one", "/two")]
    one, two = _shown(tmp_path, "stat -c %d one two", DEV_NULL, *masks).split()
    assert one == two
    assert int(one) != tmp_path.stat().st_dev


def test_a_false_null_device_masks_nothing(tmp_path):
    """CVE-2025-31133."""
    (tmp_path / "file").touch()
    for false in ("/dev/zero", "/proc/sys/kernel/core_pattern"):
        error = _refused(tmp_path, ops.Open(NULL, false, os.O_PATH), ops.Mask(ROOT, "/file", NULL))
        assert error.error == errno.ENXIO


def test_read_only_paths_cannot_be_written_beneath_either(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    below = (_tmpfs(), *_attach("/dir/below"))
    walls = [ops.MakeReadonly(ROOT, path) for path in ("/dir", "/file", "/none")]
    text = _shown(tmp_path, "touch dir/x; touch dir/below/x; echo > file; touch y && echo ok", *below, *walls)
    assert text.count("Read-only file system") == 3
    assert text.endswith("ok\n")


# --- the root ---------------------------------------------------------------------------------------------------


CLONE = ops.Clone(CLONE_NEWNS | CLONE_NEWPID)


def test_the_pivoted_root_is_all_there_is(tmp_path):
    init = [
        *host_root(tmp_path),
        ops.PivotRoot(ROOT),
        *program("pwd; cut -d' ' -f5 /proc/self/mountinfo; echo $$"),
    ]
    text, reports = output_of(plan_of([CLONE], (), init))
    assert text.split() == ["/", "/", "/proc", "1"], reports


def test_the_moved_root_is_on_top_of_the_old_one(tmp_path):
    init = [
        *host_root(tmp_path),
        ops.MoveRoot(ROOT, str(tmp_path)),
        *program("pwd; ls /proc/1/exe; ls /sys | wc -l"),
    ]
    text, reports = output_of(plan_of([CLONE], (), init))
    assert text.split() == ["/", "/proc/1/exe", "0"], reports


def test_chroot_is_where_the_mounts_are_the_hosts(tmp_path):
    for name in ("bin", "lib", "lib64", "usr"):
        source = os.path.realpath(f"/{name}")
        (tmp_path / name).symlink_to(source)
    usr = (ops.OpenTree(TREE, ops.AT_HOST, "/usr", 0), *_attach("/usr"))
    (tmp_path / "usr").unlink()
    init = [*PRIVATE, ops.Open(ROOT, str(tmp_path), O_PATH_DIR), *usr, ops.Chroot(ROOT), *program("pwd; ls /")]
    text, reports = output_of(plan_of([ops.Clone(0)], (), init))
    assert text.split() == ["/", "bin", "lib", "lib64", "usr"], reports


def test_mounts_of_the_box_do_not_reach_the_host(tmp_path):
    before = Path("/proc/self/mountinfo").read_text()
    script = "mount -t tmpfs x /mnt && mount --make-rshared / && mount -t tmpfs y /opt && echo mounted"
    init = [
        *host_root(tmp_path),
        ops.PivotRoot(ROOT),
        ops.SetPropagation("/", MS_REC | MS_PRIVATE),
        *program(script),
    ]
    text, reports = output_of(plan_of([CLONE], (), init))
    assert text == "mounted\n", reports
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_trusted_procfs_takes_settings_whatever_is_mounted_over_the_hosts():
    fake = (_tmpfs(5), ops.Open(ROOT, "/proc", O_PATH_DIR), ops.MoveMount(5, ROOT))
    init = [ops.FsMount(4, "proc", ("subset=pid",), 0), *PRIVATE, *fake, ops.WriteAt(4, "self/comm", b"trusted")]
    assert run_ops(*init) == []
    assert run_ops(*init[:-1], ops.WriteAt(4, "sys/kernel/hostname", b"x"))[0].error == errno.ENOENT


def test_a_detached_tree_of_the_outer_is_attached_by_the_init(tmp_path):
    outer = [_tmpfs(), ops.Clone(CLONE_NEWNS), ops.Post(INIT)]
    init = [
        ops.Await(ops.OUTER),
        ops.SetPropagation("/", MS_REC | MS_PRIVATE),
        ops.Open(ROOT, str(tmp_path), O_PATH_DIR),
        *_attach("/m"),
        ops.MakeNode(ROOT, "/m/null", stat.S_IFCHR | 0o666, 1, 3, 0, 0),
        *program(f"stat -f -c %T {tmp_path}/m"),
    ]
    text, reports = output_of(plan_of(outer, (), init))
    assert text == "tmpfs\n", reports


def test_all_of_it_works_in_a_user_namespace(tmp_path):
    """Trees that the outer opened, a procfs, bound devices, masks and the pivot, without any right on the host."""
    (tmp_path / "stage").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("data\n")
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    maps = [ops.WriteChildFile(INIT, name, b"0 100000 1000\n") for name in ("uid_map", "gid_map")]
    outer = [
        ops.OpenTree(20, ops.AT_HOST, str(tmp_path / "data"), 0),
        ops.Clone(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID),
        *maps,
        ops.Post(INIT),
    ]
    dev = [
        ops.FsMount(21, "tmpfs", ("mode=755",), 0),
        ops.Resolve(PLACE, ROOT, "/mnt", ops.DIRECTORY, 0o755, 0),
        ops.MoveMount(21, PLACE),
        ops.OpenTree(22, ops.AT_HOST, "/dev/zero", 0),
        ops.Resolve(PLACE, ROOT, "/mnt/zero", ops.FILE, 0o666, 0),
        ops.MoveMount(22, PLACE),
        ops.Resolve(PLACE, ROOT, "/mnt/data", ops.LIKE, 0o755, 0, 20),
        ops.MoveMount(20, PLACE),
    ]
    walls = [DEV_NULL, *(ops.Mask(ROOT, path, NULL) for path in ("/proc/kcore", "/proc/keys", "/proc/fs", "/proc/irq"))]
    walls.append(ops.MakeReadonly(ROOT, "/proc/sys"))
    script = "cat /mnt/data/file; head -c 2 /mnt/zero | wc -c; ls /proc/irq /proc/fs; cat /proc/keys; id -u; echo $$"
    inside = [*host_root(tmp_path / "stage")]
    inside[1] = ops.OpenTree(TREE, ops.AT_HOST, "/", ops.RECURSIVE)
    init = [ops.Await(ops.OUTER), ops.BecomeRoot(), *inside, *dev, *walls, ops.PivotRoot(ROOT), *program(script)]
    text, reports = output_of(plan_of(outer, (), init))
    assert not [r for r in reports if r.kind == ops.ERROR], reports
    assert text.split() == ["data", "2", "/proc/fs:", "/proc/irq:", "0", "1"]
