"""`boxwright.aio`: the same in an event loop, without threads."""

import asyncio
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import boxwright
from boxwright import aio
from fixtures_library import of_both_kinds, open_fds

pytestmark = pytest.mark.root


@of_both_kinds
def test_run(where):
    async def main():
        result = await aio.run(["sh", "-c", "cat | wc -c; echo err >&2; exit 3"], stdin=bytes(300_000), **where)
        assert (result.stdout, result.stderr, result.exit_code) == (b"300000\n", b"err\n", 3)
        late = await aio.run(["sh", "-c", "echo before; sleep 100"], timeout_s=1.5, **where)
        assert (late.reason, late.stdout) == ("timeout", b"before\n")
        with pytest.raises(boxwright.HostError, match="no-such-program"):
            await aio.run(["no-such-program"], **where)

    asyncio.run(main())


def test_fifty_at_once_without_a_thread(where):
    async def main():
        threads = threading.active_count()
        runs = [aio.run(["sh", "-c", "cat; sleep 0.5"], stdin=b"%d" % number, **where) for number in range(50)]
        results = await asyncio.gather(*runs)
        assert threading.active_count() == threads
        return [int(result.stdout) for result in results]

    started = time.monotonic()
    assert asyncio.run(main()) == list(range(50))
    assert time.monotonic() - started < 15  # one after the other they would sleep for 25 s


@of_both_kinds
def test_cancelling_leaves_nothing(where):
    async def main():
        await aio.run(["true"], **where)
        before = open_fds()
        for wait_s in (0, 0.001, 0.003, 0.01, 0.05):
            task = asyncio.create_task(aio.run(["sleep", "100"], stdin=bytes(300_000), **where))
            await asyncio.sleep(wait_s)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert where["runtime"].states() == []
        assert open_fds() == before

    asyncio.run(main())


def test_a_time_limit_of_the_callers(where):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await aio.run(["sleep", "100"], **where)

    asyncio.run(main())


@of_both_kinds
def test_a_box(where):
    async def main():
        async with aio.Box(env={"A": "1"}, **where) as box:
            assert (await box.exec(["sh", "-c", "echo $A"])).stdout == b"1\n"
            late = await box.exec(["sh", "-c", "echo before; sleep 100 | cat"], timeout_s=1.5)
            assert (late.reason, late.stdout) == ("timeout", b"before\n")
            await box.put(b"content", "/tmp/file")
            assert await box.get("/tmp/file") == b"content"
            results = await asyncio.gather(*(box.exec(["echo", str(number)]) for number in range(10)))
            assert [int(result.stdout) for result in results] == list(range(10))
            box.pause()
            assert box.state()["status"] == "paused"
            box.resume()
            box.update(boxwright.Limits(memory_bytes=1 << 26))
            assert box.stats().memory_limit_bytes == 1 << 26
        with pytest.raises(boxwright.StateError):
            await box.exec(["true"])

    asyncio.run(main())


@of_both_kinds
def test_streams(where):
    async def main():
        async with aio.Box(**where) as box:
            script = "while read line; do echo got $line; echo $line >&2; done"
            async with await box.spawn(["sh", "-c", script]) as process:
                process.stdin.write(b"one\n")
                await process.stdin.drain()
                assert await process.stdout.readline() == b"got one\n"
                assert await process.stderr.readline() == b"one\n"
                with pytest.raises(TimeoutError):
                    await process.wait(0.01)
                process.stdin.close()
                assert await asyncio.gather(process.wait(10), process.wait(10)) == [0, 0]
                assert (process.poll(), process.reason) == (0, "exited")

    asyncio.run(main())


def test_a_terminal(where):
    async def main():
        async with aio.Box(**where) as box:
            async with await box.spawn(["sh", "-c", "tty; read x; stty size"], tty=True) as process:
                process.resize(40, 100)
                process.stdin.write(b"go\n")
                output = await process.stdout.read()
                assert await process.wait(10) == 0
        assert b"/dev/pts/0" in output
        assert b"40 100" in output

    asyncio.run(main())


@of_both_kinds
def test_closing_ends_what_was_spawned(where):
    async def main():
        async with aio.Box(**where) as box:
            process = await box.spawn(["sleep", "100"])
            paused = await box.spawn(["sleep", "100"])
            box.pause()
        assert await process.wait(10) == -signal.SIGKILL
        for left in (process, paused):
            await left.close()

    asyncio.run(main())


def test_a_loop_in_another_thread(where):
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(lambda: asyncio.run(aio.run(["echo", "hi"], **where))).result(20)
    assert result.stdout == b"hi\n"
