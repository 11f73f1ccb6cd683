"""Containers in machines: how long until a command has run and the machine is gone, what each holds, how fast it ends.

The floor is the same hypervisor with the same kernel, whose first process does nothing but end the machine: no
container, no files, nothing decided.
"""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from statistics import median
from time import sleep
from typing import Any

from benchmarks.bundle import Bundle
from benchmarks.contenders import COMMAND, Contender, program, spawn
from benchmarks.rounds import measure

CLONES = 4
MEBIBYTE = 1 << 20
# what is promised, as a ratio of the floor or in milliseconds
TARGETS = {"cold": 1.5, "template": 0.2, "exec_ms": 60, "teardown_ms": 100}


def lacking() -> str:
    """What this host lacks for it, empty if nothing."""
    from boxwright.boxes.vm.images import mkfs

    if not shutil.which("qemu-system-x86_64"):
        return "qemu-system-x86"
    return "" if mkfs() else "erofs-utils"


def machines(directory: Path, bundle: Bundle, state: Path, rounds: int) -> dict[str, Any]:
    """All of it. The first rounds, which fill the cache, are not counted."""
    command = [str(COMMAND), "--root", str(state), "--isolation", "vm"]
    box = ("run", "--isolation", "vm")
    sleep(0.2)  # of files that have just been made there is no image
    starts = measure(
        [
            Contender("floor", Floor(directory).once),
            program("cold", *command[:3], *box, "--", "true"),
            program("template", *command[:3], *box, "--rootfs", str(bundle.root), "--", "true"),
        ],
        rounds,
    )
    readonly = _readonly(bundle)
    execs, ends = _in_one(command, readonly, rounds)
    return {
        "starts": {one.name: {"median_ms": one.median_ms, "min_ms": one.least_ms} for one in starts},
        "ratios": {one.name: one.beside(starts[0]) for one in starts},
        "exec_ms": median(execs),
        "teardown_ms": median(ends),
        "pss_mib_each": _weight(command, readonly),
        "targets": TARGETS,
    }


class Floor:
    """A machine without a container."""

    def __init__(self, directory: Path) -> None:
        from boxwright.boxes.vm.accel import choose, host_tsc_khz
        from boxwright.boxes.vm.cache import Cache
        from boxwright.boxes.vm.hypervisor import Qemu
        from boxwright.boxes.vm.initramfs import make_initramfs
        from boxwright.boxes.vm.kernels import boot_image, find_kernel

        init = directory / "floor_vm"
        source = Path(__file__).with_name("floor_vm.c")
        subprocess.run(["cc", "-Os", "-static", "-o", str(init), str(source)], check=True)
        cache = Cache()
        kernel = find_kernel()
        self._image = boot_image(kernel, cache)
        self._initrd = make_initramfs(kernel, (), str(init), cache).path
        self._qemu = Qemu("", cache)
        self._tsc_khz = host_tsc_khz(cache)
        self._accel = choose(self._qemu, self._image, self._initrd, cache).accel

    def once(self, _number: int) -> float:
        """Boot it; milliseconds until the hypervisor has ended."""
        from boxwright.boxes.vm.machine import MachineSpec

        ours, port = socket.socketpair()
        with ours, port:
            spec = MachineSpec(
                memory_bytes=1024 * MEBIBYTE,
                kernel=self._image.path,
                initrd=self._initrd,
                port_fd=port.fileno(),
                accel=self._accel,
                pvh=self._image.pvh,
                tsc_khz=self._tsc_khz,
            )
            os.set_inheritable(port.fileno(), True)
            return spawn(self._qemu.command(spec))


def _readonly(bundle: Bundle) -> Path:
    path = bundle.variant("machine", "/bin/sleep", "1000")
    config = json.loads((path / "config.json").read_text())
    config["root"]["readonly"] = True
    (path / "config.json").write_text(json.dumps(config))
    return path


def _in_one(command: list[str], bundle: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Times of exec in a running machine, and of its end by force."""
    execs, ends = [], []
    for number in range(rounds):
        name = f"one-{number}"
        spawn([*command, "run", "--detach", "--bundle", str(bundle), name])
        execs += [spawn([*command, "exec", name, "/bin/true"]) for _ in range(3)]
        ends.append(spawn([*command, "delete", "--force", name]))
    return execs, ends


def _weight(command: list[str], bundle: Path) -> float:
    """Proportional set size of everything in the jails of some machines at once, MiB for each."""
    names = [f"weighed-{number}" for number in range(CLONES)]
    for name in names:
        spawn([*command, "run", "--detach", "--bundle", str(bundle), name])
    try:
        return sum(_pss_mib(command, name) for name in names) / CLONES
    finally:
        for name in names:
            spawn([*command, "delete", "--force", name])


def _pss_mib(command: list[str], name: str) -> float:
    keeper = json.loads(subprocess.check_output([*command, "state", name], text=True))["pid"]
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in (str(keeper), *children)]
    return sum(int(text.split("\nPss:")[1].split()[0]) for text in texts) / 1024


def shown(found: dict[str, Any]) -> str:
    """The numbers as a table, with what is promised."""
    lines = [f"{'a machine, from nothing to nothing':36}{'median ms':>10}{'min ms':>9}{'× floor':>10}{'promised':>10}"]
    for name, one in found["starts"].items():
        promised = TARGETS.get(name)
        ratio = found["ratios"][name][0]
        lines.append(f"{name:36}{one['median_ms']:10.0f}{one['min_ms']:9.0f}{ratio:10.2f}{promised or '':>10}")
    for name in ("exec_ms", "teardown_ms"):
        lines.append(f"{name.replace('_ms', ''):36}{found[name]:10.0f}{'':19}{TARGETS[name]:>10}")
    lines.append(f"{'memory of each of ' + str(CLONES) + ', MiB (PSS)':36}{found['pss_mib_each']:10.0f}")
    return "\n".join(lines)
