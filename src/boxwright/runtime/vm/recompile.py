"""The plan of a container's guest, compiled again: only to tell which step of it failed after the gate."""

from boxwright.boxes.vm.guest import guest_config, guest_facts, guest_root, guest_site
from boxwright.boxes.vm.shares import with_devices
from boxwright.plan.cgroups import place
from boxwright.plan.compile import compile_create
from boxwright.plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.ops import Plan
    from boxwright.runtime.containers import Container


def plan_of(container: "Container") -> "Plan":
    """The plan that the container was made by, with its files where they are on the host: the steps are the same."""
    overlay = bool(container.facts.get("guestOverlay"))
    config = guest_config(with_devices(container.config(), overlay=overlay))
    facts = guest_facts(container.facts.get("hello", {}))
    seccomp = config.linux.seccomp if config.linux else None
    request = Request(
        container_id=container.id,
        bundle=str(container.facts.get("bundle", "")),
        root=guest_root(
            "/",
            overlay=overlay,
            size_bytes=0,
            device=str(container.facts.get("guestDevice", "")),
            branches=container.facts.get("guestBranches"),
        ),
        placement=place(config, facts.cgroups, container.id, "cgroupfs"),
        site=guest_site(),
        state=("", ""),
        seccomp=b"\0" if seccomp or container.facts.get("defaultSeccomp") is not None else b"",
        gate=True,
        new_keyring=bool(container.facts.get("how", {}).get("newKeyring", True)),
    )
    return compile_create(config, facts, request)
