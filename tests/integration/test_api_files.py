"""Files into a box and out of it, while a program in the box does its worst."""

import errno
import os
import stat
import time
from contextlib import contextmanager

import pytest

import boxwright
from fixtures_library import of_both_kinds

pytestmark = pytest.mark.root
MIB = 1 << 20


def sh(box, script):
    result = box.exec(["sh", "-c", script])
    assert result.ok, result
    return result.stdout.decode()


@pytest.fixture
def bait(tmp_path_factory):
    """A file of the host that nobody is to read, and whose directory nobody is to write to."""
    path = tmp_path_factory.mktemp("bait")
    (path / "secret").write_text("secret of the host")
    yield path
    assert os.listdir(path) == ["secret"]
    assert (path / "secret").read_text() == "secret of the host"


def test_bytes_there_and_back(box):
    data = os.urandom(3 * MIB)
    box.put(data, "/opt/deep/down/file")
    assert box.get("/opt/deep/down/file") == data
    assert sh(box, "stat -c '%a %u %g' /opt/deep /opt/deep/down/file").split("\n")[:2] == ["755 0 0", "644 0 0"]


def test_mode_and_owner(box):
    box.put(b"#!/bin/sh\necho ran\n", "/opt/program", mode=0o750, user=(5, 6))
    assert sh(box, "stat -c '%a %u %g' /opt/program; /opt/program") == "750 5 6\nran\n"


def test_a_file_is_replaced_as_a_whole(box):
    box.put(b"first", "/tmp/file")
    with box.spawn(["sh", "-c", "exec < /tmp/file; echo open; read x; cat"], stdin=boxwright.DEVNULL) as process:
        assert process.stdout.readline() == b"open\n"
    box.put(b"2nd", "/tmp/file")
    assert box.get("/tmp/file") == b"2nd"
    assert sh(box, "ls /tmp") == "file\n"


def test_directories_there_and_back(box, tmp_path):
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "program").write_text("#!/bin/sh\necho ran\n")
    (source / "program").chmod(0o755)
    (source / "sub" / "file").write_bytes(b"content")
    (source / "link").symlink_to("sub/file")
    box.put(source, "/opt/tree")
    assert sh(box, "/opt/tree/program; cat /opt/tree/link; readlink /opt/tree/link") == "ran\ncontentsub/file\n"
    sh(box, "mkfifo /opt/tree/fifo; chmod u+s /opt/tree/program; echo more > /opt/tree/sub/more")
    box.get("/opt/tree", tmp_path / "target")
    target = tmp_path / "target"
    assert sorted(os.listdir(target)) == ["link", "program", "sub"]
    assert os.readlink(target / "link") == "sub/file"
    assert stat.S_IMODE((target / "program").stat().st_mode) == 0o755
    assert (target / "sub" / "more").read_text() == "more\n"


def test_a_target_that_is_there_is_left_alone(box, tmp_path):
    (tmp_path / "target").write_text("mine")
    box.put(b"theirs", "/tmp/file")
    with pytest.raises(boxwright.HostError, match="EEXIST"):
        box.get("/tmp/file", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/nothing", "ENOENT"),
        ("/etc", "EISDIR"),
        ("/tmp/fifo", "EPERM"),
        ("/dev/null", "EPERM"),
        ("/proc/1/environ", "EPERM"),
        ("/sys/kernel/uevent_seqnum", "EPERM"),
        ("/tmp/to-proc", "EPERM"),
        ("/tmp/magic/etc/hostname", "ELOOP"),
        ("/tmp/loop", "ELOOP"),
    ],
)
def test_what_is_not_read(box, path, name):
    sh(box, "mkfifo /tmp/fifo; ln -s /proc/version /tmp/to-proc; ln -s /proc/1/root /tmp/magic; ln -s loop /tmp/loop")
    with pytest.raises(boxwright.HostError, match=name):
        box.get(path)


def test_more_than_was_asked_for_is_an_error(box, tmp_path):
    sh(box, "mkdir /tmp/d; truncate -s 900000000000 /tmp/d/sparse")
    with pytest.raises(boxwright.HostError, match="EFBIG"):
        box.get("/tmp/d/sparse", most_bytes=MIB)
    with pytest.raises(boxwright.HostError, match="EFBIG"):
        box.get("/tmp/d", tmp_path / "target", most_bytes=MIB)
    assert not (tmp_path / "target").exists()


def test_links_lead_where_they_lead_in_the_box(box, bait):
    sh(box, f"mkdir -p {bait}; echo of the box > {bait}/secret; ln -s {bait} /tmp/dir; ln -s {bait}/secret /tmp/file")
    assert box.get("/tmp/file") == b"of the box\n"
    assert box.get("/tmp/dir/../../../../../../.." + str(bait) + "/secret") == b"of the box\n"
    box.put(b"new", "/tmp/dir/made")
    assert sh(box, f"cat {bait}/made") == "new"


