"""config.md: mount options, each observed in the container's mountinfo."""

import subprocess
from pathlib import Path

import pytest

import lacks
from fixtures_probe import Boxes, bind, mapping, mounts_in, seen, tmpfs, user_namespace
from fixtures_runtime import Json

pytestmark = [pytest.mark.root, pytest.mark.spec("config.md#configLinuxMountOptions")]

# of one mount: what has to be in its options, and what must not; relatime is the kernel's default
ATTRIBUTES = {
    "atime": ({"relatime"}, {"noatime"}),
    "defaults": ({"rw"}, {"ro", "nosuid", "nodev", "noexec"}),
    "dev": (set(), {"nodev"}),
    "diratime": (set(), {"nodiratime"}),
    "exec": (set(), {"noexec"}),
    "noatime": ({"noatime"}, {"relatime"}),
    "nodev": ({"nodev"}, set()),
    "nodiratime": ({"nodiratime"}, set()),
    "noexec": ({"noexec"}, set()),
    "norelatime": (set(), {"noatime"}),
    "nostrictatime": ({"relatime"}, {"noatime"}),
    "nosuid": ({"nosuid"}, set()),
    "nosymfollow": ({"nosymfollow"}, set()),
    "relatime": ({"relatime"}, {"noatime"}),
    "ro": ({"ro"}, {"rw"}),
    "rw": ({"rw"}, {"ro"}),
    "strictatime": (set(), {"relatime", "noatime"}),
    "suid": (set(), {"nosuid"}),
    "symfollow": (set(), {"nosymfollow"}),
}
# each undoes the one before: the last of a list counts
OPPOSITES = [
    ("noatime", "atime"),
    ("noatime", "relatime"),
    ("noatime", "strictatime"),
    ("strictatime", "nostrictatime"),
    ("strictatime", "noatime"),
    ("nodev", "dev"),
    ("nodiratime", "diratime"),
    ("noexec", "exec"),
    ("nosuid", "suid"),
    ("nosymfollow", "symfollow"),
    ("ro", "rw"),
    ("rw", "ro"),
]
# of the filesystem: seen in its own options
FILESYSTEM = {
    "async": (set(), {"sync"}),
    "dirsync": ({"dirsync"}, set()),
    "lazytime": ({"lazytime"}, set()),
    "nolazytime": (set(), {"lazytime"}),
    "sync": ({"sync"}, set()),
}
# flags that the kernel takes and does not show, or no longer has
SILENT = ("iversion", "loud", "mand", "noiversion", "nomand", "silent")
PROPAGATION = {
    "private": set(),
    "rprivate": set(),
    "shared": {"shared"},
    "rshared": {"shared"},
    "slave": set(),
    "rslave": set(),
    "unbindable": {"unbindable"},
    "runbindable": {"unbindable"},
}


def assert_has(options, wanted_and_not):
    wanted, unwanted = wanted_and_not
    assert wanted <= options
    assert not unwanted & options


@pytest.fixture
def source(boxes: Boxes) -> Path:
    """A directory to bind, with a file and a place for a mount below."""
    path = boxes.directory / "source"
    (path / "below").mkdir(parents=True)
    (path / "file").write_text("content\n")
    return path


@pytest.fixture
def tree(source: Path):
    """The same with a tmpfs mounted below it."""
    subprocess.run(["mount", "-t", "tmpfs", "below", source / "below"], check=True)
    yield source
    subprocess.run(["umount", source / "below"], check=True)


# ── of one mount ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("option", ATTRIBUTES)
def test_attribute_of_a_new_filesystem(boxes: Boxes, option):
    assert_has(seen(boxes, tmpfs(option))["/mnt/a"].options, ATTRIBUTES[option])


@pytest.mark.parametrize("option", ATTRIBUTES)
def test_attribute_of_a_bind(boxes: Boxes, source: Path, option):
    assert_has(seen(boxes, bind(source, "bind", option))["/mnt/a"].options, ATTRIBUTES[option])


@pytest.mark.parametrize(("first", "last"), OPPOSITES)
def test_the_last_of_opposites_counts(boxes: Boxes, first, last):
    assert_has(seen(boxes, tmpfs(first, last))["/mnt/a"].options, ATTRIBUTES[last])


@pytest.mark.parametrize(("first", "last"), OPPOSITES)
def test_a_bind_can_take_back_what_its_source_has(boxes: Boxes, source: Path, first, last):
    if first == "ro":
        first = "rbind"  # the source is on a filesystem that is written to
    mounts = seen(
        boxes, bind(source, "bind", first), bind(source, "bind", first, at="/mnt/b"), bind(source, "rbind", last)
    )
    assert_has(mounts["/mnt/a"].options, ATTRIBUTES[last])


