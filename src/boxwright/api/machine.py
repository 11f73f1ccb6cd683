"""The `vm` box for the library: a kernel of its own, in a machine that its jail holds.

What is waited for on the host is the keeper of the machine, and for a further program its proxy. How the guest's own
processes ended they write down.
"""

import os
from _signal import SIGKILL
from time import monotonic

from boxwright.api.linux import LinuxBox
from boxwright.api.program import Ending, Program
from boxwright.boxes.vm import frames
from boxwright.boxes.vm.client import Client
from boxwright.boxes.vm.guest import GROUP
from boxwright.errors import GuestError, StateError
from boxwright.runtime.containers import PAUSED, RUNNING
from boxwright.runtime.vm.lost import ending, ending_of, lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from boxwright.api.options import BoxOptions
    from boxwright.host.files import Root
    from boxwright.runtime.containers import Container
    from boxwright.runtime.context import Runtime
    from boxwright.runtime.create import Creation
    from boxwright.runtime.following import Outcome
    from boxwright.runtime.vm.exec import MachineJoining
    from boxwright.runtime.vm.lost import Ending as GuestEnding
    from boxwright.spec.types import Process

KILL_S = 3.0  # a guest that has not ended what is killed by then is switched off
_GROUP = f"/sys/fs/cgroup{GROUP}"


class MachineBox(LinuxBox):
    """A box in a virtual machine."""

    waits = True

    def __init__(self, options: "BoxOptions", runtime: "Runtime", *, idle: bool) -> None:
        super().__init__(options, runtime, idle=idle)
        if options.bound and not idle:
            from boxwright.host.lifeline import lifeline

            self._creation.lifeline = lifeline()
        self._creation.bound = False  # by the lifeline, not by the thread that happens to make it

    @property
    def process(self) -> "Process | None":
        """The process of its configuration."""
        return self._container.config().process

    def made(self, creation: "Creation", outcome: "Outcome", started_s: float) -> Program:
        """The machine as a program: what its keeper has written down is how the guest's init ended."""
        return _Init(creation.container, outcome.pid, started_s, outcome.terminal)

    def begin_process(self, process: "Process", stdio: "Sequence[int]") -> "_Joining":  # type: ignore[override]
        """Start a further program in the guest. Raises StateError if the box does not run, or is paused."""
        return _Joining(self._container, process, stdio)

    def oom_kills(self) -> int:
        """How many processes of the guest were killed for want of memory."""
        end = ending(self._container)
        if end is not None:
            return end.oom_kills
        return _field(self._read("memory.events"), "oom_kill")

    def memory_peak_bytes(self) -> int:
        """The greatest amount of memory that the container has taken of its guest; 0 where that does not count it."""
        end = ending(self._container)
        if end is not None:
            return end.peak_bytes
        peak = self._read("memory.peak").strip()
        return int(peak) if peak.isdigit() else 0

    def _read(self, name: str) -> str:
        """A file of the container's group in the guest; empty if that is gone or has none."""
        try:
            with Client(self._container.directory) as client:
                client.greet(KILL_S)
                return client.read(f"{_GROUP}/{name}").decode("ascii", "replace")
        except (GuestError, FileNotFoundError):
            return ""
