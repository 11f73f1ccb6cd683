"""Explain a bundle, or a command in a box, on this host: looked at, decided, and nothing done."""

import os

from boxwright.boxes.require import isolation_of, require_isolation
from boxwright.plan.request import Request, RootSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.api.options import BoxOptions
    from boxwright.plan.explain import Explanation
    from boxwright.plan.ops import Plan
    from boxwright.plan.request import HostFacts
    from boxwright.plan.resctrl import ResctrlSite
    from boxwright.runtime.context import Runtime
    from boxwright.spec.types import Config

_STAGE_ID = "box"  # what stands for an id that is made up anew for each box


def explain_bundle(document: bytes, bundle: str, runtime: "Runtime") -> "Explanation":
    """What `create` of this configuration would do. Raises ConfigError, UnsupportedError and HostError as it would."""
    config = _checked(document, runtime)
    if isolation_of(config, runtime.isolation) == "vm":
        from boxwright.api.explaining_vm import explain_machine

        return explain_machine(config, bundle, None, os.path.basename(bundle) or "container", runtime)
    root = os.path.realpath(os.path.join(bundle, config.root.path)) if config.root else ""
    return _explain(config, bundle, RootSource(root), os.path.basename(bundle) or "container", runtime)


def explain_box(options: "BoxOptions", runtime: "Runtime") -> "Explanation":
    """What `run` of a command in a box would do. Raises UnsupportedError and ConfigError as it would."""
    from boxwright.api.recipe import Recipe, capabilities_of
    from boxwright.host.facts import is_privileged
    from boxwright.host.seccomp import host_arch
    from boxwright.plan.default_profile import default_seccomp
    from boxwright.spec.jsontext import encode_json

    require_isolation(options.isolation)
    alone = (runtime.isolation or options.isolation) == "vm"
    recipe = Recipe(options, privileged=alone or is_privileged())
    config = _checked(encode_json(recipe.document()).encode(), runtime)
    if config.linux is not None and config.linux.seccomp is None:
        profile = default_seccomp(capabilities_of(options), host_arch())
        config = config.replace(linux=config.linux.replace(seccomp=profile))
    container_id = options.name or _STAGE_ID
    if alone:
        from boxwright.api.explaining_vm import explain_machine

        overlay = (recipe.root, options.root_bytes or 0) if options.overlay else None
        return explain_machine(config, recipe.root, overlay, container_id, runtime)
    root = RootSource(recipe.root)
    if options.overlay:
        root = _overlay(recipe.root, os.path.join(runtime.root, container_id, "root"))
        root = root.replace(mapped=options.init_system and is_privileged())
    return _explain(config, recipe.root, root, container_id, runtime)


def _overlay(root: str, stage: str) -> RootSource:
    from boxwright.host.facts import is_privileged

    source = RootSource(root, stage, (root,))
    if root == "/" and not is_privileged():
        from boxwright.host.subids import branches

        overlays, links, binds = branches(root)
        source = source.replace(branches=overlays, links=links, binds=binds)
    return source


def _checked(document: bytes, runtime: "Runtime") -> "Config":
    from boxwright.boxes.require import require
    from boxwright.spec.decode import decode
    from boxwright.spec.validate import refuse, validate

    config = decode(document)
    refuse(validate(config))
    require(config, isolation_of(config, runtime.isolation))
    return config


def _explain(config: "Config", bundle: str, root: RootSource, container_id: str, runtime: "Runtime") -> "Explanation":
    from boxwright.host import facts as host_facts
    from boxwright.plan.compile import compile_create
    from boxwright.plan.explain import explain

    facts = host_facts.probe_for(config)
    request = _request(config, facts, bundle, root, container_id, runtime.cgroup_driver)
    return explain(compile_create(config, facts, request), config, facts)


def jail_plan(config: "Config", root: RootSource, container_id: str, runtime: "Runtime") -> "Plan":
    """The plan of the jail that holds a virtual machine."""
    from boxwright.boxes.vm.jail import CAPABILITIES
    from boxwright.host import facts as host_facts
    from boxwright.host.seccomp import compile_section, host_arch
    from boxwright.plan.compile import compile_create
    from boxwright.plan.default_profile import default_seccomp

    facts = host_facts.probe_for(config)
    request = _request(config, facts, "", root, container_id, runtime.cgroup_driver)
    program = compile_section(default_seccomp(CAPABILITIES, host_arch())).code
    return compile_create(config, facts, request.replace(gate=False, seccomp=program, own_stdio=False))


def _request(
    config: "Config", facts: "HostFacts", bundle: str, root: RootSource, container_id: str, cgroup_driver: str
) -> Request:
    """The request of a `create`, as far as looking can tell."""
    from boxwright.host.cgroup_probe import inspect
    from boxwright.plan.cgroups import place
    from boxwright.plan.seccomp_flags import uses_notify

    placement = place(config, facts.cgroups, container_id, cgroup_driver)
    placement, site = inspect(config, facts.cgroups, placement)
    section = config.linux.seccomp if config.linux else None
    return Request(
        container_id=container_id,
        bundle=bundle,
        root=root,
        placement=placement,
        site=site,
        state=("", ""),
        seccomp=filter_of(config),
        gate=True,
        listener=bool(section and section.listener_path and uses_notify(section)),
        resctrl=_resctrl(config, facts, container_id),
    )


def _resctrl(config: "Config", facts: "HostFacts", container_id: str) -> "ResctrlSite | None":
    rdt = config.linux.intel_rdt if config.linux else None
    if rdt is None:
        return None
    from boxwright.host.resctrl import inspect, mount_point

    return inspect(rdt, container_id, facts.resctrl or mount_point())


def filter_of(config: "Config") -> bytes:
    """The compiled program of the configuration's filter; empty for none."""
    section = config.linux.seccomp if config.linux else None
    if section is None:
        return b""
    from boxwright.host.seccomp import compile_section

    return compile_section(section).code
