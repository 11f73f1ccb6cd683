"""`checkpoint`: dump a running container with CRIU."""

from boxwright.cli.checkpoint_flags import CRIU_FLAGS, IMAGE_PATH, criu_options
from boxwright.cli.options import NUMBER, TEXT, Command, Flag, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.settings import Globals

COMMAND = Command(
    "checkpoint",
    "dump a running container to files",
    "ID",
    (
        IMAGE_PATH,
        Flag("parent-path", "an earlier `--pre-dump`, relative to the images", TEXT, value="DIR"),
        Flag("leave-running", "let the container go on afterwards"),
        Flag("pre-dump", "dump memory alone, and let the container go on"),
        Flag("tcp-skip-in-flight", "leave out TCP connections that are being made"),
        Flag("link-remap", "allow open files that have been deleted"),
        Flag("status-fd", "CRIU writes a NUL to this descriptor when lazy pages can be asked for", NUMBER, value="FD"),
        Flag("page-server", "send memory to this page server", TEXT, value="ADDRESS:PORT"),
        *CRIU_FLAGS,
    ),
    least=1,
    most=1,
)


def run(args: list[str], settings: "Globals") -> int:
    options = parse(COMMAND, args)

    from boxwright.runtime.checkpoint import checkpoint
    from boxwright.runtime.checkpoint_options import CheckpointOptions

    checkpoint(
        settings.runtime(),
        options.arguments[0],
        CheckpointOptions(
            criu=criu_options(options, settings),
            parent_path=options.text("parent-path"),
            leave_running=options.switch("leave-running"),
            pre_dump=options.switch("pre-dump"),
            tcp_skip_in_flight=options.switch("tcp-skip-in-flight"),
            link_remap=options.switch("link-remap"),
            status_fd=options.number("status-fd", -1),
            page_server=options.text("page-server"),
        ),
    )
    return 0
