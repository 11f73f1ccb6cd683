"""The walls of a box: what it has of its own, what it shares with the host, and what crosses."""

from boxwright._record import Record
from boxwright.plan import ops
from boxwright.plan.mounts import clean_path, fold
from boxwright.plan.namespaces import find
from boxwright.plan.phrases import capability_words, limit_word
from boxwright.spec.constants import MOUNT_ATTR_RDONLY, NAMESPACES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.plan.ops import Plan
    from boxwright.spec.types import Config, Device, DeviceCgroup, Linux, Mount, Process

OWN, JOINED, SHARED = "own", "joined", "shared with the host"
_WHAT_IS_SHARED = {
    "user": "ids are the host's ids",
    "mount": "mounts are the host's mounts",
    "pid": "the host's processes are seen, and those of its user can be signalled",
    "network": "interfaces, ports and abstract sockets are the host's",
    "ipc": "System V objects and message queues are the host's",
    "uts": "host name is the host's",
    "cgroup": "its place among the host's control groups is seen",
    "time": "monotonic clocks are the host's",
}
_DEFAULT_DEVICES = "null zero full random urandom tty"
# capabilities with which root in the host's user namespace is root of the host
_MIGHTY = ("CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_BPF")
_SOCKETS = ("docker.sock", "containerd.sock", "podman.sock", "crio.sock")
_WIDE = ("/", "/etc", "/root", "/home", "/var", "/usr", "/boot", "/dev", "/proc", "/sys", "/run")
_SHARED_PROPAGATION = 1 << 20


class NamespaceRow(Record):
    """One type of namespace: `state` is OWN, JOINED or SHARED, `detail` says which or what that means."""

    type: str
    state: str
    detail: str
    pointer: str


class MountRow(Record):
    """One mount: `crossing` if it shows files of the host, `writable` if the box can change what it shows, `partly` if
    it can change only what is mounted below the source.
    """

    destination: str
    source: str
    type: str
    options: str
    crossing: bool
    writable: bool
    partly: bool
    pointer: str


class Fact(Record):
    """A name and a value, from a line of config.json."""

    name: str
    value: str
    pointer: str = ""


class Walls(Record):
    """All that stands between the program and the host, and all that goes through."""

    namespaces: tuple[NamespaceRow, ...]
    mounts: tuple[MountRow, ...]
    devices: tuple[Fact, ...]
    network: tuple[Fact, ...]
    capabilities: tuple[Fact, ...]
    seccomp: tuple[Fact, ...]
    labels: tuple[Fact, ...]
    limits: tuple[Fact, ...]
    hooks: tuple[Fact, ...]
    hidden: tuple[Fact, ...]
    concerns: tuple[str, ...]
    machine: tuple[Fact, ...] = ()  # what stands around a kernel of its own; empty on the host's


def walls_of(plan: "Plan", config: "Config") -> Walls:
    """What the configuration and its plan put around the program."""
    linux, process = config.linux, config.process
    namespaces = tuple(_namespaces(linux))
    mounts = tuple(_mount(mount) for mount in config.mounts)
    devices = tuple(_devices(config))
    capabilities = tuple(_capabilities(plan))
    seccomp = tuple(_seccomp(linux))
    shared = {row.type for row in namespaces if row.state == SHARED}
    return Walls(
        namespaces=namespaces,
        mounts=mounts,
        devices=devices,
        network=tuple(_network(linux)),
        capabilities=capabilities,
        seccomp=seccomp,
        labels=tuple(_labels(process, linux)),
        limits=tuple(_limits(process, linux)),
        hooks=tuple(_hooks(config)),
        hidden=tuple(_hidden(linux)),
        concerns=tuple(_concerns(config, shared, mounts, bool(seccomp))),
    )


def walls_of_machine(plan: "Plan", config: "Config", machine: tuple[Fact, ...]) -> Walls:
    """The walls of a container on a kernel of its own, whose plan is performed there."""
    walls = walls_of(plan, config)
    namespaces = tuple(
        row if row.state == OWN or (row.type == "network" and row.state == JOINED) else _of_machine(row)
        for row in walls.namespaces
    )
    concerns = (*_privilege_concerns(config), *_mount_concerns(walls.mounts))
    # where the network leads is a fact of the machine
    return walls.replace(namespaces=namespaces, machine=machine, concerns=concerns, network=())


