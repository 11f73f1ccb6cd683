"""Do something in another network namespace, on a thread of its own that ends with it.

A thread that has entered a namespace is never used again, so no other work of ours can find itself there.
"""

import os
import threading

from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

CLONE_NEWNET = 0x40000000


def in_network_namespace(namespace_fd: int, make: "Callable[[], T]") -> "T":
    """What `make` returns when it is called in the network namespace of that descriptor (borrowed).

    What it raises is raised here. Raises HostError if the namespace cannot be entered (setns(2)).
    """
    made: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            _enter(namespace_fd)
            made.append(make())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits for us
            failed.append(error)

    thread = threading.Thread(target=work, name="boxwright-netns")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def _enter(namespace_fd: int) -> None:
    try:
        _setns(namespace_fd, CLONE_NEWNET)
    except OSError as error:
        raise HostError("enter the network namespace of the container", error.errno or 0) from error


if hasattr(os, "setns"):  # from Python 3.12 on
    _setns = os.setns
else:

    def _setns(fd: int, nstype: int = 0) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, nstype) != 0:
            raise OSError(ctypes.get_errno(), "setns")
