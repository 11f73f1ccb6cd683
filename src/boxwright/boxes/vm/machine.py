"""What a machine is made of, whatever hypervisor runs it; and the file that tells the keeper which children to start.

Descriptors are numbers in the process of the hypervisor. Nobody here opens, closes or owns one.
"""

from struct import Struct

from boxwright._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MEBIBYTE = 1 << 20
PORT_NAME = "boxwright"
KVM, TCG = "kvm", "tcg"
MICROVM, Q35 = "microvm", "q35"
NO_NETWORK, USER_NETWORK, TAP = "none", "user", "tap"
NO_FD = -1


class Disk(Record):
    """A block device of the machine, in the order in which they are given /dev/vda, /dev/vdb …

    The file is `fd` if that is not NO_FD, open for reading if `readonly`, else for both; else it is at `path`.
    `format` is a name of config-vm.md.
    """

    fd: int = NO_FD
    path: str = ""
    readonly: bool = False
    format: str = "raw"
    serial: str = ""


class Share(Record):
    """A directory given by virtiofs: the name to mount, and a socket connected to its virtiofsd."""

    tag: str
    fd: int


class Network(Record):
    """How the machine's one network device is connected: not at all, by the hypervisor's own sockets, by a tap.

    `forwards` are, for the hypervisor's own sockets, a protocol, the port to listen at and that of the guest.
    """

    kind: str = NO_NETWORK
    fd: int = NO_FD
    mac: str = ""
    forwards: tuple[tuple[str, int, int], ...] = ()


class MemoryFile(Record):
    """A file that is the machine's memory.

    What the machine writes goes to the file if it is `shared`, else to pages of its own. `readonly` says that the
    file may only be read; not every hypervisor can do with that.
    """

    path: str
    shared: bool = False
    readonly: bool = False


class MachineSpec(Record):
    """A machine to be started.

    `kernel`, `initrd` and the paths of disks are those that the hypervisor sees. `pvh` tells that `kernel` has the
    PVH entry. `parameters` are the kernel's beyond those that a machine needs to run. `port_fd` is a connected stream
    socket, `qmp_fd` a listening one, `console_fd` a file or pipe open for writing only. `tsc_khz` is the frequency of
    the host's time stamp counter, which an emulated machine shows as its own. An `incoming`
    machine boots nothing: it waits for the state of one that was saved. `orders_fd` is a connected
    stream socket with what the hypervisor's monitor is told as soon as it is there.
    """

    memory_bytes: int
    kernel: str
    initrd: str
    port_fd: int
    accel: str = TCG
    vcpus: int = 1
    machine: str = MICROVM
    cpu: str = ""
    pvh: bool = True
    tsc_khz: int = 0
    parameters: tuple[str, ...] = ()
    disks: tuple[Disk, ...] = ()
    shares: tuple[Share, ...] = ()
    network: Network = Network()
    balloon: bool = False
    mem_merge: bool = False
    qmp_fd: int = NO_FD
    console_fd: int = NO_FD
    memory_file: MemoryFile | None = None
    incoming: bool = False
    orders_fd: int = NO_FD


# --- the keeper's file ------------------------------------------------------------------------------------------

MAGIC = b"BXM1"
ENDS_WITH_IT = 1
_NUMBER = Struct("<I").pack
_PAIR = Struct("<II").pack


class Child(Record):
    """A process that the keeper starts: its name in reports, its descriptors as (ours, the child's), its plan encoded.

    The machine ends with a `vital` one.
    """

    name: str
    descriptors: tuple[tuple[int, int], ...]
    plan: bytes
    vital: bool = True


def encode_machine(children: "Iterable[Child]") -> bytes:
    """The MACHINE file of the keeper: all children, in the order to start them."""
    encoded = [_encode_child(child) for child in children]
    return MAGIC + _NUMBER(len(encoded)) + b"".join(encoded)


def _encode_child(child: Child) -> bytes:
    name = child.name.encode()
    parts = [_NUMBER(ENDS_WITH_IT if child.vital else 0), _NUMBER(len(name)), name, b"\0"]
    parts.append(_NUMBER(len(child.descriptors)))
    parts += [_PAIR(ours, theirs) for ours, theirs in child.descriptors]
    parts += [_NUMBER(len(child.plan)), child.plan]
    return b"".join(parts)
