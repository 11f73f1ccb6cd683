"""`delete`: remove a stopped container and everything that `create` made."""

from boxwright.cli.options import Command, Flag, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.settings import Globals

COMMAND = Command(
    "delete",
    "delete a stopped container",
    "ID",
    (Flag("force", "kill it first if it runs; no error if it does not exist", short="f"),),
    least=1,
    most=1,
)


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)

    from boxwright.runtime.delete import delete

    delete(settings.runtime(), options.arguments[0], force=options.switch("force"))
    return 0
