"""state and list: what is known of containers (runtime.md#runtimeQueryState)."""

from boxwright.runtime.containers import STOPPED, Container, state_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwright.runtime.context import Runtime


def state(runtime: "Runtime", container_id: str) -> "dict[str, Any]":
    """The state of a container, with `rootfs`, `created` and `owner` beside what the standard has."""
    return _document(Container.find(runtime, container_id))


def list_states(runtime: "Runtime") -> "list[dict[str, Any]]":
    """The states of all containers, by id."""
    return [_document(container) for container in Container.every(runtime)]


def _document(container: Container) -> "dict[str, Any]":
    status = container.status()
    document = state_document(container, status, container.pid)
    document["pid"] = 0 if status == STOPPED else container.pid
    annotations = document.pop("annotations")
    for name in ("rootfs", "created", "owner"):
        document[name] = container.facts.get(name, "")
    document["annotations"] = annotations
    return document
