"""run: create and start in one, in the foreground or detached."""

from boxwright.host.processes import claim, disclaim
from boxwright.runtime.create import Creation, creation_for
from boxwright.runtime.delete import remove_ours
from boxwright.runtime.documents import require_holder
from boxwright.runtime.start import run_poststart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.context import Runtime
    from boxwright.runtime.options import RunOptions


def run(runtime: "Runtime", container_id: str, options: "RunOptions", document: bytes | None = None) -> int:
    """Create a container and run its program.

    Returns its exit status (128 + the signal if it was killed by one), 0 at once if `options.detach`. In the
    foreground signals are passed on to it, and it is deleted afterwards unless `options.keep`.
    """
    with creation_for(runtime, container_id, options, document) as creation:
        return finish_run(creation, options)


def finish_run(
    creation: Creation, options: "RunOptions", *, timeout_s: float | None = None, init_system: bool = False
) -> int:
    """The rest of a run whose creation is prepared; 124 if it had to be killed after `timeout_s`.

    With `init_system` a signal that asks to end becomes the one by which systemd shuts down.
    """
    container = creation.container
    process = creation.config.process
    terminal = bool(process and process.terminal)
    if options.detach:
        require_holder(creation.config, options)
        creation.execute()
        run_poststart(container, creation.config)
        if creation.notify is not None:
            container.unlock()
            creation.notify.until_ready(container)
        return 0
    from boxwright.runtime.foreground import Foreground

    with Foreground(terminal=terminal and not options.console_socket) as foreground:
        outcome = creation.execute()
        try:
            run_poststart(container, creation.config)
            claim(outcome.pid)
            container.unlock()
            notify = creation.notify
            if notify is not None:
                notify.pid = outcome.pid
            status = foreground.follow(outcome.pid, outcome.terminal, timeout_s, notify, init_system=init_system)
            if notify is not None:
                notify.settle()
            creation.check_end(status)
        finally:
            disclaim(outcome.pid)
            if not options.keep:
                remove_ours(container)
    return status
