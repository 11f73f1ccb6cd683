"""What a process that died hard has left of its boxes is removed by the next one that makes a box."""

from _thread import allocate_lock

from boxwright.errors import BoxwrightError
from boxwright.runtime.containers import Container
from boxwright.runtime.context import Runtime

_lock = allocate_lock()
_swept: set[str] = set()
_default: list[Runtime] = []


def default_runtime() -> Runtime:
    """The runtime of this user; one for the whole process."""
    if not _default:
        _default.append(Runtime())
    return _default[0]


def sweep(runtime: Runtime) -> None:
    """Remove the boxes in `runtime` whose maker is gone and that were bound to it. Once for a process and runtime."""
    if runtime.root in _swept:
        return
    with _lock:
        if runtime.root in _swept:
            return
        _swept.add(runtime.root)
    for container in Container.every(runtime):
        if container.facts.get("bound") and not container.maker_lives():
            _remove(container)


def _remove(container: Container) -> None:
    from boxwright.runtime.delete import remove

    try:
        with container:
            remove(container)
    except BoxwrightError as error:
        container.runtime.warn(f"box `{container.id}` was left behind and cannot be removed: {error.message}")
    except FileNotFoundError:
        container.runtime.debug(f"box `{container.id}` was removed by somebody else")
