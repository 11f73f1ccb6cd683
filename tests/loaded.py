"""What an interpreter has loaded: each module on the way of a start is paid for at every start."""

import os
import subprocess
import sys
from functools import cache

from fixtures_runtime import REPOSITORY

SOURCE = REPOSITORY / "src"

# what a hot verb may load of the standard library, beyond what the bare interpreter has already
FREE = frozenset(
    {
        "_json",
        "_sha2",
        "_sha256",
        "_signal",
        "_socket",
        "_struct",
        "array",
        "binascii",
        "errno",
        "fcntl",
        "marshal",
        "os",
        "select",
        "struct",
        "time",
    }
)


def base_python() -> str:
    """The real interpreter, as the command's first line names it."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


@cache
def loaded_by(statement: str) -> frozenset[str]:
    """The modules in a bare interpreter after `statement`."""
    script = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); {statement}; print(*sys.modules)"
    return frozenset(subprocess.check_output([base_python(), "-I", "-S", "-c", script], text=True).split())


def unwanted(loaded: frozenset[str]) -> frozenset[str]:
    """What of `loaded` is neither ours nor free."""
    own = {name for name in loaded if name.split(".")[0] == "boxwright"}
    # `os` is free, and brings what it is made of
    return loaded - own - FREE - loaded_by("import os")
