"""From the arguments of the library to the options of a box: checked and made absolute here, once for both twins."""

import os

from boxwright.api.options import NETWORKS, Bind, BoxOptions
from boxwright.api.records import Limits
from boxwright.boxes.require import require_isolation
from boxwright.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from boxwright.api.driver import BoxDriver
    from boxwright.runtime.context import Runtime
    from boxwright.spec.types import Process, Resources

    StrPath = str | os.PathLike[str]
    Argv = Sequence[StrPath]
    User = int | tuple[int, int] | None

_DEFAULT_LIMITS = Limits()


def options_for(
    argv: "Argv | None",
    *,
    rootfs: "StrPath | None" = None,
    bundle: "StrPath | None" = None,
    isolation: str = "linux",
    limits: Limits | None = None,
    env: "Mapping[str, str] | None" = None,
    mounts: "Iterable[Bind]" = (),
    network: str = "none",
    publish: "Sequence[str]" = (),
    cwd: str | None = None,
    user: "User" = None,
    hostname: str = "",
    read_only: bool = False,
    overlay: bool = True,
    name: str | None = None,
    die_with_parent: bool = True,
) -> BoxOptions:
    """The options. Raises UsageError for what is no box, UnsupportedError for a kind of box that does not exist."""
    require_isolation(isolation)
    if argv is None and bundle is None:
        raise UsageError("a command is needed", hint="only a bundle has one of its own")
    if network not in NETWORKS:
        raise UsageError(f"`{network}` is no network", hint=f"one of {', '.join(NETWORKS)}")
    published(publish, isolation, network)
    limits = limits or _DEFAULT_LIMITS
    uid, gid = _ids(user)
    return BoxOptions(
        args=words(argv),
        rootfs=_directory("rootfs", rootfs),
        bundle=_directory("bundle", bundle),
        binds=tuple(_bind(bind) for bind in mounts),
        env=variables(env),
        cwd=cwd or "",
        uid=uid,
        gid=gid,
        hostname=hostname,
        memory_bytes=limits.memory_bytes,
        cpus=limits.cpus,
        pids=limits.pids,
        network=network,
        publish=tuple(publish),
        isolation=isolation,
        name=name or "",
        read_only=read_only,
        overlay=overlay,
        root_bytes=limits.root_bytes,
        file_bytes=limits.file_bytes,
        open_files=limits.open_files,
        bound=die_with_parent,
        show_cwd=False,
    )


def published(words_: "Sequence[str]", isolation: str, network: str) -> None:
    """Raise UsageError for a port that cannot be published, or of a box that has no such network."""
    if not words_:
        return
    from boxwright.boxes.vm.network import parse_published

    if isolation != "vm" or network != "host":
        hint = "a `linux` box with the network `host` has the host's ports themselves"
        raise UsageError("ports are published of a `vm` box with the network `host` only", hint=hint)
    for word in words_:
        try:
            parse_published(word)
        except ValueError as error:
            raise UsageError(str(error)) from None


def driver_for(options: BoxOptions, runtime: "Runtime | None", *, idle: bool) -> "BoxDriver":
    """The box of that kind, not yet begun; in the runtime given, or that of this user."""
    from boxwright.api.boxes import prepare
    from boxwright.api.linux import LinuxBox
    from boxwright.api.sweep import default_runtime, sweep

    runtime = runtime or default_runtime()
    sweep(runtime)
    creation = prepare(options, runtime)
    creation.idle = idle
    if creation.box == "vm":
        from boxwright.api.machine import MachineBox

        return MachineBox(creation)
    return LinuxBox(creation)


def words(argv: "Argv | None") -> tuple[str, ...]:
    """The command as texts. Raises UsageError for a single text, which is no list of words, and for none at all."""
    if argv is None:
        return ()
    if isinstance(argv, (str, bytes)):
        raise UsageError(f"the command `{argv!r}` is one text", hint="give a list: the program and its arguments")
    found = tuple(os.fspath(word) for word in argv)
    if not found:
        raise UsageError("the command is empty")
    return found


def variables(env: "Mapping[str, str] | None") -> tuple[str, ...]:
    """The environment as `NAME=VALUE`."""
    if not env:
        return ()
    for name in env:
        if not name or "=" in name:
            raise UsageError(f"`{name}` is no name of a variable")
    return tuple(f"{name}={value}" for name, value in env.items())


def _ids(user: "User") -> tuple[int | None, int | None]:
    if user is None:
        return None, None
    return (user, user) if isinstance(user, int) else user


def _directory(what: str, path: "StrPath | None") -> str:
    if path is None:
        return ""
    absolute = os.path.abspath(path)
    if not os.path.isdir(absolute):
        raise UsageError(f"the {what} `{absolute}` is no directory")
    return absolute


def _bind(bind: Bind) -> Bind:
    source = os.path.abspath(bind.source)
    if not os.path.lexists(source):
        raise UsageError(f"the mount's source `{source}` does not exist")
    if not bind.destination.startswith("/"):
        raise UsageError(f"the mount's destination `{bind.destination}` is not an absolute path")
    return bind.replace(source=source)


def process_for(
    base: "Process | None",
    argv: "Argv",
    *,
    env: "Mapping[str, str] | None",
    cwd: str | None,
    user: "User",
    terminal: bool,
) -> "Process":
    """A further process: what is not said is as in `base`, the box's own. Raises UsageError where a box has none."""
    if base is None:
        raise UsageError("the bundle says nothing of a process", hint="put a `process` into its config.json")
    given = variables(env)
    named = {variable.partition("=")[0] for variable in given}
    kept = tuple(variable for variable in base.env if variable.partition("=")[0] not in named)
    changes: dict[str, object] = {"args": words(argv), "env": (*kept, *given), "terminal": terminal}
    if cwd is not None:
        changes["cwd"] = cwd
    uid, gid = _ids(user)
    if uid is not None:
        changes["user"] = base.user.replace(uid=uid, gid=gid, additional_gids=())
    return base.replace(command_line=None, **changes)


def resources_for(limits: Limits) -> "Resources":
    """The limits that can be changed while a box runs, as the standard's resources; None is no limit."""
    from boxwright.spec.types import CPU, Memory, Pids, Resources

    memory = -1 if limits.memory_bytes is None else limits.memory_bytes
    quota = -1 if limits.cpus is None else int(limits.cpus * 100_000)
    return Resources(
        memory=Memory(limit=memory, swap=memory),
        cpu=CPU(quota=quota, period=100_000),
        pids=Pids(limit=-1 if limits.pids is None else limits.pids),
    )
