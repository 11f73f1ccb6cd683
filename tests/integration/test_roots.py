"""The roots that the tests run in are roots that the command runs."""

from pathlib import Path

import pytest

from fixtures_runtime import BundleFactory, Runtime, default_config

pytestmark = pytest.mark.root


def test_a_debian_root_runs(boxwright: Runtime, bundle: BundleFactory, debian_root: Path) -> None:
    result = boxwright.run("c1", bundle(default_config("/bin/cat", "/etc/os-release"), root=debian_root))
    assert (result.status, "ID=debian" in result.stdout.split()) == (0, True), result
