"""The network of a machine on the host: what is found or made before it starts, and taken away after it."""

from errno import EINVAL, ENOENT, ESRCH

from boxwright.boxes.vm import network
from boxwright.boxes.vm.machine import NO_NETWORK, TAP, USER_NETWORK, Network
from boxwright.errors import HostError
from boxwright.plan.namespaces import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from boxwright.boxes.vm.network import Interface
    from boxwright.host.wiring import Namespace as Joined
    from boxwright.host.wiring import Wire
    from boxwright.plan.ops import Plan
    from boxwright.runtime.containers import Container
    from boxwright.runtime.vm.uplink import Uplink
    from boxwright.spec.types import Config, Namespace

FACT = "network"
# the namespace went, and the interface with it; a name of it that is left is no namespace any more
_GONE = (ENOENT, ESRCH, EINVAL)


class MachineNetwork:
    """The network of one machine that is being made. `close` what was not handed on."""

    def __init__(self, config: "Config", container: "Container") -> None:
        """Find out what it is to be. Raises ConfigError, HostError and UnsupportedError before anything is made."""
        self._container = container
        self._joined: Joined | None = None
        self._wire: Wire | None = None
        self._interface: Interface | None = None
        self.uplink: Uplink | None = None
        self._published = network.published(config)
        self._kind = network.network_kind(config)
        if self._kind == TAP:
            namespace = find(config.linux, "network")
            assert namespace is not None
            self._look(namespace)
        elif self._kind == USER_NETWORK:
            from boxwright.runtime.vm import uplink

            self._interface = network.user_interface()
            self.uplink = uplink.Uplink(container, self._published)

    def begin(self, pid: int) -> None:
        """Connect the network namespace of the jail, whose init is `pid`. Raises HostError."""
        if self.uplink is not None:
            self.uplink.start(pid)

    def finish(self) -> None:
        """Wait until the machine is connected. Raises HostError."""
        if self.uplink is not None:
            self.uplink.wait()

    def close(self) -> None:
        """Give up what is ours still."""
        if self.uplink is not None:
            self.uplink.close()
        if self._joined is not None:
            self._joined.close()
            self._joined = None

    def device(self, give: "Callable[[int], int]") -> Network:
        """The machine's device; `give` hands a descriptor to the hypervisor and tells its number there. Raises
        HostError.
        """
        if self._interface is None:
            return Network()
        if self._kind == TAP:
            return Network(TAP, give(self._connect()), self._interface.mac)
        assert self.uplink is not None
        give(self.uplink.held())
        return Network(USER_NETWORK, mac=self._interface.mac, forwards=network.forwards(self._published))

    def plan(self) -> "Plan | None":
        """What is to be done in the guest; None where there is no device."""
        return network.guest_plan(self._interface) if self._interface else None

    def _look(self, namespace: "Namespace") -> None:
        """Look at the namespace that is joined; what is made there is made later."""
        from boxwright.host.wiring import Namespace as JoinedNamespace

        self._joined = JoinedNamespace(str(namespace.path), namespace.at("path"))
        try:
            wire = self._joined.look()
        except BaseException:
            self.close()
            raise
        if wire is None:
            self._kind = NO_NETWORK
            self.close()
            return
        self._wire = wire
        self._interface = _interface(wire, namespace)

    def _connect(self) -> int:
        """The tap, connected. From then on there is something to take away."""
        joined, wire = self._joined, self._wire
        assert joined is not None
        assert wire is not None
        fd = joined.connect(wire)
        fact = {"path": joined.path, "identity": list(joined.identity), "interface": wire.interface}
        self._container.facts[FACT] = fact
        self.close()
        return fd


def looked_at(config: "Config") -> "Interface | None":
    """What the guest's device would be; nothing is made. Raises what making it would."""
    network.published(config)
    kind = network.network_kind(config)
    if kind != TAP:
        return network.user_interface() if kind == USER_NETWORK else None
    from boxwright.host.wiring import Namespace as JoinedNamespace

    namespace = find(config.linux, "network")
    assert namespace is not None
    joined = JoinedNamespace(str(namespace.path), namespace.at("path"))
    try:
        wire = joined.look()
    finally:
        joined.close()
    return _interface(wire, namespace) if wire else None


def _interface(wire: "Wire", namespace: "Namespace") -> "Interface":
    values = (wire.interface, wire.mac, wire.mtu, wire.addresses, wire.routes, wire.neighbours)
    return network.Interface(*values, pointer=namespace.at("path"))


def release(container: "Container") -> None:
    """Take away what was made on the host for the network of a container that has ended."""
    fact = container.facts.get(FACT)
    if not fact:
        return
    if "uplink" in fact:
        from boxwright.host.processes import kill_and_wait, reap

        kill_and_wait(fact["uplink"], fact["started"])
        reap(fact["uplink"])  # it may have ended by itself, with the hypervisor
        return
    from boxwright.host.wiring import Namespace as JoinedNamespace

    try:
        joined = JoinedNamespace(fact["path"], "")
    except HostError as error:
        if error.errno not in _GONE:
            container.runtime.warn(error.message)
        return
    try:
        if list(joined.identity) == fact["identity"]:
            joined.disconnect(fact["interface"])
    finally:
        joined.close()
