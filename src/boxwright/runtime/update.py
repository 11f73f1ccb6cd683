"""update: change the limits of a container that exists (not an operation of the standard; engines need it)."""

import os

from boxwright.errors import BoxwrightError, HostError, StateError, UsageError
from boxwright.host.cgroup_stats import standing
from boxwright.host.cgroups import read, write
from boxwright.host.spawn import Helper
from boxwright.plan import ops
from boxwright.plan.cgroup_layout import SYSTEMD, CgroupSite
from boxwright.plan.cgroups import compile_update
from boxwright.runtime.containers import RUNNING, STOPPED, Container
from boxwright.runtime.following import Follower
from boxwright.spec.jsontext import encode_json, parse_json
from boxwright.spec.tojson import to_json
from boxwright.spec.types import IntelRdt, Linux
from boxwright.spec.validate import refuse, validate_resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from boxwright.plan.cgroup_layout import CgroupPlacement
    from boxwright.runtime.context import Runtime
    from boxwright.spec.types import Resources

    JSON = dict[str, Any]

# items of lists are one and the same limit if they agree in these
_KEYS = ("pageSize", "name", "major", "minor")


def update(
    runtime: "Runtime",
    container_id: str,
    resources: "Resources",
    *,
    l3_cache_schema: str | None = None,
    mem_bw_schema: str | None = None,
) -> None:
    """Change the limits that `resources` has; those that it leaves out, and device rules, stay as they are.

    The schemas are for the container's class of cache and memory bandwidth. Raises StateError for a stopped
    container, ConfigError and UnsupportedError before anything is changed, UsageError for a schema where the
    container has no class, and HostError where the kernel refuses a limit: what was changed is changed back then.
    """
    for problem in refuse(validate_resources(resources)):
        runtime.warn(str(problem))
    rdt = _schemas(runtime, l3_cache_schema, mem_bw_schema)
    with Container.find(runtime, container_id) as container:
        status = container.status(frozen=False)
        if status == STOPPED:
            raise StateError(container_id, status, RUNNING)
        if container.in_machine:
            from boxwright.runtime.vm.update import update_machine

            _schemata_steps(container, rdt)
            update_machine(container, resources)
        else:
            steps = compile_update(resources, container.placement, site_of(container.placement, resources))
            steps += _schemata_steps(container, rdt)
            apply(container, resources, steps)
        _keep(container, resources, rdt)


def _schemas(runtime: "Runtime", l3_cache_schema: str | None, mem_bw_schema: str | None) -> IntelRdt | None:
    if not (l3_cache_schema or mem_bw_schema):
        return None
    from boxwright.spec.validate_linux import intel_rdt

    rdt = IntelRdt(l3_cache_schema=l3_cache_schema or None, mem_bw_schema=mem_bw_schema or None)
    for problem in refuse(list(intel_rdt(Linux(intel_rdt=rdt)))):
        runtime.warn(str(problem))
    return rdt


def _schemata_steps(container: Container, rdt: IntelRdt | None) -> tuple[ops.Step, ...]:
    if rdt is None:
        return ()
    from boxwright.plan.resctrl import schemata_steps

    groups = container.resctrl("joined")
    if not groups:
        hint = "it was created without `linux.intelRdt`"
        raise UsageError(f"container `{container.id}` has no class of cache and memory bandwidth", hint=hint)
    return tuple(schemata_steps(rdt, groups[0]))


def site_of(placement: "CgroupPlacement", resources: "Resources") -> CgroupSite:
    """What is in force, as far as the order of the writes depends on it."""
    site = CgroupSite(standing=standing(placement))
    block = resources.block_io
    if block is not None and (block.weight or block.weight_device):
        from boxwright.host.cgroup_files import io_weight_file

        site = site.replace(io_weight=io_weight_file(placement))
    return site


def apply(container: Container, resources: "Resources", steps: tuple[ops.Step, ...]) -> None:
    """Perform the steps, and tell systemd. Raises what the helper reports: what was changed is changed back then."""
    if container.placement.driver == SYSTEMD:
        from boxwright.host.systemd import update_unit

        update_unit(resources, container.placement)
    if not steps:
        return
    before = [(path, read(path)) for path in written(steps) if os.path.exists(path)]
    plan = ops.Plan((*steps, ops.Step(ops.Ready())), (), (), (), 0)
    helper = Helper(plan, ())
    try:
        Follower(container.runtime, helper, to_json(resources)).until_ready()
    except BoxwrightError as error:
        error.details += tuple(f"and {text}" for text in _restore(before))
        raise
    finally:
        helper.finish()


def written(steps: tuple[ops.Step, ...]) -> list[str]:
    """The files that the steps write to, each once."""
    return list(dict.fromkeys(step.op.path for step in steps if isinstance(step.op, ops.Write)))


def _restore(before: "list[tuple[str, str]]") -> "Iterable[str]":
    """Write back what has changed, in the reverse order; what could not be, in words.

    A file of several lines takes one a write. A limit that was first set by the update for a device stays, as an
    empty file says nothing that could be written.
    """
    for path, text in reversed(before):
        if read(path) == text:
            continue
        for line in text.splitlines():
            try:
                write(path, line)
            except HostError as error:
                yield error.message


def _keep(container: Container, resources: "Resources", rdt: IntelRdt | None) -> None:
    """Change the container's copy of its configuration, so that whoever reads it later finds what is in force."""
    with open(container.path("config.json"), "rb") as file:
        document: JSON = parse_json(file.read())
    linux = document.setdefault("linux", {})
    changes = to_json(resources)
    changes.pop("devices", None)
    linux["resources"] = _merged(linux.get("resources", {}), changes)
    if rdt is not None:
        linux["intelRdt"] = _merged(linux.get("intelRdt", {}), to_json(rdt))
    container.write_file("config.json", encode_json(document).encode())


def _merged(old: "Any", new: "Any") -> "Any":  # noqa: ANN401 - values of a JSON document
    """`old` with what `new` has: objects name by name, limits of devices and pages by what they are for."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: _merged(old.get(name), value) for name, value in new.items()}}
    if isinstance(old, list) and isinstance(new, list):
        kept = {_key(item): item for item in old}
        return list({**kept, **{_key(item): _merged(kept.get(_key(item)), item) for item in new}}.values())
    return new


def _key(item: "JSON") -> tuple[object, ...]:
    return tuple(item.get(name) for name in _KEYS)
