"""The plan of a container that exists, compiled again: only to tell which step of it failed after the gate."""

from boxwright.host import facts as host_facts
from boxwright.plan.cgroup_layout import CgroupSite
from boxwright.plan.compile import compile_create
from boxwright.plan.request import Request, RootSource
from boxwright.plan.seccomp_flags import uses_notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.ops import Plan
    from boxwright.runtime.containers import Container
    from boxwright.spec.types import Config


def plan_of(container: "Container", config: "Config") -> "Plan":
    """The plan that the container was made by. Programs and states are left out; the steps are the same."""
    facts = host_facts.probe()
    how = container.facts.get("how", {})
    seccomp = config.linux.seccomp if config.linux else None
    listener = bool(seccomp and seccomp.listener_path and uses_notify(seccomp))
    request = Request(
        container_id=container.id,
        bundle=str(container.facts.get("bundle", "")),
        root=RootSource(str(container.facts.get("rootfs", ""))),
        placement=container.placement,
        site=CgroupSite(),
        state=("", ""),
        seccomp=b"\0" if seccomp or container.facts.get("defaultSeccomp") is not None else b"",
        gate=True,
        console=bool(how.get("console")),
        listener=listener,
        preserve_fds=int(how.get("preserveFds", 0)),
        no_pivot=bool(how.get("noPivot")),
        new_keyring=bool(how.get("newKeyring", True)),
    )
    return compile_create(_without_resctrl(config), facts, request)


def _without_resctrl(config: "Config") -> "Config":
    """Its groups are there by now, and no step of theirs is taken after the gate."""
    linux = config.linux
    return config if linux is None or linux.intel_rdt is None else config.replace(linux=linux.replace(intel_rdt=None))
