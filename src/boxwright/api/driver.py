"""What every kind of box does, for the library: `boxwright.run`, `Box` and their asyncio twins use nothing else.

Nothing here waits but where it says so: what takes time is a descriptor to wait for and a `step` to take then, so that
threads and event loops drive the same box.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol, Self

    from boxwright.api.arguments import StrPath, User
    from boxwright.api.program import Program
    from boxwright.spec.types import Process, Resources

    class Starting(Protocol):
        """A program that is being started. Leave it in any case; left by an exception it is undone."""

        def fileno(self) -> int:
            """Readable when `step` would not block."""

        def left_s(self) -> float | None:
            """After so many seconds `step` is to be called though there is nothing to read; None is never."""

        def step(self) -> Program | None:
            """Go on; the program, once it runs. Raises BoxwrightError where it cannot be started."""

        def __enter__(self) -> Self: ...
        def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None: ...

    class BoxDriver(Protocol):
        """One box, of whatever kind."""

        waits: bool
        """Whether what it does may wait for somebody's answer: an event loop leaves it to a thread then."""

        @property
        def id(self) -> str:
            """Its name, unique in its runtime."""

        @property
        def process(self) -> Process | None:
            """What its configuration says of a process: further ones take over from it what they do not say."""

        def begin(self, stdio: Sequence[int]) -> Starting:
            """Make it, with its program; `stdio` are borrowed descriptors."""

        def begin_process(self, process: Process, stdio: Sequence[int]) -> Starting:
            """Start a further program in it."""

        def signal(self, number: int) -> None:
            """Send a signal to its first process."""

        def thaw(self) -> None:
            """Let a paused box go on, so that what is killed in it can end; no error if it is not paused."""

        def pause(self) -> None:
            """Stop all its processes where they are."""

        def resume(self) -> None:
            """Let them go on."""

        def update(self, resources: Resources) -> None:
            """Change its limits."""

        def statistics(self) -> dict[str, Any]:
            """What it takes now, in the shape of `events --stats`."""

        def oom_kills(self) -> int:
            """How many of its processes the kernel has killed for want of memory."""

        def memory_peak_bytes(self) -> int:
            """The greatest amount of memory it took at once; 0 where nobody counts."""

        def state(self) -> dict[str, Any]:
            """Its state (runtime.md#runtimeState)."""

        def put(self, source: bytes | StrPath, path: str, *, mode: int | None, user: User) -> None:
            """What `Box.put` does. Waits."""

        def get(self, path: str, target: StrPath | None, most_bytes: int | None) -> bytes:
            """What `Box.get` does. Waits."""

        def remove(self) -> None:
            """Kill what is left of it and remove all that was made for it. Nothing happens the second time."""
