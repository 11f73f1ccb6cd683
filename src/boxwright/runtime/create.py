"""create: the environment of a container, with its program waiting at the gate (runtime.md#runtimeCreate)."""

import os
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket
from time import gmtime, strftime, time_ns

from boxwright.boxes.require import require
from boxwright.errors import BoxwrightError, ConfigError, HookError, HostError, Problem, UsageError
from boxwright.host import facts as host_facts
from boxwright.host.cgroup_probe import inspect
from boxwright.host.cgroups import destroy, kill_all
from boxwright.host.processes import kill_and_wait, kill_child, start_time
from boxwright.host.seccomp_cache import default_program, program_for
from boxwright.host.spawn import Helper
from boxwright.plan.cgroups import place
from boxwright.plan.compile import compile_create
from boxwright.plan.namespaces import is_new
from boxwright.plan.request import Request, RootSource
from boxwright.plan.seccomp_flags import uses_notify
from boxwright.runtime.containers import CREATED, CREATING, Container, state_document
from boxwright.runtime.following import Follower, Outcome
from boxwright.runtime.stop import run_poststop
from boxwright.runtime.upcalls import Upcalls
from boxwright.spec.decode import decode
from boxwright.spec.jsontext import encode_json
from boxwright.spec.validate import refuse, validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Self

    from boxwright.host.spawn import EncodedPlan
    from boxwright.plan.cgroup_layout import CgroupPlacement, CgroupSite
    from boxwright.plan.ops import Plan
    from boxwright.plan.request import HostFacts
    from boxwright.plan.resctrl import ResctrlSite
    from boxwright.runtime.context import Runtime
    from boxwright.runtime.notify import NotifyProxy
    from boxwright.runtime.options import CreateOptions, ExecOptions
    from boxwright.spec.types import Config, Seccomp

_PID_MARK = "@pid@"
_MOST_KNOWN = 64
_known: "dict[bytes, tuple[Config, tuple[str, ...]]]" = {}  # documents that were checked before


def create(runtime: "Runtime", container_id: str, options: "CreateOptions") -> int:
    """Create a container from a bundle; its program waits for `start`. Returns the init's pid.

    Raises ConfigError, UnsupportedError, ExistsError, UsageError, HostError or HookError, and leaves nothing behind
    then.
    """
    with Creation(runtime, container_id, options) as creation:
        require_holder(creation.config, options)
        return creation.create().pid


def require_holder(config: "Config", options: "CreateOptions") -> None:
    """Raise UsageError for a terminal whose master would be closed as soon as we are gone."""
    if config.process is not None and config.process.terminal and not options.console_socket:
        raise UsageError("nobody would hold the terminal of a detached container", hint="use --console-socket")


