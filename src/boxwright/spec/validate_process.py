"""Rules for the process and its hooks (config.md#configProcess, #configHooks)."""

from boxwright.errors import Problem
from boxwright.spec.constants import (
    CAPABILITIES,
    IO_PRIORITY_CLASSES,
    RLIMITS,
    SCHEDULER_FLAGS,
    SCHEDULER_POLICIES,
)
from boxwright.spec.rules import bad_list, not_absolute, out_of_range, unknown, unknown_items

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.spec.types import Hooks, Process

_NOBODY = (1 << 32) - 1  # -1 to setresuid(2): keep the id, so the process would stay who the runtime is


def working_directory(process: "Process") -> "Iterator[Problem]":
    """`cwd` is an absolute path."""
    yield from not_absolute(process.at("cwd"), process.cwd, process.anchor)


def arguments(process: "Process") -> "Iterator[Problem]":
    """There is a program to run."""
    if not process.args:
        yield Problem(process.at("args"), "must have at least one entry", process.anchor)
    elif not process.args[0]:
        yield Problem(process.at("args", 0), "names no program", process.anchor, value="")


def environment(process: "Process") -> "Iterator[Problem]":
    """Each variable is NAME=value."""
    yield from _variables(process.at("env"), process.env, process.anchor)


def _variables(pointer: str, env: tuple[str, ...], anchor: str) -> "Iterator[Problem]":
    for index, variable in enumerate(env):
        if "=" not in variable or variable[0] == "=":
            yield Problem(f"{pointer}/{index}", "must have the form NAME=value", anchor, value=variable)


def user_ids(process: "Process") -> "Iterator[Problem]":
    """Ids are ids: the largest number means "no change" to the kernel."""
    user = process.user
    numbered = [("uid", user.uid), ("gid", user.gid)]
    numbered += [(f"additionalGids/{index}", gid) for index, gid in enumerate(user.additional_gids)]
    for name, number in numbered:
        if number == _NOBODY:
            yield Problem(f"{user.pointer}/{name}", "is no valid id", user.anchor, value=number)
    yield from out_of_range(user.at("umask"), user.umask, 0, 0o777, user.anchor)


def resource_limits(process: "Process") -> "Iterator[Problem]":
    """Types are known and stand once; the soft limit is within the hard one."""
    seen: set[str] = set()
    for limit in process.rlimits:
        if limit.type not in RLIMITS:
            yield unknown(limit.at("type"), limit.type, RLIMITS, "resource limit of Linux", limit.anchor)
        elif limit.type in seen:
            yield Problem(limit.at("type"), f"`{limit.type}` is limited twice", limit.anchor, value=limit.type)
        seen.add(limit.type)
        if limit.soft > limit.hard:
            yield Problem(limit.at("soft"), "is above the hard limit", limit.anchor, value=limit.soft)


def capabilities(process: "Process") -> "Iterator[Problem]":
    """Unknown or ungrantable capabilities are worth a warning, and no more (config.md#configLinuxProcess)."""
    sets = process.capabilities
    if sets is None:
        return
    for name in sets._fields:
        for index, capability in enumerate(getattr(sets, name) or ()):
            if capability not in CAPABILITIES:
                problem = unknown(sets.at(name, index), capability, CAPABILITIES, "known capability", sets.anchor)
                problem.fatal = False
                yield problem
    yield from _not_held(process, "effective", "permitted")
    yield from _not_held(process, "ambient", "permitted")
    yield from _not_held(process, "ambient", "inheritable")


def _not_held(process: "Process", wanted: str, held: str) -> "Iterator[Problem]":
    """The kernel grants a set only what another one holds, capabilities(7)."""
    sets = process.capabilities
    available = getattr(sets, held) or ()
    lost = [name for name in getattr(sets, wanted) or () if name in CAPABILITIES and name not in available]
    if sets is not None and lost:
        rule = f"cannot be granted: not in the {held} set"
        yield Problem(sets.at(wanted), rule, sets.anchor, value=" ".join(lost), fatal=False)


