"""create: the environment of a container, with its program waiting at the gate (runtime.md#runtimeCreate)."""

import os
from _socket import socket
from time import gmtime, strftime, time_ns

from boxwright.boxes.require import isolation_of
from boxwright.errors import HookError
from boxwright.host import facts as host_facts
from boxwright.host.cgroup_probe import inspect
from boxwright.host.cgroups import destroy, kill_all
from boxwright.host.processes import kill_and_wait, start_time
from boxwright.host.spawn import Helper
from boxwright.plan.cgroups import place
from boxwright.plan.compile import compile_create
from boxwright.plan.namespaces import is_new
from boxwright.plan.request import Request, RootSource
from boxwright.plan.seccomp_flags import uses_notify
from boxwright.runtime.containers import CREATED, CREATING, Container, state_document
from boxwright.runtime.documents import (
    checked,
    filter_program,
    hook_kinds,
    listen_fds,
    read_document,
    require_holder,
    root_path,
    with_listen_fds,
)
from boxwright.runtime.making import Making
from boxwright.runtime.state_texts import around_pid, listener_state
from boxwright.runtime.stop import run_poststop
from boxwright.runtime.watchers import announce, connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from boxwright.host.spawn import EncodedPlan
    from boxwright.plan.cgroup_layout import CgroupPlacement, CgroupSite
    from boxwright.plan.ops import Plan
    from boxwright.plan.request import HostFacts
    from boxwright.plan.resctrl import ResctrlSite
    from boxwright.runtime.context import Runtime
    from boxwright.runtime.following import Outcome
    from boxwright.runtime.notify import NotifyProxy
    from boxwright.runtime.options import CreateOptions
    from boxwright.spec.types import Config


def create(runtime: "Runtime", container_id: str, options: "CreateOptions") -> int:
    """Create a container from a bundle; its program waits for `start`. Returns the init's pid.

    Raises ConfigError, UnsupportedError, ExistsError, UsageError, HostError or HookError, and leaves nothing behind
    then.
    """
    with creation_for(runtime, container_id, options) as creation:
        require_holder(creation.config, options)
        return creation.create().pid


def creation_for(
    runtime: "Runtime", container_id: str, options: "CreateOptions", document: bytes | None = None
) -> "Creation":
    """The creation of the kind of box that the configuration (of the bundle, or the `document` given) asks for."""
    if document is None:
        document = read_document(options)
    config = checked(runtime, document)
    if isolation_of(config, runtime.isolation) == "vm":
        from boxwright.runtime.vm.create import MachineCreation

        return MachineCreation(runtime, container_id, options, document, config)
    return Creation(runtime, container_id, options, document, config)