class Creation:
    """One create or run under way. What it made is undone if it fails."""

    def __init__(
        self, runtime: "Runtime", container_id: str, options: "CreateOptions", document: bytes | None = None
    ) -> None:
        """Load and check the configuration (of the bundle, or the `document` given) and take the id."""
        self.runtime = runtime
        self.options = options
        self._document = _read_config(options) if document is None else document
        self.config = with_listen_fds(_checked(runtime, self._document))
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

    def create(self) -> Outcome:
        """As far as the gate."""
        return self._guarded(gate=True)

    def execute(self) -> Outcome:
        """As far as the program's execution, without a gate."""
        return self._guarded(gate=False)

    def _guarded(self, *, gate: bool) -> Outcome:
        try:
            making = self._begin(gate=gate)
            with making:
                outcome = making.follow()
            announce(self.options, outcome.pid)
        except BaseException as error:
            self.fail(error)
            raise
        return outcome

    def fail(self, error: BaseException) -> None:
        """Undo what was made. Where a hook failed, the poststop hooks run too (runtime.md#runtimeLifecycle)."""
        undo(self.container, self.config if isinstance(error, HookError) else None)

    def begin(self, *, gate: bool = False) -> "Making":
        """Start making it, for who follows the helper himself. What fails is undone."""
        try:
            return self._begin(gate=gate)
        except BaseException as error:
            self.fail(error)
            raise

    def _begin(self, *, gate: bool) -> "Making":
        if self.options.notify_socket:
            self._open_notify(gate=gate)
        facts = host_facts.probe()
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
        state = _around_pid(state_document(self.container, CREATING, 1))
        seccomp = config.linux.seccomp if config.linux else None
        # listenerPath says nothing where SCMP_ACT_NOTIFY is not used
        notify = seccomp is not None and seccomp.listener_path and uses_notify(seccomp)
        listener_state = _listener_state(seccomp, state) if seccomp and notify else ()
        return Request(
            container_id=self.container.id,
            bundle=options.bundle,
            root=root,
            placement=placement,
            site=site,
            state=state,
            created_state=_around_pid(state_document(self.container, CREATED, 1)),
            environment=tuple(f"{name}={value}" for name, value in os.environ.items()) if config.hooks else (),
            seccomp=filter_program(self.runtime, config, self.default_seccomp),
            gate=gate,
            console=bool(options.console_socket),
            listener=bool(listener_state),
            listener_state=listener_state,
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
        """Write down the init, so that it is found whatever becomes of us."""
        self.container.write(pid=pid, pidStart=start_time(pid))


class Making:
    """A helper at work for a creation. Left, it is finished with."""

    def __init__(self, creation: Creation, helper: Helper, *, gate: bool) -> None:
        self._runtime = creation.runtime
        self._creation = creation
        self._helper = helper
        self._gate = gate
        self._upcalls = Upcalls(creation.config, creation.container.placement)
        self._follower = Follower(
            creation.runtime, helper, creation.config, on_pid=creation.note_pid, upcall=self._upcalls
        )

    def fileno(self) -> int:
        """Readable when `step` would not block."""
        return self._helper.socket.fileno()

    def step(self) -> Outcome | None:
        """Take one report: the outcome once it is known. Raises what the helper reports."""
        try:
            return self._follower.step(gate=self._gate)
        except BoxwrightError as error:
            raise self._upcalls.error or error from None

    def follow(self) -> Outcome:
        """Take reports until the outcome is known."""
        while (outcome := self.step()) is None:
            continue
        return outcome

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: "type[BaseException] | None", *_exc: object) -> None:
        if kind is not None:
            self._take_back()
            self._helper.abort()
            self._follower.drop()
            if self._helper.pid and not self._creation.container.pid:
                kill_child(self._helper.pid)  # it was cloned, and nobody had heard of it yet
        self._upcalls.close()
        self._helper.finish()

    def _take_back(self) -> None:
        """A device of the host is not lost with a container that could not be made."""
        try:
            self._upcalls.undo()
        except BoxwrightError as error:
            self._runtime.warn(error.message)


def hook_kinds(config: "Config") -> list[str]:
    """The kinds of hooks it has that are run after create, by those who need not know the configuration otherwise."""
    hooks = config.hooks
    return [kind for kind in ("poststart", "poststop") if hooks is not None and getattr(hooks, kind)]


def filter_program(runtime: "Runtime", config: "Config", default: "Sequence[str] | None") -> bytes:
    """The BPF program of the configuration's seccomp section, or of the default profile; empty for no filter."""
    section = config.linux.seccomp if config.linux else None
    if section is not None:
        return program_for(section, runtime.cache)
    if default is not None:
        return default_program(tuple(default), runtime.cache)
    return b""


def undo(container: Container, hooked: "Config | None") -> None:
    """Leave nothing of a create that failed. With `hooked` (a hook failed) the poststop hooks run."""
    if container.pid:
        kill_and_wait(container.pid, container.started_at)
    kill_all(container.placement)
    destroy(container.placement)
    if made := container.resctrl("made"):
        from boxwright.host.resctrl import remove_unused

        remove_unused(made)
    container.forget()
    if hooked is not None:
        run_poststop(container, hooked)


