"""The names of the standard and the numbers that the kernel knows them by, as plain tables.

They feed validation, the plan, the features document and the docs. Numbers are those of the generic Linux
ABI, which x86-64, aarch64, riscv64, ppc64le and s390x share here.
"""

from boxwright.errors import UsageError

OCI_VERSION_MIN = "1.0.0"
OCI_VERSION_MAX = "1.3.0"

HOOK_KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

# as capabilities(7) has them; the position is the number
CAPABILITY_NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
CAPABILITIES = {name: number for number, name in enumerate(CAPABILITY_NAMES)}

# what getrlimit(2) calls them
RLIMITS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}

# namespaces(7): the CLONE_ flag, and the name below /proc/PID/ns
NAMESPACES = {
    "user": (0x10000000, "user"),
    "mount": (0x00020000, "mnt"),
    "pid": (0x20000000, "pid"),
    "network": (0x40000000, "net"),
    "ipc": (0x08000000, "ipc"),
    "uts": (0x04000000, "uts"),
    "cgroup": (0x02000000, "cgroup"),
    "time": (0x00000080, "time"),
}
# the clocks that a time namespace offsets, time_namespaces(7)
CLOCKS = {"monotonic": 1, "boottime": 7}

# flags of mount(2)
MS_RDONLY = 1
MS_SYNCHRONOUS = 1 << 4
MS_REMOUNT = 1 << 5
MS_MANDLOCK = 1 << 6
MS_DIRSYNC = 1 << 7
MS_BIND = 1 << 12
MS_REC = 1 << 14
MS_SILENT = 1 << 15
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_I_VERSION = 1 << 23
MS_LAZYTIME = 1 << 25
# flags of mount_setattr(2); the four ways to keep access times are values of one field
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_ATIME_FIELD = 0x70
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

_ATIME = MOUNT_ATTR_ATIME_FIELD

# what each attribute of a mount sets and clears, for `fold_attribute`
_ATTRIBUTES = {
    "ro": (MOUNT_ATTR_RDONLY, 0),
    "rw": (0, MOUNT_ATTR_RDONLY),
    "nosuid": (MOUNT_ATTR_NOSUID, 0),
    "suid": (0, MOUNT_ATTR_NOSUID),
    "nodev": (MOUNT_ATTR_NODEV, 0),
    "dev": (0, MOUNT_ATTR_NODEV),
    "noexec": (MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, MOUNT_ATTR_NOEXEC),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, MOUNT_ATTR_NOSYMFOLLOW),
    "noatime": (MOUNT_ATTR_NOATIME, _ATIME),
    "strictatime": (MOUNT_ATTR_STRICTATIME, _ATIME),
    "relatime": (MOUNT_ATTR_RELATIME, _ATIME),
    "atime": (0, MOUNT_ATTR_NOATIME),
    "nostrictatime": (0, MOUNT_ATTR_STRICTATIME),
    "norelatime": (0, 0),  # relatime is the kernel's default: without another mode it stays
}

# name → (kind, set, clear). The kinds:
#   attribute    MOUNT_ATTR_ bits of this mount; recursive: of this mount and all below (AT_RECURSIVE)
#   superblock   MS_ bits of the filesystem; `SUPERBLOCK_PARAMETERS` names them for fsconfig(2)
#   propagation  the MS_ propagation type, with MS_REC for the forms that begin with r
#   bind         MS_BIND, with MS_REC for rbind
#   idmap        MOUNT_ATTR_IDMAP, with MS_REC for ridmap
#   remount, copyup, none
MOUNT_OPTIONS: dict[str, tuple[str, int, int]] = {
    **{name: ("attribute", *bits) for name, bits in _ATTRIBUTES.items()},
    **{f"r{name}": ("recursive", *bits) for name, bits in _ATTRIBUTES.items()},
    "async": ("superblock", 0, MS_SYNCHRONOUS),
    "sync": ("superblock", MS_SYNCHRONOUS, 0),
    "dirsync": ("superblock", MS_DIRSYNC, 0),
    "lazytime": ("superblock", MS_LAZYTIME, 0),
    "nolazytime": ("superblock", 0, MS_LAZYTIME),
    "mand": ("superblock", MS_MANDLOCK, 0),
    "nomand": ("superblock", 0, MS_MANDLOCK),
    "iversion": ("superblock", MS_I_VERSION, 0),
    "noiversion": ("superblock", 0, MS_I_VERSION),
    "silent": ("superblock", MS_SILENT, 0),
    "loud": ("superblock", 0, MS_SILENT),
    "shared": ("propagation", MS_SHARED, 0),
    "rshared": ("propagation", MS_SHARED | MS_REC, 0),
    "slave": ("propagation", MS_SLAVE, 0),
    "rslave": ("propagation", MS_SLAVE | MS_REC, 0),
    "private": ("propagation", MS_PRIVATE, 0),
    "rprivate": ("propagation", MS_PRIVATE | MS_REC, 0),
    "unbindable": ("propagation", MS_UNBINDABLE, 0),
    "runbindable": ("propagation", MS_UNBINDABLE | MS_REC, 0),
    "bind": ("bind", MS_BIND, 0),
    "rbind": ("bind", MS_BIND | MS_REC, 0),
    "idmap": ("idmap", MOUNT_ATTR_IDMAP, 0),
    "ridmap": ("idmap", MOUNT_ATTR_IDMAP | MS_REC, 0),
    "remount": ("remount", MS_REMOUNT, 0),
    "tmpcopyup": ("copyup", 0, 0),
    "defaults": ("none", 0, 0),
}

