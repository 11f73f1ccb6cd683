"""Which kernel parameters belong to a namespace, and where they stand below /proc/sys."""

_IPC = (
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
)


def dotted(name: str) -> str:
    """The name with dots between its parts.

    As sysctl(8) reads it: where the first separator is a slash, slashes separate and dots are of the parts.
    """
    slash, dot = name.find("/"), name.find(".")
    if slash != -1 and (dot == -1 or slash < dot):
        return name.translate({ord("/"): ".", ord("."): "/"})
    return name


def sysctl_path(name: str) -> str:
    """The path below /proc/sys: `net.ipv4.ip_forward` → `net/ipv4/ip_forward`."""
    return dotted(name).translate({ord("/"): ".", ord("."): "/"})


def is_clean(name: str) -> bool:
    """Whether the path has neither empty parts nor parts that lead upwards."""
    return all(part not in {"", ".", ".."} for part in sysctl_path(name).split("/"))


def namespace_of(name: str) -> str | None:
    """The type of the namespace that keeps the parameter; None for one of the whole machine."""
    found = dotted(name)
    if found.startswith("net."):
        return "network"
    if found in _IPC or found.startswith("fs.mqueue."):
        return "ipc"
    if found in {"kernel.domainname", "kernel.hostname"}:
        return "uts"
    if found.startswith("user."):
        return "user"
    return None
