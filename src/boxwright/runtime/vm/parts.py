"""What a machine is put together of before its jail is made: kernel, shared files, sockets, and who gets which."""

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, SOCK_STREAM, socket, socketpair

from boxwright.boxes.vm import jail, templates
from boxwright.boxes.vm.accel import choose, host_tsc_khz
from boxwright.boxes.vm.cache import Cache
from boxwright.boxes.vm.client import CONTROL, listen
from boxwright.boxes.vm.hypervisor import Qemu
from boxwright.boxes.vm.ids import callers_ids, disk_ids, mapped_ids, owners_agree, wanted_ids
from boxwright.boxes.vm.images import DEVICE, image_of
from boxwright.boxes.vm.initramfs import BALLOON, PCI, make_initramfs
from boxwright.boxes.vm.kernels import boot_image, find_kernel
from boxwright.boxes.vm.machine import MICROVM, Q35, Child, Disk, MachineSpec, MemoryFile, Share, encode_machine
from boxwright.boxes.vm.parameters import wanted_of
from boxwright.boxes.vm.shares import JAIL, TAG, make_shares, refuse_kinds, sources
from boxwright.boxes.vm.templates import Restoring
from boxwright.boxes.vm.virtiofsd import CAPABILITIES, command, find_virtiofsd
from boxwright.errors import UnsupportedError
from boxwright.host import facts as host_facts
from boxwright.host.shares import can_be_mapped, modes_of, nobodys_ids
from boxwright.host.spawn import helper_path
from boxwright.host.subids import branches, has_mounts, id_mappings
from boxwright.plan.encode import encode
from boxwright.plan.process import capability_mask
from boxwright.runtime.documents import root_path
from boxwright.runtime.vm.lost import CONSOLE, STATUS
from boxwright.runtime.vm.network import MachineNetwork
from boxwright.runtime.vm.size import machine_memory_bytes, machine_vcpus
from boxwright.spec.types import IDMapping, Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from boxwright.boxes.vm.ids import JailIds
    from boxwright.boxes.vm.shares import Branches
    from boxwright.plan.request import RootSource
    from boxwright.runtime.containers import Container
    from boxwright.spec.types import Config, Linux

CONTROL_FD, PORT_FD, STATUS_FD, MACHINE_FD, FIRST_FD = 3, 4, 5, 6, 7
VIRTIOFSD_FD = 3
KERNEL, INITRD = "/machine/kernel", "/machine/initrd"
QMP = "qmp"
CLIENTS = 64  # that may wait for the keeper to take them
FEATURES = ("mmio", "console", "overlay", "virtiofs", "disk", "erofs", "network")


