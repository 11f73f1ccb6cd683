"""config-windows.md, config-solaris.md, config-zos.md, config-freebsd.md: decoded and validated everywhere."""

import pytest

from spec_documents import changed, problems_of, refused, warned

_VOLUME = "\\\\?\\Volume{ec84d99e-3f02-11e7-ac6c-00155d7682cf}\\"


def _windows(**properties):
    return {
        "ociVersion": "1.3.0",
        "root": {"path": _VOLUME},
        "process": {"cwd": "c:\\foo", "commandLine": "a.exe", "user": {"username": "u"}},
        "mounts": [{"destination": "C:\\folder", "source": "C:\\host", "options": ["ro"]}],
        "windows": {"layerFolders": ["C:\\layer"]},
        **properties,
    }


@pytest.mark.spec("config-windows.md#windowsSpecificContainerConfiguration")
def test_a_windows_document():
    assert problems_of(_windows(), "windows") == []
    without = _windows()
    del without["windows"]
    assert refused(without, "windows") == {""}


@pytest.mark.spec("config.md#configRoot")
def test_the_root_of_windows():
    assert refused(_windows(root={"path": "rootfs"}), "windows") == {"/root/path"}
    assert refused(_windows(root={"path": _VOLUME, "readonly": True}), "windows") == {"/root/readonly"}
    hyper_v = {"layerFolders": ["C:\\layer"], "hyperv": {"utilityVMPath": "C:\\vm"}}
    assert refused(_windows(windows=hyper_v), "windows") == {"/root"}
    without = _windows(windows=hyper_v)
    del without["root"]
    assert problems_of(without, "windows") == []


@pytest.mark.spec("config.md#configMounts")
def test_mounts_of_windows_are_absolute_and_not_nested():
    mounts = [{"destination": path} for path in ("c:\\foo", "C:\\foo\\bar", "c:\\foobar", "d\\x")]
    assert refused(_windows(mounts=mounts), "windows") == {"/mounts/1/destination", "/mounts/3/destination"}


@pytest.mark.spec("config.md#configProcess")
def test_windows_needs_a_command_line_or_arguments():
    assert refused(_windows(process={"cwd": "c:\\"}), "windows") == {"/process"}
    assert problems_of(_windows(process={"cwd": "c:\\", "args": ["a.exe"]}), "windows") == []


@pytest.mark.spec("config-windows.md#configWindowsResources")
@pytest.mark.parametrize(
    ("section", "wrong"),
    [
        ({}, ""),
        ({"layerFolders": []}, "/layerFolders"),
        ({"layerFolders": ["a"], "devices": [{"id": "x", "idType": "instance"}]}, "/devices/0/idType"),
        ({"layerFolders": ["a"], "resources": {"cpu": {"count": 1, "shares": 1}}}, "/resources/cpu"),
        ({"layerFolders": ["a"], "resources": {"cpu": {"maximum": 10_001}}}, "/resources/cpu/maximum"),
        ({"layerFolders": ["a"], "resources": {"storage": {"iops": -1}}}, "/resources/storage/iops"),
        ({"layerFolders": ["a"], "credentialSpec": []}, "/credentialSpec"),
    ],
)
def test_wrong_windows_sections_are_refused_on_any_platform(section, wrong):
    assert refused(changed("/windows", section)) == {f"/windows{wrong}"}


@pytest.mark.spec("config-windows.md#configWindowsNetwork")
def test_a_network_namespace_of_windows_stands_alone():
    network = {"networkNamespace": "n", "DNSSearchList": ["a"], "allowUnqualifiedDNSQuery": True}
    section = {"layerFolders": ["a"], "network": network, "credentialSpec": {"x": [1, {"y": None}]}}
    assert refused(changed("/windows", section)) == set()
    assert warned(changed("/windows", section)) == {"/windows/network/networkNamespace"}


