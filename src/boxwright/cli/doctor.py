"""`doctor`: what this host can do, and what is lost where it cannot."""

from boxwright.cli.log import write_all
from boxwright.cli.options import Command, Flag, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boxwright.cli.settings import Globals
    from boxwright.host.doctor import Check

COMMAND = Command(
    "doctor",
    "find out, by trying, what this host can do",
    "",
    (Flag("json", "print an object"), Flag("missing", "print only what is missing", short="m")),
    notes="Nothing is left behind. Leaves with status 1 if the linux box cannot run here.",
)
_MARKS = {"found": "✓", "partly": "~", "missing": "✗"}


def run(args: list[str], _settings: "Globals") -> int:
    options = parse(COMMAND, args)

    from boxwright.boxes.doctor import examine
    from boxwright.host.doctor import FOUND, can_run

    checks = examine()
    shown = [one for one in checks if one.state != FOUND] if options.switch("missing") else list(checks)
    if options.switch("json"):
        from boxwright.spec.jsontext import encode_json

        found = [{field: getattr(one, field) for field in one._fields} for one in shown]
        write_all(1, encode_json({"linuxBox": can_run(checks), "checks": found}, indent=2) + "\n")
    else:
        write_all(1, "\n".join(lines(shown, can_run(checks))) + "\n")
    return 0 if can_run(checks) else 1


def lines(checks: "Sequence[Check]", runs: bool) -> "Iterator[str]":
    """The checks by group, each with what is lost and what to do."""
    width = max((len(one.name) for one in checks), default=0)
    group = ""
    for one in checks:
        if one.group != group:
            group = one.group
            yield group
        yield f"  {_MARKS[one.state]} {one.name:<{width}}  {one.detail}".rstrip()
        if one.lost:
            yield f"      not honoured: {one.lost}"
        if one.remedy:
            yield f"      remedy: {one.remedy}"
    yield ""
    yield "the linux box runs here" if runs else "the linux box cannot run here"
