"""The command that has loaded already (native/launcher.c): it does what the script does, and notices new sources."""

import json
import os
import shutil
import signal
import struct
import subprocess
from array import array
from pathlib import Path

import pytest

import lacks
from fixtures_runtime import REPOSITORY, default_config
from loaded import SOURCE, base_python

LAUNCHER = REPOSITORY / "native/build/launcher"
FELL_BACK = 99
# what only the box without a kernel of its own can do
CREATE_CONTAINER = {"createContainer": [{"path": "/bin/true"}]}
FOOTER_BYTES = 5 * 8 + 1024 + 8


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frozen command of a package of its own, whose fallback only says by its status that it was taken."""
    lacks.need("native/build/launcher", LAUNCHER.exists())
    directory = tmp_path_factory.mktemp("frozen")
    shutil.copytree(SOURCE / "boxwright", directory / "src/boxwright", ignore=shutil.ignore_patterns("__pycache__"))
    target, unfrozen = directory / "bin/boxwright", directory / "lib/unfrozen"
    tool = REPOSITORY / "tools/make-launcher"
    words = ("--freeze", LAUNCHER, unfrozen, target, directory / "src")
    made = subprocess.run([base_python(), tool, *words], check=True, capture_output=True, text=True)
    assert made.stderr == ""
    unfrozen.write_text(f"#!/bin/sh\nexit {FELL_BACK}\n")
    return target


def run(command: Path, *words: str, **settings: object) -> subprocess.CompletedProcess[str]:
    pipes = {"capture_output": True, "text": True, "errors": "surrogateescape"}
    return subprocess.run([command, *words], timeout=30, check=False, **pipes, **settings)


def test_it_starts_without_the_script(frozen: Path) -> None:
    done = run(frozen, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("boxwright version")


@pytest.mark.parametrize("words", [("features",), ("help",), ("state", "\udcff"), ("spec", "--nonsense")])
def test_it_says_what_the_script_says(frozen: Path, boxwright_command: str, words: tuple[str, ...]) -> None:
    """Modules that are not held are imported as ever, those that libraries bring too."""
    script = Path(f"{boxwright_command}-unfrozen")
    lacks.need("the script beside the command", script.exists())
    ours, theirs = run(frozen, *words), run(script, *words)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


def test_its_name_says_the_box_also_where_it_falls_back(tmp_path: Path) -> None:
    """By a link: an engine knows a runtime by its path alone."""
    lacks.need("native/build/launcher", LAUNCHER.exists())
    shutil.copytree(SOURCE / "boxwright", tmp_path / "src/boxwright", ignore=shutil.ignore_patterns("__pycache__"))
    target, unfrozen, link = tmp_path / "bin/boxwright", tmp_path / "lib/unfrozen", tmp_path / "boxwright-vm"
    words = ("--freeze", LAUNCHER, unfrozen, target, tmp_path / "src")
    subprocess.run([base_python(), REPOSITORY / "tools/make-launcher", *words], check=True, capture_output=True)
    link.symlink_to(target)
    (tmp_path / "config.json").write_text(json.dumps(default_config("/bin/true") | {"hooks": CREATE_CONTAINER}))
    for _ in ("frozen", "stale"):
        root = ("--root", str(tmp_path / "state"))
        refused = run(link, *root, "create", "--bundle", str(tmp_path), "id")
        assert "not supported by the `vm` box" in refused.stderr, refused
        other = run(link, *root, "--isolation", "linux", "create", "--bundle", str(tmp_path), "id")
        assert "`vm` box" not in other.stderr, other
        os.utime(tmp_path / "src/boxwright/cli/main.py")
    assert "BOXWRIGHT_CALLED_AS" in unfrozen.read_text()


def test_its_arguments_and_environment_are_those_of_this_start(frozen: Path) -> None:
    done = run(frozen, "state", "ä\udcff", env={"XDG_RUNTIME_DIR": "/nowhere", "BOXWRIGHT_ROOTLESS": "1"})
    assert done.returncode == 1
    assert "ä\udcff" in done.stderr
    listed = run(frozen, "list", env={"XDG_RUNTIME_DIR": "/nowhere", "BOXWRIGHT_ROOTLESS": "1"})
    assert listed.returncode == 0


def test_its_memory_points_at_nothing_that_is_elsewhere_at_the_next_start(tmp_path: Path) -> None:
    """Of what was mapped while it was frozen, only the program's own memory is there again."""
    lacks.need("native/build/launcher", LAUNCHER.exists())
    maps, script, target = tmp_path / "maps", tmp_path / "script.py", tmp_path / "boxwright"
    command = REPOSITORY / "tools/frozen-command.py"
    write_maps = f"open({str(maps)!r}, 'w').write(open('/proc/self/maps').read())"
    script.write_text(f"exec(open({str(command)!r}).read())\n{write_maps}\n")
    paths = subprocess.check_output([base_python(), "-ISc", "import sys; print(*sys.path)"], text=True).split()
    words = (LAUNCHER, "--freeze", target, "/none", base_python(), script, SOURCE, *paths)
    subprocess.run(words, check=True, input=b"", capture_output=True)
    libraries = [
        range(*(int(end, 16) for end in line.split()[0].split("-")))
        for line in maps.read_text().splitlines()
        if ".so" in line
    ]
    found = sum(any(word in library for library in libraries) for word in _words_of_image(target))
    # stdin, stdout and stderr, which the dynamic linker has put there and a start keeps
    assert found == 3


def _words_of_image(target: Path) -> list[int]:
    """The numbers in the frozen memory that may be addresses of libraries."""
    data = target.read_bytes()
    offset, heap_offset, heap_bytes = struct.unpack_from("<3Q", data, len(data) - FOOTER_BYTES)
    words = array("Q", data[offset : heap_offset + heap_bytes])
    return [word for word in words if 0x7000_0000_0000 < word < 0x8000_0000_0000]


def test_an_interrupt_is_heeded_unless_it_was_ignored(frozen: Path, tmp_path: Path) -> None:
    """An interpreter that starts anew leaves an ignored SIGINT ignored."""
    fifo = tmp_path / "config"
    os.mkfifo(fifo)
    waiting = f"exec {frozen} validate {fifo}"  # for somebody to write
    for script, wanted in ((waiting, "130"), (f"trap '' INT; {waiting}", "1")):
        process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            writer = os.open(fifo, os.O_WRONLY)  # returns once it reads
            process.send_signal(signal.SIGINT)
            if wanted != "130":
                os.write(writer, b"{}")
            os.close(writer)
            assert str(process.wait(10)) == wanted
        finally:
            process.kill()
            process.wait()


def test_it_falls_back_on_the_script_when_a_source_has_changed(frozen: Path) -> None:
    source = frozen.parent.parent / "src/boxwright/errors.py"
    before = source.stat()
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert run(frozen, "--version").returncode == FELL_BACK
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run(frozen, "--version").returncode == 0


def test_where_no_launcher_was_built_the_command_is_the_script(tmp_path: Path) -> None:
    target, unfrozen = tmp_path / "boxwright", tmp_path / "unfrozen"
    words = ("--freeze", tmp_path / "none", unfrozen, target, SOURCE)
    tool = REPOSITORY / "tools/make-launcher"
    made = subprocess.run([base_python(), tool, *words], check=True, capture_output=True, text=True)
    assert "was not built" in made.stderr
    assert run(target, "--version").stdout.startswith("boxwright version")