def oom_score(process: "Process") -> "Iterator[Problem]":
    """`oomScoreAdj` is in the range of proc_pid_oom_score_adj(5)."""
    anchor = "config.md#configLinuxProcess"
    yield from out_of_range(process.at("oomScoreAdj"), process.oom_score_adj, -1000, 1000, anchor)


def scheduling(process: "Process") -> "Iterator[Problem]":
    """Policy and flags are known, and each number fits its policy, sched_setattr(2)."""
    plan = process.scheduler
    if plan is None:
        return
    policies = SCHEDULER_POLICIES
    if plan.policy not in policies:
        yield unknown(plan.at("policy"), plan.policy, policies, "scheduling policy", plan.anchor)
    yield from unknown_items(plan.at("flags"), plan.flags, SCHEDULER_FLAGS, "scheduling flag", plan.anchor)
    yield from out_of_range(plan.at("nice"), plan.nice, -20, 19, plan.anchor)
    if plan.policy in {"SCHED_FIFO", "SCHED_RR"}:
        yield from out_of_range(plan.at("priority"), plan.priority, 1, 99, plan.anchor)
    meant_for = {
        "nice": ("SCHED_OTHER", "SCHED_BATCH"),
        "priority": ("SCHED_FIFO", "SCHED_RR"),
        "runtime": ("SCHED_DEADLINE",),
        "deadline": ("SCHED_DEADLINE",),
        "period": ("SCHED_DEADLINE",),
    }
    for name, owners in meant_for.items():
        number = getattr(plan, name)
        if number and plan.policy in policies and plan.policy not in owners:
            rule = f"is only for {' and '.join(owners)}"
            yield Problem(plan.at(name), rule, plan.anchor, value=number)


def io_priority(process: "Process") -> "Iterator[Problem]":
    """The class is known, the priority is from 0 to 7."""
    wanted = process.io_priority
    if wanted is None:
        return
    if wanted.class_ not in IO_PRIORITY_CLASSES:
        what = "I/O scheduling class"
        yield unknown(wanted.at("class"), wanted.class_, IO_PRIORITY_CLASSES, what, wanted.anchor)
    yield from out_of_range(wanted.at("priority"), wanted.priority, 0, 7, wanted.anchor)


def cpu_affinity(process: "Process") -> "Iterator[Problem]":
    """Both lists of CPUs are lists."""
    wanted = process.exec_cpu_affinity
    if wanted is not None:
        yield from bad_list(wanted.at("initial"), wanted.initial, wanted.anchor)
        yield from bad_list(wanted.at("final"), wanted.final, wanted.anchor)


def console_size(process: "Process") -> "Iterator[Problem]":
    """A terminal's size fits struct winsize; without a terminal the size is ignored."""
    size = process.console_size
    if size is not None and process.terminal:
        yield from out_of_range(size.at("height"), size.height, 0, 0xFFFF, size.anchor)
        yield from out_of_range(size.at("width"), size.width, 0, 0xFFFF, size.anchor)


def hooks(found: "Hooks") -> "Iterator[Problem]":
    """Paths are absolute, timeouts are greater than zero."""
    for kind in found._fields:
        for hook in getattr(found, kind):
            anchor = f"config.md#configHooks{kind.title().replace('_', '')}"
            yield from not_absolute(hook.at("path"), hook.path, anchor)
            yield from _variables(hook.at("env"), hook.env, anchor)
            if hook.timeout is not None and hook.timeout <= 0:
                yield Problem(hook.at("timeout"), "must be greater than zero", anchor, value=hook.timeout)


POSIX_RULES = (working_directory, arguments, environment, user_ids, console_size)
LINUX_RULES = (
    resource_limits,
    capabilities,
    oom_score,
    scheduling,
    io_priority,
    cpu_affinity,
)
