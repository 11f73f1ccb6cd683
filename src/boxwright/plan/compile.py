"""compile(Config, HostFacts, Request) -> Plan: the whole of a create, as data."""

from boxwright.errors import UnsupportedError
from boxwright.plan import cgroups, ops
from boxwright.plan.builder import Builder
from boxwright.plan.cgroup_layout import CgroupEntry
from boxwright.plan.mounts import INIT_SYSTEM_ANNOTATION, Mounts
from boxwright.plan.namespaces import CLONE_FLAGS, compile_clone, find, hidden_from_birth, is_new, open_proc
from boxwright.plan.process import ProcessSteps
from boxwright.plan.request import UPCALL_NET_DEVICES, UPCALL_NOTED, UPCALL_SYSTEMD_UNIT
from boxwright.plan.rootfs import O_RDWR, Rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from boxwright.plan.ops import Plan
    from boxwright.plan.request import HostFacts, Request
    from boxwright.spec.types import Config, Hook

KEEP_GROUPS_ANNOTATION = "run.oci.keep_original_groups"
HOOKS_ANCHOR = "config.md#configHooks"
SYSCTL_ANCHOR = "config-linux.md#configLinuxSysctl"


def compile_create(config: "Config", facts: "HostFacts", request: "Request") -> "Plan":
    """The plan of a create (with `request.gate`) or a run. Pure. Raises ConfigError and UnsupportedError."""
    return _Create(config, facts, request).compile()


