"""The `vm` box for the library: a kernel of its own, in a machine that its jail holds.

What is waited for on the host is the keeper of the machine, and for a further program its proxy. How the guest's own
processes ended they write down.
"""

import os
from _signal import SIGKILL
from _socket import AF_UNIX, MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_SEQPACKET, socket

from boxwright.api.linux import Joining, LinuxBox
from boxwright.api.program import Ending, Program
from boxwright.boxes.vm import frames
from boxwright.boxes.vm.client import Client
from boxwright.boxes.vm.guest import GROUP
from boxwright.errors import GuestError
from boxwright.runtime.exec import check_state
from boxwright.runtime.options import ExecOptions
from boxwright.runtime.vm.create import MachineCreation
from boxwright.runtime.vm.exec import MachineJoining
from boxwright.runtime.vm.inside import refuse_paused
from boxwright.runtime.vm.lost import ending, ending_of, lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from boxwright.api.arguments import StrPath, User
    from boxwright.runtime.containers import Container
    from boxwright.runtime.create import Creation
    from boxwright.runtime.following import Outcome
    from boxwright.runtime.vm.lost import Ending as GuestEnding
    from boxwright.spec.types import Process

ANSWER_S = 5.0
KILL_S = 3.0  # a guest that has not ended what is killed by then is not asked any more
_ENDING_BYTES = 4096
_GROUP = f"/sys/fs/cgroup{GROUP}"


class MachineBox(LinuxBox):
    """A box in a virtual machine."""

    waits = True

    def __init__(self, creation: "Creation") -> None:
        """Take the creation, which is not begun."""
        assert isinstance(creation, MachineCreation)
        super().__init__(creation)
        self._process = creation.asked.process

    @property
    def process(self) -> "Process | None":
        """The process of its configuration."""
        return self._process

    def made(self, outcome: "Outcome", started_s: float) -> Program:
        """The guest's init, for which the machine's keeper stands."""
        return _Init(self._container, outcome, started_s)

    def begin_process(self, process: "Process", stdio: "Sequence[int]") -> "_Joining":
        """Start a further program in the guest. Raises StateError if the box does not run, or is paused."""
        check_state(self._container, ignore_paused=False)
        return _Joining(self._container, process, stdio)

    def oom_kills(self) -> int:
        """How many processes of the guest were killed for want of memory."""
        end = ending(self._container)
        if end is not None:
            return end.oom_kills
        words = self._read("memory.events").split()
        return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words[:-1] else 0

    def memory_peak_bytes(self) -> int:
        """The greatest amount of memory that the container took of its guest; 0 where that does not count it."""
        end = ending(self._container)
        if end is not None:
            return end.peak_bytes
        return int(self._read("memory.peak") or 0)

    def _read(self, name: str) -> str:
        """A file of the container's group in the guest; empty where that is gone, does not answer, or has none.

        Raises StateError if the machine is paused.
        """
        refuse_paused(self._container)
        try:
            with Client(self._container.directory) as client:
                client.greet(ANSWER_S)
                return client.read(f"{_GROUP}/{name}", ANSWER_S).decode("ascii", "replace").strip()
        except (GuestError, FileNotFoundError):
            return ""

    def put(self, source: "bytes | StrPath", path: str, *, mode: int | None, user: "User") -> None:
        """Put files into the guest. Raises as `Box.put`, and GuestError."""
        from boxwright.api.machine_files import put

        put(self._container, source, path, mode=mode, user=user)

    def get(self, path: str, target: "StrPath | None", most_bytes: int | None) -> bytes:
        """Get files from the guest. Raises as `Box.get`, and GuestError."""
        from boxwright.api.machine_files import get, get_to

        if target is None:
            return get(self._container, path, most_bytes)
        get_to(self._container, path, os.fspath(target), most_bytes)
        return b""


