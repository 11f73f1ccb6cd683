"""`delete`: remove a stopped container and everything that `create` made."""

from boxwright.cli.options import Command, Flag, parse
from boxwright.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.options import Options
    from boxwright.cli.settings import Globals
    from boxwright.runtime.context import Runtime

COMMAND = Command(
    "delete",
    "delete a stopped container",
    "ID",
    (
        Flag("force", "kill it first if it runs; no error if it does not exist", short="f"),
        Flag("regex", "delete every container whose id the regular expression ID matches"),
    ),
    least=1,
    most=1,
)


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)

    from boxwright.runtime.delete import delete

    runtime, force = settings.runtime(), options.switch("force")
    for container_id in _chosen(runtime, options):
        delete(runtime, container_id, force=force)
    return 0


def _chosen(runtime: "Runtime", options: "Options") -> list[str]:
    name = options.arguments[0]
    if not options.switch("regex"):
        return [name]
    import re

    from boxwright.runtime.containers import Container

    try:
        pattern = re.compile(name)
    except re.error as error:
        raise UsageError(f"`{name}` is no regular expression: {error}") from None
    return [container.id for container in Container.every(runtime) if pattern.match(container.id)]
