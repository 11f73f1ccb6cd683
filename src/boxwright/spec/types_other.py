"""The sections of the platforms that no box runs: decoded, validated and explained, never created.

runtime-spec 1.3: config-windows.md, config-solaris.md, config-zos.md, config-freebsd.md.
"""

from boxwright.spec.kinds import EMPTY, U8, U16, U32, U64, SpecRecord


class WindowsDevice(SpecRecord):
    """A device of the container, by its interface class."""

    id: str
    id_type: str
    anchor = "config-windows.md#configWindowsDevices"


class WindowsMemory(SpecRecord):
    """The memory limit in bytes."""

    limit: U64 | None = None
    anchor = "config-windows.md#configWindowsMemory"


class WindowsAffinity(SpecRecord):
    """CPUs of one processor group."""

    mask: U64
    group: U32
    anchor = "config-windows.md#configWindowsCpu"


class WindowsCPU(SpecRecord):
    """CPU share; `count`, `shares` and `maximum` exclude each other."""

    count: U64 | None = None
    shares: U16 | None = None
    maximum: U16 | None = None
    affinity: tuple[WindowsAffinity, ...] = ()
    anchor = "config-windows.md#configWindowsCpu"


class WindowsStorage(SpecRecord):
    """Rates a second, and the least size in bytes, of the system drive."""

    iops: U64 | None = None
    bps: U64 | None = None
    sandbox_size: U64 | None = None
    anchor = "config-windows.md#configWindowsStorage"


class WindowsResources(SpecRecord):
    """Limits of a Windows container."""

    memory: WindowsMemory | None = None
    cpu: WindowsCPU | None = None
    storage: WindowsStorage | None = None
    anchor = "config-windows.md#configWindowsResources"


class WindowsNetwork(SpecRecord):
    """Endpoints and name resolution."""

    endpoint_list: tuple[str, ...] = ()
    allow_unqualified_dns_query: bool | None = None
    dns_search_list: tuple[str, ...] = ()
    network_shared_container_name: str | None = None
    network_namespace: str | None = None
    anchor = "config-windows.md#configWindowsNetwork"


class WindowsHyperV(SpecRecord):
    """Hyper-V isolation."""

    utility_vm_path: str | None = None
    anchor = "config-windows.md#configWindowsHyperV"


class Windows(SpecRecord):
    """The Windows section."""

    layer_folders: tuple[str, ...]
    devices: tuple[WindowsDevice, ...] = ()
    resources: WindowsResources | None = None
    network: WindowsNetwork | None = None
    credential_spec: dict[str, object] = EMPTY
    servicing: bool | None = None
    ignore_flushes_during_boot: bool | None = None
    hyperv: WindowsHyperV | None = None
    anchor = "config-windows.md#windowsSpecificContainerConfiguration"


class SolarisCappedCPU(SpecRecord):
    """The greatest number of CPUs, with fractions."""

    ncpus: str | None = None
    anchor = "config-solaris.md#configSolarisCappedCpu"


class SolarisCappedMemory(SpecRecord):
    """Memory limits with a scale (K, M, G, T)."""

    physical: str | None = None
    swap: str | None = None
    anchor = "config-solaris.md#configSolarisCappedMemory"


class SolarisAnet(SpecRecord):
    """A network link made for the zone."""

    linkname: str | None = None
    lower_link: str | None = None
    allowed_address: str | None = None
    configure_allowed_address: str | None = None
    defrouter: str | None = None
    mac_address: str | None = None
    link_protection: str | None = None
    anchor = "config-solaris.md#configSolarisAutomaticNetwork"


class Solaris(SpecRecord):
    """The Solaris section."""

    milestone: str | None = None
    limitpriv: str | None = None
    max_shm_memory: str | None = None
    capped_cpu: SolarisCappedCPU | None = None
    capped_memory: SolarisCappedMemory | None = None
    anet: tuple[SolarisAnet, ...] = ()
    anchor = "config-solaris.md#solarisApplicationContainerConfiguration"


class ZOSNamespace(SpecRecord):
    """A namespace to make, or to join where `path` is given."""

    type: str
    path: str | None = None
    anchor = "config-zos.md#configZOSNamespaces"


class ZOS(SpecRecord):
    """The z/OS section."""

    namespaces: tuple[ZOSNamespace, ...] = ()
    anchor = "config-zos.md#ZOSContainerConfiguration"


class FreeBSDDevice(SpecRecord):
    """A device below /dev to show in the jail."""

    path: str
    mode: U32 | None = None
    anchor = "config-freebsd.md#configFreeBSDDevices"


class FreeBSDAllow(SpecRecord):
    """What the jail may do beyond the default."""

    set_hostname: bool | None = None
    raw_sockets: bool | None = None
    chflags: bool | None = None
    mount: tuple[str, ...] = ()
    quotas: bool | None = None
    socket_af: bool | None = None
    mlock: bool | None = None
    reserved_ports: bool | None = None
    suser: bool | None = None
    anchor = "config-freebsd.md#configFreeBSDJail"


class FreeBSDJail(SpecRecord):
    """Parameters of jail(2)."""

    parent: str | None = None
    host: str | None = None
    ip4: str | None = None
    ip4_addr: tuple[str, ...] = ()
    ip6: str | None = None
    ip6_addr: tuple[str, ...] = ()
    vnet: str | None = None
    interface: str | None = None
    vnet_interfaces: tuple[str, ...] = ()
    sysvmsg: str | None = None
    sysvsem: str | None = None
    sysvshm: str | None = None
    enforce_statfs: U8 | None = None
    allow: FreeBSDAllow | None = None
    anchor = "config-freebsd.md#configFreeBSDJail"


class FreeBSD(SpecRecord):
    """The FreeBSD section."""

    devices: tuple[FreeBSDDevice, ...] = ()
    jail: FreeBSDJail | None = None
    anchor = "config-freebsd.md#FreeBSDContainerConfiguration"
