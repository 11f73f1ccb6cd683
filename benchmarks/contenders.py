"""Who takes part: each is a way to do one thing once, timed from the outside."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

from benchmarks.bundle import Bundle

COMMAND = Path(sys.executable).with_name("boxwright")
PEERS = ("crun", "runc")


class FailureError(Exception):
    """A contender did not do what it was to do."""


class Contender:
    """One way of doing something. `once` does it with a number of its own and answers the milliseconds."""

    def __init__(self, name: str, once: Callable[[int], float]) -> None:
        self.name = name
        self.once = once


def spawn(argv: Sequence[str]) -> float:
    """Run a program with nothing to read or write; milliseconds from its start to its end."""
    null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
    start = perf_counter()
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=null)
    _pid, status = os.waitpid(pid, 0)
    took_ms = (perf_counter() - start) * 1000
    if status:
        raise FailureError(f"{' '.join(argv)}: wait status {status:#x}")
    return took_ms


Spawn = Callable[[Sequence[str]], float]


def program(name: str, *argv: str, by: Spawn = spawn) -> Contender:
    """A contender that is one program; `@` in a word becomes the round's number."""
    return sequence(name, argv, by=by)


def sequence(name: str, *steps: Sequence[str], by: Spawn = spawn) -> Contender:
    """A contender that is several programs, one after the other."""

    def once(number: int) -> float:
        return sum(by([word.replace("@", str(number)) for word in step]) for step in steps)

    return Contender(name, once)


class Runtime:
    """A command line that the others are compared by: its words before the verb, and how it is started."""

    def __init__(self, name: str, command: list[str], by: Spawn = spawn) -> None:
        self.name = name
        self.command = command
        self.by = by

    def call(self, what: str, *words: str) -> Contender:
        """A contender that is one call."""
        return program(f"{self.name} {what}", *self.command, *words, by=self.by)


def runtimes(state: Path) -> list[Runtime]:
    """The runtimes that are there, each with a state directory of its own; the newer ones by BOXWRIGHT_BENCH_SID."""
    found = [Runtime("boxwright", [str(COMMAND), "--root", str(state)])]
    for peer in PEERS:
        if where := shutil.which(peer):
            found.append(Runtime(peer, [where, "--root", str(state / peer)]))
    if root := os.environ.get("BOXWRIGHT_BENCH_SID"):
        from benchmarks.newer import NewerRoot

        newer = NewerRoot(Path(root))
        for peer in PEERS:
            command = [newer.path(peer), "--root", str(state / f"new-{peer}")]
            found.append(Runtime(f"new-{peer}", command, newer.spawn))
    return found


def of_runs(bundle: Bundle, floor: Path, state: Path, peers: Sequence[Runtime]) -> list[Contender]:
    """The whole life of a container that does nothing: made, run, gone."""
    found = [
        program("floor", str(floor), str(bundle.root), "floor-@", *groups()),
        Contender("library, bundle", library_run(state, bundle=bundle.path)),
        Contender("library, host's root", library_run(state, ["/bin/true"])),
    ]
    found += [one.call("run", "run", "--bundle", str(bundle.path), f"{one.name}-@") for one in peers]
    if where := shutil.which("bwrap"):
        found.append(program("bwrap", where, *_bwrap(bundle.root)))
    return [*found, program("/bin/true", "/bin/true")]


def of_lives(bundle: Bundle, peers: Sequence[Runtime]) -> list[Contender]:
    """create, start and delete as an engine calls them."""
    return [
        sequence(
            f"{one.name} life",
            [*one.command, "create", "--bundle", str(bundle.path), f"{one.name}-@"],
            [*one.command, "start", f"{one.name}-@"],
            [*one.command, "delete", "--force", f"{one.name}-@"],
            by=one.by,
        )
        for one in peers
    ]


def of_verb(peers: Sequence[Runtime], verb: str, *rest: str) -> list[Contender]:
    """What is asked of a container that runs: its id is the runtime's name."""
    return [one.call(verb, verb, one.name, *rest) for one in peers]


def library_run(state: Path, argv: Sequence[str] | None = None, bundle: Path | None = None) -> Callable[[int], float]:
    """The life of a container from a process that runs already."""
    import boxwright

    runtime = boxwright.Runtime(str(state))

    def once(_number: int) -> float:
        start = perf_counter()
        result = boxwright.run(argv, bundle=bundle, runtime=runtime)
        took_ms = (perf_counter() - start) * 1000
        if not result.ok:
            raise FailureError(f"library: {result!r}")
        return took_ms

    return once


def groups() -> list[str]:
    """A writable directory in each cgroup hierarchy: where a container's group goes."""
    from boxwright.host.cgroup_probe import probe

    return [f"{one.mountpoint}{one.own}".rstrip("/") for one in probe().hierarchies]


def _bwrap(root: Path) -> list[str]:
    apart = ("--unshare-all", "--die-with-parent", "--cap-drop", "ALL")
    return [*apart, "--bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "/bin/true"]
