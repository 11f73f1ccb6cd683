"""Files of the host, paths inside an untrusted root, and what is made there."""

import errno
import os
import stat

import pytest

from boxwright.plan import ops
from boxwright.plan.namespaces import CLONE_FLAGS
from boxwright.spec.constants import MS_PRIVATE, MS_REC
from helper_harness import run_ops

pytestmark = pytest.mark.root

O_PATH_DIR = os.O_PATH | os.O_DIRECTORY


def _errors(*operations, **options):
    return [(report.op, report.error) for report in run_ops(*operations, **options)]


def _in_root(root, *operations):
    return _errors(ops.Open(0, str(root), O_PATH_DIR), *operations)


def test_a_procfs_has_to_be_one(tmp_path):
    """The handle by which labels and settings are written: no directory that is called so (CVE-2019-16884)."""
    proc_magic = 0x9FA0
    assert _errors(ops.Open(0, "/proc", O_PATH_DIR, proc_magic), ops.WriteAt(0, "self/comm", b"renamed")) == []
    (report,) = run_ops(ops.Open(0, str(tmp_path), O_PATH_DIR, proc_magic))
    assert (report.error, report.value) == (errno.EPERM, proc_magic)


def test_directories_are_made_with_their_parents_and_the_mode_asked_for(tmp_path):
    old = os.umask(0o077)
    try:
        assert _errors(ops.MakeDirs(f"{tmp_path}/a/b//c/", 0o751), ops.MakeDirs(f"{tmp_path}/a/b", 0o700)) == []
    finally:
        os.umask(old)
    assert [stat.S_IMODE((tmp_path / part).stat().st_mode) for part in ("a", "a/b", "a/b/c")] == [0o751] * 3


