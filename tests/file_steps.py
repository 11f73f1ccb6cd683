"""The file operations of a plan, performed by Python: for tests of plans without the helper."""

import os
from collections.abc import Iterable

from boxwright.plan import ops


class FileSteps:
    """Performs the steps that only touch files. `warnings` has the soft ones that failed."""

    def __init__(self) -> None:
        self.slots: dict[int, int] = {}
        self.warnings: list[ops.Step] = []

    def perform(self, steps: Iterable[ops.Step], child: int = 0) -> None:
        """Do `steps` in order, `child` being the init. Raises OSError with the step as a note."""
        for step in steps:
            try:
                self._perform(step.op, child)
            except OSError as error:
                if not step.soft:
                    error.add_note(repr(step))
                    raise
                self.warnings.append(step)

    def _perform(self, op: ops.Op, child: int) -> None:
        match op:
            case ops.MakeDirs():
                os.makedirs(op.path, op.mode, exist_ok=True)
            case ops.Write():
                _write(op.path, op.data)
            case ops.WriteChildPid():
                _write(op.path, str(child).encode())
            case ops.ChownAt():
                os.chown(op.path, op.uid, op.gid, follow_symlinks=False)
            case ops.Open():
                self.slots[op.slot] = os.open(op.path, op.flags | os.O_CLOEXEC)
            case ops.WriteAt():
                _write(op.name, op.data, self.slots[op.directory])
            case ops.Close():
                os.close(self.slots.pop(op.slot))
            case _:
                raise NotImplementedError(op)


def _write(path: str, data: bytes, directory: int | None = None) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
