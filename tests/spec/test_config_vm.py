"""config-vm.md: hypervisor, kernel, image, hardware."""

import pytest

from spec_documents import changed, problems_of, refused

_SOUND = {
    "hypervisor": {"path": "/usr/bin/qemu-system-x86_64", "parameters": ["-cpu", "max"]},
    "kernel": {"path": "/boot/vmlinuz", "parameters": ["quiet"], "initrd": "/boot/initrd"},
    "image": {"path": "/var/lib/root.img", "format": "qcow2"},
    "hwConfig": {
        "deviceTree": "/a.dtb",
        "vcpus": 1,
        "memory": 4_194_304,
        "dtdevs": ["a"],
        "iomems": [{"firstMFN": 12_288, "nrMFNs": 1}, {"firstGFN": 1, "firstMFN": 2, "nrMFNs": 3}],
        "irqs": [11, 22],
    },
}


@pytest.mark.spec("config-vm.md#VirtualMachineSpecificContainerConfiguration")
def test_a_sound_section():
    assert problems_of(changed("/vm", _SOUND)) == []
    assert problems_of(changed("/vm", {"kernel": {"path": "/k"}, "image": {"path": "/i"}})) == []
    assert refused(changed("/vm", {})) == {"/vm"}


@pytest.mark.parametrize(
    ("section", "name", "value", "wrong"),
    [
        pytest.param(section, name, value, wrong, marks=pytest.mark.spec(f"config-vm.md#{anchor}Object"))
        for anchor, section, name, value, wrong in (
            ("Hypervisor", "hypervisor", "path", "qemu", "/path"),
            ("Hypervisor", "hypervisor", "path", None, ""),
            ("Kernel", "kernel", "path", "vmlinuz", "/path"),
            ("Kernel", "kernel", "path", None, ""),
            ("Kernel", "kernel", "initrd", "initrd", "/initrd"),
            ("Kernel", "kernel", "parameters", "quiet", "/parameters"),
            ("Image", "image", "path", "root.img", "/path"),
            ("Image", "image", "format", "qcow3", "/format"),
            ("HwConfig", "hwConfig", "vcpus", 0, "/vcpus"),
            ("HwConfig", "hwConfig", "vcpus", 1 << 32, "/vcpus"),
            ("HwConfig", "hwConfig", "memory", 0, "/memory"),
            ("HwConfig", "hwConfig", "irqs", [-1], "/irqs/0"),
            ("HwConfig", "hwConfig", "iomems", [{"firstMFN": 1}], "/iomems/0"),
            ("HwConfig", "hwConfig", "iomems", [{"firstMFN": 1, "nrMFNs": 0}], "/iomems/0/nrMFNs"),
        )
    ],
)
def test_wrong_values_are_refused(section, name, value, wrong):
    document = changed("/vm", _SOUND | {section: _SOUND[section] | {name: value}})
    assert refused(document) == {f"/vm/{section}{wrong}"}
