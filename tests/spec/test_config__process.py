"""config.md: process, user, hooks."""

import pytest

from spec_documents import changed, problems_of, refused, warned


@pytest.mark.spec("config.md#configProcess")
@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/process/cwd", ""),
        ("/process/cwd", "relative"),
        ("/process/cwd", None),
        ("/process/args", []),
        ("/process/args", None),
        ("/process/args/0", ""),
        ("/process/args/0", 1),
        ("/process/env", ["PATH"]),
        ("/process/env", ["=x"]),
        ("/process/env", [""]),
        ("/process/terminal", "yes"),
        ("/process/terminal", 1),
        ("/process/consoleSize", {"height": 1}),
        ("/process/consoleSize", {"height": -1, "width": 1}),
        ("/process", []),
    ],
)
def test_wrong_processes_are_refused(pointer, value):
    found = refused(changed(pointer, value))
    assert len(found) == 1
    assert found.pop().startswith("/process")


@pytest.mark.spec("config.md#configProcess")
def test_console_size_is_ignored_without_a_terminal():
    size = {"height": 70_000, "width": 2}
    assert problems_of(changed("/process/consoleSize", size)) == []
    document = changed("/process/consoleSize", size)
    document["process"]["terminal"] = True
    assert refused(document) == {"/process/consoleSize/height"}


@pytest.mark.spec("config.md#configPOSIXUser")
@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("uid", -1),
        ("uid", 1 << 32),
        ("uid", (1 << 32) - 1),
        ("uid", "0"),
        ("uid", 1.0),
        ("gid", True),
        ("umask", 0o1000),
    ],
)
def test_wrong_ids_are_refused(pointer, value):
    assert refused(changed(f"/process/user/{pointer}", value)) == {f"/process/user/{pointer}"}


@pytest.mark.spec("config.md#configPOSIXUser")
def test_additional_groups_are_ids():
    assert problems_of(changed("/process/user/additionalGids", [0, 5, (1 << 32) - 2])) == []
    assert refused(changed("/process/user/additionalGids", [0, -1, (1 << 32)])) == {
        "/process/user/additionalGids/1",
        "/process/user/additionalGids/2",
    }
    assert refused(changed("/process/user/additionalGids", [(1 << 32) - 1])) == {"/process/user/additionalGids/0"}


@pytest.mark.spec("config.md#configPOSIXProcess")
def test_rlimits():
    def limit(kind, soft, hard):
        return {"type": kind, "soft": soft, "hard": hard}

    sound = [limit("RLIMIT_NOFILE", 1, 2), limit("RLIMIT_CORE", 0, (1 << 64) - 1)]
    assert problems_of(changed("/process/rlimits", sound)) == []
    wrong = [*sound, limit("RLIMIT_NOFILE", 1, 2), limit("RLIMIT_FOO", 1, 1), limit("RLIMIT_CPU", 2, 1), {}]
    assert refused(changed("/process/rlimits", wrong[:-1])) == {
        "/process/rlimits/2/type",
        "/process/rlimits/3/type",
        "/process/rlimits/4/soft",
    }
    assert refused(changed("/process/rlimits", wrong)) == {"/process/rlimits/5"}


@pytest.mark.spec("config.md#configLinuxProcess")
def test_capabilities_that_cannot_be_granted_are_only_warned_of():
    document = changed(
        "/process/capabilities",
        {
            "bounding": ["CAP_KILL", "CAP_KILLL"],
            "permitted": ["CAP_KILL"],
            "effective": ["CAP_KILL", "CAP_CHOWN"],
            "ambient": ["CAP_KILL"],
        },
    )
    assert refused(document) == set()
    assert warned(document) == {
        "/process/capabilities/bounding/1",
        "/process/capabilities/effective",
        "/process/capabilities/ambient",
    }
    hints = [problem.hint for problem in problems_of(document)]
    assert "did you mean `CAP_KILL`?" in hints


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/process/oomScoreAdj", 1001),
        ("/process/oomScoreAdj", -1001),
        ("/process/ioPriority", {"class": "IOPRIO_CLASS_NONE", "priority": 0}),
        ("/process/ioPriority", {"class": "IOPRIO_CLASS_RT", "priority": 8}),
        ("/process/ioPriority", {"priority": 1}),
        ("/process/execCPUAffinity", {"initial": "3-1"}),
        ("/process/execCPUAffinity", {"final": "a"}),
        ("/process/scheduler", {}),
        ("/process/scheduler", {"policy": "SCHED_FOO"}),
        ("/process/scheduler", {"policy": "SCHED_OTHER", "nice": 20}),
        ("/process/scheduler", {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_FOO"]}),
        ("/process/scheduler", {"policy": "SCHED_FIFO", "priority": 100}),
        ("/process/scheduler", {"policy": "SCHED_FIFO"}),
        ("/process/scheduler", {"policy": "SCHED_FIFO", "priority": 1, "nice": 1}),
        ("/process/scheduler", {"policy": "SCHED_IDLE", "runtime": 1}),
        ("/process/noNewPrivileges", 1),
    ],
)
def test_wrong_linux_properties_are_refused(pointer, value):
    found = refused(changed(pointer, value))
    assert len(found) == 1
    assert found.pop().startswith(pointer)


@pytest.mark.spec("config.md#configLinuxProcess")
@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/process/oomScoreAdj", -1000),
        ("/process/ioPriority", {"class": "IOPRIO_CLASS_IDLE", "priority": 7}),
        ("/process/execCPUAffinity", {"initial": "7", "final": "0-3, 7"}),
        ("/process/execCPUAffinity", {"final": ""}),
        ("/process/scheduler", {"policy": "SCHED_BATCH", "nice": -20}),
        ("/process/scheduler", {"policy": "SCHED_RR", "priority": 99, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
        ("/process/scheduler", {"policy": "SCHED_DEADLINE", "runtime": 10, "deadline": 20, "period": 30}),
    ],
)
def test_sound_linux_properties_are_taken(pointer, value):
    assert problems_of(changed(pointer, value)) == []


@pytest.mark.spec("config.md#configHooks")
@pytest.mark.parametrize(
    "kind", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
)
def test_hooks(kind):
    sound = [{"path": "/bin/true"}, {"path": "/bin/true", "args": ["a"], "env": ["A="], "timeout": 1}]
    assert problems_of(changed(f"/hooks/{kind}", sound)) == []
    wrong = [{"path": "true"}, {"path": "/a", "timeout": 0}, {"path": "/a", "timeout": -1}, {"path": ""}]
    assert refused(changed(f"/hooks/{kind}", wrong)) == {
        f"/hooks/{kind}/0/path",
        f"/hooks/{kind}/1/timeout",
        f"/hooks/{kind}/2/timeout",
        f"/hooks/{kind}/3/path",
    }
    assert refused(changed(f"/hooks/{kind}", [{}])) == {f"/hooks/{kind}/0"}
