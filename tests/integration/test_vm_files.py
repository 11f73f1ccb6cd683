"""The container's files in a machine: who may write where, whose they are, and what the server of the files is."""

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import lacks
from boxwright.boxes.vm.virtiofsd import PLACES
from boxwright.host.shares import can_be_mapped, modes_of, nobodys_ids
from fixtures_machine import host_kernel
from fixtures_probe import mapping, unique_id
from fixtures_roots import open_parents
from fixtures_runtime import BundleFactory, Json, Runtime, default_config
from processes import descendants

pytestmark = pytest.mark.root

CAP_SETPCAP, CAP_SYS_CHROOT, CAP_MKNOD, CAP_SYS_ADMIN = 8, 18, 27, 21


@pytest.fixture
def machines(boxwright_command: str, tmp_path: Path) -> Iterator[Runtime]:
    """The command line, for containers in machines."""
    lacks.need_root()
    lacks.need_program("qemu-system-x86_64")
    lacks.need("virtiofsd", any(os.access(place, os.X_OK) for place in PLACES))
    host_kernel()
    directory = tmp_path / "machines"
    directory.mkdir()
    open_parents(directory)
    runtime = Runtime([boxwright_command, "--isolation", "vm"], directory)
    yield runtime
    runtime.close()


@pytest.fixture
def overlaid(tmp_path: Path) -> Iterator[Path]:
    """A directory on an overlay, as engines give root filesystems: it cannot be id-mapped."""
    lower, upper, work, merged = (tmp_path / name for name in ("lower", "upper", "work", "merged"))
    for path in (lower, upper, work, merged):
        path.mkdir()
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", merged], check=True)
    yield merged
    subprocess.run(["umount", merged], check=True)


def bind(source: Path, destination: str, *options: str) -> Json:
    return {"destination": destination, "type": "none", "source": str(source), "options": ["bind", *options]}


def config_of(script: str, *mounts: Json, **changes: object) -> Json:
    """With the capabilities over files that root has, so that it is not their lack which stops it."""
    config = default_config("/bin/sh", "-c", script)
    held = [f"CAP_{name}" for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD")]
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), held)
    return config | {"mounts": [*config["mounts"], *mounts]} | changes


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


def test_volumes_are_written_by_their_owners_and_not_where_they_are_read_only(
    machines: Runtime, bundle: BundleFactory, tmp_path: Path
) -> None:
    """One boot for all: the root, a volume, a read-only one, single files, devices, owners, links that lead out."""
    volume, readonly, file, fixed = (tmp_path / name for name in ("volume", "readonly", "file", "fixed"))
    (readonly / "sub").mkdir(parents=True)
    volume.mkdir()
    for path in (file, fixed, tmp_path / "outside"):
        path.write_text("host\n")
    os.chown(file, 1234, 1235)
    shifted = tmp_path / "shifted"
    shifted.mkdir()
    os.chown(shifted, 5, 6)
    (volume / "out").symlink_to("../" * 9 + str(tmp_path / "outside"))
    config = config_of(
        """
        stat -c '%u %g' /etc/file /shifted
        echo guest > /volume/new && chown 7:8 /volume/new && chmod 4711 /volume/new && echo volume
        ln /volume/new /volume/hard && mv /volume/hard /volume/moved && sync && echo linked
        echo guest >> /etc/file && echo file
        echo root > /made-in-root && echo root
        touch /readonly/sub/x 2>&1; rm -r /readonly/sub 2>&1; (echo x >> /etc/fixed) 2>&1
        mknod /volume/node c 1 3 2>&1; mknod /node b 254 0 2>&1; cat /volume/out 2>&1
        uname -r
        """,
        bind(volume, "/volume"),
        bind(readonly, "/readonly", "ro"),
        bind(file, "/etc/file"),
        bind(fixed, "/etc/fixed", "ro"),
        bind(shifted, "/shifted", "idmap") | {"uidMappings": mapping(5, 2000, 1), "gidMappings": mapping(6, 3000, 1)},
        root={"path": "rootfs"},
    )
    made = bundle(config, copy=True)
    result = machines.run(unique_id(), made)
    assert result.status == 0, result
    said = result.stdout
    assert said.split("\n")[:6] == ["1234 1235", "2000 3000", "volume", "linked", "file", "root"], result
    assert said.count("Read-only file system") == 3, result
    assert said.count("Operation not permitted") == 2, result
    assert said.count("No such file or directory") == 1, result
    assert os.uname().release not in said
    assert owner(volume / "new") == owner(volume / "moved") == (7, 8)
    assert (volume / "moved").stat().st_mode & 0o7777 == 0o4711
    assert owner(made / "rootfs/made-in-root") == (0, 0)
    assert (file.read_text(), fixed.read_text()) == ("host\nguest\n", "host\n")
    assert owner(file) == (1234, 1235)
    assert sorted(os.listdir(volume)) == ["moved", "new", "out"]


