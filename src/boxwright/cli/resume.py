"""`resume`: let the processes of a paused container go on."""

from boxwright.cli.options import Command, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.settings import Globals

COMMAND = Command("resume", "let the processes of a paused container go on", "ID", least=1, most=1)


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)

    from boxwright.runtime.pause import resume

    resume(settings.runtime(), options.arguments[0])
    return 0
