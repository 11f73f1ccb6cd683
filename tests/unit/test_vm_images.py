"""Images of directories: when one is made again, when there is none, and what is removed."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from boxwright.boxes.vm import images
from boxwright.boxes.vm.cache import Cache
from boxwright.boxes.vm.images import image_of
from boxwright.boxes.vm.templates import DISK_BYTES
from boxwright.errors import HostError

MIB = 1 << 20
MakerFactory = Callable[..., None]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "cache"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "etc").mkdir(parents=True)
    (root / "etc/name").write_text("one\n")
    (root / "link").symlink_to("etc/name")
    return root


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakerFactory:
    """Put a program in the place of mkfs.erofs that writes a line for each time that it runs, and goes on as told."""
    program = tmp_path / "mkfs"

    def write(then: str = "") -> None:
        program.write_text(f"#!/bin/sh\necho made >> {tmp_path}/runs\n{then}\n")
        program.chmod(0o755)
        monkeypatch.setattr(images, "mkfs", lambda: str(program))

    write()
    return write


def settled(root: Path) -> str:
    """What the tree looks like, once a later change cannot have the same time as the last one."""
    while not (digest := images._digest(str(root), __file__)):
        time.sleep(0.02)
    return digest


def runs(tmp_path: Path) -> int:
    file = tmp_path / "runs"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_an_image_is_made_once_for_a_tree_that_stays_as_it_is(
    tmp_path: Path, tree: Path, cache: Cache, maker: MakerFactory
) -> None:
    settled(tree)
    first, second = image_of(str(tree), cache), image_of(str(tree), cache)
    assert first
    assert first == second
    assert runs(tmp_path) == 1
    found = os.stat(first)
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
    before = settled(tree)
    change(tree)
    assert settled(tree) != before


def test_there_is_no_image_of_a_tree_that_has_just_changed(
    tmp_path: Path, tree: Path, cache: Cache, maker: MakerFactory
) -> None:
    settled(tree)
    (tree / "etc/name").write_text("new\n")
    os.utime(tree / "etc/name", (0, 0))
    assert image_of(str(tree), cache) == ""
    assert runs(tmp_path) == 0


def test_there_is_no_image_of_a_tree_that_changes_meanwhile(
    tmp_path: Path, tree: Path, cache: Cache, maker: MakerFactory
) -> None:
    settled(tree)
    maker(f"touch {tree}/new")
    assert image_of(str(tree), cache) == ""
    assert runs(tmp_path) == 1
    assert os.listdir(cache.directory) == []


def test_a_maker_that_fails_is_quoted_and_leaves_nothing(tree: Path, cache: Cache, maker: MakerFactory) -> None:
    settled(tree)
    maker("echo disk on fire >&2; exit 3")
    with pytest.raises(HostError, match="disk on fire"):
        image_of(str(tree), cache)
    assert os.listdir(cache.directory) == []


def test_without_the_program_there_is_no_image(tree: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(tree)
    monkeypatch.setattr(images, "mkfs", lambda: "")
    assert image_of(str(tree), cache) == ""


@pytest.mark.parametrize(("limit", "most"), [("MOST_FILES", 3), ("MOST_BYTES", 3)])
def test_there_is_no_image_of_a_tree_that_is_too_large(
    tree: Path, cache: Cache, maker: MakerFactory, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    settled(tree)
    monkeypatch.setattr(images, limit, most)
    assert image_of(str(tree), cache) == ""


def test_images_are_removed_from_the_least_used_on_and_nothing_else_is(
    tree: Path, cache: Cache, maker: MakerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MOST_KEPT", 2)
    paths = [Path(cache.directory) / name for name in ("image-a", "image-b", "vmlinux-c")]
    for age_s, path in enumerate(paths, 1):
        path.touch()
        os.utime(path, (age_s, age_s))
    settled(tree)
    made = image_of(str(tree), cache)
    assert [path.exists() for path in paths] == [False, True, True]
    assert os.path.exists(made)


def test_an_image_that_is_found_counts_as_used(tree: Path, cache: Cache, maker: MakerFactory) -> None:
    settled(tree)
    path = image_of(str(tree), cache)
    os.utime(path, (0, 0))
    assert image_of(str(tree), cache) == path
    assert os.stat(path).st_mtime > time.time() - 60
