"""The cache of what machines are booted from: ours alone, whole or not there."""

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from boxwright.boxes.vm.cache import SYSTEM_DIRECTORY, Cache, default_directory, digest_of
from boxwright.errors import HostError


def test_its_place_is_the_caches_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    assert default_directory() == "/some/cache/boxwright"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_directory() == "/home/me/.cache/boxwright"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_directory() == SYSTEM_DIRECTORY


def test_it_is_made_for_nobody_else(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "above" / "cache"))
    assert stat.S_IMODE(os.stat(cache.directory).st_mode) == 0o700
    path = cache.put("entry", b"content")
    # nobody else comes in; and a hypervisor that is somebody else has this one file bound where it can see it
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o444
    assert cache.get_made("entry", lambda: pytest.fail("made again")) == b"content"


def test_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(HostError, match="Operation not permitted") as caught:
        Cache(str(tmp_path))
    assert "mode 0700" in str(caught.value.hint)


def test_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(0o700)
    (tmp_path / "link").symlink_to("there")
    with pytest.raises(HostError, match="cannot use the cache"):
        Cache(str(tmp_path / "link"))


def test_a_directory_of_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(HostError, match="cannot use the cache"):
        Cache(str(tmp_path / "cache"))


def test_only_files_of_ours_are_entries(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    os.symlink("/etc/passwd", f"{cache.directory}/link")
    os.mkdir(f"{cache.directory}/directory")
    assert cache.find("link") is None
    assert cache.find("directory") is None
    assert cache.get("missing") is None
    path = cache.make("link", lambda: b"ours")
    assert not os.path.islink(path)
    assert cache.get("link") == b"ours"


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    assert cache.make("entry", lambda: b"first") == cache.make("entry", lambda: pytest.fail("made again"))


def test_machines_that_start_together_make_an_entry_once(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    made: list[int] = []

    def make(number: int) -> None:
        def content() -> bytes:
            made.append(number)
            time.sleep(0.05)
            return b"content"

        assert cache.get_made("entry", content) == b"content"

    threads = [threading.Thread(target=make, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_what_is_not_used_any_more_goes_when_another_of_its_kind_comes(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    for path in [cache.put(name, b"") for name in ("vmlinux-old", "vmlinux-used", "vmlinux-x.1.ab", "accel-old")]:
        os.utime(path, (1, 1))
    assert cache.find("vmlinux-used")
    cache.put("vmlinux-new", b"")
    assert sorted(os.listdir(cache.directory)) == ["accel-old", "vmlinux-new", "vmlinux-used"]


def test_a_failure_leaves_no_part_of_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(str(tmp_path / "cache"))

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(HostError, match="No space left") as caught:
        cache.put("entry", b"content")
    assert "make room" in str(caught.value.hint)
    assert os.listdir(cache.directory) == []


def test_the_digest_tells_values_apart() -> None:
    assert digest_of("a", (1, 2)) == digest_of("a", (1, 2))
    assert len({digest_of("a", "b"), digest_of("ab"), digest_of(("a", "b")), digest_of("a", "b", "")}) == 4
