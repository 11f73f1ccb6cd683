"""QEMU's command line for a machine. Pure: it opens nothing and asks nobody.

Under emulation `microvm` has no timer that the kernel could calibrate its time stamp counter by, and would wait for
ever: it is told the frequency, which is the host's. Firmware is always qboot, which does nothing but load the kernel.
"""

from boxwright.boxes.vm.machine import (
    KVM,
    MEBIBYTE,
    MICROVM,
    NO_FD,
    NO_NETWORK,
    PORT_NAME,
    Q35,
    TAP,
    TCG,
    USER_NETWORK,
)
from boxwright.boxes.vm.network import GUEST_NETWORK
from boxwright.errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.boxes.vm.machine import Disk, MachineSpec, Network, Share

FIRMWARE = "qboot.rom"
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
# virtio-mmio transports of microvm; one is the port's, one the random numbers'
MICROVM_DEVICES = 8
# what an emulated machine's translated code may take of the host's memory; QEMU's own bound is a gigabyte
TRANSLATED_MEBIBYTES = 128
_FORMATS = {"raw": "raw", "qcow2": "qcow2", "vdi": "vdi", "vmdk": "vmdk", "vhd": "vpc"}
_CPUS = {KVM: "host", TCG: "max"}
_ACCELERATORS = {KVM: "kvm", TCG: f"tcg,tb-size={TRANSLATED_MEBIBYTES}"}
_FIRST_DESCRIPTOR_SET = 1
_CONSOLE_SET = 1000
# self-tests and tracing that are a fifth of an emulated boot, and nothing a container could notice
_FASTER = ("cryptomgr.notests", "initcall_blacklist=init_kprobe_trace,crypto_kdf108_init", "rcupdate.rcu_expedited=1")


def qemu_argv(spec: "MachineSpec", program: str) -> tuple[str, ...]:
    """The words of the command. Raises UnsupportedError where such a machine cannot be."""
    bus = "device" if machine_of(spec) == MICROVM else "pci"
    return (
        program,
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-sandbox", SANDBOX),
        *_board(spec),
        *("-bios", FIRMWARE),
        *_start(spec),
        *_control(spec),
        *_port(spec, bus),
        *(word for index, disk in enumerate(spec.disks) for word in _disk(index, disk, bus)),
        *(word for index, share in enumerate(spec.shares) for word in _share(index, share, bus)),
        *_network(spec.network, bus),
        *(("-device", f"virtio-balloon-{bus},free-page-reporting=on") if spec.balloon else ()),
    )


def machine_of(spec: "MachineSpec") -> str:
    """The type of machine: the wanted one, but one with a PCI bus where microvm has no room for the devices."""
    return Q35 if device_count(spec) > MICROVM_DEVICES else spec.machine


def device_count(spec: "MachineSpec") -> int:
    """How many virtio devices the machine has: the port's controller, disks, shares, network, balloon."""
    return 1 + len(spec.disks) + len(spec.shares) + (spec.network.kind != NO_NETWORK) + spec.balloon


def kernel_parameters(spec: "MachineSpec") -> tuple[str, ...]:
    """The kernel's command line, word by word: what the machine needs, then what config.json wants."""
    words = ["console=ttyS0" if spec.console_fd != NO_FD else "console=", "quiet", "panic=-1", *_FASTER]
    if machine_of(spec) == MICROVM:
        words += ["pci=off", "tsc=reliable", "no_timer_check"]
        if spec.accel == TCG:
            words.append(f"tsc_early_khz={spec.tsc_khz}")
    return (*words, *spec.parameters)


def _start(spec: "MachineSpec") -> tuple[str, ...]:
    """A kernel to boot; or nothing, where one is in the memory that is to come."""
    if spec.incoming:
        return ("-incoming", "defer")
    return ("-kernel", spec.kernel, "-initrd", spec.initrd, "-append", " ".join(kernel_parameters(spec)))


