"""checkpoint and restore: a running container to files and back, by CRIU (not operations of the standard)."""

import os

from boxwright.errors import BoxwrightError, HostError, StateError, UnsupportedError
from boxwright.host import criu
from boxwright.host import facts as host_facts
from boxwright.host.cgroup_probe import inspect
from boxwright.host.cgroups import main_group
from boxwright.host.spawn import Helper
from boxwright.plan import cgroups, ops
from boxwright.plan.cgroup_layout import CGROUPFS
from boxwright.plan.criu import Outside, mount_sources, outside_mounts
from boxwright.plan.namespaces import find
from boxwright.runtime.containers import PAUSED, RUNNING, Container
from boxwright.runtime.create import Creation, creation_for
from boxwright.runtime.criu_command import DUMP_LOG, RESTORE_LOG, dump_command, restore_command
from boxwright.runtime.delete import remove, remove_ours
from boxwright.runtime.documents import root_path
from boxwright.runtime.following import Follower
from boxwright.runtime.options import CreateOptions
from boxwright.runtime.start import run_poststart
from boxwright.runtime.watchers import announce
from boxwright.spec.jsontext import encode_json, parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.plan.request import HostFacts
    from boxwright.runtime.checkpoint_options import CheckpointOptions, CriuOptions, RestoreOptions
    from boxwright.runtime.context import Runtime
    from boxwright.spec.types import Config

# what we keep beside CRIU's images
_OUTSIDE = "boxwright.json"


_ANOTHER_KERNEL = "CRIU knows the processes of this kernel, and the container's are another's"


def checkpoint(runtime: "Runtime", container_id: str, options: "CheckpointOptions") -> None:
    """Dump a running container. It is deleted then, unless it is left running.

    Raises UnsupportedError where CRIU is missing or does not work here, or the container has a terminal; StateError
    if the container does not run; BoxwrightError with what CRIU says.
    """
    with Container.find(runtime, container_id) as container:
        status = container.status()
        if status not in {RUNNING, PAUSED}:
            raise StateError(container_id, status, RUNNING)
        if container.in_machine:
            raise UnsupportedError("checkpoint", "vm", _ANOTHER_KERNEL)
        config = container.config()
        _refuse_terminal(config)
        criu.check(options.criu.program)
        _make_directories(options.criu)
        outside = _outside(container, config)
        if not options.pre_dump:
            _keep(options.criu.image_path, outside)
        group = main_group(container.placement)
        command = dump_command(options, container.pid, outside, group.path if group else "")
        inherited = (options.status_fd,) if options.status_fd >= 0 else ()
        criu.run(command, _log(options.criu, DUMP_LOG), inherited)
        if not (options.leave_running or options.pre_dump):
            remove(container)


def _refuse_terminal(config: "Config") -> None:
    if config.process is not None and config.process.terminal:
        why = "CRIU's command line cannot dump a terminal whose other end is outside of the container"
        raise UnsupportedError("checkpoint of process.terminal", "linux", why)


def _make_directories(options: "CriuOptions") -> None:
    for path in (options.image_path, options.work_path):
        if path:
            try:
                os.makedirs(path, 0o700, exist_ok=True)
            except OSError as error:
                raise HostError(f"make the directory `{path}`", error.errno or 0, path=path) from None


def _log(options: "CriuOptions", name: str) -> str:
    return os.path.join(options.work_path or options.image_path, name)


def _outside(container: Container, config: "Config") -> Outside:
    """What the container has from outside of itself."""
    with open(f"/proc/{container.pid}/mountinfo") as file:
        places, inside = outside_mounts(file.read())
    descriptors = tuple(one.external(inside) for one in criu.open_files(container.pid))
    network = find(config.linux, "network")
    joined = os.stat(f"/proc/{container.pid}/ns/net").st_ino if network is not None and network.path else 0
    return Outside(places, descriptors, joined)


def _keep(directory: str, outside: Outside) -> None:
    document = {
        "mounts": list(outside.mounts),
        "descriptors": list(outside.descriptors),
        "network": outside.network,
    }
    path = os.path.join(directory, _OUTSIDE)
    with open(path, "w") as file:
        file.write(encode_json(document))


