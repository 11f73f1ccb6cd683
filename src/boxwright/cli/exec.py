"""`exec`: a further process in a running container."""

from boxwright.cli.flags import CONSOLE_SOCKET, DETACH, PID_FILE, PIDFD_SOCKET, PRESERVE_FDS
from boxwright.cli.options import LIST, TEXT, Command, Flag, parse
from boxwright.cli.users import parse_id, parse_user
from boxwright.errors import BoxwrightError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.options import Options
    from boxwright.cli.settings import Globals
    from boxwright.runtime.context import Runtime
    from boxwright.spec.types import Capabilities, Process, User

COMMAND = Command(
    "exec",
    "run a further process in a container",
    "ID COMMAND [ARGUMENT…]",
    (
        Flag("process", "read the process from this file, in the form of config.json's", TEXT, short="p", value="FILE"),
        DETACH,
        PID_FILE,
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        Flag("tty", "give it a terminal", short="t"),
        Flag("user", "its user and group, as numbers", TEXT, short="u", value="UID[:GID]"),
        Flag("additional-gids", "a further group, as a number", LIST, short="g", value="GID"),
        Flag("cwd", "its working directory, in the container", TEXT, value="DIR"),
        Flag("env", "set a variable of its environment", LIST, short="e", value="NAME=VALUE"),
        Flag("cap", "give it a capability", LIST, short="c", value="CAPABILITY"),
        Flag("no-new-privs", "it can gain no privileges by execve(2)"),
        Flag("apparmor", "its AppArmor profile", TEXT, value="PROFILE"),
        Flag("process-label", "its SELinux label", TEXT, value="LABEL"),
        PRESERVE_FDS,
        Flag("ignore-paused", "do not refuse a paused container"),
        Flag("cgroup", "put it into this cgroup below the container's", LIST, value="[CONTROLLER:]PATH"),
    ),
    least=1,
    most=None,
    in_order=True,
    notes="What is not given is as in the container's own process. The status is that of the program, 128 plus the "
    "signal that ended it, or 255 where it could not be run.",
)
NOT_RUN = 255  # as runc has it: 1 may be the program's own


def run(args: list[str], settings: "Globals") -> int:
    try:
        options = parse(COMMAND, args)
        return _execute(options, settings.runtime())
    except BoxwrightError as error:
        error.exit_code = NOT_RUN
        raise


def _execute(options: "Options", runtime: "Runtime") -> int:
    from boxwright.runtime.exec import default_process, exec_process
    from boxwright.runtime.options import ExecOptions

    container_id, *words = options.arguments
    if words and words[0] == "--":
        words = words[1:]
    if options.given("process"):
        if words:
            raise UsageError("`--process` names what to run already", hint=f"leave out `{' '.join(words)}`")
        process = adjusted(read_process(options.text("process")), options)
    else:
        if not words:
            raise UsageError("`boxwright exec` needs a command", hint="or `--process FILE`")
        base = default_process(runtime, container_id)
        process = adjusted(base.replace(args=tuple(words), terminal=False, command_line=None), options)
    return exec_process(
        runtime,
        container_id,
        ExecOptions(
            process=process,
            detach=options.switch("detach"),
            console_socket=options.path("console-socket"),
            pid_file=options.path("pid-file"),
            pidfd_socket=options.path("pidfd-socket"),
            preserve_fds=options.count("preserve-fds"),
            ignore_paused=options.switch("ignore-paused"),
            cgroup=options.every("cgroup"),
        ),
    )


def read_process(path: str) -> "Process":
    """The process object in a file. Raises UsageError where it cannot be read, ConfigError where it is wrong."""
    from boxwright.spec.decode import decode_process

    try:
        with open(path, "rb") as file:
            return decode_process(file.read(), source=path)
    except OSError as error:
        raise UsageError(f"cannot read the process file `{path}`: {error.strerror}") from None


def adjusted(process: "Process", options: "Options") -> "Process":
    """The process with what the flags say about it. Raises UsageError."""
    changes: dict[str, object] = {}
    if options.given("tty"):
        changes["terminal"] = options.switch("tty")
    if options.given("no-new-privs"):
        changes["no_new_privileges"] = options.switch("no-new-privs")
    for flag, field in (("cwd", "cwd"), ("apparmor", "apparmor_profile"), ("process-label", "selinux_label")):
        if options.text(flag):
            changes[field] = options.text(flag)
    if options.given("env"):
        changes["env"] = (*process.env, *map(_variable, options.every("env")))
    if options.given("user") or options.given("additional-gids"):
        changes["user"] = _user(process.user, options)
    if options.given("cap"):
        changes["capabilities"] = with_capabilities(process.capabilities, options)
    return process.replace(**changes) if changes else process


def _user(user: "User", options: "Options") -> "User":
    changes: dict[str, object] = {}
    if options.given("user"):
        uid, gid = parse_user(options.text("user"))
        changes["uid"] = uid
        if gid is not None:
            changes["gid"] = gid
    further = tuple(parse_id(word) for word in options.every("additional-gids"))
    return user.replace(additional_gids=(*user.additional_gids, *further), **changes)


def with_capabilities(present: "Capabilities | None", options: "Options") -> "Capabilities":
    """The sets with those of `--cap` added.

    Never the inheritable set, nor the ambient one that needs it: programs which gain nothing by execve(2) would
    hand them on (CVE-2022-29162).
    """
    from boxwright.spec.types import Capabilities

    before = present or Capabilities()
    added = [_capability(word) for word in options.every("cap")]
    sets = {}
    for field in ("bounding", "effective", "permitted"):
        old = getattr(before, field) or ()
        sets[field] = (*old, *(name for name in added if name not in old))
    return before.replace(**sets)


def _capability(word: str) -> str:
    name = word.upper()
    return name if name.startswith("CAP_") else f"CAP_{name}"


def _variable(word: str) -> str:
    name, equals, _value = word.partition("=")
    if not (name and equals):
        raise UsageError(f"`{word}` is not `NAME=VALUE`")
    return word
