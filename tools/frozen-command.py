"""What the command's launcher holds ready in memory: run by `launcher --freeze` (see native/launcher.c)."""

import gc
import os
import sys
from _signal import SIGINT, default_int_handler, signal

# what the verbs load that engines call; anything else is imported when it is asked for
HOT = (
    "cli.create cli.delete cli.exec cli.kill cli.list cli.run cli.start cli.state",
    "runtime.context runtime.create runtime.delete runtime.exec runtime.foreground runtime.kill",
    "runtime.options runtime.run runtime.start runtime.state",
    "spec.default spec.sysctl spec.validate_linux spec.validate_mounts spec.validate_process",
    "spec.validate_resources spec.validate_seccomp",
)


def command(argv: list[str], environ: dict[bytes, bytes], interruptible: bool) -> None:
    """Go on from here with what is this process's own."""
    sys.argv[:] = argv
    variables = os.environ._data
    variables.clear()
    variables.update(environ)
    if interruptible:
        signal(SIGINT, default_int_handler)
    main()


for name in " ".join(HOT).split():
    __import__(f"boxwright.{name}")

from boxwright.cli.main import main  # noqa: E402

# the first calls are slower than the others: they find out what the later ones go by
from boxwright.spec.decode import from_value  # noqa: E402
from boxwright.spec.default import default_config  # noqa: E402
from boxwright.spec.types import Config  # noqa: E402
from boxwright.spec.validate import validate  # noqa: E402

for _ in range(10):
    validate(from_value(Config, default_config()))

files = {module.__dict__.get("__file__") for name, module in sys.modules.items() if name != "__main__"}
sources = sorted(path for path in files | {sys.executable} if path and os.path.isfile(path))
gc.collect()
gc.freeze()
gc.disable()
