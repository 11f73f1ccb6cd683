"""pause and resume: the freezer of the container's cgroup."""

from boxwright.errors import StateError
from boxwright.host.cgroups import freeze, thaw
from boxwright.runtime.containers import CREATED, PAUSED, RUNNING, Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.context import Runtime


def pause(runtime: "Runtime", container_id: str) -> None:
    """Stop all processes of a container where they are. Raises StateError unless it is created or running."""
    with Container.find(runtime, container_id) as container:
        status = container.status()
        if status not in {CREATED, RUNNING}:
            raise StateError(container_id, status, RUNNING)
        freeze(container.placement)


def resume(runtime: "Runtime", container_id: str) -> None:
    """Let a paused container go on. Raises StateError unless it is paused."""
    with Container.find(runtime, container_id) as container:
        status = container.status()
        if status != PAUSED:
            raise StateError(container_id, status, PAUSED)
        thaw(container.placement)
