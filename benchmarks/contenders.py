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


def program(name: str, *argv: str) -> Contender:
    """A contender that is one program; `@` in a word becomes the round's number."""
    return Contender(name, lambda number: spawn([word.replace("@", str(number)) for word in argv]))


def sequence(name: str, *steps: Sequence[str]) -> Contender:
    """A contender that is several programs, one after the other."""

    def once(number: int) -> float:
        return sum(spawn([word.replace("@", str(number)) for word in step]) for step in steps)

    return Contender(name, once)


def of_runs(bundle: Bundle, floor: Path, state: Path) -> list[Contender]:
    """The whole life of a container that does nothing: made, run, gone."""
    ours, path = str(COMMAND), str(bundle.path)
    found = [
        program("floor", str(floor), str(bundle.root), "floor-@", *groups()),
        Contender("library", library_run(bundle, state)),
        program("boxwright run", ours, "--root", str(state), "run", "--bundle", path, "ours-@"),
    ]
    for peer in PEERS:
        if where := shutil.which(peer):
            found.append(
                program(f"{peer} run", where, "--root", str(state / peer), "run", "--bundle", path, f"{peer}-@")
            )
    if where := shutil.which("bwrap"):
        found.append(program("bwrap", where, *_bwrap(bundle.root)))
    return [*found, program("/bin/true", "/bin/true")]


def of_lives(bundle: Bundle, state: Path) -> list[Contender]:
    """create, start and delete as an engine calls them."""
    found = []
    for name, command in commands(state).items():
        steps = (
            [*command, "create", "--bundle", str(bundle.path), f"{name}-@"],
            [*command, "start", f"{name}-@"],
            [*command, "delete", "--force", f"{name}-@"],
        )
        found.append(sequence(f"{name} life", *steps))
    return found


def of_verb(state: Path, verb: str, *rest: str) -> list[Contender]:
    """What is asked of a container that runs: its id is the command's name."""
    return [program(f"{name} {verb}", *command, verb, name, *rest) for name, command in commands(state).items()]


def commands(state: Path) -> dict[str, list[str]]:
    """The command lines of the runtimes that are there, each with a state directory of its own."""
    found = {"boxwright": [str(COMMAND), "--root", str(state)]}
    for peer in PEERS:
        if where := shutil.which(peer):
            found[peer] = [where, "--root", str(state / peer)]
    return found


def library_run(bundle: Bundle, state: Path) -> Callable[[int], float]:
    """The life of a container from a process that runs already."""
    from boxwright.runtime.context import Runtime
    from boxwright.runtime.options import RunOptions
    from boxwright.runtime.run import run

    runtime = Runtime(str(state))
    options = RunOptions(str(bundle.path))

    def once(number: int) -> float:
        start = perf_counter()
        status = run(runtime, f"library-{number}", options)
        took_ms = (perf_counter() - start) * 1000
        if status:
            raise FailureError(f"library: status {status}")
        return took_ms

    return once


def groups() -> list[str]:
    """A writable directory in each cgroup hierarchy: where a container's group goes."""
    from boxwright.host.cgroup_probe import probe

    return [f"{one.mountpoint}{one.own}".rstrip("/") for one in probe().hierarchies]


def _bwrap(root: Path) -> list[str]:
    apart = ("--unshare-all", "--die-with-parent", "--cap-drop", "ALL")
    return [*apart, "--bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "/bin/true"]
