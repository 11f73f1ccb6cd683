"""`validate`: every problem of a configuration at once, each with its place in the file."""

import os
import sys

from boxwright._record import Record
from boxwright.cli.log import write_all
from boxwright.cli.options import TEXT, Command, Flag, parse
from boxwright.errors import ConfigError, HostError, Problem, UnsupportedError
from boxwright.spec.decode import decode
from boxwright.spec.positions import nearest, positions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from boxwright.cli.settings import Globals
    from boxwright.spec.types import Config

PLATFORMS = ("linux", "vm", "windows", "solaris", "zos", "freebsd")
COMMAND = Command(
    "validate",
    "list everything that is wrong with a config.json",
    "[BUNDLE|FILE]",
    (
        Flag("json", "print an array of objects"),
        Flag(
            "platform",
            "whose rules hold: `linux`, `vm`, `windows`, `solaris`, `zos` or `freebsd`",
            TEXT,
            value="NAME",
            default="by the sections that the file has",
        ),
    ),
    least=0,
    most=1,
    notes="Leaves with status 1 if the standard forbids it. `-` reads the standard input.",
)


class Finding(Record):
    """A problem and where it stands; `severity` is `error`, or `warning` for what the standard lets pass."""

    severity: str
    line: int
    column: int
    problem: Problem


def run(args: list[str], _settings: "Globals") -> int:
    options = parse(COMMAND, args)
    platform = options.choice("platform", PLATFORMS, "linux") if options.given("platform") else ""
    path = _file(options.arguments[0] if options.arguments else ".")
    found = findings(_read(path), platform)
    if options.switch("json"):
        from boxwright.spec.jsontext import encode_json

        write_all(1, encode_json([_as_json(path, finding) for finding in found], indent=2) + "\n")
    else:
        write_all(1, report(path, found))
    return int(any(finding.severity == "error" for finding in found))


def _file(named: str) -> str:
    return os.path.join(named, "config.json") if os.path.isdir(named) else named


def _read(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise HostError(f"read `{path}`", error.errno or 0, path=path) from None


def findings(document: bytes, platform: str = "") -> list[Finding]:
    """Everything that is to be said of a document, in the order in which it stands there.

    `platform` is whose rules hold; empty goes by the sections of the document.
    """
    places = positions(document.decode("utf-8", "replace"))
    found = []
    for problem in problems(document, platform):
        line, column = nearest(places, problem.pointer)
        found.append(Finding("error" if problem.fatal else "warning", line, column, problem))
    return sorted(found, key=lambda finding: (finding.line, finding.column))


def problems(document: bytes, platform: str = "") -> list[Problem]:
    """The problems of syntax and types, or else those of every rule; and what is unknown or not honoured."""
    from boxwright.spec.unknown import unknown_properties
    from boxwright.spec.validate import validate

    try:
        config = decode(document)
    except ConfigError as error:
        found = list(error.problems)
        return [*found, *_unknown_in_spite(document)]
    rules = platform or platform_of(config)
    found = [*validate(config, platform=rules), *unknown_properties(document), *_not_honoured(config)]
    return [*found, *_unknown_calls(config)] if rules == "linux" else found


def _unknown_in_spite(document: bytes) -> list[Problem]:
    """Unknown properties of a document that breaks the rules of types; none where it is not even JSON."""
    from boxwright.spec.unknown import unknown_properties

    try:
        return unknown_properties(document)
    except ConfigError:
        return []


def platform_of(config: "Config") -> str:
    """The platform that the document is for: Linux, unless it has only the section of another."""
    if config.linux is None:
        for name in ("windows", "solaris", "zos", "freebsd"):
            if getattr(config, name) is not None:
                return name
    return "linux"


def _not_honoured(config: "Config") -> list[Problem]:
    from boxwright.boxes.require import require

    try:
        require(config)
    except UnsupportedError as error:
        pointer = "/" + error.property.replace(".", "/")
        return [Problem(pointer, f"is valid, but the `linux` box does not honour it: {error.why}", fatal=False)]
    return []


def _unknown_calls(config: "Config") -> list[Problem]:
    """System calls of the seccomp section that this host does not know; none where it cannot tell."""
    section = config.linux.seccomp if config.linux else None
    if section is None or not section.syscalls:
        return []
    from boxwright.host.seccomp import unknown_calls

    try:
        unknown = unknown_calls(section)
    except UnsupportedError:
        return []
    rule = "is no system call that is known here: the filter leaves it out"
    return [Problem(pointer, rule, section.anchor, value=name, fatal=False) for pointer, name in unknown]


def report(path: str, found: "Sequence[Finding]") -> str:
    """The findings as lines that editors follow: `config.json:12:5: error: …`."""
    lines = []
    for finding in found:
        lines.append(f"{path}:{finding.line}:{finding.column}: {finding.severity}: {finding.problem}")
        if finding.problem.hint:
            lines.append(f"  hint: {finding.problem.hint}")
    errors = sum(finding.severity == "error" for finding in found)
    lines.append(_summary(path, errors, len(found) - errors))
    return "\n".join(lines) + "\n"


def _summary(path: str, errors: int, warnings: int) -> str:
    if not errors and not warnings:
        return f"{path}: valid"
    counts = [
        f"{count} {word}{'s' * (count > 1)}" for count, word in ((errors, "error"), (warnings, "warning")) if count
    ]
    return f"{path}: {'not valid' if errors else 'valid'}, {' and '.join(counts)}"


def _as_json(path: str, finding: Finding) -> dict[str, object]:
    problem = finding.problem
    value = problem.value if isinstance(problem.value, (str, int, float)) else None
    return {
        "file": path,
        "line": finding.line,
        "column": finding.column,
        "severity": finding.severity,
        "pointer": problem.pointer,
        "rule": problem.rule,
        "section": problem.anchor,
        "value": value,
        "hint": problem.hint,
    }
