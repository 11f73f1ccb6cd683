"""start: open the gate, so that the program is executed (runtime.md#runtimeStart)."""

import os

from boxwright.errors import BoxwrightError, HookError, StateError
from boxwright.host.processes import kill_and_wait
from boxwright.host.spawn import receive
from boxwright.plan import ops
from boxwright.runtime.containers import CREATED, RUNNING, Container, state_document
from boxwright.spec.jsontext import encode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from boxwright.host.spawn import Report
    from boxwright.runtime.context import Runtime
    from boxwright.runtime.notify import NotifyProxy
    from boxwright.spec.types import Config


def start(runtime: "Runtime", container_id: str, *, notify_socket: str = "") -> None:
    """Let a created container run its program, and run the poststart hooks once it does.

    With the `notify_socket` of a service manager, to a container that was created with one, this waits until the
    program says that it is ready (sd_notify(3)), or ends, and passes on what it says until then.

    Raises StateError if it is not created, ConfigError if it has no process, HostError if the execution fails: the
    container is stopped then. Where a hook fails (HookError) it is destroyed, and the poststop hooks run.
    """
    with Container.find(runtime, container_id) as container:
        status = container.status()
        if status != CREATED:
            raise StateError(container_id, status, CREATED)
        if not container.facts.get("process", True):
            from boxwright.errors import ConfigError, Problem

            raise ConfigError([Problem("/process", "is required by start", "runtime.md#runtimeStart")])
        notify = _open_notify(container, notify_socket)
        try:
            _open_and_run_hooks(container)
            if notify is not None:
                container.unlock()  # the others need not wait with us
                notify.until_ready(container)
        finally:
            if notify is not None:
                notify.close()


def _open_and_run_hooks(container: Container) -> None:
    try:
        if container.in_machine:
            from boxwright.runtime.vm.start import open_gate

            open_gate(container)
        else:
            _open_gate(container)
    except HookError:
        _destroy(container)
        raise
    if container.has_hooks("poststart"):
        run_poststart(container, container.config())


def _open_notify(container: Container, notify_socket: str) -> "NotifyProxy | None":
    if not notify_socket or not os.path.isdir(container.path("notify")):
        return None
    from boxwright.runtime.notify import NotifyProxy

    return NotifyProxy(container, notify_socket)


def _open_gate(container: Container) -> None:
    try:
        gate = container.knock()
    except OSError:
        raise StateError(container.id, container.status(), CREATED) from None
    os.unlink(container.path("gate"))
    try:
        _wait_for_execution(container, gate)
    finally:
        gate.close()


def _wait_for_execution(container: Container, gate: "socket") -> None:
    while (report := receive(gate)) is not None:
        if report.kind in {ops.ERROR, ops.HOOK_FAILED}:
            kill_and_wait(container.pid, container.started_at)
            raise _failure(container, report)
        if report.kind == ops.WARNING:
            container.runtime.warn(_failure(container, report).message)


def _failure(container: Container, report: "Report") -> BoxwrightError:
    """The plan is not kept: it is compiled again to tell what step it was."""
    from boxwright.runtime.following import failure
    from boxwright.runtime.recompile import plan_of

    config = container.config()
    return failure(plan_of(container, config), config, report)


def run_poststart(container: Container, config: "Config") -> None:
    """Run the poststart hooks; if one fails the container is destroyed (runtime.md#runtimeLifecycle, step 9)."""
    hooks = config.hooks.poststart if config.hooks else ()
    if not hooks:
        return
    from boxwright.host.hooks import run_hook

    state = encode_json(state_document(container, RUNNING, container.pid))
    for hook in hooks:
        try:
            run_hook("poststart", hook, state)
        except HookError:
            _destroy(container)
            raise


def _destroy(container: Container) -> None:
    """Stop the container and go on where delete would (runtime.md#runtimeLifecycle, steps 12 and 13)."""
    from boxwright.runtime.delete import remove

    remove(container)
