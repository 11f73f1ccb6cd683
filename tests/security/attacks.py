"""Small things that the attacks share."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fixtures_runtime import Json, default_config

# what a box in a user namespace of its own may hold without harm
ALL_CAPABILITIES = [
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "MKNOD",
        "SETFCAP",
    ]
]
FIRST_ID = 700_000


def rounds(usual: int) -> int:
    """How often a race is run: `usual`, times $BOXWRIGHT_RACES."""
    return usual * int(os.environ.get("BOXWRIGHT_RACES", "1"))


def wait_for(what: Callable[[], object], seconds: float = 20) -> None:
    """Wait until `what` is true; an AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.005)


def our_groups() -> list[str]:
    """The directories of all control groups of this session's containers (see `default_config`)."""
    mark = f"/boxwright-tests-{os.getpid()}"
    return [directory for directory, _, _ in os.walk("/sys/fs/cgroup") if mark in directory]


def with_capabilities(config: Json, names: list[str]) -> Json:
    """The configuration with exactly these capabilities, none of them inheritable."""
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    return config


def in_user_namespace(*args: str) -> Json:
    """A box that is root with every capability in a user namespace of its own."""
    config = with_capabilities(default_config(*args), ALL_CAPABILITIES)
    linux = config["linux"]
    linux["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        linux[name] = [{"containerID": 0, "hostID": FIRST_ID, "size": 65536}]
    return config


def bind(source: Path, destination: str, *options: str) -> Json:
    """A bind mount for a configuration."""
    return {"destination": destination, "type": "none", "source": str(source), "options": ["rbind", *options]}


def findings(text: str) -> dict[str, str]:
    """The hostile program's lines `what result` as a dict."""
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if " " in line)


def one_line_error(result: Any) -> str:
    """The message of a command that failed as commands should: not by a fault of ours, and in few words."""
    assert result.status not in (0, -11), result
    assert "Traceback" not in result.stderr, result
    assert "internal error" not in result.stderr, result
    assert result.stderr.strip(), result
    return str(result.stderr)
