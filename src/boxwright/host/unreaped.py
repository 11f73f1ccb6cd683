"""What keeps the init of a pid namespace from its end: processes that their parents outside have not reaped.

Cold: asked only about an init that takes long to end.
"""

import os

from boxwright._record import Record


class Unreaped(Record):
    """A process that has ended, and whose parent has yet to wait for it."""

    pid: int
    parent: int


def unreaped_members(init: int) -> tuple[Unreaped, ...]:
    """Whom the killed `init` of a pid namespace waits for, once it is for nothing else (pid_namespaces(7)).

    Empty if it is no such init, or if a process of the namespace lives.
    """
    namespace = _namespace(init)
    if not namespace or not _is_first(init):
        return ()
    members = (int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != init)
    found = [_state_and_parent(pid) for pid in members if _namespace(pid) == namespace]
    if any(state != "Z" for state, _ in found):
        return ()
    return tuple(one for _, one in found)


def _namespace(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return 0  # it has ended, or is none of our business


def _is_first(pid: int) -> bool:
    return _read(f"/proc/{pid}/status").partition("\nNSpid:")[2].partition("\n")[0].split()[-1:] == ["1"]


def _state_and_parent(pid: int) -> tuple[str, Unreaped]:
    """Its state, and itself; one that has gone meanwhile is told as living: whoever asks looks again."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (fields[0], Unreaped(pid, int(fields[1]))) if fields else ("", Unreaped(pid, 0))


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""
