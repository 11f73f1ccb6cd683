"""What `checkpoint` and `restore` can be told; apart from `options`, which every operation loads."""

from boxwright._record import Record


class CriuOptions(Record):
    """What dumping and restoring share. `program` is CRIU's; paths are absolute, `work_path` may be empty."""

    image_path: str
    work_path: str = ""
    program: str = "criu"
    tcp_established: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    lazy_pages: bool = False
    auto_dedup: bool = False
    manage_cgroups_mode: str = "soft"
    empty_ns: tuple[str, ...] = ()


class CheckpointOptions(Record):
    """How to dump. The container ends with it unless `leave_running` or `pre_dump`.

    `parent_path` is where an earlier `pre_dump` went, relative to the image directory. `status_fd` is a descriptor
    that CRIU writes a NUL to once it can serve lazy pages, or -1; `page_server` is `ADDRESS:PORT` of who stores the
    pages in place of the image directory.
    """

    criu: CriuOptions
    parent_path: str = ""
    leave_running: bool = False
    pre_dump: bool = False
    tcp_skip_in_flight: bool = False
    link_remap: bool = False
    status_fd: int = -1
    page_server: str = ""


class RestoreOptions(Record):
    """How to restore: with the bundle, which is absolute, in the foreground unless `detach`."""

    criu: CriuOptions
    bundle: str
    console_socket: str = ""
    pid_file: str = ""
    detach: bool = False
    no_subreaper: bool = False
    no_pivot: bool = False
    tcp_close: bool = False
    lsm_profile: str = ""
    lsm_mount_context: str = ""
