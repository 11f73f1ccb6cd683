"""A guest that attacks what holds it: devices, images, shared directories, parameters, and the processes of its machine."""

import hashlib
import os
import platform
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from attacks import ALL_CAPABILITIES, with_capabilities

from fixtures_probe import status_in, unique_id
from fixtures_runtime import Json, default_mounts
from fixtures_vm import Machines, eventually
from lacks import need_program

pytestmark = [pytest.mark.root, pytest.mark.vm]

# CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, SETFCAP: what serving files takes
OF_A_FILE_SERVER = 0x800000DB
SLEEP = ("/bin/sleep", "600")
# tries each device of the machine that a driver is there for: `NAME RESULT`, of reading and of writing
DEVICES = """
for place in /sys/block/*/dev /sys/class/virtio-ports/*/dev /sys/class/mem/*/dev /sys/class/misc/*/dev; do
    [ -e $place ] || continue
    name=$(basename $(dirname $place)); kind=c; case $place in /sys/block/*) kind=b;; esac
    case $name in null|zero|full|random|urandom) continue;; esac
    numbers=$(cat $place); rm -f /mnt/node; mknod /mnt/node $kind ${numbers%:*} ${numbers#*:} || exit 9
    read=$( (: < /mnt/node) 2>&1 && echo open); wrote=$( (: >> /mnt/node) 2>&1 && echo open)
    echo "$name ${read##*: }, ${wrote##*: }"
done
"""


