"""ps: which processes are in the container."""

from boxwright.runtime.containers import STOPPED, Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.context import Runtime
    from boxwright.runtime.vm.inside import GuestProcess


def pids(runtime: "Runtime", container_id: str) -> list[int]:
    """The pids of all processes of a container as the runtime sees them; none once it is stopped.

    Those of a container in a virtual machine are its guest's.
    """
    from boxwright.host.cgroups import pids as pids_of_groups

    container = Container.find(runtime, container_id)
    if container.status() == STOPPED:
        return []
    if container.in_machine:
        return [process.pid for process in _inside(container)]
    if not container.placement.groups:
        return [container.pid] if container.pid else []
    return sorted(pids_of_groups(container.placement))


def guest_processes(runtime: "Runtime", container_id: str) -> "list[GuestProcess] | None":
    """The processes of a container in a virtual machine; None for another, whose processes this kernel knows.

    Raises StateError where the machine is paused, GuestError where it does not answer.
    """
    container = Container.find(runtime, container_id)
    if not container.in_machine:
        return None
    return [] if container.status() == STOPPED else _inside(container)


def _inside(container: Container) -> "list[GuestProcess]":
    from boxwright.runtime.vm.inside import Inside

    with Inside(container) as inside:
        return inside.processes()
