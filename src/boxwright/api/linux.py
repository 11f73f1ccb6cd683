"""The `linux` box for the library: namespaces, control groups and filters of the host's kernel."""

import os
from _thread import allocate_lock
from time import monotonic

from boxwright.api.program import Program
from boxwright.errors import StateError
from boxwright.host.cgroup_oom import oom_kills
from boxwright.host.cgroup_stats import memory_peak_bytes
from boxwright.host.cgroups import is_frozen, thaw
from boxwright.runtime.containers import STOPPED
from boxwright.runtime.delete import remove_ours
from boxwright.runtime.exec import begin_process
from boxwright.runtime.kill import kill
from boxwright.runtime.options import ExecOptions
from boxwright.runtime.start import run_poststart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Self

    from boxwright.api.arguments import StrPath, User
    from boxwright.host.files import Root
    from boxwright.runtime.create import Creation
    from boxwright.runtime.exec import Joining as RuntimeJoining
    from boxwright.runtime.following import Outcome
    from boxwright.runtime.making import Making
    from boxwright.runtime.vm.exec import MachineJoining
    from boxwright.spec.types import Process, Resources


class LinuxBox:
    """A box that is made, used and removed. Safe to share between threads."""

    waits = False

    def __init__(self, creation: "Creation") -> None:
        """Take the creation, which is not begun."""
        self._runtime = creation.runtime
        self._creation = creation
        self._container = creation.container
        self._remove_lock = allocate_lock()
        self._removed = False
        self.id = self._container.id
        if creation.bound and creation.idle:
            from boxwright.host.lifeline import lifeline

            self._creation.lifeline = lifeline()

    @property
    def process(self) -> "Process | None":
        """The process of its configuration."""
        return self._creation.config.process

    def begin(self, stdio: "Sequence[int]") -> "_Making":
        """Make it, with its program. What fails is undone."""
        creation = self._creation
        creation.stdio = tuple(stdio)
        try:
            making = creation.begin()
        except BaseException:
            creation.container.unlock()
            raise
        return _Making(self, creation, making)

    def made(self, outcome: "Outcome", started_s: float) -> Program:
        """Its first program, which runs."""
        return Program(outcome.pid, started_s, outcome.terminal)

    def begin_process(self, process: "Process", stdio: "Sequence[int]") -> "Joining":
        """Start a further program in it. Raises StateError if it does not run, or is paused."""
        return Joining(begin_process(self._container, ExecOptions(process), stdio))

    def signal(self, number: int) -> None:
        """Send a signal to its first process. Raises StateError if that has ended."""
        kill(self._runtime, self.id, number)

    def thaw(self) -> None:
        """Let a paused box go on; no error if it is not paused."""
        if is_frozen(self._container.placement):
            thaw(self._container.placement)

    def pause(self) -> None:
        """Stop all its processes. Raises StateError, and HostError where the host has no freezer."""
        from boxwright.runtime.pause import pause

        pause(self._runtime, self.id)

    def resume(self) -> None:
        """Let them go on. Raises StateError unless it is paused."""
        from boxwright.runtime.pause import resume

        resume(self._runtime, self.id)

    def update(self, resources: "Resources") -> None:
        """Change its limits. Raises UnsupportedError and HostError."""
        from boxwright.runtime.update import update

        update(self._runtime, self.id, resources)

    def statistics(self) -> "dict[str, Any]":
        """What its control groups count. Raises StateError once it is removed."""
        from boxwright.runtime.events import stats

        return stats(self._runtime, self.id)

    def oom_kills(self) -> int:
        """How many of its processes were killed for want of memory."""
        return oom_kills(self._container.placement)

    def memory_peak_bytes(self) -> int:
        """The greatest amount of memory it took at once; 0 where it has no memory group."""
        return memory_peak_bytes(self._container.placement)

    def state(self) -> "dict[str, Any]":
        """Its state. Raises NotFoundError once it is removed."""
        from boxwright.runtime.state import state

        return state(self._runtime, self.id)

    def put(self, source: "bytes | StrPath", path: str, *, mode: int | None, user: "User") -> None:
        """Put files into it. Raises as `Box.put`."""
        from boxwright.api.transfer import put

        with self._root() as root:
            put(root, source, path, mode=mode, user=user)

    def get(self, path: str, target: "StrPath | None", most_bytes: int | None) -> bytes:
        """Get files from it. Raises as `Box.get`."""
        from boxwright.api.transfer import get, get_to

        with self._root() as root:
            if target is None:
                return get(root, path, most_bytes)
            get_to(root, path, os.fspath(target), most_bytes)
            return b""

    def _root(self) -> "Root":
        from boxwright.host.files import open_root

        container = self._container
        root = open_root(container.pid, container.started_at)
        if root is None:
            raise StateError(self.id, STOPPED, "running")
        return root

    def remove(self) -> None:
        """Kill what is left of it, and remove all that was made for it."""
        with self._remove_lock:
            if self._removed:
                return
            self._removed = True
        remove_ours(self._container)


class _Making:
    """A box being made."""

    def __init__(self, box: LinuxBox, creation: "Creation", making: "Making") -> None:
        self._box = box
        self._creation = creation
        self._making = making
        self._started_s = monotonic()

    def fileno(self) -> int:
        return self._making.fileno()

    def step(self) -> Program | None:
        outcome = self._making.step()
        if outcome is None:
            return None
        run_poststart(self._creation.container, self._creation.config)
        return self._box.made(outcome, self._started_s)

    def left_s(self) -> float | None:
        return self._making.left_s()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: "type[BaseException] | None", error: BaseException | None, trace: object) -> None:
        self._making.__exit__(kind, error, trace)
        if error is not None:
            self._creation.fail(error)
        self._creation.container.unlock()


class Joining:
    """A further program being started."""

    def __init__(self, joining: "RuntimeJoining | MachineJoining") -> None:
        self._joining = joining
        self._started_s = monotonic()

    def fileno(self) -> int:
        return self._joining.fileno()

    def step(self) -> Program | None:
        outcome = self._joining.step()
        return None if outcome is None else self.joined(outcome, self._started_s)

    def left_s(self) -> float | None:
        return self._joining.left_s()

    def joined(self, outcome: "Outcome", started_s: float) -> Program:
        """The program, which runs."""
        return Program(outcome.pid, started_s, outcome.terminal)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: "type[BaseException] | None", error: BaseException | None, trace: object) -> None:
        self._joining.__exit__(kind, error, trace)
