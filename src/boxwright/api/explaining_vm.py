"""Explain a container in a virtual machine: the jail that holds the machine, and what is done in the guest."""

import os

from boxwright.api.explaining import filter_of, jail_plan
from boxwright.boxes.require import PUBLISH_ANNOTATION
from boxwright.boxes.vm import jail
from boxwright.boxes.vm.accel import host_tsc_khz
from boxwright.boxes.vm.cache import Cache
from boxwright.boxes.vm.guest import guest_config, guest_facts, guest_root, guest_site
from boxwright.boxes.vm.hypervisor import Qemu
from boxwright.boxes.vm.images import DEVICE, image_name
from boxwright.boxes.vm.kernels import find_kernel
from boxwright.boxes.vm.machine import NO_NETWORK, TAP, Disk, MachineSpec, Network, Share
from boxwright.boxes.vm.network import forwards, guest_plan, network_kind, published
from boxwright.boxes.vm.parameters import wanted_of
from boxwright.boxes.vm.shares import JAIL, TAG, make_shares, refuse_kinds, sources
from boxwright.boxes.vm.virtiofsd import CAPABILITIES, command, find_virtiofsd
from boxwright.host.shares import modes_of
from boxwright.host.spawn import helper_path
from boxwright.plan.cgroups import place
from boxwright.plan.compile import compile_create
from boxwright.plan.explain import Stage, explain, stages_of
from boxwright.plan.process import capability_mask
from boxwright.plan.request import Request
from boxwright.plan.walls import Fact, walls_of_machine
from boxwright.runtime.documents import root_path
from boxwright.runtime.vm.network import looked_at
from boxwright.runtime.vm.parts import (
    FIRST_FD,
    INITRD,
    KERNEL,
    VIRTIOFSD_FD,
    jail_ids,
    system_directories,
    wants_image,
)
from boxwright.runtime.vm.size import machine_memory_bytes, machine_vcpus
from boxwright.spec.types import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from boxwright.boxes.vm.ids import JailIds
    from boxwright.boxes.vm.shares import Shares
    from boxwright.plan.explain import Explanation
    from boxwright.plan.ops import Plan
    from boxwright.runtime.context import Runtime
    from boxwright.spec.types import Config

# what is not known before a guest has said it: a kernel has all of these but for its own doing
_CONTROLLERS = "cpuset cpu io memory pids"
_DESCRIPTORS = ("MACHINE", "CONTROL", "PORT", "STATUS")
# what of the jail's configuration comes from lines of the container's
_ASKED = ("/hooks/", "/linux/cgroupsPath", "/linux/resources", "/mounts/", "/root/path")
MEBIBYTE = 1 << 20


def explain_machine(
    config: "Config", bundle: str, overlay: tuple[str, int] | None, container_id: str, runtime: "Runtime"
) -> "Explanation":
    """What making this container would do, on the host and in its guest. Raises what making it would.

    `overlay` are the root directory that the guest covers, and for how many bytes; None for the configuration's own.
    """
    root = overlay[0] if overlay else root_path(config, bundle)
    readonly = bool(config.root and config.root.readonly)
    covered = overlay is not None or readonly
    image = image_name(root, Cache()) if wants_image(config, root, bundle, overlay=covered) else ""
    shared_root = "" if image else root
    wanted = sources(config, shared_root, bundle, overlay=covered)
    refuse_kinds(modes_of(source.path for source in wanted), wanted)
    ids = jail_ids(config.linux, [(source.path, source.mounted) for source in wanted])
    shares = make_shares(config, shared_root, bundle, ids, overlay=covered)
    machine = _Machine(config, shares, ids, image)
    guest, facts = guest_config(shares.config), guest_facts({"controllers": _CONTROLLERS})
    request = Request(
        container_id=container_id,
        bundle=bundle,
        root=guest_root(
            shares.root, overlay=covered, size_bytes=overlay[1] if overlay else 0, device=DEVICE if image else ""
        ),
        placement=place(guest, facts.cgroups, container_id, "cgroupfs"),
        site=guest_site(),
        state=("", ""),
        seccomp=filter_of(config),
        gate=True,
    )
    plan = compile_create(guest, facts, request)
    found = explain(plan, guest, facts)
    prepared = (
        *_prepared(shares.mounting, "reach the files that are shared"),
        *_prepared(machine.network_plan(), "set up the network"),
    )
    stages = (*machine.stages(container_id, runtime), *prepared, *stages_of(plan, "in the guest", "in the box"))
    return found.replace(
        user=found.user.replace(", which is root on the host too", " of the guest"),
        root=root,
        walls=walls_of_machine(plan, config, tuple(machine.facts())),
        stages=stages,
    )


