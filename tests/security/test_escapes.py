"""Root in the box that `boxwright run -- COMMAND` makes, and what it can reach."""

import os
import subprocess
from pathlib import Path

import pytest
from attacks import findings

from boxwright.api.recipe import HOST_SECRETS
from fixtures_runtime import Runtime

pytestmark = pytest.mark.root

# refused because the box has no right to it, by whichever wall comes first
REFUSED = {"EPERM", "EACCES", "EROFS", "ENOSYS"}
# what happens to be harmless in the box: refused, or about the box alone
WRITES = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/hostname",
    "/proc/sys/vm/drop_caches",
    "/proc/sysrq-trigger",
    "/sys/kernel/uevent_helper",
    "/sys/fs/cgroup/cpu/release_agent",
    "/sys/fs/cgroup/memory/cgroup.procs",
    "/sys/power/state",
    "/sys/module/printk/parameters/time",
)
READS = ("/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/proc/1/root/../x")
EMPTY = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts")


@pytest.fixture(scope="module")
def tried(boxwright_command: str, attacker: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What came of each attempt of root in a box over the host's own root."""
    secrets = [path for path in HOST_SECRETS if os.path.exists(path)]
    command = [boxwright_command, "--root", str(tmp_path_factory.mktemp("escapes") / "state"), "run"]
    paths = [*(f"+{path}" for path in WRITES), *READS, *EMPTY, *secrets]
    words = ["--bind", f"{attacker}:/mnt/attacker", "--", "/mnt/attacker", "escapes", *paths]
    result = subprocess.run([*command, *words], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    return findings(result.stdout)


def test_no_call_that_only_an_escape_needs_is_granted(tried: dict[str, str]) -> None:
    """CVE-2022-0492 and its kind: mounts, namespaces, devices, modules, kexec, BPF, raw sockets, io_uring."""
    calls = {name: found for name, found in tried.items() if ":" not in name}
    assert len(calls) > 25
    assert {name: found for name, found in calls.items() if found not in REFUSED} == {}


@pytest.mark.parametrize("path", WRITES)
def test_no_setting_of_the_host_is_written(tried: dict[str, str], path: str) -> None:
    """CVE-2022-0492, CVE-2025-31133: neither sysctls nor sysfs nor release_agent take a word of the box."""
    assert tried[f"write:{path}"] in {*REFUSED, "ENOENT"}


@pytest.mark.parametrize("path", READS)
def test_no_device_of_the_host_is_there(tried: dict[str, str], path: str) -> None:
    """The box has null, zero, full, random, urandom and tty."""
    assert tried[f"read:{path}"] in {*REFUSED, "ENOENT"}


@pytest.mark.parametrize("path", EMPTY)
def test_what_tells_of_the_host_is_empty(tried: dict[str, str], path: str) -> None:
    """CVE-2020-8694 and its kind: masked files of procfs have nothing in them."""
    assert tried[f"read:{path}"] in {"empty", "ENOENT", "EACCES", "EPERM"}


@pytest.mark.parametrize("path", HOST_SECRETS)
def test_secrets_of_the_host_are_hidden(tried: dict[str, str], path: str) -> None:
    """A box over the host's own root does not show its shadow file and keys."""
    if not os.path.exists(path):
        pytest.skip(f"lacks: {path}")
    assert tried[f"read:{path}"] in {"empty", "EISDIR"}
    assert not os.path.isdir(path) or tried[f"read:{path}"] == "EISDIR"


def test_nothing_written_in_the_box_is_on_the_host(boxwright: Runtime) -> None:
    """The overlay takes it all: files made, changed and removed by root of the box."""
    script = "echo x > /etc/boxwright-escape; echo x >> /etc/hosts; rm -rf /usr/bin/env; chmod 777 /etc; ls /root /home"
    before = (os.stat("/etc").st_mode, Path("/etc/hosts").read_bytes(), os.stat("/usr/bin/env").st_ino)
    result = boxwright.call("run", "--", "sh", "-c", script)
    assert result.stdout.split() == ["/home:", "/root:"]
    assert (os.stat("/etc").st_mode, Path("/etc/hosts").read_bytes(), os.stat("/usr/bin/env").st_ino) == before
    assert not Path("/etc/boxwright-escape").exists()


def test_nobody_of_the_host_is_seen_or_signalled(boxwright: Runtime) -> None:
    """The box sees its own processes only, and the number of one of the host's means nothing to it."""
    result = boxwright.call("run", "--", "sh", "-c", f"ls -d /proc/[0-9]*; kill -0 {os.getpid()}; echo $?")
    *seen, status = result.stdout.split()
    assert len(seen) <= 3
    assert status != "0"


def test_nobody_of_the_network_is_reached(boxwright: Runtime) -> None:
    """No interface but the loopback, and that is the box's own."""
    result = boxwright.call("run", "--", "cat", "/proc/net/dev", "/proc/net/unix")
    names = [line.split(":")[0].strip() for line in result.stdout.splitlines() if ":" in line and "|" not in line]
    assert [name for name in names if name and not name[0].isdigit() and name != "lo" and " " not in name] == []
