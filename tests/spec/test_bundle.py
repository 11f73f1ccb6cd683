"""bundle.md, and config.md's annotations and unknown properties, on real containers."""

import json

import pytest

from fixtures_probe import Boxes

pytestmark = pytest.mark.root


@pytest.mark.spec("bundle.md#containerFormat", "bundle.md#containerFormat01")
def test_the_configuration_is_config_json_of_the_bundle(boxes: Boxes):
    bundle = boxes.bundle(boxes.config("args", "ran"))
    assert boxes.run_bundle(bundle).stdout == "ran\n"
    for name in ("Config.json", "config.jsn", "sub/config.json"):
        (bundle / "sub").mkdir(exist_ok=True)
        (bundle / "config.json").rename(bundle / name)
        assert "config.json" in boxes.refused_bundle(bundle)
        (bundle / name).rename(bundle / "config.json")


@pytest.mark.spec("bundle.md#containerFormat", "bundle.md#containerFormat02")
def test_the_root_is_in_the_bundle(boxes: Boxes):
    bundle = boxes.bundle(boxes.config("args", "ran"), copy=True)
    assert boxes.run_bundle(bundle).stdout == "ran\n"
    (bundle / "rootfs").rename(bundle / "elsewhere")
    assert "/root/path" in boxes.refused_bundle(bundle)


@pytest.mark.spec("bundle.md#containerFormat")
def test_a_bundle_that_is_none(boxes: Boxes):
    assert "bundle" in boxes.refused_bundle(boxes.directory / "missing")
    assert "bundle" in boxes.refused_bundle(boxes.root / "etc/passwd")


@pytest.mark.spec("glossary.md#glossaryJson")
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text.replace('"hostname"', '"hostname": "twice", "hostname"', 1).encode(),
        lambda text: text.replace("box", "b\udc80x").encode(errors="surrogateescape"),
        lambda text: text.encode("utf-16"),
        lambda _text: "",
        lambda _text: "[]",
        lambda text: text + "{}",
        lambda text: text.replace('"terminal": false', '"terminal": NaN'),
    ],
)
def test_what_is_no_json_creates_nothing(boxes: Boxes, change):
    bundle = boxes.bundle(boxes.config())
    changed = change((bundle / "config.json").read_text())
    (bundle / "config.json").write_bytes(changed.encode() if isinstance(changed, str) else changed)
    assert "config.json" in boxes.refused_bundle(bundle)


@pytest.mark.spec("config.md#configExtensibility")
def test_unknown_properties_are_passed_over(boxes: Boxes):
    config = boxes.config("args", "ran")
    for place in (
        config,
        config["process"],
        config["root"],
        config["linux"],
        config["mounts"][0],
        config["linux"]["resources"],
    ):
        place["org.example.unknown"] = {"any": ["thing", None, 1.5]}
    assert boxes.output(config) == "ran\n"


@pytest.mark.spec("config.md#configAnnotations")
@pytest.mark.parametrize(
    "annotations", [{}, {"org.example": "value"}, {"key": ""}, {"org.opencontainers.image.os": "linux"}, {"ü": "ü"}]
)
def test_annotations_come_with_the_state(boxes: Boxes, annotations):
    box = boxes.created(boxes.config("args") | {"annotations": annotations})
    assert box.state().get("annotations", {}) == annotations


@pytest.mark.spec("config.md#configAnnotations")
@pytest.mark.parametrize("annotations", [{"": "x"}, {"a": 1}, {"a": None}, {"a": {}}, [], "x"])
def test_wrong_annotations_create_nothing(boxes: Boxes, annotations):
    assert "/annotations" in boxes.refused(boxes.config() | {"annotations": annotations})


@pytest.mark.spec("config-linux.md#configLinuxMountLabel")
def test_a_mount_label_needs_selinux_or_has_no_effect(boxes: Boxes):
    config = boxes.config("args", "ran")
    config["linux"]["mountLabel"] = "system_u:object_r:svirt_sandbox_file_t:s0:c1,c2"
    result = boxes.run(config)
    assert result.stdout == "ran\n" or "mountLabel" in result.stderr


@pytest.mark.spec("config.md#configuration")
def test_the_configuration_may_be_formatted_in_any_way(boxes: Boxes):
    bundle = boxes.bundle(boxes.config("args", "ran"))
    config = json.loads((bundle / "config.json").read_text())
    for options in ({"indent": 7}, {"separators": (",", ":")}, {"ensure_ascii": False, "sort_keys": True}):
        (bundle / "config.json").write_text(json.dumps(config, **options))
        assert boxes.run_bundle(bundle).stdout == "ran\n"
