"""Parse a command's flags from a table: what Go's flag package accepts, and short flags run together.

A long flag is `--name value`, `--name=value` or with one dash; `-it` is `-i -t`, and `-u1000` is `-u 1000`. A switch
takes a value only behind `=`. Flags may stand behind arguments unless the command is `in_order`; `--` ends them.
The same tables make the help and the reference.
"""

import os

from boxwright._record import Record
from boxwright.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SWITCH = "switch"
TEXT = "text"
NUMBER = "number"
LIST = "list"

_TRUE = ("1", "t", "T", "true", "True", "TRUE")
_FALSE = ("0", "f", "F", "false", "False", "FALSE")


class Flag(Record):
    """One flag. `kind` is SWITCH, TEXT, NUMBER or LIST (which may be given many times)."""

    name: str
    help: str
    kind: str = SWITCH
    short: str = ""
    value: str = "VALUE"
    default: str = ""


class Command(Record):
    """One command: `usage` names its arguments, `least` and `most` count them (`most` None: any number)."""

    name: str
    summary: str
    usage: str = ""
    flags: tuple[Flag, ...] = ()
    least: int = 0
    most: int | None = 0
    in_order: bool = False
    notes: str = ""


class HelpRequested(Exception):  # noqa: N818 - no error: somebody wants to read
    """`--help` stands among the flags."""

    def __init__(self, command: Command) -> None:
        super().__init__(command.name)
        self.command = command


class UnknownFlagError(UsageError):
    """A flag which the command does not have; `flag` is its name without dashes."""

    def __init__(self, command: Command, word: str, flag: str) -> None:
        from boxwright.cli.suggest import did_you_mean

        self.flag = flag
        known = [f"--{each.name}" for each in command.flags]
        hint = did_you_mean(f"--{flag}", known) or f"see `{full_name(command)} --help`"
        super().__init__(f"`{full_name(command)}` has no flag `{word.partition('=')[0]}`", hint=hint)


class Options:
    """What was given: typed access to flags, and the arguments in order."""

    __slots__ = ("_command", "_given", "arguments", "dashed")

    def __init__(self, command: Command) -> None:
        self._command = command
        self._given: dict[str, list[str]] = {}
        self.arguments: list[str] = []
        self.dashed = False  # whether `--` ended the flags

    def add(self, flag: Flag, value: str) -> None:
        """Record one use of a flag. Raises UsageError where the value is not of its kind."""
        if flag.kind == SWITCH:
            value = _switch(flag, value)
        elif flag.kind == NUMBER:
            check_number(flag.name, value)
        self._given.setdefault(flag.name, []).append(value)

    def given(self, name: str) -> bool:
        """Whether the flag was used at all."""
        return name in self._given

    def switch(self, name: str) -> bool:
        """The last word on a switch; off unless given."""
        return self.text(name) == "true"

    def text(self, name: str, default: str = "") -> str:
        """The last value of a flag."""
        values = self._given.get(name)
        return values[-1] if values else default

    def path(self, name: str) -> str:
        """The value as an absolute path; empty where it is empty or missing."""
        found = self.text(name)
        return os.path.abspath(found) if found else ""

    def number(self, name: str, default: int = 0) -> int:
        """The last value of a numeric flag."""
        return int(self.text(name, str(default)))

    def optional_number(self, name: str) -> int | None:
        """The last value of a numeric flag, or None where it was not given."""
        return int(self.text(name)) if name in self._given else None

    def count(self, name: str) -> int:
        """The value of a numeric flag that counts something: not below zero. Raises UsageError."""
        number = self.number(name)
        if number < 0:
            raise UsageError(f"`--{name}` cannot be negative: `{number}`")
        return number

    def every(self, name: str) -> tuple[str, ...]:
        """All values of a flag, in order."""
        return tuple(self._given.get(name, ()))

    def choice(self, name: str, choices: "Sequence[str]", default: str) -> str:
        """The value of a flag with few possible ones. Raises UsageError."""
        found = self.text(name, default)
        if found not in choices:
            listed = ", ".join(f"`{choice}`" for choice in choices)
            raise UsageError(f"`--{name}` cannot be `{found}`", hint=f"it is one of {listed}")
        return found


def parse(command: Command, args: "Sequence[str]") -> Options:
    """Sort `args` into flags and arguments. Raises UsageError, or HelpRequested for `--help`."""
    options = scan(command, args)
    count = len(options.arguments)
    if count < command.least or (command.most is not None and count > command.most):
        takes = f"takes `{command.usage}`" if command.usage else "takes no arguments"
        got = "none given" if count == 0 else f"given {count}: `{' '.join(options.arguments)}`"
        raise UsageError(f"`{full_name(command)}` {takes}, {got}", hint=f"see `{full_name(command)} --help`")
    return options


def scan(command: Command, args: "Sequence[str]") -> Options:
    """As `parse`, without counting the arguments."""
    flags = {flag.name: flag for flag in command.flags}
    flags.update({flag.short: flag for flag in command.flags if flag.short})
    options = Options(command)
    waiting = list(reversed(args))
    while waiting:
        word = waiting.pop()
        if word == "--":
            options.dashed = True
            options.arguments.extend(reversed(waiting))
            break
        if len(word) > 1 and word[0] == "-":
            _take(command, flags, options, word, waiting)
            continue
        options.arguments.append(word)
        if command.in_order:
            options.arguments.extend(reversed(waiting))
            break
    return options


def _take(command: Command, flags: dict[str, Flag], options: Options, word: str, waiting: list[str]) -> None:
    """Record the flag or the flags in `word`; a value may be the next of `waiting`."""
    name, equals, value = word[2 if word.startswith("--") else 1 :].partition("=")
    flag = flags.get(name)
    if flag is not None:
        options.add(flag, value if equals else _implied(flag, waiting))
    elif name in {"help", "h"}:
        raise HelpRequested(command)
    elif word.startswith("--") or name[:1] not in flags:
        raise UnknownFlagError(command, word, name)
    else:
        _take_cluster(command, flags, options, word, waiting)


def _take_cluster(command: Command, flags: dict[str, Flag], options: Options, word: str, waiting: list[str]) -> None:
    """Short flags run together; the first that wants a value gets the rest."""
    letters = word[1:]
    for at, letter in enumerate(letters, 1):
        flag = flags.get(letter)
        if flag is None:
            raise UnknownFlagError(command, word, letters)
        if flag.kind != SWITCH:
            rest = letters[at:].removeprefix("=")
            options.add(flag, rest or _implied(flag, waiting))
            return
        options.add(flag, "true")


def _implied(flag: Flag, waiting: list[str]) -> str:
    if flag.kind == SWITCH:
        return "true"
    if not waiting:
        raise UsageError(f"`--{flag.name}` needs a value")
    return waiting.pop()


def _switch(flag: Flag, value: str) -> str:
    if value in _TRUE:
        return "true"
    if value in _FALSE:
        return "false"
    raise UsageError(f"`--{flag.name}` is on or off: `{value}` is neither `true` nor `false`")


def check_number(name: str, value: str) -> None:
    """Raise UsageError unless `value` is a decimal number in ASCII, with a sign or without."""
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise UsageError(f"`--{name}` needs a number: `{value}` is none")


def full_name(command: Command) -> str:
    """The command as one types it."""
    return f"boxwright {command.name}" if command.name else "boxwright"
