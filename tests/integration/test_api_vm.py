"""What is particular to boxes in virtual machines, from the library."""

import asyncio
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import boxwright
from boxwright import Limits, aio
from fixtures_library import open_fds

pytestmark = pytest.mark.root
MIB = 1 << 20


@pytest.fixture
def machine(machine_box):
    return machine_box


def kill_hypervisor(box):
    keeper = box.state()["pid"]
    for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split():
        if b"qemu-system" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(int(pid), signal.SIGKILL)


def test_the_kernel_is_another(machine):
    assert (
        machine.exec(["cat", "/proc/sys/kernel/random/boot_id"]).stdout.decode()
        != Path("/proc/sys/kernel/random/boot_id").read_text()
    )


def test_what_a_program_took_is_counted_in_the_guest(machine):
    idle = machine.exec(["sleep", "0.3"]).usage
    busy = machine.exec(["sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"]).usage
    assert busy.user_s > 2 * idle.user_s
    assert idle.wall_s >= 0.3
    assert 0 < busy.memory_peak_bytes < 64 * MIB  # and not that of a hypervisor


def test_a_time_limit_takes_the_process_group_with_it(machine):
    result = machine.exec(["sh", "-c", "sleep 1234 & echo started; wait"], timeout_s=1.5)
    assert (result.reason, result.signal, result.stdout) == ("timeout", signal.SIGKILL, b"started\n")
    assert result.usage.cpu_s > 0
    assert b"1234" not in machine.exec(["ps"]).stdout


def test_a_source_that_cannot_be_read_leaves_nothing_half_made(machine, tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a-file").write_bytes(bytes(100_000))
    os.mkfifo(tmp_path / "tree" / "b-fifo")
    with pytest.raises(boxwright.UsageError, match="no file, directory or link"):
        machine.put(tmp_path / "tree", "/tmp/half")
    assert machine.exec(["ls", "-A", "/tmp/half"]).stdout == b"a-file\n"


def test_files_take_of_the_memory_of_the_box(runtime, busybox_root):
    limits = Limits(memory_bytes=24 * MIB)
    with boxwright.Box(rootfs=busybox_root, runtime=runtime, isolation="vm", limits=limits) as box:
        with pytest.raises(boxwright.HostError, match=r"ENOMEM|ENOSPC"):
            box.put(bytes(40 * MIB), "/tmp/large")
        assert box.exec(["true"]).ok


def test_a_machine_that_breaks_off_is_an_error(runtime, busybox_root):
    with boxwright.Box(rootfs=busybox_root, runtime=runtime, isolation="vm") as box, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(box.exec, ["sleep", "100"])
        with box.spawn(["sh", "-c", "echo up; sleep 100"]) as process:
            process.stdout.readline()
            kill_hypervisor(box)
            with pytest.raises(boxwright.GuestError, match="the guest is lost"):
                waiting.result(20)
            assert process.wait(10) == -signal.SIGKILL
        # the keeper ends once its children are reaped
        with pytest.raises((boxwright.GuestError, boxwright.StateError)):
            box.get("/etc/passwd")


def test_machines_from_threads_and_nothing_is_left_open(runtime, busybox_root):
    def one(number):
        words = ["sh", "-c", f"echo {number}; exit {number}"]
        result = boxwright.run(words, rootfs=busybox_root, runtime=runtime, isolation="vm")
        return result.stdout, result.exit_code

    one(0)
    before = open_fds()
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, (1, 2))) == [(b"1\n", 1), (b"2\n", 2)]
    assert open_fds() == before


def test_an_event_loop_is_not_held_up_by_a_boot(runtime, busybox_root):
    async def beat(gaps):
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    async def main():
        gaps: list[float] = []
        beating = asyncio.create_task(beat(gaps))
        result = await aio.run(["echo", "up"], rootfs=busybox_root, runtime=runtime, isolation="vm")
        beating.cancel()
        assert result.stdout == b"up\n"
        return gaps

    gaps = asyncio.run(main())
    assert len(gaps) > 30
    assert sorted(gaps)[-3] < 0.3  # a boot takes more than a second
