"""Writes docs/reference/cli.md from the tables that flags are parsed by: `python -m boxwright.cli.reference FILE`."""

import sys

from boxwright.cli.help import form
from boxwright.cli.main import VERBS, verb
from boxwright.cli.options import Command, Flag, full_name
from boxwright.cli.run_here import COMMAND as RUN_HERE
from boxwright.cli.settings import ROOT_COMMAND

_INTRODUCTION = """\
# The command line

<!-- written by `python -m boxwright.cli.reference`; change the tables under src/boxwright/cli instead -->

    boxwright [GLOBAL FLAG…] COMMAND [FLAG…] [ARGUMENT…]

A flag is written `--name value`, `--name=value`, or with a single dash; short flags can be run together. `--` ends
the flags. The words are those of runc and crun, so that engines can call `boxwright` in their place.

The status is 0, or 1 where the command failed, with `error: …` on the standard error. `run` and `exec` end with the
status of the program, or 128 plus the signal that ended it; `exec` ends with 255 where the program could not be run.
With `--log FILE` the failure is also the last entry of FILE.
"""


def reference() -> str:
    """The whole page."""
    commands = [verb(name).COMMAND for name in VERBS]
    at = [command.name for command in commands].index("run")
    sections = [*map(_section, commands[: at + 1]), _here(), *map(_section, commands[at + 1 :])]
    return "\n".join([_INTRODUCTION, "## Global flags\n", _flags(ROOT_COMMAND), *sections])


def _section(command: Command) -> str:
    return f"## `{command.name}`\n\n{_body(command)}"


def _here() -> str:
    return f"### `run` without a bundle\n\n{_body(RUN_HERE)}"


def _body(command: Command) -> str:
    usage = f"    {full_name(command)}{' [FLAG…]' if command.flags else ''} {command.usage}".rstrip()
    parts = [f"{command.summary[:1].upper()}{command.summary[1:]}.\n", f"{usage}\n"]
    if command.notes:
        parts.append(f"{command.notes}\n")
    if command.flags:
        parts.append(_flags(command))
    return "\n".join(parts)


def _flags(command: Command) -> str:
    return "\n".join(["| flag | what it does |", "|---|---|", *map(_row, command.flags), ""])


def _row(flag: Flag) -> str:
    default = f" (default: {flag.default})" if flag.default else ""
    return f"| `{_cell(form(flag))}` | {_cell(flag.help)}{default} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the page to the file that is named, or to the standard output."""
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            file.write(reference())
    else:
        sys.stdout.write(reference())


if __name__ == "__main__":
    main()
