"""ps: which processes are in the container."""

from boxwright.runtime.containers import STOPPED, Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.context import Runtime


def pids(runtime: "Runtime", container_id: str) -> list[int]:
    """The pids of all processes of a container as the runtime sees them; none once it is stopped."""
    from boxwright.host.cgroups import pids as pids_of_groups

    container = Container.find(runtime, container_id)
    if container.status() == STOPPED:
        return []
    if not container.placement.groups:
        return [container.pid] if container.pid else []
    return sorted(pids_of_groups(container.placement))
