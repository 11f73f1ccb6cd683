"""The container never reaches the runtime's executable, memory, descriptors or terminal."""

import fcntl
import hashlib
import mmap
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from attacks import findings, in_user_namespace, one_line_error, rounds, wait_for

from boxwright.host.spawn import helper_path, sealed_helper
from fixtures_runtime import REPOSITORY, BundleFactory, Runtime, default_config

pytestmark = pytest.mark.root


def _digests() -> dict[str, str]:
    """Of everything that runs on the host for a container."""
    programs = [Path(sys.executable).resolve(), REPOSITORY / "src/boxwright/_native/boxwright-helper"]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in programs}


def test_the_entry_point_proc_self_exe_runs_no_file_of_the_host(
    boxwright: Runtime, bundle: BundleFactory, hostile_root: Path
) -> None:
    """CVE-2019-5736: /proc/self/exe as the program is the sealed copy of the helper, which nobody can write to."""
    before = _digests()
    path = bundle(default_config("/bin/sh"), root=hostile_root, copy=True)
    link = path / "rootfs/bin/own-exe"
    link.symlink_to("/proc/self/exe")
    (path / "rootfs/bin/own-script").write_text("#!/proc/self/exe\n")
    (path / "rootfs/bin/own-script").chmod(0o755)
    boxwright.create("attacked", bundle(default_config("/bin/sleep", "60"), root=path / "rootfs"))
    boxwright.start("attacked")
    for program in ("/proc/self/exe", "/bin/own-exe", "/bin/own-script"):
        # it is the helper without a plan: usage, or nothing it could do
        assert boxwright.exec("attacked", program, "--version").status != 127
        assert boxwright.exec("attacked", program).status != 0
    assert _digests() == before


