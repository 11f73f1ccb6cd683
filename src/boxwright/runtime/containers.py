"""The state store: one directory a container, written atomically, locked by flock(2), never half-made.

<root>/<id>/state.json    what is known of it; renamed into place
<root>/<id>/.state.json   what it will be; while the container is made, with the pid that nobody is to count on yet
<root>/<id>/config.json   the configuration as it was at create
<root>/<id>/gate          the socket on which the init waits for `start`
"""

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket
from fcntl import LOCK_EX, flock

from boxwright.errors import BoxwrightError, ExistsError, HostError, NotFoundError, UsageError
from boxwright.host.processes import is_helper, start_time
from boxwright.plan.cgroup_layout import CgroupPlacement
from boxwright.spec.jsontext import encode_json, parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from boxwright.runtime.context import Runtime
    from boxwright.spec.types import Config

CREATING, CREATED, RUNNING, PAUSED, STOPPED = "creating", "created", "running", "paused", "stopped"
_ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_ID_MAX = 1024


def validate_id(container_id: str) -> str:
    """The id, if it is one: letters, digits and `_+-.`, not beginning with a dot. Raises UsageError."""
    if not container_id:
        raise UsageError("a container id is needed")
    if container_id[0] == "." or not _ID_LETTERS.issuperset(container_id) or len(container_id) > _ID_MAX:
        raise UsageError(
            f"`{container_id[:80]}` is no container id", hint="letters, digits and _ + - . are allowed, a dot not first"
        )
    return container_id