def _read_config(options: "CreateOptions") -> bytes:
    path = options.config_path or os.path.join(options.bundle, "config.json")
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError as error:
        hint = "a bundle is a directory with a config.json; `boxwright spec` writes one" if error.errno == 2 else None
        raise HostError(f"read `{path}`", error.errno or 0, path=path, hint=hint) from None


def _checked(runtime: "Runtime", document: bytes) -> "Config":
    known = _known.get(document)
    if known is None:
        config = decode(document)
        warnings = tuple(str(problem) for problem in refuse(validate(config)))
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        known = _known[document] = (config, warnings)
    for warning in known[1]:
        runtime.warn(warning)
    require(known[0])
    return known[0]


def root_path(config: "Config", bundle: str) -> str:
    """The directory of the root file system. Raises ConfigError if there is none."""
    if config.root is None:
        raise ConfigError([Problem("/root", "is required on this platform", "config.md#configRoot")])
    path = os.path.realpath(os.path.join(bundle, config.root.path))
    if not os.path.isdir(path):
        rule = "must be an existing directory"
        raise ConfigError([Problem("/root/path", rule, "config.md#configRoot", value=config.root.path)])
    return path


def _around_pid(document: "dict[str, Any]") -> tuple[str, str]:
    """The text of a state before and after the pid, for the helper to put in the one that is right at that place."""
    before, _, after = encode_json({**document, "pid": _PID_MARK}).partition(f'"{_PID_MARK}"')
    return before, after


def _listener_state(seccomp: "Seccomp", state: tuple[str, str]) -> tuple[str, str, str]:
    """The container process state that goes with a notify descriptor (config-linux.md#containerprocessstate)."""
    head = {"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": _PID_MARK, "metadata": seccomp.listener_metadata or ""}
    before, after = _around_pid(head)
    return before, f'{after[:-1]},"state":{state[0]}', f"{state[1]}}}"


def listen_fds() -> int:
    """How many descriptors from 3 on systemd handed us for the container (sd_listen_fds(3))."""
    count, owner = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_PID", "")
    if not count.isdigit() or (owner and owner != str(os.getpid())):
        return 0
    return int(count)


def with_listen_fds(config: "Config") -> "Config":
    """The configuration with the variables by which the program finds the descriptors."""
    count = listen_fds()
    if not count or config.process is None:
        return config
    env = (*config.process.env, f"LISTEN_FDS={count}", "LISTEN_PID=1")
    return config.replace(process=config.process.replace(env=env))


def connect(path: str, what: str, pointer: str = "") -> socket:
    """A connected stream socket to `path`. Raises HostError."""
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise HostError(f"connect to the {what} `{path}`", error.errno or 22, path=path, pointer=pointer) from None
    return sock


def announce(options: "CreateOptions | ExecOptions", pid: int) -> None:
    """Write the pid file and send the pidfd, for whoever watches the process."""
    if options.pid_file:
        try:
            _write_pid_file(options.pid_file, pid)
        except OSError as error:
            raise HostError(f"write the pid file `{options.pid_file}`", error.errno or 0) from None
    if options.pidfd_socket:
        pidfd, sock = os.pidfd_open(pid), connect(options.pidfd_socket, "pidfd socket")
        try:
            sock.sendmsg([b"pidfd"], [(SOL_SOCKET, SCM_RIGHTS, pidfd.to_bytes(4, "little"))])
        finally:
            sock.close()
            os.close(pidfd)


def _write_pid_file(path: str, pid: int) -> None:
    """Renamed into place. In a directory of everybody's nobody can have put a link where it is written to."""
    directory, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(directory, f".{name}.{os.urandom(4).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, str(pid).encode())
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)


def _timestamp() -> str:
    now_ns = time_ns()
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(now_ns // 10**9)) + f".{now_ns % 10**9:09d}Z"
