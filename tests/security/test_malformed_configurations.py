"""Whatever stands in config.json: an error that says where, never a fault of ours, never half a container."""

import copy
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from attacks import one_line_error, rounds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures_runtime import BundleFactory, Json, Runtime, default_config
from processes import descendants, kill_descendants

pytestmark = pytest.mark.root

BOX = "malformed"
SECONDS = 10
DEEP = 100_000


def seed() -> Json:
    """A valid configuration with most of what there is to be wrong."""
    config = default_config("/bin/sleep", "60", annotations={"a.b": "c"})
    config["process"].update(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}], oomScoreAdj=100)
    config["process"]["user"]["additionalGids"] = [5]
    config["hooks"] = {"createRuntime": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}]}
    linux = config["linux"]
    linux["devices"] = [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}]
    linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    linux["resources"].update(pids={"limit": 100}, memory={"limit": 1 << 28}, cpu={"shares": 512, "quota": 50000})
    linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
    }
    return config


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in the document."""
    found = [path]
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += _places(below, (*path, key))
    return found


WORDS = ("", "/", "..", "/proc/self", "\0", "\ud800", "a" * 5000, "/" * 300, "-1", "%s%n", "ro", "none", "tmpfs", "ä\n")
NUMBERS = (0, -1, 1, 2**31, 2**32, 2**63, 2**64, 10**30, -(2**63) - 1, 1.5, 1e308)
OTHER = (None, True, [], {}, [[]], {"": ""}, [None], ["a"], [{}])
junk = st.one_of(st.sampled_from(WORDS), st.sampled_from(NUMBERS), st.sampled_from(OTHER), st.text(max_size=8))


@st.composite
def mutated(draw: st.DrawFn) -> Json:
    """The seed with up to three places changed, removed or doubled."""
    config = copy.deepcopy(seed())
    for _ in range(draw(st.integers(1, 3))):
        places = [path for path in _places(config) if path]
        if not places:
            return config
        *way, last = draw(st.sampled_from(places))
        holder: Any = config
        for key in way:
            holder = holder[key]
        how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if how == "remove":
            del holder[last]
        elif how == "add" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        elif how == "add":
            holder[draw(st.sampled_from(["extra", "path", "type", "", "id"]))] = draw(junk)
        else:
            holder[last] = draw(junk)
    return config


@settings(
    max_examples=rounds(120),
    deadline=SECONDS * 1000,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(config=mutated())
def test_a_mutated_configuration_makes_a_container_or_an_error(
    boxwright: Runtime, bundle: BundleFactory, config: Json
) -> None:
    """Malformed config.json: `create` succeeds, or says in words what is wrong and leaves nothing."""
    known = set(descendants(os.getpid()))
    path = bundle()
    root = json.loads((path / "config.json").read_text())["root"]["path"]
    if isinstance(config.get("root"), dict) and config["root"].get("path") == "rootfs":
        config["root"]["path"] = root
    (path / "config.json").write_bytes(json.dumps(config).encode("utf-8", "surrogatepass"))
    result = boxwright.create(BOX, path, check=False, timeout=SECONDS)
    if result.status == 0:
        assert boxwright.state(BOX)["status"] == "created"
        boxwright.delete(BOX, "--force")
    else:
        one_line_error(result)
    assert boxwright.ids() == []
    assert kill_descendants(known) == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b"[" * DEEP,
        b'{"a":' * DEEP,
        b"1" * DEEP,
        b'{"ociVersion": ' + b"9" * 5000 + b"}",
        b'{"ociVersion": NaN}',
        b"null",
        b"{}",
        b'"\\ud800"',
        b'{"ociVersion":"1.0.0","ociVersion":"1.0.0"}',
        b'{"ociVersion":"1.0.0"} {}',
        b"\0" * 100,
    ],
    ids=range(14),
)
def test_a_text_that_is_no_configuration_is_told_so(boxwright: Runtime, tmp_path: Path, text: bytes) -> None:
    """Malformed config.json: bytes that are no JSON, or JSON to choke on."""
    (tmp_path / "config.json").write_bytes(text)
    began = time.monotonic()
    error = one_line_error(boxwright.create(BOX, tmp_path, check=False, timeout=SECONDS))
    assert time.monotonic() - began < SECONDS
    assert len(error) < 4000
    assert boxwright.ids() == []


@pytest.mark.parametrize("place", ["config.json", "bundle", "process"])
@pytest.mark.parametrize("kind", ["directory", "missing", "link in a circle"])
def test_a_file_that_is_none_is_an_error(boxwright: Runtime, tmp_path: Path, place: str, kind: str) -> None:
    """Malformed bundles: what should be a file or a directory and is not."""
    path = tmp_path / ("bundle" if place == "bundle" else "config.json")
    if kind == "directory" and place != "bundle":
        path.mkdir()
    elif kind == "link in a circle":
        path.symlink_to(path)
    if place == "process":
        result = boxwright.call("exec", "--process", path, BOX, check=False, timeout=SECONDS)
    else:
        result = boxwright.create(BOX, path if place == "bundle" else tmp_path, check=False, timeout=SECONDS)
    one_line_error(result)