@pytest.mark.parametrize("option", FILESYSTEM)
def test_option_of_the_filesystem(boxes: Boxes, option):
    mounted = seen(boxes, tmpfs(option))["/mnt/a"]
    assert_has(mounted.options | mounted.data, FILESYSTEM[option])


@pytest.mark.parametrize(("first", "last"), [("sync", "async"), ("lazytime", "nolazytime")])
def test_the_last_of_opposites_of_the_filesystem_counts(boxes: Boxes, first, last):
    assert_has(seen(boxes, tmpfs(first, last))["/mnt/a"].data, FILESYSTEM[last])


@pytest.mark.parametrize("option", SILENT)
def test_option_that_is_not_shown_is_taken(boxes: Boxes, option):
    assert seen(boxes, tmpfs(option))["/mnt/a"].type == "tmpfs"


def test_options_do_what_they_say(boxes: Boxes, source: Path):
    (source / "program").write_bytes((boxes.root / "bin/probe").read_bytes())
    (source / "program").chmod(0o755)
    (source / "link").symlink_to("file")
    config = boxes.shell(
        "/bin/probe write /mnt/a/file /mnt/b/file , read /mnt/b/link; /mnt/a/program args ran; /mnt/b/program args ran"
    )
    config["mounts"] += [bind(source, "bind", "ro"), bind(source, "bind", "noexec", "nosymfollow", at="/mnt/b")]
    result = boxes.run(config)
    assert result.stdout.splitlines() == ["/mnt/a/file -30", "/mnt/b/file 1", "/mnt/b/link -40", "ran"]
    assert "ermission denied" in result.stderr


# ── of a whole tree ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("option", [name for name in ATTRIBUTES if name != "defaults"])
def test_recursive_attribute(boxes: Boxes, tree: Path, option):
    mounts = seen(boxes, bind(tree, "rbind", f"r{option}"))
    assert_has(mounts["/mnt/a"].options, ATTRIBUTES[option])
    assert_has(mounts["/mnt/a/below"].options, ATTRIBUTES[option])


@pytest.mark.parametrize(("first", "last"), OPPOSITES)
def test_the_last_of_recursive_opposites_counts(boxes: Boxes, tree: Path, first, last):
    mounts = seen(boxes, bind(tree, "rbind", f"r{first}", f"r{last}"))
    assert_has(mounts["/mnt/a/below"].options, ATTRIBUTES[last])


@pytest.mark.parametrize("option", ["ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow"])
def test_a_plain_attribute_is_for_the_one_mount(boxes: Boxes, tree: Path, option):
    mounts = seen(boxes, bind(tree, "rbind", option))
    assert option in mounts["/mnt/a"].options
    assert option not in mounts["/mnt/a/below"].options


def test_recursive_attributes_of_a_new_filesystem(boxes: Boxes):
    assert "ro" in seen(boxes, tmpfs("rro"))["/mnt/a"].options


@pytest.mark.spec("config.md#configMounts")
def test_bind_brings_one_mount_and_rbind_the_tree(boxes: Boxes, tree: Path):
    mounts = seen(boxes, bind(tree, "bind"), bind(tree, "rbind", at="/mnt/b"))
    assert "/mnt/a/below" not in mounts
    assert mounts["/mnt/b/below"].type == "tmpfs"
    assert mounts["/mnt/a"].root == str(tree)


# ── propagation ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("option", PROPAGATION)
def test_propagation_of_a_new_filesystem(boxes: Boxes, option):
    assert seen(boxes, tmpfs(option))["/mnt/a"].tags == PROPAGATION[option]


@pytest.mark.parametrize("option", PROPAGATION)
def test_propagation_of_a_bind(boxes: Boxes, tree: Path, option):
    subprocess.run(["mount", "--make-private", tree / "below"], check=True)
    mounts = seen(boxes, bind(tree, "rbind", option))
    tags = mounts["/mnt/a"].tags - {"master", "propagate_from"}
    assert tags == PROPAGATION[option]
    below = mounts["/mnt/a/below"].tags - {"master", "propagate_from"}
    assert below == (PROPAGATION[option] if option.startswith("r") else set())


@pytest.fixture
def shared(source: Path):
    """A shared mount of the host."""
    subprocess.run(["mount", "-t", "tmpfs", "shared", source], check=True)
    subprocess.run(["mount", "--make-shared", source], check=True)
    (source / "below").mkdir()
    yield source
    subprocess.run(["umount", "-R", source], check=True)


