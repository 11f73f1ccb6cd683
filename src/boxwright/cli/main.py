"""The command: parse what stands before the verb, hand the rest to the verb's module, say how it went."""

import _signal
import os
import sys

from boxwright.cli.log import Log
from boxwright.cli.options import HelpRequested, scan
from boxwright.cli.settings import ROOT_COMMAND, globals_from
from boxwright.errors import BoxwrightError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn, Protocol

    from boxwright.cli.options import Command
    from boxwright.cli.settings import Globals

    class Verb(Protocol):
        """A module under `boxwright.cli` that is a command."""

        COMMAND: Command

        def run(self, args: list[str], settings: Globals, /) -> int: ...


# each is the module of its name
VERBS = (
    "create",
    "start",
    "state",
    "kill",
    "delete",
    "run",
    "exec",
    "list",
    "ps",
    "pause",
    "resume",
    "update",
    "events",
    "spec",
    "features",
    "checkpoint",
    "restore",
    "explain",
    "validate",
    "doctor",
    "help",
    "completion",
)
INTERRUPTED = 130
BROKEN_PIPE = 141  # what a shell sees of a program that SIGPIPE ended


class Invocation:
    """One command line. `log` is where to say what happens: the standard error until the flags are known."""

    def __init__(self, args: "Sequence[str]") -> None:
        self.args = args
        self.log = Log()
        self.debug = False

    def run(self) -> int:
        """Do it and return the status to leave with; failures are reported as the flags ask."""
        try:
            return self._dispatch()
        except HelpRequested as request:
            from boxwright.cli.help import show

            return show(request.command)
        except BoxwrightError as error:
            from boxwright.cli.failure import report

            return report(error, self.log)
        except KeyboardInterrupt:
            return INTERRUPTED

    def _dispatch(self) -> int:
        options = scan(ROOT_COMMAND, self.args)
        if options.switch("help") or not (options.arguments or options.switch("version")):
            raise HelpRequested(ROOT_COMMAND)
        if options.switch("version"):
            from boxwright.cli.version import show

            return show()
        settings = globals_from(options)
        self.log, self.debug = settings.log, settings.debug
        name, *rest = options.arguments
        return verb(name).run(rest, settings)

    def unexpected(self, _kind: type[BaseException], error: BaseException, _trace: object) -> None:
        """What the interpreter is to do with an exception that is a fault of ours."""
        from boxwright.cli.failure import internal

        internal(error, self.log, debug=self.debug)
        os._exit(1)


def main() -> "NoReturn":
    """Run the command in sys.argv and leave the process with its status."""
    _hold_standard_descriptors()
    # of who ignores it, as a caller may have left it to us, no child can be waited for (wait(2))
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    invocation = Invocation(sys.argv[1:])
    sys.excepthook = invocation.unexpected
    try:
        status = invocation.run()
        if sys.stdout is not None:  # it was closed before we started
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        status = BROKEN_PIPE
    os._exit(status)


def verb(name: str) -> "Verb":
    """The module of a command. Raises UsageError where there is none."""
    if name not in VERBS:
        from boxwright.cli.suggest import did_you_mean

        hint = did_you_mean(name, VERBS) or "see `boxwright --help`"
        raise UsageError(f"there is no command `{name}`", hint=hint)
    module: Verb = __import__(f"boxwright.cli.{name}", fromlist=["run"])
    return module


def _hold_standard_descriptors() -> None:
    """Put /dev/null where 0, 1 or 2 was closed: what is opened next must not get the messages meant for them."""
    fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    while fd < 3:
        os.set_inheritable(fd, True)
        fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.close(fd)


def _reader_is_gone() -> bool:
    """Whether it is our own standard output that nobody reads any more."""
    import select

    poll = select.poll()
    poll.register(1, 0)
    return any(events & select.POLLERR for _fd, events in poll.poll(0))
