"""The configuration that a container is made by: read, checked, and what the circumstances of the call add to it."""

import os

from boxwright.boxes.require import isolation_of, require
from boxwright.errors import ConfigError, HostError, Problem, UsageError
from boxwright.host.seccomp_cache import default_program, program_for
from boxwright.spec.decode import decode
from boxwright.spec.validate import refuse, validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from boxwright.runtime.context import Runtime
    from boxwright.runtime.options import CreateOptions
    from boxwright.spec.types import Config

_MOST_KNOWN = 64
_known: "dict[bytes, tuple[Config, tuple[str, ...]]]" = {}  # documents that were checked before


def read_document(options: "CreateOptions") -> bytes:
    """The text of the bundle's config.json. Raises HostError."""
    path = options.config_path or os.path.join(options.bundle, "config.json")
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        hint = "a bundle is a directory with a config.json; `boxwright spec` writes one" if error.errno == 2 else None
        raise HostError(f"read `{path}`", error.errno or 0, path=path, hint=hint) from None


def checked(runtime: "Runtime", document: bytes) -> "Config":
    """The configuration, if the box can honour it. Raises ConfigError and UnsupportedError; warns of the rest."""
    known = _known.get(document)
    if known is None:
        config = decode(document)
        warnings = tuple(str(problem) for problem in refuse(validate(config)))
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        known = _known[document] = (config, warnings)
    for warning in known[1]:
        runtime.warn(warning)
    require(known[0], isolation_of(known[0], runtime.isolation))
    return known[0]


def root_path(config: "Config", bundle: str) -> str:
    """The directory of the root file system. Raises ConfigError if there is none."""
    if config.root is None:
        raise ConfigError([Problem("/root", "is required on this platform", "config.md#configRoot")])
    path = os.path.realpath(os.path.join(bundle, config.root.path))
    if not os.path.isdir(path):
        rule = "must be an existing directory"
        raise ConfigError([Problem("/root/path", rule, "config.md#configRoot", value=config.root.path)])
    return path


def listen_fds() -> int:
    """How many descriptors from 3 on systemd handed us for the container (sd_listen_fds(3))."""
    count, owner = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_PID", "")
    if not count.isdigit() or (owner and owner != str(os.getpid())):
        return 0
    return int(count)


def with_listen_fds(config: "Config") -> "Config":
    """The configuration with the variables by which the program finds the descriptors."""
    count = listen_fds()
    if not count or config.process is None:
        return config
    env = (*config.process.env, f"LISTEN_FDS={count}", "LISTEN_PID=1")
    return config.replace(process=config.process.replace(env=env))


def require_holder(config: "Config", options: "CreateOptions") -> None:
    """Raise UsageError for a terminal whose master would be closed as soon as we are gone."""
    if config.process is not None and config.process.terminal and not options.console_socket:
        raise UsageError("nobody would hold the terminal of a detached container", hint="use --console-socket")


def hook_kinds(config: "Config") -> list[str]:
    """The kinds of hooks it has that are run after create, by those who need not know the configuration otherwise."""
    hooks = config.hooks
    return [kind for kind in ("poststart", "poststop") if hooks is not None and getattr(hooks, kind)]


def filter_program(
    runtime: "Runtime", config: "Config", default: "Sequence[str] | None", *, remark: bool = False
) -> bytes:
    """The BPF program of the configuration's seccomp section, or of the default profile; empty for no filter.

    With `remark` a warning says which system calls of the section are left out.
    """
    section = config.linux.seccomp if config.linux else None
    if section is not None:
        program, left_out = program_for(section, runtime.cache)
        if remark and left_out:
            runtime.warn(left_out)
        return program
    if default is not None:
        return default_program(tuple(default), runtime.cache)
    return b""