class _InGuest(Program):
    """A program in the guest, by what stands for it here."""

    patience_s = KILL_S

    def __init__(self, container: "Container", outcome: "Outcome", started_s: float) -> None:
        self._container = container
        super().__init__(outcome.pid, started_s, outcome.terminal)

    def _reap(self) -> Ending | None:
        here = super()._reap()
        told = None if here is None else self._told()
        if here is None or told is None:
            return here
        if told.reason == "exited":
            user_s, system_s = told.user_us / 1e6, told.system_us / 1e6
            return Ending(told.status, user_s, system_s, here.wall_s, told.resident_bytes)
        if told.reason != "stopped":
            self.fault = lost(self._container, GuestError("the machine is gone"))
        return Ending(SIGKILL, here.user_s, here.system_s, here.wall_s, here.memory_peak_bytes)

    def _told(self) -> "GuestEnding | None":
        """What was written down of its end; None where what stands for it was killed."""
        raise NotImplementedError


class _Init(_InGuest):
    """The guest's init."""

    _killer: Client | None = None

    def _told(self) -> "GuestEnding | None":
        if self._killer is not None:
            self._killer.close()
        return ending(self._container)

    def kill(self) -> None:
        """SIGKILL to the guest's init. Does not wait: the answer comes while its end is waited for."""
        try:
            self._killer = Client(self._container.directory)
            self._killer.send(frames.signal_frame(SIGKILL, frames.TO_INIT))
        except GuestError:
            self.destroy()


class _Further(_InGuest):
    """A further program. Its channel is the proxy's; we may send signals over it too."""

    def __init__(self, container: "Container", outcome: "Outcome", started_s: float, status: int, channel: int) -> None:
        """Take the descriptors: of what the proxy writes down, and of its connection."""
        self._status = status
        self._channel = socket(AF_UNIX, SOCK_SEQPACKET, 0, channel)
        super().__init__(container, outcome, started_s)

    def _told(self) -> "GuestEnding | None":
        self._channel.close()
        told = ending_of(os.pread(self._status, _ENDING_BYTES, 0))
        if told is not None and told.reason == "exited":
            return told
        # killed with the machine, or told of its end: what became of that is what became of this
        machine = ending(self._container)
        if machine is not None and machine.reason == "exited":
            return machine.replace(reason="stopped")
        return machine or (told and told.replace(reason="stopped"))

    def signal(self, number: int) -> bool:
        """Send a signal; False if it has ended."""
        with self._lock:
            return self.ending is None and self._send(number, 0)

    def kill_group(self) -> None:
        """SIGKILL to it and to its process group, in the guest."""
        with self._lock:
            told = self.ending is not None or self._send(SIGKILL, frames.SESSION)
        if not told:
            self.destroy()

    def _send(self, number: int, flags: int) -> bool:
        """False where nobody takes it: the machine is gone, or has not read for long."""
        try:
            self._channel.send(frames.encode_frame(frames.signal_frame(number, flags)), MSG_DONTWAIT | MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give the descriptors back."""
        self._channel.close()
        if self._status >= 0:
            os.close(self._status)
            self._status = -1
        super().close()


class _Joining(Joining):
    """A further program being started in the guest."""

    def __init__(self, container: "Container", process: "Process", stdio: "Sequence[int]") -> None:
        self._container = container
        self._status = os.memfd_create("ending", os.MFD_CLOEXEC)
        try:
            self._started = MachineJoining(container, ExecOptions(process), stdio, self._status)
        except GuestError as error:
            os.close(self._status)
            raise lost(container, error) from None
        except BaseException:
            os.close(self._status)
            raise
        super().__init__(self._started)

    def joined(self, outcome: "Outcome", started_s: float) -> Program:
        """The program, which runs."""
        status, self._status = self._status, -1
        return _Further(self._container, outcome, started_s, status, os.dup(self._started.client.fileno()))

    def __exit__(self, kind: "type[BaseException] | None", error: BaseException | None, trace: object) -> None:
        super().__exit__(kind, error, trace)
        if self._status >= 0:
            os.close(self._status)
            self._status = -1