class _Create:
    def __init__(self, config: "Config", facts: "HostFacts", request: "Request") -> None:
        self._config = config
        self._facts = facts
        self._request = request
        names = ("gate",) * request.gate + ("console",) * request.console + ("seccomp",) * request.listener
        names += ("lifeline",) * request.lifeline
        self._b = Builder(names)
        self._linux = config.linux
        hooks = config.hooks
        self._init_system = config.annotations.get(INIT_SYSTEM_ANNOTATION) == "true"
        joined = find(config.linux, "cgroup")
        self._joins_cgroup = joined is not None and bool(joined.path)
        self._runtime_hooks = bool(hooks and (hooks.prestart or hooks.create_runtime))

    def compile(self) -> "Plan":
        b = self._b
        b.add(ops.OUTER, ops.DieWithParent())  # or it makes what a `delete` meanwhile has removed
        rootfs = Rootfs(b, self._config, self._facts, self._request)
        if not rootfs.own_mounts:
            self._refuse_mounts()
        mounts = Mounts(b, self._config, self._facts, self._request, rootfs.slot)
        proc = open_proc(b)
        process = None
        if self._config.process is not None:
            process = ProcessSteps(b, self._config.process, self._linux, self._facts, proc)
            process.own_stdio = self._request.own_stdio
            process.keep_groups = self._config.annotations.get(KEEP_GROUPS_ANNOTATION) == "1"
        entry = self._groups()
        mounts.compile_sources()
        rootfs.compile_sources()
        compile_clone(b, self._config, self._facts, proc, entry.clone_slot)
        self._outer_after_clone(process)
        self._arrive(entry, rootfs)
        rootfs.compile_entry()
        mounts.compile()
        if rootfs.own_mounts:
            rootfs.compile_devices()
        rootfs.compile_console()
        rootfs.compile_cwd()
        self._sysctls(proc)
        self._hooks_before_pivot()
        rootfs.compile_walls(mounts)
        rootfs.compile_pivot()
        self._program(process)
        return b.build()

    def _refuse_mounts(self) -> None:
        """Without a mount namespace whatever is mounted for the container would be the host's, and stay there."""
        root, linux = self._config.root, self._linux
        for wanted, pointer in (
            (self._config.mounts, "/mounts"),
            (linux and linux.masked_paths, "/linux/maskedPaths"),
            (linux and linux.readonly_paths, "/linux/readonlyPaths"),
            (root and root.readonly, "/root/readonly"),
            (self._request.root.stage, "/root"),
        ):
            if wanted:
                why = "the container has no mount namespace, so it would be mounted on the host"
                raise UnsupportedError(pointer, "linux", why, hint='add {"type": "mount"} to linux.namespaces')

    def _groups(self) -> "CgroupEntry":
        """Make the cgroups, and find out how the init enters them."""
        b, request = self._b, self._request
        steps = cgroups.compile_create(self._config, self._facts.cgroups, request.placement, request.site)
        b.extend(ops.OUTER, steps)
        if request.placement.driver != "cgroupfs":
            return CgroupEntry((), ops.NO_SLOT, (), b.next_slot)
        entry = cgroups.compile_enter(request.placement, b.next_slot)
        b.reserve(entry.next_slot)
        b.extend(ops.OUTER, entry.opens)
        return entry.replace(clone_slot=ops.NO_SLOT) if self._joins_cgroup else entry

    def _outer_after_clone(self, process: "ProcessSteps | None") -> None:
        b = self._b
        request, layout = self._request, self._facts.cgroups
        if self._joins_cgroup and request.placement.driver == "cgroupfs":
            # who has joined a cgroup namespace cannot clone into a group outside of it (nsdelegate)
            unified = request.placement.unified()
            if unified is not None:
                b.add(ops.OUTER, ops.WriteChildPid(f"{unified.path}/cgroup.procs"), "", cgroups.ANCHOR)
        if self._init_system:
            b.add(ops.OUTER, ops.Await(ops.INIT))  # it is in its groups: once they are another's it may not enter
            b.extend(ops.OUTER, cgroups.give_to_init(self._config, request.placement))
        if not request.placement.groups:
            # nobody could find the init by its groups: it goes on once its pid is written down
            b.add(ops.OUTER, ops.Upcall(UPCALL_NOTED))
        if request.placement.driver == "systemd":
            steps = cgroups.compile_attach(self._config, layout, request.placement, request.site, UPCALL_SYSTEMD_UNIT)
            b.extend(ops.OUTER, steps)
        if process is not None:
            process.compile_outer(scored=hidden_from_birth(self._linux, self._facts))
        if self._linux is not None and self._linux.net_devices:
            anchor = "config-linux.md#configLinuxNetworkDevices"
            b.add(ops.OUTER, ops.Upcall(UPCALL_NET_DEVICES), "/linux/netDevices", anchor)
        if self._linux is not None and self._linux.intel_rdt is not None:
            from boxwright.plan.resctrl import ResctrlSite, compile_groups

            site = request.resctrl or ResctrlSite(self._facts.resctrl)
            b.extend(ops.OUTER, compile_groups(self._linux.intel_rdt, site, request.container_id))
        b.add(ops.OUTER, ops.Post(ops.INIT))

    def _arrive(self, entry: CgroupEntry, rootfs: Rootfs) -> None:
        """The init's first steps: alone in its namespaces, before any file of the container is touched."""
        b, linux = self._b, self._linux
        b.add(ops.INIT, ops.DieWithParent())
        b.extend(ops.INIT, entry.enters)  # before the user changes: the groups are the runtime's
        if self._init_system:
            b.add(ops.INIT, ops.Post(ops.OUTER))
        b.add(ops.INIT, ops.Await(ops.OUTER))
        rootfs.compile_stage()
        if linux is not None and any(n.type == "user" for n in linux.namespaces):
            b.add(ops.INIT, ops.BecomeRoot(), "/linux/uidMappings")
        b.add(ops.INIT, ops.SetDumpable(0))
        b.add(ops.INIT, ops.NewSession())
        if is_new(linux, "cgroup"):
            op = ops.Unshare(CLONE_FLAGS["cgroup"])
            b.add(ops.INIT, op, "/linux/namespaces", "config-linux.md#configLinuxNamespaces", about="cgroup namespace")
        if self._request.new_keyring:
            b.add(ops.INIT, ops.NewKeyring(), soft=True)
        if self._config.hostname:
            b.add(ops.INIT, ops.SetHostname(self._config.hostname), "/hostname", "config.md#configHostname")
        if self._config.domainname:
            b.add(ops.INIT, ops.SetDomainname(self._config.domainname), "/domainname", "config.md#configDomainname")
        if is_new(linux, "network"):
            b.add(ops.INIT, ops.LoopbackUp(), "/linux/namespaces", "config-linux.md#configLinuxNamespaces")

    def _sysctls(self, proc: int) -> None:
        if not self._linux or not self._linux.sysctl:
            return
        from boxwright.spec.sysctl import sysctl_path

        for key, value in self._linux.sysctl.items():
            self._b.add(
                ops.INIT,
                ops.WriteAt(proc, f"sys/{sysctl_path(key)}", value.encode()),
                f"/linux/sysctl/{key}",
                SYSCTL_ANCHOR,
            )

    def _hooks_before_pivot(self) -> None:
        b, hooks = self._b, self._config.hooks
        if hooks is None:
            return
        if self._runtime_hooks:
            b.add(ops.INIT, ops.Post(ops.OUTER))
            b.add(ops.OUTER, ops.Await(ops.INIT))
            self._hooks(ops.OUTER, hooks.prestart, "prestart", self._request.state, ops.PID_OF_CHILD)
            self._hooks(ops.OUTER, hooks.create_runtime, "createRuntime", self._request.state, ops.PID_OF_CHILD)
            b.add(ops.OUTER, ops.Post(ops.INIT))
            b.add(ops.INIT, ops.Await(ops.OUTER))
        self._hooks(ops.INIT, hooks.create_container, "createContainer", self._request.state, ops.PID_OF_SELF)

    def _hooks(self, actor: int, hooks: "Sequence[Hook]", kind: str, state: tuple[str, str], pid_of: int) -> None:
        for hook in hooks:
            timeout_ms = (hook.timeout or 0) * 1000
            argv = tuple(hook.args) or (hook.path,)
            env = tuple(hook.env) or self._request.environment
            op = ops.RunHook(hook.path, argv, env, timeout_ms, state, pid_of)
            self._b.add(actor, op, hook.pointer, HOOKS_ANCHOR, about=kind)

    def _program(self, process: "ProcessSteps | None") -> None:
        b, request = self._b, self._request
        if process is not None and not request.idle:
            process.compile_program()
        b.add(ops.INIT, ops.Ready(), "", "runtime.md#runtimeCreate")
        if request.bound and not request.gate:
            b.add(ops.INIT, ops.DieWithParent())
        if request.gate:
            b.add(ops.INIT, ops.Gate(b.inherited("gate")), "", "runtime.md#runtimeStart")
        if self._config.hooks is not None:
            hooks = self._config.hooks.start_container
            self._hooks(ops.INIT, hooks, "startContainer", request.created_state, ops.PID_OF_SELF)
        if request.idle:
            null = b.slot()
            b.add(ops.INIT, ops.Open(null, "/dev/null", O_RDWR))
            if is_new(self._linux, "user") and not self._facts.privileged:
                # else only the host's root could join it; its capabilities keep the box's programs from tracing it
                b.add(ops.INIT, ops.SetDumpable(1))
            b.add(ops.INIT, ops.Idle(null, b.inherited("lifeline")))
        elif process is not None:
            process.compile_attributes()
            process.compile_identity(request.seccomp, b.inherited("seccomp"), request.listener_state)
            process.compile_exec()
