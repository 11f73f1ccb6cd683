<<<<<<< HEAD
"""python -m benchmarks [--rounds N] [--many N] [--machines N] [--json FILE]: measure, and print it with ratios."""
=======
"""python -m benchmarks [--rounds N] [--many N] [--machines N] [--json FILE]: measure, and print it with the ratios."""
>>>>>>> vm-template

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.bundle import Bundle, build_floor
from benchmarks.contenders import Runtime, of_lives, of_runs, of_verb, runtimes
from benchmarks.machines import lacking, machines, shown
from benchmarks.many import many
from benchmarks.rounds import Result, measure, table

INSIDE = "BOXWRIGHT_BENCH_INSIDE"
STATE = "/run"
UNIFIED = "/sys/fs/cgroup/unified"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="at least 30 for numbers to write down")
    parser.add_argument("--many", type=int, default=200, help="how many containers at once; 0 for none")
    parser.add_argument("--machines", type=int, default=10, help="rounds of virtual machines; 0 for none")
    parser.add_argument("--json", type=Path, help="write the numbers to this file too")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("lacks: root")
    if INSIDE not in os.environ:
        _enter_mount_namespace()
    found = _measure(options.rounds, options.many, options.machines)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def _enter_mount_namespace() -> None:
    """Start again where mounts are our own. A v2 tree beside v1 hierarchies is unmounted there: crun refuses to go on
    while it holds a controller. The state of all is on a tmpfs, as /run is where systemd is. All see the same.
    """
    inside = f'if mountpoint -q {UNIFIED}; then umount {UNIFIED}; fi; mount -t tmpfs tmpfs {STATE}; exec "$@"'
    again = [sys.executable, "-m", "benchmarks", *sys.argv[1:]]
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "sh", "-ec", inside, "sh", *again])


def _measure(rounds: int, count: int, machine_rounds: int) -> dict[str, Any]:
    found: dict[str, Any] = {"machine": machine(), "rounds": rounds}
    print(found["machine"], flush=True)
    with tempfile.TemporaryDirectory(prefix="boxwright-bench-") as name:
        directory = Path(name)
        bundle, state = Bundle(directory / "bundle"), Path(STATE, "boxwright-bench")
        peers = runtimes(state)
        sleeping = bundle.variant("sleeping", "/bin/sleep", "1000")
        floor = build_floor(directory)
        _show(found, "a whole run", measure(of_runs(bundle, floor, state, peers), rounds))
        _show(found, "create, start, delete", measure(of_lives(bundle, peers), rounds))
        with _Running(sleeping, peers):
            _show(found, "exec", measure(of_verb(peers, "exec", "/bin/true"), rounds))
            _show(found, "state", measure(of_verb(peers, "state"), rounds))
        if count:
            found["many"] = many(sleeping, state, count)
            print("\n" + "\n".join(f"{key.replace('_', ' '):32}{value}" for key, value in found["many"].items()))
        if machine_rounds:
            _show_machines(found, directory, bundle, state, machine_rounds)
    return found


def _show_machines(found: dict[str, Any], directory: Path, bundle: Bundle, state: Path, rounds: int) -> None:
    if lacks := lacking():
        print(f"\nno machines: lacks {lacks}")
        return
    found["machines"] = machines(directory, bundle, state, rounds)
    print(f"\n{shown(found['machines'])}", flush=True)


class _Running:
    """A running container of each runtime, by the runtime's name."""

    def __init__(self, bundle: Path, peers: Sequence[Runtime]) -> None:
        self._bundle = bundle
        self._peers = peers

    def __enter__(self) -> None:
        for one in self._peers:
            one.by([*one.command, "run", "--detach", "--bundle", str(self._bundle), one.name])

    def __exit__(self, *_exc: object) -> None:
        for one in self._peers:
            one.by([*one.command, "delete", "--force", one.name])


def _show(found: dict[str, Any], title: str, results: list[Result]) -> None:
    found[title] = {one.name: {"median_ms": one.median_ms, "min_ms": one.least_ms} for one in results}
    print(f"\n{table(title, results)}", flush=True)


def machine() -> str:
    """What it was measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    versions = [_version(name) for name in ("crun", "runc", "bwrap")]
    peers = ", ".join(version for version in versions if version)
    return f"{os.cpu_count()} × {model}, Linux {platform.release()}, Python {platform.python_version()}; {peers}"


def _version(program: str) -> str:
    try:
        text = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        return ""
    return text.splitlines()[0].replace(" version", "")


main()