def _prepared(plan: "Plan | None", what: str) -> tuple[Stage, ...]:
    """The guest's first steps."""
    return tuple(stage.replace(title=f"in the guest: {what}") for stage in stages_of(plan)) if plan else ()


class _Machine:
    """The machine of a container, and the jail that holds it."""

    def __init__(self, config: "Config", shares: "Shares", ids: "JailIds", image: str) -> None:
        self._image = image
        self._config = config
        self._shares = shares
        self._ids = ids
        self._cache = Cache()
        self._interface = looked_at(config)
        self._wanted = wanted_of(config.vm)
        self._kernel = find_kernel(self._wanted.kernel, self._wanted.kernel_pointer)
        self._hypervisor = Qemu(self._wanted.hypervisor, self._cache, "/vm/hypervisor/path")
        self._accel = self._wanted.accel or os.environ.get("BOXWRIGHT_ACCEL", "")

    def facts(self) -> "Iterator[Fact]":
        """What the machine is, and what of the host it reaches."""
        wanted, ids = self._wanted, self._ids
        yield Fact("kernel", f"{self._kernel.path} ({self._kernel.version})", wanted.kernel_pointer)
        yield Fact("hypervisor", self._hypervisor.path, "/vm/hypervisor/path" if wanted.hypervisor else "")
        tried = "KVM if a kernel boots by it, which is tried once, else emulation"
        yield Fact("processor", {"kvm": "KVM, as told", "tcg": "emulated, as told"}.get(self._accel, tried))
        yield Fact("memory", f"{machine_memory_bytes(self._config) // MEBIBYTE} MiB", self._pointer("memory"))
        yield Fact("processors", str(machine_vcpus(self._config)), self._pointer("vcpus"))
        spans = [f"{m.container_id}-{m.container_id + m.size - 1} are {m.host_id} and up" for m in ids.uid_mappings]
        yield Fact("jail", f"namespaces, control groups and a filter of the host's kernel; its uids {', '.join(spans)}")
        yield Fact("jail", f"the hypervisor is uid {ids.spare} there, without capabilities")
        if self._image:
            boots = "if one of its kind was saved before, it goes on from there in place of booting"
            yield Fact("boot", boots) if self._is_template() else Fact("boot", "the kernel is booted")
            yield Fact("root", "an image of it, made once and kept: a disk of the machine that cannot be written to")
        if self._shares.mounting is not None:
            yield Fact("shared", "files, by virtiofsd in the jail: it sees nothing but what is listed below")
        yield Fact("shared", "time of CPUs, disks behind the files, and the network if one is given")
        yield from self._network_facts()
        yield Fact("not shared", "the host's kernel: its system calls, processes, memory, devices, /proc and /sys")

    def _is_template(self) -> bool:
        return self._shares.mounting is None and network_kind(self._config) == NO_NETWORK

    def _network_facts(self) -> "Iterator[Fact]":
        interface = self._interface
        if interface is None:
            yield Fact("network", "no device: a loopback interface alone")
        elif network_kind(self._config) == TAP:
            what = f"`{interface.name}` is that of the namespace, by a tap there; the jail sees neither"
            yield Fact("network", what, interface.pointer)
        else:
            yield Fact("network", f"`{interface.name}` leads to the host's by slirp4netns, but not to its 127.0.0.0/8")
        for one in published(self._config):
            text = f"{one.address}:{one.host_port}/{one.protocol} of the host leads to port {one.port}"
            yield Fact("network", text, f"/annotations/{PUBLISH_ANNOTATION}")

    def network_plan(self) -> "Plan | None":
        """What is done in the guest for its device."""
        return guest_plan(self._interface) if self._interface else None

    def _network(self) -> Network:
        if self._interface is None:
            return Network()
        wanted = forwards(published(self._config))
        return Network(network_kind(self._config), FIRST_FD + 3, self._interface.mac, wanted)

    def _pointer(self, name: str) -> str:
        hardware = self._config.vm.hw_config if self._config.vm else None
        return hardware.at(name) if hardware is not None and getattr(hardware, name) else ""

    def stages(self, container_id: str, runtime: "Runtime") -> "Iterator[Stage]":
        """What is done on the host: the jail, and what its keeper starts in it."""
        config = self._jail()
        stage = os.path.join(runtime.root, container_id, "root")
        plan = jail_plan(config, jail.jail_root(stage, *system_directories()), container_id, runtime)
        for found in stages_of(plan, inside="in the jail"):
            yield _of_jail(found)
        share: tuple[Share, ...] = ()
        if self._shares.mounting is not None:
            argv = command(find_virtiofsd(self._cache), JAIL, VIRTIOFSD_FD)
            plan = jail.program_plan(argv, uid=0, gid=0, capabilities=capability_mask(CAPABILITIES))
            yield from _child("virtiofsd", "serve the files that are shared", stages_of(plan))
            share = (Share(TAG, FIRST_FD),)
        plan = jail.program_plan(
            self._hypervisor.command(self._spec(share)), uid=self._ids.spare, gid=self._ids.spare, capabilities=0
        )
        yield from _child("hypervisor", "run the machine", stages_of(plan))

    def _spec(self, share: tuple[Share, ...]) -> MachineSpec:
        return MachineSpec(
            memory_bytes=machine_memory_bytes(self._config),
            kernel=KERNEL,
            initrd=INITRD,
            port_fd=FIRST_FD + 1,
            accel=self._accel or "kvm",
            vcpus=machine_vcpus(self._config),
            tsc_khz=host_tsc_khz(self._cache),
            parameters=self._wanted.kernel_parameters,
            shares=share,
            network=self._network(),
            disks=(Disk(FIRST_FD + 2, readonly=True),) if self._image else (),
        )

    def _jail(self) -> "Config":
        return jail.jail_config(
            self._config,
            jail.Jail(
                _DESCRIPTORS,
                helper_path(),
                (self._ids.uid_mappings, self._ids.gid_mappings),
                self._ids.spare + 1 if self._ids.spare else 0,
                machine_memory_bytes(self._config),
                (*self._files(), *self._shares.mounts),
                kvm=self._accel != "tcg" and os.path.exists("/dev/kvm"),
            ),
        )

    def _files(self) -> "Iterator[Mount]":
        for target, source in ((KERNEL, self._kernel.path), (INITRD, "the initramfs of its modules")):
            yield Mount(target, "none", source, ("bind", "ro", "nosuid", "nodev", "noexec"))


def _of_jail(stage: Stage) -> Stage:
    """The container's own lines: the rest of the jail's configuration is ours."""
    title = stage.title.replace("the container process", "the machine's keeper")
    lines = (line if line.pointer.startswith(_ASKED) else line.replace(pointer="") for line in stage.lines)
    return stage.replace(title=title, lines=tuple(lines))


def _child(name: str, what: str, stages: tuple[Stage, ...]) -> "Iterator[Stage]":
    for stage in stages:
        yield stage.replace(actor=name, title=f"in the jail: {what}")
