"""Rules for linux.seccomp (config-linux.md#configLinuxSeccomp)."""

from boxwright.errors import Problem
from boxwright.spec.rules import not_absolute, out_of_range, unknown, unknown_items
from boxwright.spec.seccomp_constants import ACTIONS, ACTIONS_WITH_ERRNO, ARCHITECTURES, FLAGS, OPERATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.spec.types import Seccomp

_ERRNO_MAX = 4095  # the kernel's MAX_ERRNO: a larger one would come out as something else
_TRACE_MAX = 0xFFFF


def default_action(seccomp: "Seccomp") -> "Iterator[Problem]":
    """The default action is known and takes the errno that is given for it."""
    action = seccomp.default_action
    if action not in ACTIONS:
        yield unknown(seccomp.at("defaultAction"), action, ACTIONS, "seccomp action", seccomp.anchor)
    else:
        yield from _errno(seccomp.at("defaultErrnoRet"), action, seccomp.default_errno_ret, seccomp.anchor)
    if action == "SCMP_ACT_NOTIFY":
        # the filter would stop the very call that hands the listener over
        yield Problem(seccomp.at("defaultAction"), "cannot be the default action", seccomp.anchor, value=action)


def _errno(pointer: str, action: str, errno_ret: int | None, anchor: str) -> "Iterator[Problem]":
    if errno_ret is None:
        return
    if action not in ACTIONS_WITH_ERRNO:
        yield Problem(pointer, f"`{action}` takes no errno", anchor, value=errno_ret)
    else:
        high = _TRACE_MAX if action == "SCMP_ACT_TRACE" else _ERRNO_MAX
        yield from out_of_range(pointer, errno_ret, 0, high, anchor)


def architectures(seccomp: "Seccomp") -> "Iterator[Problem]":
    """Architectures are of libseccomp's names."""
    where = seccomp.at("architectures")
    yield from unknown_items(where, seccomp.architectures, ARCHITECTURES, "seccomp architecture", seccomp.anchor)


def flags(seccomp: "Seccomp") -> "Iterator[Problem]":
    """Flags are of seccomp(2)."""
    yield from unknown_items(seccomp.at("flags"), seccomp.flags, FLAGS, "seccomp flag", seccomp.anchor)


def listener(seccomp: "Seccomp") -> "Iterator[Problem]":
    """Metadata goes to a listener, and notifications need one."""
    if seccomp.listener_metadata and not seccomp.listener_path:
        where = seccomp.at("listenerMetadata")
        yield Problem(where, "must not be set without `listenerPath`", seccomp.anchor)
    for rule in seccomp.syscalls:
        if rule.action == "SCMP_ACT_NOTIFY":
            yield from _needs_listener(seccomp, rule.at("action"))


def _needs_listener(seccomp: "Seccomp", pointer: str) -> "Iterator[Problem]":
    path = seccomp.listener_path
    if not path:
        yield Problem(pointer, "needs `listenerPath`: nobody would answer", seccomp.anchor)
    else:
        yield from not_absolute(seccomp.at("listenerPath"), path, seccomp.anchor)


def system_calls(seccomp: "Seccomp") -> "Iterator[Problem]":
    """Each rule names calls and a known action, and the errno that is given is one it takes."""
    for rule in seccomp.syscalls:
        if not rule.names:
            yield Problem(rule.at("names"), "must have at least one entry", rule.anchor)
        if rule.action not in ACTIONS:
            yield unknown(rule.at("action"), rule.action, ACTIONS, "seccomp action", rule.anchor)
        elif rule.errno_ret is not None:
            yield from _errno(rule.at("errnoRet"), rule.action, rule.errno_ret, rule.anchor)
        for condition in rule.args:
            if condition.op not in OPERATORS:
                yield unknown(condition.at("op"), condition.op, OPERATORS, "seccomp operator", condition.anchor)
            yield from out_of_range(condition.at("index"), condition.index, 0, 5, condition.anchor)


RULES = (default_action, architectures, flags, listener, system_calls)