def test_a_link_at_the_place_itself_is_replaced(box, bait):
    sh(box, f"ln -s {bait}/secret /tmp/file; mkdir -p {bait}; echo old > {bait}/secret")
    box.put(b"new", "/tmp/file")
    assert sh(box, f"test ! -L /tmp/file; cat /tmp/file {bait}/secret") == "newold\n"


def test_a_link_in_place_of_a_directory_is_not_filled(box, bait, tmp_path):
    sh(box, f"mkdir -p /tmp/tree {bait}; ln -s {bait} /tmp/tree/sub")
    (tmp_path / "source/sub").mkdir(parents=True)
    (tmp_path / "source/sub/file").write_text("x")
    with pytest.raises(boxwright.HostError, match="ELOOP"):
        box.put(tmp_path / "source", "/tmp/tree")


# swaps a directory for a link to the bait and back, as fast as it can, until it is killed
_SWAPPER = """
mkdir -p /work/real/sub; echo inside > /work/real/sub/secret
ln -s {bait} /work/evil; ln -s ../../../../../../../..{bait} /work/evil2; ln -s /proc/1/root{bait} /work/evil3
echo ready
while true; do
    for evil in evil evil2 evil3; do
        mv /work/real/sub /work/aside; mv /work/$evil /work/real/sub
        mv /work/real/sub /work/$evil; mv /work/aside /work/real/sub
    done
done
"""


@contextmanager
def failing(*numbers):
    """What is done may fail with one of these, as a name may just be missing or be a link."""
    try:
        yield
    except boxwright.HostError as error:
        if error.errno not in numbers:
            raise


@pytest.fixture
def swapper(box, bait):
    with box.spawn(["sh", "-c", _SWAPPER.format(bait=bait)], stderr=boxwright.DEVNULL) as swapper:
        assert swapper.stdout.readline() == b"ready\n"
        yield swapper
        assert swapper.poll() is None


@pytest.fixture
def rounds(request):
    """How often something is tried: a transfer out of a guest takes as long as ten of another box."""
    return 25 if "vm" in request.node.callspec.id else 100


@pytest.mark.usefixtures("swapper")
def test_reading_while_names_are_swapped(box, tmp_path, rounds):
    found = 0
    for number in range(rounds):
        with failing(errno.ENOENT, errno.ELOOP):
            assert box.get("/work/real/sub/secret") == b"inside\n"
            found += 1
        target = tmp_path / f"target{number}"
        with failing(errno.ENOENT, errno.ELOOP):
            box.get("/work/real", target)
        for path in target.rglob("*"):
            assert path.is_symlink() or path.is_dir() or path.read_text() == "inside\n"
    assert found


@pytest.mark.usefixtures("swapper")
def test_writing_while_names_are_swapped(box, rounds):
    for number in range(rounds):
        with failing(errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
            box.put(b"x", f"/work/real/sub/made{number % 3}")


def test_a_program_that_moves_a_directory_out_from_under_us(box, bait, rounds):
    script = "mkdir -p /a/b/c; echo ready; while true; do mv /a/b /b; mv /b /a/b; done"
    with box.spawn(["sh", "-c", script]) as mover:
        assert mover.stdout.readline() == b"ready\n"
        for _ in range(rounds):
            with pytest.raises(boxwright.HostError):
                box.get(f"/a/b/c/../../../../../../../..{bait}/secret")


def test_paths_that_are_none(box):
    for path in ("relative", "/", "/tmp/..", ""):
        with pytest.raises(boxwright.UsageError):
            box.put(b"", path)
    with pytest.raises(boxwright.UsageError, match="no file, directory or link"):
        box.put("/dev/null", "/tmp/null")


@of_both_kinds
def test_a_read_only_box(where):
    with boxwright.Box(read_only=True, **where) as box:
        with pytest.raises(boxwright.HostError, match="EROFS"):
            box.put(b"x", "/etc/file")
        box.put(b"x", "/tmp/file")


@of_both_kinds
def test_a_box_whose_init_has_ended(where):
    with boxwright.Box(**where) as box:
        with box.spawn(["sleep", "100"]) as process:
            box.kill()
            process.wait(10)
        while box.state()["status"] != "stopped":
            time.sleep(0.01)
        with pytest.raises(boxwright.StateError):
            box.get("/etc/passwd")


def test_ids_of_a_user_namespace(runtime, bundle, fresh_busybox_root):
    from fixtures_runtime import default_config

    config = default_config("/bin/true")
    config["root"]["path"] = str(fresh_busybox_root)
    config["linux"]["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        config["linux"][name] = [{"containerID": 0, "hostID": 100_000, "size": 1000}]
    with boxwright.Box(bundle=bundle(config), runtime=runtime) as box:
        box.put(b"x", "/dev/shm/file", user=(7, 8))
        assert box.exec(["stat", "-c", "%u %g", "/dev/shm/file"]).stdout == b"7 8\n"
        with pytest.raises(boxwright.HostError, match="does not have"):
            box.put(b"x", "/dev/shm/file", user=1000)
