"""QEMU's command line, the keeper's file of children, and what config.json may say about the machine."""

import struct
from typing import Any

import pytest

from boxwright.boxes.vm.machine import (
    KVM,
    MEBIBYTE,
    MICROVM,
    Q35,
    TAP,
    USER_NETWORK,
    Child,
    Disk,
    MachineSpec,
    MemoryFile,
    Network,
    Share,
    encode_machine,
)
from boxwright.boxes.vm.parameters import LEAST_MEMORY_BYTES, OPTIONS, Wanted, wanted_of
from boxwright.boxes.vm.qemu import kernel_parameters, machine_of, qemu_argv
from boxwright.errors import ConfigError, UnsupportedError
from boxwright.spec.types_vm import VM, HWConfig, Hypervisor, Image, IOMemory, Kernel


def spec(**fields: Any) -> MachineSpec:
    given = {"memory_bytes": 256 * MEBIBYTE, "kernel": "/k", "initrd": "/i", "port_fd": 7, "tsc_khz": 2_500_000}
    return MachineSpec(**{**given, **fields})


def argv(**fields: Any) -> tuple[str, ...]:
    return qemu_argv(spec(**fields), "/usr/bin/qemu")


def values(words: tuple[str, ...], option: str) -> list[str]:
    """What follows each time after an option."""
    return [words[index + 1] for index, word in enumerate(words) if word == option]


# --- the command ------------------------------------------------------------------------------------------------


def test_the_whole_command_of_a_plain_machine() -> None:
    assert " ".join(argv()) == (
        "/usr/bin/qemu -nodefaults -no-user-config -display none -no-reboot"
        " -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
        " -global virtio-mmio.force-legacy=false"
        " -machine microvm,dump-guest-core=off,mem-merge=off,isa-serial=off -accel tcg,tb-size=128 -cpu max -smp 1 -m 256M"
        " -bios qboot.rom -kernel /k -initrd /i -append console= quiet panic=-1 cryptomgr.notests"
        " initcall_blacklist=init_kprobe_trace,crypto_kdf108_init rcupdate.rcu_expedited=1 pci=off tsc=reliable no_timer_check"
        " tsc_early_khz=2500000"
        " -device virtio-serial-device,max_ports=2 -chardev socket,id=port,fd=7"
        " -device virtserialport,chardev=port,name=boxwright"
    )


def test_a_machine_that_waits_for_a_saved_one_boots_nothing() -> None:
    words = argv(memory_file=MemoryFile("/m,1", shared=True), incoming=True, orders_fd=9)
    assert not {"-kernel", "-initrd", "-append"} & set(words)
    assert values(words, "-incoming") == ["defer"]
    assert values(words, "-object") == ["memory-backend-file,mem-path=/m,,1,share=on,id=m0,size=256M"]
    assert "socket,id=orders,fd=9" in values(words, "-chardev")
    assert "chardev=orders,mode=control" in values(words, "-mon")
    readonly = argv(memory_file=MemoryFile("/m", readonly=True), incoming=True)
    assert values(readonly, "-object") == [
        "memory-backend-file,mem-path=/m,share=off,readonly=on,rom=off,id=m0,size=256M"
    ]


def test_the_filter_of_the_hypervisor_is_always_on() -> None:
    for fields in ({}, {"machine": Q35}, {"accel": KVM}, {"shares": (Share("a", 3),)}):
        (sandbox,) = values(argv(**fields), "-sandbox")
        assert sandbox == "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def test_everything_is_given_by_descriptor() -> None:
    words = argv(
        disks=(Disk(fd=10, readonly=True, serial="root"), Disk(fd=11, format="qcow2")),
        shares=(Share("one", 12), Share("two", 13)),
        network=Network(TAP, fd=14, mac="02:00:00:00:00:01"),
        qmp_fd=15,
        console_fd=16,
    )
    assert values(words, "-add-fd") == ["fd=16,set=1000", "fd=10,set=1", "fd=11,set=2"]
    assert values(words, "-blockdev") == [
        "driver=file,node-name=f0,filename=/dev/fdset/1,read-only=on",
        "driver=raw,node-name=d0,file=f0,read-only=on",
        "driver=file,node-name=f1,filename=/dev/fdset/2,read-only=off,discard=unmap",
        "driver=qcow2,node-name=d1,file=f1,read-only=off,discard=unmap,backing=",
    ]
    assert values(words, "-chardev") == [
        "socket,id=qmp,fd=15,server=on,wait=off",
        "file,id=console,path=/dev/fdset/1000",
        "socket,id=port,fd=7",
        "socket,id=fs0,fd=12",
        "socket,id=fs1,fd=13",
    ]
    assert values(words, "-netdev") == ["tap,id=n0,fd=14,vhost=off"]
    assert values(words, "-device")[2:] == [
        "virtio-blk-device,drive=d0,serial=root",
        "virtio-blk-device,drive=d1",
        "vhost-user-fs-device,chardev=fs0,tag=one",
        "vhost-user-fs-device,chardev=fs1,tag=two",
        "virtio-net-device,netdev=n0,mac=02:00:00:00:00:01",
    ]


