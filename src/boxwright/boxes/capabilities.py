"""The table of what each box honours: one row a property of config.json.

A row holds for everything below its property unless that has a row of its own. `boxwright.boxes.require` refuses
what a row calls unsupported; what a host lacks is refused by the plan, and `boxwright doctor` tells beforehand.
"""

from boxwright._record import Record
from boxwright.boxes.require import BOXES, FOREIGN_SECTIONS, NOT_YET

SUPPORTED, PARTIAL, UNSUPPORTED, IGNORED = "supported", "partial", "unsupported", "ignored"
LEVELS = (SUPPORTED, PARTIAL, UNSUPPORTED, IGNORED)


class Support(Record):
    """How far a box honours a property: a level, and what is missing, why not, or what the host must have."""

    level: str
    text: str = ""


class Row(Record):
    """One property by its path in config.json (`mounts[].options`), its section of the standard, and the boxes."""

    property: str
    anchor: str
    linux: Support
    vm: Support
    sandbox: Support

    def of(self, box: str) -> Support:
        """What `box` makes of it."""
        if box not in BOXES:
            raise ValueError(f"there is no box `{box}`")
        found: Support = getattr(self, box)
        return found


_LINUX = "config-linux.md#configLinux"
_YES = Support(SUPPORTED)
_LATER = Support(UNSUPPORTED, NOT_YET)


def _partial(text: str) -> Support:
    return Support(PARTIAL, text)


def _needs(text: str) -> Support:
    return Support(SUPPORTED, text)


_V1_ONLY = "cgroup v1 only; refused on cgroup v2"
_ID_MAPPED = _needs("needs root, and a filesystem that can be id-mapped")