class Parts:
    """Everything of one machine. `fds` are for the keeper, from 3 on: owned until `close`."""

    def __init__(
        self,
        config: "Config",
        container: "Container",
        bundle: str,
        root: "RootSource | None",
        *,
        overlay: bool,
        lifeline: int = -1,
    ) -> None:
        """Raises HostError and UnsupportedError for what the host lacks, and leaves nothing open then."""
        self.fds: list[int] = []
        self.root_path = root.path if root else root_path(config, bundle)
        self._config = config
        self._container = container
        self._lifeline = lifeline
        self._cache = Cache()
        self.image = self._find_image(bundle, overlay=overlay)
        shared_root = "" if self.image else self.root_path
        wanted = sources(config, shared_root, bundle, overlay=overlay)
        refuse_kinds(modes_of(source.path for source in wanted), wanted)
        self.ids = jail_ids(config.linux, [(source.path, source.mounted) for source in wanted])
        self.branches = self._branches(shared_root) if overlay else None
        self.shares = make_shares(config, shared_root, bundle, self.ids, overlay=overlay, branches=self.branches)
        self.guest = self.shares.config
        self.guest_path = self.shares.root
        self.mounting = self.shares.mounting
        self.network = MachineNetwork(config, container)
        self.restoring: Restoring | None = None
        try:
            self._assemble()
        except BaseException:
            self.close()
            self.network.close()
            self.forget()
            raise

    def close(self) -> None:
        """Give our descriptors back: the keeper has its own."""
        while self.fds:
            fd = self.fds.pop()
            if fd >= 0:
                os.close(fd)

    def fill(self) -> None:
        """Give the hypervisor what it goes on from, once its process is on its way."""
        if self.restoring is not None:
            self.restoring.fill()
            self.forget()

    def forget(self) -> None:
        """Let go of what the machine was to go on from."""
        if self.restoring is not None:
            self.restoring.close()
            self.restoring = None

    @property
    def device(self) -> str:
        """The guest's device that the root is on, empty if it is none."""
        return DEVICE if self.image else ""

    def _branches(self, root: str) -> "Branches | None":
        """The parts to show of a root in which something is mounted, where the caller may not show it without that."""
        if not root or host_facts.is_privileged() or not has_mounts(root):
            return None
        if self._config.root is None or not self._config.root.readonly:
            # it opens files with O_NOATIME, which is for their owner
            why = "an overlay in the guest cannot read what belongs to others without root"
            raise UnsupportedError("root.path", "vm", why, hint="use `--read-only`, or a root filesystem of your own")
        return branches(root)

    def _find_image(self, bundle: str, *, overlay: bool) -> str:
        wanted = wants_image(self._config, self.root_path, bundle, overlay=overlay)
        return image_of(self.root_path, self._cache) if wanted else ""

    def _assemble(self) -> None:
        config, directory = self._config, self._container.directory
        wanted = wanted_of(config.vm)
        kernel = find_kernel(wanted.kernel, wanted.kernel_pointer)
        image = boot_image(kernel, self._cache)
        features = (*FEATURES, *(PCI,) * (wanted.machine == Q35), *(BALLOON,) * wanted.balloon)
        initramfs = make_initramfs(kernel, features, helper_path(), self._cache, wanted.initrd)
        hypervisor = Qemu(wanted.hypervisor, self._cache, "/vm/hypervisor/path")
        accel = choose(hypervisor, image, initramfs.path, self._cache, wanted.accel).accel
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
        control = listen(directory, CONTROL, SOCK_SEQPACKET, CLIENTS)
        self._take(control.detach(), ours.detach(), self._new(STATUS), -1)
        self._numbers = [MACHINE_FD, CONTROL_FD, PORT_FD, STATUS_FD]
        if self._lifeline >= 0:
            self._numbers.append(len(self.fds) + 3)
            self._take(os.dup(self._lifeline))
        machine: list[tuple[int, int]] = []

        def give(fd: int) -> int:
            """Hand a descriptor to the hypervisor; its number there."""
            machine.append((len(self.fds) + 3, 3 + len(machine)))
            self.fds.append(fd)
            return machine[-1][1]

        children = []
        share: tuple[Share, ...] = ()
        if self.shares.mounting is not None:
            listening, connected = _vhost_user(directory)
            number = len(self.fds) + 3
            self.fds.append(listening)
            argv = command(find_virtiofsd(self._cache), JAIL, VIRTIOFSD_FD)
            plan = jail.program_plan(argv, uid=0, gid=0, capabilities=capability_mask(CAPABILITIES))
            said = len(self.fds) + 3
            self.fds.append(self._new("virtiofsd.log"))
            children.append(Child("virtiofsd", ((number, VIRTIOFSD_FD), (said, 2)), encode(plan)))
            share = (Share(TAG, give(connected)),)
        disks: tuple[Disk, ...] = ()
        if self.image:
            disks = (Disk(give(os.open(self.image, os.O_RDONLY | os.O_CLOEXEC)), readonly=True),)
        spec = MachineSpec(
            memory_bytes=machine_memory_bytes(config),
            kernel=KERNEL,
            initrd=INITRD,
            port_fd=give(theirs.detach()),
            accel=accel,
            vcpus=machine_vcpus(config),
            machine=wanted.machine or MICROVM,
            cpu=wanted.cpu,
            balloon=wanted.balloon,
            mem_merge=wanted.mem_merge,
            pvh=image.pvh,
            tsc_khz=host_tsc_khz(self._cache),
            parameters=wanted.kernel_parameters,
            disks=disks,
            shares=share,
            network=self.network.device(give),
            qmp_fd=give(listen(directory, QMP, SOCK_STREAM, 1).detach()),
            console_fd=give(self._new(CONSOLE)),
        )
        machine.append((machine[-1][0], 2))  # what the hypervisor complains of is there too
        if self.image and templates.is_possible(spec):
            spec = self._from_template(hypervisor, spec, (image.path, initramfs.path), give)
        hypervisor.require(spec)
        argv = hypervisor.command(spec)
        plan = jail.program_plan(argv, uid=self.ids.spare, gid=self.ids.spare, capabilities=0)
        children.append(Child("hypervisor", tuple(machine), encode(plan)))
        self.fds[MACHINE_FD - 3] = _memory_file(encode_machine(children))
        self._make_jail(image.path, initramfs.path, spec)

    def _from_template(
        self, hypervisor: Qemu, spec: MachineSpec, boot: tuple[str, str], give: "Callable[[int], int]"
    ) -> MachineSpec:
        """The machine as one that goes on from where another was saved."""
        template = templates.take(hypervisor, spec, boot, self._cache)
        self.restoring = Restoring(template)
        memory, orders, devices, _ = [give(os.dup(fd)) for fd in self.restoring.fds]
        self.restoring.devices = devices
        return spec.replace(
            memory_file=MemoryFile(f"/proc/self/fd/{memory}", shared=True), incoming=True, orders_fd=orders
        )

    def _make_jail(self, kernel: str, initrd: str, spec: MachineSpec) -> None:
        stage = self._container.path("root")
        os.mkdir(stage, 0o755)
        files = tuple(
            Mount(target, "none", source, ("bind", "ro", "nosuid", "nodev", "noexec"))
            for target, source in ((KERNEL, kernel), (INITRD, initrd))
        )
        self.root = jail.jail_root(stage, *system_directories())
        self.jail = jail.jail_config(
            self._config,
            jail.Jail(
                tuple(map(str, self._numbers)),
                helper_path(),
                (self.ids.uid_mappings, self.ids.gid_mappings),
                self.ids.spare + 1 if self.ids.spare else 0,
                spec.memory_bytes,
                (*files, *self.shares.mounts),
                kvm=spec.accel == "kvm",
            ),
        )

    def _take(self, *fds: int) -> None:
        self.fds += fds

    def _new(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return os.open(self._container.path(name), flags, 0o600)


def wants_image(config: "Config", root: str, bundle: str, *, overlay: bool) -> bool:
    """Whether the root is rather an image: no write to it is to stay, and no file of the host is shared beside it."""
    if not overlay or root == "/" or sources(config, "", bundle, overlay=overlay):
        return False
    return owners_agree(config.linux, privileged=host_facts.is_privileged())


def system_directories() -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """What the jail has of the host's programs: names that are links, with where they lead, and directories."""
    links = tuple((name, os.readlink(f"/{name}")) for name in jail.SYSTEM if os.path.islink(f"/{name}"))
    binds = tuple(name for name in jail.SYSTEM if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}"))
    return links, binds


def jail_ids(linux: "Linux | None", paths: list[tuple[str, bool]]) -> "JailIds":
    """The ids of the jail: nobody's where the shared files can be id-mapped."""
    if not host_facts.is_privileged():
        uids, gids = id_mappings()
        return callers_ids(linux, _records(uids), _records(gids))
    base = nobodys_ids(wanted_ids(linux))
    return mapped_ids(linux, base) if can_be_mapped(paths) else disk_ids(linux, base)


def _records(mappings: "list[dict[str, int]]") -> tuple[IDMapping, ...]:
    return tuple(IDMapping(m["containerID"], m["hostID"], m["size"]) for m in mappings)


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("machine", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _vhost_user(directory: str) -> tuple[int, int]:
    """A listening socket for virtiofsd, and one connected to it for the hypervisor; no name of theirs is left."""
    name = "virtiofsd"
    listening = listen(directory, name, SOCK_STREAM, 1).detach()
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    try:
        connected.connect(f"/proc/self/fd/{fd}/{name}")
        return listening, connected.detach()
    finally:
        connected.close()
        os.unlink(f"{directory}/{name}")
        os.close(fd)
