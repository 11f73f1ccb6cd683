"""A throw-away machine where CRIU works: Debian's kernel and CRIU in QEMU, without hardware virtualisation.

What is dear to make (a root filesystem with Python and CRIU, the kernel) is kept in the cache as a disk image, which
no run writes to.
"""

import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import lacks
from fixtures_roots import DEBIAN_SUITE, cached
from fixtures_runtime import REPOSITORY

HERE = Path(__file__).parent
PACKAGES = ("busybox-static", "criu", "iproute2", "iptables", "kmod", "nftables", "procps", "python3-minimal")
MODULES = (
    "virtio/virtio_ring",
    "virtio/virtio",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_pci",
    "block/virtio_blk",
)
KERNEL = "linux-image-cloud-amd64"
ROOT_MIB = 800
TIMEOUT_SECONDS = 240

COMMAND = """\
#!/usr/bin/python3 -ISXutf8
import sys

sys.path.insert(0, "/mnt/src")
from boxwright.cli.main import main

sys.exit(main())
"""


def prepare() -> Path:
    """The directory with the guest's kernel, initramfs and root; skips by name what it cannot be had without."""
    lacks.need_root()
    lacks.need("an x86-64 host", platform.machine() == "x86_64")
    lacks.need_program("qemu-system-x86_64", "debootstrap", "apt-get", "dpkg-deb", "busybox", "mke2fs")
    return cached(f"criu-guest-{DEBIAN_SUITE}", _make)


def run(guest: Path, *words: str) -> str:
    """Boot it, run the script, and give what the console said; `words` are for the kernel's command line."""
    with tempfile.TemporaryDirectory(prefix="boxwright-guest-") as name:
        disk = _disk(Path(name))
        drives = [f"file={guest}/root.img,format=raw,if=virtio,snapshot=on", f"file={disk},format=raw,if=virtio"]
        command = ["qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-m", "1024", "-nodefaults", "-no-user-config"]
        command += ["-display", "none", "-no-reboot", "-serial", "stdio"]
        command += ["-kernel", f"{guest}/vmlinuz", "-initrd", f"{guest}/initrd"]
        command += ["-append", " ".join(("console=ttyS0 panic=-1 quiet cryptomgr.notests", *words))]
        command += [word for drive in drives for word in ("-drive", drive)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
        )
    return (done.stdout + done.stderr).decode(errors="replace").replace("\r", "")


def _disk(directory: Path) -> Path:
    """A disk with the package under test and the script."""
    content = directory / "content"
    shutil.copytree(REPOSITORY / "src", content / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "checkpoint.sh", content)
    command = content / "boxwright"
    command.write_text(COMMAND)
    command.chmod(0o755)
    disk = directory / "disk.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", content, disk, "32M"], check=True, capture_output=True)
    return disk


def _make(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="boxwright-guest-") as name:
        root, kernel = Path(name, "root"), Path(name, "kernel")
        include = f"--include={','.join(PACKAGES)}"
        _need("packages of Debian", "debootstrap", "--variant=minbase", include, DEBIAN_SUITE, root)
        _fetch_kernel(Path(name), kernel)
        (modules,) = (kernel / "lib/modules").iterdir()
        shutil.copytree(modules, root / "lib/modules" / modules.name)
        _need("depmod", "chroot", root, "depmod", modules.name)
        shutil.copy(HERE / "init", root / "guest-init")
        _need("mke2fs", "mke2fs", "-q", "-t", "ext4", "-d", root, target / "root.img", f"{ROOT_MIB}M")
        (image,) = (kernel / "boot").glob("vmlinuz-*")
        shutil.copy(image, target / "vmlinuz")
        _make_initramfs(Path(name, "early"), root / "bin/busybox", modules, target / "initrd")


def _fetch_kernel(work: Path, target: Path) -> None:
    shown = subprocess.run(["apt-cache", "depends", KERNEL], capture_output=True, text=True, check=False).stdout
    names = [line.split()[1] for line in shown.splitlines() if line.split()[:1] == ["Depends:"]]
    lacks.need(f"a package archive with {KERNEL}", names)
    _need("the kernel's package", "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", names[0], cwd=work)
    (package,) = work.glob("*.deb")
    _need("dpkg-deb", "dpkg-deb", "-x", package, target)


def _make_initramfs(early: Path, busybox: Path, modules: Path, target: Path) -> None:
    for name in ("bin", "dev", "modules", "root"):
        (early / name).mkdir(parents=True)
    shutil.copy(busybox, early / "bin/busybox")
    for name in MODULES:
        shutil.copy(modules / "kernel/drivers" / f"{name}.ko", early / "modules")
    shutil.copy(HERE / "initramfs", early / "init")
    names = "\n".join(str(path.relative_to(early)) for path in sorted(early.rglob("*")))
    command = ["busybox", "cpio", "-o", "-H", "newc"]
    archive = subprocess.run(command, input=names.encode(), cwd=early, capture_output=True, check=True).stdout
    target.write_bytes(archive)


def _need(what: str, *command: "str | Path", cwd: Path | None = None) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", cwd=cwd, check=False
    )
    last = (done.stdout + done.stderr).strip().splitlines()[-1:]
    lacks.need(f"{what} ({command[0]}: {' '.join(last)})", done.returncode == 0)
