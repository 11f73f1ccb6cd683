"""`explain` of a container in a virtual machine: the jail, the guest, and what goes between them."""

import json
import re
import subprocess

import pytest

from fixtures_machine import host_kernel
from fixtures_runtime import default_config
from fixtures_vm import need_machines

pytestmark = pytest.mark.root
MIB = 1 << 20


@pytest.fixture
def explained(boxwright_command, tmp_path):
    need_machines()

    def explained(*words):
        command = [boxwright_command, "--root", str(tmp_path / "state"), "explain", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    yield explained
    assert not (tmp_path / "state").exists()


@pytest.fixture
def machine_bundle(tmp_path, busybox_root):
    need_machines()
    (tmp_path / "data").mkdir()
    config = default_config("/bin/sh", "-c", "true", hostname="guest")
    config["root"] = {"path": str(busybox_root), "readonly": True}
    config["vm"] = {"kernel": {"path": host_kernel().path}, "hwConfig": {"vcpus": 2, "memory": 300 * MIB}}
    config["mounts"].append({"destination": "/data", "source": str(tmp_path / "data"), "options": ["rbind", "rw"]})
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path, len(config["mounts"]) - 1


def lines_of(stage):
    return [(line["text"], line["pointer"]) for line in stage["lines"]]


def test_both_plans_are_told_with_the_lines_that_ask_for_them(explained, machine_bundle):
    bundle, index = machine_bundle
    found = json.loads(explained("--json", str(bundle)))
    titles = [stage["title"] for stage in found["stages"]]
    assert titles == [
        "on the host: before the machine's keeper",
        "in the jail: the machine's keeper",
        "in the jail: serve the files that are shared",
        "in the jail: run the machine",
        "in the guest: reach the files that are shared",
        "in the guest: before the container process",
        "in the box: the container process",
        "in the box: at `start`",
    ]
    stages = dict(zip(titles, found["stages"], strict=True))
    pointer = f"/mounts/{index}"
    jail = lines_of(stages["in the jail: the machine's keeper"])
    assert any(f"{bundle}/data" in text and at.startswith(pointer) for text, at in jail)
    guest = lines_of(stages["in the box: the container process"])
    assert any("`/data`" in text and at.startswith(pointer) for text, at in guest)
    assert ("set the host name `guest`", "/hostname") in guest
    assert any(text.startswith("execute `/boxwright-helper ") and " --keep " in text for text, _ in jail)
    assert any("qemu" in text for text, _ in lines_of(stages["in the jail: run the machine"]))
    assert lines_of(stages["in the box: at `start`"])[-1][1] == "/process/args"
    assert not [at for _, at in jail if at and not re.match(r"/(mounts|linux/resources|root/path)", at)]


def test_what_is_shared_with_the_host_and_what_is_not(explained, machine_bundle):
    bundle, _ = machine_bundle
    found = json.loads(explained("--json", str(bundle)))
    machine = [(fact["name"], fact["value"], fact["pointer"]) for fact in found["walls"]["machine"]]
    assert ("memory", "300 MiB", "/vm/hwConfig/memory") in machine
    assert ("processors", "2", "/vm/hwConfig/vcpus") in machine
    assert {name for name, _, _ in machine} >= {"kernel", "hypervisor", "jail", "shared", "not shared"}
    assert {row["state"] for row in found["walls"]["namespaces"]} == {"own"}
    assert found["user"] == "uid 0 gid 0 of the guest"
    crossing = [(row["destination"], row["writable"]) for row in found["walls"]["mounts"] if row["crossing"]]
    assert crossing == [("/data", True)]
    assert found["root_writes"] == "read-only"


def test_a_command_in_a_box_as_text_and_as_a_page(explained, machine_bundle):
    text = explained("--isolation", "vm", "--", "uname", "-a")
    assert text.startswith("`uname -a`\n")
    assert "the machine around it" in text
    assert "every system call of the host's kernel" not in text
    page = explained("--html", str(machine_bundle[0]))
    assert "a kernel of its own, held in a jail" in page
    assert "<h3>Machine</h3>" in page


def test_where_the_network_leads(explained):
    """In user mode to the host's but for its loopback; else nowhere, and the machine has no device."""
    found = json.loads(explained("--json", "--isolation", "vm", "--network", "host", "-p", "8080:80", "--", "true"))
    facts = [fact["value"] for fact in found["walls"]["machine"] if fact["name"] == "network"]
    assert facts == [
        "`eth0` leads to the host's by slirp4netns, but not to its 127.0.0.0/8",
        "127.0.0.1:8080/tcp of the host leads to port 80",
    ]
    stages = {stage["title"]: stage for stage in found["stages"]}
    told = [text for text, _ in lines_of(stages["in the guest: set up the network"])]
    assert "give `eth0` the address `10.0.2.15`" in told
    alone = json.loads(explained("--json", "--isolation", "vm", "--", "true"))
    facts = [fact["value"] for fact in alone["walls"]["machine"] if fact["name"] == "network"]
    assert facts == ["no device: a loopback interface alone"]
    assert "in the guest: set up the network" not in {stage["title"] for stage in alone["stages"]}
