"""`list`: the containers of this root."""

from boxwright.cli.flags import FORMAT
from boxwright.cli.log import write_all
from boxwright.cli.options import Command, Flag, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boxwright.cli.settings import Globals

COMMAND = Command(
    "list",
    "list the containers",
    "",
    (FORMAT, Flag("quiet", "print ids only", short="q")),
)
COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")
_NARROWEST = 9
_GAP = 3


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)
    form = options.choice("format", ("table", "json"), "table")

    from boxwright.runtime.state import list_states

    states = list_states(settings.runtime())
    if options.switch("quiet"):
        write_all(1, "".join(f"{state['id']}\n" for state in states))
    elif form == "json":
        from boxwright.spec.jsontext import encode_json

        write_all(1, encode_json(states) + "\n")
    else:
        write_all(1, table(states))
    return 0


def table(states: "Sequence[Mapping[str, object]]") -> str:
    """The states in columns, as wide as what stands in them."""
    rows = [[name.upper() for name in COLUMNS], *([str(state.get(name, "")) for name in COLUMNS] for state in states)]
    widths = [max(_NARROWEST, *(len(row[at]) for row in rows)) + _GAP for at in range(len(COLUMNS))]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )
