"""exec: a further process of a container in a virtual machine. It is always the guest's.

Its plan is sent and followed first. Then the proxy, a process in the jail, takes the connection over: it is what the
caller waits for, signals and gives a terminal to.
"""

from time import monotonic

from boxwright.boxes.vm import frames, jail
from boxwright.boxes.vm.client import ANSWER_S, Client
from boxwright.boxes.vm.guest import GROUP, guest_config, guest_facts, with_umask
from boxwright.boxes.vm.remote import RemoteHelper, size_of_terminal
from boxwright.errors import GuestError, UnsupportedError
from boxwright.host.processes import callers_umask
from boxwright.host.seccomp_cache import default_program
from boxwright.plan.join import JoinRequest, compile_exec
from boxwright.runtime.documents import filter_program
from boxwright.runtime.exec import join
from boxwright.runtime.following import Follower
from boxwright.runtime.vm.create import JAIL
from boxwright.runtime.vm.inside import refuse_paused
from boxwright.runtime.vm.lost import lost
from boxwright.spec.decode import decode
from boxwright.spec.types import Capabilities, Process, User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from boxwright.plan.ops import Plan
    from boxwright.runtime.containers import Container
    from boxwright.runtime.exec import Joining
    from boxwright.runtime.following import Outcome
    from boxwright.runtime.options import ExecOptions
    from boxwright.spec.types import Config

CONNECTION = 3  # the proxy's number of its connection: the first behind the standard ones


class MachineJoining:
    """A further process being started in the guest, then its proxy in the jail. Left, it is finished with."""

    def __init__(
        self, container: "Container", options: "ExecOptions", stdio: "Sequence[int]" = (), status: int = -1
    ) -> None:
        """`stdio` and `status`, where the proxy writes down how the process ended, are borrowed until the outcome."""
        if options.preserve_fds:
            raise UnsupportedError("preserved descriptors", "vm", "a descriptor cannot be handed to another kernel")
        if options.cgroup:
            raise UnsupportedError("exec --cgroup", "vm", "the guest has one group for the container")
        refuse_paused(container)
        self._container = container
        self._options = options
        self._stdio = stdio
        self._status = status
        self._deadline_s = monotonic() + ANSWER_S
        self._outcome: Outcome | None = None
        self._joining: Joining | None = None
        self.client = Client(container.directory)
        self._talk = self._steps()
        self._waited: Client | Joining | None = next(self._talk)

    def fileno(self) -> int:
        """Readable when `step` would not block for long."""
        assert self._waited is not None
        return self._waited.fileno()

    def left_s(self) -> float:
        """When `step` is to be called though there is nothing to read: the guest does not answer."""
        return max(0.0, self._deadline_s - monotonic())

    def step(self) -> "Outcome | None":
        """Go on: the outcome once the process runs. Raises what the guest or the host reports."""
        try:
            self._waited = next(self._talk, None)
        except GuestError as error:
            raise lost(self._container, error) from None
        return self._outcome

    def follow(self) -> "Outcome":
        """Until the outcome is known."""
        while (outcome := self.step()) is None:
            continue
        return outcome

    def _steps(self) -> "Iterator[Client | Joining]":
        container, process, client = self._container, self._options.process, self.client
        yield client
        client.greet(self.left_s())
        plan = _plan(container, process, client)
        flags = frames.JOIN | frames.STDIN | frames.TERMINAL * bool(process.terminal)
        helper = RemoteHelper(client, plan, flags, size_of_terminal(process))
        follower = Follower(container.runtime, helper, container.config().replace(process=process))
        yield client
        while follower.step(gate=False) is None:
            yield client
        joining = self._joining = self._begin_proxy()
        while self._outcome is None:
            yield joining
            self._outcome = joining.step()

    def _begin_proxy(self) -> "Joining":
        """The proxy takes the connection over."""
        further = (self.client.fileno(), *((self._status,) if self._status >= 0 else ()))
        jailed = jail_of(self._container)
        process = _proxy(self._options.process, jailed, len(further))
        options = self._options.replace(process=process, preserve_fds=len(further))
        stdio = (*(self._stdio or (0, 1, 2)), *further)
        return join(self._container, options, stdio, jailed, jail_filter(self._container))

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if self._joining is not None:
            self._joining.__exit__(kind, *exc)
        self.client.close()


def _plan(container: "Container", process: Process, client: Client) -> "Plan":
    config = guest_config(container.config())
    request = JoinRequest(
        pid=int(container.facts["guestPid"]),
        groups=((2, f"/sys/fs/cgroup{GROUP}"),),
        seccomp=filter_program(container.runtime, config, container.facts.get("defaultSeccomp")),
    )
    process = with_umask(process, callers_umask())
    return compile_exec(process, config.linux, guest_facts(client.hello), request)


def jail_of(container: "Container") -> "Config":
    """The configuration of the jail that a container's machine is in."""
    with open(container.path(JAIL), "rb") as file:
        return decode(file.read())


def jail_filter(container: "Container") -> bytes:
    """The filter of the processes in the jail."""
    return default_program(jail.CAPABILITIES, container.runtime.cache)


def _proxy(process: Process, jailed: "Config", descriptors: int) -> Process:
    """The process in the jail that stands for one of the guest, with so many descriptors of its own; as who the keeper
    of the machine is.
    """
    words = jailed.process.args if jailed.process else ()
    own_id = int(words[2]) if words[1:2] == ("--as",) else 0
    return Process(
        cwd="/",
        args=(jail.HELPER, "--proxy", *map(str, range(CONNECTION, CONNECTION + descriptors))),
        user=User(own_id, own_id),
        terminal=process.terminal,
        console_size=process.console_size,
        capabilities=Capabilities(bounding=()),
        no_new_privileges=True,
    )
