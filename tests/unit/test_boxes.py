"""The table of what each box honours is whole, agrees with the check, and is the page in the docs."""

from collections.abc import Iterator

import pytest

from boxwright.boxes import table
from boxwright.boxes.capabilities import IGNORED, LEVELS, SUPPORTED, UNSUPPORTED, row_of, rows
from boxwright.boxes.require import BOXES, ISOLATION_ANNOTATION, isolation_of, require
from boxwright.errors import UnsupportedError, UsageError
from boxwright.spec.constants import HOOK_KINDS, MOUNT_OPTIONS, NAMESPACES
from boxwright.spec.decode import from_value, plain_kind
from boxwright.spec.kinds import SpecRecord
from boxwright.spec.names import to_json_name
from boxwright.spec.types import Config
from fixtures_runtime import REPOSITORY

PAGE = REPOSITORY / "docs/reference/boxes.md"
LEAST: dict[str, object] = {"ociVersion": "1.3.0", "root": {"path": "rootfs"}}
# a value of each section that decodes, and that a box of Linux must not take
SECTIONS: dict[str, object] = {
    "vm": {"kernel": {"path": "/boot/vmlinuz"}},
    "windows": {"layerFolders": ["C:\\layer"]},
    "solaris": {"milestone": "svc:/milestone/container:default"},
    "zos": {},
    "freebsd": {},
}


def properties(kind: object, path: str = "") -> Iterator[str]:
    """Every property of the standard by its path, from the types that documents are decoded by."""
    kind = plain_kind(kind)
    origin, arguments = getattr(kind, "__origin__", None), getattr(kind, "__args__", ())
    if origin is tuple and isinstance(plain_kind(arguments[0]), type) and issubclass(arguments[0], SpecRecord):
        yield from properties(arguments[0], f"{path}[]")
    elif isinstance(kind, type) and issubclass(kind, SpecRecord):
        for field, below in kind._kinds.items():
            yield from properties(below, f"{path}.{to_json_name(field)}".lstrip("."))
    else:
        yield path


ALL = sorted(set(properties(Config)))


def test_the_types_are_walked() -> None:
    assert "linux.resources.memory.swap" in ALL
    assert "mounts[].options" in ALL
    assert len(ALL) > 150


@pytest.mark.parametrize("prop", ALL)
def test_every_property_of_the_standard_has_a_row(prop: str) -> None:
    assert row_of(prop) is not None


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.property)
def test_every_row_is_of_the_standard(row: table.Row) -> None:
    base, _, last = row.property.rpartition(".")
    values = {"mounts[].options": MOUNT_OPTIONS, "linux.namespaces": NAMESPACES, "hooks": HOOK_KINDS}
    known = any(prop == row.property or prop.startswith((f"{row.property}.", f"{row.property}[]")) for prop in ALL)
    assert known or last in values.get(base, ())
    for box in BOXES:
        support = row.of(box)
        assert support.level in LEVELS
        assert support.text or support.level == SUPPORTED


def test_rows_are_not_doubled() -> None:
    names = [row.property for row in rows()]
    assert len(names) == len(set(names))


def test_every_kind_of_hook_has_a_row() -> None:
    assert {f"hooks.{kind}" for kind in HOOK_KINDS} <= {row.property for row in rows()}


@pytest.mark.parametrize("section", SECTIONS)
def test_sections_of_other_platforms_are_refused(section: str) -> None:
    config = from_value(Config, {**LEAST, section: SECTIONS[section]})
    with pytest.raises(UnsupportedError, match=f"`{section}` is not supported by the `linux` box"):
        require(config)


def test_what_the_table_calls_unsupported_is_what_is_refused() -> None:
    unsupported = {row.property for row in rows() if row.linux.level == UNSUPPORTED}
    assert unsupported == set(SECTIONS)


def test_what_is_ignored_belongs_to_another_platform() -> None:
    ignored = {row.property for row in rows() if row.linux.level == IGNORED}
    assert ignored == {"process.commandLine", "process.user.username"}


def test_a_plain_configuration_is_taken() -> None:
    require(from_value(Config, {**LEAST, "linux": {"namespaces": [{"type": "mount"}]}}))


def test_boxes_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="`sandbox` box"):
        require(from_value(Config, LEAST), "sandbox")
    with pytest.raises(UsageError, match="`matchbox` is no kind of box"):
        require(from_value(Config, LEAST), "matchbox")


def test_the_kind_of_box_is_what_is_asked_for() -> None:
    plain, marked = (
        from_value(Config, LEAST),
        from_value(Config, {**LEAST, "annotations": {ISOLATION_ANNOTATION: "vm"}}),
    )
    sectioned = from_value(Config, {**LEAST, "vm": SECTIONS["vm"]})
    assert [isolation_of(config) for config in (plain, marked, sectioned)] == ["linux", "vm", "vm"]
    assert isolation_of(marked, "linux") == "linux"
    require(sectioned, "vm")


def test_the_page_is_what_the_table_says() -> None:
    assert PAGE.read_text() == table.page(), "write it anew: python -m boxwright.boxes.table > docs/reference/boxes.md"
