"""Kernels: what a file says of itself, which is taken, and the kernel inside of it."""

import bz2
import gzip
import lzma
import os
import struct
import subprocess
from pathlib import Path

import pytest

import lacks
from boxwright.boxes.vm import kernels
from boxwright.boxes.vm.cache import Cache
from boxwright.boxes.vm.kernels import find_kernel, has_pvh_entry, newest, payload, read_kernel
from boxwright.boxes.vm.unpack import unpack
from boxwright.errors import HostError
from fixtures_machine import host_kernel


def elf_file(note_type: int = 18, name: bytes = b"Xen\0") -> bytes:
    """A 64-bit ELF file with one segment of notes: one of another name first, then the one asked for."""
    notes = struct.pack("<III", 4, 2, 7) + b"GNU\0" + b"ab\0\0" + struct.pack("<III", 4, 8, note_type) + name + bytes(8)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(notes), len(notes), 4)
    return header + segment + notes + b"Linux version %s\0Linux version 7.1.2-test (someone) #1\n\0"


def bzimage(version: str, packed: bytes, setup_sectors: int = 4) -> bytes:
    """As the kernel's Documentation/arch/x86/boot.rst has it."""
    setup = bytearray((setup_sectors + 1) * 512)
    setup[0x1F1] = setup_sectors
    setup[0x1FE:0x200] = b"\x55\xaa"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x20E, 0x400)
    text = f"{version} (build@host) #1 SMP\0".encode()
    setup[0x600 : 0x600 + len(text)] = text
    struct.pack_into("<II", setup, 0x248, 16, len(packed))
    return bytes(setup) + b"\xcc" * 16 + packed + b"\xcc" * 32


