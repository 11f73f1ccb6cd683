"""Who the process is, what it may do, where it counts: nothing is taken for something else."""

import json
import os
import pwd
import re
import subprocess
from pathlib import Path

import pytest
from attacks import FIRST_ID, one_line_error

import lacks
from fixtures_runtime import REPOSITORY, BundleFactory, Json, Runtime, default_config

pytestmark = pytest.mark.root

BOX = "identified"


@pytest.fixture
def running(boxwright: Runtime, bundle: BundleFactory, hostile_root: Path) -> Runtime:
    """The command, with a box that sleeps."""
    boxwright.create(BOX, bundle(default_config("/bin/sleep", "600"), root=hostile_root))
    boxwright.start(BOX)
    return boxwright


def test_no_capability_is_inheritable(running: Runtime) -> None:
    """CVE-2022-29162, CVE-2022-27650, CVE-2022-24769: neither the box nor `exec --cap` fills the inheritable set."""
    for words in ((), ("--cap", "CAP_NET_RAW"), ("--cap", "CAP_SYS_ADMIN", "--user", "1000")):
        result = running.call("exec", *words, BOX, "/bin/grep", "Cap", "/proc/self/status")
        caps = dict(line.split(":\t") for line in result.stdout.splitlines())
        assert int(caps["CapInh"], 16) == 0, result
        assert "--user" in words or int(caps["CapAmb"], 16) == 0, result


@pytest.mark.parametrize(
    ("word", "ids"),
    [
        ("1", (1, 0)),
        ("1:2", (1, 2)),
        ("0", (0, 0)),
        ("65534:65534", (65534, 65534)),
        ("4294967294", (4294967294, 0)),
        ("4294967295", None),
        ("4294967296", None),
        ("1:", None),
        (":1", None),
        ("01", None),
        ("root", None),
        ("-1", None),
        ("0x1", None),
        ("1 ", None),
        ("1:2:3", None),
        ("18446744073709551616", None),
        ("²", None),
    ],
)
def test_a_user_is_numbers_or_an_error(running: Runtime, word: str, ids: tuple[int, int] | None) -> None:
    """CVE-2026-30892, CVE-2026-46680, CVE-2016-3697: what is no plain number is never root, nor looked up."""
    result = running.call("exec", f"--user={word}", BOX, "/bin/sh", "-c", "id -u; id -g", check=False)
    if ids is None:
        assert word.strip() in one_line_error(result)
        assert result.stdout == ""
    else:
        assert tuple(map(int, result.stdout.split())) == ids, result


@pytest.mark.parametrize(
    "box",
    ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\nb", "a b", "x" * 1025, "ä", "a;b", "~", "%2e%2e", "a\\b"],
)
@pytest.mark.parametrize("verb", ["create", "state", "delete"])
def test_an_id_is_no_path(boxwright: Runtime, bundle: BundleFactory, box: str, verb: str) -> None:
    """crun 1.20: a container's id that leads elsewhere, or is none, is refused by every verb, and nothing is made."""
    options = ["--bundle", str(bundle())] if verb == "create" else ["--force"] if verb == "delete" else []
    one_line_error(boxwright.call(verb, *options, "--", box, check=False))
    assert boxwright.ids() == []


@pytest.mark.parametrize("path", ["../..", "../../..", "a/../../..", "cpu:../..", "/../../", "missing"])
def test_exec_stays_in_the_groups_of_the_box(running: Runtime, path: str) -> None:
    """crun 1.28: `exec --cgroup` that leads out of the box's control group is refused."""
    result = running.call("exec", "--cgroup", path, BOX, "/bin/true", check=False)
    assert "cgroup" in one_line_error(result)


@pytest.mark.parametrize("path", ["../../escape", "/a/../../escape", ".."])
def test_a_cgroups_path_does_not_climb(boxwright: Runtime, bundle: BundleFactory, path: str) -> None:
    """crun 1.29: `..` in linux.cgroupsPath is refused at its line."""
    config = default_config()
    config["linux"]["cgroupsPath"] = path
    assert "/linux/cgroupsPath" in one_line_error(boxwright.run(BOX, bundle(config)))


