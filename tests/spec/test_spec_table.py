"""The table of the standard's sections: every one is listed, those without a test too."""

import re
from pathlib import Path

import pytest

from spec_sections import WITHOUT_RULES, anchors

pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
        pytest_plugins = ["spec_table"]
        """
    )
    pytester.makeini("[pytest]\nmarkers = spec(anchor): section\n")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.spec("config.md#configRoot")
        @pytest.mark.parametrize("number", [1, 2])
        def test_root(number):
            pass

        @pytest.mark.spec("config.md#configRoot", "config.md#configMounts")
        def test_both():
            raise AssertionError

        @pytest.mark.spec("config.md#configMounts")
        def test_skipped():
            pytest.skip("why")
        """
    )
    return pytester


def test_tests_are_counted_by_section(project: pytest.Pytester):
    text = project.runpytest_inprocess("--spec-table", "-p", "no:cacheprovider").stdout.str()
    rows = {row[3]: row[:3] for row in re.findall(r"^ +(\d+) +(\d+) +(\d+)  (\S+)$", text, re.MULTILINE)}
    assert rows["config.md#configRoot"] == ("2", "1", "0")
    assert rows["config.md#configMounts"] == ("0", "1", "1")
    assert rows["config-linux.md#configLinuxSeccomp"] == ("0", "0", "0")
    assert "runtime.md#runtimeKill" in rows


def test_the_table_comes_when_it_is_asked_for(project: pytest.Pytester):
    assert "by section" not in project.runpytest_inprocess("-k", "root").stdout.str()


def test_the_sections_are_those_of_the_standard(spec_dir: Path):
    found = {
        f"{path.name}#{name}"
        for path in spec_dir.glob("*.md")
        for name in re.findall(r'name="(\w+)"', path.read_text())
        if path.name not in {"spec.md", "principles.md"}
    }
    assert set(anchors()) | WITHOUT_RULES == found
    assert not set(anchors()) & WITHOUT_RULES


def test_every_mark_names_a_section(request: pytest.FixtureRequest):
    known = set(anchors())
    for item in request.session.items:
        for mark in item.iter_markers("spec"):
            assert set(mark.args) <= known, item.nodeid