def test_a_read_only_root_is_covered_in_the_guest_and_not_written_on_the_host(
    machines: Runtime, bundle: BundleFactory, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    script = "echo x > /new; echo y > /not/there/before/file; ls -d /not/there/before; touch /etc/passwd"
    config = config_of(script, bind(volume, "/not/there/before"), root={"path": "rootfs", "readonly": True})
    made = bundle(config, copy=True)
    before = sorted(os.listdir(made / "rootfs"))
    result = machines.run(unique_id(), made)
    assert result.stdout == "/not/there/before\n", result
    assert result.stderr.count("Read-only file system") == 2, result
    assert sorted(os.listdir(made / "rootfs")) == before
    assert (volume / "file").read_text() == "y\n"


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def mounts_of(pid: int) -> dict[str, set[str]]:
    """The options of each mount that a process sees."""
    lines = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {fields[4]: set(fields[5].split(",")) for fields in lines}


def named(pid: int, name: str) -> list[int]:
    return [one for one in [pid, *descendants(pid)] if status_of(one)["Name"].startswith(name)]


@pytest.mark.parametrize("kind", ["mapped", "on the disk"])
def test_the_server_of_the_files_sees_and_may_do_nothing_else(
    machines: Runtime, bundle: BundleFactory, tmp_path: Path, overlaid: Path, kind: str
) -> None:
    volume = overlaid if kind == "on the disk" else tmp_path / "volume"
    volume.mkdir(exist_ok=True)
    made = bundle(
        config_of("exec sleep 60", bind(volume, "/rw"), bind(volume, "/ro", "ro"), root={"path": "rootfs"}), copy=True
    )
    container = unique_id()
    machines.create(container, made)
    machines.start(container)
    machines.exec(container, "/bin/sh", "-c", "echo x > /rw/new && chown 5:6 /rw/new")
    pid = machines.state(container)["pid"]
    (server,) = named(pid, "virtiofsd")
    (hypervisor,) = named(pid, "qemu-system")
    status = status_of(server)
    capabilities = int(status["CapEff"], 16)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert int(status["CapBnd"], 16) & ~capabilities == 0
    assert not any(capabilities >> one & 1 for one in (CAP_SETPCAP, CAP_SYS_CHROOT, CAP_MKNOD, CAP_SYS_ADMIN))
    for namespace in ("user", "mnt", "pid", "net", "ipc"):
        assert os.readlink(f"/proc/{server}/ns/{namespace}") != os.readlink(f"/proc/self/ns/{namespace}")
    seen = mounts_of(server)
    volumes = sorted(place for place in seen if place.startswith("/vol/"))
    assert sorted(seen) == ["/", "/root", *volumes]
    assert len(volumes) == 2
    assert all({"nosuid", "nodev", "noexec"} <= options for options in seen.values())
    assert ["ro" in seen[place] for place in ("/", "/root", *volumes)] == [True, False, False, True]
    assert ("idmapped" in seen["/root"]) is (kind == "mapped")
    uids = [int(status_of(one)["Uid"].split()[0]) for one in (server, hypervisor)]
    assert (uids[0] == 0) is (kind == "on the disk")
    assert all(uid > 65535 for uid in (uids[0] or 65536, uids[1]))
    assert uids[0] != uids[1]
    assert owner(volume / "new") == (5, 6)


def test_what_cannot_be_in_another_machine_is_refused_before_anything_is_made(
    machines: Runtime, bundle: BundleFactory, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    directory = os.open(tmp_path, os.O_PATH)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"/proc/self/fd/{directory}/socket")
    os.close(directory)
    listening.close()
    for source in (tmp_path / "pipe", tmp_path / "socket", Path("/dev/null")):
        made = bundle(config_of("true", bind(source, "/etc/here")))
        result = machines.create(unique_id(), made, check=False)
        assert result.status == 1
        assert re.search(r"`/mounts/\d+/source` is not supported by the `vm` box", result.stderr), result
    assert machines.ids() == []


def test_whether_a_tree_can_be_id_mapped_is_tried(tmp_path: Path, overlaid: Path) -> None:
    lacks.need("a temporary directory that can be id-mapped", can_be_mapped([(str(tmp_path / "lower"), True)]))
    assert not can_be_mapped([(str(tmp_path / "lower"), True), (str(overlaid), True)])
    assert not can_be_mapped([(str(tmp_path), True)])  # the overlay is mounted in it
    assert can_be_mapped([(str(tmp_path), False)])
    many = [tmp_path / str(index) for index in range(40)]
    for path in many:
        path.mkdir()
    trees = [(str(path), True) for path in many]
    assert can_be_mapped(trees)
    assert not can_be_mapped([*trees, (str(overlaid), True)])
    assert can_be_mapped([("/nonexistent", True)])


def test_ids_of_nobody_are_aligned_and_within_the_range_for_containers() -> None:
    found = {nobodys_ids(65536 + 16) for _ in range(20)}
    assert len(found) > 1
    assert all(0x00080000 <= one < 0x6FFF0000 - 65552 and one % 65536 == 0 for one in found)


def test_what_is_at_a_path_is_what_a_link_leads_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    link, none = str(tmp_path / "link"), str(tmp_path / "none")
    assert modes_of([link, none]) == {link: os.stat(tmp_path / "pipe").st_mode}
