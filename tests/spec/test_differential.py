"""The same bundles in Boxwright, runc and crun: what the program sees is the same, or the standard decides."""

import re
import signal
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
    ("crun", "env", "HOME"): "config.md#configProcess: HOME beside the configured ones is open",
    ("crun", "dev", "/dev/core"): "runtime-linux.md#runtimeLinuxDevSymbolicLinks: further links are open",
    ("runc", "mounts", "/sys"): "config.md#configLinuxMountOptions: `ro` of the mount; of the filesystem, too, is open",
    ("crun", "mounts", "/dev/"): "config-linux.md#configLinuxDevices: how a device is supplied is open",
    ("runc", "dev", "/dev/mqueue"): "config-linux.md#configLinuxDefaultFilesystems: who owns the queues' root is open",
    ("crun", "dev", "/dev/mqueue"): "config-linux.md#configLinuxDefaultFilesystems: who owns the queues' root is open",
    ("runc", "status", "SigIgn"): "runtime.md#runtimeStart: what the caller ignores is not the program's to inherit",
}


@pytest.fixture(scope="module")
def crun_command() -> list[str]:
    """crun refuses a hybrid host whose v2 tree has controllers: without a sight of that tree it goes on."""
    controllers = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    if not controllers.exists() or not controllers.read_text().strip():
        return []
    return ["unshare", "--mount", "sh", "-c", 'umount /sys/fs/cgroup/unified && exec "$@"', "sh"]


@pytest.fixture(autouse=True)
def _an_ignored_signal() -> Iterator[None]:
    """What the caller ignores shows who hands it on; runc does so with the first realtime signal alone."""
    before = signal.signal(signal.SIGRTMIN, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGRTMIN, before)


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
    # not the null device: crun gives it to the user of the container, the host's own
    with (boxes.directory / "input").open("w+b") as stdin:
        result = other.run(config, stdin=stdin.fileno())
        lacks.need(f"{name} running such a bundle here", result.status == 0)
        return boxes.output(config, stdin=stdin.fileno()), result.stdout


Facts = dict[str, object]
Differing = dict[str, tuple[object, object]]


class Compared:
    """What differs by peer, kind and variant, looked at once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], Differing] = {}

    def differing(self, boxes: Boxes, peer: "tuple[str, Runtime]", kind: str, variant: str) -> Differing:
        """Place to our and their value."""
        key = (peer[0], kind, variant)
        if key not in self._found:
            config, facts = LOOKS[kind]
            both = of_both(boxes, peer, config(boxes, variants()[variant]))
            ours, theirs = map(facts, both)
            places = {place for place in ours.keys() | theirs.keys() if ours.get(place) != theirs.get(place)}
            self._found[key] = {place: (ours.get(place), theirs.get(place)) for place in places}
        return self._found[key]


@pytest.fixture(scope="module")
def compared() -> Compared:
    return Compared()


def is_of(place: str, prefix: str) -> bool:
    """Whether an entry of the table is about that place."""
    return place == prefix or (prefix.endswith("/") and place.startswith(prefix))


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
def variant(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def with_words(config: Json, *words: str) -> Json:
    return config | {"process": config["process"] | {"args": ["/bin/probe", *words]}}


def _with_mounts(boxes: Boxes, config: Json) -> Json:
    config = with_words(config, "cat", "/proc/self/mountinfo")
    (boxes.directory / "bound").mkdir(exist_ok=True)
    bound = {"destination": "/mnt/b", "source": str(boxes.directory / "bound"), "options": ["bind", "ro", "noexec"]}
    return config | {"mounts": [*config["mounts"], tmpfs("nosuid", "noatime", "size=64k"), bound]}


def _mounts(text: str) -> Facts:
    found: Facts = {}
    for mount in map(Mounted, text.splitlines()):
        # which device a mount is differs from run to run, and a user namespace adds ids to the data of tmpfs
        data = {option for option in mount.data if not re.match(r"inode64|uid=|gid=|nr_inodes", option)}
        found[mount.target] = (mount.type, mount.options, data, mount.tags)
    return found


STATUS = (
    *("Uid", "Gid", "Groups", "Umask", "NoNewPrivs", "Seccomp", "Seccomp_filters"),
    *("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "SigIgn", "SigBlk", "Cpus_allowed"),
)
LIST_DEVICES = ["/bin/sh", "-c", "find /dev -print | sort | xargs probe stat"]


# signals that glibc has for itself: whom it starts by posix_spawn(3) ignores them, as under make, and so does what is
# started by that, since no program of glibc can change it
OF_GLIBC = 1 << 31 | 1 << 32


def _status(text: str) -> Facts:
    found = status_in(text)
    found["SigIgn"] = f"{int(found['SigIgn'], 16) & ~OF_GLIBC:016x}"
    return {name: found[name] for name in STATUS}


def _devices(text: str) -> Facts:
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()}


def _environment(text: str) -> Facts:
    return {line.partition("=")[0]: line for line in text.splitlines()}


# what is looked at: the configuration that shows it, and the facts in what its program writes
LOOKS = {
    "mounts": (_with_mounts, _mounts),
    "status": (lambda _, config: with_words(config, "cat", "/proc/self/status"), _status),
    "dev": (lambda _, config: config | {"process": config["process"] | {"args": LIST_DEVICES}}, _devices),
    "env": (lambda _, config: with_words(config, "env"), _environment),
}


@pytest.mark.parametrize("kind", LOOKS)
def test_what_differs_is_in_the_table(boxes: Boxes, compared: Compared, peer, kind, variant):
    known = [prefix for name, of, prefix in DIFFERENCES if (name, of) == (peer[0], kind)]
    found = compared.differing(boxes, peer, kind, variant)
    assert {place: both for place, both in found.items() if not any(is_of(place, prefix) for prefix in known)} == {}


@pytest.mark.parametrize(("peer", "kind", "prefix"), DIFFERENCES, indirect=["peer"])
def test_what_is_in_the_table_differs(boxes: Boxes, compared: Compared, peer, kind, prefix):
    """An entry that no configuration shows any more would hide the next difference there."""
    found = [place for variant in variants() for place in compared.differing(boxes, peer, kind, variant)]
    assert [place for place in found if is_of(place, prefix)]


def test_limits(boxes: Boxes, peer, variant):
    words = ("cat", "/proc/self/limits", "/proc/self/oom_score_adj")
    ours, theirs = of_both(boxes, peer, with_words(variants()[variant], *words))
    assert ours == theirs


def test_descriptors(boxes: Boxes, peer, variant):
    ours, theirs = of_both(boxes, peer, with_words(variants()[variant], "fds"))
    assert [line.split()[0] for line in ours.splitlines()] == [line.split()[0] for line in theirs.splitlines()]


def test_everyday_facts(boxes: Boxes, peer, variant):
    words = ("ids", ",", "umask", ",", "cwd", ",", "uname", ",", "session", ",", "signals", ",", "personality")
    ours, theirs = of_both(boxes, peer, with_words(variants()[variant], *words))
    assert ours == theirs


@pytest.mark.parametrize("script", ["exit 7", "kill -9 $$", "kill -TERM $$; exit 3", "exec /no/such", "true"])
def test_statuses(boxes: Boxes, peer, script):
    _name, runtime = peer
    config = boxes.shell(script)
    with (boxes.directory / "input").open("w+b") as stdin:
        other = Boxes(runtime, boxes.directory, boxes.root).run(config, stdin=stdin.fileno()).status
        assert boxes.run(config, stdin=stdin.fileno()).status == other


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
