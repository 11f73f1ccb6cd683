"""Arguments of the library that make no box are refused before anything is made."""

import json
import resource

import pytest

import boxwright
from boxwright.api.arguments import options_for, process_for, resources_for
from boxwright.api.bundled import bundle_document
from boxwright.api.recipe import Recipe, rlimits
from boxwright.errors import ConfigError, HostError, UnsupportedError, UsageError
from boxwright.spec.types import Process
from fixtures_runtime import default_config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"argv": "ls -l"}, "is one text"),
        ({"argv": []}, "the command is empty"),
        ({"argv": None}, "a command is needed"),
        ({"argv": ["true"], "isolation": "jail"}, "`jail` is no kind of box"),
        ({"argv": ["true"], "network": "bridge"}, "`bridge` is no network"),
        ({"argv": ["true"], "rootfs": "/nonexistent"}, "is no directory"),
        ({"argv": ["true"], "bundle": "/nonexistent"}, "is no directory"),
        ({"argv": ["true"], "env": {"A=B": "c"}}, "is no name of a variable"),
        ({"argv": ["true"], "mounts": [boxwright.Bind("/nonexistent", "/x")]}, "does not exist"),
        ({"argv": ["true"], "mounts": [boxwright.Bind("/tmp", "x")]}, "not an absolute path"),
    ],
)
def test_what_makes_no_box(arguments, message):
    with pytest.raises(UsageError, match=message):
        options_for(**arguments)


@pytest.mark.parametrize(("ours", "tasks"), [(resource.RLIM_INFINITY, 1024), (5000, 1024), (300, 300)])
def test_without_groups_tasks_are_limited_as_far_as_can_be(monkeypatch, ours, tasks):
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (ours, ours))
    limit = {"type": "RLIMIT_NPROC", "soft": tasks, "hard": tasks}
    assert rlimits(options_for(["true"]), groups=False) == [limit]
    assert rlimits(options_for(["true"], limits=boxwright.Limits(pids=None)), groups=False) == []
    assert rlimits(options_for(["true"]), groups=True) == []


def test_the_box_that_does_not_exist_yet_says_so():
    with pytest.raises(UnsupportedError, match="`sandbox` box"):
        boxwright.run(["true"], isolation="sandbox")
    with pytest.raises(UnsupportedError, match="`sandbox` box"):
        boxwright.Box(isolation="sandbox")


def test_the_defaults_stop_bombs_and_floods():
    options = options_for(["true"])
    document = Recipe(options, privileged=True).document()
    assert document["linux"]["resources"]["pids"] == {"limit": 1024}
    sizes = [option for mount in document["mounts"] for option in mount["options"] if option == "size=1073741824"]
    assert len(sizes) == 5
    assert boxwright.Limits().output_bytes == 64 << 20


def test_without_groups_the_number_of_tasks_is_limited_by_the_user_namespace():
    document = Recipe(options_for(["true"]), privileged=False, groups=False).document()
    assert "pids" not in document["linux"].get("resources", {})
    assert document["process"]["rlimits"] == [{"type": "RLIMIT_NPROC", "soft": 1024, "hard": 1024}]
    assert {"type": "user"} in document["linux"]["namespaces"]


def test_the_library_shows_nothing_of_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = Recipe(options_for(["true"]), privileged=True).document()
    assert document["process"]["cwd"] == "/"
    assert str(tmp_path) not in json.dumps(document)


@pytest.fixture
def bundle(tmp_path):
    def write(config):
        (tmp_path / "config.json").write_text(json.dumps(config))
        return str(tmp_path)

    return write


def test_a_bundle_is_changed_only_where_it_is_asked_for(bundle):
    config = default_config("/bin/true")
    assert bundle_document(options_for(None, bundle=bundle(config), limits=NO_LIMITS), groups=True) == config


NO_LIMITS = boxwright.Limits(pids=None)


def test_what_is_asked_for_goes_over_the_bundle(bundle):
    config = default_config("/bin/true")
    options = options_for(
        ["id"],
        bundle=bundle(config),
        env={"A": "b"},
        cwd="/tmp",
        user=(5, 6),
        hostname="other",
        read_only=True,
        mounts=[boxwright.Bind("/tmp", "/mnt", writable=True)],
        limits=boxwright.Limits(memory_bytes=1 << 20, cpus=1.5, pids=7, open_files=9),
        network="host",
    )
    changed = bundle_document(options, groups=True)
    process = changed["process"]
    assert (process["args"], process["cwd"], process["env"][-1]) == (["id"], "/tmp", "A=b")
    assert process["user"] == {"uid": 5, "gid": 6}
    assert process["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 9}]
    assert process["capabilities"] == config["process"]["capabilities"]
    assert changed["hostname"] == "other"
    assert changed["root"]["readonly"] is True
    assert changed["mounts"][-1]["destination"] == "/mnt"
    resources = changed["linux"]["resources"]
    assert resources["devices"] == config["linux"]["resources"]["devices"]
    assert resources["memory"] == {"limit": 1 << 20, "swap": 1 << 20}
    assert resources["cpu"] == {"quota": 150_000, "period": 100_000}
    assert resources["pids"] == {"limit": 7}
    assert {"type": "network"} not in changed["linux"]["namespaces"]


def test_a_bundle_without_a_configuration(tmp_path):
    with pytest.raises(HostError, match=r"config\.json"):
        bundle_document(options_for(None, bundle=tmp_path), groups=True)


def test_a_bundle_with_a_wrong_configuration(bundle):
    with pytest.raises(ConfigError, match="2 problems"):
        bundle_document(options_for(None, bundle=bundle({"ociVersion": "1.0.2", "process": {"args": 3}})), groups=True)


def test_a_further_process_takes_over_what_is_not_said():
    base = Process(cwd="/srv", args=("sh",), env=("A=1", "B=2"), no_new_privileges=True)
    process = process_for(base, ["id"], env={"B": "3"}, cwd=None, user=7, terminal=False)
    assert (process.args, process.env, process.cwd) == (("id",), ("A=1", "B=3"), "/srv")
    assert (process.user.uid, process.user.gid, process.no_new_privileges) == (7, 7, True)


def test_no_limit_is_minus_one_for_the_kernel():
    resources = resources_for(boxwright.Limits(pids=None))
    assert resources.memory is not None
    assert resources.cpu is not None
    assert resources.pids is not None
    assert (resources.memory.limit, resources.memory.swap) == (-1, -1)
    assert (resources.cpu.quota, resources.pids.limit) == (-1, -1)