def with_size(packed: bytes, plain: bytes) -> bytes:
    """The kernel's build writes the size behind what it compresses."""
    return packed + struct.pack("<I", len(plain))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host of which /lib/modules is below `tmp_path`."""
    monkeypatch.setattr(kernels, "MODULE_ROOTS", (str(tmp_path / "modules"),))
    return tmp_path


def add(tree: Path, version: str, *, modules: bool = True, name: str = "") -> str:
    path = tree / (name or f"vmlinuz-{version}")
    path.write_bytes(bzimage(version, b"x"))
    if modules:
        (tree / "modules" / version).mkdir(parents=True)
        (tree / "modules" / version / "modules.dep").write_text("")
    return str(path)


# --- which one --------------------------------------------------------------------------------------------------


def test_the_version_is_what_the_file_says_not_its_name(tree: Path) -> None:
    path = add(tree, "6.1.0-9-cloud-amd64", name="vmlinuz-99.0")
    found = read_kernel(path)
    assert found.version == "6.1.0-9-cloud-amd64"
    assert found.modules == str(tree / "modules/6.1.0-9-cloud-amd64")


def test_the_newest_is_the_one_of_the_greatest_numbers(tree: Path) -> None:
    paths = [add(tree, version) for version in ("6.9.1", "6.10.0-2-generic", "6.10.0-10-generic", "5.19")]
    assert newest(paths).version == "6.10.0-10-generic"


def test_a_kernel_without_modules_is_not_taken(tree: Path) -> None:
    paths = [add(tree, "6.12", modules=False), add(tree, "6.1")]
    assert newest(paths).version == "6.1"
    assert find_kernel(paths[0]).modules == ""  # but when it is named


def test_where_there_is_none_the_error_says_what_to_install(tree: Path) -> None:
    with pytest.raises(HostError, match="there is none in /boot") as caught:
        newest([])
    assert "apt-get install linux-image-cloud-amd64" in str(caught.value.hint)
    with pytest.raises(HostError, match="none of those in /boot has its modules"):
        newest([add(tree, "6.12", modules=False)])


def test_an_unreadable_kernel_is_told_with_what_to_do(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = add(tree, "6.8.0-1-generic")
    os.chmod(path, 0)
    if os.access(path, os.R_OK):  # root: the kernel has nothing against it
        monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(HostError, match="Permission denied") as caught:
        newest([path])
    assert f"chmod 0644 {path}" in str(caught.value.hint)


def refuse(path: str, *_args: object, **_named: object) -> None:
    raise PermissionError(13, "Permission denied", path)


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", bytes(2048), b"MZ" + bytes(0x1FC)], ids=len)
def test_what_is_no_kernel_is_refused_with_its_line(tree: Path, content: bytes) -> None:
    path = tree / "vmlinuz"
    path.write_bytes(content)
    with pytest.raises(HostError, match="neither a bzImage nor an ELF") as caught:
        find_kernel(str(path), "/vm/kernel/path")
    assert caught.value.pointer == "/vm/kernel/path"


def test_a_missing_kernel_is_refused_with_its_line(tree: Path) -> None:
    with pytest.raises(HostError, match="No such file") as caught:
        find_kernel(str(tree / "none"), "/vm/kernel/path")
    assert caught.value.pointer == "/vm/kernel/path"


def test_the_version_of_an_elf_file_is_in_its_banner(tree: Path) -> None:
    (tree / "vmlinux").write_bytes(elf_file())
    assert read_kernel(str(tree / "vmlinux")).version == "7.1.2-test"


@pytest.mark.parametrize("version", ["..", ".", "6.1/../../../etc"])
def test_a_version_cannot_lead_out_of_the_modules(tree: Path, version: str) -> None:
    (tree / "modules").mkdir(exist_ok=True)
    (tree / "modules.dep").write_text("")
    assert kernels.modules_directory(version) == ""


# --- what is inside ---------------------------------------------------------------------------------------------


def legacy_lz4(plain: bytes) -> bytes:
    lacks.need_program("lz4")
    return subprocess.run(["lz4", "-lc"], input=plain, stdout=subprocess.PIPE, check=True).stdout


def zstd(plain: bytes) -> bytes:
    lacks.need_program("zstd")
    return subprocess.run(
        ["zstd", "-c"], input=plain, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    ).stdout


@pytest.mark.parametrize("pack", [lzma.compress, legacy_lz4, zstd], ids=["xz", "lz4", "zstd"])
def test_the_kernel_inside_is_unpacked(pack) -> None:
    plain = elf_file()
    assert payload(bzimage("6.1", with_size(pack(plain), plain)), "k") == plain
    assert payload(bzimage("6.1", with_size(pack(plain), plain), setup_sectors=31), "k") == plain


def test_gzip_has_the_size_as_its_own_last_bytes() -> None:
    plain = elf_file()
    assert payload(bzimage("6.1", gzip.compress(plain)), "k") == plain


def test_a_kernel_cut_short_is_refused() -> None:
    whole = bzimage("6.1", gzip.compress(elf_file()))
    with pytest.raises(HostError, match="cut short"):
        payload(whole[:2650], "k")
    with pytest.raises(HostError, match="no ELF file inside"):
        payload(bzimage("6.1", gzip.compress(b"something else")), "k")
    with pytest.raises(HostError, match="its compression is none that is known"):
        payload(bzimage("6.1", b"plainly not compressed"), "k")


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, legacy_lz4, zstd], ids=["gzip", "bzip2", "xz", "lz4", "zstd"]
)
def test_damaged_data_is_refused(pack) -> None:
    plain = os.urandom(2000)
    packed = bytearray(pack(plain))
    assert unpack(bytes(packed), "the thing") == plain
    with pytest.raises(HostError, match="cannot unpack the thing"):
        unpack(bytes(packed[:1500]), "the thing")
    if pack is not legacy_lz4:  # which has no checksum
        packed[1000] ^= 1
        with pytest.raises(HostError, match="cannot unpack the thing"):
            unpack(bytes(packed), "the thing")


def test_a_program_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_args, **_named: None)
    with pytest.raises(HostError, match="it needs the program `zstd`") as caught:
        unpack(b"\x28\xb5\x2f\xfd", "a module")
    assert caught.value.hint == "apt-get install zstd"


def test_the_pvh_entry_is_a_note_of_xens() -> None:
    assert has_pvh_entry(elf_file())
    assert not has_pvh_entry(elf_file(note_type=17))
    assert not has_pvh_entry(elf_file(name=b"GNU\0"))
    assert not has_pvh_entry(b"\x7fELF")


def test_the_boot_image_is_the_elf_file_or_the_kernel_itself(tree: Path) -> None:
    cache = Cache(str(tree / "cache"))
    for name, elf, pvh in (("with", elf_file(), True), ("without", elf_file(note_type=1), False)):
        path = tree / name
        path.write_bytes(bzimage("6.1", gzip.compress(elf)))
        for _ in range(2):
            image = kernels.boot_image(read_kernel(str(path)), cache)
            assert image.pvh is pvh
            assert Path(image.path).read_bytes() == (elf if pvh else path.read_bytes())


def test_a_kernel_that_is_changed_is_unpacked_again(tree: Path) -> None:
    cache = Cache(str(tree / "cache"))
    path = tree / "vmlinuz"
    path.write_bytes(bzimage("6.1", gzip.compress(elf_file())))
    before = kernels.boot_image(read_kernel(str(path)), cache)
    path.write_bytes(bzimage("6.2", gzip.compress(elf_file() + b"more")))
    after = kernels.boot_image(read_kernel(str(path)), cache)
    assert after.path != before.path
    assert Path(after.path).read_bytes().endswith(b"more")


def test_the_hosts_own_kernel_is_unpacked_and_has_the_pvh_entry(tmp_path: Path) -> None:
    kernel = host_kernel()
    image = kernels.boot_image(kernel, Cache(str(tmp_path / "cache")))
    assert image.pvh
    with open(image.path, "rb") as file:
        assert f"Linux version {kernel.version} ".encode() in file.read()
