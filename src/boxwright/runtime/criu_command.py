"""The command lines of CRIU (criu(8)) for what `checkpoint` and `restore` are told."""

from boxwright.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.cgroup_layout import CgroupPlacement
    from boxwright.plan.criu import Outside
    from boxwright.runtime.checkpoint_options import CheckpointOptions, CriuOptions, RestoreOptions

DUMP_LOG, RESTORE_LOG = "dump.log", "restore.log"
NETWORK_NAME = "boxwright-network"
_EMPTIED = {"network": "net"}


def dump_command(options: "CheckpointOptions", pid: int, outside: "Outside", freezer: str) -> tuple[str, ...]:
    """The command that dumps the process tree of `pid`; `freezer` is the group that holds it, or "".

    Raises UsageError for a page server that is no address and port.
    """
    criu = options.criu
    words = [criu.program, "pre-dump" if options.pre_dump else "dump", "--tree", str(pid)]
    words += _common(criu, DUMP_LOG)
    words += [f"--manage-cgroups={criu.manage_cgroups_mode}"]
    if freezer:
        words += ["--freeze-cgroup", freezer]
    switches = (
        (options.leave_running and not options.pre_dump, "--leave-running"),
        (options.tcp_skip_in_flight, "--skip-in-flight"),
        (options.link_remap, "--link-remap"),
        (options.pre_dump or options.parent_path, "--track-mem"),
    )
    words += [word for wanted, word in switches if wanted]
    if options.parent_path:
        words += ["--prev-images-dir", options.parent_path]
    if options.page_server:
        words += _page_server(options.page_server)
    if options.status_fd >= 0:
        words += ["--status-fd", str(options.status_fd)]
    return (*words, *_dump_outside(outside))


def _page_server(where: str) -> list[str]:
    address, colon, port = where.rpartition(":")
    if not colon or not address or not port.isdigit():
        raise UsageError(f"`{where}` is no page server", hint="it is ADDRESS:PORT")
    return ["--page-server", "--address", address.strip("[]"), "--port", port]


def _dump_outside(outside: "Outside") -> list[str]:
    words = [f"mnt[{place}]:{place}" for place in outside.mounts]
    # CRIU knows by itself of pipes and sockets that lead outside
    words += [name for name in outside.descriptors if name.startswith("file[")]
    if outside.network:
        words.append(f"net[{outside.network}]:{NETWORK_NAME}")
    return [word for value in words for word in ("--external", value)]


def restore_command(
    options: "RestoreOptions",
    outside: "Outside",
    sources: "dict[str, str]",
    placement: "CgroupPlacement",
    *,
    root: str,
    pid_file: str,
    network_fd: int = -1,
) -> tuple[str, ...]:
    """The command that restores a process tree as a child of whoever runs it, on `root`, which is a mount point.

    `sources` are the host's paths for the mounts from outside; `network_fd` is the namespace to join.
    """
    criu = options.criu
    words = [criu.program, "restore", "--restore-detached", "--restore-sibling", "--pidfile", pid_file, "--root", root]
    words += _common(criu, RESTORE_LOG)
    words += [f"--manage-cgroups={criu.manage_cgroups_mode}", *_cgroup_roots(placement)]
    if options.tcp_close:
        words.append("--tcp-close")
    for name, value in (("--lsm-profile", options.lsm_profile), ("--lsm-mount-context", options.lsm_mount_context)):
        if value:
            words += [name, value]
    for place, source in sources.items():
        words += ["--external", f"mnt[{place}]:{source}"]
    for number, name in enumerate(outside.descriptors):
        if name:
            words += ["--inherit-fd", f"fd[{number}]:{name}"]
    if outside.network:
        words += ["--inherit-fd", f"fd[{network_fd}]:{NETWORK_NAME}"]
    return tuple(words)


def _common(criu: "CriuOptions", log: str) -> list[str]:
    words = ["--images-dir", criu.image_path]
    if criu.work_path:
        words += ["--work-dir", criu.work_path]
    words += ["--log-file", log, "-v4"]
    switches = (
        (criu.tcp_established, "--tcp-established"),
        (criu.ext_unix_sk, "--ext-unix-sk"),
        (criu.shell_job, "--shell-job"),
        (criu.file_locks, "--file-locks"),
        (criu.lazy_pages, "--lazy-pages"),
        (criu.auto_dedup, "--auto-dedup"),
    )
    words += [word for wanted, word in switches if wanted]
    return words + [word for name in criu.empty_ns for word in ("--empty-ns", _EMPTIED.get(name, name))]


def _cgroup_roots(placement: "CgroupPlacement") -> list[str]:
    """The container's groups by controller; that of the v2 tree is the one for all others."""
    words = []
    for group in placement.groups:
        path = group.path[len(group.mountpoint) :]
        names = group.controllers if group.version == 1 else ("",)
        words += [f"{name}:{path}" if name else path for name in names]
    return [word for value in words for word in ("--cgroup-root", value)]