def test_the_copy_that_enters_a_box_cannot_be_changed() -> None:
    """CVE-2019-5736: whoever gets hold of the helper's copy in memory cannot write to it, neither grow nor cut it, and
    cannot take that away; it is none of the file on the host.
    """
    sealed = sealed_helper()
    assert os.fstat(sealed).st_ino != os.stat(helper_path()).st_ino
    again = os.open(f"/proc/self/fd/{sealed}", os.O_RDWR | os.O_CLOEXEC)
    try:
        size = os.fstat(again).st_size
        attempts: tuple[Callable[[], object], ...] = (
            lambda: os.write(again, b"x"),
            lambda: os.ftruncate(again, 0),
            lambda: os.ftruncate(again, size + 1),
            lambda: mmap.mmap(again, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
            lambda: fcntl.fcntl(again, fcntl.F_ADD_SEALS, 0),
        )
        for attempt in attempts:
            with pytest.raises(PermissionError):
                attempt()
    finally:
        os.close(again)


@pytest.mark.parametrize("kind", ["root", "user namespace"])
def test_a_process_that_joins_cannot_be_attacked(
    boxwright: Runtime, bundle: BundleFactory, hostile_root: Path, kind: str
) -> None:
    """CVE-2019-5736, CVE-2016-9962: while many `exec` join the box, a process in it tries to open their executable,
    memory, descriptors and directories, and to trace them. All it ever sees is that they are there.
    """
    before = _digests()
    config = in_user_namespace() if kind == "user namespace" else default_config()
    config["process"]["args"] = ["/bin/attacker", "watch", "600"]
    created = boxwright.create("attacked", bundle(config, root=hostile_root))
    boxwright.start("attacked")
    wait_for(lambda: "watching" in created.stdout)
    for _ in range(rounds(30)):
        result = boxwright.exec("attacked", "/bin/true")
        assert result.status == 0, result
    assert set(created.stdout.split("\n")) <= {"watching", ""}
    assert _digests() == before


@pytest.mark.parametrize("joined", [("pid",), ("pid", "ipc", "network", "uts")], ids=["pid", "all"])
def test_a_box_that_joins_cannot_be_attacked(
    boxwright: Runtime, bundle: BundleFactory, hostile_root: Path, joined: tuple[str, ...]
) -> None:
    """CVE-2016-9962: the same while whole boxes are made in the pid namespace of the one that attacks."""
    config = default_config("/bin/attacker", "watch", "600")
    created = boxwright.create("attacked", bundle(config, root=hostile_root))
    boxwright.start("attacked")
    wait_for(lambda: "watching" in created.stdout)
    config = default_config("/bin/true")
    pid, names = boxwright.state("attacked")["pid"], {"network": "net"}
    for namespace in config["linux"]["namespaces"]:
        if namespace["type"] in joined:
            namespace["path"] = f"/proc/{pid}/ns/{names.get(namespace['type'], namespace['type'])}"
    path = bundle(config, root=hostile_root)
    for index in range(rounds(15)):
        result = boxwright.run(f"joins{index}", path)
        assert result.status == 0, result
    assert set(created.stdout.split("\n")) <= {"watching", ""}


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_no_descriptor_of_the_runtime_is_a_working_directory(
    boxwright: Runtime, bundle: BundleFactory, hostile_root: Path, verb: str
) -> None:
    """CVE-2024-21626: process.cwd in /proc/self/fd is refused for every descriptor, by name and by a link."""
    root = bundle(default_config(), root=hostile_root, copy=True) / "rootfs"
    numbers = range(3, 18)
    for number in numbers:
        (root / f"workdir{number}").symlink_to(f"/proc/self/fd/{number}")
    config = default_config("/bin/pwd")
    if verb == "exec":
        boxwright.create("attacked", bundle(default_config("/bin/sleep", "60"), root=root))
        boxwright.start("attacked")
    for number in numbers:
        for cwd in (f"/proc/self/fd/{number}", f"/workdir{number}"):
            if verb == "exec":
                result = boxwright.call("exec", "--cwd", cwd, "attacked", "/bin/pwd", check=False)
            else:
                config["process"]["cwd"] = cwd
                result = boxwright.run("attacked", bundle(config, root=root))
            one_line_error(result)
            assert result.stdout == ""


@pytest.mark.parametrize("verb", ["run", "start", "exec", "run in a user namespace"])
def test_no_descriptor_of_the_runtime_leads_to_a_program(
    boxwright: Runtime, bundle: BundleFactory, hostile_root: Path, attacker: Path, verb: str
) -> None:
    """CVE-2024-21626: process.args that climb from a descriptor of ours to a program of the host, as themselves and by
    a link in the image, find nothing. The box would run it from the host's file, and could write to that later.
    """
    root = bundle(default_config(), root=hostile_root, copy=True) / "rootfs"
    # a user namespace cannot take its copies of the host's mounts apart: `..` leads on to the host there
    config = in_user_namespace() if "user" in verb else default_config("/bin/sleep", "60")
    if verb == "exec":
        boxwright.create("attacked", bundle(config, root=root))
        boxwright.start("attacked")
    for number in range(3, 14):
        program = f"/proc/self/fd/{number}/../../../../../../../../../../{attacker}"
        (root / f"program{number}").symlink_to(program)
        for path in (program, f"/program{number}"):
            config["process"]["args"] = [path, "fds"]
            if verb.startswith("run"):
                result = boxwright.run("attacked", bundle(config, root=root))
            elif verb == "start":
                result = boxwright.create("attacked", bundle(config, root=root), check=False)
                if result.status == 0:
                    boxwright.start("attacked", check=False)
                    boxwright.wait_stopped("attacked")
                boxwright.delete("attacked", "--force")
            else:
                result = boxwright.exec("attacked", path, "fds")
            assert result.stdout == "", result


def _open_directories(count: int) -> list[int]:
    """Descriptors of the host's root that go to every child."""
    made = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(count)]
    for fd in made:
        os.set_inheritable(fd, True)
    return made


def test_descriptors_of_the_caller_do_not_reach_the_container(
    boxwright: Runtime, bundle: BundleFactory, hostile_root: Path
) -> None:
    """CVE-2024-21626: whoever calls us may have left directories of the host open; the box sees 0, 1 and 2."""
    left = _open_directories(50)
    try:
        path = bundle(default_config("/bin/attacker", "fds"), root=hostile_root)
        assert boxwright.run("attacked", path, pass_fds=left).stdout.split() == ["0", "1", "2"]
        boxwright.create("attacked2", bundle(default_config("/bin/sleep", "60"), root=hostile_root), pass_fds=left)
        boxwright.start("attacked2", pass_fds=left)
        assert boxwright.exec("attacked2", "/bin/attacker", "fds", pass_fds=left).stdout.split() == ["0", "1", "2"]
        pid = boxwright.state("attacked2")["pid"]
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    finally:
        for fd in left:
            os.close(fd)


