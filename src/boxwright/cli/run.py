"""`run`: a bundle as an engine asks for it, or a command in a box as a person does.

`run [FLAG…] ID` is runc's form. With `--` among the words, or with a flag that only the other form has, it is
`run [FLAG…] [--] COMMAND…`, which `run_here` does.
"""

import os

from boxwright.cli.flags import CREATE_FLAGS, DETACH, bundle_of
from boxwright.cli.options import Command, Flag, UnknownFlagError, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.options import Options
    from boxwright.cli.settings import Globals

COMMAND = Command(
    "run",
    "create a container, start it and wait for it; or run a command in a box",
    "ID",
    (*CREATE_FLAGS, DETACH, Flag("keep", "do not delete the container when its program ends")),
    least=1,
    most=1,
    notes="`boxwright run [FLAG…] -- COMMAND [ARGUMENT…]` needs neither bundle nor id, and has flags of its own. The "
    "status is that of the program, 128 plus the signal that ended it, or 1 where it could not be run.",
)


def run(args: list[str], settings: "Globals") -> int:
    options = None if "--" in args else _engine_form(args)
    if options is None:
        from boxwright.cli.run_here import run as run_here

        return run_here(args, settings)

    from boxwright.runtime.options import RunOptions
    from boxwright.runtime.run import run as run_bundle

    return run_bundle(
        settings.runtime(),
        options.arguments[0],
        RunOptions(
            bundle=bundle_of(options),
            config_path=options.path("config"),
            console_socket=options.path("console-socket"),
            pid_file=options.path("pid-file"),
            pidfd_socket=options.path("pidfd-socket"),
            no_pivot=options.switch("no-pivot"),
            no_new_keyring=options.switch("no-new-keyring"),
            preserve_fds=options.count("preserve-fds"),
            notify_socket=os.environ.get("NOTIFY_SOCKET", ""),
            detach=options.switch("detach"),
            keep=options.switch("keep"),
            no_subreaper=options.switch("no-subreaper"),
        ),
    )


def _engine_form(args: list[str]) -> "Options | None":
    """What runc's form says, or None where a flag belongs to the other form."""
    try:
        return parse(COMMAND, args)
    except UnknownFlagError as error:
        from boxwright.cli.run_here import COMMAND as HERE

        if any(error.flag in {flag.name, flag.short} or error.flag[:1] == flag.short != "" for flag in HERE.flags):
            return None
        raise
