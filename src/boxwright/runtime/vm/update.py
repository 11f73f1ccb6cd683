"""update of a container in a virtual machine: the guest's control group, and the jail's for CPUs and disks."""

from boxwright.boxes.vm.guest import BOX, guest_resources, guest_site, refuse_resources
from boxwright.boxes.vm.remote import RemoteHelper
from boxwright.errors import BoxwrightError, GuestError, UnsupportedError
from boxwright.host.cgroup_stats import Files, standing
from boxwright.plan import ops
from boxwright.plan.cgroups import compile_update
from boxwright.runtime.following import Follower
from boxwright.runtime.update import apply, site_of, written
from boxwright.runtime.vm.inside import Inside
from boxwright.runtime.vm.lost import lost
from boxwright.spec.tojson import to_json
from boxwright.spec.types import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.ops import Step
    from boxwright.runtime.containers import Container


def update_machine(container: "Container", resources: "Resources") -> None:
    """Change the limits, in the guest first. Raises as `update`, and changes nothing then; StateError if paused."""
    refuse_resources(resources)
    guests, jails = guest_resources(resources), _jail_resources(resources)
    host_steps = compile_update(jails, container.placement, site_of(container.placement, jails))
    with Inside(container) as inside:
        _refuse_more_memory(resources, inside.memory_bytes)
        site = guest_site().replace(standing=standing(inside.placement, Files(inside.read)))
        steps = compile_update(guests, inside.placement, site)
        before = [(path, inside.read(path)) for path in written(steps)]
        try:
            _perform(container, inside, steps, guests)
            apply(container, jails, host_steps)
        except BoxwrightError:
            _restore(container, inside, before)
            raise


def _jail_resources(resources: Resources) -> Resources:
    """What the host limits of a machine that runs: its memory was decided when it was made."""
    return Resources(cpu=resources.cpu, block_io=resources.block_io, pointer=resources.pointer)


def _refuse_more_memory(resources: Resources, had_bytes: int) -> None:
    """A limit that the machine cannot reach would not be kept to: Raises UnsupportedError."""
    memory = resources.memory
    if memory is not None and memory.limit is not None and memory.limit > had_bytes:
        why = f"the machine has {had_bytes} bytes of memory, and cannot grow while it runs"
        raise UnsupportedError(memory.at("limit"), BOX, why, hint="create it with `vm.hwConfig.memory`, or a limit")


def _perform(container: "Container", inside: Inside, steps: "tuple[Step, ...]", resources: Resources) -> None:
    if not steps:
        return
    plan = ops.Plan((*steps, ops.Step(ops.Ready())), (), (), (), 0)
    try:
        helper = RemoteHelper(inside.client, plan, 0)
        Follower(container.runtime, helper, to_json(resources)).until_executed()
        helper.wait_exit()
    except GuestError as error:
        raise lost(container, error) from None


def _restore(container: "Container", inside: Inside, before: "list[tuple[str, str]]") -> None:
    """Write back what has changed, in the reverse order; what the guest refuses is a warning."""
    steps = [
        ops.Step(ops.Write(path, line.encode()), soft=True)
        for path, text in reversed(before)
        if inside.read(path) != text
        for line in text.splitlines()
    ]
    _perform(container, inside, tuple(steps), Resources())