def test_preserved_descriptors_are_exactly_those_asked_for(
    boxwright: Runtime, bundle: BundleFactory, hostile_root: Path
) -> None:
    """Of what the caller left open, `--preserve-fds 2` passes 3 and 4 on, whatever else there is."""
    left = _open_directories(20)
    script = f"exec 3</dev/null 4</dev/null; exec {boxwright.command[0]} --root {boxwright.root} run --preserve-fds 2 "
    path = bundle(default_config("/bin/attacker", "fds"), root=hostile_root)
    try:
        found = subprocess.run(
            ["bash", "-c", f"{script} --bundle {path} attacked"],
            pass_fds=left,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        for fd in left:
            os.close(fd)
    assert found.stdout.split() == ["0", "1", "2", "3", "4"]


def test_no_abstract_socket_is_there_for_who_shares_the_network(
    boxwright: Runtime, bundle: BundleFactory, hostile_root: Path
) -> None:
    """CVE-2020-15257: sockets of ours have paths in a closed directory, so a box on the host's network finds none."""
    before = Path("/proc/net/unix").read_text()
    config = default_config("/bin/cat", "/proc/net/unix")
    config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "network"]
    config["mounts"] = [m for m in config["mounts"] if m["type"] != "sysfs"]
    boxwright.create("attacked-waiting", bundle(default_config("/bin/sleep", "60"), root=hostile_root))
    seen = boxwright.run("attacked", bundle(config, root=hostile_root)).stdout.splitlines()
    known = {line.split()[-1] for line in before.splitlines()}
    abstract = [line for line in seen if line.split()[-1].startswith("@") and line.split()[-1] not in known]
    assert abstract == []
    assert boxwright.root.stat().st_mode & 0o777 == 0o700


TERMINAL_CALLS = {"TIOCSTI", "TIOCSTI-high", "TIOCSCTTY", "TIOCLINUX", "TIOCLINUX-high"}


@pytest.mark.parametrize("words", [(), ("--tty",)], ids=["stdin", "tty"])
def test_no_input_is_pushed_to_the_callers_terminal(
    boxwright_command: str, tmp_path: Path, attacker: Path, words: tuple[str, ...]
) -> None:
    """CVE-2017-5226, CVE-2023-28100, CVE-2019-7303: TIOCSTI and TIOCLINUX, with and without bits above the 32nd, do
    not reach the terminal of who runs the box: neither where it is the standard input, nor by a terminal of the box.
    """
    ours, theirs = pty.openpty()
    command = [boxwright_command, "--root", tmp_path / "state", "run", *words, "--bind", f"{attacker}:/mnt/attacker"]
    # the caller's session has the terminal as its own, as a shell has
    setsid = ["setsid", "--ctty", "--wait"]
    process = subprocess.Popen(
        [*setsid, *command, "--", "/mnt/attacker", "terminal"], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE
    )
    output = b""
    while process.poll() is None or select.select([ours], [], [], 0)[0]:
        if select.select([ours], [], [], 0.1)[0]:
            output += os.read(ours, 65536)
    found = findings(output.decode().replace("\r", ""))
    assert process.wait() == 0, process.stderr.read()  # type: ignore[union-attr]
    process.stderr.close()  # type: ignore[union-attr]
    assert set(found) == TERMINAL_CALLS, output
    assert {found[name] for name in TERMINAL_CALLS - {"TIOCSCTTY"}} <= {"EPERM", "ENOTTY", "EINVAL", "EIO"}, found
    assert not select.select([theirs], [], [], 0)[0], "something was put into the caller's input"
    os.close(ours)
    os.close(theirs)


def test_stdio_that_is_a_file_of_the_host_is_not_given_away(
    boxwright: Runtime, bundle: BundleFactory, hostile_root: Path, tmp_path: Path
) -> None:
    """Pipes and terminals are given to the box's user, files and devices of the host never: it would own them."""
    config = default_config("/bin/true")
    config["process"]["user"] = {"uid": 1000, "gid": 1000}
    secret = tmp_path / "secret"
    secret.write_text("x")
    with secret.open("rb") as source:
        assert boxwright.run("attacked", bundle(config, root=hostile_root), stdin=source.fileno()).status == 0
    assert secret.stat().st_uid == 0
    device = os.open("/dev/zero", os.O_RDONLY)
    assert boxwright.run("attacked", bundle(config, root=hostile_root), stdin=device).status == 0
    os.close(device)
    assert os.stat("/dev/zero").st_uid == 0
