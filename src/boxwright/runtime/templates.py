"""Plans that differ from an earlier one by the container's id alone are not compiled again.

An encoded plan holds the id as text. Where the new id is as long as the old one, it only has to be put in the old one's
place: no length in the plan changes. That is for ids that nothing else in a plan can look like, such as those that the
library makes up (48 random bits); the library makes many boxes of one kind, and compiling takes longer than the helper.
"""

from boxwright.plan.encode import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from boxwright.plan.cgroup_layout import CgroupPlacement
    from boxwright.plan.ops import Plan
    from boxwright.plan.request import HostFacts, RootSource

_MOST = 64


class EncodedPlan:
    """A plan as the helper reads it. The plan itself is compiled when it is looked into: to tell of a failure."""

    __slots__ = ("_compile", "_plan", "data", "inherited")

    def __init__(self, data: bytes, inherited: tuple[str, ...], compile_it: "Callable[[], Plan]") -> None:
        self.data = data
        self.inherited = inherited
        self._compile = compile_it
        self._plan: Plan | None = None

    @property
    def plan(self) -> "Plan":
        """The plan."""
        if self._plan is None:
            self._plan = self._compile()
        return self._plan


class _Template:
    __slots__ = ("container_id", "data", "facts", "inherited")

    def __init__(self, container_id: str, data: bytes, inherited: tuple[str, ...], facts: "HostFacts") -> None:
        self.container_id = container_id.encode()
        self.data = data
        self.inherited = inherited
        self.facts = facts  # held, so that its identity in the key stays its own


_templates: "dict[Hashable, _Template]" = {}


def key_for(
    container_id: str, facts: "HostFacts", placement: "CgroupPlacement", root: "RootSource", *further: "Hashable"
) -> "Hashable":
    """What a plan depends on but for the id. `further` is hashed as it is."""
    groups = tuple([group.made.replace(container_id, "@") for group in placement.groups])
    stage = root.stage.replace(container_id, "@")
    return (len(container_id), id(facts), placement.driver, groups, root.replace(stage=stage), *further)


def plan_for(key: "Hashable", container_id: str, facts: "HostFacts", compile_it: "Callable[[], Plan]") -> EncodedPlan:
    """The plan of that key for this id: from a template, or compiled, and a template from now on."""
    template = _templates.get(key)
    if template is not None:
        data = template.data.replace(template.container_id, container_id.encode())
        return EncodedPlan(data, template.inherited, compile_it)
    plan = compile_it()
    data = encode(plan)
    if len(_templates) >= _MOST:
        _templates.clear()
    _templates[key] = _Template(container_id, data, plan.inherited, facts)
    return EncodedPlan(data, plan.inherited, lambda: plan)
