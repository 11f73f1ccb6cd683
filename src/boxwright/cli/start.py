"""`start`: run the program of a created container."""

import os

from boxwright.cli.options import Command, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.settings import Globals

COMMAND = Command("start", "run the program of a created container", "ID", least=1, most=1)


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)

    from boxwright.runtime.start import start

    start(settings.runtime(), options.arguments[0], notify_socket=os.environ.get("NOTIFY_SOCKET", ""))
    return 0
