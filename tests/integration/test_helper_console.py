"""The terminal of the container."""

import array
import errno
import fcntl
import os
import select
import socket
import stat
import struct
import termios

import pytest

from boxwright.plan import ops
from helper_harness import CLONE_NEWNS, CLONE_NEWPID, Running, host_root, plan_of, program

pytestmark = pytest.mark.root

CLONE = ops.Clone(CLONE_NEWNS | CLONE_NEWPID)
ROOT, TREE, PLACE = 0, 1, 2


def _dev(*, devpts=True):
    made = [
        ops.FsMount(5, "tmpfs", ("source=dev",), 0),
        ops.Resolve(PLACE, ROOT, "/dev", ops.DIRECTORY, 0o755, 0),
        ops.MoveMount(5, PLACE),
        ops.MakeNode(ROOT, "/dev/tty", stat.S_IFCHR | 0o666, 5, 0, 0, 0),
    ]
    pts = [
        ops.FsMount(5, "devpts", ("newinstance", "ptmxmode=0666"), 0),
        ops.Resolve(PLACE, ROOT, "/dev/pts", ops.DIRECTORY, 0o755, 0),
        ops.MoveMount(5, PLACE),
    ]
    return made + pts * devpts


def _read(master):
    """What was written; empty once the other end is closed."""
    assert select.select([master], [], [], 10)[0]
    try:
        return os.read(master, 4096)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


def _read_all(master):
    return b"".join(iter(lambda: _read(master), b"")).decode()


SCRIPT = "tty; stty size; stat -c '%u %t' $(tty); stat -f -c %T /dev/console; ps -o tty= -p $$; echo typed < /dev/tty"


def _init(stage, console):
    return [*host_root(stage, *_dev()), ops.NewSession(), console, ops.PivotRoot(ROOT), *program(SCRIPT)]


def test_the_terminal_is_handed_over_by_report(tmp_path):
    console = ops.Console(ROOT, 33, 111, 1234, ops.NO_SLOT, 1)
    with Running(plan_of([CLONE], (), _init(tmp_path, console))) as running:
        report = running.until(ops.TERMINAL)
        (master,) = report.fds
        assert report.text == "/dev/ptmx"
        size = struct.unpack("HHHH", fcntl.ioctl(master, termios.TIOCGWINSZ, bytes(8)))
        output = _read_all(master)
        running.finish()
    assert size[:2] == (33, 111)
    assert output.split("\r\n")[:4] == ["/dev/pts/0", "33 111", "1234 88", "devpts"], output
    assert "pts/0" in output.split("\r\n")[4]
    assert output.endswith("typed\r\n")


def test_the_terminal_goes_to_the_console_socket():
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    console = ops.Console(30, 0, 0, 0, 0, 0)
    init = [ops.Open(30, "/", os.O_PATH | os.O_DIRECTORY), ops.NewSession(), console, *program("tty")]
    # slot 0 is the inherited socket, so the root stands in another one
    plan = plan_of([ops.Clone(CLONE_NEWNS)], (), init, ("console",))
    with ours, theirs, Running(plan, inherited=[theirs.fileno()]) as running:
        text, control, _, _ = ours.recvmsg(100, socket.CMSG_SPACE(16))
        fds = array.array("i", control[0][2])
        assert text == b"/dev/ptmx"
        output = _read_all(fds[0])
        os.close(fds[0])
        running.finish()
    assert output.startswith("/dev/pts/")


def _refused(stage, *dev):
    init = [*host_root(stage, *dev), ops.NewSession(), ops.Console(ROOT, 0, 0, 0, ops.NO_SLOT, 1)]
    with Running(plan_of([CLONE], (), init)) as running:
        running.finish()
        return [r.error for r in running.of_kind(ops.ERROR)]


def test_what_only_looks_like_a_devpts_is_refused(tmp_path):
    """CVE-2025-52565: no path is trusted for where it is."""
    node = ops.MakeNode(ROOT, "/dev/pts/ptmx", stat.S_IFCHR | 0o666, 5, 2, 0, 0)
    assert _refused(tmp_path, *_dev(devpts=False), node) == [errno.ENODEV]
    assert _refused(tmp_path, *_dev(devpts=False)) == [errno.ENOENT]


def test_a_link_in_place_of_pts_leads_to_no_other_terminal(tmp_path):
    link = ops.MakeSymlink(ROOT, "/dev/pts", "/etc", "")
    assert _refused(tmp_path, *_dev(devpts=False), link) == [errno.ENODEV]


def test_a_console_that_is_a_link_leads_to_nothing_outside_of_the_root(tmp_path):
    outside = tmp_path / "outside"
    stage = tmp_path / "stage"
    stage.mkdir()
    link = ops.MakeSymlink(ROOT, "/dev/console", f"/dev/{'../' * 20}{outside}", "")
    console = ops.Console(ROOT, 0, 0, 0, ops.NO_SLOT, 1)
    cover = (
        ops.FsMount(6, "tmpfs", (), 0),
        ops.Resolve(7, ROOT, str(tmp_path), ops.DIRECTORY, 0, 0),
        ops.MoveMount(6, 7),
    )
    init = [*host_root(stage, *_dev(), *cover), link, ops.NewSession(), console]
    with Running(plan_of([CLONE], (), init)) as running:
        assert running.finish().of_kind(ops.ERROR) == []
    assert not outside.exists()


@pytest.mark.parametrize(("height", "width"), [(-1, 1), (1, 65536)])
def test_a_size_that_no_terminal_has_is_refused(tmp_path, height, width):
    init = [*host_root(tmp_path, *_dev()), ops.NewSession(), ops.Console(ROOT, height, width, 0, ops.NO_SLOT, 0)]
    with Running(plan_of([CLONE], (), init)) as running:
        assert [r.error for r in running.finish().of_kind(ops.ERROR)] == [errno.EINVAL]