def _of_machine(row: NamespaceRow) -> NamespaceRow:
    return row.replace(state=OWN, detail="the machine's: another kernel than the host's")


# --- rows -------------------------------------------------------------------------------------------------------


def _namespaces(linux: "Linux | None") -> "Iterator[NamespaceRow]":
    for kind in NAMESPACES:
        entry = find(linux, kind)
        if entry is None:
            yield NamespaceRow(kind, SHARED, _WHAT_IS_SHARED[kind], "")
        elif entry.path:
            yield NamespaceRow(kind, JOINED, entry.path, entry.pointer)
        else:
            yield NamespaceRow(kind, OWN, _map_words(linux) if kind == "user" else "", entry.pointer)


def _map_words(linux: "Linux | None") -> str:
    mappings = linux.uid_mappings if linux else ()
    shown = [f"{m.container_id}-{m.container_id + m.size - 1} are {m.host_id} and up" for m in mappings]
    return f"uids {', '.join(shown)}" if shown else ""


def _mount(mount: "Mount") -> MountRow:
    options = fold(mount.options)
    crossing = bool(options.bind)
    readonly = bool((options.attr_set | options.rec_set) & MOUNT_ATTR_RDONLY)
    whole = options.bind == 1 or bool(options.rec_set & MOUNT_ATTR_RDONLY)
    return MountRow(
        destination=clean_path(mount.destination),
        source=mount.source or "",
        type="bind" if crossing else str(mount.type or ""),
        options=",".join(mount.options),
        crossing=crossing,
        writable=crossing and not readonly,
        partly=crossing and readonly and not whole,
        pointer=mount.pointer,
    )


def _devices(config: "Config") -> "Iterator[Fact]":
    linux = config.linux
    yield Fact("default", _DEFAULT_DEVICES)
    for device in linux.devices if linux else ():
        yield Fact(device.path, _device_words(device), device.pointer)
    for rule in linux.resources.devices if linux and linux.resources else ():
        yield Fact("allow" if rule.allow else "deny", _rule_words(rule), rule.pointer)


def _device_words(device: "Device") -> str:
    return device.type if device.type == "p" else f"{device.type} {device.major}:{device.minor}"


def _rule_words(rule: "DeviceCgroup") -> str:
    kind = rule.type or "a"
    numbers = ":".join("*" if number is None or number == -1 else str(number) for number in (rule.major, rule.minor))
    return f"{'all' if kind == 'a' else kind} {numbers} {rule.access or 'rwm'}"


def _network(linux: "Linux | None") -> "Iterator[Fact]":
    entry = find(linux, "network")
    if entry is None:
        yield Fact("network", "the host's")
    elif entry.path:
        yield Fact("network", f"joined: {entry.path}", entry.pointer)
    else:
        yield Fact("network", "its own, with the loopback interface", entry.pointer)
    for name, device in (linux.net_devices if linux else {}).items():
        inside = f"as {device.name}" if device.name else "moved in"
        yield Fact(name, inside, device.pointer)


def _capabilities(plan: "Plan") -> "Iterator[Fact]":
    pointer = "/process/capabilities"
    for step in plan.init:
        if isinstance(step.op, ops.BoundCaps):
            yield Fact("bounding", capability_words(step.op.keep), f"{pointer}/bounding")
        elif isinstance(step.op, ops.SetCaps):
            for name in ("effective", "permitted", "inheritable", "ambient"):
                yield Fact(name, capability_words(getattr(step.op, name)), f"{pointer}/{name}")


def _seccomp(linux: "Linux | None") -> "Iterator[Fact]":
    section = linux.seccomp if linux else None
    if section is None:
        return
    yield Fact("otherwise", section.default_action, section.at("defaultAction"))
    by_action: dict[str, set[str]] = {}
    for rule in section.syscalls:
        by_action.setdefault(rule.action, set()).update(rule.names)
    for action, names in sorted(by_action.items()):
        conditional = sum(bool(rule.args) for rule in section.syscalls if rule.action == action)
        extra = f", by their arguments in {conditional} of the rules" if conditional else ""
        count = f"{len(names)} system call{'s' * (len(names) != 1)}"
        yield Fact(action, f"{count}{extra}", section.at("syscalls"))
    if section.listener_path:
        yield Fact("listener", section.listener_path, section.at("listenerPath"))