def privileged(config: Json) -> None:
    """All that a container can have, in its guest."""
    with_capabilities(config, [*ALL_CAPABILITIES, "CAP_SYSLOG", "CAP_SYS_TIME", "CAP_SYS_RESOURCE"])
    config["linux"]["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
    config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []


def with_mounts(*mounts: Json) -> list[Json]:
    return [*default_mounts(), *mounts]


def memory_at(place: str) -> Json:
    return {"destination": place, "type": "tmpfs", "source": "tmpfs"}


def tried(text: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in text.splitlines())


def digest(path: Path) -> tuple[str, int]:
    """Of a file that has its holes at its end, and how much of it is none."""
    blocks = path.stat().st_blocks
    with path.open("rb") as file:
        return hashlib.sha256(file.read(blocks * 512)).hexdigest(), blocks


def host_mounts() -> list[str]:
    return sorted(Path("/proc/self/mountinfo").read_text().splitlines())


# ── what is in the guest ────────────────────────────────────────────────────────────────────────────────────────────


def test_no_device_of_the_machine_opens_in_the_container(machines: Machines) -> None:
    """CVE-2020-2023: nodes for the guest's disks, its port to the runtime and its memory can be made and not opened."""

    def may_make(config: Json) -> None:
        with_capabilities(config, ["CAP_MKNOD"])

    for allowed in (False, True):
        change = privileged if allowed else may_make
        path = machines.bundle("/bin/sh", "-c", DEVICES, change=change, mounts=with_mounts(memory_at("/mnt")))
        found = tried(machines.run(f"devices-{allowed}", path, check=True).stdout)
        assert any(name.startswith("vport") for name in found), found
        if allowed:  # it is the list of devices that holds
            assert "open, open" in found.values(), found
        else:
            assert set(found.values()) == {"Operation not permitted, Operation not permitted"}, found


def test_exec_is_always_in_the_guest(machines: Machines) -> None:
    """crun #1098: the kernel that a further process sees is the guest's, and no process of it is on the host."""
    machines.started("inside", *SLEEP)
    try:
        kernel, boot = machines.output("inside", "cat", "/proc/version", "/proc/sys/kernel/random/boot_id").splitlines()
        assert platform.release() not in kernel
        assert boot != Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        words = [*machines.command, "--root", str(machines.root), "exec", "inside"]
        with subprocess.Popen([*words, "/bin/sh", "-c", "echo up; exec sleep 4321"], stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"up\n"
            assert not processes_with(b"4321", b"--")
            assert b"--proxy" in Path(f"/proc/{the_proxy(machines, 'inside')}/cmdline").read_bytes()
            process.terminate()
    finally:
        machines.delete("inside", "--force")


def processes_with(word: bytes, without: bytes) -> list[int]:
    """Processes of the host whose arguments have one, but those that call us."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if word in words and without not in words:
            found.append(int(path.parent.name))
    return found


def the_proxy(machines: Machines, container: str) -> int:
    """The process in the jail that stands for the one that `exec` runs."""
    keeper = machines.children(container)["keeper"]
    inside = os.readlink(f"/proc/{keeper}/ns/pid")
    (found,) = [pid for pid in processes_with(b"--proxy", b"--keep") if os.readlink(f"/proc/{pid}/ns/pid") == inside]
    return found


# ── what the host keeps ─────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_that_the_guest_writes_is_in_what_it_was_booted_from(machines: Machines) -> None:
    """CVE-2020-2025, GHSA-wwj6-vghv-5p64: kernel, initramfs and image are open for reading alone; root of the guest, with
    its disk as a device, cannot write to it."""
    need_program("mkfs.erofs")
    time.sleep(0.2)  # of a root that has just changed there is no image
    script = (
        "numbers=$(cat /sys/block/vda/dev); mknod /mnt/disk b ${numbers%:*} ${numbers#*:}; head -c 512 /mnt/disk | wc -c;"
        "dd if=/dev/urandom of=/mnt/disk bs=4096 count=64 conv=fsync 2>&1 || echo refused;"
        "echo x > /etc/passwd; rm -r /bin/[a-c]* /etc; /bin/sync; echo over; exec sleep 600"
    )
    created = machines.started(
        "writes", "/bin/sh", "-c", script, change=privileged, mounts=with_mounts(memory_at("/mnt"))
    )
    try:
        hypervisor = machines.children("writes")["qemu-system-x86_64"]
        images = booted_from(hypervisor)
        assert sum("image-" in path.name for path in images) == 1, images
        before = {path: digest(path) for path in images}
        eventually(lambda: "over\n" in created.stdout, "it has not written")
        assert created.stdout.startswith("512\n"), created
        assert "refused\n" in created.stdout, created
        assert not [path for path in images if is_written_to(hypervisor, path)]
        assert {path: digest(path) for path in images} == before
    finally:
        machines.delete("writes", "--force")
    assert {path: digest(path) for path in images} == before


def booted_from(hypervisor: int) -> list[Path]:
    """The files of the cache that a hypervisor has open, or in its root."""
    opened = [os.readlink(path) for path in Path(f"/proc/{hypervisor}/fd").iterdir()]
    bound = [line.split()[3] for line in Path(f"/proc/{hypervisor}/mountinfo").read_text().splitlines()]
    return sorted({Path(name) for name in (*opened, *bound) if "/boxwright/" in name and Path(name).is_file()})


def is_written_to(pid: int, path: Path) -> bool:
    """Whether a process has the file open to write."""
    for number in os.listdir(f"/proc/{pid}/fd"):
        if os.readlink(f"/proc/{pid}/fd/{number}") == str(path):
            flags = status_in(Path(f"/proc/{pid}/fdinfo/{number}").read_text())["flags"]
            if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                return True
    return False


def test_links_of_the_guest_lead_nowhere_on_the_host(machines: Machines, tmp_path: Path) -> None:
    """CVE-2020-2024, CVE-2020-2026: places of mounts that the guest exchanges for links to the host, in a volume and in
    its own root, are followed neither when it ends nor when the next machine mounts there."""
    outside, volume, root = tmp_path / "outside", tmp_path / "volume", tmp_path / "rootfs"
    for path in (outside, volume, volume / "inner", volume / "deep/inner"):
        path.mkdir(parents=True)
    (outside / "kept").write_text("kept")
    subprocess.run(["cp", "-a", machines._rootfs, root], check=True)
    mounts = with_mounts(
        {"destination": "/mnt", "source": str(volume), "options": ["bind"]},
        {"destination": "/mnt/deep/inner", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/var/tmp", "source": str(outside), "options": ["bind", "ro"]},
    )
    script = (
        f"umount /mnt/deep/inner; for place in /mnt/inner /mnt/deep /home /etc; do rm -rf $place; ln -s {outside} $place; done;"
        f"umount /var/tmp; rm -rf /var; ln -s {tmp_path} /var; ln -s {outside} /new; readlink /mnt/deep"
    )
    before, changed = host_mounts(), {"mounts": mounts, "root": {"path": str(root)}}
    first = machines.run("links", machines.bundle("/bin/sh", "-c", script, change=privileged, **changed))
    assert first.stdout == f"{outside}\n", first
    assert host_mounts() == before
    assert os.readlink(root / "home") == os.readlink(volume / "deep") == str(outside)
    mounts += [memory_at("/new/made"), memory_at("/mnt/inner/made"), memory_at("/home/made")]
    second = machines.run(
        "links", machines.bundle("/bin/sh", "-c", "echo x > /mnt/deep/planted; cat /etc/kept", **changed)
    )
    assert "kept" not in second.stdout.splitlines()
    assert host_mounts() == before
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "rootfs", "volume"]
    assert (outside / "kept").read_text() == "kept"


def test_a_service_of_the_host_is_not_reached(machines: Machines) -> None:
    """Denial of the network: what listens on the host's loopback is not on the guest's, and a machine has no other."""
    taken: list[object] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(60)
        port = listener.getsockname()[1]

        def accept() -> None:
            try:
                taken.append(listener.accept())
            except OSError:
                taken.clear()

        waiting = threading.Thread(target=accept)
        waiting.start()
        script = f"ls /sys/class/net; for host in 127.0.0.1 10.0.2.2; do nc -w 2 $host {port} < /dev/null || echo refused; done"
        result = machines.run("lonely", machines.bundle("/bin/sh", "-c", script, change=privileged))
        listener.shutdown(socket.SHUT_RDWR)
        waiting.join()
    assert result.stdout.split() == ["lo", "refused", "refused"], result
    assert taken == []


# ── who may say what the machine is ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "parameter",
    ["-drive", "file=/etc/shadow,if=virtio", "cpu=max -drive file=/etc/shadow", "accel=tcg,x=/etc", "balloon"],
)
def test_a_parameter_cannot_bring_in_a_file_of_the_host(machines: Machines, parameter: str) -> None:
    """GHSA-rr59-xxvx-96qr: words for the hypervisor that are on no list are refused at their line, before it starts."""
    vm = {"hypervisor": {"path": "/usr/bin/qemu-system-x86_64", "parameters": ["balloon=off", parameter]}}
    path = machines.bundle("/bin/true", vm=vm | {"kernel": {"path": "/boot/vmlinuz"}})
    result = machines.create("words", path, check=False)
    assert result.status != 0
    assert "/vm/hypervisor/parameters/1" in result.stderr, result
    assert machines.ids() == []


def test_no_annotation_reaches_the_machine(machines: Machines) -> None:
    """GHSA-rr59-xxvx-96qr: those by which other runtimes take arguments for their hypervisor, file server and kernel."""
    mark = "-o source=/etc,INJECTED"
    names = ("path", "virtio_fs_extra_args", "virtio_fs_daemon", "kernel_params", "kernel", "initrd", "image")
    annotations = {f"io.katacontainers.config.hypervisor.{name}": mark for name in names}
    annotations |= {
        "run.oci.handler": mark,
        "krun.cpus": mark,
        "org.boxwright.vm": mark,
        "vm.hypervisor.parameters": mark,
    }
    machines.started("annotated", *SLEEP, annotations=annotations)
    try:
        for name, pid in machines.children("annotated").items():
            assert b"INJECTED" not in Path(f"/proc/{pid}/cmdline").read_bytes(), name
        assert "INJECTED" not in machines.output("annotated", "cat", "/proc/cmdline")
    finally:
        machines.delete("annotated", "--force")


# ── the jail ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def jailed(machines: Machines, tmp_path_factory: pytest.TempPathFactory):
    """The processes of one machine by name: with files that are shared with it, and an `exec` in it."""
    volume = tmp_path_factory.mktemp("jailed")
    mount = {"destination": "/mnt", "source": str(volume), "options": ["bind"]}
    container = unique_id("jailed")

    def by_id(config: Json) -> None:
        del config["linux"]["cgroupsPath"]  # its groups are looked for after each test, while it goes on

    machines.started(container, *SLEEP, mounts=with_mounts(mount), change=by_id)
    words = [*machines.command, "--root", str(machines.root), "exec", container, "/bin/sh", "-c", "echo up; read x"]
    leaked = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(leaked, True)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(leaked,)) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        names = {"qemu-system-x86_64": "hypervisor"}
        found = {names.get(name, name): pid for name, pid in machines.children(container).items()}
        yield found | {"proxy": the_proxy(machines, container)}
        process.communicate()
    os.close(leaked)
    machines.delete(container, "--force")


PROCESSES = ("keeper", "virtiofsd", "hypervisor", "proxy")


@pytest.mark.parametrize("name", PROCESSES)
def test_who_serves_a_guest_has_nothing_of_the_host(jailed: dict[str, int], name: str) -> None:
    """CVE-2019-18960, CVE-2026-5747, CVE-2020-35517: each process that a guest could take over has namespaces of its own,
    a system-call filter, an id of nobody, and no capability; but for the file server, which has in its user namespace
    what it takes to write files of any owner, and no way to get more."""
    pid = jailed[name]
    status = status_in(Path(f"/proc/{pid}/status").read_text())
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    effective = int(status["CapEff"], 16)
    assert effective == (OF_A_FILE_SERVER if name == "virtiofsd" else 0)
    assert int(status["CapPrm"], 16) == effective
    assert [int(status[kind], 16) for kind in ("CapBnd", "CapInh", "CapAmb")] == [0, 0, 0]
    ids = {int(word) for key in ("Uid", "Gid", "Groups") for word in status[key].split()}
    assert min(ids) >= 65536
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]


def test_no_two_of_them_are_one_user(jailed: dict[str, int]) -> None:
    """CVE-2019-18960: hypervisor, keeper and file server cannot trace or signal each other."""
    users = [status_in(Path(f"/proc/{jailed[name]}/status").read_text())["Uid"] for name in PROCESSES[:3]]
    assert len(set(users)) == 3


@pytest.mark.parametrize("name", PROCESSES)
def test_the_root_of_who_serves_a_guest_has_no_file_of_the_host(jailed: dict[str, int], name: str) -> None:
    """CVE-2020-28914, CVE-2020-35517: read-only programs and the machine's own files, and for the file server nothing but
    what is shared, without devices, programs or set-user-ID."""
    pid = jailed[name]
    seen = os.listdir(f"/proc/{pid}/root")
    if name == "virtiofsd":
        assert sorted(seen) == ["root", "vol"]
    else:
        programs = {path for path in os.listdir("/") if path.startswith(("bin", "lib", "sbin"))} | {"usr"}
        assert set(seen) <= {"boxwright-helper", "dev", "machine", "proc", "share", "tmp", *programs}
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    of_the_host = [
        fields for fields in mounts if fields[-3 if False else fields.index("-") + 1] not in {"proc", "devpts"}
    ]
    for fields in of_the_host:
        options, place = fields[5].split(","), fields[4]
        if fields[fields.index("-") + 1] in {"tmpfs", "devtmpfs"}:
            continue  # its own, and null and its like
        assert "ro" in options or place.startswith(("/vol/", "/share/vol/")), fields
        if place.startswith(("/vol", "/root", "/share", "/machine")):
            assert {"nosuid", "nodev", "noexec"} <= set(options), fields


@pytest.mark.parametrize("name", PROCESSES)
def test_no_descriptor_of_who_serves_a_guest_leads_out(jailed: dict[str, int], name: str) -> None:
    """CVE-2024-21626: neither a directory of the host nor what the caller of `exec` left open; of files of the host, its
    own logs, what is written by the container, and what it was booted from, to read."""
    pid = jailed[name]
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            path = Path(f"/proc/{pid}/fd/{number}").resolve(strict=True)
            link = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue  # a socket, a pipe or memory; or closed meanwhile
        if name == "virtiofsd" and link.startswith(("/share", "/proc/")):
            continue  # as in its own root
        assert not path.is_dir(), link
        flags = int(status_in(Path(f"/proc/{pid}/fdinfo/{number}").read_text())["flags"], 8)
        if flags & os.O_ACCMODE != os.O_RDONLY and path.is_file():
            assert path.suffix in {".log", ".out", ".err"} or path.name == "ending", link
