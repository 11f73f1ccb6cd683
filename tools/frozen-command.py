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
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            setattr(sys, name, None)  # as an interpreter does that starts without
    if os.isatty(1):
        sys.stdout.reconfigure(line_buffering=True)
    main()


for name in " ".join(HOT).split():
    __import__(f"boxwright.{name}")

from boxwright.cli.main import main  # noqa: E402

# the first calls are slower than the others: they find out what the later ones go by
from boxwright.cli.options import parse  # noqa: E402
from boxwright.cli.run import COMMAND as RUN  # noqa: E402
from boxwright.plan.cgroup_layout import CgroupLayout, CgroupSite, Hierarchy  # noqa: E402
from boxwright.plan.cgroups import place  # noqa: E402
from boxwright.plan.compile import compile_create  # noqa: E402
from boxwright.plan.encode import encode  # noqa: E402
from boxwright.plan.request import HostFacts, Request, RootSource  # noqa: E402
from boxwright.spec.decode import from_value  # noqa: E402
from boxwright.spec.default import default_config  # noqa: E402
from boxwright.spec.types import Config  # noqa: E402
from boxwright.spec.validate import validate  # noqa: E402


def rehearse() -> None:
    """Everything that deciding on a default container takes; it is pure, so it can be done for nobody."""
    parse(RUN, ["--bundle", "/bundle", "id"])
    config = from_value(Config, default_config())
    validate(config)
    kinds = ((1, "cpuset"), (1, "devices"), (1, "memory"), (2, "pids"))
    hierarchies = tuple(Hierarchy(version, (name,), f"/cgroup/{name}", "/") for version, name in kinds)
    facts = HostFacts(0, 0, True, CgroupLayout("hybrid", hierarchies, rootless=False, writable=True))
    placement = place(config, facts.cgroups, "id", "cgroupfs")
    for gate in (False, True):
        request = Request("id", "/bundle", RootSource("/root"), placement, CgroupSite(), ("", ""), gate=gate)
        encode(compile_create(config, facts, request))


for _ in range(20):
    rehearse()

files = {module.__dict__.get("__file__") for name, module in sys.modules.items() if name != "__main__"}
sources = sorted(path for path in files | {sys.executable} if path and os.path.isfile(path))
gc.collect()
gc.freeze()
gc.disable()
