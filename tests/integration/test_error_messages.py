"""What a person reads when the kernel refuses: from the real helper, through the command, to the line and the hint."""

import json
from typing import Any

import pytest

from fixtures_runtime import BundleFactory, Json, Runtime, default_config

pytestmark = pytest.mark.root


def changed(**linux: Any) -> Json:
    config = default_config()
    config["linux"] |= linux
    return config


def mounting(**mount: Any) -> Json:
    config = default_config()
    config["mounts"].append({"destination": "/extra", **mount})
    return config


def hooked(**hook: Any) -> Json:
    return default_config(hooks={"createRuntime": [{"path": "/bin/sh", **hook}]})


CASES: dict[str, tuple[Json, tuple[str, ...]]] = {
    "unknown option of a filesystem": (
        mounting(type="tmpfs", source="x", options=["nosuid", "szie=64k"]),
        (
            "cannot mount `tmpfs` at `/extra`: Invalid argument (EINVAL)",
            'from /mounts/6/options/1 = "szie=64k"   (config.md#configMounts)',
            "hint: tmpfs does not know the option `szie`; did you mean `size`?",
        ),
    ),
    "unknown filesystem": (
        mounting(type="tmpsf", source="x"),
        ("No such device (ENODEV)", 'from /mounts/6/type = "tmpsf"', "did you mean `tmpfs`?"),
    ),
    "missing source": (
        mounting(source="/no/such/source", options=["bind"]),
        ("cannot bind `/no/such/source` on `/extra`", "does not exist: No such file or directory (ENOENT)"),
    ),
    "program not on the path": (
        default_config("no-such-program"),
        ("executable file not found in $PATH: No such file or directory (ENOENT)", "from /process/args/0"),
    ),
    "missing program": (default_config("/no/such"), ("cannot execute `/no/such`: No such file or directory (ENOENT)",)),
    "directory as a program": (default_config("/bin"), ("cannot execute `/bin`: Permission denied (EACCES)",)),
    "namespace of another type": (
        changed(namespaces=[{"type": "mount"}, {"type": "uts", "path": "/proc/self/ns/net"}]),
        ("is not a uts namespace", 'from /linux/namespaces/1/path = "/proc/self/ns/net"'),
    ),
    "failing hook": (
        hooked(args=["sh", "-c", "echo first; echo last >&2; exit 3"]),
        ("createRuntime hook `/bin/sh` failed with exit status 3: last", "it wrote: first"),
    ),
    "hook that takes too long": (
        hooked(args=["sh", "-c", "sleep 9"], timeout=1),
        ("ran longer than 1 s and was killed",),
    ),
    "another file where a device should be": (
        changed(devices=[{"path": "/bin/sh", "type": "c", "major": 1, "minor": 3}]),
        ("something else is there already: File exists (EEXIST)", "from /linux/devices/0"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_cause_the_line_and_the_hint(name: str, boxwright: Runtime, bundle: BundleFactory) -> None:
    config, expected = CASES[name]
    result = boxwright.run("broken", bundle(config))
    assert result.status == 1
    for text in expected:
        assert text in result.stderr
    assert boxwright.ids() == []


def test_a_warning_names_the_missing_capability(boxwright: Runtime, bundle: BundleFactory) -> None:
    lacking = _lacking()
    if lacking is None:
        pytest.skip("lacks: a capability that the caller does not have")
    config = default_config("/bin/true")
    config["process"]["capabilities"] = {kind: [lacking] for kind in ("bounding", "effective", "permitted")}
    result = boxwright.run("warned", bundle(config))
    assert result.status == 0
    assert f"warning: not kept, as the caller's bounding set does not have them: {lacking}" in result.stderr


def _lacking() -> str | None:
    from boxwright.host.doctor_host import _effective_capabilities
    from boxwright.spec.constants import CAPABILITY_NAMES

    held = _effective_capabilities()
    return next((name for number, name in enumerate(CAPABILITY_NAMES) if not held >> number & 1), None)


def test_explain_shows_the_steps_and_makes_nothing(boxwright: Runtime, bundle: BundleFactory) -> None:
    path = bundle(default_config())
    before = sorted(path.rglob("*"))
    told = json.loads(boxwright.call("explain", "--json", path).stdout)
    assert told["stages"][-1]["lines"][-1]["text"] == "execute `/bin/true`"
    assert "<svg" in boxwright.call("explain", "--html", path).stdout
    assert "cannot" not in boxwright.call("explain", path).stdout
    assert sorted(path.rglob("*")) == before
    assert boxwright.ids() == []


def test_explain_a_command_in_a_box(boxwright: Runtime) -> None:
    told = json.loads(boxwright.call("explain", "--json", "--memory", "64M", "--", "echo", "--json").stdout)
    assert told["program"] == "echo --json"
    assert told["root_writes"] == "writes go with the box"
    assert {"name": "memory", "value": "64 MiB", "pointer": "/linux/resources/memory/limit"} in told["walls"]["limits"]
    assert told["walls"]["seccomp"][0]["name"] == "otherwise"
    assert boxwright.ids() == []
