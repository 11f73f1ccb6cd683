"""`explain`: what would happen, before it happens."""

import os

from boxwright.cli.log import write_all
from boxwright.cli.options import TEXT, Command, Flag, parse
from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.settings import Globals
    from boxwright.plan.explain import Explanation
    from boxwright.plan.request import HostFacts, Request
    from boxwright.plan.resctrl import ResctrlSite
    from boxwright.spec.types import Config

COMMAND = Command(
    "explain",
    "show what a bundle would do, step by step, and what its box is made of",
    "[BUNDLE]",
    (
        Flag("json", "print it as JSON"),
        Flag("html", "print it as one page of HTML with a picture of the box"),
        Flag("config", "read this file in place of the bundle's config.json", TEXT, short="f", value="FILE"),
    ),
    least=0,
    most=1,
    notes="Nothing is made or changed. The steps are those for this host and this user.",
)


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)
    bundle = os.path.abspath(options.arguments[0] if options.arguments else ".")
    document = _read(options.path("config") or os.path.join(bundle, "config.json"))
    explanation = explain_document(document, bundle, settings.cgroup_manager)
    if options.switch("json"):
        from boxwright.plan.explain import to_json
        from boxwright.spec.jsontext import encode_json

        text = encode_json(to_json(explanation), indent=2) + "\n"
    elif options.switch("html"):
        from boxwright.plan.explain_html import page

        text = page(explanation)
    else:
        from boxwright.plan.explain_text import render

        text = render(explanation, color=os.isatty(1) and not os.environ.get("NO_COLOR"))
    write_all(1, text)
    return 0


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise HostError(f"read `{path}`", error.errno or 0, path=path) from None


def explain_document(document: bytes, bundle: str, cgroup_driver: str) -> "Explanation":
    """The explanation of a configuration on this host. Raises ConfigError and UnsupportedError as `create` would."""
    from boxwright.boxes.require import require
    from boxwright.host import facts as host_facts
    from boxwright.plan.compile import compile_create
    from boxwright.plan.explain import explain
    from boxwright.spec.decode import decode
    from boxwright.spec.validate import refuse, validate

    config = decode(document)
    refuse(validate(config))
    require(config)
    facts = host_facts.probe()
    plan = compile_create(config, facts, request_of(config, facts, bundle, cgroup_driver))
    return explain(plan, config, facts)


def request_of(config: "Config", facts: "HostFacts", bundle: str, cgroup_driver: str) -> "Request":
    """The request of a `create` of this bundle, as far as looking can tell."""
    from boxwright.host.cgroup_probe import inspect
    from boxwright.plan.cgroups import place
    from boxwright.plan.request import Request, RootSource
    from boxwright.plan.seccomp_flags import uses_notify

    container_id = os.path.basename(bundle) or "container"
    placement = place(config, facts.cgroups, container_id, cgroup_driver)
    placement, site = inspect(config, facts.cgroups, placement)
    root = os.path.realpath(os.path.join(bundle, config.root.path)) if config.root else ""
    section = config.linux.seccomp if config.linux else None
    return Request(
        container_id=container_id,
        bundle=bundle,
        root=RootSource(root),
        placement=placement,
        site=site,
        state=("", ""),
        seccomp=_filter(config),
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


def _filter(config: "Config") -> bytes:
    section = config.linux.seccomp if config.linux else None
    if section is None:
        return b""
    from boxwright.host.seccomp import compile_section

    return compile_section(section).code