def test_memory_is_shared_only_where_a_daemon_must_see_it() -> None:
    assert "-object" not in argv()
    words = argv(shares=(Share("a", 3),))
    assert values(words, "-object") == ["memory-backend-memfd,share=on,id=m0,size=256M"]
    assert "memory-backend=m0" in values(words, "-machine")[0].split(",")


def test_more_devices_than_microvm_has_room_for_make_it_a_machine_with_pci() -> None:
    disks = tuple(Disk(path=f"/{index}") for index in range(7))
    assert machine_of(spec(disks=disks)) == MICROVM
    words = argv(disks=disks, network=Network(USER_NETWORK))
    assert values(words, "-machine")[0].startswith("q35,")
    assert all("-device" not in device for device in values(words, "-device"))
    assert values(words, "-device")[-1] == "virtio-net-pci,netdev=n0,romfile="
    assert "pci=off" not in kernel_parameters(spec(disks=disks, network=Network(USER_NETWORK)))


def test_a_comma_in_a_name_begins_no_new_option() -> None:
    words = argv(disks=(Disk(path="/a,read-only=off", readonly=True),), shares=(Share("t,chardev=x", 3),))
    assert values(words, "-blockdev")[0] == "driver=file,node-name=f0,filename=/a,,read-only=off,read-only=on"
    assert values(words, "-device")[-1] == "vhost-user-fs-device,chardev=fs0,tag=t,,chardev=x"


def test_an_emulated_machine_must_be_told_the_frequency() -> None:
    with pytest.raises(UnsupportedError, match="time stamp counter is not known"):
        argv(tsc_khz=0)
    assert "tsc_early_khz=2500000" in kernel_parameters(spec())
    assert not any(word.startswith("tsc_early_khz") for word in kernel_parameters(spec(accel=KVM)))
    assert values(argv(accel=KVM, tsc_khz=0), "-cpu") == ["host"]


def test_the_console_is_there_only_if_somebody_reads_it() -> None:
    assert "isa-serial=off" in values(argv(), "-machine")[0]
    assert values(argv(), "-serial") == []
    words = argv(console_fd=5)
    assert "isa-serial=on" in values(words, "-machine")[0]
    assert values(words, "-serial") == ["chardev:console"]
    assert values(words, "-append")[0].split()[0] == "console=ttyS0"


def test_what_config_json_wants_of_the_kernel_comes_last() -> None:
    assert kernel_parameters(spec(parameters=("quiet", "a=b")))[-2:] == ("quiet", "a=b")


def test_memory_is_never_more_than_wanted() -> None:
    assert values(argv(memory_bytes=100 * MEBIBYTE + MEBIBYTE - 1), "-m") == ["100M"]


# --- the keeper's file ------------------------------------------------------------------------------------------


def test_the_file_of_children_is_as_the_protocol_says() -> None:
    children = [Child("virtiofsd", ((5, 3), (6, 4)), b"PLAN"), Child("pasta", (), b"", vital=False)]
    assert encode_machine(children) == (
        b"BXM1"
        + struct.pack("<I", 2)
        + struct.pack("<II", 1, 9)
        + b"virtiofsd\0"
        + struct.pack("<IIIII", 2, 5, 3, 6, 4)
        + struct.pack("<I", 4)
        + b"PLAN"
        + struct.pack("<II", 0, 5)
        + b"pasta\0"
        + struct.pack("<II", 0, 0)
    )
    assert encode_machine([]) == b"BXM1\0\0\0\0"


# --- what config.json may say -----------------------------------------------------------------------------------


def vm(*, options: tuple[str, ...] = (), kernel: tuple[str, ...] = (), hardware: HWConfig | None = None) -> VM:
    return VM(
        Kernel("/boot/k", kernel, pointer="/vm/kernel"),
        Hypervisor("/usr/bin/qemu", options, pointer="/vm/hypervisor"),
        None,
        hardware,
        pointer="/vm",
    )


def test_without_a_section_everything_is_the_default() -> None:
    assert wanted_of(None) == Wanted()


