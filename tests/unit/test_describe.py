"""Reports of the helper become errors that name the line, the cause and the way out."""

import errno as e

import pytest

from boxwright.errors import HookError, HostError
from boxwright.plan import ops
from boxwright.plan.describe import describe, explain_failure, value_at
from boxwright.plan.ops import Plan, Step
from boxwright.plan.phrases import Names, bit_list, capability_words, operations
from boxwright.spec.decode import decode

MOUNTS = "config.md#configMounts"


def plan_of(*init: Step, outer: tuple[Step, ...] = (), joiner: tuple[Step, ...] = ()) -> Plan:
    return Plan(outer, joiner, init, (), 16)


def failed(step: Step, errno: int, value: int = 0, text: str = "", config: object = None) -> HostError:
    error = explain_failure(plan_of(step), config, ops.INIT, 0, errno, value, text)  # type: ignore[arg-type]
    assert isinstance(error, HostError)
    return error


TMPFS = Step(
    ops.FsMount(3, "tmpfs", ("source=shm", "mode=1777", "szie=64k"), 0xE),
    "/mounts/4",
    MOUNTS,
    parts=("/mounts/4/source", "/mounts/4/options/2", "/mounts/4/options/3"),
    about="/dev/shm",
)
DOCUMENT: dict[str, object] = {
    "mounts": [
        {},
        {},
        {},
        {},
        {"type": "tmpfs", "source": "shm", "options": ["nosuid", "nodev", "mode=1777", "szie=64k"]},
    ]
}


def test_the_example_of_the_design() -> None:
    error = failed(TMPFS, e.EINVAL, 2, "e tmpfs: Unknown parameter 'szie'\n", DOCUMENT)
    assert error.render().splitlines() == [
        "cannot mount `tmpfs` at `/dev/shm`: Invalid argument (EINVAL)",
        '  from /mounts/4/options/3 = "szie=64k"   (config.md#configMounts)',
        "  the kernel says: tmpfs: Unknown parameter 'szie'",
        "  hint: tmpfs does not know the option `szie`; did you mean `size`?",
    ]


@pytest.mark.parametrize(
    ("fstype", "param", "number", "expected"),
    [
        ("tmpfs", "size=lots", e.EINVAL, "tmpfs does not take the value `lots` for `size`"),
        ("tmpfs", "nosiud", e.EINVAL, "did you mean `nosuid`?"),
        ("devpts", "gid=5", e.EINVAL, "the id 5 is not mapped"),
        ("devpts", "newinstnace", e.EINVAL, "did you mean `newinstance`?"),
        ("overlay", "uperdir=/x", e.EINVAL, "did you mean `upperdir`?"),
        ("ext4", "nofail", e.EINVAL, "only mount(8) and fstab know it"),
        ("tmpfs", "qqqqqq", e.EINVAL, "tmpfs does not know the option `qqqqqq`"),
    ],
)
def test_options_of_filesystems(fstype: str, param: str, number: int, expected: str) -> None:
    step = Step(ops.FsMount(0, fstype, (param,), 0), "/mounts/0", MOUNTS, parts=("/mounts/0/options/0",), about="/x")
    assert expected in str(failed(step, number, 0).hint)


@pytest.mark.parametrize(
    ("fstype", "value", "number", "expected"),
    [
        ("tmpsf", -1, e.ENODEV, "did you mean `tmpfs`?"),
        ("bind", -1, e.ENODEV, "a bind mount needs `bind` or `rbind`"),
        ("zfs", -1, e.ENODEV, "see /proc/filesystems"),
        ("overlay", -2, e.EBUSY, "in use by another overlay"),
        ("ext4", -2, e.ENOTBLK, "the source must be a block device"),
    ],
)
def test_filesystem_as_a_whole(fstype: str, value: int, number: int, expected: str) -> None:
    step = Step(ops.FsMount(0, fstype, ("source=x",), 0), "/mounts/0", MOUNTS, about="/x")
    assert expected in str(failed(step, number, value).hint)


def test_type_is_pointed_at_where_it_is_refused() -> None:
    step = Step(ops.FsMount(0, "tmpsf", (), 0), "/mounts/0", MOUNTS, about="/x")
    error = failed(step, e.ENODEV, -1, config={"mounts": [{"type": "tmpsf"}]})
    assert error.pointer == "/mounts/0/type"
    assert error.value == "tmpsf"


def test_filesystem_in_a_user_namespace() -> None:
    clone = Step(ops.Clone(0x10000000))
    step = Step(ops.FsMount(0, "proc", (), 0), "/mounts/0", MOUNTS, about="/proc")
    error = explain_failure(plan_of(step, outer=(clone,)), None, ops.INIT, 0, e.EPERM, -2)
    assert "pid namespace of its own" in str(error.hint)


