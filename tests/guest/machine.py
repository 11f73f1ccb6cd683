"""Boot the guest once, and read from its second serial port what its tests found."""

import compileall
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

from image import INIT_PATH, PYTHON, guest_image, make_disk

import lacks
from fixtures_runtime import REPOSITORY

QEMU = "qemu-system-x86_64"
MEMORY_MIB = 1024
REPOSITORY_MIB = 64
# pytest and what it needs: all pure Python
PACKAGES = ("_pytest", "pytest", "pluggy", "iniconfig", "packaging", "pygments", "py")
# self-tests and tracing that cost a tenth of the boot; a guest without a host in the same kernel has nothing to fear
FASTER = "cryptomgr.notests initcall_blacklist=init_kprobe_trace,crypto_kdf108_init mitigations=off"
UNIT = "systemd.unit=boxwright-tests.service systemd.show_status=0"
KERNEL_ARGUMENTS = f"root=/dev/nvme0n1 rw console=ttyS0 panic=-1 swapaccount=1 {FASTER} init={INIT_PATH}"
SILENCE_SECONDS = 120.0  # the longest that one test, or a boot, is waited for
CONSOLE_LINES = 40

Result = dict[str, Any]


class Machine:
    """The guest's tests and their results. `wanted` has the tests of each phase, as pytest's arguments."""

    def __init__(self, wanted: Mapping[str, Iterable[str]], directory: Path) -> None:
        lacks.need_root()
        lacks.need_program(QEMU)
        self._image = guest_image()
        self._wanted = wanted
        self._console = directory / "console"
        self._disk = directory / "repository.img"
        make_disk(self._staged(directory / "repository"), self._disk, REPOSITORY_MIB)
        self.results: list[Result] = []
        self.why = ""
        self.seconds = 0.0

    def run(self) -> None:
        """Boot, take all results, and switch off. What is missing at the end has `why` for its reason."""
        started = time.monotonic()
        command = boot_command(self._image, self._disk, UNIT, console=f"file:{self._console}")
        command += ["-chardev", "stdio,id=results,signal=off", "-serial", "chardev:results"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout
                self._follow(process.stdout.fileno())
            finally:
                process.kill()
        self.seconds = time.monotonic() - started

    def of(self, phase: str, test: str) -> list[Result]:
        """What is known of a test: a result for each of its parameters, or that of its file."""
        path = test.partition("::")[0]
        mine = [result for result in self.results if result["phase"] == phase]
        return [result for result in mine if result["test"].partition("[")[0] in {test, path}]

    def console(self) -> str:
        """The last lines of the guest's console."""
        lines = self._console.read_text(errors="replace").splitlines() if self._console.exists() else []
        return "\n".join(lines[-CONSOLE_LINES:])

    def _follow(self, port: int) -> None:
        left = {phase for phase, tests in self._wanted.items() if tests}
        for line in _lines(port):
            result = json.loads(line)
            if "ended" in result:
                left.discard(result["phase"])
            else:
                self.results.append(result)
            if not left:
                return
        self.why = f"the guest fell silent, or ended, before the end of: {' '.join(sorted(left))}"

    def _staged(self, path: Path) -> Path:
        """The repository as the guest sees it, with pytest and compiled modules: compiling is slow in there."""
        copy_directories(path, "src", "tests", "tools")
        shutil.copy2(REPOSITORY / "pyproject.toml", path)
        for package in PACKAGES:
            _copy_package(package, path / "packages")
        for phase, tests in self._wanted.items():
            (path / f"wanted-{phase}").write_text("\n".join(tests))
        compile_modules(path, "src", "tests", "packages")
        return path


def copy_directories(target: Path, *names: str) -> None:
    """Copy directories of the repository to where the guest's /repo is made."""
    ignored = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info")
    for name in names:
        shutil.copytree(REPOSITORY / name, target / name, ignore=ignored)


def compile_modules(path: Path, *names: str) -> None:
    """Compile the modules below these directories of the guest's /repo: it is slow in there, and read-only."""
    if sys.version_info[:2] == PYTHON:
        mode = PycInvalidationMode.UNCHECKED_HASH
        for name in names:
            # stripped, so that tracebacks name the guest's own paths
            compileall.compile_dir(path / name, quiet=2, invalidation_mode=mode, stripdir=path, prependdir="/repo")


def boot_command(image: Path, disk: Path, *words: str, console: str) -> list[str]:
    """QEMU with the guest's image, which nothing is written to, and the `disk` that its init looks for.

    `words` are for the kernel's command line, `console` is a character device of QEMU.
    """
    disks: list[str] = []
    for index, (file, options) in enumerate(((image / "root.img", "snapshot=on"), (disk, "readonly=on"))):
        disks += ["-drive", f"if=none,id=disk{index},format=raw,file={file},{options}"]
        disks += ["-device", f"nvme,serial=disk{index},drive=disk{index}"]
    # as many threads as CPUs: the helper and its container are two processes that wait for each other
    return [
        QEMU, "-accel", "tcg,thread=multi", "-M", "q35", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MIB),
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-kernel", str(image / "vmlinuz"), "-append", " ".join((KERNEL_ARGUMENTS, *words)), "-serial", console, *disks,
    ]  # fmt: skip


def _copy_package(name: str, target: Path) -> None:
    spec = find_spec(name)
    if spec is None:
        return  # older releases of pytest do without it
    if spec.submodule_search_locations:
        shutil.copytree(*spec.submodule_search_locations, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    elif spec.origin:
        target.mkdir(exist_ok=True)
        shutil.copy2(spec.origin, target)


def _lines(port: int) -> Iterator[bytes]:
    """Lines as they come, until the other end closes or is silent for too long."""
    rest = b""
    while select.select([port], [], [], SILENCE_SECONDS)[0]:
        part = os.read(port, 65536)
        if not part:
            return
        *lines, rest = (rest + part).split(b"\n")
        yield from lines