def _kept(directory: str) -> Outside:
    path = os.path.join(directory, _OUTSIDE)
    try:
        with open(path, "rb") as file:
            found = parse_json(file.read(), source=path)
    except OSError as error:
        hint = "only what `boxwright checkpoint` dumped can be restored"
        raise HostError(f"read `{path}`", error.errno or 0, path=path, hint=hint) from None
    try:
        return Outside(tuple(found["mounts"]), tuple(found["descriptors"]), int(found["network"]))
    except (KeyError, TypeError, ValueError):
        raise BoxwrightError(f"`{path}` is damaged") from None


# --- restore ----------------------------------------------------------------------------------------------------


def restore(runtime: "Runtime", container_id: str, options: "RestoreOptions") -> int:
    """Make a container of the bundle and put what was dumped into it.

    Returns its exit status, 0 at once if `options.detach`. It runs at once: there is no `start`. Raises as `create`
    and `checkpoint`, and leaves nothing behind then.
    """
    create_options = CreateOptions(options.bundle, pid_file=options.pid_file, no_pivot=options.no_pivot)
    with creation_for(runtime, container_id, create_options) as creation:
        try:
            if creation.box == "vm":
                raise UnsupportedError("restore", "vm", _ANOTHER_KERNEL)
            outside = _kept(options.criu.image_path)
            _refuse_restore(creation.config)
            criu.check(options.criu.program)
            _restore(creation, options, outside)
            announce(create_options, creation.container.pid)
            run_poststart(creation.container, creation.config)
        except BaseException as error:
            creation.fail(error)
            raise
        if options.detach:
            return 0
        creation.container.unlock()
        return _follow(creation.container)


def _refuse_restore(config: "Config") -> None:
    _refuse_terminal(config)
    hooks = config.hooks
    if hooks is not None and (
        hooks.prestart or hooks.create_runtime or hooks.create_container or hooks.start_container
    ):
        why = "hooks that run before the program cannot run in a container that is restored"
        raise UnsupportedError("restore with hooks", "linux", why, hint="only poststart and poststop hooks are run")


def _restore(creation: Creation, options: "RestoreOptions", outside: Outside) -> None:
    container, config = creation.container, creation.config
    root = root_path(config, options.bundle)
    _make_groups(creation, host_facts.probe(), root)
    stage = container.path("root")
    os.mkdir(stage, 0o755)
    pid_file = container.path("criu.pid")
    network = find(config.linux, "network")
    network_fd = os.open(network.path, os.O_RDONLY) if outside.network and network and network.path else -1
    try:
        command = restore_command(
            options,
            outside,
            mount_sources(config, options.bundle, outside),
            container.placement,
            root=stage,
            pid_file=pid_file,
            network_fd=network_fd,
        )
        log = _log(options.criu, RESTORE_LOG)
        criu.run_on_root(command, log, root, stage, (network_fd,) if network_fd >= 0 else ())
    finally:
        if network_fd >= 0:
            os.close(network_fd)
    with open(pid_file) as file:
        creation.note_pid(int(file.read()))
    container.publish()


def _make_groups(creation: Creation, facts: "HostFacts", root: str) -> None:
    """The container's cgroups with their limits; CRIU puts the processes into them."""
    config, container = creation.config, creation.container
    placement = cgroups.place(config, facts.cgroups, container.id, creation.runtime.cgroup_driver)
    if placement.driver not in {CGROUPFS, "none"}:
        raise UnsupportedError("restore", "linux", "only the cgroupfs driver can make groups before there is a process")
    placement, site = inspect(config, facts.cgroups, placement)
    creation.record(placement, root)
    steps = cgroups.compile_create(config, facts.cgroups, placement, site)
    helper = Helper(ops.Plan((*steps, ops.Step(ops.Ready())), (), (), (), 0), ())
    try:
        Follower(creation.runtime, helper, config).until_ready()
    finally:
        helper.finish()


def _follow(container: Container) -> int:
    from boxwright.runtime.foreground import Foreground

    try:
        with Foreground(terminal=False) as foreground:
            return foreground.follow(container.pid)
    finally:
        remove_ours(container)