class Container:
    """One container's directory and what its state file says."""

    def __init__(self, runtime: "Runtime", container_id: str) -> None:
        self.runtime = runtime
        self.id = container_id
        self.directory = os.path.join(runtime.root, container_id)
        self.facts: dict[str, Any] = {}
        self._unmade = False  # as far as could be read
        self._lock = -1
        self._config: Config | None = None
        self._placed: tuple[object, CgroupPlacement] | None = None

    # --- making, finding, forgetting ---

    @classmethod
    def make(cls, runtime: "Runtime", container_id: str) -> "Self":
        """Take the id. Raises ExistsError, UsageError, HostError. The container is locked."""
        runtime.prepare()
        made = cls(runtime, validate_id(container_id))
        try:
            os.mkdir(made.directory, 0o700)
        except FileExistsError:
            raise ExistsError(container_id) from None
        except OSError as error:
            what = f"make the state directory `{made.directory}`"
            raise HostError(what, error.errno or 0, path=made.directory) from None
        made.lock()
        return made

    @classmethod
    def find(cls, runtime: "Runtime", container_id: str) -> "Self":
        """The container of that id, with its state read. Raises NotFoundError, UsageError."""
        found = cls(runtime, validate_id(container_id))
        if not os.path.isdir(found.directory):
            raise NotFoundError(container_id)
        found.read()
        return found

    @classmethod
    def every(cls, runtime: "Runtime") -> "list[Self]":
        """All containers of the runtime, by name."""
        try:
            names = sorted(os.listdir(runtime.root))
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            try:
                found.append(cls.find(runtime, name))
            except (NotFoundError, UsageError):
                continue  # deleted meanwhile, or no container's directory
        return found

    def lock(self) -> None:
        """Hold the container against other operations until `unlock`."""
        try:
            self._lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFoundError(self.id) from None
        flock(self._lock, LOCK_EX)
        if not self._is_locked():
            self.unlock()
            raise NotFoundError(self.id)

    def _is_locked(self) -> bool:
        """Whether what is locked is still there: it may have been deleted while we waited, and the id used again."""
        try:
            return os.path.samestat(os.stat(self.directory), os.fstat(self._lock))
        except FileNotFoundError:
            return False

    def unlock(self) -> None:
        """Let others go on."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def exists(self) -> bool:
        """Whether its directory is there."""
        return os.path.isdir(self.directory)

    def __enter__(self) -> "Self":
        if self._lock < 0:
            self.lock()
            self.read()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.unlock()

    def forget(self) -> None:
        """Remove the directory with all in it; no error if it is gone."""
        try:
            with os.scandir(self.directory) as found:
                entries = list(found)
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _remove_directory(entry.path)
            else:
                os.unlink(entry.path)
        os.rmdir(self.directory)

    # --- files ---

    def path(self, name: str) -> str:
        """A path in the container's directory."""
        return os.path.join(self.directory, name)

    def read(self) -> None:
        """Read the state file; a container without one was left half-made and knows only its id."""
        self.facts = self._read("state.json")
        self._unmade = not self.pid
        if self._unmade:
            self._read_unmade()

    def _read_unmade(self) -> None:
        """What its maker has noted of it for now, unless it has been made meanwhile."""
        noted = self._read_noted()
        self.facts = self._read("state.json")
        self._unmade = not self.pid
        if self._unmade and noted.get("pid"):
            self.facts = noted

    def _read(self, name: str) -> "dict[str, Any]":
        try:
            with open(self.path(name), "rb") as file:
                facts = parse_json(file.read())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise BoxwrightError(f"the state of container `{self.id}` is damaged: {error}") from None
        return facts if isinstance(facts, dict) else {}

    def _read_noted(self) -> "dict[str, Any]":
        try:
            return self._read(".state.json")
        except BoxwrightError:
            return {}  # it is being written

    def write(self, **changes: object) -> None:
        """Write the state file with these facts changed, atomically."""
        self.note(**changes)
        self.publish()

    def note(self, **changes: object) -> None:
        """Change these facts and write them down, for whoever finds us dead; `publish` is to follow."""
        self.facts.update(changes)
        _write(self.path(".state.json"), encode_json(self.facts).encode())

    def publish(self) -> None:
        """Let what was noted be the state."""
        os.rename(self.path(".state.json"), self.path("state.json"))

    def write_file(self, name: str, data: bytes) -> None:
        """Write a file of the container's directory by renaming it into place."""
        temporary = self.path(f".{name}")
        _write(temporary, data)
        os.rename(temporary, self.path(name))

    def write_config(self, data: bytes) -> None:
        """Write the configuration into a directory without a state file yet: nobody looks at it before there is one."""
        _write(self.path("config.json"), data)

    def config(self) -> "Config":
        """The configuration as it was at create."""
        if self._config is None:
            from boxwright.spec.decode import decode

            with open(self.path("config.json"), "rb") as file:
                self._config = decode(file.read())
        return self._config

    def keep_config(self, config: "Config") -> None:
        """Take the configuration from who has it, in place of reading it. Limits changed later are not in it."""
        self._config = config

    # --- what it is ---

    @property
    def pid(self) -> int:
        """The init's pid, 0 before there is one."""
        return int(self.facts.get("pid", 0))

    @property
    def started_at(self) -> int:
        """The init's start time, for telling it from a later process of the same pid."""
        return int(self.facts.get("pidStart", 0))

    @property
    def placement(self) -> CgroupPlacement:
        """Its cgroups."""
        value = self.facts.get("cgroups")
        if self._placed is None or self._placed[0] is not value:
            self._placed = (value, CgroupPlacement.from_json(value) if value else CgroupPlacement("none"))
        return self._placed[1]

    def resctrl(self, what: str) -> tuple[str, ...]:
        """Its directories of resctrl: those that are `joined`, were `made`, or are `owned` and go with it."""
        return tuple(self.facts.get("resctrl", {}).get(what, ()))

    def has_hooks(self, kind: str) -> bool:
        """Whether the configuration may have hooks of this kind: for who would read it for nothing else."""
        return kind in self.facts.get("hooks", (kind,))

    @property
    def in_machine(self) -> bool:
        """Whether it is in a virtual machine: then its process here is the keeper of that."""
        return self.facts.get("isolation") == "vm"

    def alive(self) -> bool:
        """Whether the init lives. One that had ended before its start time could be noted has none."""
        return bool(self.pid and self.started_at) and start_time(self.pid) == self.started_at

    def maker_lives(self) -> bool:
        """Whether the process that created it is still there."""
        maker = int(self.facts.get("maker", 0))
        return bool(maker) and start_time(maker) == self.facts.get("makerStart")

    def status(self, *, frozen: bool = True) -> str:
        """creating, created, running, paused or stopped (runtime.md#runtimeState)."""
        if self._unmade and self._is_being_made():
            return CREATING
        if not self.alive():
            return STOPPED
        if self.in_machine and "guestPid" not in self.facts:
            return CREATING
        if os.path.lexists(self.path("gate")):
            return CREATED
        if frozen and self._frozen():
            return PAUSED
        return RUNNING

    def _is_being_made(self) -> bool:
        """Whether its maker is at work. What has executed its program is made, though its maker has yet to hear it."""
        if self.maker_lives():
            return not self.pid or is_helper(self.pid)
        self._read_unmade()  # the maker may have ended because all was done
        return False

    def _frozen(self) -> bool:
        from boxwright.host.cgroups import is_frozen

        return is_frozen(self.placement)

    # --- the gate ---

    def open_gate(self) -> socket:
        """The listening socket on which the init will wait. Bound by a short path, whatever the length of ours."""
        gate = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
        gate.bind(self._gate_path())
        gate.listen(1)
        return gate

    def knock(self) -> socket:
        """Connect to the waiting init. Raises OSError if nobody waits."""
        knock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
        try:
            knock.connect(self._gate_path())
        except OSError:
            knock.close()
            raise
        return knock

    def _gate_path(self) -> str:
        return f"/proc/self/fd/{self._lock}/gate"


def _remove_directory(path: str) -> None:
    """One with no more than files in it: the place of an overlay, or of the notify socket."""
    for name in os.listdir(path):
        os.unlink(os.path.join(path, name))
    os.rmdir(path)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def state_document(container: Container, status: str, pid: int) -> "dict[str, Any]":
    """The state as the standard defines it (runtime.md#runtimeState)."""
    facts = container.facts
    document: dict[str, Any] = {
        "ociVersion": facts.get("ociVersion", "1.3.0"),
        "id": container.id,
        "status": status,
    }
    if pid and status != STOPPED:
        document["pid"] = pid
    document["bundle"] = facts.get("bundle", "")
    document["annotations"] = facts.get("annotations", {})
    return document
