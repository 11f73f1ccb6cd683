"""From what a person asks of a box to the configuration of a container, as a document.

It is a config.json like any other: it is decoded, validated and compiled as one, so an error of it names its line too.
"""

import os

from boxwright.boxes.require import ISOLATION_ANNOTATION, PUBLISH_ANNOTATION
from boxwright.errors import UsageError
from boxwright.host.subids import id_mappings, system_mappings
from boxwright.plan.mounts import INIT_SYSTEM_ANNOTATION
from boxwright.spec.constants import CAPABILITY_NAMES, OCI_VERSION_MAX
from boxwright.spec.default import MASKED_PATHS, PATH, READONLY_PATHS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from boxwright.api.options import BoxOptions

    JSON = dict[str, Any]

# root of a box over somebody's root filesystem: may manage the box's files and users, nothing of the host
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
# what an init system would only be told "no" for, in a user namespace: it has every other capability there
OF_THE_MACHINE = frozenset(
    {
        "CAP_BLOCK_SUSPEND",
        "CAP_BPF",
        "CAP_MAC_ADMIN",
        "CAP_MAC_OVERRIDE",
        "CAP_PERFMON",
        "CAP_SYSLOG",
        "CAP_SYS_MODULE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_TIME",
        "CAP_WAKE_ALARM",
    }
)
# what a box over the host's own root must not read of it
HOST_SECRETS = (
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/krb5.keytab",
    "/etc/NetworkManager/system-connections",
    "/etc/security/opasswd",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/ssh/ssh_host_ecdsa_key",
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/ssh/ssh_host_rsa_key",
    "/etc/ssl/private",
    "/var/spool/cron",
)
HOST_PRIVATE = ("/home", "/root")
# what says where names are looked up; and where systemd-resolved(8) tells of the servers that it asks itself
RESOLVER, RESOLVER_UPSTREAM = "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"


class Recipe:
    """The document for one box, and the directories its overlay shows."""

    def __init__(self, options: "BoxOptions", *, privileged: bool, groups: bool = True) -> None:
        """`groups` says whether control groups can be made here."""
        self._options = options
        self._privileged = privileged
        self._groups = groups
        self.over_host = not options.rootfs
        self.root = os.path.realpath(options.rootfs) if options.rootfs else "/"
        if options.rootfs and not os.path.isdir(self.root):
            raise UsageError(f"the root filesystem `{options.rootfs}` is no directory")

    def document(self) -> "JSON":
        """The configuration."""
        options = self._options
        return {
            "ociVersion": OCI_VERSION_MAX,
            "root": {"path": self.root, "readonly": options.read_only},
            "hostname": options.hostname or "box",
            "process": self._process(),
            "mounts": self._mounts(),
            "linux": self._linux(),
            "annotations": annotations(options),
        }

    def _process(self) -> "JSON":
        options = self._options
        capabilities = list(capabilities_of(options))
        return {
            "terminal": options.terminal,
            "user": {"uid": options.uid or 0, "gid": options.gid or 0},
            "args": list(options.args) or (["/sbin/init"] if options.init_system else []),
            "env": self._environment(),
            "cwd": self._cwd(),
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            # an init system starts services that change users by set-user-id programs
            "noNewPrivileges": not options.init_system,
            "rlimits": rlimits(options, groups=self._groups),
        }

    def _environment(self) -> list[str]:
        if self._options.init_system:
            return [f"PATH={PATH}", "container=boxwright", *self._options.env]
        base = [f"PATH={PATH}", "LANG=C.UTF-8", "HOME=/root" if not self._options.uid else "HOME=/"]
        if self._options.terminal and "TERM" in os.environ:
            base.append(f"TERM={os.environ['TERM']}")
        return [*base, *self._options.env]

    def _cwd(self) -> str:
        if self._options.cwd:
            return self._options.cwd
        return os.getcwd() if self.over_host and self._options.show_cwd else "/"

    def _mounts(self) -> "list[JSON]":
        mounts = [
            _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "noexec", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
            _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
            _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            self._sysfs(),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro"),
            self._scratch("/tmp", "1777"),
            self._scratch("/run", "755"),
        ]
        if self._options.init_system:  # which it would mount itself, had it the right to
            mounts.append(_mount("/run/lock", "tmpfs", "tmpfs", "nosuid", "nodev", "noexec", "mode=1777", "size=5120k"))
        if self.over_host:
            mounts.append(self._scratch("/var/tmp", "1777"))
            mounts += [self._scratch(path, "700") for path in HOST_PRIVATE]
            mounts += self._own_directory()
            mounts += self._resolver()
        mounts += binds(self._options)
        return mounts

    def _scratch(self, path: str, mode: str) -> "JSON":
        size = () if self._options.root_bytes is None else (f"size={self._options.root_bytes}",)
        return _mount(path, "tmpfs", "tmpfs", "nosuid", "nodev", f"mode={mode}", *size)

    def _sysfs(self) -> "JSON":
        if self._options.network == "host" and not self._privileged and self._options.isolation != "vm":
            return _mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")
        return _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")

    def _own_directory(self) -> "list[JSON]":
        """The current directory, read-only, unless it is asked for otherwise."""
        if not self._options.show_cwd:
            return []
        here = os.getcwd()
        asked_for = any(bind.destination == here for bind in self._options.binds)
        return [] if here == "/" or asked_for else [_bind(here, here, writable=False)]

    def _resolver(self) -> "list[JSON]":
        """The host's resolver where the box's /run hides it; for a guest, one that is not on the host's loopback."""
        if self._options.network != "host":
            return []
        place = source = os.path.realpath(RESOLVER)
        if self._options.isolation == "vm" and _is_loopback_only(place) and os.path.isfile(RESOLVER_UPSTREAM):
            source = RESOLVER_UPSTREAM
        if not os.path.isfile(source) or (source == place and not place.startswith("/run/")):
            return []
        return [_bind(source, place, writable=False)]

    def _linux(self) -> "JSON":
        kinds = ["pid", "ipc", "uts", "mount", "cgroup"]
        if self._options.network == "none":
            kinds.append("network")
        linux: JSON = {
            "maskedPaths": [*MASKED_PATHS, *(HOST_SECRETS if self.over_host else ())],
            "readonlyPaths": list(READONLY_PATHS),
        }
        if not self._privileged or self._options.init_system:
            kinds.append("user")
            maps = system_mappings() if self._privileged else id_mappings()
            linux["uidMappings"], linux["gidMappings"] = maps
        resources = self._resources()
        if resources:
            linux["resources"] = resources
        return {"namespaces": [{"type": kind} for kind in kinds], **linux}

    def _resources(self) -> "JSON":
        devices: JSON = {"devices": [{"allow": False, "access": "rwm"}]} if self._privileged else {}
        return {**devices, **resources(self._options, groups=self._groups)}


