"""`create`: make a container up to the point where its program would start."""

import os

from boxwright.cli.flags import CREATE_FLAGS, bundle_of
from boxwright.cli.options import Command, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.settings import Globals

COMMAND = Command("create", "create a container; `start` runs its program", "ID", CREATE_FLAGS, least=1, most=1)


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)

    from boxwright.runtime.create import create
    from boxwright.runtime.options import CreateOptions

    create(
        settings.runtime(),
        options.arguments[0],
        CreateOptions(
            bundle=bundle_of(options),
            config_path=options.path("config"),
            console_socket=options.path("console-socket"),
            pid_file=options.path("pid-file"),
            pidfd_socket=options.path("pidfd-socket"),
            no_pivot=options.switch("no-pivot"),
            no_new_keyring=options.switch("no-new-keyring"),
            preserve_fds=options.count("preserve-fds"),
            notify_socket=os.environ.get("NOTIFY_SOCKET", ""),
        ),
    )
    return 0