class Creation:
    """One create or run under way. What it made is undone if it fails."""

    box = "linux"

    def __init__(
        self, runtime: "Runtime", container_id: str, options: "CreateOptions", document: bytes, config: "Config"
    ) -> None:
        """Take the id for a container of this `config`, which was checked, and is what the `document` says."""
        self.runtime = runtime
        self.options = options
        self._document = document
        self.config = with_listen_fds(config)
        self.preserve_fds = options.preserve_fds + listen_fds()
        self._root: RootSource | None = None
        self.templated = False  # the id is one that `templates` can put in place of another
        self.default_seccomp: tuple[str, ...] | None = None  # the default profile for these capabilities
        self.stdio: tuple[int, ...] = ()  # borrowed descriptors for the program's 0 to 2, ours if empty
        self.idle = False  # hold the box without a program
        self.notify: NotifyProxy | None = None  # for who starts the program
        self.lifeline = -1  # borrowed read end of a pipe: an idle box ends with its other end
        self.bound = False  # the box is not to outlive us: its program dies with this thread
        self.container = Container.make(runtime, container_id)
        self.container.keep_config(self.config)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: object, *_exc: object) -> None:
        if kind is not None and not self.container.facts:
            self.container.forget()  # it failed before anything was begun
        if self.notify is not None:
            self.notify.close()
        self.container.unlock()

    def overlay(self, root: str, size_bytes: int = 0, *, mapped: bool = False) -> None:
        """Use a private overlay over the directory `root`, kept in memory, as the root filesystem.

        With `mapped` its files belong to whom they would without the container's user namespace.
        """
        stage = self.container.path("root")
        os.mkdir(stage, 0o755)
        if is_new(self.config.linux, "user"):
            # root of the box is somebody else here, and has to get to the stage; the files beside it stay closed
            os.chmod(self.runtime.root, 0o711)
            os.chmod(self.container.directory, 0o711)
        self._root = RootSource(root, stage, (root,), size_bytes, mapped)
        if root == "/" and not host_facts.is_privileged():
            from boxwright.host.subids import branches

            overlays, links, binds = branches(root)
            self._root = self._root.replace(branches=overlays, links=links, binds=binds)

    def create(self) -> "Outcome":
        """As far as the gate."""
        return self._guarded(gate=True)

    def execute(self) -> "Outcome":
        """As far as the program's execution, without a gate."""
        return self._guarded(gate=False)

    def _guarded(self, *, gate: bool) -> "Outcome":
        try:
            making = self._begin(gate=gate)
            with making:
                outcome = making.follow()
            announce(self.options, outcome.pid)
        except BaseException as error:
            self.fail(error)
            raise
        return outcome

    def check_end(self, status: int) -> None:
        """Look at how it ended, with this exit status: whether that is the program's own. Raises GuestError."""

    def fail(self, error: BaseException) -> None:
        """Undo what was made. Where a hook failed, the poststop hooks run too (runtime.md#runtimeLifecycle)."""
        undo(self.container, self.config if isinstance(error, HookError) else None)

    def begin(self, *, gate: bool = False) -> Making:
        """Start making it, for who follows the helper himself. What fails is undone."""
        try:
            return self._begin(gate=gate)
        except BaseException as error:
            self.fail(error)
            raise

    def _begin(self, *, gate: bool) -> Making:
        if self.options.notify_socket:
            self._open_notify(gate=gate)
        facts = host_facts.probe_for(self.config)
        placement = place(self.config, facts.cgroups, self.container.id, self.runtime.cgroup_driver)
        placement, site = inspect(self.config, facts.cgroups, placement)
        root = self._root or RootSource(root_path(self.config, self.options.bundle))
        resctrl = self._resctrl(facts)
        self.record(placement, root.path)

        def compile_it() -> "Plan":
            request = self._request(placement, site, root, gate=gate)
            return compile_create(self.config, facts, request.replace(resctrl=resctrl) if resctrl else request)

        plan = self._templated(facts, placement, site, root, gate, compile_it) if self._alike() else compile_it()
        sockets = self._sockets(plan.inherited)
        try:
            inherited = [sock.fileno() for sock in sockets]
            if self.lifeline >= 0:
                inherited.append(self.lifeline)
            helper = Helper(plan, inherited, self.preserve_fds, self.stdio)
        finally:
            for sock in sockets:
                sock.close()
        return Making(self, helper, gate=gate)

    def _open_notify(self, *, gate: bool) -> None:
        """Give the program a socket for sd_notify(3). Behind a gate it is `start` that binds it."""
        from boxwright.runtime import notify

        notify.make_directory(self.container)
        self.config = notify.with_notify(self.config, self.container)
        if not gate:
            self.notify = notify.NotifyProxy(self.container, self.options.notify_socket)

    def _alike(self) -> bool:
        """Whether nothing but the id tells this container's plan from that of another of its configuration."""
        linux = self.config.linux
        return (
            self.templated
            and self.config.hooks is None
            and linux is not None
            and linux.intel_rdt is None
            and (linux.seccomp is None or not linux.seccomp.listener_path)
        )

    def _templated(
        self,
        facts: "HostFacts",
        placement: "CgroupPlacement",
        site: "CgroupSite",
        root: RootSource,
        gate: bool,
        compile_it: "Callable[[], Plan]",
    ) -> "EncodedPlan":
        from boxwright.runtime.templates import key_for, plan_for

        options, container_id = self.options, self.container.id
        how = (gate, bool(options.console_socket), options.no_pivot, options.no_new_keyring, self.preserve_fds)
        box = (self.idle, self.lifeline >= 0, self.bound, self.default_seccomp, options.bundle)
        key = key_for(container_id, facts, placement, root, self._document, site, how, box)
        return plan_for(key, container_id, facts, compile_it)

    def _resctrl(self, facts: "HostFacts") -> "ResctrlSite | None":
        """Look at the classes of cache and memory bandwidth, and write down which directories will be ours."""
        rdt = self.config.linux.intel_rdt if self.config.linux else None
        if rdt is None:
            return None
        from boxwright.host.resctrl import inspect as inspect_resctrl
        from boxwright.host.resctrl import mount_point
        from boxwright.plan.resctrl import plan_groups

        site = inspect_resctrl(rdt, self.container.id, facts.resctrl or mount_point())
        groups = plan_groups(rdt, site, self.container.id)
        named = {"joined": list(groups.joined), "made": list(groups.made), "owned": list(groups.owned)}
        self.container.facts["resctrl"] = named
        return site

    def record(self, placement: "CgroupPlacement", root: str) -> None:
        """Write down what is about to be made, before it is: whoever finds us dead can clean up by it."""
        container, maker = self.container, os.getpid()
        container.write_config(self._document)
        container.keep_config(self.config)
        container.write(
            ociVersion=self.config.oci_version,
            id=container.id,
            bundle=self.options.bundle,
            rootfs=root,
            created=_timestamp(),
            owner=str(os.geteuid()),
            annotations=dict(self.config.annotations),
            process=self.config.process is not None,
            hooks=hook_kinds(self.config),
            cgroups=placement.to_json(),
            defaultSeccomp=self.default_seccomp,
            how={
                "console": bool(self.options.console_socket),
                "noPivot": self.options.no_pivot,
                "newKeyring": not self.options.no_new_keyring,
                "preserveFds": self.preserve_fds,
            },
            maker=maker,
            makerStart=start_time(maker),
            bound=self.bound,
        )

    def _request(self, placement: "CgroupPlacement", site: "CgroupSite", root: RootSource, *, gate: bool) -> Request:
        config, options = self.config, self.options
        state = around_pid(state_document(self.container, CREATING, 1))
        seccomp = config.linux.seccomp if config.linux else None
        # listenerPath says nothing where SCMP_ACT_NOTIFY is not used
        notify = seccomp is not None and seccomp.listener_path and uses_notify(seccomp)
        listening = listener_state(seccomp, state) if seccomp and notify else ()
        return Request(
            container_id=self.container.id,
            bundle=options.bundle,
            root=root,
            placement=placement,
            site=site,
            state=state,
            created_state=around_pid(state_document(self.container, CREATED, 1)),
            environment=tuple(f"{name}={value}" for name, value in os.environ.items()) if config.hooks else (),
            seccomp=filter_program(self.runtime, config, self.default_seccomp, remark=True),
            gate=gate,
            console=bool(options.console_socket),
            listener=bool(listening),
            listener_state=listening,
            preserve_fds=self.preserve_fds,
            no_pivot=options.no_pivot,
            new_keyring=not options.no_new_keyring,
            idle=self.idle,
            lifeline=self.lifeline >= 0,
            bound=self.bound and not self.idle,
        )

    def _sockets(self, names: tuple[str, ...]) -> "list[socket]":
        made: list[socket] = []
        for name in names:
            if name == "gate":
                made.append(self.container.open_gate())
            elif name == "console":
                made.append(connect(self.options.console_socket, "console socket"))
            elif name == "seccomp":
                seccomp = self.config.linux.seccomp if self.config.linux else None
                path = seccomp.listener_path if seccomp else ""
                made.append(connect(path or "", "seccomp listener", "/linux/seccomp/listenerPath"))
        return made

    def note_pid(self, pid: int) -> None:
        """Write down the init, so that it is found whatever becomes of us. It is no container's process yet."""
        self.container.note(pid=pid, pidStart=start_time(pid))


def undo(container: Container, hooked: "Config | None") -> None:
    """Leave nothing of a create that failed. With `hooked` (a hook failed) the poststop hooks run."""
    if container.pid:
        kill_and_wait(container.pid, container.started_at)
    kill_all(container.placement)
    destroy(container.placement)
    if made := container.resctrl("made"):
        from boxwright.host.resctrl import remove_unused

        remove_unused(made)
    if container.facts.get("network"):
        from boxwright.runtime.vm.network import release

        release(container)
    container.forget()
    if hooked is not None:
        run_poststop(container, hooked)


def _timestamp() -> str:
    now_ns = time_ns()
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(now_ns // 10**9)) + f".{now_ns % 10**9:09d}Z"
