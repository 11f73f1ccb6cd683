"""What config.json says, as frozen records (runtime-spec 1.3: config.md and config-linux.md).

Field names are those of the standard in snake_case (`spec.names`). A missing scalar or object is None, a
missing array is (), a missing map is empty; capability sets are None where they are missing, since an empty
set drops everything and a missing one says nothing. The annotations are read at run time: they are what the
decoder goes by. Sections of other platforms are named in quotes, and their module is loaded when a document
has them.
"""

from boxwright.spec.kinds import EMPTY, I32, I64, U16, U32, U64, SpecRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.spec.types_other import ZOS, FreeBSD, Solaris, Windows
    from boxwright.spec.types_vm import VM


class ConsoleSize(SpecRecord):
    """The terminal's size in characters; ignored without a terminal."""

    height: U64
    width: U64
    anchor = "config.md#configProcess"


class User(SpecRecord):
    """Who the process is, in the container's user namespace. `username` is for Windows."""

    uid: U32 = 0
    gid: U32 = 0
    umask: U32 | None = None
    additional_gids: tuple[U32, ...] = ()
    username: str | None = None
    anchor = "config.md#configUser"


class Capabilities(SpecRecord):
    """The five capability sets; None is a set that the document does not mention."""

    bounding: tuple[str, ...] | None = None
    effective: tuple[str, ...] | None = None
    inheritable: tuple[str, ...] | None = None
    permitted: tuple[str, ...] | None = None
    ambient: tuple[str, ...] | None = None
    anchor = "config.md#configLinuxProcess"


class Rlimit(SpecRecord):
    """One resource limit; 2**64 - 1 is no limit."""

    type: str
    soft: U64
    hard: U64
    anchor = "config.md#configPOSIXProcess"


class Scheduler(SpecRecord):
    """sched_setattr(2) of the process; runtime, deadline and period are in nanoseconds."""

    policy: str
    nice: I32 = 0
    priority: I32 = 0
    flags: tuple[str, ...] = ()
    runtime: U64 = 0
    deadline: U64 = 0
    period: U64 = 0
    anchor = "config.md#configLinuxProcess"


class IOPriority(SpecRecord):
    """ioprio_set(2) of the process group; priority 0 (highest) to 7."""

    class_: str
    priority: I32 = 0
    anchor = "config.md#configLinuxProcess"


class ExecCPUAffinity(SpecRecord):
    """CPUs of a process that `exec` adds, before and after it enters the cgroup. Not for the init."""

    initial: str | None = None
    final: str | None = None
    anchor = "config.md#configLinuxProcess"


class Process(SpecRecord):
    """The program to run and what it runs with."""

    cwd: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: User = User()
    terminal: bool | None = None
    console_size: ConsoleSize | None = None
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool | None = None
    apparmor_profile: str | None = None
    selinux_label: str | None = None
    oom_score_adj: I64 | None = None
    scheduler: Scheduler | None = None
    io_priority: IOPriority | None = None
    exec_cpu_affinity: ExecCPUAffinity | None = None
    command_line: str | None = None
    anchor = "config.md#configProcess"


class Root(SpecRecord):
    """The root filesystem; a relative path is relative to the bundle."""

    path: str
    readonly: bool | None = None
    anchor = "config.md#configRoot"


class IDMapping(SpecRecord):
    """`size` ids from `container_id` on are `host_id` and following outside."""

    container_id: U32
    host_id: U32
    size: U32
    anchor = "config-linux.md#configLinuxUserNamespaceMappings"


class Mount(SpecRecord):
    """One mount beyond the root."""

    destination: str
    type: str | None = None
    source: str | None = None
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    anchor = "config.md#configMounts"


class Hook(SpecRecord):
    """A program to run at a point of the lifecycle; `timeout` in seconds."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: I64 | None = None
    anchor = "config.md#configHooks"


class Hooks(SpecRecord):
    """The hooks of each kind, in the order in which they run."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()
    anchor = "config.md#configHooks"


class Namespace(SpecRecord):
    """A namespace to make, or to join where `path` is given."""

    type: str
    path: str | None = None
    anchor = "config-linux.md#configLinuxNamespaces"


class Device(SpecRecord):
    """A device node of the container. `file_mode` is the number that chmod(2) takes."""

    type: str
    path: str
    major: I64 | None = None
    minor: I64 | None = None
    file_mode: U32 | None = None
    uid: U32 | None = None
    gid: U32 | None = None
    anchor = "config-linux.md#configLinuxDevices"


class NetDevice(SpecRecord):
    """A network device moved into the container; `name` is its name there."""

    name: str | None = None
    anchor = "config-linux.md#configLinuxNetworkDevices"


class TimeOffset(SpecRecord):
    """The offset of one clock of the time namespace."""

    secs: I64 = 0
    nanosecs: U32 = 0
    anchor = "config-linux.md#configLinuxTimeOffset"


class DeviceCgroup(SpecRecord):
    """One rule of the device controller; a missing number means every number."""

    allow: bool
    type: str | None = None
    major: I64 | None = None
    minor: I64 | None = None
    access: str | None = None
    anchor = "config-linux.md#configLinuxDeviceAllowedlist"


