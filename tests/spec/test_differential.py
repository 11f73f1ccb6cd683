"""The same bundles in Boxwright, runc and crun: what the program sees is the same, or the standard decides."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lacks
from fixtures_probe import Boxes, Mounted, mapping, status_in, tmpfs
from fixtures_runtime import Json, Runtime, default_config

pytestmark = [pytest.mark.root, pytest.mark.spec("runtime.md#runtimeCreate")]

# what may differ: place or line → the clause that leaves it open, or that decides for us
DIFFERENCES = {
    ("runc", "mounts", "/proc/"): "config-linux.md#configLinuxReadonlyPaths: how a path is made read-only is open",
    ("crun", "mounts", "/proc/"): "config-linux.md#configLinuxMaskedPaths: how a path is masked is open",
    ("runc", "mounts", "/sys/firmware"): "config-linux.md#configLinuxMaskedPaths: how a path is masked is open",
    ("crun", "mounts", "/sys/firmware"): "config-linux.md#configLinuxMaskedPaths: how a path is masked is open",
    ("runc", "env", "HOME"): "config.md#configProcess: HOME beside the configured ones is open",
    ("crun", "env", "HOME"): "config.md#configProcess: HOME beside the configured ones is open",
    ("runc", "dev", "/dev/core"): "runtime-linux.md#runtimeLinuxDevSymbolicLinks: further links are open",
    ("crun", "dev", "/dev/core"): "runtime-linux.md#runtimeLinuxDevSymbolicLinks: further links are open",
    ("runc", "mounts", "/sys"): "config.md#configLinuxMountOptions: `ro` of the mount; of the filesystem, too, is open",
    ("crun", "mounts", "/dev/"): "config-linux.md#configLinuxDevices: how a device is supplied is open",
    ("runc", "dev", "/dev/mqueue"): "config-linux.md#configLinuxDefaultFilesystems: who owns the queues' root is open",
    ("crun", "dev", "/dev/mqueue"): "config-linux.md#configLinuxDefaultFilesystems: who owns the queues' root is open",
    (
        "crun",
        "dev",
        "/dev/null",
    ): "config-linux.md#configLinuxDefaultDevices: null.4 has it owned by root, not the user",
    ("runc", "status", "SigIgn"): "runtime.md#runtimeStart: what the caller ignores is not the program's to inherit",
    ("crun", "status", "SigIgn"): "runtime.md#runtimeStart: what the caller ignores is not the program's to inherit",
    ("crun", "dev", "/dev/ptmx"): "config-linux.md#configLinuxDefaultDevices: a link or a bind mount",
}


@pytest.fixture(scope="module")
def crun_command() -> list[str]:
    """crun refuses a hybrid host whose v2 tree has controllers: without a sight of that tree it goes on."""
    controllers = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    if not controllers.exists() or not controllers.read_text().strip():
        return []
    return ["unshare", "--mount", "sh", "-c", 'umount /sys/fs/cgroup/unified && exec "$@"', "sh"]


@pytest.fixture(params=["runc", "crun"])
def peer(request: pytest.FixtureRequest, tmp_path: Path, crun_command: list[str]) -> Iterator["tuple[str, Runtime]"]:
    lacks.need_program(request.param)
    program = lacks.find_program(request.param)
    assert program
    directory = tmp_path / request.param
    directory.mkdir()
    runtime = Runtime([*(crun_command if request.param == "crun" else []), program], directory)
    yield request.param, runtime
    runtime.close()


def of_both(boxes: Boxes, peer: "tuple[str, Runtime]", config: Json) -> "tuple[str, str]":
    """What the program writes under Boxwright and under the peer."""
    name, runtime = peer
    other = Boxes(runtime, boxes.directory, boxes.root)
    result = other.run(config)
    lacks.need(f"{name} running such a bundle here", result.status == 0)
    return boxes.output(config), result.stdout


def unexplained(peer: "tuple[str, Runtime]", kind: str, ours: "dict[str, object]", theirs: "dict[str, object]"):
    """What differs and is not in the table, as place to our and their value."""
    places = {place for place in ours.keys() | theirs.keys() if ours.get(place) != theirs.get(place)}
    known = [prefix for name, of, prefix in DIFFERENCES if (name, of) == (peer[0], kind)]
    return {
        place: (ours.get(place), theirs.get(place))
        for place in places
        if not any(place == prefix or (prefix.endswith("/") and place.startswith(prefix)) for prefix in known)
    }


def capabilities(names: "tuple[str, ...]") -> "dict[str, list[str]]":
    return {kind: list(names) for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")}


def variants() -> "dict[str, Json]":
    """Configurations to compare under, by name."""
    user = default_config()
    user["process"]["user"] = {"uid": 1000, "gid": 50, "additionalGids": [7, 8], "umask": 0o027}
    rich = default_config()
    rich["process"] |= {
        "noNewPrivileges": False,
        "capabilities": capabilities(("CAP_KILL", "CAP_CHOWN")),
        "user": {"uid": 1, "gid": 1},
        "oomScoreAdj": 100,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
        "cwd": "/tmp",
    }
    rich["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}],
    }
    mapped = default_config()
    mapped["linux"]["namespaces"].append({"type": "user"})
    mapped["linux"] |= {"uidMappings": mapping(0, 100_000, 65536), "gidMappings": mapping(0, 100_000, 65536)}
    return {"default": default_config(), "user": user, "rich": rich, "user namespace": mapped}


@pytest.fixture(params=variants())
def variant(request: pytest.FixtureRequest) -> Json:
    return variants()[request.param]


def with_words(config: Json, *words: str) -> Json:
    return config | {"process": config["process"] | {"args": ["/bin/probe", *words]}}


def test_mounts(boxes: Boxes, peer, variant):
    config = with_words(variant, "cat", "/proc/self/mountinfo")
    (boxes.directory / "bound").mkdir(exist_ok=True)
    config["mounts"] = [
        *config["mounts"],
        tmpfs("nosuid", "noatime", "size=64k"),
        {"destination": "/mnt/b", "source": str(boxes.directory / "bound"), "options": ["bind", "ro", "noexec"]},
    ]
    ours, theirs = of_both(boxes, peer, config)
    found = unexplained(peer, "mounts", _mounts(ours), _mounts(theirs))
    assert found == {}, found


def _mounts(text: str) -> "dict[str, object]":
    found: dict[str, object] = {}
    for mount in map(Mounted, text.splitlines()):
        # which device a mount is differs from run to run, and a user namespace adds ids to the data of tmpfs
        data = {option for option in mount.data if not re.match(r"inode64|uid=|gid=|nr_inodes", option)}
        found[mount.target] = (mount.type, mount.options, data, mount.tags)
    return found


STATUS = ("Uid", "Gid", "Groups", "Umask", "NoNewPrivs", "Seccomp", "Seccomp_filters")


def test_status(boxes: Boxes, peer, variant):
    ours, theirs = of_both(boxes, peer, with_words(variant, "cat", "/proc/self/status"))
    names = (*STATUS, "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "SigIgn", "SigBlk", "Cpus_allowed")
    mine, other = ({name: status_in(text)[name] for name in names} for text in (ours, theirs))
    assert unexplained(peer, "status", mine, other) == {}


def test_limits(boxes: Boxes, peer, variant):
    ours, theirs = of_both(boxes, peer, with_words(variant, "cat", "/proc/self/limits", "/proc/self/oom_score_adj"))
    assert ours == theirs


def test_descriptors(boxes: Boxes, peer, variant):
    ours, theirs = of_both(boxes, peer, with_words(variant, "fds"))
    assert [line.split()[0] for line in ours.splitlines()] == [line.split()[0] for line in theirs.splitlines()]


def test_devices(boxes: Boxes, peer, variant):
    config = variant | {
        "process": variant["process"] | {"args": ["/bin/sh", "-c", "find /dev -print | sort | xargs probe stat"]}
    }
    ours, theirs = of_both(boxes, peer, config)
    mine, other = ({line.split()[0]: line.split()[1:] for line in text.splitlines()} for text in (ours, theirs))
    assert unexplained(peer, "dev", mine, other) == {}


def test_environment(boxes: Boxes, peer, variant):
    ours, theirs = of_both(boxes, peer, with_words(variant, "env"))
    mine, other = ({line.partition("=")[0]: line for line in text.splitlines()} for text in (ours, theirs))
    assert unexplained(peer, "env", mine, other) == {}


def test_everyday_facts(boxes: Boxes, peer, variant):
    words = ("ids", ",", "umask", ",", "cwd", ",", "uname", ",", "session", ",", "signals", ",", "personality")
    ours, theirs = of_both(boxes, peer, with_words(variant, *words))
    assert ours == theirs


@pytest.mark.parametrize("script", ["exit 7", "kill -9 $$", "kill -TERM $$; exit 3", "exec /no/such", "true"])
def test_statuses(boxes: Boxes, peer, script):
    _name, runtime = peer
    config = boxes.shell(script)
    other = Boxes(runtime, boxes.directory, boxes.root).run(config).status
    assert boxes.run(config).status == other


@pytest.mark.parametrize(
    ("change", "anchor"),
    [
        ({"ociVersion": "2.0.0"}, "config.md#configSpecificationVersion"),
        ({"ociVersion": "one"}, "config.md#configSpecificationVersion"),
        ({"process": {"cwd": "tmp"}}, "config.md#configProcess"),
    ],
)
def test_where_the_standard_decides_against_a_peer(boxes: Boxes, change, anchor):
    """Each of these is taken by one of the peers, while the standard asks for an error."""
    config = boxes.config()
    for key, value in change.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    assert anchor in boxes.refused(config)