# the fsconfig(2) flag parameters which set and clear a superblock bit, fs/fs_context.c of the kernel
SUPERBLOCK_PARAMETERS: dict[int, tuple[str, str | None]] = {
    MS_RDONLY: ("ro", "rw"),
    MS_SYNCHRONOUS: ("sync", "async"),
    MS_DIRSYNC: ("dirsync", None),
    MS_LAZYTIME: ("lazytime", "nolazytime"),
    MS_MANDLOCK: ("mand", "nomand"),
}

# linux.rootfsPropagation; engines write the recursive forms too, which are for every mount of the box
ROOTFS_PROPAGATIONS = {
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}

# for sched_setattr(2)
SCHEDULER_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}

# for ioprio_set(2); the class stands above the priority in the number it takes
IO_PRIORITY_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
IO_PRIORITY_CLASS_SHIFT = 13

# for set_mempolicy(2)
MEMORY_POLICY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_POLICY_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}

# for personality(2)
PERSONALITY_DOMAINS = {"LINUX": 0x0, "LINUX32": 0x8}

VM_IMAGE_FORMATS = ("raw", "qcow2", "vdi", "vmdk", "vhd")

# as signal(7) has them
SIGNALS = {
    "HUP": 1,
    "INT": 2,
    "QUIT": 3,
    "ILL": 4,
    "TRAP": 5,
    "ABRT": 6,
    "IOT": 6,
    "BUS": 7,
    "FPE": 8,
    "KILL": 9,
    "USR1": 10,
    "SEGV": 11,
    "USR2": 12,
    "PIPE": 13,
    "ALRM": 14,
    "TERM": 15,
    "STKFLT": 16,
    "CHLD": 17,
    "CLD": 17,
    "CONT": 18,
    "STOP": 19,
    "TSTP": 20,
    "TTIN": 21,
    "TTOU": 22,
    "URG": 23,
    "XCPU": 24,
    "XFSZ": 25,
    "VTALRM": 26,
    "PROF": 27,
    "WINCH": 28,
    "IO": 29,
    "POLL": 29,
    "PWR": 30,
    "SYS": 31,
    "RTMIN": 34,  # as libc counts: it keeps 32 and 33 for its threads
    "RTMAX": 64,
}


def fold_attribute(attr_set: int, attr_clear: int, option: tuple[str, int, int]) -> tuple[int, int]:
    """The masks of mount_setattr(2) after one more option of the kind `attribute` or `recursive`.

    The kernel wants the whole field of access times cleared where any of it changes.
    """
    _, more, less = option
    attr_set = (attr_set & ~less) | more
    attr_clear |= more | less
    if attr_clear & MOUNT_ATTR_ATIME_FIELD:
        attr_clear |= MOUNT_ATTR_ATIME_FIELD
    return attr_set, attr_clear


def signal_number(text: str) -> int:
    """The number of a signal given as `KILL`, `SIGKILL`, `9`, `RTMIN+1` or `SIGRTMAX-2`; 0 probes.

    Raises UsageError for anything else.
    """
    if text.isascii() and text.isdigit():
        number = int(text) if len(text) < 4 else -1
    else:
        number = _named_signal(text.upper().removeprefix("SIG"))
    if not 0 <= number <= SIGNALS["RTMAX"]:
        raise UsageError(f"`{text}` is no signal")
    return number


def _named_signal(name: str) -> int:
    """-1 for a name that is none."""
    known = SIGNALS.get(name)
    if known is not None:
        return known
    base, sign, offset = name[:5], name[5:6], name[6:]
    if not (offset.isascii() and offset.isdigit() and len(offset) < 3):
        return -1
    low, high = SIGNALS["RTMIN"], SIGNALS["RTMAX"]
    number = -1
    if base == "RTMIN" and sign == "+":
        number = low + int(offset)
    elif base == "RTMAX" and sign == "-":
        number = high - int(offset)
    return number if low <= number <= high else -1