def _board(spec: "MachineSpec") -> "Iterator[str]":
    """Machine, processors, memory. Shared memory is what virtiofsd needs to see the guest's buffers."""
    machine = machine_of(spec)
    if machine == MICROVM and spec.accel == TCG and not spec.tsc_khz:
        why = "the frequency of the host's time stamp counter is not known, and an emulated one cannot do without"
        raise UnsupportedError("vm.hypervisor.parameters machine=microvm", "vm", why)
    options = [machine, "dump-guest-core=off", f"mem-merge={'on' if spec.mem_merge else 'off'}"]
    if machine == MICROVM:
        options.append(f"isa-serial={'on' if spec.console_fd != NO_FD else 'off'}")
        # virtio 0.9 is this bus's default, which no vhost-user daemon speaks
        yield from ("-global", "virtio-mmio.force-legacy=false")
    mebibytes = spec.memory_bytes // MEBIBYTE
    backend = _memory_backend(spec)
    if backend:
        options.append("memory-backend=m0")
        yield from ("-object", f"{backend},id=m0,size={mebibytes}M")
    yield from (
        "-machine",
        ",".join(options),
        "-accel",
        _ACCELERATORS[spec.accel],
        "-cpu",
        spec.cpu or _CPUS[spec.accel],
    )
    yield from ("-smp", str(spec.vcpus), "-m", f"{mebibytes}M")


def _memory_backend(spec: "MachineSpec") -> str:
    """Where the memory is, empty for QEMU's own."""
    if spec.memory_file is None:
        return "memory-backend-memfd,share=on" if spec.shares else ""
    shared = "on" if spec.memory_file.shared else "off"
    readonly = ",readonly=on,rom=off" if spec.memory_file.readonly else ""
    return f"memory-backend-file,mem-path={_escaped(spec.memory_file.path)},share={shared}{readonly}"


def _control(spec: "MachineSpec") -> "Iterator[str]":
    """The monitor, for whoever connects; the console, which is written only."""
    if spec.qmp_fd != NO_FD:
        yield from ("-chardev", f"socket,id=qmp,fd={spec.qmp_fd},server=on,wait=off")
        yield from ("-mon", "chardev=qmp,mode=control")
    if spec.orders_fd != NO_FD:
        yield from ("-chardev", f"socket,id=orders,fd={spec.orders_fd}", "-mon", "chardev=orders,mode=control")
    if spec.console_fd != NO_FD:
        yield from ("-add-fd", f"fd={spec.console_fd},set={_CONSOLE_SET}")
        yield from ("-chardev", f"file,id=console,path=/dev/fdset/{_CONSOLE_SET}", "-serial", "chardev:console")


def _port(spec: "MachineSpec", bus: str) -> "Iterator[str]":
    yield from ("-device", f"virtio-serial-{bus},max_ports=2", "-chardev", f"socket,id=port,fd={spec.port_fd}")
    yield from ("-device", f"virtserialport,chardev=port,name={PORT_NAME}")


def _disk(index: int, disk: "Disk", bus: str) -> "Iterator[str]":
    """A disk by descriptor or path. What a qcow2 file names as the one behind it is not opened."""
    path = disk.path
    if disk.fd != NO_FD:
        yield from ("-add-fd", f"fd={disk.fd},set={_FIRST_DESCRIPTOR_SET + index}")
        path = f"/dev/fdset/{_FIRST_DESCRIPTOR_SET + index}"
    access = "read-only=on" if disk.readonly else "read-only=off,discard=unmap"
    file = f"file,node-name=f{index},filename={_escaped(path)},{access}"
    yield from ("-blockdev", f"driver={file}")
    behind = ",backing=" if disk.format == "qcow2" else ""
    kind = _FORMATS[disk.format]
    yield from ("-blockdev", f"driver={kind},node-name=d{index},file=f{index},{access}{behind}")
    serial = f",serial={_escaped(disk.serial)}" if disk.serial else ""
    yield from ("-device", f"virtio-blk-{bus},drive=d{index}{serial}")


def _share(index: int, share: "Share", bus: str) -> "Iterator[str]":
    yield from ("-chardev", f"socket,id=fs{index},fd={share.fd}")
    yield from ("-device", f"vhost-user-fs-{bus},chardev=fs{index},tag={_escaped(share.tag)}")


def _network(network: "Network", bus: str) -> "Iterator[str]":
    if network.kind == NO_NETWORK:
        return
    forwards = "".join(f",hostfwd={protocol}::{port}-:{inner}" for protocol, port, inner in network.forwards)
    user = f"user,id=n0,ipv6=off,net={GUEST_NETWORK}{forwards}"
    backends = {USER_NETWORK: user, TAP: f"tap,id=n0,fd={network.fd},vhost=off"}
    mac = f",mac={network.mac}" if network.mac else ""
    rom = ",romfile=" if bus == "pci" else ""
    yield from ("-netdev", backends[network.kind], "-device", f"virtio-net-{bus},netdev=n0{mac}{rom}")


def _escaped(value: str) -> str:
    """A value in a list of QEMU's: a comma is written twice."""
    return value.replace(",", ",,")
