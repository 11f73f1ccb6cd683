"""Boxwright: one OCI bundle, three kinds of box.

The public API. Nothing is loaded before it is used.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright import aio
    from boxwright.api.box import Box, Process
    from boxwright.api.options import Bind
    from boxwright.api.records import Limits, Result, Stats, Usage
    from boxwright.api.running import run
    from boxwright.api.streams import DEVNULL, PIPE
    from boxwright.errors import (
        BoxwrightError,
        ConfigError,
        ExistsError,
        GuestError,
        HookError,
        HostError,
        ImageError,
        NotFoundError,
        Problem,
        StateError,
        UnsupportedError,
        UsageError,
    )
    from boxwright.runtime.context import Runtime

__version__ = "0.1.0"

__all__ = [
    "DEVNULL",
    "PIPE",
    "Bind",
    "Box",
    "BoxwrightError",
    "ConfigError",
    "ExistsError",
    "GuestError",
    "HookError",
    "HostError",
    "ImageError",
    "Limits",
    "NotFoundError",
    "Problem",
    "Process",
    "Result",
    "Runtime",
    "StateError",
    "Stats",
    "UnsupportedError",
    "Usage",
    "UsageError",
    "__version__",
    "aio",
    "run",
]

_HOMES = {
    "boxwright.aio": ("aio",),
    "boxwright.api.box": ("Box", "Process"),
    "boxwright.api.options": ("Bind",),
    "boxwright.api.records": ("Limits", "Result", "Stats", "Usage"),
    "boxwright.api.running": ("run",),
    "boxwright.api.streams": ("DEVNULL", "PIPE"),
    "boxwright.runtime.context": ("Runtime",),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module `boxwright` has no attribute `{name}`")
    import sys

    home = next((home for home, names in _HOMES.items() if name in names), "boxwright.errors")
    __import__(home)
    module = sys.modules[home]
    found = globals()[name] = module if name == "aio" else getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
