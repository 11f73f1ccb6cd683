"""Boxwright on asyncio: what `boxwright` does, without a thread for anything that waits.

The event loop watches the helper's socket, the program's pidfd and its pipes; hundreds of boxes run in one loop. What
the kernel does at once (making directories, reading counters) is done at once; only files are copied in the loop's
default executor. A task that is cancelled kills and removes its box before the cancellation goes on.
"""

from boxwright.api.aio_box import Box
from boxwright.api.aio_process import Process
from boxwright.api.aio_running import run

__all__ = ["Box", "Process", "run"]
