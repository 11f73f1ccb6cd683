"""features.md: what `features` says is valid by the schema, and true."""

import json
import re
from pathlib import Path

import pytest

from fixtures_probe import Boxes, bind, mapping, tmpfs

pytestmark = pytest.mark.spec("features.md#features")


@pytest.fixture(scope="module")
def features(boxwright_command, tmp_path_factory):
    from fixtures_runtime import Runtime

    runtime = Runtime([boxwright_command], tmp_path_factory.mktemp("features"))
    return json.loads(runtime.call("features").stdout)


@pytest.mark.spec("features-linux.md#linuxFeatures")
def test_the_document_is_valid(features, validator):
    validator("features-schema.json").validate(features)


def test_nothing_that_the_standard_does_not_know(features, schemas, spec_dir):
    known = set(schemas["features-schema.json"]["properties"])
    assert set(features) <= known
    linux = set(schemas["features-linux.json"]["linux"]["properties"])
    # the schema is behind the text by some
    linux |= set(re.findall(r"^(?:\* )?\*\*`(\w+)`\*\*", (spec_dir / "features-linux.md").read_text(), re.MULTILINE))
    assert set(features["linux"]) <= linux


@pytest.mark.spec("features.md#featuresSpecificationVersion")
def test_the_versions_are_in_order(features):
    low, high = (tuple(map(int, features[key].split("-")[0].split("."))) for key in ("ociVersionMin", "ociVersionMax"))
    assert low <= high


@pytest.mark.root
@pytest.mark.spec("config.md#configSpecificationVersion")
def test_every_version_between_is_taken_and_no_other(boxes: Boxes, features):
    low, high = features["ociVersionMin"], features["ociVersionMax"]
    major, minor, _ = high.split(".")
    for version in {low, high, "1.0.2", "1.1.0", "1.2.1", f"{major}.{minor}.9"}:
        assert boxes.probe("args", version, ociVersion=version) == f"{version}\n"
    for version in (f"{major}.{int(minor) + 1}.0", f"{int(major) + 1}.0.0", "0.2.0", "1", "one", "", "1.0.02", None):
        assert "ociVersion" in boxes.refused(boxes.config() | {"ociVersion": version})


@pytest.mark.spec("features.md#featuresHooks")
def test_the_hooks_are_those_of_the_standard(features, spec_dir):
    text = (spec_dir / "config.md").read_text()
    named = re.findall(
        r"\* \*\*`(\w+)`\*\* \(array of objects, OPTIONAL(?:, \*\*DEPRECATED\*\*)?\) is an array of \[`", text
    )
    assert sorted(features["hooks"]) == sorted(named)
    assert len(named) == 6


@pytest.mark.root
@pytest.mark.spec("features.md#featuresHooks")
def test_every_hook_works(boxes: Boxes, features):
    out = boxes.directory / "out"
    out.mkdir()
    config = boxes.config("args")
    config["mounts"].append(bind(out, "bind"))
    config["hooks"] = {
        kind: [{"path": "/bin/touch", "args": ["touch", f"{'/mnt/a' if kind == 'startContainer' else out}/{kind}"]}]
        for kind in features["hooks"]
    }
    boxes.output(config)
    assert sorted(path.name for path in out.iterdir()) == sorted(features["hooks"])


@pytest.mark.spec("features.md#featuresMountOptions")
def test_the_mount_options_are_those_of_the_standard(features, spec_dir):
    text = (spec_dir / "config.md").read_text()
    table = dict(re.findall(r"^ `(\w+) *` +\| (\w+)", text, re.MULTILINE))
    assert len(table) > 60
    assert set(table) <= set(features["mountOptions"])


@pytest.mark.root
@pytest.mark.spec("features.md#featuresMountOptions")
def test_every_mount_option_works(boxes: Boxes, features):
    # all in one container: one mount each
    config, source = boxes.shell("cat /proc/self/mountinfo"), boxes.directory / "source"
    source.mkdir()
    maps = {"uidMappings": mapping(0, 1000, 10), "gidMappings": mapping(0, 1000, 10)}
    config["mounts"].append(tmpfs())
    for option in features["mountOptions"]:
        place = f"/mnt/a/{option}"
        if option in {"idmap", "ridmap"}:
            mount = bind(source, "bind", option, at=place) | maps
        elif option == "remount":
            config["mounts"].append(tmpfs(at=place))
            mount = tmpfs(option, "ro", at=place)
        elif option in {"bind", "rbind"}:
            mount = bind(source, option, at=place)
        elif option.startswith("r") and option[1:] in features["mountOptions"]:
            mount = bind(source, "rbind", option, at=place)
        else:
            mount = tmpfs(option, at=place)
        config["mounts"].append(mount)
    places = {line.split()[4] for line in boxes.output(config).splitlines()}
    assert {f"/mnt/a/{option}" for option in features["mountOptions"]} <= places


