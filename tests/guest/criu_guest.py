"""Boot the guest once more, with control groups of both versions, for a script: CRIU works there."""

import shutil
import subprocess
from pathlib import Path

from image import guest_image, make_disk
from machine import QEMU, boot_command, compile_modules, copy_directories

import lacks

HERE = Path(__file__).parent
DISK_MIB = 32
TIMEOUT_SECONDS = 240

COMMAND = """\
#!/usr/bin/python3 -ISXutf8
import sys

sys.path.insert(0, "/repo/src")
from boxwright.cli.main import main

sys.exit(main())
"""


def run(directory: Path, *words: str) -> str:
    """Boot it, run the script, and give what the console said; `words` are for the kernel's command line."""
    lacks.need_root()
    lacks.need_program(QEMU)
    image, disk = guest_image(), directory / "disk.img"
    make_disk(_content(directory / "content"), disk, DISK_MIB)
    command = boot_command(image, disk, "quiet", *words, console="stdio")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
    return (done.stdout + done.stderr).decode(errors="replace").replace("\r", "")


def _content(path: Path) -> Path:
    """The package under test and the script, with a first program in the place of that of the other tests."""
    copy_directories(path, "src")
    compile_modules(path, "src")
    shutil.copy(HERE / "checkpoint.sh", path)
    first = path / "tests/guest/inside/first"
    first.parent.mkdir(parents=True)
    shutil.copy(HERE / "checkpoint-first", first)
    command = path / "boxwright"
    command.write_text(COMMAND)
    for file in (first, command):
        file.chmod(0o755)
    return path
