"""crun's own tests, taken from the distribution's source package: fetched, built and run one case at a time.

Nothing of them is kept in the repository. What crun itself passes on this machine is the measure; it is found once
and kept in the cache.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lacks
from fixtures_roots import cache_dir, cached
from processes import Ended, run_to_the_end

STAND_INS = Path(__file__).parent / "stand_ins"
CASE_SECONDS = 30
OK, NOT_OK, SKIPPED, HUNG = "ok", "not ok", "skipped", "hung"

CONFIG_H = """\
#define HAVE_ERROR_H 1
#define HAVE_SECCOMP 1
"""

# runs in the suite's own interpreter, as a file's cases are known to the file alone
LISTER = """
import importlib, json, sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
cases = {}
for name in sys.argv[3:]:
    cases[name] = list(importlib.import_module(name).all_tests)
print(json.dumps(cases))
"""


class Outcome:
    """How one case ended: its verdict, what it wrote, and what it left on the machine."""

    def __init__(self, verdict: str, output: str, left: Sequence[str]) -> None:
        self.verdict = verdict
        self.output = output
        self.left = left

    def measure(self) -> tuple[str, bool]:
        """The verdict, and whether something was left: to compare another runtime with."""
        return self.verdict, bool(self.left)


# ── fetching and building ───────────────────────────────────────────────────────────────────────────────────────────


def prepare() -> Path:
    """The directory of the unpacked and built suite; skips by name what it cannot be had without."""
    lacks.need_root()
    lacks.need_program("crun", "apt-get", "dpkg-source", "gcc")
    lacks.need("libseccomp-dev", Path("/usr/include/seccomp.h").exists())
    return cached(f"crun-suite-{_source_version()}", _fetch_and_build)


def _source_version() -> str:
    shown = _output("dpkg-query", "-W", "-f", "${source:Version}", "crun").strip()
    lacks.need("crun from a package", shown)
    return shown


def _fetch_and_build(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="boxwright-crun-") as name:
        work = Path(name)
        _fetch(work)
        tests = next(work.glob("crun-*/tests"), None)
        lacks.need("the source package of crun", tests)
        assert tests
        shutil.copytree(tests, target / "tests")
    (target / "config.h").write_text(CONFIG_H)
    init = target / "tests/init"
    subprocess.run(["gcc", "-static", "-w", f"-I{target}", f"{init}.c", "-o", str(init)], check=True)
    (target / "cases.json").write_text(json.dumps(_list_cases(target / "tests")))


def _fetch(work: Path) -> None:
    """Unpack the source package into `work` by apt, with source entries of our own: the system's stay as they are."""
    uri = _output("apt-get", "download", "--print-uris", "crun").split("'")
    lacks.need("a package archive with crun", len(uri) > 1)
    suffix, entries = _source_entries(uri[1])
    lists = work / "lists"
    (lists / "partial").mkdir(parents=True)
    sources = work / f"own.{suffix}"
    sources.write_text(entries)
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": lists,
        "APT::Sandbox::User": "root",
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    for action in (["update"], ["source", f"crun={_source_version()}"]):
        result = subprocess.run(["apt-get", "-qq", *options, *action], cwd=work, capture_output=True, check=False)
        lacks.need(f"the source package of crun ({action[0]})", result.returncode == 0)


def _source_entries(package_uri: str) -> tuple[str, str]:
    """Kind and text of source entries, after those entries of the system that `package_uri` comes from."""
    stanzas, lines = [], []
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if path.suffix == ".sources":
            stanzas += [text for text in path.read_text().split("\n\n") if _is_origin(text, package_uri)]
        elif path.suffix == ".list" and path.exists():
            lines += [line for line in path.read_text().splitlines() if _is_origin(line, package_uri)]
    if stanzas:
        return "sources", "\n\n".join(re.sub(r"(?m)^Types:.*", "Types: deb-src", text) for text in stanzas)
    return "list", "".join(re.sub(r"^deb\s", "deb-src ", line) + "\n" for line in lines if line.startswith("deb "))


def _is_origin(entry: str, package_uri: str) -> bool:
    return any(package_uri.startswith(uri) for uri in re.findall(r"^(?!#).*?(\w+://\S+)", entry, re.MULTILINE))


