"""The guest's first root: which modules, in which order, in which archive."""

import lzma
import struct
import subprocess
from pathlib import Path

import pytest

import lacks
from boxwright.boxes.vm import initramfs
from boxwright.boxes.vm.cache import Cache
from boxwright.boxes.vm.cpio import archive
from boxwright.boxes.vm.initramfs import (
    CONSOLE,
    EROFS,
    EXT4,
    NETWORK,
    NINEP,
    features_of,
    make_initramfs,
    must_be_signed,
    without_signature,
)
from boxwright.boxes.vm.kernels import Kernel
from boxwright.boxes.vm.machine import Q35, USER_NETWORK, Disk, MachineSpec, Network, Share
from boxwright.boxes.vm.modules import ModuleTree, module_name
from boxwright.errors import HostError
from fixtures_machine import host_kernel

DEPENDENCIES = {
    "modules.dep": """\
kernel/drivers/char/virtio_console.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/net/virtio_net.ko.xz: kernel/net/net_failover.ko kernel/net/failover.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/net/net_failover.ko: kernel/net/failover.ko
kernel/net/failover.ko:
kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko
kernel/lib/libcrc32c.ko:
kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/crypto/crc32c_generic.ko:
kernel/fs/round.ko:
kernel/fs/about.ko:
""",
    "modules.softdep": """\
# Soft dependencies extracted from modules themselves.
softdep libcrc32c pre: crc32c
softdep round pre: about post: virtio
softdep about pre: round missing-one
softdep nonsense
""",
    "modules.builtin": "kernel/fs/ext4/ext4.ko\n",
    "modules.alias": "alias crc32c crc32c_intel\nalias crc32c crc32c_generic\nalias cpu:type:x86 crc32c_intel\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    directory = tmp_path / "modules"
    directory.mkdir()
    for name, text in DEPENDENCIES.items():
        (directory / name).write_text(text)
    for line in DEPENDENCIES["modules.dep"].splitlines():
        path = directory / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        content = f"the module {path.name}".encode()
        path.write_bytes(lzma.compress(content) if path.suffix == ".xz" else content)
    return directory


def names(tree: Path, *wanted: str) -> list[str]:
    return [module_name(path) for path in ModuleTree(str(tree)).files(wanted)]


# --- modules ----------------------------------------------------------------------------------------------------


def test_what_a_module_needs_comes_before_it_and_once(tree: Path) -> None:
    assert names(tree, "virtio_console", "virtio_net") == [
        "virtio_ring",
        "virtio",
        "virtio_console",
        "failover",
        "net_failover",
        "virtio_net",
    ]


def test_a_soft_dependency_is_found_by_its_alias_and_runs_on_every_processor(tree: Path) -> None:
    assert names(tree, "erofs") == ["crc32c_generic", "libcrc32c", "erofs"]


def test_a_circle_of_soft_dependencies_ends(tree: Path) -> None:
    assert names(tree, "round") == ["about", "round"]


def test_what_is_built_in_or_missing_has_no_file(tree: Path) -> None:
    modules = ModuleTree(str(tree))
    assert modules.has("ext4")
    assert modules.has("crc32c_intel")
    assert not modules.has("9p")
    assert modules.files(["ext4", "9p"]) == ()


@pytest.mark.parametrize(
    "path", ["a/virtio-net.ko", "virtio_net.ko.xz", "b/c/virtio-net.ko.zst", " virtio_net.ko.gz\n"]
)
def test_names_of_modules_are_as_the_kernel_has_them(path: str) -> None:
    assert module_name(path) == "virtio_net"


def test_a_tree_without_its_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"modules\.dep") as caught:
        ModuleTree(str(tmp_path))
    assert caught.value.hint == f"depmod {tmp_path.name}"


# --- the archive ------------------------------------------------------------------------------------------------


