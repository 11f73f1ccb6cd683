"""Flags that `checkpoint` and `restore` share."""

import os

from boxwright.cli.options import LIST, TEXT, Flag
from boxwright.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.cli.options import Options
    from boxwright.cli.settings import Globals
    from boxwright.runtime.checkpoint_options import CriuOptions

_CGROUP_MODES = ("soft", "full", "strict", "ignore")
_EMPTIABLE = ("network",)

IMAGE_PATH = Flag(
    "image-path", "the directory of CRIU's images", TEXT, value="DIR", default="checkpoint, below the current one"
)
CRIU_FLAGS = (
    Flag("work-path", "the directory of CRIU's logs", TEXT, value="DIR", default="that of the images"),
    Flag("tcp-established", "allow TCP connections that are open"),
    Flag("ext-unix-sk", "allow Unix sockets with an end outside of the container"),
    Flag("shell-job", "allow a session that was begun outside of the container"),
    Flag("file-locks", "allow file locks"),
    Flag("lazy-pages", "hand over memory when it is first touched (userfaultfd)"),
    Flag("auto-dedup", "drop memory pages of earlier images that newer ones replace"),
    Flag(
        "manage-cgroups-mode",
        "how CRIU treats cgroups: `soft`, `full`, `strict` or `ignore`",
        TEXT,
        value="MODE",
        default="soft",
    ),
    Flag("empty-ns", "make this namespace, but leave it empty: `network`", LIST, value="NAMESPACE"),
)


def criu_options(options: "Options", settings: "Globals") -> "CriuOptions":
    """What both are told. Raises UsageError."""
    from boxwright.runtime.checkpoint_options import CriuOptions

    for namespace in options.every("empty-ns"):
        if namespace not in _EMPTIABLE:
            raise UsageError(f"`--empty-ns` cannot be `{namespace}`", hint="it is `network`")
    return CriuOptions(
        image_path=options.path("image-path") or os.path.abspath("checkpoint"),
        work_path=options.path("work-path"),
        program=settings.criu,
        tcp_established=options.switch("tcp-established"),
        ext_unix_sk=options.switch("ext-unix-sk"),
        shell_job=options.switch("shell-job"),
        file_locks=options.switch("file-locks"),
        lazy_pages=options.switch("lazy-pages"),
        auto_dedup=options.switch("auto-dedup"),
        manage_cgroups_mode=options.choice("manage-cgroups-mode", _CGROUP_MODES, "soft"),
        empty_ns=options.every("empty-ns"),
    )
