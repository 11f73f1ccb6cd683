"""`state`: the state of one container as JSON."""

from boxwright.cli.log import write_all
from boxwright.cli.options import Command, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.settings import Globals

COMMAND = Command("state", "print the state of a container as JSON", "ID", least=1, most=1)


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)

    from boxwright.runtime.state import state
    from boxwright.spec.jsontext import encode_json

    found = state(settings.runtime(), options.arguments[0])
    write_all(1, encode_json(found, indent=2) + "\n")
    return 0
