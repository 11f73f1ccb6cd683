"""exec: a further process in a container (not an operation of the standard; every engine needs it)."""

import os

from boxwright.errors import BoxwrightError, ConfigError, Problem, StateError
from boxwright.host import facts as host_facts
from boxwright.host.cgroups import placement_for_exec
from boxwright.host.processes import open_pidfd
from boxwright.host.spawn import Helper
from boxwright.plan.join import JoinRequest, compile_exec
from boxwright.runtime.containers import CREATED, PAUSED, RUNNING, Container
from boxwright.runtime.create import announce, connect, filter_program
from boxwright.runtime.following import Follower

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.context import Runtime
    from boxwright.runtime.following import Outcome
    from boxwright.runtime.options import ExecOptions
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


def spawn_process(container: Container, options: "ExecOptions") -> "Outcome":
    """Start a further process; it is a child of ours. Raises as `exec_process`."""
    _check_state(container, ignore_paused=options.ignore_paused)
    pidfd = open_pidfd(container.pid, container.started_at)
    if pidfd < 0:
        raise StateError(container.id, container.status(), RUNNING)
    try:
        outcome = _spawn(container, options, pidfd)
    finally:
        os.close(pidfd)
    announce(options, outcome.pid)
    return outcome


def _check_state(container: Container, *, ignore_paused: bool) -> None:
    status = container.status()
    if status in {CREATED, RUNNING} or (status == PAUSED and ignore_paused):
        return
    hint = "resume it first, or say --ignore-paused" if status == PAUSED else None
    raise StateError(container.id, status, RUNNING, hint=hint)


def _spawn(container: Container, options: "ExecOptions", pidfd: int) -> "Outcome":
    runtime, config = container.runtime, container.config()
    placement = placement_for_exec(container.placement, container.pid, options.cgroup)
    request = JoinRequest(
        container_id=container.id,
        pid=container.pid,
        groups=tuple((group.version, group.path) for group in placement.groups),
        seccomp=filter_program(runtime, config, container.facts.get("defaultSeccomp")),
        console=bool(options.console_socket),
        preserve_fds=options.preserve_fds,
        resctrl=container.resctrl("joined"),
    )
    plan = compile_exec(options.process, config.linux, host_facts.probe(), request)
    console = connect(options.console_socket, "console socket") if options.console_socket else None
    try:
        helper = Helper(plan, [pidfd, *([console.fileno()] if console else [])], options.preserve_fds)
    finally:
        if console:
            console.close()
    try:
        return Follower(runtime, helper, config.replace(process=options.process)).until_executed()
    except BoxwrightError:
        if helper.pid:
            _reap(helper.pid)
        raise
    finally:
        helper.finish()


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return  # somebody else's SIGCHLD handling reaped it


def default_process(runtime: "Runtime", container_id: str) -> "Process":
    """The container's own process, which the flags of `exec` change. Raises ConfigError if it has none."""
    config: Config = Container.find(runtime, container_id).config()
    if config.process is None:
        raise ConfigError(
            [Problem("/process", "is missing: say the process with --process", "config.md#configProcess")]
        )
    return config.process
