"""Peers of a newer distribution, at their real places: a process of ours in that root starts and times them.

`BOXWRIGHT_BENCH_SID` names a directory that `debootstrap` filled (crun, runc and bubblewrap among its packages).
"""

import ctypes
import json
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import FailureError, spawn

SHARED = ("proc", "sys", "dev", "run", "tmp")
CLONE_NEWNS, MS_BIND, MS_REC, MNT_DETACH, SYS_PIVOT_ROOT = 0x20000, 0x1000, 0x4000, 2, 155


class NewerRoot:
    """Times programs in another root filesystem. The process that does so ends with ours."""

    def __init__(self, root: Path) -> None:
        ours, theirs = os.pipe(), os.pipe()
        if os.fork() == 0:
            os.close(ours[1])
            os.close(theirs[0])
            _enter(root)
            _serve(ours[0], theirs[1])
        os.close(ours[0])
        os.close(theirs[1])
        self._requests = os.fdopen(ours[1], "w")
        self._answers = os.fdopen(theirs[0])

    def spawn(self, argv: Sequence[str]) -> float:
        """As `contenders.spawn`."""
        print(json.dumps(argv), file=self._requests, flush=True)
        answer = json.loads(self._answers.readline())
        if isinstance(answer, str):
            raise FailureError(answer)
        return float(answer)

    def path(self, program: str) -> str:
        """Where the program is in there."""
        return f"/usr/sbin/{program}" if program == "runc" else f"/usr/bin/{program}"


def _enter(root: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *args: object) -> None:
        if getattr(libc, name)(*args) != 0:
            raise OSError(ctypes.get_errno(), name)

    call("unshare", CLONE_NEWNS)
    call("mount", os.fsencode(root), os.fsencode(root), None, MS_BIND | MS_REC, None)
    for name in SHARED:
        call("mount", f"/{name}".encode(), os.fsencode(root / name), None, MS_BIND | MS_REC, None)
    os.chdir(root)
    call("syscall", SYS_PIVOT_ROOT, b".", b".")
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")


def _serve(requests: int, answers: int) -> None:
    with os.fdopen(requests) as lines, os.fdopen(answers, "w") as out:
        for line in lines:
            try:
                answer: object = spawn(json.loads(line))
            except (FailureError, OSError) as error:
                answer = str(error)
            print(json.dumps(answer), file=out, flush=True)
    os._exit(0)
