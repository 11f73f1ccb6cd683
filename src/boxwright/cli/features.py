"""`features`: what this runtime knows, as the standard's features document."""

from boxwright.cli.log import write_all
from boxwright.cli.options import Command, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.settings import Globals


COMMAND = Command("features", "print what the runtime supports, as JSON")


def run(args: list[str], _settings: "Globals") -> int:
    parse(COMMAND, args)

    from boxwright import __version__
    from boxwright.boxes.annotations import unsafe_keys
    from boxwright.spec.features import features
    from boxwright.spec.jsontext import encode_json

    document = features(annotations={"org.boxwright.version": __version__}, unsafe_annotations=unsafe_keys())
    write_all(1, encode_json(document, indent=2) + "\n")
    return 0
