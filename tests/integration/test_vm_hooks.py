"""Hooks of a container in a virtual machine, and errors of the guest that name the line of config.json."""

import json
from pathlib import Path

import pytest

from fixtures_runtime import Json
from fixtures_vm import Machines, eventually

pytestmark = pytest.mark.root


def note(log: Path, name: str) -> Json:
    """A hook of the host that writes its name and the state that it gets."""
    script = f'printf "%s %s\\n" {name} "$(tr -d "\\n" | tr -s " ")" >> {log}'
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}


def test_hooks_run_where_the_standard_has_them(machines: Machines, tmp_path: Path) -> None:
    """Those of the runtime on the host, by its files and pids; startContainer in the container."""
    log = tmp_path / "log"
    hooks: Json = {kind: [note(log, kind)] for kind in ("prestart", "createRuntime", "poststart", "poststop")}
    script = "echo hook:$(uname -r):$(hostname) > /tmp/said; cat > /tmp/state"
    hooks["startContainer"] = [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]
    mounts = [{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]

    def change(config: Json) -> None:
        config["hooks"] = hooks
        config["mounts"] += mounts

    created = machines.create(
        "hooked", machines.bundle("/bin/sh", "-c", "cat /tmp/said /tmp/state; sleep 600", change=change)
    )
    try:
        before = [line.split(" ", 1) for line in log.read_text().splitlines()]
        assert [name for name, _ in before] == ["prestart", "createRuntime"]
        state = json.loads(before[0][1])
        keeper = machines.state("hooked")["pid"]
        assert (state["id"], state["status"], state["pid"]) == ("hooked", "creating", keeper)
        assert created.stdout == ""
        machines.start("hooked")
        eventually(lambda: "}" in created.stdout, "the program said nothing")
        said, _, state_inside = created.stdout.partition("\n")
        assert said.startswith("hook:")
        assert said.endswith(":box")
        assert json.loads(state_inside)["status"] == "created"
        assert [line.split()[0] for line in log.read_text().splitlines()][2:] == ["poststart"]
        machines.delete("hooked", "--force")
        assert [line.split()[0] for line in log.read_text().splitlines()][3:] == ["poststop"]
    finally:
        machines.delete("hooked", "--force")


def test_a_hook_that_fails_undoes_the_machine(machines: Machines, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def change(config: Json) -> None:
        config["hooks"] = {"createRuntime": [{"path": "/bin/false"}], "poststop": [note(log, "poststop")]}

    failed = machines.create("failing", machines.bundle("/bin/true", change=change), check=False)
    assert failed.status == 1
    assert "createRuntime" in failed.stderr
    assert "/bin/false" in failed.stderr
    assert log.read_text().startswith("poststop ")
    assert "failing" not in machines.ids()


def test_a_hook_in_the_guest_that_fails_ends_the_container(machines: Machines) -> None:
    def change(config: Json) -> None:
        config["hooks"] = {"startContainer": [{"path": "/bin/false"}]}

    machines.create("inside", machines.bundle("/bin/true", change=change))
    failed = machines.start("inside", check=False)
    assert failed.status == 1
    assert "startContainer" in failed.stderr, failed
    assert "/bin/false" in failed.stderr, failed
    assert "inside" not in machines.ids()


def test_a_hook_of_both_worlds_is_refused(machines: Machines) -> None:
    def change(config: Json) -> None:
        config["hooks"] = {"createContainer": [{"path": "/bin/true"}]}

    refused = machines.create("refused", machines.bundle("/bin/true", change=change), check=False)
    assert refused.status == 1
    assert "`/hooks/createContainer` is not supported by the `vm` box" in refused.stderr
    assert "refused" not in machines.ids()


def test_an_error_of_the_guest_names_the_line(machines: Machines) -> None:
    """A mount option that its kernel refuses, at create; a user that cannot execute, at start."""

    def option(config: Json) -> None:
        config["mounts"].append(
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "szie=64k"]}
        )

    index = len(json.loads((machines.bundle("/bin/true") / "config.json").read_text())["mounts"])
    failed = machines.create("option", machines.bundle("/bin/true", change=option), check=False)
    assert failed.status == 1
    assert f'from /mounts/{index}/options/1 = "szie=64k"' in failed.stderr, failed
    assert "option" not in machines.ids()

    missing = machines.create("missing", machines.bundle("/no/such"), check=False)
    assert 'from /process/args/0 = "/no/such"' in missing.stderr, missing
    assert "missing" not in machines.ids()

    created = machines.create("late", machines.bundle("/etc/passwd"), check=False)
    failed = machines.start("late", check=False) if created.status == 0 else created
    assert failed.status == 1
    assert 'from /process/args/0 = "/etc/passwd"' in failed.stderr, failed
    machines.delete("late", "--force")
