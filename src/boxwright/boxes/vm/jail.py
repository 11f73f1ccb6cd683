"""The host's half of a container: the `linux` box that holds the machine, as a configuration. Pure.

It is compiled and performed like any other: what is written here is what the keeper, virtiofsd and the hypervisor can
see and do. The mounts of the container's files come from `shares`; they keep the pointers of the lines that ask for
them, and so do the limits, so that an error names the user's line.
"""

from boxwright._record import Record
from boxwright.plan import ops
from boxwright.plan.builder import Builder
from boxwright.plan.request import RootSource
from boxwright.spec.types import (
    CPU,
    Capabilities,
    Config,
    Device,
    DeviceCgroup,
    Hooks,
    Linux,
    Memory,
    Mount,
    Namespace,
    Process,
    Resources,
    Root,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.ops import Plan
    from boxwright.spec.types import IDMapping

HELPER = "/boxwright-helper"
# the hypervisor, its firmware and its libraries; the memory and the code that it translates are its own
OVERHEAD_BYTES = 256 << 20
# root of the jail's user namespace: serves the shared files, and nothing of the host beside them
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
)
# where programs and libraries are on a Debian; what is a link on the host is one in the jail
SYSTEM = ("bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr")


class Jail(Record):
    """What the jail of one machine is made of.

    `arguments` are the keeper's; `mounts` the container's files; `mappings` the ids of the host that the jail has;
    `own_id` is the user and group that the keeper and what stands for processes of the guest end up as, 0 where the
    jail has no id to spare; `memory_bytes` is the machine's; `kvm` says whether it uses /dev/kvm; `helper` is the
    helper's path on the host.
    """

    arguments: tuple[str, ...]
    helper: str
    mappings: "tuple[tuple[IDMapping, ...], tuple[IDMapping, ...]]"
    own_id: int
    memory_bytes: int
    mounts: tuple[Mount, ...] = ()
    kvm: bool = False


def jail_config(config: Config, jail: Jail) -> Config:
    """The configuration of the `linux` box in which the machine of `config` is held."""
    return Config(
        oci_version=config.oci_version,
        root=Root("/", pointer="/root"),
        process=_process(config.process, jail),
        mounts=(*_own_mounts(jail), *jail.mounts),
        hostname="machine",
        hooks=_hooks(config.hooks),
        annotations=config.annotations,
        linux=_linux(config.linux, jail),
    )


def jail_root(stage: str, links: tuple[tuple[str, str], ...], binds: tuple[str, ...]) -> RootSource:
    """Its root: a tmpfs with the system's programs, read-only."""
    return RootSource("/", stage, (), 4 << 20, links=links, binds=binds)


def _process(process: Process | None, jail: Jail) -> Process:
    return Process(
        cwd="/",
        args=(HELPER, *(("--as", str(jail.own_id)) if jail.own_id else ()), "--keep", *jail.arguments),
        env=("PATH=/usr/sbin:/usr/bin:/sbin:/bin",),
        terminal=process.terminal if process else None,
        console_size=process.console_size if process else None,
        capabilities=Capabilities(bounding=CAPABILITIES, effective=CAPABILITIES, permitted=CAPABILITIES),
        no_new_privileges=True,
    )


def _own_mounts(jail: Jail) -> tuple[Mount, ...]:
    return (
        Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
        Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "noexec", "mode=755", "size=64k")),
        Mount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")),
        Mount("/tmp", "tmpfs", "tmpfs", ("nosuid", "nodev", "noexec", "mode=1777", "size=1m")),
        Mount(HELPER, "none", jail.helper, ("bind", "ro", "nosuid", "nodev")),
    )


def _hooks(hooks: Hooks | None) -> Hooks | None:
    """Those that run on the host."""
    return hooks and hooks.replace(create_container=(), start_container=())


def _linux(linux: Linux | None, jail: Jail) -> Linux:
    # that of the network is always a new one: a tap's descriptor works from anywhere, and the jail sees nothing of
    # the network that the guest has
    kinds = ("user", "mount", "pid", "ipc", "uts", "cgroup", "network")
    uids, gids = jail.mappings
    resources = linux.resources if linux else None
    return Linux(
        namespaces=tuple(Namespace(kind) for kind in kinds),
        uid_mappings=uids,
        gid_mappings=gids,
        cgroups_path=linux.cgroups_path if linux else None,
        resources=_resources(resources, jail),
        devices=(Device("c", "/dev/kvm", 10, 232, 0o666),) if jail.kvm else (),
        masked_paths=("/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"),
        readonly_paths=("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"),
        pointer="/linux",
    )


def _resources(resources: Resources | None, jail: Jail) -> Resources:
    """The limits of the host's side: the machine's memory and what it costs to run it, the CPUs, the disks."""
    base = resources or Resources()
    limit = jail.memory_bytes + OVERHEAD_BYTES
    memory = (base.memory or Memory()).replace(limit=limit, swap=None, reservation=None, swappiness=None)
    limited = base.memory is not None and base.memory.limit is not None
    kvm = (DeviceCgroup(allow=True, type="c", major=10, minor=232, access="rw"),) if jail.kvm else ()
    return Resources(
        devices=(DeviceCgroup(allow=False, access="rwm"), *kvm),
        memory=memory if limited else None,
        cpu=_cpu(base.cpu),
        block_io=base.block_io,
        pointer=base.pointer or "/linux/resources",
    )


def _cpu(cpu: CPU | None) -> CPU | None:
    return cpu


def program_plan(argv: tuple[str, ...], *, uid: int, gid: int, capabilities: int) -> "Plan":
    """What a child of the keeper does before it executes `argv`: it drops what it does not need."""
    b = Builder(())
    b.add(ops.OUTER, ops.FindProgram(argv[0], ""), about=argv[0])
    b.add(ops.OUTER, ops.BoundCaps(capabilities))
    b.add(ops.OUTER, ops.SetUser(uid, gid, (), 1))
    b.add(ops.OUTER, ops.SetCaps(capabilities, capabilities, 0, 0))
    b.add(ops.OUTER, ops.NoNewPrivs())
    b.add(ops.OUTER, ops.Exec(argv, ()))
    return b.build()
