"""States as texts with a gap for the pid: only the helper knows which pid is right where it hands one out."""

from boxwright.spec.jsontext import encode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwright.spec.types import Seccomp

_PID_MARK = "@pid@"


def around_pid(document: "dict[str, Any]") -> tuple[str, str]:
    """The text of a state before and after the pid, for the helper to put in the one that is right at that place."""
    before, _, after = encode_json({**document, "pid": _PID_MARK}).partition(f'"{_PID_MARK}"')
    return before, after


def listener_state(seccomp: "Seccomp", state: tuple[str, str]) -> tuple[str, str, str]:
    """The container process state that goes with a notify descriptor (config-linux.md#containerprocessstate)."""
    head = {"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": _PID_MARK, "metadata": seccomp.listener_metadata or ""}
    before, after = around_pid(head)
    return before, f'{after[:-1]},"state":{state[0]}', f"{state[1]}}}"