@pytest.mark.root
@pytest.mark.spec("features-linux.md#linuxFeaturesNamespaces")
def test_every_namespace_works(boxes: Boxes, features):
    config = boxes.config("stat", "/proc/self/ns/pid")
    config["linux"]["namespaces"] = [{"type": kind} for kind in features["linux"]["namespaces"]]
    config["linux"] |= {"uidMappings": mapping(0, 100_000, 65536), "gidMappings": mapping(0, 100_000, 65536)}
    assert boxes.output(config)
    assert len(features["linux"]["namespaces"]) == 8


@pytest.mark.root
@pytest.mark.spec("features-linux.md#linuxFeaturesCapabilities")
def test_every_capability_is_known(boxes: Boxes, features):
    config = boxes.config("args", "on")
    config["process"]["capabilities"] = {"bounding": features["linux"]["capabilities"]}
    result = boxes.run(config)
    assert result.stdout == "on\n"
    assert "unknown" not in result.stderr
    kernel = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert len(features["linux"]["capabilities"]) >= kernel + 1


@pytest.mark.root
@pytest.mark.spec("features-linux.md#linuxFeaturesSeccomp")
@pytest.mark.parametrize("key", ["actions", "operators", "archs", "supportedFlags"])
def test_every_word_of_seccomp_is_taken(boxes: Boxes, features, key):
    section = features["linux"]["seccomp"]
    assert section["enabled"]
    for word in section[key]:
        if word in {"SCMP_ACT_NOTIFY", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"}:
            continue  # needs an agent: seen in the tests of the listener
        rule = {"names": ["umount2"], "action": "SCMP_ACT_ERRNO"}
        seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
        if key == "actions":
            rule["action"] = word
        elif key == "operators":
            rule["args"] = [{"index": 0, "value": 1, "valueTwo": 1, "op": word}]
        elif key == "archs":
            seccomp["architectures"] = ["SCMP_ARCH_X86_64", word]
        else:
            seccomp["flags"] = [word]
        config = boxes.config("args", word)
        config["linux"]["seccomp"] = seccomp
        assert boxes.output(config) == f"{word}\n"


@pytest.mark.spec("features-linux.md#linuxFeaturesSeccomp")
def test_the_words_of_seccomp_are_those_of_the_standard(features, spec_dir):
    text = (spec_dir / "config-linux.md").read_text()
    section = features["linux"]["seccomp"]
    for key, pattern in {
        "actions": r"\* `(SCMP_ACT_\w+)`",
        "operators": r"\* `(SCMP_CMP_\w+)`",
        "archs": r"\* `(SCMP_ARCH_\w+)`",
        "knownFlags": r"\* `(SECCOMP_FILTER_FLAG_\w+)`",
    }.items():
        assert set(section[key]) == set(re.findall(pattern, text)), key
    assert set(section["supportedFlags"]) <= set(section["knownFlags"])


@pytest.mark.spec("features-linux.md#linuxFeaturesMemoryPolicy")
def test_the_words_of_memory_policies_are_those_of_the_standard(features, spec_dir):
    text = (spec_dir / "config-linux.md").read_text()
    words = set(re.findall(r"\* `(MPOL_\w+)`", text))
    policy = features["linux"]["memoryPolicy"]
    assert set(policy["modes"]) | set(policy["flags"]) == words
    assert all(flag.startswith("MPOL_F_") for flag in policy["flags"])


@pytest.mark.spec("features-linux.md#linuxFeaturesMountExtensions")
def test_id_mapped_mounts_are_told(features):
    assert features["linux"]["mountExtensions"]["idmap"]["enabled"] is True


@pytest.mark.spec("features-linux.md#linuxFeaturesCgroup")
def test_what_is_told_of_cgroups(features):
    assert {"v1", "v2", "systemd", "systemdUser", "rdma"} <= set(features["linux"]["cgroup"])


@pytest.mark.spec("features.md#featuresPotentiallyUnsafeConfigAnnotations")
def test_annotations_that_change_what_a_box_may_are_named(features):
    """What a configuration's annotations can do is told to engines that let strangers set them."""
    unsafe = features["potentiallyUnsafeConfigAnnotations"]
    for name in ("run.oci.keep_original_groups", "boxwright.init-system"):
        assert any(name == entry or (entry.endswith(".") and name.startswith(entry)) for entry in unsafe), name


@pytest.mark.spec("features.md#featuresAnnotations")
def test_the_runtime_tells_of_itself(features):
    assert all(isinstance(value, str) and "." in key for key, value in features["annotations"].items())
    assert features["annotations"]["org.boxwright.version"]


@pytest.mark.spec(
    "features-linux.md#linuxFeaturesApparmor",
    "features-linux.md#linuxFeaturesIntelRdt",
    "features-linux.md#linuxFeaturesNetDevices",
)
def test_parts_that_are_there_whatever_the_host(features):
    linux = features["linux"]
    assert [linux[name]["enabled"] for name in ("apparmor", "selinux", "intelRdt", "netDevices")] == [True] * 4
    assert linux["intelRdt"] == {"enabled": True, "schemata": True, "monitoring": True}
