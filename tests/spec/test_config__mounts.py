"""config.md: mounts and their options."""

import re

import pytest

from boxwright.spec.constants import MOUNT_OPTIONS, fold_attribute
from spec_documents import changed, problems_of, refused, warned

_MAPPINGS = [{"containerID": 0, "hostID": 1000, "size": 10}]


def _mount(**properties):
    return changed("/mounts/-", {"destination": "/data", "source": "/data", **properties})


@pytest.mark.spec("config.md#configMounts")
def test_destination():
    assert refused(changed("/mounts/-", {"source": "x"})) == {"/mounts/1"}
    assert refused(_mount(destination="")) == {"/mounts/1/destination"}
    assert refused(_mount(destination="data")) == set()
    assert warned(_mount(destination="data")) == {"/mounts/1/destination"}


@pytest.mark.spec("config.md#configMounts")
def test_a_bind_mount_needs_a_source():
    assert refused(changed("/mounts/-", {"destination": "/a", "options": ["rbind"]})) == {"/mounts/1"}
    assert problems_of(_mount(options=["rbind", "ro"])) == []


@pytest.mark.spec("config.md#configPOSIXMounts")
def test_mappings_come_together():
    assert refused(_mount(uidMappings=_MAPPINGS)) == {"/mounts/1/gidMappings"}
    assert refused(_mount(gidMappings=_MAPPINGS)) == {"/mounts/1/uidMappings"}
    assert problems_of(_mount(uidMappings=_MAPPINGS, gidMappings=_MAPPINGS, options=["bind", "idmap"])) == []


@pytest.mark.spec("config.md#configLinuxMountOptions")
@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_idmap_needs_mappings_or_a_user_namespace(option):
    document = _mount(options=["bind", option])
    assert refused(document) == {"/mounts/1/options/1"}
    document["linux"]["namespaces"].append({"type": "user"})
    assert refused(document) == set()


@pytest.mark.spec("config.md#configLinuxMountOptions")
def test_tmpcopyup_is_for_tmpfs():
    assert problems_of(_mount(type="tmpfs", options=["tmpcopyup"])) == []
    assert refused(_mount(type="ext4", options=["ro", "tmpcopyup"])) == {"/mounts/1/options/1"}


@pytest.mark.spec("config.md#configLinuxMountOptions")
def test_unknown_options_are_left_to_the_filesystem():
    assert problems_of(_mount(type="tmpfs", options=["size=64k", "szie=64k"])) == []


@pytest.mark.spec("config.md#configLinuxMountOptions")
def test_every_option_of_the_standard_is_in_the_table(spec_dir):
    text = (spec_dir / "config.md").read_text()
    options = set(re.findall(r"^ `(\w+) *` +\| (?:MUST|SHOULD|MAY)", text, re.MULTILINE))
    assert len(options) > 50
    assert options <= set(MOUNT_OPTIONS)


@pytest.mark.spec("config.md#configLinuxMountOptions")
@pytest.mark.parametrize(
    ("options", "masks"),
    [
        (["ro"], (0x1, 0x1)),
        (["ro", "rw"], (0x0, 0x1)),
        (["nosuid", "nodev", "noexec"], (0xE, 0xE)),
        (["noatime"], (0x10, 0x70)),
        (["noatime", "strictatime"], (0x20, 0x70)),
        (["noatime", "atime"], (0x00, 0x70)),
        (["strictatime", "atime"], (0x20, 0x70)),
        (["strictatime", "relatime", "nodiratime"], (0x80, 0xF0)),
        (["norelatime"], (0, 0)),
        (["nosymfollow"], (0x200000, 0x200000)),
    ],
)
@pytest.mark.parametrize("prefix", ["", "r"])
def test_attributes_fold_to_the_masks_of_mount_setattr(options, masks, prefix):
    folded = (0, 0)
    for option in options:
        known = MOUNT_OPTIONS[prefix + option]
        assert known[0] == ("recursive" if prefix else "attribute")
        folded = fold_attribute(*folded, known)
    assert folded == masks
