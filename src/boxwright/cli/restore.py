"""`restore`: make a container of what `checkpoint` dumped."""

from boxwright.cli.checkpoint_flags import CRIU_FLAGS, IMAGE_PATH, criu_options
from boxwright.cli.flags import BUNDLE, CONSOLE_SOCKET, DETACH, NO_PIVOT, NO_SUBREAPER, PID_FILE, bundle_of
from boxwright.cli.options import TEXT, Command, Flag, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.settings import Globals

COMMAND = Command(
    "restore",
    "restore a container from a checkpoint",
    "ID",
    (
        BUNDLE,
        IMAGE_PATH,
        CONSOLE_SOCKET,
        PID_FILE,
        DETACH,
        NO_SUBREAPER,
        NO_PIVOT,
        Flag("tcp-close", "restore TCP connections closed"),
        Flag("lsm-profile", "restore with another LSM profile", TEXT, value="TYPE:NAME"),
        Flag("lsm-mount-context", "restore mounts with another LSM context", TEXT, value="CONTEXT"),
        *CRIU_FLAGS,
    ),
    least=1,
    most=1,
)


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)

    from boxwright.runtime.checkpoint import restore
    from boxwright.runtime.checkpoint_options import RestoreOptions

    return restore(
        settings.runtime(),
        options.arguments[0],
        RestoreOptions(
            criu=criu_options(options, settings),
            bundle=bundle_of(options),
            console_socket=options.path("console-socket"),
            pid_file=options.path("pid-file"),
            detach=options.switch("detach"),
            no_subreaper=options.switch("no-subreaper"),
            no_pivot=options.switch("no-pivot"),
            tcp_close=options.switch("tcp-close"),
            lsm_profile=options.text("lsm-profile"),
            lsm_mount_context=options.text("lsm-mount-context"),
        ),
    )
