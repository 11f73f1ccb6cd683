"""Programs of a distribution in a virtual machine: interpreters, a compiler, packages, databases, a web server."""

import hashlib
import os
import socket
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import boxwright
import lacks
from boxwright import Bind, Limits
from boxwright.boxes.vm import images
from boxwright.boxes.vm.cache import Cache
from fixtures_roots import copy_root, open_parents
from fixtures_vm import eventually, need_machines

pytestmark = pytest.mark.root
MIB = 1 << 20
LIMITS = Limits(memory_bytes=512 * MIB)
TIMEOUT_S = 120.0


@pytest.fixture(scope="module")
def programs_image(debian_programs_root: Path) -> Path:
    """The root of which there is an image: the guest has it as a disk."""
    lacks.need("mkfs.erofs", images.mkfs())
    eventually(lambda: images.image_of(str(debian_programs_root), Cache()), "there is no image of the root")
    return debian_programs_root


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory, programs_image: Path) -> Iterator[boxwright.Box]:
    """A box over that root, for what changes nothing that another test looks at."""
    need_machines()
    runtime = boxwright.Runtime(str(tmp_path_factory.mktemp("debian") / "state"))
    limits = Limits(memory_bytes=256 * MIB, cpus=2)
    with boxwright.Box(rootfs=programs_image, runtime=runtime, isolation="vm", limits=limits, hostname="deb") as box:
        yield box
    assert runtime.states() == []


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the package `tiny.deb` of one file of one user and one program to run after installation."""
    lacks.need_program("dpkg-deb")
    place = tmp_path_factory.mktemp("package")
    (place / "tiny/DEBIAN").mkdir(parents=True)
    (place / "tiny/usr/share/tiny").mkdir(parents=True)
    (place / "tiny/DEBIAN/control").write_text(
        "Package: tiny\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: tiny\n"
    )
    (place / "tiny/DEBIAN/postinst").write_text("#!/bin/sh\nchown 33:33 /usr/share/tiny/said\n")
    (place / "tiny/DEBIAN/postinst").chmod(0o755)
    (place / "tiny/usr/share/tiny/said").write_text("tiny was here\n")
    for directory, _, _ in os.walk(place / "tiny"):
        os.chmod(directory, 0o755)
    (place / "shown").mkdir()
    words = ["dpkg-deb", "--root-owner-group", "--build", str(place / "tiny"), str(place / "shown/tiny.deb")]
    subprocess.run(words, check=True, capture_output=True)
    open_parents(place / "shown/tiny.deb")
    return place / "shown"


def said(box: boxwright.Box, *words: str) -> str:
    result = box.exec(words, timeout_s=TIMEOUT_S)
    assert result.ok, result
    return result.stdout.decode()


PYTHON = """
import sqlite3, subprocess, threading
found = []
threads = [threading.Thread(target=found.append, args=(number,)) for number in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(found), *sqlite3.connect(":memory:").execute("select 6 * 7").fetchone())
print(subprocess.run(["sh", "-c", "exit 3"]).returncode)
"""
# each is to be refused to the root of the container; reboot(2) with the command to power off
POWER = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for name, arguments in (
    ("reboot", (0x4321FEDC,)), ("sethostname", (b"x", 1)), ("swapoff", (b"/x",)),
    ("settimeofday", ((ctypes.c_long * 2)(1, 1), None)),
):
    print(name, getattr(libc, name)(*arguments), ctypes.get_errno())
"""


def test_the_root_is_a_disk_of_the_machine(debian: boxwright.Box) -> None:
    assert "vda" in said(debian, "ls", "/sys/block").split()


def test_threads_modules_and_children_of_python(debian: boxwright.Box) -> None:
    assert said(debian, "python3", "-c", PYTHON) == "190 42\n3\n"


def test_a_program_is_compiled_and_runs(debian: boxwright.Box) -> None:
    debian.put(b'#include <stdio.h>\nint main(void) { return puts("compiled here") < 0; }\n', "/tmp/a.c")
    assert said(debian, "sh", "-c", "gcc -O1 -o /tmp/a /tmp/a.c && /tmp/a") == "compiled here\n"


