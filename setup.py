"""What pyproject.toml cannot say: a wheel carries the helper, a static binary built by native/Makefile."""

import shutil
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
HELPER = HERE / "native" / "build" / "boxwright-helper"


class BuildWithHelper(build_py):
    """Builds the helper too, except for an editable installation: there `make helper` does."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        subprocess.run(["make", "-C", str(HERE / "native")], check=True)
        target = Path(self.build_lib, "boxwright", "_native", HELPER.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HELPER, target)
        target.chmod(0o755)


class BinaryDistribution(Distribution):
    """A wheel of one architecture, though it holds no extension module."""

    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_py": BuildWithHelper}, distclass=BinaryDistribution)
