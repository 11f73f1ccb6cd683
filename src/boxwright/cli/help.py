"""Help, from the same tables that the flags are parsed by."""

from boxwright.cli.log import write_all
from boxwright.cli.main import VERBS, verb
from boxwright.cli.options import SWITCH, Command, Flag, full_name, parse
from boxwright.cli.settings import ROOT_COMMAND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.cli.settings import Globals

COMMAND = Command("help", "tell how to use a command", "[COMMAND]", least=0, most=1)
RUN = "run"  # the command with two forms
_COLUMN = 34
_WIDTH = 100


def run(args: list[str], _settings: "Globals") -> int:
    options = parse(COMMAND, args)
    return show(verb(options.arguments[0]).COMMAND if options.arguments else ROOT_COMMAND)


def show(command: Command) -> int:
    """Print the help of a command."""
    text = "\n".join(lines(command)) + "\n"
    if command.name == RUN:
        from boxwright.cli.run_here import COMMAND as HERE

        text += "\n" + "\n".join(lines(HERE)) + "\n" if command is not HERE else ""
    write_all(1, text)
    return 0


def lines(command: Command) -> "Iterator[str]":
    """The help of a command, line by line."""
    yield f"{full_name(command)}: {command.summary}"
    yield ""
    yield f"usage: {full_name(command)}{' [FLAG…]' if command.flags else ''} {command.usage}".rstrip()
    if command.notes:
        yield ""
        yield from _wrapped(command.notes, "")
    if command is ROOT_COMMAND:
        yield from _verbs()
    if command.flags:
        yield ""
        yield "flags:"
        for flag in command.flags:
            yield from _flag(flag)


def _verbs() -> "Iterator[str]":
    yield ""
    yield "commands:"
    for name in VERBS:
        yield f"  {name:<12} {verb(name).COMMAND.summary}"


def form(flag: Flag) -> str:
    """How a flag is written: `-b, --bundle DIR`."""
    short = f"-{flag.short}, " if flag.short else ""
    value = "" if flag.kind == SWITCH else f" {flag.value}"
    return f"{short}--{flag.name}{value}"


def _flag(flag: Flag) -> "Iterator[str]":
    head = "  " + (form(flag) if flag.short else f"    {form(flag)}")
    default = f" (default: {flag.default})" if flag.default else ""
    first, *rest = _wrapped(flag.help + default, " " * _COLUMN)
    if len(head) < _COLUMN - 1:
        yield head.ljust(_COLUMN) + first.lstrip()
    else:
        yield head
        yield first
    yield from rest


def _wrapped(text: str, indent: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)
