"""`explain`: what would happen, before it happens."""

import os

from boxwright.cli.log import write_all
from boxwright.cli.options import TEXT, Command, Flag, parse
from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.options import Options
    from boxwright.cli.settings import Globals
    from boxwright.plan.explain import Explanation

COMMAND = Command(
    "explain",
    "show what a bundle or a command would do, and what its box is made of",
    "[BUNDLE] | [RUN-FLAG…] -- COMMAND [ARGUMENT…]",
    (
        Flag("json", "print it as JSON"),
        Flag("html", "print it as one page of HTML with a picture of the box"),
        Flag("config", "read this file in place of the bundle's config.json", TEXT, short="f", value="FILE"),
    ),
    least=0,
    most=1,
    notes="Nothing is made or changed. The steps are those for this host and this user. Before `--` stand the flags "
    "that `boxwright run -- COMMAND` takes.",
)
_OWN = ("--json", "-json", "--html", "-html", "--help", "-help", "-h")


def run(args: list[str], settings: "Globals") -> int:
    if "--" in args:
        own, words = _split(args)
        options, explanation = parse(COMMAND, own), _box(words, settings)
    else:
        options = parse(COMMAND, args)
        explanation = _bundle(options, settings)
    if options.switch("json"):
        from boxwright.plan.explain import to_json
        from boxwright.spec.jsontext import encode_json

        text = encode_json(to_json(explanation), indent=2) + "\n"
    elif options.switch("html"):
        from boxwright.plan.explain_html import page

        text = page(explanation)
    else:
        from boxwright.plan.explain_text import render

        text = render(explanation, color=os.isatty(1) and not os.environ.get("NO_COLOR"))
    write_all(1, text)
    return 0


def _bundle(options: "Options", settings: "Globals") -> "Explanation":
    from boxwright.api.explaining import explain_bundle

    bundle = os.path.abspath(options.arguments[0] if options.arguments else ".")
    document = _read(options.path("config") or os.path.join(bundle, "config.json"))
    return explain_bundle(document, bundle, settings.runtime())


def _box(words: list[str], settings: "Globals") -> "Explanation":
    from boxwright.api.explaining import explain_box
    from boxwright.cli.run_here import box_options

    return explain_box(box_options(words), settings.runtime())


def _split(args: list[str]) -> tuple[list[str], list[str]]:
    """Our own switches, and what `run` is to be given."""
    behind = args.index("--")
    own = [word for word in args[:behind] if word in _OWN]
    return own, [word for word in args[:behind] if word not in _OWN] + args[behind:]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise HostError(f"read `{path}`", error.errno or 0, path=path) from None