@pytest.mark.parametrize(
    ("option", "tags", "inwards", "outwards"),
    [
        ("rslave", {"master"}, True, False),
        ("slave", {"master"}, True, False),
        ("rprivate", set(), False, False),
        ("private", set(), False, False),
        ("rshared", {"shared"}, True, True),
        ("shared", {"shared"}, True, True),
    ],
)
def test_mounts_propagate_as_asked(boxes: Boxes, shared: Path, option, tags, inwards, outwards):
    config = boxes.config("await")
    config["linux"]["rootfsPropagation"] = "rshared" if outwards else "rslave"
    config["process"]["capabilities"] = {kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")}
    config["mounts"].append(bind(shared, "rbind", option))
    box = boxes.started(config)
    assert {tag for tag in _mounts_of(box)["/mnt/a"].tags if tag in {"shared", "master"}} >= tags
    subprocess.run(["mount", "-t", "tmpfs", "from-host", shared / "below"], check=True)
    assert ("/mnt/a/below" in _mounts_of(box)) == inwards
    subprocess.run(["umount", shared / "below"], check=True)
    assert box.exec("/bin/probe", "mount", "from-box", "/mnt/a/below", "tmpfs").stdout == "/mnt/a/below 0\n"
    assert ("from-box" in Path("/proc/self/mountinfo").read_text()) == outwards
    box.end()


@pytest.mark.spec("config-linux.md#configLinuxRootfsMountPropagation")
@pytest.mark.parametrize("kind", ["plain", "user namespace", "id-mapped", "id-mapped in a user namespace"])
@pytest.mark.parametrize(
    ("options", "root"), [((), None), (("rshared",), None), (("shared",), "slave"), ((), "private")]
)
def test_nothing_propagates_to_the_host_unasked(boxes: Boxes, shared: Path, kind, options, root):
    config = boxes.config("await")
    if "user namespace" in kind:
        user_namespace(config)
    if root:
        config["linux"]["rootfsPropagation"] = root
    idmap = ("idmap",) if "id-mapped" in kind else ()
    mount = bind(shared, "rbind", *options, *idmap)
    if idmap:
        mount |= {"uidMappings": mapping(0, 100_000, 65536), "gidMappings": mapping(0, 100_000, 65536)}
    config["mounts"].append(mount)
    box = boxes.created(config)
    subprocess.run(
        ["nsenter", "-t", str(box.pid), "-m", "mount", "-t", "tmpfs", "from-box", "/mnt/a/below"], check=True
    )
    assert "/mnt/a/below" in _mounts_of(box)
    assert "from-box" not in Path("/proc/self/mountinfo").read_text()
    subprocess.run(["nsenter", "-t", str(box.pid), "-m", "umount", "/mnt/a/below"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "from-host", shared / "below"], check=True)
    assert ("/mnt/a/below" in _mounts_of(box)) == (root != "private")


def _mounts_of(box):
    return mounts_in(Path(f"/proc/{box.pid}/mountinfo").read_text())


# ── other ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_unknown_options_go_to_the_filesystem(boxes: Boxes):
    mounted = seen(boxes, tmpfs("size=64k", "nr_inodes=77,mode=1711"))["/mnt/a"]
    assert {"size=64k", "nr_inodes=77", "mode=1711"} <= mounted.data
    message = boxes.refused(boxes.config() | {"mounts": [tmpfs("szie=64k")]})
    assert "szie" in message
    assert "/mounts/0" in message


def test_remount_changes_what_is_mounted(boxes: Boxes, source: Path):
    remount = {
        "destination": "/mnt/a",
        "options": ["remount", "ro", "nosuid", "size=32k"],
        "type": "tmpfs",
        "source": "x",
    }
    mounted = seen(boxes, tmpfs("size=64k"), remount)["/mnt/a"]
    assert {"ro", "nosuid"} <= mounted.options
    assert "size=32k" in mounted.data
    rebind = {"destination": "/mnt/b", "options": ["remount", "bind", "ro", "noexec"]}
    mounted = seen(boxes, bind(source, "bind", at="/mnt/b"), rebind)["/mnt/b"]
    assert {"ro", "noexec"} <= mounted.options


def test_tmpcopyup_brings_what_was_there(boxes: Boxes):
    config = boxes.shell(
        "cat /etc/hostname /etc/passwd; stat -c '%a %u' /etc/deep/file; readlink /etc/link; echo x > /etc/new"
    )
    config["mounts"].append(tmpfs("tmpcopyup", "mode=755", at="/etc"))
    bundle = boxes.bundle(config, copy=True)
    etc = bundle / "rootfs/etc"
    (etc / "hostname").write_text("copied\n")
    (etc / "deep").mkdir()
    (etc / "deep/file").write_text("x")
    (etc / "deep/file").chmod(0o640)
    (etc / "link").symlink_to("/dangling")
    result = boxes.run_bundle(bundle)
    assert result.status == 0, result
    assert result.stdout.startswith("copied\nroot:")
    assert result.stdout.endswith("640 0\n/dangling\n")
    assert not (etc / "new").exists()


def test_tmpcopyup_of_a_read_only_mount(boxes: Boxes):
    config = boxes.config("stat", "/etc/passwd", ",", "write", "/etc/passwd")
    config["mounts"].append(tmpfs("tmpcopyup", "ro", at="/etc"))
    assert boxes.output(config).splitlines()[1] == "/etc/passwd -30"


# ── id-mapped ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def idmappable(boxes: Boxes):
    """A tmpfs with files of several users, and one mounted below: both can be id-mapped."""
    path = boxes.directory / "owned"
    path.mkdir()
    for place in (path, path / "below"):
        place.mkdir(exist_ok=True)
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "owned", place], check=False)
        lacks.need("mount", made.returncode == 0)
        for uid in (0, 5, 100_000, 100_005):
            (place / str(uid)).write_text("")
            (place / str(uid)).chmod(0o644)
            subprocess.run(["chown", f"{uid}:{uid}", place / str(uid)], check=True)
    yield path
    subprocess.run(["umount", "-R", path], check=True)