# engines find out what happened by these texts: docker and podman exit with 127, or with 126 for the last two


def test_program_is_not_on_the_path() -> None:
    error = failed(Step(ops.FindProgram("nosuch", "/bin:/usr/bin"), "/process/args/0"), e.ENOENT)
    assert str(error) == (
        "cannot execute `nosuch`: executable file not found in $PATH: No such file or directory (ENOENT)"
    )
    assert "/bin:/usr/bin" in str(error.hint)


def test_program_is_not_where_it_should_be() -> None:
    error = failed(Step(ops.FindProgram("/no/such", ""), "/process/args/0"), e.ENOENT)
    assert "no such file or directory" in str(error).lower()
    assert "$PATH" not in str(error)


def test_program_may_not_be_executed() -> None:
    error = failed(Step(ops.FindProgram("/etc/passwd", ""), "/process/args/0"), e.EACCES)
    assert "permission denied" in str(error).lower()
    assert "chmod +x" in str(error.hint)


def test_program_without_its_interpreter() -> None:
    error = failed(
        Step(ops.Exec(("/script",), ()), "/process/args"), e.ENOENT, config={"process": {"args": ["/script"]}}
    )
    assert "cannot execute `/script`: No such file or directory" in str(error)
    assert "interpreter" in str(error.hint)
    assert error.value == ["/script"]


def test_program_of_another_architecture() -> None:
    assert "another architecture" in str(failed(Step(ops.Exec(("/x",), ())), e.ENOEXEC).hint)


@pytest.mark.parametrize(
    ("op", "number", "expected"),
    [
        (ops.OpenTree(1, ops.AT_HOST, "/no/source", 0), e.ENOENT, "the source `/no/source` does not exist"),
        (ops.Resolve(1, 0, "/proc", ops.DIRECTORY, 0o755, ops.NO_SYMLINKS), e.ELOOP, "symbolic link"),
        (ops.Resolve(1, 0, "/x", ops.DIRECTORY, 0o755, 0), e.EROFS, "read-only"),
        (ops.SetRlimit(7, 9, 9), e.EPERM, "CAP_SYS_RESOURCE"),
        (ops.SetRlimit(7, 9, 3), e.EINVAL, "soft limit is above the hard limit"),
        (ops.Mask(0, "/proc/kcore", 1), e.ENXIO, "the device 1:3 is needed"),
        (ops.MoveMount(1, 2), e.ENOTDIR, "two directories or two files"),
        (ops.MakeNode(0, "/dev/x", 0o020666, 1, 3, 0, 0), e.EEXIST, "there already"),
        (ops.MakeNode(0, "/dev/x", 0o020666, 1, 3, 0, 0), e.EPERM, "CAP_MKNOD"),
        (ops.SetUser(1000, 1000, (), 1), e.EINVAL, "not mapped"),
        (ops.LoadSeccomp(b"\0" * 8, 0, -1, ()), e.EACCES, "noNewPrivileges"),
        (ops.WriteAt(0, "sys/net/nosuch", b"1"), e.ENOENT, "no sysctl `net.nosuch`"),
        (ops.WriteAt(0, "self/attr/apparmor/exec", b"exec x"), e.ENOENT, "the profile loaded?"),
        (ops.WriteAt(0, "self/timens_offsets", b"x"), e.ERANGE, "146 years"),
        (ops.WriteChildFile(ops.INIT, "uid_map", b"0 0 1"), e.EPERM, "/etc/subuid"),
        (ops.WriteChildFile(ops.INIT, "oom_score_adj", b"-1"), e.EACCES, "CAP_SYS_RESOURCE"),
        (ops.RunTool(ops.INIT, ("/usr/bin/newgidmap", "%p")), e.ENOENT, "uidmap"),
        (ops.Write("/sys/fs/cgroup/x/cgroup.subtree_control", b"+cpu"), e.EBUSY, "only groups at the leaves"),
        (ops.Write("/sys/fs/cgroup/x/memory.memsw.limit_in_bytes", b"1"), e.ENOENT, "not built in or not enabled"),
        (ops.MakeDirs("/sys/fs/cgroup/x", 0o755), e.EACCES, "delegated"),
        (ops.WriteChildPid("/sys/fs/cgroup/x/cgroup.procs"), e.ENOSPC, "no CPU or no memory node"),
        (ops.Clone(0x10000000), e.EPERM, "user namespaces are switched off"),
        (ops.Clone(0x20000000), e.EPERM, "add `user` to linux.namespaces"),
        (ops.PivotRoot(0), e.EINVAL, "--no-pivot"),
        (ops.SetCwd("/proc/self/fd/7", 1), e.EXDEV, "leads out of the root"),
        (ops.SetHostname("x"), e.EPERM, "needs root"),
        (ops.SetIOPriority(1 << 13), e.EPERM, "CAP_SYS_NICE"),
        (ops.SetDeviceFilter("/sys/fs/cgroup/x", b""), e.EPERM, "CAP_BPF"),
    ],
)
def test_why_and_what_to_do(op: ops.Op, number: int, expected: str) -> None:
    assert expected in failed(Step(op, "/somewhere"), number).render()