def test_what_is_wanted() -> None:
    hardware = HWConfig(vcpus=3, memory=512 * MEBIBYTE, pointer="/vm/hwConfig")
    options = ("accel=kvm", "machine=q35", "cpu=Skylake-Client,-avx2", "mem-merge=on", "balloon=off")
    assert wanted_of(vm(options=options, kernel=("a=b", "c"), hardware=hardware)) == Wanted(
        memory_bytes=512 * MEBIBYTE,
        vcpus=3,
        hypervisor="/usr/bin/qemu",
        accel="kvm",
        machine="q35",
        cpu="Skylake-Client,-avx2",
        balloon=False,
        mem_merge=True,
        kernel="/boot/k",
        kernel_pointer="/vm/kernel/path",
        kernel_parameters=("a=b", "c"),
    )


@pytest.mark.parametrize(
    "option",
    [
        "-drive",
        "-device",
        "-chardev",
        "file=/etc/shadow",
        "-incoming exec:id",
        "accel",
        "accel=",
        "accel=kvm,dev=/x",
        "ACCEL=tcg",
        "machine=pc",
        "machine=q35,append=x",
        "cpu=",
        "cpu=max -device x",
        "cpu=max\n-device",
        "balloon=yes",
        "",
        "source=/",
    ],
)
def test_any_other_parameter_for_the_hypervisor_is_refused_by_its_line(option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        wanted_of(vm(options=("accel=tcg", option)))
    (problem,) = caught.value.problems
    assert problem.pointer == "/vm/hypervisor/parameters/1"
    assert "accel=kvm|tcg" in str(problem.hint)


def test_every_allowed_parameter_is_described() -> None:
    assert [name for name, _, _ in OPTIONS] == ["accel", "machine", "cpu", "mem-merge", "balloon"]
    assert all(effect and not effect.endswith(".") for _, _, effect in OPTIONS)


@pytest.mark.parametrize(
    "text",
    [
        "init=/bin/sh",
        "quiet init=/bin/sh",
        '"init=/bin/sh"',
        "rdinit=/x",
        "console=ttyS1",
        "panic=0",
        "-- --agent",
        "--",
        "tsc_early_khz=1",
        "tsc-early-khz=1",
        "acpi=off",
        "initrd=0x1,2",
        "noinitrd",
        'a="b',
        "a\nb",
        "a\0b",
        "virtio_mmio.device=1@2:3",
    ],
)
def test_a_kernel_parameter_that_takes_the_guest_from_us_is_refused_by_its_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        wanted_of(vm(kernel=("mitigations=off", text)))
    assert [problem.pointer for problem in caught.value.problems] == ["/vm/kernel/parameters/1"]


@pytest.mark.parametrize(
    "text", ["hello world", 'dyndbg="file a +p"', "loglevel=7", "sysctl.kernel.x=1", "initcall_debug"]
)
def test_other_kernel_parameters_are_taken_as_they_are(text: str) -> None:
    assert wanted_of(vm(kernel=(text,))).kernel_parameters == (text,)


def test_kernel_parameters_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="1025 bytes together"):
        wanted_of(vm(kernel=("a" * 1024,)))


@pytest.mark.parametrize(
    ("name", "hardware"),
    [
        ("deviceTree", HWConfig(device_tree="/x.dtb", pointer="/vm/hwConfig")),
        ("dtdevs", HWConfig(dtdevs=("a",), pointer="/vm/hwConfig")),
        ("iomems", HWConfig(iomems=(IOMemory(1, 1),), pointer="/vm/hwConfig")),
        ("irqs", HWConfig(irqs=(3,), pointer="/vm/hwConfig")),
    ],
)
def test_hardware_of_the_host_is_refused(name: str, hardware: HWConfig) -> None:
    with pytest.raises(UnsupportedError, match=f"`vm.hwConfig.{name}` is not supported by the `vm` box") as caught:
        wanted_of(vm(hardware=hardware))
    assert caught.value.hint == f"remove /vm/hwConfig/{name}"


def test_a_root_of_the_machine_beside_the_containers_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"`vm\.image` is not supported by the `vm` box") as caught:
        wanted_of(vm().replace(image=Image("/x.img", pointer="/vm/image")))
    assert str(caught.value.hint).startswith("remove /vm/image")


def test_a_machine_that_cannot_boot_is_refused_by_its_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        wanted_of(vm(hardware=HWConfig(vcpus=65, memory=LEAST_MEMORY_BYTES - 1, pointer="/vm/hwConfig")))
    assert [problem.pointer for problem in caught.value.problems] == ["/vm/hwConfig/memory", "/vm/hwConfig/vcpus"]