def _list_cases(tests: Path) -> dict[str, list[str]]:
    names = sorted(path.stem for path in tests.glob("test_*.py"))
    words = [sys.executable, "-c", LISTER, str(tests), str(STAND_INS), *names]
    cases: dict[str, list[str]] = json.loads(subprocess.check_output(words, text=True))
    return cases


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


# ── running ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def cases(suite: Path) -> list[str]:
    """Every case as `file/case`."""
    listed: dict[str, list[str]] = json.loads((suite / "cases.json").read_text())
    return [f"{file}/{case}" for file, names in listed.items() for case in names]


def run_case(suite: Path, case: str, runtime: str, seconds: float = CASE_SECONDS) -> Outcome:
    """Run one case with `runtime`, on a terminal where the case wants one, and clean up behind it."""
    file, _, name = case.partition("/")
    with _run_directory(suite) as directory:
        environment = os.environ | {
            "INIT": "tests/init",
            "OCI_RUNTIME": runtime,
            "PYTHONPATH": str(STAND_INS),
            "RUN_TESTS": name,
            "TMPDIR": str(directory / "tmp"),
        }
        groups = _groups()
        command = [*_enter_legacy_cgroups(runtime), sys.executable, f"tests/{file}.py"]
        ended = run_to_the_end(command, directory, environment, seconds, terminal=file == "test_tty")
        left = [*ended.orphans, *_remove_groups(_groups() - groups), *_unmount_below(directory)]
    return Outcome(_verdict(ended), ended.output, left)


def _verdict(ended: Ended) -> str:
    if ended.status is None:
        return HUNG
    # a case may have left a line open before it
    line = re.search(r"(ok|not ok) 1 - .*$", ended.output, re.MULTILINE)
    if not line or line[1] == "not ok":
        return NOT_OK
    return SKIPPED if "#SKIP" in line[0] else OK


@contextmanager
def _run_directory(suite: Path) -> Iterator[Path]:
    """A directory to run in that other users can get to, as the cases with a user namespace need it."""
    parent = cache_dir() / "runs"
    parent.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=parent))
    directory.chmod(0o755)
    (directory / "tests").symlink_to(suite / "tests")
    (directory / "tmp").mkdir()
    (directory / "tmp").chmod(0o1777)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _enter_legacy_cgroups(runtime: str) -> list[str]:
    """crun refuses a hybrid host whose v2 tree has controllers; without a sight of that tree it goes on."""
    controllers = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    if Path(runtime).name != "crun" or not controllers.exists() or not controllers.read_text().strip():
        return []
    return ["unshare", "--mount", "sh", "-c", 'umount /sys/fs/cgroup/unified && exec "$@"', "sh"]


def _groups() -> frozenset[str]:
    """Control groups that a case, or a runtime for it, may have made: the ids begin with `test-`."""
    found = (directory for directory, _, _ in os.walk("/sys/fs/cgroup"))
    return frozenset(path for path in found if re.search(r"/(test-|frozen$)|/container-[0-9a-f-]+$", path))


def _remove_groups(groups: frozenset[str]) -> list[str]:
    """Remove what a case left. Nothing of ours lives any more, so a group with processes in it is somebody else's."""
    removed = []
    for path in sorted(groups, reverse=True):
        if Path(path).exists() and not Path(path, "cgroup.procs").read_text():
            os.rmdir(path)
            removed.append(f"cgroup {path}")
    return removed


def _unmount_below(directory: Path) -> list[str]:
    targets = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    below = [target for target in targets if target.startswith(f"{directory}/")]
    for target in reversed(below):
        subprocess.run(["umount", "-l", target], check=True)
    return [f"mount {target}" for target in below]


# ── the measure ─────────────────────────────────────────────────────────────────────────────────────────────────────


def measure_now(suite: Path, case: str) -> tuple[str, bool]:
    """The measure of one case with crun itself."""
    crun = lacks.find_program("crun")
    assert crun
    return run_case(suite, case, crun).measure()


def baseline(suite: Path) -> dict[str, tuple[str, bool]]:
    """The measure of each case, from the cache or found now."""
    path = suite / f"baseline-{platform.release()}.json"
    if not path.exists():
        measures = {case: measure_now(suite, case) for case in cases(suite)}
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(measures))
        partial.rename(path)
    found: dict[str, list[Any]] = json.loads(path.read_text())
    return {case: (verdict, left) for case, (verdict, left) in found.items()}