def test_the_guest_knows_name_time_and_chance(debian: boxwright.Box) -> None:
    assert said(debian, "hostname") == "deb\n"
    assert said(debian, "nproc") == "2\n"
    before = time.time()
    told = float(said(debian, "date", "+%s.%N"))
    assert before - 1 < told < time.time() + 1
    began = time.monotonic()
    assert len(said(debian, "sh", "-c", "head -c 32 /dev/random | md5sum")) > 32
    assert time.monotonic() - began < 5


def test_the_machine_is_not_the_program_s_to_switch_off(debian: boxwright.Box) -> None:
    lines = said(debian, "python3", "-c", POWER).splitlines()
    assert lines == [f"{name} -1 1" for name in ("reboot", "sethostname", "swapoff", "settimeofday")]
    assert not debian.exec(["sh", "-c", "echo o > /proc/sysrq-trigger"]).ok
    assert said(debian, "echo", "still here") == "still here\n"


FORKS = """
import os, signal
children = []
for _ in range(500):
    child = os.fork()
    if not child:
        signal.pause()
    children.append(child)
print(sum(name.isdigit() for name in os.listdir("/proc")) > 500)
for child in children:
    os.kill(child, signal.SIGTERM)
print(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_many_processes_at_once(debian: boxwright.Box) -> None:
    assert said(debian, "python3", "-c", FORKS) == f"True\n{500 * -15}\n"


def test_what_goes_through_a_program_comes_out_of_it(debian: boxwright.Box) -> None:
    given = os.urandom(24 * MIB)
    result = debian.exec(["cat"], stdin=given)
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(given).digest()


def test_a_file_in_memory_meets_the_limit(programs_image: Path, runtime: boxwright.Runtime) -> None:
    words = ["dd", "if=/dev/zero", "of=/tmp/large", "bs=1M", "count=300"]
    limits = Limits(memory_bytes=128 * MIB)
    result = boxwright.run(words, rootfs=programs_image, runtime=runtime, isolation="vm", limits=limits)
    assert (result.reason, result.signal) == ("oom", 9)
    assert result.usage.oom_kills > 0


def test_a_package_is_installed_and_a_database_written(
    programs_image: Path, runtime: boxwright.Runtime, package: Path, tmp_path: Path
) -> None:
    """The package is on a volume that is only shown; the database on one that the host looks at afterwards."""
    volume = tmp_path / "volume"
    volume.mkdir()
    script = """
        apt-get install -qq -y /deb/tiny.deb >&2 && cat /usr/share/tiny/said && dpkg -s tiny | grep Status
        touch /deb/x 2>/dev/null && echo the package can be written to
        sqlite3 /vol/db 'pragma journal_mode=wal; create table t (a); insert into t values (1), (2), (3);'
        sqlite3 /vol/db 'select sum(a) from t'
    """
    binds = (Bind(str(package), "/deb"), Bind(str(volume), "/vol", writable=True))
    result = boxwright.run(
        ["sh", "-c", script], rootfs=programs_image, runtime=runtime, isolation="vm", limits=LIMITS, mounts=binds
    )
    assert result.ok, result
    assert result.stdout == b"tiny was here\nStatus: install ok installed\nwal\n6\n"
    assert not (programs_image / "usr/share/tiny").exists()
    with sqlite3.connect(volume / "db") as database:
        assert database.execute("select a from t").fetchall() == [(1,), (2,), (3,)]
    database.close()


def test_a_package_is_installed_into_the_root_itself(
    debian_root: Path, runtime: boxwright.Runtime, package: Path, tmp_path: Path
) -> None:
    """Without an overlay: what the box wrote is there, and whose the box made it."""
    need_machines()
    root = tmp_path / "root"
    copy_root(debian_root, root)
    words = ["sh", "-c", "dpkg -i /deb/tiny.deb && ln /usr/share/tiny/said /usr/share/tiny/again && sync"]
    result = boxwright.run(
        words,
        rootfs=root,
        runtime=runtime,
        isolation="vm",
        overlay=False,
        limits=LIMITS,
        mounts=(Bind(str(package), "/deb"),),
    )
    assert result.ok, result
    found = (root / "usr/share/tiny/said").stat()
    assert (found.st_uid, found.st_gid, found.st_nlink) == (33, 33, 2)
    assert "Package: tiny\nStatus: install ok installed" in (root / "var/lib/dpkg/status").read_text()


NGINX = """
printf 'daemon off; master_process on; worker_processes 2; error_log stderr; pid /tmp/pid; events {}
http { access_log off; server { listen 80; root /srv; } }' > /tmp/nginx.conf
mkdir -p /srv /var/log/nginx; head -c 1000000 /dev/urandom > /srv/file; md5sum < /srv/file > /srv/sum
exec nginx -c /tmp/nginx.conf
"""


def test_a_web_server_is_reached_by_its_published_port(
    boxwright_command: str, programs_image: Path, tmp_path: Path
) -> None:
    need_machines()
    lacks.need_program("slirp4netns")
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port = made.getsockname()[1]
    command = [boxwright_command, "--root", str(tmp_path / "state"), "run", "--isolation", "vm", "--memory", "256m"]
    command += ["--rootfs", str(programs_image), "--network", "host", "--publish", f"{port}:80"]
    server = subprocess.Popen([*command, "--", "sh", "-c", NGINX], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        digest = fetched(f"http://127.0.0.1:{port}/sum", server).split()[0].decode()
        assert hashlib.md5(fetched(f"http://127.0.0.1:{port}/file", server)).hexdigest() == digest
    finally:
        server.terminate()
        _, errors = server.communicate(timeout=30)
    assert server.returncode == 0, errors  # nginx ends in order at SIGTERM


def fetched(url: str, server: "subprocess.Popen[bytes]") -> bytes:
    """What a server that comes up some time has there."""
    end = time.monotonic() + TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return bytes(answer.read())
        except OSError as error:
            assert time.monotonic() < end, f"{url}: {error}"
            assert server.poll() is None, server.communicate()
            time.sleep(0.2)


POSTGRES = """
set -e
export PATH=$(echo /usr/lib/postgresql/*/bin):$PATH PGHOST=/tmp PGDATABASE=postgres
initdb -D /data/pg -A trust --no-sync --no-locale >/tmp/log
pg_ctl -D /data/pg -w -l /tmp/log start -o '-c listen_addresses= -c unix_socket_directories=/tmp' >/tmp/ctl
pgbench -q -i -s 1 2>/tmp/made
for fsync in off on; do
    psql -qAt -c "alter system set fsync = $fsync" -c 'select pg_reload_conf()' >/tmp/reload
    sleep 0.5
    psql -qAt -c 'show fsync'
    pgbench -n -c 2 -t 5 2>/tmp/ran | grep -E 'processed|failed'
done
psql -qAt -c 'select count(*) from pgbench_accounts' -c 'select count(*) from pgbench_history'
pg_ctl -D /data/pg -w -m fast stop >/tmp/ctl
stat -c '%U %a' /data/pg
"""
BENCHED = "number of transactions actually processed: 10/10\nnumber of failed transactions: 0 (0.000%)\n"


def test_a_database_server_keeps_its_files_on_a_volume(
    programs_image: Path, runtime: boxwright.Runtime, tmp_path: Path
) -> None:
    """By its own user, who on the host is the one that has the volume."""
    line = next(each for each in (programs_image / "etc/passwd").read_text().splitlines() if "postgres:" in each)
    user, group = (int(each) for each in line.split(":")[2:4])
    volume = tmp_path / "data"
    volume.mkdir(mode=0o700)
    os.chown(volume, user, group)
    result = boxwright.run(
        ["sh", "-c", POSTGRES],
        rootfs=programs_image,
        runtime=runtime,
        isolation="vm",
        user=(user, group),
        limits=LIMITS,
        mounts=(Bind(str(volume), "/data", writable=True),),
        timeout_s=2 * TIMEOUT_S,
    )
    assert result.ok, result
    assert result.stdout.decode() == f"off\n{BENCHED}on\n{BENCHED}100000\n20\npostgres 700\n"
    owners = {(found.stat().st_uid, found.stat().st_gid) for found in (volume / "pg").rglob("*")}
    assert owners == {(user, group)}
    assert (volume / "pg/PG_VERSION").read_text().strip().isdigit()