def test_namespace_path_of_the_wrong_type() -> None:
    opened = Step(ops.Open(0, "/proc/1/ns/net", 0), "/linux/namespaces/0/path")
    joined = Step(ops.Setns(0, 0x04000000), "/linux/namespaces/0/path", "config-linux.md#configLinuxNamespaces")
    plan = plan_of(outer=(opened,), joiner=(joined,))
    error = explain_failure(plan, None, ops.JOINER, 0, e.EINVAL)
    assert str(error) == (
        "cannot join the uts namespace `/proc/1/ns/net`: `/proc/1/ns/net` is not a uts namespace: "
        "Invalid argument (EINVAL)"
    )
    missing = explain_failure(plan, None, ops.OUTER, 0, e.ENOENT)
    assert "has its process ended?" in str(missing.hint)


def test_mapping_tool_tells_its_own_story() -> None:
    step = Step(ops.RunTool(ops.INIT, ("/usr/bin/newuidmap", "%p", "0", "1", "2")), "/linux/uidMappings")
    error = failed(step, e.ECANCELED, 256, "newuidmap: uid range [0-2) -> [1-3) not allowed\n")
    assert "not allowed" in str(error)
    assert "/etc/subuid" in str(error.hint)


HOOK = Step(ops.RunHook("/bin/h", ("h",), (), 2000, ("{", "}"), 0), "/hooks/prestart/0", "config.md", about="prestart")


@pytest.mark.parametrize(
    ("number", "value", "text", "expected"),
    [
        (e.ETIMEDOUT, -1, "", "prestart hook `/bin/h` ran longer than 2 s and was killed"),
        (e.ECANCELED, 3 << 8, "a\nno network\n", "prestart hook `/bin/h` failed with exit status 3: no network"),
        (e.ECANCELED, 9, "", "prestart hook `/bin/h` was killed by signal 9"),
        (e.ENOENT, 0, "", "prestart hook `/bin/h` cannot be executed: No such file or directory (ENOENT)"),
    ],
)
def test_hooks(number: int, value: int, text: str, expected: str) -> None:
    error = explain_failure(plan_of(HOOK), None, ops.INIT, 0, number, value, text)
    assert isinstance(error, HookError)
    assert str(error) == expected
    assert "from /hooks/prestart/0" in error.details[0]
    assert error.output == text
    assert error.status == (value if number == e.ECANCELED else None)


def test_warning_names_what_is_not_granted() -> None:
    step = Step(ops.SetCaps(0, 0, 0, 0), "/process/capabilities")
    warning = explain_failure(plan_of(step), None, ops.INIT, 0, 0, 1 << 24, kind=ops.WARNING)
    assert "CAP_SYS_RESOURCE" in warning.message


def test_warning_of_the_bounding_set() -> None:
    step = Step(ops.BoundCaps(1 << 24), "/process/capabilities/bounding")
    warning = explain_failure(plan_of(step), None, ops.INIT, 0, e.EPERM, 1 << 24, kind=ops.WARNING)
    assert warning.message == (
        "not kept, as the caller's bounding set does not have them: CAP_SYS_RESOURCE"
        "   (from /process/capabilities/bounding)"
    )


def test_warning_of_a_hook() -> None:
    warning = explain_failure(plan_of(HOOK), None, ops.INIT, 0, e.ECANCELED, 1 << 8, "broken", kind=ops.WARNING)
    assert warning.message == "prestart hook `/bin/h` failed with exit status 1: broken   (from /hooks/prestart/0)"


def test_output_of_a_hook_is_told_once() -> None:
    error = explain_failure(plan_of(HOOK), None, ops.INIT, 0, e.ECANCELED, 1 << 8, "first\nlast\n")
    assert error.render().count("last") == 1
    assert "it wrote: first" in error.render()


def test_warning_of_a_soft_step() -> None:
    step = Step(ops.NewKeyring(), soft=True)
    line = explain_failure(plan_of(step), None, ops.INIT, 0, e.EDQUOT, kind=ops.WARNING).message
    assert line.startswith("cannot make a session keyring of its own: ")
    assert "maxkeys" in line