def _owners(boxes: Boxes, config: Json, *names: str) -> list[str]:
    config["process"]["args"] = ["/bin/probe", "stat", *(f"/mnt/a/{name}" for name in names)]
    return [line.split()[4] for line in boxes.output(config).splitlines()]


@pytest.mark.spec("config.md#configPOSIXMounts")
@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_mappings_of_a_mount(boxes: Boxes, idmappable: Path, option):
    config = boxes.config()
    mount = bind(idmappable, "rbind", option)
    config["mounts"].append(mount | {"uidMappings": mapping(0, 1000, 10), "gidMappings": mapping(0, 2000, 10)})
    below = "1005:2005" if option == "ridmap" else "5:5"
    assert _owners(boxes, config, "0", "5", "below/5") == ["1000:2000", "1005:2005", below]
    assert (idmappable / "5").stat().st_uid == 5


@pytest.mark.spec("config.md#configPOSIXMounts")
def test_mappings_are_used_without_the_option_too(boxes: Boxes, idmappable: Path):
    config = boxes.config()
    mount = bind(idmappable, "bind") | {"uidMappings": mapping(0, 1000, 10), "gidMappings": mapping(0, 1000, 10)}
    config["mounts"].append(mount)
    assert _owners(boxes, config, "5") == ["1005:1005"]


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_a_mount_takes_the_mapping_of_the_user_namespace(boxes: Boxes, idmappable: Path, option):
    config = user_namespace(boxes.config())
    config["mounts"].append(bind(idmappable, "rbind", option))
    below = "5:5" if option == "ridmap" else "65534:65534"
    assert _owners(boxes, config, "0", "5", "below/5") == ["0:0", "5:5", below]


@pytest.mark.spec("config.md#configPOSIXMounts")
def test_mappings_of_a_mount_win_over_those_of_the_user_namespace(boxes: Boxes, idmappable: Path):
    config = user_namespace(boxes.config())
    mount = bind(idmappable, "bind", "idmap")
    config["mounts"].append(mount | {"uidMappings": mapping(0, 100_005, 10), "gidMappings": mapping(0, 100_007, 10)})
    assert _owners(boxes, config, "0", "5") == ["5:7", "10:12"]


def test_a_mount_of_a_user_namespace_without_idmap_shows_the_host_s_ids(boxes: Boxes, idmappable: Path):
    config = user_namespace(boxes.config())
    config["mounts"].append(bind(idmappable, "bind"))
    assert _owners(boxes, config, "0", "100005") == ["65534:65534", "5:5"]


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_idmap_without_any_mapping_is_an_error(boxes: Boxes, source: Path, option):
    config = boxes.config()
    config["mounts"].append(bind(source, "bind", option))
    assert "/mounts/6" in boxes.refused(config)


@pytest.mark.spec("config.md#configPOSIXMounts")
@pytest.mark.parametrize("missing", ["uidMappings", "gidMappings"])
def test_one_mapping_without_the_other_is_an_error(boxes: Boxes, source: Path, missing):
    config = boxes.config()
    mount = bind(source, "bind", "idmap") | {"uidMappings": mapping(0, 1, 1), "gidMappings": mapping(0, 1, 1)}
    del mount[missing]
    config["mounts"].append(mount)
    assert "/mounts/6" in boxes.refused(config)
