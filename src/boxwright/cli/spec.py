"""`spec`: write a configuration to start from."""

import os

from boxwright.cli.flags import BUNDLE
from boxwright.cli.options import TEXT, Command, Flag, parse
from boxwright.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.settings import Globals

COMMAND = Command(
    "spec",
    "write a config.json to start from",
    "",
    (
        BUNDLE,
        Flag("file", "write to this file of the bundle", TEXT, short="f", value="FILE", default="config.json"),
        Flag("rootless", "for callers without privileges: in a user namespace of their own"),
    ),
    notes="A file that exists is left alone.",
)


def run(args: list[str], _settings: "Globals") -> int:
    options = parse(COMMAND, args)

    from boxwright.spec.default import default_config
    from boxwright.spec.jsontext import encode_json

    document = default_config(rootless=options.switch("rootless"), uid=os.geteuid(), gid=os.getegid())
    path = os.path.join(options.text("bundle") or ".", options.text("file") or "config.json")
    _write_new(path, encode_json(document, indent=4) + "\n")
    return 0


def _write_new(path: str, text: str) -> None:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"`{path}` exists", hint="remove it first, or name another bundle") from None
    except OSError as error:
        raise UsageError(f"cannot write `{path}`: {error.strerror}") from None
