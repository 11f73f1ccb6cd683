"""config.md: versions, JSON, root, annotations, extensibility, host names."""

import json

import pytest

from boxwright.errors import ConfigError
from boxwright.spec.decode import decode
from boxwright.spec.unknown import unknown_properties
from spec_documents import SOUND, changed, problems_of, refused, warned


@pytest.mark.spec("config.md#configuration")
def test_a_sound_document_has_no_problem():
    assert problems_of(SOUND) == []


@pytest.mark.spec("config.md#configSpecificationVersion")
@pytest.mark.parametrize(
    "version", ["1.0.0", "1.0.2-dev", "1.1.0-rc.2", "1.2.1", "1.3.0", "1.3.0+dev", "1.3.7", "1.0.0-a.b-c+0.x"]
)
def test_known_versions_are_taken(version):
    assert problems_of(changed("/ociVersion", version)) == []


@pytest.mark.spec("config.md#configSpecificationVersion")
@pytest.mark.parametrize(
    "version",
    ["", "1", "1.0", "one", "2.0.0", "0.9.9", "1.4.0", "1.4.0-dev", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "1.0.0.0",
     "1.0.x", " 1.0.0", "1.0.0\n", "v1.0.0", "1.-1.0", "1.0.٣", "1.0.0-a..b", "1.0.0+ä"],
)  # fmt: skip
def test_other_versions_are_refused(version):
    assert refused(changed("/ociVersion", version)) == {"/ociVersion"}


@pytest.mark.spec("glossary.md#glossaryJson")
@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"{}x", b"{} {}", b"[1,]", b'{"a":1,}', b"{'a':1}", b"\xef\xbb\xbf{}", b'{"a":"\t"}', b'"\\x"', b"01",
     b"nul", b'{"a" 1}', b"\xff{}", b'{"a":"\xed\xa0\x80"}', b"[" * 100_000, b"9" * 5000, b"// a\n{}"],
)  # fmt: skip
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ConfigError):
        decode(text)


@pytest.mark.spec("glossary.md#glossaryJson")
def test_a_syntax_error_has_line_and_column():
    with pytest.raises(ConfigError, match="line 3, column 10"):
        decode(b'{\n  "ociVersion": "1.0.0",\n  "root" {}\n}')


@pytest.mark.spec("glossary.md#glossaryJson")
def test_duplicate_names_are_refused_where_they_stand():
    with pytest.raises(ConfigError) as caught:
        decode(b'{"ociVersion":"1.0.0","root":{"path":"a","path":"b"},"root":{"path":"a","p/":1,"p/":2}}')
    assert {problem.pointer for problem in caught.value.problems} == {"", "/root", "/root/p~1"}


@pytest.mark.spec("glossary.md#glossaryJson")
@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_json_lacks_are_refused(number):
    with pytest.raises(ConfigError, match="no number of JSON"):
        decode(b'{"ociVersion":"1.0.0","extra":' + number + b"}")


@pytest.mark.spec("config.md#configExtensibility")
def test_unknown_properties_are_ignored_and_can_be_listed():
    document = changed("/linux/futureThing", {"a": [1, {"b": None}]}) | {"more": 1}
    assert problems_of(document) == []
    found = unknown_properties(json.dumps(document).encode())
    assert {problem.pointer for problem in found} == {"/linux/futureThing", "/more"}
    assert not any(problem.fatal for problem in found)


@pytest.mark.spec("config.md#configExtensibility")
def test_an_unknown_property_is_given_the_name_that_was_meant():
    found = unknown_properties(json.dumps(changed("/process/noNewPrivilege", True)).encode())
    assert [problem.hint for problem in found] == ["did you mean `noNewPrivileges`?"]


@pytest.mark.spec("config.md#configRoot")
def test_root_is_required():
    assert refused({name: value for name, value in SOUND.items() if name != "root"}) == {""}
    assert refused(changed("/root", {})) == {"/root"}
    assert refused(changed("/root/path", "")) == {"/root/path"}


@pytest.mark.spec("config.md#configAnnotations")
def test_annotations():
    sound = {"com.example.a": "", "plain": "x", "org.opencontainers.image.stopSignal": "TERM"}
    assert problems_of(changed("/annotations", sound)) == []
    assert problems_of(changed("/annotations", {})) == []
    assert refused(changed("/annotations", {"": "x"})) == {"/annotations/"}
    assert refused(changed("/annotations", {"a": 1})) == {"/annotations/a"}
    assert warned(changed("/annotations", {"org.opencontainers.other": "x"})) == {
        "/annotations/org.opencontainers.other"
    }


@pytest.mark.spec("config.md#configHostname")
@pytest.mark.spec("config.md#configDomainname")
@pytest.mark.parametrize("name", ["hostname", "domainname"])
def test_host_names_need_a_uts_namespace(name):
    assert problems_of(changed(f"/{name}", "a" * 64)) == []
    assert refused(changed(f"/{name}", "a" * 65)) == {f"/{name}"}
    shared = changed(f"/{name}", "box")
    shared["linux"]["namespaces"] = [{"type": "mount"}]
    assert f"/{name}" in refused(shared)
