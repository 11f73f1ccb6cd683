"""`run [FLAG…] -- COMMAND…`: run a command in a box, without a bundle."""

import os

from boxwright.api.options import DEFAULT_PIDS, ISOLATIONS, NETWORKS, Bind, BoxOptions
from boxwright.cli.options import LIST, NUMBER, TEXT, Command, Flag, scan
from boxwright.cli.quantities import parse_duration_s, parse_size
from boxwright.cli.users import parse_user
from boxwright.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.options import Options
    from boxwright.cli.settings import Globals

COMMAND = Command(
    "run",
    "run a command in a box and wait for it",
    "-- COMMAND [ARGUMENT…]",
    (
        Flag("isolation", "the kind of box: `linux`, `vm` or `sandbox`", TEXT, value="BOX", default="linux"),
        Flag("rootfs", "its root filesystem", TEXT, value="DIR", default="the host's, under an overlay"),
        Flag("bundle", "take root and configuration from this bundle", TEXT, short="b", value="DIR"),
        Flag("bind", "show a path of the host in the box, read-only unless `:rw`", LIST, value="SRC[:DST[:rw]]"),
        Flag("rw", "let the box write to this path of the host", LIST, value="PATH"),
        Flag("read-only", "let nothing be written in the root filesystem"),
        Flag("no-overlay", "write to the root filesystem itself, not to an overlay that goes with the box"),
        Flag("env", "set a variable; without `=`, pass the caller's on", LIST, short="e", value="NAME[=VALUE]"),
        Flag("cwd", "the working directory in the box", TEXT, value="DIR"),
        Flag("user", "user and group, as numbers", TEXT, short="u", value="UID[:GID]"),
        Flag("hostname", "the host name in the box", TEXT, value="NAME"),
        Flag("memory", "the greatest amount of memory", TEXT, short="m", value="SIZE"),
        Flag("cpus", "how many CPUs' time it can take, such as 1.5", TEXT, value="NUMBER"),
        Flag(
            "pids",
            "the greatest number of tasks; -1: no limit",
            NUMBER,
            value="N",
            default=f"{DEFAULT_PIDS}, or what the bundle says",
        ),
        Flag("timeout", "kill the box after this time; the status is then 124", TEXT, value="DURATION"),
        Flag("network", "`none` or `host`", TEXT, value="NETWORK", default="none"),
        Flag(
            "publish",
            "lead a port of the host to one of a `vm` box with `--network host`; on 127.0.0.1 unless an address says "
            "otherwise",
            LIST,
            short="p",
            value="[ADDR:]HOSTPORT:PORT[/udp]",
        ),
        Flag("tty", "give it a terminal", short="t"),
        Flag(
            "interactive", "let it read the standard input; `--interactive=false`: nothing", short="i", default="true"
        ),
        Flag("init-system", "the command is an init system such as systemd"),
        Flag("name", "the container's id", TEXT, value="ID", default="made up"),
    ),
    most=None,
    in_order=True,
    notes="The `--` may be left out where one of these flags is used that `boxwright run ID` does not have. The "
    "status is that of the command, 128 plus the signal that ended it, or 1 where it could not be run.",
)


def run(args: list[str], settings: "Globals") -> int:
    options = box_options(args)

    from boxwright.api.boxes import run_in_box

    return run_in_box(options, settings.runtime())


def box_options(args: list[str]) -> BoxOptions:
    """The words as a box and its command. Raises UsageError, or HelpRequested."""
    options = scan(COMMAND, args)
    if not options.arguments and not options.given("bundle") and not options.switch("init-system"):
        raise UsageError("`boxwright run` needs a command behind `--`", hint="see `boxwright run --help`")
    uid, gid = parse_user(options.text("user")) if options.given("user") else (None, None)
    return BoxOptions(
        args=tuple(options.arguments),
        rootfs=_directory(options, "rootfs"),
        bundle=_directory(options, "bundle"),
        binds=(*map(_bind, options.every("bind")), *map(_writable, options.every("rw"))),
        env=_environment(options),
        cwd=options.text("cwd"),
        uid=uid,
        gid=gid,
        hostname=options.text("hostname"),
        memory_bytes=_memory(options),
        cpus=_cpus(options),
        pids=_pids(options),
        timeout_s=parse_duration_s(options.text("timeout")) if options.given("timeout") else None,
        network=options.choice("network", NETWORKS, "none"),
        publish=_publish(options),
        terminal=options.switch("tty"),
        interactive=options.text("interactive", "true") == "true",
        isolation=options.choice("isolation", ISOLATIONS, "linux"),
        init_system=options.switch("init-system"),
        name=options.text("name"),
        read_only=options.switch("read-only"),
        overlay=not options.switch("no-overlay"),
    )


def _directory(options: "Options", name: str) -> str:
    path = options.path(name)
    if path and not os.path.isdir(path):
        raise UsageError(f"`--{name}` needs a directory: `{path}` is none")
    return path


def _bind(word: str) -> Bind:
    """`SRC`, `SRC:DST`, `SRC:rw` or `SRC:DST:rw`, with `ro` as well."""
    source, *rest = word.split(":")
    mode = rest.pop() if rest and rest[-1] in {"ro", "rw"} else "ro"
    if len(rest) > 1:
        raise UsageError(f"`--bind` takes `SRC[:DST[:rw]]`, not `{word}`")
    destination = rest[0] if rest else os.path.abspath(source)
    if not destination.startswith("/"):
        raise UsageError(f"the destination `{destination}` of `--bind` is not an absolute path")
    return Bind(source=_existing("bind", source), destination=destination, writable=mode == "rw")


def _publish(options: "Options") -> tuple[str, ...]:
    """The ports, as the library wants them."""
    words = tuple(options.every("publish"))
    if words:
        from boxwright.api.arguments import published

        published(words, options.text("isolation", "linux"), options.text("network", "none"))
    return words


def _writable(word: str) -> Bind:
    source = _existing("rw", word)
    return Bind(source=source, destination=source, writable=True)


def _existing(flag: str, path: str) -> str:
    if not path or not os.path.exists(path):
        raise UsageError(f"`--{flag}` needs a path of the host: `{path}` does not exist")
    return os.path.abspath(path)


def _environment(options: "Options") -> tuple[str, ...]:
    """What `--env` sets, and what it passes on of the caller's: a variable that is not set stays so."""
    found = []
    for word in options.every("env"):
        name, equals, _value = word.partition("=")
        if not name:
            raise UsageError(f"`{word}` is not `NAME=VALUE`")
        if equals:
            found.append(word)
        elif name in os.environ:
            found.append(f"{name}={os.environ[name]}")
    return tuple(found)


def _memory(options: "Options") -> int | None:
    size = parse_size(options.text("memory", "-1"))
    return None if size == -1 else size


def _pids(options: "Options") -> int | None:
    """A bundle's own limit holds unless another is asked for."""
    if not options.given("pids"):
        return None if options.given("bundle") else DEFAULT_PIDS
    return None if options.number("pids") == -1 else options.count("pids")


def _cpus(options: "Options") -> float | None:
    word = options.text("cpus")
    if not word:
        return None
    whole, _, fraction = word.partition(".")
    if not all(part.isascii() and part.isdigit() for part in (whole, fraction or "0")) or float(word) <= 0:
        raise UsageError(f"`--cpus` needs a number above zero, such as `1.5`: `{word}` is none")
    return float(word)