def test_write_neither_creates_nor_follows(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    assert _errors(ops.Write(f"{tmp_path}/none", b"x")) == [(0, errno.ENOENT)]
    assert _errors(ops.Write(f"{tmp_path}/link", b"x")) == [(0, errno.ELOOP)]
    assert _errors(ops.Write(f"{tmp_path}/file", b"n\0w")) == []
    assert (tmp_path / "file").read_bytes() == b"n\0w"


def test_write_at_stays_beneath_its_directory(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").touch()
    (tmp_path / "outside").touch()
    (tmp_path / "in/out").symlink_to("../outside")
    (tmp_path / "in/dir").symlink_to(".")
    directory = tmp_path / "in"
    assert _in_root(directory, ops.WriteAt(0, "dir/file", b"ok")) == []
    assert (directory / "file").read_text() == "ok"
    for name, error in (("../outside", errno.EXDEV), ("out", errno.ELOOP), ("/etc/passwd", errno.EXDEV)):
        assert _in_root(directory, ops.WriteAt(0, name, b"x")) == [(1, error)], name
    assert (tmp_path / "outside").read_text() == ""


def test_write_at_follows_no_magic_link_of_procfs_and_leaves_it_not():
    assert _in_root("/proc", ops.WriteAt(0, "self/cwd/file", b"x")) == [(1, errno.ELOOP)]
    assert _in_root("/", ops.WriteAt(0, "proc/self/comm", b"x")) == [(1, errno.EXDEV)]
    assert _in_root("/proc", ops.WriteAt(0, "self/comm", b"renamed")) == []


def test_write_at_meets_nothing_that_covers_procfs(tmp_path):
    """CVE-2025-52881: neither a file of somebody's nor another one of procfs, mounted over the one that is meant."""
    (tmp_path / "file").touch()
    for source in (tmp_path / "file", f"/proc/{os.getpid()}/comm"):
        cover = [
            *(ops.Unshare(CLONE_FLAGS["mount"]), ops.SetPropagation("/", MS_PRIVATE | MS_REC)),
            *(ops.Open(0, "/proc", O_PATH_DIR), ops.OpenTree(1, ops.AT_HOST, str(source), 0)),
            *(ops.Resolve(2, 0, f"{os.getpid()}/attr/exec", ops.EXISTING, 0, 0), ops.MoveMount(1, 2)),
        ]
        assert _errors(*cover) == []
        assert _errors(*cover, ops.WriteAt(0, f"{os.getpid()}/attr/exec", b"label")) == [(6, errno.EXDEV)]
    assert (tmp_path / "file").read_text() == ""


def test_chown_of_a_missing_file_is_no_error(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("/etc/passwd")
    assert _errors(ops.ChownAt(f"{tmp_path}/none", 1, 1), ops.ChownAt(str(link), 7, -1)) == []
    assert (link.lstat().st_uid, link.lstat().st_gid) == (7, os.getegid())
    assert os.stat("/etc/passwd").st_uid == 0


@pytest.mark.parametrize("uid", [-2, 1 << 32, (1 << 32) - 1])
def test_an_id_is_never_cut_to_32_bits(tmp_path, uid):
    assert _errors(ops.ChownAt(str(tmp_path), uid, -1)) == [(0, errno.EINVAL)]
    assert _errors(ops.SetUser(uid, 0, (), 0)) == [(0, errno.EINVAL)]


# --- Resolve ----------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def outside(tmp_path):
    """What must stay as it is."""
    made = tmp_path / "outside"
    made.mkdir()
    yield made
    assert list(made.iterdir()) == []


def _resolve(path, kind, *, mode=0o755, flags=0, like=ops.NO_SLOT):
    return ops.Resolve(1, 0, path, kind, mode, flags, like)


def test_what_is_missing_is_created(root):
    assert (
        _in_root(root, _resolve("/a/b/dir", ops.DIRECTORY, mode=0o700), _resolve("a/c/file", ops.FILE, mode=0o640))
        == []
    )
    modes = {p: stat.S_IMODE((root / p).stat().st_mode) for p in ("a", "a/b", "a/b/dir", "a/c", "a/c/file")}
    assert modes == {"a": 0o755, "a/b": 0o755, "a/b/dir": 0o700, "a/c": 0o755, "a/c/file": 0o640}
    assert (root / "a/c/file").is_file()


def test_existing_must_exist(root):
    assert _in_root(root, _resolve("/none", ops.EXISTING)) == [(1, errno.ENOENT)]
    assert _in_root(root, _resolve("/", ops.EXISTING), _resolve("", ops.DIRECTORY)) == []


def test_links_are_the_roots_own(root):
    (root / "run").mkdir()
    (root / "var").mkdir()
    (root / "var/run").symlink_to("/run")
    (root / "up").symlink_to("../../../../run")
    assert _in_root(root, _resolve("/var/run/a/b", ops.DIRECTORY), _resolve("/up/file", ops.FILE)) == []
    assert sorted(p.name for p in (root / "run").iterdir()) == ["a", "file"]


def test_an_absolute_link_to_the_host_leads_into_the_root(root, outside):
    (root / "escape").symlink_to(outside)
    assert _in_root(root, _resolve("/escape", ops.EXISTING)) == [(1, errno.ENOENT)]
    assert _in_root(root, _resolve("/escape/below", ops.DIRECTORY), _resolve("/escape/file", ops.FILE)) == []
    assert sorted(p.name for p in (root / str(outside)[1:]).iterdir()) == ["below", "file"]


def test_a_dangling_link_is_followed_inside_the_root(root, outside):
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/relative").symlink_to("er/../made")
    (root / "deep/absolute").symlink_to("/deep/er/x")
    (root / "deep/up").symlink_to("../../../../../.." + str(outside))
    (root / "chain").symlink_to("deep/relative")
    assert _in_root(root, _resolve("/chain/a", ops.DIRECTORY), _resolve("/deep/absolute", ops.FILE)) == []
    assert (root / "deep/made/a").is_dir()
    assert (root / "deep/er/x").is_file()
    assert _in_root(root, _resolve("/deep/up/y", ops.FILE)) == []
    assert (root / str(outside)[1:] / "y").is_file()


def test_links_that_lead_to_each_other_are_an_error(root):
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    assert _in_root(root, _resolve("/one/x", ops.DIRECTORY)) == [(1, errno.ELOOP)]


def test_no_symlinks_refuses_any_link(root):
    (root / "real").mkdir()
    (root / "proc").symlink_to("real")
    assert _in_root(root, _resolve("/proc", ops.DIRECTORY, flags=ops.NO_SYMLINKS)) == [(1, errno.ELOOP)]
    assert _in_root(root, _resolve("/proc/x", ops.DIRECTORY, flags=ops.NO_SYMLINKS)) == [(1, errno.ELOOP)]
    assert _in_root(root, _resolve("/real/x", ops.DIRECTORY, flags=ops.NO_SYMLINKS)) == []


def test_dots_lead_out_of_nothing(root):
    assert _in_root(root, _resolve("/../../a", ops.DIRECTORY)) == []
    assert (root / "a").is_dir()
    assert _in_root(root, _resolve("/none/../../outside/x", ops.DIRECTORY)) == [(1, errno.EXDEV)]


def test_a_magic_link_is_not_followed():
    assert _in_root("/proc", _resolve("/self/root", ops.EXISTING)) == [(1, errno.ELOOP)]
    assert _in_root("/proc", _resolve("/self/cwd/x", ops.DIRECTORY)) == [(1, errno.ELOOP)]


def test_a_kind_that_is_not_there_is_an_error(root):
    (root / "file").touch()
    (root / "dir").mkdir()
    assert _in_root(root, _resolve("/file", ops.DIRECTORY)) == [(1, errno.ENOTDIR)]
    assert _in_root(root, _resolve("/dir", ops.FILE)) == [(1, errno.EISDIR)]
    assert _in_root(root, _resolve("/file/x", ops.FILE)) == [(1, errno.ENOTDIR)]
    assert _in_root(root, _resolve("/x", 9)) == [(1, errno.EINVAL)]
    assert _in_root(root, _resolve("/" + "n" * 300, ops.FILE)) == [(1, errno.ENAMETOOLONG)]
    assert _in_root(root, _resolve("/a" * 3000, ops.FILE)) == [(1, errno.ENAMETOOLONG)]


def test_like_is_what_the_other_slot_is(root):
    like = (ops.Open(2, "/etc", os.O_PATH), ops.Open(3, "/etc/passwd", os.O_PATH))
    made = (_resolve("/dir", ops.LIKE, like=2), _resolve("/file", ops.LIKE, like=3))
    assert _in_root(root, *like, *made) == []
    assert (root / "dir").is_dir()
    assert (root / "file").is_file()
    assert _in_root(root, _resolve("/x", ops.LIKE)) == [(1, errno.EBADF)]


# --- what is made in a root ---------------------------------------------------------------------------------------

NULL = stat.S_IFCHR | 0o666


def test_a_node_is_made_with_mode_and_owner(root):
    node = ops.MakeNode(0, "/dev/sub/null", stat.S_IFCHR | 0o642, 1, 3, 5, 6)
    big = ops.MakeNode(0, "/dev/big", stat.S_IFBLK | 0o600, 259, 70000, 0, 0)
    assert _in_root(root, node, big, ops.MakeNode(0, "/fifo", stat.S_IFIFO | 0o622, 0, 0, 0, 0)) == []
    found = (root / "dev/sub/null").stat()
    assert (found.st_mode, found.st_uid, found.st_gid) == (stat.S_IFCHR | 0o642, 5, 6)
    assert found.st_rdev == os.makedev(1, 3)
    assert (root / "dev/big").stat().st_rdev == os.makedev(259, 70000)
    assert (root / "fifo").is_fifo()


def test_a_node_of_the_same_numbers_is_kept_and_another_refused(root):
    os.mknod(root / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (root / "file").touch()
    (root / "link").symlink_to("null")
    assert _in_root(root, ops.MakeNode(0, "/null", NULL, 1, 3, 0, 0)) == []
    assert stat.S_IMODE((root / "null").stat().st_mode) == 0o600
    for path, minor in (("/null", 5), ("/file", 3), ("/link", 3)):
        assert _in_root(root, ops.MakeNode(0, path, NULL, 1, minor, 0, 0)) == [(1, errno.EEXIST)]


def test_a_node_is_checked():
    def check(path, kind, major, minor):
        return _errors(ops.Open(0, path, os.O_PATH), ops.CheckNode(0, kind | 0o666, major, minor))

    assert check("/dev/null", stat.S_IFCHR, 1, 3) == []
    assert check("/dev", stat.S_IFDIR, 0, 0) == []
    for wrong in ((stat.S_IFCHR, 1, 5), (stat.S_IFCHR, 2, 3), (stat.S_IFBLK, 1, 3), (stat.S_IFIFO, 0, 0)):
        assert check("/dev/null", *wrong) == [(1, errno.ENODEV)]
    assert check("/dev/null", stat.S_IFCHR, 1 << 20, 3) == [(1, errno.EINVAL)]


def test_numbers_that_no_device_has_are_refused(root):
    for major, minor in ((-1, 0), (0, -1), (1 << 12, 0), (0, 1 << 20)):
        assert _in_root(root, ops.MakeNode(0, "/null", NULL, major, minor, 0, 0)) == [(1, errno.EINVAL)]


def test_dev_as_a_link_to_the_host_makes_nothing_there(root, outside):
    """CVE-2026-41579 and CVE-2026-47766."""
    (root / "dev").symlink_to(outside)
    made = (ops.MakeNode(0, "/dev/null", NULL, 1, 3, 0, 0), ops.MakeSymlink(0, "/dev/fd", "/proc/self/fd", ""))
    assert _in_root(root, *made) == []
    assert sorted(p.name for p in (root / str(outside)[1:]).iterdir()) == ["fd", "null"]


def test_a_symlink_is_made_once_and_only_if_its_source_is_there(root):
    (root / "source").touch()
    first, second = ops.MakeSymlink(0, "/d/l", "first", ""), ops.MakeSymlink(0, "/d/l", "second", "")
    there, not_there = ops.MakeSymlink(0, "/a", "x", "/source"), ops.MakeSymlink(0, "/b", "x", "/none/x")
    assert _in_root(root, first, second, there, not_there) == []
    assert os.readlink(root / "d/l") == "first"
    assert os.readlink(root / "a") == "x"
    assert not (root / "b").is_symlink()


@pytest.mark.parametrize("path", ["/", "", ".", "/a/.."])
def test_a_name_is_needed_for_what_is_made(root, path):
    (root / "a").mkdir()
    assert _in_root(root, ops.MakeSymlink(0, path, "x", "")) in ([(1, errno.EINVAL)], [(1, errno.ENOENT)])


def test_a_directory_is_made_with_its_owner(root):
    assert _in_root(root, ops.MakeDirAt(0, "a/b", 0o1777, 3, 4)) == []
    found = (root / "a/b").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o1777, 3, 4)
    (root / "l").symlink_to("a")
    assert _in_root(root, ops.MakeDirAt(0, "l/c", 0o755, 0, 0)) == [(1, errno.ELOOP)]