# --- words ------------------------------------------------------------------------------------------------------


def every_operation() -> set[type[ops.Op]]:
    found = {kind for kind in vars(ops).values() if isinstance(kind, type) and issubclass(kind, ops.Op)}
    return found - {ops.Op}


def test_every_operation_has_words() -> None:
    assert set(operations()) == every_operation()


@pytest.mark.parametrize("kind", sorted(every_operation(), key=lambda kind: kind.CODE), ids=lambda kind: kind.__name__)
def test_words_are_an_infinitive(kind: type[ops.Op]) -> None:
    samples: dict[object, object] = {
        int: 1,
        str: "/x",
        bytes: b"12345678",
        tuple[str, ...]: ("a", "b"),
        tuple[int, ...]: (1,),
    }
    op = kind(**{field: samples[annotation] for field, annotation in kind._kinds.items()})
    words = describe(Step(op))
    assert words[0].islower()
    assert not words.endswith(".")
    assert words.count("`") % 2 == 0


@pytest.mark.parametrize(
    ("op", "about", "expected"),
    [
        (ops.FsMount(0, "tmpfs", (), 0), "/dev/shm", "mount `tmpfs` at `/dev/shm`"),
        (ops.MakeNode(0, "/dev/null", 0o020666, 1, 3, 0, 0), "", "make the device `/dev/null` (c 1:3)"),
        (ops.BoundCaps(1 << 10), "", "drop capabilities to at most CAP_NET_BIND_SERVICE"),
        (ops.SetUser(1000, 1000, (), 1), "", "become uid 1000 gid 1000"),
        (ops.SetUser(1000, 1000, (4, 5), 1), "", "become uid 1000 gid 1000 groups 4,5"),
        (ops.SetRlimit(7, 1024, -1), "", "limit `RLIMIT_NOFILE` to 1024 (at most unlimited)"),
        (ops.SetAttr(0, 0x7, 0, 0, -1, 0), "/x", "make the mount `/x` read-only, nosuid, nodev"),
        (ops.SetAttr(0, 0, 0x1, 0, -1, 1), "/x", "make the mount `/x` and all below not read-only"),
        (ops.SetAttr(0, 0, 0, 1 << 18, -1, 1), "/x", "make the mount `/x` and all below private"),
        (ops.SetScheduler(5, 0, 3, 0, 0, 0, 0), "", "schedule by `SCHED_IDLE` (nice 3)"),
        (ops.SetAffinity((0b10001111).to_bytes(8, "little")), "", "run on the CPUs 0-3,7"),
        (ops.WriteAt(0, "sys/net/ipv4/ip_forward", b"1"), "", "set the sysctl `net.ipv4.ip_forward` to `1`"),
        (ops.Clone(0x20020000), "", "clone the container process with namespaces of its own (mount, pid)"),
    ],
)
def test_words(op: ops.Op, about: str, expected: str) -> None:
    assert describe(Step(op, about=about)) == expected


def test_bind_is_told_with_its_place() -> None:
    steps = (
        Step(ops.OpenTree(4, ops.AT_HOST, "/home", ops.RECURSIVE)),
        Step(ops.SetAttr(4, 1, 0, 0, -1, 0)),
        Step(ops.Resolve(5, 0, "/data", ops.LIKE, 0o755, 0, 4)),
        Step(ops.MoveMount(4, 5), about="/data"),
    )
    names = Names(plan_of(*steps))
    assert describe(steps[0], names) == "bind `/home` with what is mounted below on `/data` read-only"
    assert describe(steps[3], names) == "attach `/home` at `/data`"


def test_capability_words() -> None:
    assert capability_words(0) == "none"
    assert capability_words((1 << 41) - 1) == "all"
    assert capability_words(1 << 60) == "capability 60"
    assert bit_list(b"\0" * 8) == ""


# --- values by pointer ------------------------------------------------------------------------------------------


def test_value_of_the_document() -> None:
    assert value_at(DOCUMENT, "/mounts/4/options/3") == "szie=64k"
    assert value_at(DOCUMENT, "/mounts/4") is None
    assert value_at(DOCUMENT, "/mounts/9/type") is None
    assert value_at(DOCUMENT, "") is None
    assert value_at({"a/b": {"~": 1}}, "/a~1b/~0") == 1


def test_value_of_the_decoded_configuration() -> None:
    text = b'{"ociVersion": "1.2.0", "process": {"cwd": "/", "oomScoreAdj": 5}, "annotations": {"a/b": "c"}}'
    config = decode(text)
    assert value_at(config, "/process/oomScoreAdj") == 5
    assert value_at(config, "/process/cwd") == "/"
    assert value_at(config, "/annotations/a~1b") == "c"