@pytest.mark.spec("config-zos.md#configZOSNamespaces")
def test_zos_namespaces():
    sound = [{"type": "pid", "path": "/proc/1/ns/pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]
    assert problems_of(changed("/zos", {"namespaces": sound})) == []
    wrong = [*sound, {"type": "network"}, {"type": "uts"}]
    wrong[0] = {"type": "pid", "path": "relative"}
    assert refused(changed("/zos/namespaces", wrong)) == {
        "/zos/namespaces/0/path",
        "/zos/namespaces/4/type",
        "/zos/namespaces/5/type",
    }


@pytest.mark.spec("config-freebsd.md#configFreeBSDJail")
def test_freebsd_jail():
    sound = {"host": "new", "vnet": "inherit", "ip4": "disable", "enforceStatfs": 2, "allow": {"mount": ["tmpfs"]}}
    assert problems_of(changed("/freebsd/jail", sound)) == []
    wrong = {"host": "disable", "vnet": "disable", "ip6": "old", "sysvsem": "", "enforceStatfs": 3}
    assert refused(changed("/freebsd/jail", wrong)) == {f"/freebsd/jail/{name}" for name in wrong}


@pytest.mark.spec("config-freebsd.md#configFreeBSDDevices")
def test_freebsd_devices():
    assert problems_of(changed("/freebsd/devices", [{"path": "pf", "mode": 448}])) == []
    assert refused(changed("/freebsd/devices", [{"mode": 1}])) == {"/freebsd/devices/0"}


@pytest.mark.spec("config-solaris.md#solarisApplicationContainerConfiguration")
def test_solaris():
    sound = {
        "milestone": "svc:/milestone/container:default",
        "maxShmMemory": "512m",
        "cappedCPU": {"ncpus": ".75"},
        "cappedMemory": {"physical": "1.5G", "swap": "100"},
        "anet": [{"linkname": "net0"}],
    }
    assert problems_of(changed("/solaris", sound)) == []
    wrong = {"maxShmMemory": "lots", "cappedCPU": {"ncpus": "x"}, "cappedMemory": {"physical": "1X", "swap": ""}}
    assert refused(changed("/solaris", wrong)) == {
        "/solaris/maxShmMemory",
        "/solaris/cappedCPU/ncpus",
        "/solaris/cappedMemory/physical",
        "/solaris/cappedMemory/swap",
    }


@pytest.mark.spec("config.md#configMounts")
@pytest.mark.parametrize("platform", ["freebsd", "solaris", "zos"])
def test_mounts_elsewhere_are_absolute(platform):
    document = changed("/mounts/-", {"destination": "relative"})
    assert refused(document, platform) == {"/mounts/1/destination"}


@pytest.mark.parametrize(
    ("pointer", "sound", "wrong"),
    [
        pytest.param(pointer, sound, wrong, marks=pytest.mark.spec(anchor), id=pointer)
        for anchor, pointer, sound, wrong in (
            ("config-windows.md#configWindowsLayerFolders", "/windows/layerFolders", ["C:\\a", "C:\\b"], "C:\\a"),
            (
                "config-windows.md#configWindowsDevices",
                "/windows/devices",
                [{"id": "x", "idType": "class"}],
                [{"id": 1}],
            ),
            ("config-windows.md#configWindowsMemory", "/windows/resources/memory", {"limit": 2097152}, {"limit": "2M"}),
            ("config-windows.md#configWindowsCpu", "/windows/resources/cpu", {"maximum": 5000}, {"maximum": 10_001}),
            ("config-windows.md#configWindowsStorage", "/windows/resources/storage", {"iops": 50}, {"iops": -1}),
            ("config-windows.md#configWindowsCredentialSpec", "/windows/credentialSpec", {"any": {"thing": 1}}, 1),
            ("config-windows.md#configWindowsServicing", "/windows/servicing", True, "yes"),
            (
                "config-windows.md#configWindowsIgnoreFlushesDuringBoot",
                *("/windows/ignoreFlushesDuringBoot", True, "yes"),
            ),
            (
                "config-windows.md#configWindowsHyperV",
                "/windows/hyperv",
                {"utilityVMPath": "C:\\vm"},
                {"utilityVMPath": 1},
            ),
            ("config.md#configWindowsUser", "/process/user/username", "containeradministrator", 1),
            ("config.md#configZOSProcess", "/process/noNewPrivileges", True, "yes"),
            ("config-zos.md#ZOSContainerConfiguration", "/zos", {"namespaces": [{"type": "ipc"}]}, []),
            ("config-freebsd.md#FreeBSDContainerConfiguration", "/freebsd", {"jail": {}}, "jail"),
            ("config-solaris.md#configSolarisMilestone", "/solaris/milestone", "svc:/milestone/container:default", 1),
            ("config-solaris.md#configSolarisLimitpriv", "/solaris/limitpriv", "default", ["default"]),
            ("config-solaris.md#configSolarisMaxShmMemory", "/solaris/maxShmMemory", "512m", "much"),
            ("config-solaris.md#configSolarisCappedCpu", "/solaris/cappedCPU", {"ncpus": "8"}, {"ncpus": "x"}),
            (
                "config-solaris.md#configSolarisCappedMemory",
                "/solaris/cappedMemory",
                {"physical": "512m"},
                {"swap": "x"},
            ),
            ("config-solaris.md#configSolarisNetwork", "/solaris/anet", [{"linkname": "net0"}], [{"linkname": 1}]),
            (
                "config-solaris.md#configSolarisAutomaticNetwork",
                *("/solaris/anet", [{"linkname": "net0", "lowerLink": "net2", "macProtect": "ip-nospoof"}], {}),
            ),
        )
    ],
)
def test_what_is_of_other_platforms_is_read_and_checked_here(pointer, sound, wrong):
    def document(value):
        made = changed(pointer, value)
        if "windows" in made:
            made["windows"].setdefault("layerFolders", ["C:\\layer"])
        return made

    assert refused(document(sound)) == set()
    assert any(where.startswith(pointer) for where in refused(document(wrong)))
