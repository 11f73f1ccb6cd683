"""A pipe whose write end this process holds for as long as it lives: who holds the read end sees our end.

A child made by os.fork() does not keep it open; one that another library forks without an exec does.
"""

import os
from _thread import allocate_lock

_lock = allocate_lock()
_ends: list[int] = []


def lifeline() -> int:
    """The read end; one for the whole process, and it stays ours."""
    with _lock:
        if not _ends:
            _ends.extend(os.pipe())
            os.register_at_fork(after_in_child=_let_go)
        return _ends[0]


def _let_go() -> None:
    """In a forked child: its boxes get a pipe of its own."""
    global _lock  # noqa: PLW0603 - a thread that is not here may have held the old one
    _lock = allocate_lock()
    for fd in _ends:
        os.close(fd)
    _ends.clear()