def _labels(process: "Process | None", linux: "Linux | None") -> "Iterator[Fact]":
    if process and process.no_new_privileges:
        yield Fact("no new privileges", "execve grants nothing", process.at("noNewPrivileges"))
    if process and process.apparmor_profile:
        yield Fact("AppArmor", process.apparmor_profile, process.at("apparmorProfile"))
    if process and process.selinux_label:
        yield Fact("SELinux", process.selinux_label, process.at("selinuxLabel"))
    if linux and linux.mount_label:
        yield Fact("SELinux of mounts", linux.mount_label, linux.at("mountLabel"))


def _limits(process: "Process | None", linux: "Linux | None") -> "Iterator[Fact]":
    from boxwright.plan.limits import resource_limits

    if linux is not None and linux.resources is not None:
        for name, value, pointer in resource_limits(linux.resources):
            yield Fact(name, value, pointer)
    for limit in process.rlimits if process else ():
        unlimited = (1 << 64) - 1
        soft, hard = (limit_word(-1 if number == unlimited else number) for number in (limit.soft, limit.hard))
        yield Fact(limit.type, soft if soft == hard else f"{soft}, at most {hard}", limit.pointer)


def _hooks(config: "Config") -> "Iterator[Fact]":
    from boxwright.spec.constants import HOOK_KINDS
    from boxwright.spec.names import to_python

    for kind in HOOK_KINDS:
        for hook in getattr(config.hooks, to_python(kind)) if config.hooks else ():
            where = "in the box" if kind == "startContainer" else "on the host"
            yield Fact(kind, f"{hook.path}, {where}", hook.pointer)


def _hidden(linux: "Linux | None") -> "Iterator[Fact]":
    for name, paths in (("maskedPaths", linux.masked_paths), ("readonlyPaths", linux.readonly_paths)) if linux else ():
        for index, path in enumerate(paths):
            yield Fact("masked" if name == "maskedPaths" else "read-only", path, f"/linux/{name}/{index}")


# --- what to think about ----------------------------------------------------------------------------------------


def _concerns(config: "Config", shared: set[str], mounts: tuple[MountRow, ...], seccomp: bool) -> "Iterator[str]":
    process = config.process
    kept = process.capabilities.bounding or () if process and process.capabilities else ()
    mighty = [name for name in _MIGHTY if name in kept]
    for kind in ("mount", "pid", "network", "ipc"):
        if kind in shared:
            yield f"no {kind} namespace: {_WHAT_IS_SHARED[kind]}"
    if mighty and "user" in shared:
        yield f"{', '.join(mighty)} without a user namespace is as good as root on the host"
    if not seccomp:
        yield "no seccomp filter: every system call of the host's kernel can be tried"
    yield from _privilege_concerns(config)
    yield from _mount_concerns(mounts)
    yield from _resource_concerns(config)


def _privilege_concerns(config: "Config") -> "Iterator[str]":
    if config.process is not None and not config.process.no_new_privileges:
        yield "noNewPrivileges is off: set-user-id programs in the box gain privileges there"


def _mount_concerns(mounts: tuple[MountRow, ...]) -> "Iterator[str]":
    for row in mounts:
        if row.source.endswith(_SOCKETS):
            yield f"`{row.source}` lets the box command a container engine of the host"
        elif row.writable and row.source in _WIDE:
            yield f"the box can write to `{row.source}` of the host (at `{row.destination}`)"
        if row.partly:
            yield f"read-only holds for `{row.source}` itself, not for what is mounted below it: `rro` makes it hold"
        if row.crossing and any(word in row.options.split(",") for word in ("shared", "rshared")):
            yield f"mounts made below `{row.destination}` in the box appear on the host"


def _resource_concerns(config: "Config") -> "Iterator[str]":
    resources = config.linux.resources if config.linux else None
    if resources is None or resources.memory is None or not resources.memory.limit:
        yield "no memory limit: the box can use all of the host's memory"
    if resources is None or resources.pids is None or resources.pids.limit is None:
        yield "no limit of processes: a fork bomb in the box reaches the host"
