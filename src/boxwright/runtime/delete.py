"""delete: undo what create made (runtime.md#runtimeDelete)."""

import errno

from boxwright.errors import ConfigError, HostError, NotFoundError, StateError, UsageError
from boxwright.host.cgroups import destroy, kill_all, thaw
from boxwright.host.processes import kill_and_wait, reap
from boxwright.runtime.containers import CREATED, STOPPED, Container
from boxwright.runtime.stop import run_poststop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.context import Runtime
    from boxwright.spec.types import Config

# how long the killed init may take to end by itself
INIT_ALONE_MS = 500
# how long what is left may take, in silence and at most: to free much memory takes its time
PATIENCE_SECONDS, STUCK_SECONDS = 1.0, 8.0


def delete(runtime: "Runtime", container_id: str, *, force: bool = False) -> None:
    """Delete a stopped container: its cgroups, its directory, and run the poststop hooks.

    A created one is killed first: engines count on it. With `force` so is a running or half-made one, and one that
    does not exist is no error. Raises StateError and NotFoundError otherwise.
    """
    try:
        container = Container.find(runtime, container_id)
    except NotFoundError:
        if force:
            return
        raise
    with container:
        status = container.status(frozen=False)
        if status not in {STOPPED, CREATED} and not force:
            raise StateError(container_id, status, STOPPED, hint="`delete --force` kills it first")
        remove(container)


def remove(container: Container) -> None:
    """Kill what is left of it, remove what was made for it, and run the poststop hooks. The container is locked."""
    _end(container)
    config = _config(container) if container.has_hooks("poststop") else None
    destroy(container.placement)
    if owned := container.resctrl("owned"):
        from boxwright.host.resctrl import remove_groups

        remove_groups(owned)
    if container.facts.get("network"):
        from boxwright.runtime.vm.network import release

        release(container)
    container.forget()
    if config is not None:
        run_poststop(container, config)


def _end(container: Container) -> None:
    """Kill the init, and then whoever is left. Raises HostError (ETIMEDOUT) if somebody stays."""
    if not container.alive():
        kill_all(container.placement)
        return
    if container.placement.groups:
        thaw(container.placement)
    # its end may wait for another process of the box, as for one that serves it files, so it is not waited for long
    if kill_and_wait(container.pid, container.started_at, INIT_ALONE_MS) or _is_left_to_others(container):
        kill_all(container.placement)
    elif container.placement.groups:
        _end_group(container)
    else:
        _warn_of_waiting(container)
        if not kill_and_wait(container.pid, container.started_at, int(STUCK_SECONDS * 1000)):
            raise HostError("kill the process of the container", errno.ETIMEDOUT)


def _end_group(container: Container) -> None:
    """Kill the init together with all that it may wait for."""
    try:
        kill_all(container.placement, timeout_seconds=PATIENCE_SECONDS)
    except HostError:
        _warn_of_waiting(container)
        kill_all(container.placement, timeout_seconds=STUCK_SECONDS)
    reap(container.pid)


def _is_left_to_others(container: Container) -> bool:
    """Whether nothing runs any more, and others have to reap what has ended: that is said, and not waited for."""
    from boxwright.host.unreaped import unreaped_members

    unreaped = unreaped_members(container.pid)
    if not unreaped:
        return False
    names = ", ".join(f"{one.pid} (child of {one.parent})" for one in unreaped)
    what = f"remains until others have reaped what has ended in its pid namespace: {names}"
    container.runtime.warn(f"process {container.pid} of container `{container.id}` {what}")
    return True


def _warn_of_waiting(container: Container) -> None:
    container.runtime.warn(f"process {container.pid} of container `{container.id}` takes long to end: waiting for it")


def remove_ours(container: Container) -> None:
    """Remove a container that we made, unless somebody did meanwhile: another of its id may be there by now."""
    if not container.exists():
        container.unlock()
        return
    ours = container.pid, container.started_at
    try:
        with container:
            if (container.pid, container.started_at) == ours:
                remove(container)
    except NotFoundError:
        return


def _config(container: Container) -> "Config | None":
    """The configuration; None for a container left half-made before it was written."""
    try:
        return container.config()
    except (FileNotFoundError, ConfigError):
        return None
    except UsageError as error:
        container.runtime.warn(error.message)
        return None