def _is_loopback_only(path: str) -> bool:
    """Whether a resolv.conf(5) names servers, and all of them by addresses of the host's loopback."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            words = [line.split() for line in file]
    except OSError:
        return False
    servers = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return bool(servers) and all(server.startswith("127.") or server == "::1" for server in servers)


def annotations(options: "BoxOptions") -> dict[str, str]:
    """What is asked for that the standard has no property for."""
    found = {INIT_SYSTEM_ANNOTATION: "true"} if options.init_system else {}
    if options.isolation != "linux":
        found[ISOLATION_ANNOTATION] = options.isolation
    if options.publish:
        found[PUBLISH_ANNOTATION] = ",".join(options.publish)
    return found


def resources(options: "BoxOptions", *, groups: bool) -> "JSON":
    """The limits as the standard's resources. Without `groups` the number of tasks is limited by `rlimits`."""
    found: JSON = {}
    if options.memory_bytes is not None:
        found["memory"] = {"limit": options.memory_bytes, "swap": options.memory_bytes}
    if options.cpus is not None:
        found["cpu"] = {"quota": int(options.cpus * 100_000), "period": 100_000}
    if options.pids is not None and groups:
        found["pids"] = {"limit": options.pids}
    return found


def rlimits(options: "BoxOptions", *, groups: bool) -> "list[JSON]":
    """The limits as the standard's rlimits.

    A user namespace counts its own tasks (Linux 5.14), so in a box without root RLIMIT_NPROC does what a pids group
    would.
    """
    wanted = {"RLIMIT_FSIZE": options.file_bytes, "RLIMIT_NOFILE": options.open_files}
    if not groups:
        wanted["RLIMIT_NPROC"] = _possible_tasks(options.pids)
    return [{"type": name, "soft": most, "hard": most} for name, most in wanted.items() if most is not None]


def _possible_tasks(most: int | None) -> int | None:
    """No more than we are limited to ourselves: that could not be raised, and holds the box too."""
    if most is None:
        return None
    from resource import RLIM_INFINITY, RLIMIT_NPROC, getrlimit

    ours = getrlimit(RLIMIT_NPROC)[1]
    return most if ours == RLIM_INFINITY else min(most, ours)


def binds(options: "BoxOptions") -> "list[JSON]":
    """The mounts for paths of the host."""
    return [_bind(bind.source, bind.destination, writable=bind.writable) for bind in options.binds]


def capabilities_of(options: "BoxOptions") -> tuple[str, ...]:
    """The capabilities of the box: an init system has nearly all, in a user namespace of its own."""
    if not options.init_system:
        return CAPABILITIES
    return tuple(name for name in CAPABILITY_NAMES if name not in OF_THE_MACHINE)


def _mount(destination: str, kind: str, source: str, *options: str) -> "JSON":
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _bind(source: str, destination: str, *, writable: bool) -> "JSON":
    options = ["rbind", "nosuid", "nodev", "rw" if writable else "ro"]
    if not writable:
        options.append("rro")
    return {"destination": destination, "type": "none", "source": source, "options": options}
