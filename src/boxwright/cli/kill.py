"""`kill`: send a signal to a container."""

from boxwright.cli.options import Command, Flag, parse
from boxwright.cli.signals import signal_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.settings import Globals

COMMAND = Command(
    "kill",
    "send a signal to a container's first process",
    "ID [SIGNAL]",
    (Flag("all", "send it to every process of the container", short="a"),),
    least=1,
    most=2,
    notes="SIGNAL is a name or a number: `KILL`, `SIGKILL`, `9`, `RTMIN+3`. It is `TERM` unless given.",
)


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)
    container_id, *rest = options.arguments
    number = signal_number(rest[0] if rest else "TERM")

    from boxwright.runtime.kill import kill

    kill(settings.runtime(), container_id, number, every=options.switch("all"))
    return 0
