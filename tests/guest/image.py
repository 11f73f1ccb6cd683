"""The guest's kernel and root filesystem: Debian's own, fetched once and kept in the tests' cache."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import lacks
from fixtures_roots import DEBIAN_SUITE, cached

# what the tests in the guest run beside Boxwright: systemd and its bus, the tools of rootless containers, CRIU
PACKAGES = (
    "apparmor",
    "busybox-static",
    "criu",
    "dbus",
    "dbus-user-session",
    "iproute2",
    "iptables",
    "kmod",
    "libpam-systemd",
    "libseccomp2",
    "python3",
    "python3-jeepney",
    "systemd-sysv",
    "uidmap",
)
PYTHON = (3, 11)  # the suite's own
SIZE_MIB = 800
# the disk with the repository differs from boot to boot, and shows up after the root
INIT = """\
#!/bin/sh
mount -t devtmpfs dev /dev
until [ -b /dev/nvme1n1 ]; do sleep 0.05; done
mount -t ext4 -o ro /dev/nvme1n1 /repo && exec /repo/tests/guest/inside/first
"""
INIT_PATH = "/usr/local/sbin/guest-init"
USER = "guest:x:1000:1000::/home/guest:/bin/sh\n"
UNNEEDED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt/lists",
)


def guest_image() -> Path:
    """A directory with `vmlinuz` and `root.img`, an ext4 filesystem: not to be written to."""
    recipe = repr((PACKAGES, INIT, USER, SIZE_MIB)).encode()
    return cached(f"guest-{DEBIAN_SUITE}-{hashlib.sha256(recipe).hexdigest()[:12]}", _make)


def _make(path: Path) -> None:
    lacks.need_program("debootstrap", "mke2fs", "dpkg-deb")
    root = path / "root"
    _debootstrap(root)
    _add_kernel(root)
    _add_ours(root)
    for name in UNNEEDED:
        shutil.rmtree(root / name, ignore_errors=True)
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    shutil.copy2(kernel, path / "vmlinuz")
    make_disk(root, path / "root.img", SIZE_MIB)
    shutil.rmtree(root)


def make_disk(source: Path, target: Path, size_mib: int) -> None:
    """Write a filesystem with the content of `source`, owners as they are."""
    program = lacks.find_program("mke2fs")
    lacks.need("mke2fs", program)
    assert program
    words = [program, "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(source), str(target), f"{size_mib}M"]
    _run(*words)


def _debootstrap(root: Path) -> None:
    include = f"--include={','.join(PACKAGES)}"
    command = ["debootstrap", "--variant=minbase", include, DEBIAN_SUITE, str(root)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
    last = (done.stdout + done.stderr).strip().splitlines()[-1:]
    lacks.need(f"packages of Debian {DEBIAN_SUITE} (debootstrap: {''.join(last)})", done.returncode == 0)


def _add_kernel(root: Path) -> None:
    """Unpack the kernel: installed, its package would bring and run the makers of an initramfs."""
    listed = _run("chroot", str(root), "apt-cache", "depends", "linux-image-cloud-amd64")
    (package,) = [line.split()[1] for line in listed.splitlines() if "Depends: linux-image-" in line]
    _run("chroot", str(root), "sh", "-c", f"cd /tmp && apt-get download -qq {package}")
    (archive,) = (root / "tmp").glob("*.deb")
    # by tar, since /lib is a link in the root, which dpkg-deb would replace
    unpacked = root / "tmp/kernel"
    _run("dpkg-deb", "-x", str(archive), str(unpacked))
    archive.unlink()
    (modules,) = (unpacked / "lib/modules").iterdir()
    shutil.copytree(modules, root / "usr/lib/modules" / modules.name, symlinks=True)
    shutil.copytree(unpacked / "boot", root / "boot", dirs_exist_ok=True)
    shutil.rmtree(unpacked)
    _run("chroot", str(root), "depmod", modules.name)


def _add_ours(root: Path) -> None:
    init = root / INIT_PATH.removeprefix("/")
    init.write_text(INIT)
    init.chmod(0o755)
    (root / "repo").mkdir()
    for name, line in {
        "passwd": USER,
        "group": "guest:x:1000:\n",
        "subuid": "guest:100000:65536\n",
        "subgid": "guest:100000:65536\n",
        "shadow": "guest:*:19000:0:99999:7:::\n",
    }.items():
        with (root / "etc" / name).open("a") as file:
            file.write(line)
    (root / "home/guest").mkdir(mode=0o755)
    shutil.chown(root / "home/guest", 1000, 1000)


def _run(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done
    return done.stdout
