"""The configuration that `boxwright spec` writes: an interactive shell with little more than it needs."""

from boxwright.spec.constants import OCI_VERSION_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    JSON = dict[str, Any]

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# what tells of the host, or of other containers on it
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
# what changes the host
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def default_config(*, rootless: bool = False, uid: int = 0, gid: int = 0) -> "JSON":
    """The document, as plain dicts and lists.

    `rootless` is for callers without privileges: in a user namespace their `uid` and `gid` are root, the network is
    the host's, and nothing is limited.
    """
    return {
        "ociVersion": OCI_VERSION_MAX,
        "process": _process(),
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "boxwright",
        "mounts": _mounts(rootless),
        "linux": _linux_rootless(uid, gid) if rootless else _linux(),
    }


def _process() -> "JSON":
    return {
        "terminal": True,
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": [f"PATH={PATH}", "TERM=xterm"],
        "cwd": "/",
        # no inheritable ones: a program that is executed gains none by its file (CVE-2022-24769)
        "capabilities": {name: list(_CAPABILITIES) for name in ("bounding", "effective", "permitted")},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    }


def _mounts(rootless: bool) -> "list[JSON]":
    # without further ids mapped, devpts cannot give terminals to the group tty
    tty_group = [] if rootless else ["gid=5"]
    return [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *tty_group
        ),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _sysfs(rootless),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
    ]


def _sysfs(rootless: bool) -> "JSON":
    """Who does not own the network namespace cannot mount a sysfs; the host's is bound in its place."""
    if rootless:
        return _mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro", "rro")
    return _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")


def _mount(destination: str, kind: str, source: str, *options: str) -> "JSON":
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _linux() -> "JSON":
    return {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": _namespaces("pid", "network", "ipc", "uts", "mount", "cgroup"),
        **_hidden(),
    }


def _linux_rootless(uid: int, gid: int) -> "JSON":
    return {
        "uidMappings": [{"containerID": 0, "hostID": uid, "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": gid, "size": 1}],
        "namespaces": _namespaces("user", "pid", "ipc", "uts", "mount", "cgroup"),
        **_hidden(),
    }


def _namespaces(*kinds: str) -> "list[JSON]":
    return [{"type": kind} for kind in kinds]


def _hidden() -> "JSON":
    return {"maskedPaths": list(MASKED_PATHS), "readonlyPaths": list(READONLY_PATHS)}
