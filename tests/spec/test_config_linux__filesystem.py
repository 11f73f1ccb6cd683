"""config-linux.md: devices, masked and read-only paths, propagation, personality, seccomp."""

import pytest

from spec_documents import changed, problems_of, refused, warned

_SECTION = "config-linux.md#configLinux"


@pytest.mark.spec(_SECTION + "Devices")
@pytest.mark.parametrize(
    ("device", "wrong"),
    [
        ({"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}, None),
        ({"type": "p", "path": "/run/fifo"}, None),
        ({"type": "u", "path": "/dev/a", "major": 1, "minor": 3}, None),
        ({"type": "x", "path": "/dev/a", "major": 1, "minor": 3}, "/type"),
        ({"type": "c", "path": "dev/a", "major": 1, "minor": 3}, "/path"),
        ({"type": "b", "path": "/dev/a", "major": 1}, ""),
        ({"type": "b", "path": "/dev/a", "minor": 1}, ""),
        ({"type": "b", "path": "/dev/a", "major": -1, "minor": 0}, "/major"),
        ({"type": "b", "path": "/dev/a", "major": 1, "minor": 1 << 20}, "/minor"),
        ({"type": "c", "major": 1, "minor": 3}, ""),
        ({"path": "/dev/a", "major": 1, "minor": 3}, ""),
    ],
)
def test_devices(device, wrong):
    found = refused(changed("/linux/devices", [device]))
    assert found == (set() if wrong is None else {f"/linux/devices/0{wrong}"})


@pytest.mark.spec(_SECTION + "Devices")
def test_the_same_device_twice_is_warned_of():
    pair = [{"type": kind, "path": f"/dev/{kind}", "major": 1, "minor": 3} for kind in "cu"]
    document = changed("/linux/devices", pair)
    assert refused(document) == set()
    assert warned(document) == {"/linux/devices/1"}


@pytest.mark.spec(_SECTION + "MaskedPaths")
@pytest.mark.spec(_SECTION + "ReadonlyPaths")
@pytest.mark.parametrize("name", ["maskedPaths", "readonlyPaths"])
def test_hidden_paths_are_absolute(name):
    assert problems_of(changed(f"/linux/{name}", [])) == []
    assert refused(changed(f"/linux/{name}", ["/proc/kcore", "proc/kcore", ""])) == {
        f"/linux/{name}/1",
        f"/linux/{name}/2",
    }


@pytest.mark.spec(_SECTION + "RootfsMountPropagation")
def test_rootfs_propagation():
    for kind in ("shared", "slave", "private", "unbindable", "rslave"):
        assert problems_of(changed("/linux/rootfsPropagation", kind)) == []
    assert refused(changed("/linux/rootfsPropagation", "public")) == {"/linux/rootfsPropagation"}


@pytest.mark.spec(_SECTION + "Personality")
def test_personality():
    assert problems_of(changed("/linux/personality", {"domain": "LINUX32", "flags": []})) == []
    assert refused(changed("/linux/personality", {"domain": "linux"})) == {"/linux/personality/domain"}
    assert refused(changed("/linux/personality", {"domain": "LINUX", "flags": ["a"]})) == {"/linux/personality/flags"}
    assert refused(changed("/linux/personality", {})) == {"/linux/personality"}


def _rule(**properties):
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], **properties}]}


@pytest.mark.spec(_SECTION + "Seccomp")
@pytest.mark.parametrize(
    "seccomp",
    [
        {"defaultAction": "SCMP_ACT_KILL"},
        {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_SHEB"]},
        {"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]},
        {"defaultAction": "SCMP_ACT_LOG", "listenerPath": "not looked at"},
        _rule(action="SCMP_ACT_TRACE", errnoRet=0xFFFF),
        _rule(action="SCMP_ACT_ERRNO", args=[{"index": 5, "value": (1 << 64) - 1, "op": "SCMP_CMP_EQ"}]),
        {**_rule(action="SCMP_ACT_NOTIFY"), "listenerPath": "/run/agent", "listenerMetadata": "x"},
    ],
)
def test_sound_filters(seccomp):
    assert problems_of(changed("/linux/seccomp", seccomp)) == []


@pytest.mark.spec(_SECTION + "Seccomp")
@pytest.mark.parametrize(
    ("seccomp", "wrong"),
    [
        ({}, ""),
        ({"defaultAction": "SCMP_ACT_FOO"}, "/defaultAction"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "/defaultAction"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "/defaultErrnoRet"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}, "/defaultErrnoRet"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": -1}, "/defaultErrnoRet"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["X86"]}, "/architectures/0"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}, "/flags/0"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}, "/listenerMetadata"),
        (_rule(action="SCMP_ACT_KILL", errnoRet=1), "/syscalls/0/errnoRet"),
        (_rule(action="SCMP_ACT_FOO", errnoRet=1), "/syscalls/0/action"),
        (_rule(action="SCMP_ACT_NOTIFY"), "/syscalls/0/action"),
        ({**_rule(action="SCMP_ACT_NOTIFY"), "listenerPath": "run/agent"}, "/listenerPath"),
        (_rule(), "/syscalls/0"),
        (_rule(action="SCMP_ACT_LOG", names=[]), "/syscalls/0/names"),
        (
            _rule(action="SCMP_ACT_LOG", args=[{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]),
            "/syscalls/0/args/0/index",
        ),
        (_rule(action="SCMP_ACT_LOG", args=[{"index": 0, "value": 0, "op": "EQ"}]), "/syscalls/0/args/0/op"),
        (_rule(action="SCMP_ACT_LOG", args=[{"index": 0, "op": "SCMP_CMP_EQ"}]), "/syscalls/0/args/0"),
        (
            _rule(action="SCMP_ACT_LOG", args=[{"index": 0, "value": 1 << 64, "op": "SCMP_CMP_EQ"}]),
            "/syscalls/0/args/0/value",
        ),
    ],
)
def test_wrong_filters_are_refused(seccomp, wrong):
    assert refused(changed("/linux/seccomp", seccomp)) == {f"/linux/seccomp{wrong}"}