@pytest.mark.parametrize("namespace", [True, False], ids=["cgroup namespace", "none"])
def test_groups_that_are_not_the_boxs_are_not_its_to_change(
    boxwright: Runtime, bundle: BundleFactory, namespace: bool
) -> None:
    """CVE-2023-25809: without a group of its own a box sees its caller's, and cannot write to them."""
    script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/made && echo made; done; exit 0"
    config = default_config("/bin/sh", "-c", script)
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw", "nosuid"]}
    config["mounts"].append(mount)
    del config["linux"]["resources"]
    if namespace:
        config["linux"]["namespaces"].append({"type": "cgroup"})
    disabled = ["--cgroup-manager", "disabled"]
    boxwright.command = (*boxwright.command, *disabled)
    result = boxwright.run(BOX, bundle(config))
    assert "Read-only" in result.stderr, result
    assert (result.status, result.stdout) == (0, "")


def test_without_root_no_group_of_the_host_is_writable(
    boxwright_command: str, tmp_path: Path, hostile_root: Path, bundle: BundleFactory
) -> None:
    """CVE-2023-25809: in a box of an unprivileged user no control group, and nothing in /sys, can be written to."""
    lacks.need_program("setpriv")
    nobody = pwd.getpwnam("nobody")
    script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/made && echo made; done"
    config = _spec(boxwright_command, tmp_path, "--rootless")
    config["process"].update(args=["/bin/sh", "-c", f"{script}; true"], terminal=False)
    config["root"]["path"] = "rootfs"
    for kind in ("uidMappings", "gidMappings"):
        config["linux"][kind][0]["hostID"] = nobody.pw_uid if kind[0] == "u" else nobody.pw_gid
    config["mounts"] = [m for m in config["mounts"] if m["destination"] != "/sys/fs/cgroup"]
    path = bundle(config, root=hostile_root, copy=True)
    state = tmp_path / "nobody"
    state.mkdir()
    os.chown(state, nobody.pw_uid, nobody.pw_gid)
    command = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    result = subprocess.run(
        [*command, boxwright_command, "--root", state / "state", "run", "--bundle", path, BOX],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    assert result.returncode == 0, result
    assert result.stdout == ""
    assert "Read-only" in result.stderr


def _spec(command: str, directory: Path, *words: str) -> Json:
    """What `boxwright spec` writes."""
    (directory / "spec").mkdir()
    subprocess.run([command, "spec", *words, "--bundle", directory / "spec"], check=True)
    document: Json = json.loads((directory / "spec/config.json").read_text())
    return document


MASKED = {
    *(f"/proc/{name}" for name in ("acpi", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi")),
    *("/proc/timer_list", "/sys/devices/virtual/powercap", "/sys/firmware"),
}
READONLY = {f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")}


def test_the_default_configuration_hides_what_tells_of_the_host(boxwright_command: str, tmp_path: Path) -> None:
    """CVE-2020-8694: the masked and read-only paths of `spec` are those that leak of, or change, the host."""
    linux = _spec(boxwright_command, tmp_path)["linux"]
    assert set(linux["maskedPaths"]) >= MASKED
    assert set(linux["readonlyPaths"]) >= READONLY


def test_the_default_configuration_gives_little(boxwright_command: str, tmp_path: Path) -> None:
    """CVE-2022-29162, CVE-2016-8867: `spec` hands on no capability by inheritance and lets no program gain any; the
    root cannot be written to, no device is allowed but the default ones, and no namespace is the host's but for the
    user's, which is another with `--rootless`.
    """
    config = _spec(boxwright_command, tmp_path)
    process, linux = config["process"], config["linux"]
    assert process["noNewPrivileges"]
    assert not {"inheritable", "ambient"} & {kind for kind, names in process["capabilities"].items() if names}
    assert set(process["capabilities"]["bounding"]) == {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
    assert config["root"]["readonly"]
    assert linux["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    kinds = {namespace["type"] for namespace in linux["namespaces"] if "path" not in namespace}
    assert kinds >= {"pid", "network", "ipc", "uts", "mount", "cgroup"}
    (tmp_path / "other").mkdir()
    rootless = _spec(boxwright_command, tmp_path / "other", "--rootless")["linux"]
    assert "user" in {namespace["type"] for namespace in rootless["namespaces"]}


@pytest.mark.parametrize("count", [341, 5000])
def test_maps_of_any_length_are_the_kernels_to_refuse(
    boxwright: Runtime, bundle: BundleFactory, hostile_root: Path, count: int
) -> None:
    """CVE-2021-43784: mappings longer than any message or page are an error with their line."""
    config = default_config("/bin/cat", "/proc/self/uid_map")
    config["linux"]["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        config["linux"][name] = [{"containerID": i, "hostID": FIRST_ID + 2 * i, "size": 1} for i in range(count)]
    result = boxwright.run(BOX, bundle(config, root=hostile_root))
    assert "Mappings" in one_line_error(result)


@pytest.mark.parametrize("length", [5000, 70_000, 2_000_000])
@pytest.mark.parametrize("where", ["destination", "source", "cwd", "program", "masked", "hostname", "device"])
def test_texts_of_any_length_are_an_error_with_a_line(
    boxwright: Runtime, bundle: BundleFactory, where: str, length: int
) -> None:
    """CVE-2021-43784: a path of any length is refused, and never cut."""
    text = "/" + "a/" * (length // 2)
    config = default_config()
    if where in ("destination", "source"):
        mount = {"destination": "/mnt", "type": "none", "source": "/tmp", "options": ["bind"]}
        config["mounts"].append(mount | {where: text})
    elif where == "cwd":
        config["process"]["cwd"] = text
    elif where == "program":
        config["process"]["args"] = [text]
    elif where == "masked":
        config["linux"]["maskedPaths"] = [text]
    elif where == "hostname":
        config["hostname"] = text
    else:
        config["linux"]["devices"] = [{"path": text, "type": "c", "major": 1, "minor": 3}]
    error = one_line_error(boxwright.run(BOX, bundle(config)))
    assert len(error) < 2 * length + 1000
    assert boxwright.ids() == []


def test_every_annotation_that_changes_what_is_done_is_listed(boxwright: Runtime) -> None:
    """features.md: engines go by potentiallyUnsafeConfigAnnotations to refuse what untrusted users set."""
    listed = json.loads(boxwright.call("features").stdout)["potentiallyUnsafeConfigAnnotations"]
    known = re.compile(r'"((?:run\.oci|org\.systemd|org\.criu|io\.[a-z]+|org\.boxwright\.[a-z]+)\.[\w.]+)"')
    used = set()
    for path in (REPOSITORY / "src/boxwright").glob("**/*.py"):
        text = path.read_text()
        if "annotations" in text and path.name != "features.py":
            used |= set(known.findall(text))
        used |= set(re.findall(r'^\w*ANNOTATION = "(.*)"$', text, re.M))
    used = {name for name in used if name != "org.boxwright.version"}
    assert "run.oci.keep_original_groups" in used
    for name in used:
        assert any(name == entry or (entry.endswith(".") and name.startswith(entry)) for entry in listed), name


@pytest.mark.parametrize("annotation", ["run.oci.handler", "run.oci.mount_context_type", "run.oci.hooks.stdout"])
def test_annotations_that_we_do_not_know_do_nothing(
    boxwright: Runtime, bundle: BundleFactory, annotation: str, tmp_path: Path
) -> None:
    """An annotation of another runtime is carried along, and nothing is opened, run or written for it."""
    target = tmp_path / "target"
    config = default_config("/bin/true", annotations={annotation: str(target)})
    assert boxwright.run(BOX, bundle(config)).status == 0
    assert not target.exists()


def test_the_pid_file_follows_no_link(boxwright: Runtime, bundle: BundleFactory, tmp_path: Path) -> None:
    """A foreseeable temporary name in a directory of everybody's would write to what a link there leads to."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    for name in (".pid", "pid"):
        (tmp_path / name).symlink_to(victim)
    boxwright.create(BOX, bundle(default_config("/bin/true")), "--pid-file", str(tmp_path / "pid"))
    assert victim.read_text() == "untouched"
    assert int((tmp_path / "pid").read_text()) == boxwright.state(BOX)["pid"]


def test_a_state_directory_that_others_made_is_refused(boxwright_command: str, tmp_path: Path) -> None:
    """Without XDG_RUNTIME_DIR the state is in /tmp: a directory there that is another's, or a link, is not believed."""
    lacks.need_program("setpriv")
    uid = 61_234
    planted = Path(f"/tmp/boxwright-{uid}")
    (tmp_path / "state").mkdir()
    for plant in (planted.mkdir, lambda: planted.symlink_to(tmp_path / "state")):
        plant()
        try:
            command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", boxwright_command, "list"]
            result = subprocess.run(command, capture_output=True, text=True, env={}, cwd="/", check=False)
        finally:
            planted.unlink() if planted.is_symlink() else planted.rmdir()
        assert result.returncode != 0
        assert str(planted) in result.stderr
        assert "Traceback" not in result.stderr
