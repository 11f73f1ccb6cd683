"""Reading and writing JSON without `json`, with `json` as the judge; and what fuzzing must never see."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxwright.errors import ConfigError
from boxwright.spec.decode import decode
from boxwright.spec.jsontext import encode_json, parse_json
from boxwright.spec.tojson import to_json
from boxwright.spec.validate import validate
from spec_documents import SOUND

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(_VALUES)
def test_what_is_written_reads_back(value):
    assert json.loads(encode_json(value)) == value
    assert encode_json(value) == json.dumps(value, separators=(",", ":"))
    assert encode_json(value, indent=2) == json.dumps(value, indent=2)
    assert parse_json(encode_json(value).encode()) == value


def test_tuples_are_arrays():
    assert encode_json({"a": (1, ())}) == '{"a":[1,[]]}'
    assert encode_json({"a": (1, ())}, indent=1) == '{\n "a": [\n  1,\n  []\n ]\n}'


@pytest.mark.parametrize("indent", [None, 2])
def test_what_json_lacks_is_not_written(indent):
    with pytest.raises(TypeError, match="has no form in JSON"):
        encode_json({"a": {1, 2}}, indent=indent)
    with pytest.raises(ValueError, match="JSON"):
        encode_json([float("nan")], indent=indent)


def test_a_problem_names_its_source():
    with pytest.raises(ConfigError, match=r"^state\.json: "):
        parse_json(b"{", source="state.json")


def test_duplicates_are_found_at_any_depth():
    deep = b'{"ociVersion":"1.0.0","extra":' + b"[" * 900 + b'{"a":1,"a":2}' + b"]" * 900 + b"}"
    with pytest.raises(ConfigError, match="duplicate name `a`") as caught:
        decode(deep)
    assert caught.value.problems[0].pointer == "/extra" + "/0" * 900 + "/a"


def test_a_problem_shows_no_control_characters_and_no_long_values():
    with pytest.raises(ConfigError) as caught:
        parse_json(json.dumps({"a": 1}).encode()[:-1] + b',"\\u001b[2J":1,"\\u001b[2J":2}')
    assert "\x1b" not in str(caught.value)
    assert "\\x1b[2J" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        decode(json.dumps(SOUND | {"hostname": ["x" * 10_000], "root": "x" * 10_000}).encode())
    assert len(caught.value.render()) < 1000


def _checked(text: bytes) -> None:
    """Decode and validate: nothing but ConfigError may come out, and what is sound must survive a round."""
    try:
        config = decode(text)
    except ConfigError:
        return
    for problem in validate(config):
        assert str(problem)
    assert decode(encode_json(to_json(config)).encode()) == config


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes(text):
    _checked(text)


def _places(value, way=()):
    yield way
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in items:
        yield from _places(below, (*way, name))


_FULL = SOUND | {
    "annotations": {"a": "b"},
    "hooks": {"prestart": [{"path": "/a", "timeout": 1}]},
    "vm": {"kernel": {"path": "/k"}, "hwConfig": {"vcpus": 1}},
    "windows": {"layerFolders": ["a"], "credentialSpec": {"a": 1}},
    "linux": SOUND["linux"]
    | {
        "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}],
        "resources": {"memory": {"limit": 1}, "rdma": {"a": {"hcaHandles": 1}}, "unified": {"a": "b"}},
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_LOG"}]},
        "sysctl": {"net.a": "1"},
        "netDevices": {"eth0": {"name": "a%d"}},
        "timeOffsets": {"monotonic": {"secs": 1}},
    },
}


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(list(_places(_FULL))), _VALUES | st.sampled_from(["", "/", "%d", "..", "MB:", "-", "0-", 0, -1]))
def test_any_value_anywhere(way, value):
    document = json.loads(json.dumps(_FULL))
    place = document
    for step in way[:-1]:
        place = place[step]
    if way:
        place[way[-1]] = value
    else:
        document = value
    _checked(json.dumps(document).encode())


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_document_with_a_few_bytes_changed(data):
    text = bytearray(json.dumps(_FULL).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    _checked(bytes(text))
