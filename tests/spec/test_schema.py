"""The standard's own schemas and fixtures, next to our decoder, rules and features document."""

import json
import re

import pytest

from boxwright.errors import ConfigError
from boxwright.spec import types, types_other, types_vm
from boxwright.spec.constants import MOUNT_OPTIONS
from boxwright.spec.decode import decode
from boxwright.spec.default import default_config
from boxwright.spec.features import features
from boxwright.spec.kinds import SpecRecord
from boxwright.spec.names import to_json_name, to_python
from boxwright.spec.tojson import to_json
from boxwright.spec.types import Namespace
from boxwright.spec.validate import validate
from fixtures_runtime import REPOSITORY


def _platform(document):
    return next((name for name in ("freebsd", "zos", "windows", "solaris") if name in document), "linux")


def _problems(text: bytes):
    try:
        config = decode(text)
    except ConfigError as error:
        return list(error.problems)
    platform = _platform(json.loads(text))
    return [problem for problem in validate(_completed(config), platform=platform) if problem.fatal]


def _completed(config):
    """A fixture of the schema is no whole document: the versions are old, and a namespace is left to think of."""
    linux = config.linux
    if linux is not None and linux.net_devices:
        linux = linux.replace(namespaces=(Namespace("network"),))
    return config.replace(oci_version="1.3.0", linux=linux)


@pytest.mark.spec("config.md#configuration")
def test_the_fixtures_of_configurations(spec_dir, validator):
    seen = set()
    for path in sorted((spec_dir / "schema/test/config").glob("*/*.json")):
        text = path.read_bytes()
        try:
            accepted = validator("config-schema.json").is_valid(json.loads(text))
        except ValueError:
            accepted = False
        problems = _problems(text)
        assert (problems == []) == accepted == (path.parent.name == "good"), (path, problems)
        seen.add(path.parent.name)
    assert seen == {"good", "bad"}


@pytest.mark.spec("config.md#configuration")
def test_what_we_write_passes_the_schema(spec_dir, validator):
    for path in sorted((spec_dir / "schema/test/config/good").glob("*.json")):
        config = decode(path.read_bytes())
        written = to_json(config)
        assert list(validator("config-schema.json").iter_errors(written)) == []
        assert decode(json.dumps(written).encode()) == config


@pytest.mark.spec("config.md#configuration")
@pytest.mark.parametrize("rootless", [False, True])
def test_the_configuration_we_propose_is_sound(validator, rootless):
    document = default_config(rootless=rootless, uid=1000, gid=1000)
    assert list(validator("config-schema.json").iter_errors(document)) == []
    assert validate(decode(json.dumps(document).encode())) == []


def _properties(schema: object, found: set[str]) -> set[str]:
    """Every property that a schema names, wherever."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            found.update(schema["properties"])
        for below in schema.values():
            _properties(below, found)
    elif isinstance(schema, list):
        for below in schema:
            _properties(below, found)
    return found


@pytest.mark.spec("config.md#configuration")
def test_every_property_of_the_schemas_has_a_field(schemas):
    records = [
        record
        for module in (types, types_vm, types_other)
        for record in vars(module).values()
        if isinstance(record, type) and issubclass(record, SpecRecord)
    ]
    fields = {field for record in records for field in record._fields}
    named = {name for name in schemas if name.startswith(("config-", "defs"))}
    properties = set()
    for name in named:
        _properties(schemas[name], properties)
    clocks = {"monotonic", "boottime"}  # keys of a map here
    assert {to_python(name) for name in properties - clocks} <= fields
    assert [name for name in properties if to_json_name(to_python(name)) != name] == []
    assert [field for field in fields if to_python(to_json_name(field)) != field] == []


@pytest.mark.spec("features.md#features")
def test_the_features_document_passes_its_schema(validator):
    document = features(annotations={"a": "b"}, unsafe_annotations=["x."])
    assert list(validator("features-schema.json").iter_errors(document)) == []


@pytest.mark.spec("features.md#featuresSpecificationVersion")
@pytest.mark.parametrize("bound", ["ociVersionMin", "ociVersionMax"])
def test_both_bounds_of_the_features_are_taken(bound):
    text = json.dumps({"ociVersion": features()[bound], "root": {"path": "r"}}).encode()
    assert validate(decode(text)) == []


@pytest.mark.spec("features.md#featuresMountOptions")
def test_the_features_list_what_is_recognised():
    document = features(supported_seccomp_flags=["SECCOMP_FILTER_FLAG_LOG"])
    assert set(document["mountOptions"]) == set(MOUNT_OPTIONS)
    linux = {"namespaces": [{"type": kind} for kind in document["linux"]["namespaces"]]}
    linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": document["linux"]["seccomp"]["archs"],
        "flags": document["linux"]["seccomp"]["knownFlags"],
    }
    hooks = {kind: [{"path": "/a"}] for kind in document["hooks"]}
    text = json.dumps({"ociVersion": "1.3.0", "root": {"path": "r"}, "linux": linux, "hooks": hooks}).encode()
    assert validate(decode(text)) == []
    assert document["linux"]["seccomp"]["supportedFlags"] == ["SECCOMP_FILTER_FLAG_LOG"]


def test_every_section_that_we_name_is_there(spec_dir):
    sections = {
        f"{path.name}#{name}"
        for path in spec_dir.glob("*.md")
        for name in re.findall(r'<a name="([^"]+)"', path.read_text())
    }
    room = REPOSITORY / "src/boxwright/spec"
    texts = [path.read_text() for place in (room, REPOSITORY / "tests/spec") for path in place.glob("*.py")]
    named = {anchor for text in texts for anchor in re.findall(r"[\w-]+\.md#\w+", text)}
    named |= {
        f"config-linux.md#configLinux{name}" for text in texts for name in re.findall(r'_SECTION \+ "(\w+)"', text)
    }
    linux = (room / "validate_linux.py").read_text()
    named |= {f"config-linux.md#configLinux{name}" for name in re.findall(r"_ANCHOR}(\w+)", linux)}
    named.discard("config-linux.md#configLinux")  # the beginning of those above
    assert named - sections == set()