# property, section of the standard, what the linux box makes of it
_ROWS: tuple[tuple[str, str, Support], ...] = (
    ("ociVersion", "config.md#configSpecificationVersion", _needs("1.0.0 to 1.3.0")),
    ("root.path", "config.md#configRoot", _YES),
    ("root.readonly", "config.md#configRoot", _YES),
    ("mounts[].destination", "config.md#configMounts", _YES),
    ("mounts[].type", "config.md#configMounts", _needs("whatever filesystem the host's kernel has")),
    ("mounts[].source", "config.md#configMounts", _YES),
    ("mounts[].options", "config.md#configLinuxMountOptions", _YES),
    (
        "mounts[].options.mand",
        "config.md#configLinuxMountOptions",
        _partial("accepted; Linux 5.15 removed mandatory locks"),
    ),
    ("mounts[].options.iversion", "config.md#configLinuxMountOptions", _partial("accepted; without effect")),
    ("mounts[].options.silent", "config.md#configLinuxMountOptions", _partial("accepted; without effect")),
    ("mounts[].options.tmpcopyup", "config.md#configLinuxMountOptions", _YES),
    ("mounts[].options.idmap", "config.md#configLinuxMountOptions", _ID_MAPPED),
    ("mounts[].options.ridmap", "config.md#configLinuxMountOptions", _ID_MAPPED),
    ("mounts[].uidMappings", "config.md#configPOSIXMounts", _ID_MAPPED),
    ("mounts[].gidMappings", "config.md#configPOSIXMounts", _ID_MAPPED),
    ("process.terminal", "config.md#configProcess", _YES),
    ("process.consoleSize", "config.md#configProcess", _YES),
    ("process.cwd", "config.md#configProcess", _YES),
    ("process.env", "config.md#configProcess", _YES),
    ("process.args", "config.md#configProcess", _YES),
    ("process.commandLine", "config.md#configProcess", Support(IGNORED, "a property of Windows")),
    ("process.user.uid", "config.md#configPOSIXUser", _YES),
    ("process.user.gid", "config.md#configPOSIXUser", _YES),
    ("process.user.umask", "config.md#configPOSIXUser", _YES),
    (
        "process.user.additionalGids",
        "config.md#configPOSIXUser",
        _needs("in a user namespace a group map made by root or `newgidmap`"),
    ),
    ("process.user.username", "config.md#configWindowsUser", Support(IGNORED, "a property of Windows")),
    (
        "process.rlimits",
        "config.md#configPOSIXProcess",
        _needs("raising a hard limit needs CAP_SYS_RESOURCE of the caller"),
    ),
    (
        "process.capabilities",
        "config.md#configLinuxProcess",
        _needs("what the caller does not have is left out with a warning"),
    ),
    ("process.noNewPrivileges", "config.md#configLinuxProcess", _YES),
    ("process.apparmorProfile", "config.md#configLinuxProcess", _needs("AppArmor, and the profile loaded")),
    ("process.selinuxLabel", "config.md#configLinuxProcess", _needs("SELinux")),
    (
        "process.oomScoreAdj",
        "config.md#configLinuxProcess",
        _needs("below the caller's own it needs CAP_SYS_RESOURCE"),
    ),
    ("process.scheduler", "config.md#configLinuxProcess", _needs("realtime policies need CAP_SYS_NICE")),
    ("process.ioPriority", "config.md#configLinuxProcess", _needs("IOPRIO_CLASS_RT needs CAP_SYS_NICE")),
    ("process.execCPUAffinity", "config.md#configLinuxProcess", _needs("by `exec`, as the standard says")),
    ("hostname", "config.md#configHostname", _needs("a uts namespace of its own")),
    ("domainname", "config.md#configDomainname", _needs("a uts namespace of its own")),
    ("hooks.prestart", "config.md#configHooksPrestart", _YES),
    ("hooks.createRuntime", "config.md#configHooksCreateRuntime", _YES),
    ("hooks.createContainer", "config.md#configHooksCreateContainer", _YES),
    ("hooks.startContainer", "config.md#configHooksStartContainer", _YES),
    ("hooks.poststart", "config.md#configHooksPoststart", _YES),
    ("hooks.poststop", "config.md#configHooksPoststop", _YES),
    ("annotations", "config.md#configAnnotations", _YES),
    ("linux.namespaces", f"{_LINUX}Namespaces", _needs("without root a user namespace is needed too")),
    ("linux.namespaces.network", f"{_LINUX}Namespaces", _YES),
    ("linux.namespaces.time", f"{_LINUX}Namespaces", _needs("Linux 5.6")),
    (
        "linux.uidMappings",
        f"{_LINUX}UserNamespaceMappings",
        _needs("without root: the own id, or `newuidmap` and /etc/subuid"),
    ),
    (
        "linux.gidMappings",
        f"{_LINUX}UserNamespaceMappings",
        _needs("without root: the own id, or `newgidmap` and /etc/subgid"),
    ),
    ("linux.timeOffsets", f"{_LINUX}TimeOffset", _YES),
    (
        "linux.devices",
        f"{_LINUX}Devices",
        _needs("in a user namespace the node of the host is bound, so the host must have it"),
    ),
    ("linux.netDevices", f"{_LINUX}NetworkDevices", _needs("needs CAP_NET_ADMIN")),
    (
        "linux.cgroupsPath",
        f"{_LINUX}CgroupsPath",
        _needs("without root a delegated cgroup v2, or the systemd driver"),
    ),
    (
        "linux.resources.devices",
        f"{_LINUX}DeviceAllowedlist",
        _partial("without root not enforced: no device can be made"),
    ),
    ("linux.resources.memory", f"{_LINUX}Memory", _YES),
    ("linux.resources.memory.kernel", f"{_LINUX}Memory", _partial(f"{_V1_ONLY}, and Linux 5.16 removed it there")),
    ("linux.resources.memory.kernelTCP", f"{_LINUX}Memory", _partial(_V1_ONLY)),
    ("linux.resources.memory.swappiness", f"{_LINUX}Memory", _partial(_V1_ONLY)),
    ("linux.resources.memory.disableOOMKiller", f"{_LINUX}Memory", _partial(_V1_ONLY)),
    (
        "linux.resources.memory.useHierarchy",
        f"{_LINUX}Memory",
        _partial("cgroup v2 is always hierarchical: false is refused"),
    ),
    ("linux.resources.cpu", f"{_LINUX}CPU", _YES),
    ("linux.resources.cpu.realtimeRuntime", f"{_LINUX}CPU", _partial(_V1_ONLY)),
    ("linux.resources.cpu.realtimePeriod", f"{_LINUX}CPU", _partial(_V1_ONLY)),
    ("linux.resources.pids", f"{_LINUX}PIDS", _YES),
    ("linux.resources.blockIO", f"{_LINUX}BlockIO", _YES),
    ("linux.resources.blockIO.leafWeight", f"{_LINUX}BlockIO", _partial(_V1_ONLY)),
    ("linux.resources.blockIO.weightDevice[].leafWeight", f"{_LINUX}BlockIO", _partial(_V1_ONLY)),
    ("linux.resources.hugepageLimits", f"{_LINUX}HugePageLimits", _needs("the `hugetlb` controller")),
    ("linux.resources.network", f"{_LINUX}Network", _partial("cgroup v1 only: v2 has neither net_cls nor net_prio")),
    ("linux.resources.rdma", f"{_LINUX}RDMA", _needs("the `rdma` controller")),
    ("linux.resources.unified", f"{_LINUX}Unified", _needs("cgroup v2")),
    ("linux.intelRdt", f"{_LINUX}IntelRdt", _needs("a mounted resctrl filesystem")),
    ("linux.memoryPolicy", f"{_LINUX}MemoryPolicy", _YES),
    ("linux.sysctl", f"{_LINUX}Sysctl", _needs("only those of a namespace that the box owns")),
    ("linux.seccomp", f"{_LINUX}Seccomp", _YES),
    ("linux.rootfsPropagation", f"{_LINUX}RootfsMountPropagation", _YES),
    ("linux.maskedPaths", f"{_LINUX}MaskedPaths", _YES),
    ("linux.readonlyPaths", f"{_LINUX}ReadonlyPaths", _YES),
    ("linux.mountLabel", f"{_LINUX}MountLabel", _needs("SELinux; without it labels have no meaning")),
    ("linux.personality", f"{_LINUX}Personality", _YES),
    ("vm", "config-vm.md#VirtualMachineSpecificContainerConfiguration", _YES),
    ("windows", "config-windows.md", _YES),
    ("solaris", "config-solaris.md", _YES),
    ("zos", "config-zos.md", _YES),
    ("freebsd", "config-freebsd.md", _YES),
)


