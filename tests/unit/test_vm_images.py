"""Images of directories: when one is made again, and what is removed."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from boxwright.boxes.vm import images
from boxwright.boxes.vm.cache import Cache
from boxwright.boxes.vm.ids import disk_ids, mapped_ids
from boxwright.boxes.vm.images import DISK_BYTES, EXT4, Image, Maker, evict, find_maker, image_of, look_at, mounting
from boxwright.errors import HostError, UnsupportedError
from boxwright.plan import ops
from boxwright.spec.types import IDMapping, Linux, Namespace

MIB = 1 << 20


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "cache"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory of some files, long enough ago not to be fresh for `settled`."""
    root = tmp_path / "tree"
    (root / "etc").mkdir(parents=True)
    (root / "etc/name").write_text("one\n")
    (root / "link").symlink_to("etc/name")
    return root


def settled(root: Path) -> None:
    """Wait until a later change cannot have the same time as the last one."""
    while look_at(str(root)).fresh:
        time.sleep(0.02)


def counting(tmp_path: Path, then: str = "") -> Maker:
    """A maker that writes a line for each time that it runs."""
    program = tmp_path / "mke2fs"
    program.write_text(f"#!/bin/sh\necho made >> {tmp_path}/runs\n{then}\n")
    program.chmod(0o755)
    return Maker(EXT4, str(program))


def runs(tmp_path: Path) -> int:
    file = tmp_path / "runs"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_an_image_is_made_once_for_a_tree_that_stays_as_it_is(tmp_path: Path, tree: Path, cache: Cache) -> None:
    settled(tree)
    maker = counting(tmp_path)
    first, second = image_of(str(tree), cache, maker), image_of(str(tree), cache, maker)
    assert first == second
    assert runs(tmp_path) == 1
    found = os.stat(first.path)
    assert (found.st_size, stat.S_IMODE(found.st_mode)) == (DISK_BYTES, 0o444)
    assert found.st_blocks * 512 < MIB


def same_size_and_time(root: Path) -> None:
    """Other content, of the same size, and with the time of modification set back."""
    file = root / "etc/name"
    before = file.stat()
    file.write_text("two\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        same_size_and_time,
        lambda root: (root / "etc/name").chmod(0o600),
        lambda root: (root / "etc/name").rename(root / "etc/other"),
        lambda root: (root / "new").touch(),
        lambda root: os.link(root / "etc/name", root / "hard"),
        lambda root: (root / "etc").chmod(0o700),
        lambda root: root.chmod(0o700),
        lambda root: ((root / "link").unlink(), (root / "link").symlink_to("etc/none")),
    ],
    ids=["content", "mode", "name", "file", "hard link", "directory", "root", "link"],
)
def test_whatever_changes_in_the_tree_makes_it_another(tree: Path, change: Callable[[Path], object]) -> None:
    settled(tree)
    before = look_at(str(tree)).digest
    change(tree)
    assert look_at(str(tree)).digest != before


def test_an_image_of_a_tree_that_was_just_changed_is_not_found_again(
    tmp_path: Path, tree: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_SETTLED_NS", 10**18)
    maker = counting(tmp_path)
    assert image_of(str(tree), cache, maker).path != image_of(str(tree), cache, maker).path
    assert runs(tmp_path) == 2


def test_a_tree_that_changes_meanwhile_is_an_error_and_leaves_nothing(tmp_path: Path, tree: Path, cache: Cache) -> None:
    settled(tree)
    with pytest.raises(HostError, match="changed meanwhile"):
        image_of(str(tree), cache, counting(tmp_path, f"touch {tree}/new"))
    assert os.listdir(cache.directory) == []


def test_a_maker_that_fails_is_quoted_and_leaves_nothing(tmp_path: Path, tree: Path, cache: Cache) -> None:
    settled(tree)
    with pytest.raises(HostError, match="status 3") as caught:
        image_of(str(tree), cache, counting(tmp_path, "echo disk on fire >&2; exit 3"))
    assert "it wrote: disk on fire" in caught.value.details
    assert os.listdir(cache.directory) == []


def test_a_tree_with_something_mounted_in_it_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = os.lstat(tree).st_dev
    monkeypatch.setattr(images.os, "lstat", lambda path: moved(Path(path).stat(follow_symlinks=False), path, device))
    with pytest.raises(UnsupportedError, match="etc") as caught:
        look_at(str(tree))
    assert caught.value.property == "root.path"


def moved(found: os.stat_result, path: str, device: int) -> os.stat_result:
    """As if another device were mounted on `etc`."""
    values = list(found)
    values[stat.ST_DEV] = device + path.endswith("/etc")
    return os.stat_result(values, {"st_mtime_ns": 0, "st_ctime_ns": 0})


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No such file"):
        look_at(str(tmp_path / "none"))


def entry(cache: Cache, name: str, age_s: float, size: int = 0) -> Path:
    path = Path(cache.directory) / name
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_images_not_used_for_long_are_removed_and_nothing_else(cache: Cache) -> None:
    new, old = entry(cache, "image-a.erofs", 10), entry(cache, "image-b.erofs", 1000)
    other, draft = entry(cache, "vmlinux-c", 1000), entry(cache, "draft-1-a", 1000)
    evict(cache, most_age_s=100)
    assert [path.exists() for path in (new, old, other, draft)] == [True, False, True, False]


def test_images_are_removed_from_the_least_used_on_where_they_are_too_large(cache: Cache) -> None:
    paths = [entry(cache, f"image-{age}.ext4", age, 64 * 1024) for age in (10, 20, 30)]
    evict(cache, most_bytes=150 * 1024)
    assert [path.exists() for path in paths] == [True, True, False]


def test_the_newest_image_stays_however_large(cache: Cache) -> None:
    path = entry(cache, "image-a.ext4", 1000, MIB)
    evict(cache, most_bytes=1, most_age_s=1)
    assert path.exists()


def test_an_image_that_is_found_counts_as_used(tmp_path: Path, tree: Path, cache: Cache) -> None:
    settled(tree)
    maker = counting(tmp_path)
    path = image_of(str(tree), cache, maker).path
    os.utime(path, (0, 0))
    image_of(str(tree), cache, maker)
    assert os.stat(path).st_mtime > time.time() - 60


def test_without_a_program_for_it_there_is_a_hint(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        find_maker((str(tmp_path),))
    assert caught.value.hint == "install `erofs-utils`, or `e2fsprogs`"


def test_the_guest_mounts_it_read_only_and_maps_owners_where_they_differ() -> None:
    image = Image("/cache/image", EXT4)
    plain = mounting(image, None, mapped_ids(None, 1_000_000))
    assert not any(isinstance(step.op, ops.SetAttr) for step in plan_steps(plain))
    fsmount = next(step.op for step in plan_steps(plain) if isinstance(step.op, ops.FsMount))
    assert (fsmount.params, fsmount.attr) == (("source=/dev/vda", "ro"), 1)
    maps = (IDMapping(0, 300000, 65536),)
    linux = Linux(namespaces=(Namespace("user"),), uid_mappings=maps, gid_mappings=maps)
    found = [step.op for step in plan_steps(mounting(image, linux, disk_ids(linux, 1_000_000)))]
    assert ops.Userns(2, "300000 0 65536\n", "300000 0 65536\n") in found


def plan_steps(plan: ops.Plan) -> tuple[ops.Step, ...]:
    return plan.outer
