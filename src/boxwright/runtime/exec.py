"""exec: a further process in a container (not an operation of the standard; every engine needs it)."""

import os

from boxwright.errors import ConfigError, Problem, StateError
from boxwright.host import facts as host_facts
from boxwright.host.cgroups import placement_for_exec
from boxwright.host.processes import kill_child, open_pidfd
from boxwright.host.spawn import Helper
from boxwright.plan.join import JoinRequest, compile_exec
from boxwright.runtime.containers import CREATED, PAUSED, RUNNING, STOPPED, Container
from boxwright.runtime.documents import filter_program
from boxwright.runtime.following import Follower
from boxwright.runtime.watchers import announce, connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from boxwright.runtime.context import Runtime
    from boxwright.runtime.following import Outcome
    from boxwright.runtime.options import ExecOptions
    from boxwright.runtime.vm.exec import MachineJoining
    from boxwright.spec.types import Config, Process


def exec_process(runtime: "Runtime", container_id: str, options: "ExecOptions") -> int:
    """Run a further process in a container.

    Returns its exit status (128 + the signal if it was killed by one), or 0 once it is executed if
    `options.detach`. Raises StateError if the container does not run, and HostError if it cannot be executed.
    """
    container = Container.find(runtime, container_id)
    if options.detach:
        spawn_process(container, options)
        return 0
    from boxwright.runtime.foreground import Foreground

    with Foreground(terminal=bool(options.process.terminal) and not options.console_socket) as foreground:
        outcome = spawn_process(container, options)
        return foreground.follow(outcome.pid, outcome.terminal)


def spawn_process(container: Container, options: "ExecOptions", stdio: "Sequence[int]" = ()) -> "Outcome":
    """Start a further process; it is a child of ours. `stdio` are borrowed descriptors for its 0 to 2, ours if empty.
    Raises as `exec_process`.
    """
    with begin_process(container, options, stdio) as joining:
        outcome = joining.follow()
    announce(options, outcome.pid)
    return outcome


def begin_process(
    container: Container, options: "ExecOptions", stdio: "Sequence[int]" = ()
) -> "Joining | MachineJoining":
    """Start making a further process, for who follows the helper himself. Raises as `exec_process`."""
    check_state(container, ignore_paused=options.ignore_paused)
    if container.in_machine:
        from boxwright.runtime.vm.exec import MachineJoining

        return MachineJoining(container, options, stdio)
    config = container.config()
    seccomp = filter_program(container.runtime, config, container.facts.get("defaultSeccomp"))
    return join(container, options, stdio, config, seccomp)


class Joining:
    """A helper at work for a further process. Left, it is finished with; left by an error, so is the process."""

    def __init__(self, container: Container, config: "Config", helper: Helper) -> None:
        self._helper = helper
        self._follower = Follower(container.runtime, helper, config)

    def fileno(self) -> int:
        """Readable when `step` would not block."""
        return self._helper.socket.fileno()

    def left_s(self) -> float | None:
        """Always None: there will be something to read."""
        return None

    def step(self) -> "Outcome | None":
        """Take one report: the outcome once the program is executed. Raises what the helper reports."""
        return self._follower.step(gate=False)

    def follow(self) -> "Outcome":
        """Take reports until the outcome is known."""
        return self._follower.until_executed()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: object, *_exc: object) -> None:
        if kind is not None:
            self._helper.abort()
            self._follower.drop()
            if self._helper.pid:
                kill_child(self._helper.pid)
        self._helper.finish()


def check_state(container: Container, *, ignore_paused: bool) -> None:
    status = container.status()
    if status in {CREATED, RUNNING} or (status == PAUSED and ignore_paused):
        return
    hint = "resume it first, or say --ignore-paused" if status == PAUSED else None
    if status == STOPPED and container.in_machine:
        from boxwright.runtime.vm.lost import why_stopped

        hint = why_stopped(container) or None
    raise StateError(container.id, status, RUNNING, hint=hint)


def join(
    container: Container, options: "ExecOptions", stdio: "Sequence[int]", config: "Config", seccomp: bytes
) -> Joining:
    """Start a process in the namespaces of the container's init, whose configuration is `config`."""
    pidfd = open_pidfd(container.pid, container.started_at)
    if pidfd < 0:
        raise StateError(container.id, container.status(), RUNNING)
    try:
        return _begin(container, options, pidfd, stdio, config, seccomp)
    finally:
        os.close(pidfd)


def _begin(
    container: Container,
    options: "ExecOptions",
    pidfd: int,
    stdio: "Sequence[int]",
    config: "Config",
    seccomp: bytes,
) -> Joining:
    placement = placement_for_exec(container.placement, container.pid, options.cgroup)
    request = JoinRequest(
        pid=container.pid,
        groups=tuple((group.version, group.path) for group in placement.groups),
        seccomp=seccomp,
        console=bool(options.console_socket),
        preserve_fds=options.preserve_fds,
        resctrl=container.resctrl("joined"),
        own_stdio=not container.in_machine,
    )
    plan = compile_exec(options.process, config.linux, host_facts.probe(), request)
    console = connect(options.console_socket, "console socket") if options.console_socket else None
    try:
        inherited = [pidfd, *([console.fileno()] if console else [])]
        helper = Helper(plan, inherited, options.preserve_fds, stdio)
    finally:
        if console:
            console.close()
    return Joining(container, config.replace(process=options.process), helper)


def default_process(runtime: "Runtime", container_id: str) -> "Process":
    """The container's own process, which the flags of `exec` change. Raises ConfigError if it has none."""
    config: Config = Container.find(runtime, container_id).config()
    if config.process is None:
        raise ConfigError(
            [Problem("/process", "is missing: say the process with --process", "config.md#configProcess")]
        )
    return config.process
