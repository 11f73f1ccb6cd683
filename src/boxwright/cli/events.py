"""`events`: statistics and out-of-memory notices of a container, as lines of JSON."""

from boxwright.cli.log import write_all
from boxwright.cli.options import TEXT, Command, Flag, parse
from boxwright.cli.quantities import parse_duration_s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.settings import Globals

COMMAND = Command(
    "events",
    "print what happens in a container, and its statistics",
    "ID",
    (
        Flag("stats", "print the statistics once and end"),
        Flag("interval", "the time between statistics", TEXT, value="DURATION", default="5s"),
    ),
    least=1,
    most=1,
    notes="Every line is a JSON object with `type` (`stats` or `oom`), `id` and, for statistics, `data`.",
)


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)
    interval_s = parse_duration_s(options.text("interval", "5s"))

    from boxwright.runtime.events import follow, stats
    from boxwright.spec.jsontext import encode_json

    runtime, container_id = settings.runtime(), options.arguments[0]
    if options.switch("stats"):
        once = {"type": "stats", "id": container_id, "data": stats(runtime, container_id)}
        write_all(1, encode_json(once) + "\n")
        return 0
    for event in follow(runtime, container_id, interval_s):
        write_all(1, encode_json(event) + "\n")
    return 0