class Memory(SpecRecord):
    """Limits in bytes, -1 for none. `swap` is memory and swap together."""

    limit: I64 | None = None
    reservation: I64 | None = None
    swap: I64 | None = None
    kernel: I64 | None = None
    kernel_tcp: I64 | None = None
    swappiness: U64 | None = None
    disable_oom_killer: bool | None = None
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None
    anchor = "config-linux.md#configLinuxMemory"


class CPU(SpecRecord):
    """CPU time and placement; quota, burst, period and the realtime pair are in microseconds."""

    shares: U64 | None = None
    quota: I64 | None = None
    burst: U64 | None = None
    period: U64 | None = None
    realtime_runtime: I64 | None = None
    realtime_period: U64 | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: I64 | None = None
    anchor = "config-linux.md#configLinuxCPU"


class Pids(SpecRecord):
    """The greatest number of tasks: 0 is a limit, -1 is none."""

    limit: I64 | None = None
    anchor = "config-linux.md#configLinuxPIDS"


class WeightDevice(SpecRecord):
    """The block I/O weight of one device."""

    major: I64
    minor: I64
    weight: U16 | None = None
    leaf_weight: U16 | None = None
    anchor = "config-linux.md#configLinuxBlockIO"


class ThrottleDevice(SpecRecord):
    """The greatest rate of one device: bytes or operations a second, by the list that it stands in."""

    major: I64
    minor: I64
    rate: U64
    anchor = "config-linux.md#configLinuxBlockIO"


class BlockIO(SpecRecord):
    """Block I/O weights and rates."""

    weight: U16 | None = None
    leaf_weight: U16 | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()
    anchor = "config-linux.md#configLinuxBlockIO"


class HugepageLimit(SpecRecord):
    """The limit, in bytes, of huge pages of one size."""

    page_size: str
    limit: U64
    anchor = "config-linux.md#configLinuxHugePageLimits"


class InterfacePriority(SpecRecord):
    """net_prio of one interface."""

    name: str
    priority: U32
    anchor = "config-linux.md#configLinuxNetwork"


class Network(SpecRecord):
    """net_cls and net_prio."""

    class_id: U32 | None = None
    priorities: tuple[InterfacePriority, ...] = ()
    anchor = "config-linux.md#configLinuxNetwork"


class Rdma(SpecRecord):
    """Limits of one RDMA device."""

    hca_handles: U32 | None = None
    hca_objects: U32 | None = None
    anchor = "config-linux.md#configLinuxRDMA"


class Resources(SpecRecord):
    """What the container's cgroup limits."""

    devices: tuple[DeviceCgroup, ...] = ()
    memory: Memory | None = None
    cpu: CPU | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None
    rdma: dict[str, Rdma] = EMPTY
    unified: dict[str, str] = EMPTY
    anchor = "config-linux.md#configLinuxControlGroups"


class IntelRdt(SpecRecord):
    """Cache and memory bandwidth classes (resctrl)."""

    clos_id: str | None = None
    l3_cache_schema: str | None = None
    mem_bw_schema: str | None = None
    schemata: tuple[str, ...] = ()
    enable_monitoring: bool | None = None
    anchor = "config-linux.md#configLinuxIntelRdt"


class MemoryPolicy(SpecRecord):
    """set_mempolicy(2) of the process."""

    mode: str
    nodes: str | None = None
    flags: tuple[str, ...] = ()
    anchor = "config-linux.md#configLinuxMemoryPolicy"


class SyscallArg(SpecRecord):
    """A condition on one argument of a system call."""

    index: U32
    value: U64
    op: str
    value_two: U64 | None = None
    anchor = "config-linux.md#configLinuxSeccomp"


class Syscall(SpecRecord):
    """What to do on some system calls."""

    names: tuple[str, ...]
    action: str
    errno_ret: U32 | None = None
    args: tuple[SyscallArg, ...] = ()
    anchor = "config-linux.md#configLinuxSeccomp"


class Seccomp(SpecRecord):
    """The system call filter."""

    default_action: str
    default_errno_ret: U32 | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str | None = None
    listener_metadata: str | None = None
    syscalls: tuple[Syscall, ...] = ()
    anchor = "config-linux.md#configLinuxSeccomp"


class Personality(SpecRecord):
    """The execution domain, personality(2)."""

    domain: str
    flags: tuple[str, ...] = ()
    anchor = "config-linux.md#configLinuxPersonality"


class Linux(SpecRecord):
    """The Linux section."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    time_offsets: dict[str, TimeOffset] = EMPTY
    devices: tuple[Device, ...] = ()
    net_devices: dict[str, NetDevice] = EMPTY
    cgroups_path: str | None = None
    resources: Resources | None = None
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    sysctl: dict[str, str] = EMPTY
    seccomp: Seccomp | None = None
    rootfs_propagation: str | None = None
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str | None = None
    personality: Personality | None = None
    anchor = "config-linux.md#linuxContainerConfiguration"


class Config(SpecRecord):
    """The whole of config.json."""

    oci_version: str
    root: Root | None = None
    process: Process | None = None
    mounts: tuple[Mount, ...] = ()
    hostname: str | None = None
    domainname: str | None = None
    hooks: Hooks | None = None
    annotations: dict[str, str] = EMPTY
    linux: Linux | None = None
    vm: "VM | None" = None
    windows: "Windows | None" = None
    solaris: "Solaris | None" = None
    zos: "ZOS | None" = None
    freebsd: "FreeBSD | None" = None
    anchor = "config.md#configuration"