def extracted(content: bytes, directory: Path) -> dict[str, bytes]:
    """What cpio(1), whose format it is, makes of an archive."""
    lacks.need_program("cpio")
    directory.mkdir()
    subprocess.run(["cpio", "-i", "--quiet", "--no-absolute-filenames"], input=content, cwd=directory, check=True)
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_cpio_reads_our_archive(tmp_path: Path) -> None:
    files = {
        "init": (0o755, b"program"),
        "lib/a/one.ko": (0o644, b"1"),
        "lib/a/two.ko": (0o644, b""),
        "x": (0o600, b"12345"),
    }
    content = archive(files)
    assert extracted(content, tmp_path / "there") == {path: data for path, (_, data) in files.items()}
    assert (tmp_path / "there/init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "there/lib").stat().st_mode & 0o777 == 0o755


def test_directories_come_before_their_files_and_the_bytes_are_the_same_each_time() -> None:
    files = {"lib/a/one": (0o644, b"1"), "lib/two": (0o644, b"22")}
    content = archive(files)
    assert content == archive(dict(files))
    places = [content.index(name + b"\0") for name in (b"lib", b"lib/a", b"lib/a/one", b"lib/two", b"TRAILER!!!")]
    assert places == sorted(places)
    assert content.count(b"070701") == 5
    assert len(content) % 512 == 0


def initramfs_of(tree: Path, *features: str, init: bytes = b"the helper") -> initramfs.Initramfs:
    program = tree.parent / "helper"
    if not program.exists():
        program.write_bytes(init)
    return make_initramfs(Kernel("", "6.1", str(tree), ()), features, str(program), Cache(str(tree.parent / "cache")))


def test_the_archive_has_the_helper_and_the_modules_unpacked(tree: Path, tmp_path: Path) -> None:
    made = initramfs_of(tree, CONSOLE, NETWORK)
    found = extracted(Path(made.path).read_bytes(), tmp_path / "there")
    assert found["init"] == b"the helper"
    order = found["modules"].decode().splitlines()
    assert order == [f"/lib/{name}.ko" for name in names(tree, "virtio_console", "virtio_net")]
    assert found["lib/virtio_net.ko"] == b"the module virtio_net.ko.xz"
    assert set(found) == {"init", "modules", *(path.lstrip("/") for path in order)}


def test_what_the_kernel_lacks_is_told_and_refused_by_name(tree: Path) -> None:
    made = initramfs_of(tree, CONSOLE, NINEP, EXT4)
    assert made.features == {CONSOLE, EXT4}
    assert (NINEP, "9p") in made.missing
    made.require(CONSOLE)
    with pytest.raises(HostError, match="give the machine `9p`: the guest's kernel has no module `9p`"):
        made.require(NINEP)


def test_a_kernel_without_modules_gets_the_helper_alone(tree: Path, tmp_path: Path) -> None:
    helper = tmp_path / "helper"
    helper.write_bytes(b"the helper")
    made = make_initramfs(Kernel("", "6.1", "", ()), [CONSOLE], str(helper), Cache(str(tmp_path / "cache")))
    assert extracted(Path(made.path).read_bytes(), tmp_path / "there") == {"init": b"the helper", "modules": b""}
    assert made.missing == ((CONSOLE, "virtio_console"),)


def test_a_machine_gets_the_modules_of_its_devices_alone() -> None:
    spec = MachineSpec(1 << 28, "/k", "", 3)
    assert features_of(spec) == ("mmio", "console", "overlay")
    assert features_of(spec.replace(machine=Q35, shares=(Share("a", 4),))) == ("pci", "console", "overlay", "virtiofs")
    many = spec.replace(disks=(Disk(fd=5),) * 8, network=Network(USER_NETWORK), balloon=True)
    assert features_of(many) == ("pci", "console", "overlay", "disk", "erofs", "ext4", "network", "balloon")


def test_another_ramdisk_lies_under_ours(tree: Path, tmp_path: Path) -> None:
    base, helper = tmp_path / "initrd", tmp_path / "helper"
    base.write_bytes(b"a compressed one")
    helper.write_bytes(b"the helper")
    kernel, cache = Kernel("", "6.1", str(tree), ()), Cache(str(tmp_path / "cache"))
    plain = Path(make_initramfs(kernel, [CONSOLE], str(helper), cache).path)
    made = Path(make_initramfs(kernel, [CONSOLE], str(helper), cache, str(base)).path)
    assert made.read_bytes() == b"a compressed one" + plain.read_bytes()
    base.write_bytes(b"another one")  # 11 bytes: what follows begins at a multiple of four
    made = Path(make_initramfs(kernel, [CONSOLE], str(helper), cache, str(base)).path)
    assert made.read_bytes() == b"another one\0" + plain.read_bytes()
    with pytest.raises(HostError, match="missing` for the machine's initramfs: No such file"):
        make_initramfs(kernel, [CONSOLE], str(helper), cache, str(tmp_path / "missing"))


def test_it_is_made_again_when_a_file_of_it_changes(tree: Path) -> None:
    first = initramfs_of(tree, EROFS)
    assert initramfs_of(tree, EROFS) == first
    assert initramfs_of(tree, EROFS, CONSOLE).path != first.path
    (tree / "kernel/fs/erofs/erofs.ko").write_bytes(b"a newer module")
    second = initramfs_of(tree, EROFS)
    assert second.path != first.path
    assert b"a newer module" in Path(second.path).read_bytes()


def test_signatures_are_left_out_where_the_kernel_does_not_insist(tmp_path: Path) -> None:
    signature = bytes(300)
    signed = b"the module" + signature + struct.pack(">8xI", len(signature)) + b"~Module signature appended~\n"
    assert without_signature(signed) == b"the module"
    assert without_signature(b"the module") == b"the module"
    nonsense = b"x" + struct.pack(">8xI", 1 << 31) + b"~Module signature appended~\n"
    assert without_signature(nonsense) == nonsense
    (tmp_path / "config-6.1").write_text("CONFIG_MODULE_SIG=y\n# CONFIG_MODULE_SIG_FORCE is not set\n")
    (tmp_path / "config-6.2").write_text("CONFIG_MODULE_SIG=y\nCONFIG_MODULE_SIG_FORCE=y\n")
    (tmp_path / "config-6.3").write_text("CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY=y\n")
    assert [must_be_signed(f"6.{minor}", str(tmp_path)) for minor in (1, 2, 3, 4)] == [False, True, True, True]


def test_a_module_that_is_listed_but_not_there_is_named(tree: Path) -> None:
    (tree / "kernel/fs/erofs/erofs.ko").unlink()
    with pytest.raises(HostError, match=r"erofs\.ko` for the machine's initramfs"):
        initramfs_of(tree, EROFS)


def test_the_hosts_own_kernel_has_what_a_machine_needs(tmp_path: Path) -> None:
    kernel = host_kernel()
    helper = tmp_path / "helper"
    helper.write_bytes(b"the helper")
    wanted = (initramfs.MMIO, initramfs.CONSOLE, initramfs.DISK, initramfs.NETWORK, initramfs.VIRTIOFS)
    made = make_initramfs(kernel, wanted, str(helper), Cache(str(tmp_path / "cache")))
    assert made.missing == ()
    found = extracted(Path(made.path).read_bytes(), tmp_path / "there")
    loaded = [f"/lib/{module_name(path)}" for path in made.modules]
    assert [module_name(line) for line in found["modules"].decode().splitlines()] == [
        module_name(line) for line in loaded
    ]
    assert all(data.startswith(b"\x7fELF") for path, data in found.items() if path.startswith("lib/"))
