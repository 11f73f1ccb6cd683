"""A helper at work on a container, for who waits for it and for who must not wait."""

from boxwright.errors import BoxwrightError
from boxwright.host.processes import kill_child
from boxwright.runtime.following import Follower, Outcome
from boxwright.runtime.upcalls import Upcalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from boxwright.host.spawn import Helper
    from boxwright.runtime.create import Creation


class Making:
    """A helper at work for a creation. Left, it is finished with."""

    def __init__(self, creation: "Creation", helper: "Helper", *, gate: bool) -> None:
        self._runtime = creation.runtime
        self._creation = creation
        self._helper = helper
        self._gate = gate
        self._upcalls = Upcalls(creation.config, creation.container.placement)
        self._follower = Follower(
            creation.runtime, helper, creation.config, on_pid=creation.note_pid, upcall=self._upcalls
        )

    def fileno(self) -> int:
        """Readable when `step` would not block."""
        return self._helper.socket.fileno()

    def left_s(self) -> float | None:
        """Always None: there will be something to read."""
        return None

    def step(self) -> Outcome | None:
        """Take one report: the outcome once it is known. Raises what the helper reports."""
        try:
            outcome = self._follower.step(gate=self._gate)
        except BoxwrightError as error:
            raise self._upcalls.error or error from None
        if outcome is not None:
            self._creation.container.publish()
        return outcome

    def follow(self) -> Outcome:
        """Take reports until the outcome is known."""
        while (outcome := self.step()) is None:
            continue
        return outcome

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: "type[BaseException] | None", *_exc: object) -> None:
        if kind is not None:
            self._take_back()
            self._helper.abort()
            self._follower.drop()
            if self._helper.pid and not self._creation.container.pid:
                kill_child(self._helper.pid)  # it was cloned, and nobody had heard of it yet
        self._upcalls.close()
        self._helper.finish()

    def _take_back(self) -> None:
        """A device of the host is not lost with a container that could not be made."""
        try:
            self._upcalls.undo()
        except BoxwrightError as error:
            self._runtime.warn(error.message)
