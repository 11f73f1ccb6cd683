"""Records that know where they come from, and the names between JSON and Python."""

import copy
import pickle

import pytest

from boxwright.errors import ConfigError
from boxwright.spec.decode import decode, decode_process, from_value
from boxwright.spec.kinds import pointer_token
from boxwright.spec.names import to_json_name, to_python
from boxwright.spec.types import Config, Linux, Mount, Process, User


def test_each_record_has_its_pointer():
    config = decode(
        b'{"ociVersion":"1.0.0","mounts":[{"destination":"/a"},{"destination":"/b","options":["ro"]}],'
        b'"process":{"cwd":"/"},"linux":{"netDevices":{"a/b~c":{}},"resources":{"memory":{}}}}'
    )
    assert config.pointer == ""
    assert config.at("ociVersion") == "/ociVersion"
    assert config.mounts[1].pointer == "/mounts/1"
    assert config.mounts[1].at("options", 0) == "/mounts/1/options/0"
    assert config.linux.net_devices["a/b~c"].pointer == "/linux/netDevices/a~1b~0c"
    assert config.linux.resources.memory.at("limit") == "/linux/resources/memory/limit"
    assert config.process.user.pointer == "/process/user"


def test_a_process_alone_is_its_own_document():
    process = decode_process(b'{"cwd":"/","args":["a"],"user":{"uid":7}}')
    assert (process.pointer, process.user.pointer, process.user.uid) == ("", "/user", 7)


def test_the_pointer_takes_no_part_in_equality_and_survives_copies():
    made = Mount("/a", options=("ro",), pointer="/mounts/3")
    assert made == Mount("/a", options=("ro",))
    assert hash(made) == hash(Mount("/a", options=("ro",)))
    assert made.replace(type="tmpfs").pointer == "/mounts/3"
    assert made.replace(pointer="/x").pointer == "/x"
    for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert (again, again.pointer) == (made, "/mounts/3")


def test_records_are_frozen_and_their_default_maps_too():
    with pytest.raises(AttributeError):
        Mount("/a").pointer = "/b"
    with pytest.raises(TypeError):
        Linux().sysctl["a"] = "b"
    assert Linux().sysctl == {}


def test_missing_values():
    process = from_value(Process, {"cwd": "/", "capabilities": {"bounding": []}, "env": None, "terminal": None})
    assert process.capabilities.bounding == ()
    assert process.capabilities.ambient is None
    assert (process.env, process.terminal, process.user) == ((), None, User())


def test_every_problem_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        from_value(Config, {"process": {"args": ["a", 1, None], "user": {"uid": -1}}, "mounts": [{}, 5]}, "/base")
    assert [problem.pointer for problem in caught.value.problems] == [
        "/base",
        "/base/process",
        "/base/process/args/1",
        "/base/process/args/2",
        "/base/process/user/uid",
        "/base/mounts/0",
        "/base/mounts/1",
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b'{"ociVersion":"1.0.0\\u0000"}', "/ociVersion"),
        (b'{"ociVersion":"1.0.0","process":{"cwd":"/","args":["a","\\uD800"]}}', "/process/args/1"),
        (b'{"ociVersion":"1.0.0","annotations":{"\\udfff":"x"}}', "/annotations"),
        (b'{"ociVersion":"1.0.0","mounts":[{"destination":"/a\\u0000b"}]}', "/mounts/0/destination"),
    ],
)
def test_texts_that_no_system_call_takes(text, where):
    with pytest.raises(ConfigError) as caught:
        decode(text)
    assert [problem.pointer for problem in caught.value.problems] == [where]


def test_a_pair_of_surrogates_is_one_letter():
    assert decode(b'{"ociVersion":"1.0.0","hostname":"\\ud83d\\ude00"}').hostname == "\U0001f600"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("noNewPrivileges", "no_new_privileges"),
        ("containerID", "container_id"),
        ("closID", "clos_id"),
        ("blockIO", "block_io"),
        ("disableOOMKiller", "disable_oom_killer"),
        ("l3CacheSchema", "l3_cache_schema"),
        ("memBwSchema", "mem_bw_schema"),
        ("kernelTCP", "kernel_tcp"),
        ("throttleReadIOPSDevice", "throttle_read_iops_device"),
        ("execCPUAffinity", "exec_cpu_affinity"),
        ("nrMFNs", "nr_mfns"),
        ("DNSSearchList", "dns_search_list"),
        ("utilityVMPath", "utility_vm_path"),
        ("class", "class_"),
        ("ip4Addr", "ip4_addr"),
    ],
)
def test_names(name, field):
    assert to_python(name) == field
    assert to_json_name(field) == name


def test_pointer_tokens():
    assert [pointer_token(part) for part in ("a", "a/b", "~", "~1", 3, "")] == ["a", "a~1b", "~0", "~01", "3", ""]
