"""checkpoint and restore where CRIU works: in a guest with Debian's kernel."""

from pathlib import Path

import criu_guest
import pytest

pytestmark = pytest.mark.root


def test_a_container_goes_on_where_it_was(tmp_path: Path) -> None:
    """With control groups of both versions; `v1` and `v2` have them of one."""
    said = criu_guest.run(tmp_path, "hybrid")
    lines = said.splitlines()
    assert not [line for line in lines if line.startswith(("not ok", "#"))], said
    passed = sum(line.startswith("ok ") for line in lines)
    assert passed > 0, said
    assert f"1..{passed}" in lines, said
