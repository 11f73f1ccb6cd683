"""delete: undo what create made (runtime.md#runtimeDelete)."""

from boxwright.errors import ConfigError, NotFoundError, StateError, UsageError
from boxwright.host.cgroups import destroy, kill_all, thaw
from boxwright.host.processes import kill_and_wait
from boxwright.runtime.containers import CREATED, STOPPED, Container
from boxwright.runtime.stop import run_poststop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.context import Runtime
    from boxwright.spec.types import Config

# how long the killed init may take to end, in silence and at most
_PATIENCE_MS, _MOST_MS = 1_000, 10_000


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
    if container.alive():
        if container.placement.groups:
            thaw(container.placement)
        if not kill_and_wait(container.pid, container.started_at, _PATIENCE_MS):
            _wait_longer(container)
    kill_all(container.placement)
    config = _config(container) if container.has_hooks("poststop") else None
    destroy(container.placement)
    if owned := container.resctrl("owned"):
        from boxwright.host.resctrl import remove_groups

        remove_groups(owned)
    container.forget()
    if config is not None:
        run_poststop(container, config)


def _wait_longer(container: Container) -> None:
    """Say what is waited for; not at all where nothing runs any more, and others have to reap what has ended."""
    from boxwright.host.unreaped import unreaped_members

    unreaped = unreaped_members(container.pid)
    if unreaped:
        names = ", ".join(f"{one.pid} (child of {one.parent})" for one in unreaped)
        what = f"remains until others have reaped what has ended in its pid namespace: {names}"
        container.runtime.warn(f"process {container.pid} of container `{container.id}` {what}")
        return
    container.runtime.warn(f"process {container.pid} of container `{container.id}` takes long to end: waiting for it")
    kill_and_wait(container.pid, container.started_at, _MOST_MS - _PATIENCE_MS)


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
