"""The guest's half of a container: what of config.json is done there, by which facts. Pure.

What the virtual machine itself stands for is left out of the guest's plan: a user namespace (the jail's id maps are
its), control of the host's CPUs and disks (the jail's control groups). What another kernel cannot honour is refused.
"""

from boxwright.errors import UnsupportedError
from boxwright.plan.cgroup_layout import CgroupLayout, CgroupSite, Hierarchy
from boxwright.plan.request import HostFacts, RootSource
from boxwright.plan.seccomp_flags import uses_notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from boxwright.boxes.vm.shares import Branches
    from boxwright.spec.types import CPU, Config, Hooks, Linux, Namespace, Process, Resources

BOX = "vm"
GROUP = "/boxwright"  # where the agent looks for the container's processes
STAGE = "/run/boxwright/stage"
DEVICE_STAGE = "/run"  # for who mounts nothing before: it is there, and what is on it is the agent's
_OF_THE_HOST = "it is the host kernel's, and the container has a kernel of its own"
_JOINED = "a namespace of the host cannot be joined from another kernel"


def refuse(config: "Config") -> None:
    """Raise UnsupportedError for the first property that a container on another kernel cannot honour."""
    process, linux, hooks = config.process, config.linux, config.hooks
    if process is not None:
        if process.apparmor_profile:
            raise UnsupportedError(process.at("apparmorProfile"), BOX, "the profile is the host kernel's")
        if process.selinux_label:
            raise UnsupportedError(process.at("selinuxLabel"), BOX, "the policy is the host kernel's")
    if hooks is not None and hooks.create_container:
        why = "its program is the host's and its namespaces are the guest's"
        raise UnsupportedError("/hooks/createContainer", BOX, why, hint="use createRuntime or startContainer")
    if linux is not None:
        _refuse_linux(linux)


def _refuse_linux(linux: "Linux") -> None:
    for namespace in linux.namespaces:
        if namespace.path and namespace.type != "network":
            raise UnsupportedError(namespace.at("path"), BOX, _JOINED)
    for value, name in ((linux.intel_rdt, "intelRdt"), (linux.net_devices, "netDevices")):
        if value:
            raise UnsupportedError(linux.at(name), BOX, _OF_THE_HOST)
    if linux.seccomp is not None and linux.seccomp.listener_path and uses_notify(linux.seccomp):
        why = "the listener's descriptor cannot leave the guest"
        raise UnsupportedError(linux.seccomp.at("listenerPath"), BOX, why)
    if linux.mount_label:
        raise UnsupportedError(linux.at("mountLabel"), BOX, "the policy is the host kernel's")
    if linux.resources is not None:
        refuse_resources(linux.resources)


def refuse_resources(resources: "Resources") -> None:
    for field, name in (("network", "network"), ("rdma", "rdma"), ("hugepage_limits", "hugepageLimits")):
        if getattr(resources, field):
            raise UnsupportedError(resources.at(name), BOX, _OF_THE_HOST)


def guest_config(config: "Config", umask: int = 0) -> "Config":
    """What the guest is to do of a configuration whose paths are the guest's already (`shares`), for a caller with
    that umask.
    """
    linux, process = config.linux, config.process
    return config.replace(
        process=process and with_umask(process, umask),
        hooks=_hooks(config.hooks),
        linux=linux and _linux(linux),
        vm=None,
    )


def with_umask(process: "Process", umask: int) -> "Process":
    """The process with the umask of the caller, which a process on the same kernel would inherit."""
    user = process.user
    return process if user.umask is not None else process.replace(user=user.replace(umask=umask))


def _hooks(hooks: "Hooks | None") -> "Hooks | None":
    """Those that run in the container; the jail has the others."""
    if hooks is None or not hooks.start_container:
        return None
    return type(hooks)(start_container=hooks.start_container, pointer=hooks.pointer)


def _linux(linux: "Linux") -> "Linux":
    return linux.replace(
        namespaces=tuple(namespace for namespace in linux.namespaces if _is_guests(namespace)),
        uid_mappings=(),
        gid_mappings=(),
        cgroups_path=GROUP,
        resources=linux.resources and guest_resources(linux.resources),
    )


def _is_guests(namespace: "Namespace") -> bool:
    """One of the network stays out where the guest's network is the container's."""
    return namespace.type != "user" and not (namespace.type == "network" and namespace.path)


def guest_resources(resources: "Resources") -> "Resources":
    """What the guest limits: not the disks nor which CPUs of the host are used, which the jail does."""
    return resources.replace(block_io=None, cpu=resources.cpu and _cpu(resources.cpu))


def _cpu(cpu: "CPU") -> "CPU":
    """The CPUs and memory nodes are those of the host: they hold for the whole machine."""
    return cpu.replace(cpus=None, mems=None)


def guest_facts(hello: "Mapping[str, str]") -> HostFacts:
    """The facts of a guest that has told them."""
    controllers = tuple(hello.get("controllers", "").split())
    layout = CgroupLayout("v2", (Hierarchy(2, controllers, "/sys/fs/cgroup", "/"),))
    return HostFacts(euid=0, egid=0, privileged=True, cgroups=layout, last_capability=_number(hello, "last_cap", 40))


def guest_site() -> CgroupSite:
    """What its control groups look like before: there are none."""
    return CgroupSite(io_weight="io.weight")


def guest_root(
    path: str, *, overlay: bool, size_bytes: int, device: str = "", branches: "Branches | None" = None
) -> RootSource:
    """The container's root, which is mounted in the guest at `path`, or is on a block device there.

    It may be a mount that the guest makes when somebody goes through it (virtiofs), and an overlay does not go there
    by itself: so the name of its lower layer leads through.
    """
    if device:
        return RootSource("/", DEVICE_STAGE, (), size_bytes, device=device)
    if branches is not None:
        whole, links, bound = branches
        names = (*(name for name, _ in whole), *bound)
        return RootSource(path, STAGE, (), size_bytes, links=links, binds=names)
    return RootSource(path, STAGE, (f"{path}/.",), size_bytes) if overlay else RootSource(path)


def _number(hello: "Mapping[str, str]", name: str, default: int) -> int:
    text = hello.get(name, "")
    return int(text) if text.isdigit() else default
