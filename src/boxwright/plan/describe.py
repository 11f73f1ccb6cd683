"""From the helper's reports to what a person can act on.

Cold: loaded when something has failed, or to explain a plan.
"""

import errno as e

from boxwright.errors import BoxwrightError, HookError, HostError
from boxwright.plan import mount_hints, ops
from boxwright.plan.hints import Failure, reason
from boxwright.plan.phrases import Names, capability_words, phrase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.ops import Plan, Step
    from boxwright.spec.types import Config

_LONGEST_SHOWN = 200


def describe(step: "Step", names: Names | None = None) -> str:
    """What the step does, as an infinitive phrase: "mount `tmpfs` at `/dev/shm`".

    With `names` (of the whole plan) also what is in the slots is told by name.
    """
    return phrase(step, names or Names())


def explain_failure(
    plan: "Plan",
    config: "Config | dict[str, object] | None",
    actor: int,
    op_index: int,
    errno: int,
    value: int = 0,
    text: str = "",
    *,
    kind: int = ops.ERROR,
) -> BoxwrightError:
    """The error for a report of the `kind` ERROR, HOOK_FAILED or WARNING: which step, from which line, why, and what
    can be done.

    `config` gives the value that is shown, by JSON pointer: the decoded configuration, or the document as parsed.
    The message of a warning tells all by itself.
    """
    step = plan.steps(actor)[op_index]
    failure = Failure(plan, actor, step, errno, value, text, Names(plan))
    if kind == ops.WARNING:
        return _warning(failure)
    if isinstance(step.op, ops.RunHook):
        return _hook_error(step.op, failure)
    if isinstance(step.op, (ops.FsMount, ops.Reconfigure)):
        return _mount_error(step.op, failure, config)
    cause, hint = reason(failure)
    notes = [] if not text or text.strip() in cause else [f"said: {line}" for line in text.splitlines() if line.strip()]
    return HostError(
        _tried(failure),
        0 if errno == e.ECANCELED else errno,  # it says only that a program failed, which the cause tells better
        path=_path_of(step),
        pointer=step.pointer,
        anchor=step.anchor,
        value=value_at(config, step.pointer),
        cause=cause,
        hint=hint or None,
        notes=notes,
    )


def _warning(failure: Failure) -> BoxwrightError:
    step = failure.step
    source = f"   (from {step.pointer})" if step.pointer else ""
    if isinstance(step.op, ops.SetCaps):
        missing = capability_words(failure.value)
        return BoxwrightError(f"not granted, as the caller does not have them: {missing}{source}")
    if isinstance(step.op, ops.BoundCaps) and failure.value:
        missing = capability_words(failure.value)
        return BoxwrightError(f"not kept, as the caller's bounding set does not have them: {missing}{source}")
    if isinstance(step.op, ops.RunHook):
        return BoxwrightError(f"{_hook_error(step.op, failure)}{source}")
    cause, hint = reason(failure)
    tried = HostError(_tried(failure), failure.errno, cause=cause)
    return BoxwrightError(f"{tried}{f'; {hint}' if hint else ''}{source}")


def value_at(config: "Config | dict[str, object] | None", pointer: str) -> object:
    """The scalar or short list at the JSON pointer (RFC 6901), None for anything else."""
    from boxwright.spec.kinds import SpecRecord
    from boxwright.spec.names import to_python

    found: object = config
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(found, SpecRecord):
            found = getattr(found, to_python(name), None)
        elif isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, (list, tuple)) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return _scalar(found) if pointer else None


def _scalar(found: object) -> object:
    if isinstance(found, (str, int, float)):
        return found
    if isinstance(found, (list, tuple)) and all(isinstance(item, (str, int)) for item in found):
        items = list(found)
        return items if len(repr(items)) <= _LONGEST_SHOWN else None
    return None


def _tried(failure: Failure) -> str:
    """What was tried; the program is named in one way whichever of its two steps failed."""
    op = failure.step.op
    if isinstance(op, ops.FindProgram):
        return f"execute `{op.name}`"
    if isinstance(op, ops.Exec) and op.argv:
        return f"execute `{op.argv[0]}`"
    return describe(failure.step, failure.names)


def _path_of(step: "Step") -> str:
    op = step.op
    if isinstance(op, ops.FindProgram):
        return op.name
    path = getattr(op, "path", "")
    return str(path) or step.about


# --- filesystems ------------------------------------------------------------------------------------------------


def _mount_error(
    op: "ops.FsMount | ops.Reconfigure", failure: Failure, config: "Config | dict[str, object] | None"
) -> HostError:
    step = failure.step
    param, part = mount_hints.refused_parameter(op, failure)
    pointer = part or step.pointer
    fstype = op.fstype if isinstance(op, ops.FsMount) else "the filesystem"
    if param:
        hint = mount_hints.parameter_hint(fstype, param, failure.errno)
    elif isinstance(op, ops.Reconfigure):
        hint = ""
    elif failure.value == mount_hints.OF_TYPE:
        hint = mount_hints.type_hint(fstype)
    else:
        hint = mount_hints.creation_hint(op, failure)
    if not hint and failure.errno == e.EPERM:
        hint = failure.unprivileged
    if part == "" and failure.value == mount_hints.OF_TYPE and value_at(config, f"{pointer}/type"):
        pointer = f"{pointer}/type"
    said = mount_hints.kernel_message(failure.text)
    return HostError(
        describe(step, failure.names),
        failure.errno,
        path=step.about,
        pointer=pointer,
        anchor=step.anchor,
        value=value_at(config, pointer),
        hint=hint or None,
        notes=[f"the kernel says: {said}"] if said else [],
    )


# --- hooks ------------------------------------------------------------------------------------------------------


def _hook_error(op: ops.RunHook, failure: Failure) -> HookError:
    kind, pointer = failure.step.about or "a", failure.step.pointer
    if failure.errno == e.ETIMEDOUT:
        why = f"ran longer than {op.timeout_ms / 1000:g} s and was killed"
        return HookError(kind, op.path, why, pointer=pointer, output=failure.text)
    if failure.errno != e.ECANCELED:
        why = str(HostError("be executed", failure.errno))
        hint = _HOOK_HINTS.get(failure.errno)
        return HookError(kind, op.path, why, pointer=pointer, output=failure.text, hint=hint)
    why = _status_words(failure.value)
    last = next((line.strip() for line in reversed(failure.text.splitlines()) if line.strip()), "")
    return HookError(
        kind, op.path, f"{why}: {last}" if last else why, pointer=pointer, status=failure.value, output=failure.text
    )


_HOOK_HINTS = {
    e.ENOENT: "the path is taken as the runtime sees it; startContainer hooks as the box does",
    e.EACCES: "the hook must be a file that may be executed (`chmod +x`)",
    e.ENOEXEC: "the hook is for another architecture, or a script without a `#!` line",
}


def _status_words(status: int) -> str:
    """A wait status in words (wait(2))."""
    signal = status & 0x7F
    return f"was killed by signal {signal}" if signal else f"failed with exit status {status >> 8 & 0xFF}"
