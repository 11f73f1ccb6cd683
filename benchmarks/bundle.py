"""The container that everybody runs: the default configuration around /bin/true of a busybox root."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

LINKS = ("true", "sh", "sleep")
DIRECTORIES = ("bin", "dev", "etc", "proc", "sys", "tmp")


class Bundle:
    """A bundle directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory
        self.root = directory / "rootfs"
        _make_root(self.root)
        (directory / "config.json").write_text(json.dumps(_default_config()))

    def variant(self, name: str, *args: str) -> Path:
        """The bundle with the same root and another program."""
        path = self.path.parent / name
        path.mkdir()
        config = json.loads((self.path / "config.json").read_text())
        config["process"]["args"] = list(args)
        config["root"]["path"] = str(self.root)
        (path / "config.json").write_text(json.dumps(config))
        return path


def _make_root(root: Path) -> None:
    busybox = shutil.which("busybox")
    if not busybox:
        raise SystemExit("lacks: busybox (apt-get install busybox-static)")
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    shutil.copy2(os.path.realpath(busybox), root / "bin" / "busybox")
    for name in LINKS:
        (root / "bin" / name).symlink_to("busybox")


def _default_config() -> dict[str, Any]:
    """What `boxwright spec` writes, with a program that ends, and limits that this machine may forbid to raise left."""
    from boxwright.spec.default import default_config

    config: dict[str, Any] = json.loads(json.dumps(default_config()))
    config["process"] |= {"args": ["/bin/true"], "terminal": False}
    config["process"].pop("rlimits", None)
    config["root"]["readonly"] = False
    config["ociVersion"] = "1.0.2"  # the newest that all peers accept
    return config


def build_floor(directory: Path) -> Path:
    """Compile floor.c."""
    target = directory / "floor"
    source = Path(__file__).with_name("floor.c")
    subprocess.run(["cc", "-O2", "-static", "-o", str(target), str(source)], check=True)
    return target