_HOST_KERNEL = Support(UNSUPPORTED, "it is the host kernel's")
# what the vm box makes of a property, where that is something else than what the linux box does
_VM: dict[str, Support] = {
    "root.path": _partial(
        "mounts in one that is covered in the guest are not shown; without root, with mounts in it: read-only"
    ),
    "mounts[].type": _needs("whatever filesystem the guest's kernel has"),
    "mounts[].source": _partial("no socket, pipe, device, nor what is in /dev; /proc and /sys are the guest's own"),
    "mounts[].options": _partial(
        "no propagation to or from the host; mounts below a bind are there once somebody goes there, with its options"
    ),
    "mounts[].options.idmap": _partial("mounts below one are mapped too, as with `ridmap`"),
    "process.apparmorProfile": _HOST_KERNEL,
    "process.selinuxLabel": _HOST_KERNEL,
    "process.rlimits": _YES,
    "process.oomScoreAdj": _needs("in the guest"),
    "hooks.createContainer": Support(UNSUPPORTED, "its program is the host's, its namespaces are the guest's"),
    "linux.namespaces": _partial("made in the guest; only one of the network can be joined by its path"),
    "linux.namespaces.network": _partial(
        "by its path one Ethernet interface of it is the guest's, as veth; without one the network is the host's by "
        "slirp4netns: IPv4, TCP and UDP, without the host's 127.0.0.0/8"
    ),
    "linux.uidMappings": _needs("the ids that the machine has on the host; in the guest they are the container's"),
    "linux.gidMappings": _needs("the ids that the machine has on the host; in the guest they are the container's"),
    "linux.devices": _partial("of the guest's kernel; none outside of /dev and of the guest's own filesystems"),
    "linux.netDevices": _HOST_KERNEL,
    "linux.resources.devices": _needs("in the guest; the machine itself has no device of the host but /dev/kvm"),
    "linux.resources.memory": _needs("the limit is the machine's memory too"),
    "linux.resources.cpu": _needs("in the guest, and of the machine on the host"),
    "linux.resources.blockIO": _needs("of the machine on the host"),
    "linux.resources.hugepageLimits": _HOST_KERNEL,
    "linux.resources.network": _HOST_KERNEL,
    "linux.resources.rdma": _HOST_KERNEL,
    "linux.resources.unified": _needs("in the guest, which has cgroup v2"),
    "linux.intelRdt": _HOST_KERNEL,
    "linux.seccomp": _partial("no SCMP_ACT_NOTIFY: the listener's descriptor cannot leave the guest"),
    "linux.mountLabel": _HOST_KERNEL,
    "vm": _partial("no `image`, and of `hwConfig` no `deviceTree`, `dtdevs`, `iomems` and `irqs`: they are refused"),
}


def rows() -> tuple[Row, ...]:
    """The table, in the order of the standard."""
    # what `require` refuses is told from its own table, so that the two cannot differ
    refused = {field: Support(UNSUPPORTED, why) for field, why in FOREIGN_SECTIONS}
    in_guest = {**refused, **_VM}
    return tuple(
        Row(prop, anchor, refused.get(prop, linux), in_guest.get(prop, linux), _LATER) for prop, anchor, linux in _ROWS
    )


def row_of(prop: str) -> Row | None:
    """The row that holds for a property: its own, or that of the nearest one above it."""
    table = {row.property: row for row in rows()}
    while prop:
        if prop in table:
            return table[prop]
        prop = prop.rpartition(".")[0] if "." in prop else ""
        if prop.endswith("[]") and prop not in table:
            prop = prop.removesuffix("[]")
    return None
