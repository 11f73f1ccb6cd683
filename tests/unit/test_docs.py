"""Documents say what is so.

Links lead somewhere, commands and flags exist, generated pages are up to date, and what a page shows at work is run:

- a `console` or `python` block right behind `<!-- run -->` is run as root, a `console` block behind
  `<!-- run without root -->` as another user. Blocks of one page share one empty directory and go in order.
- What a command prints has to be what stands below it; what a `python` block prints, what stands in the `text` block
  right behind `<!-- prints -->`. `…` stands for anything in a line, and a line of it alone for any number of lines.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

import lacks
from boxwright.cli.main import VERBS, verb
from boxwright.cli.options import Command
from boxwright.cli.run_here import COMMAND as RUN_HERE
from boxwright.cli.settings import ROOT_COMMAND

REPOSITORY = Path(__file__).parents[2]
SKIPPED = {".venv", "build", "dist", "node_modules"}
PAGES = sorted(
    path
    for path in REPOSITORY.rglob("*.md")
    if not any(part in SKIPPED or part.startswith(".") for part in path.relative_to(REPOSITORY).parts[:-1])
)
SECONDS = 60
NOBODY = 65534
FENCED = re.compile(r"(?:^<!-- (?P<mark>[a-z ]+) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.S | re.M)
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.M)
# paths of the machine that a page was written on, and what only its writer knows; 10.0.2 and 10.0.3 are the networks of
# a guest
PRIVATE = re.compile(
    r"/work/|/root/[a-z]|/home/(?!ann\b)[a-z]+|process_api|\blocalhost:\d|\b10\.(?!0\.[23]\.)\d+\.\d+\.\d+|TODO|FIXME"
)


class Block:
    """A fenced block, with the mark of the comment right before it."""

    def __init__(self, mark: str, kind: str, text: str) -> None:
        self.mark = mark
        self.kind = kind
        self.text = text


def blocks(page: Path) -> list[Block]:
    return [Block(found["mark"] or "", found["kind"], found["text"]) for found in FENCED.finditer(page.read_text())]


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text())


# --- links --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    missing = []
    for target in LINK.findall(prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            missing.append(target)
    assert not missing


def anchors(page: Path) -> set[str]:
    """Names of a page's headings, as code hosts make them."""
    titles = HEADING.findall(FENCED.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_page_can_be_found_from_the_index() -> None:
    index = REPOSITORY / "docs/README.md"
    linked = {(index.parent / target).resolve() for target in LINK.findall(index.read_text())}
    pages = {page for page in PAGES if page.is_relative_to(index.parent)}
    assert sorted(map(name_of, pages - linked - {index})) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_nothing_is_said_of_the_machine_it_was_written_on(page: Path) -> None:
    assert PRIVATE.findall(page.read_text()) == []


@pytest.mark.parametrize("picture", sorted((REPOSITORY / "docs").rglob("*.svg")), ids=name_of)
def test_pictures_need_nothing_else(picture: Path) -> None:
    text = picture.read_text()
    assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert re.findall(r"href|url\(|<script|<image", text) == []
    assert PRIVATE.findall(text) == []


# --- commands -----------------------------------------------------------------------------------------------------


def commands(page: Path) -> Iterator[list[str]]:
    """The words behind `boxwright` of every command that a page shows."""
    shown = [line for block in blocks(page) if block.kind == "console" for line in block.text.splitlines()]
    texts = [line[2:] for line in shown if line.startswith(("$ ", "# "))]
    texts += re.findall(r"`(boxwright [^`]*)`", prose(page))
    for text in texts:
        for part in re.split(r"\||&&|;(?![^']*')", text):
            words = part.replace("…", "").split()
            if words[:1] == ["boxwright"]:
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_flags_exist(page: Path) -> None:
    for words in commands(page):
        own = own_words(words)
        name = next((word for word in own if word in VERBS), None)
        tables = [ROOT_COMMAND]
        if name:
            tables.append(verb(name).COMMAND)
        if name in {"run", "explain"}:
            tables.append(RUN_HERE)
        flags = {flag for table in tables for flag in flags_of(table)}
        unknown = [word for word in own if word.startswith("-") and word.partition("=")[0] not in flags]
        assert unknown == [], f"boxwright {shlex.join(words)}"
        verbs = [word for word in own if not word.startswith("-")]
        assert name or not verbs or own[0].startswith("-"), f"boxwright {shlex.join(words)}"


def own_words(words: list[str]) -> list[str]:
    """Those that are Boxwright's: what stands behind `--`, or behind the id that `exec` takes, is a program's."""
    if "--" in words:
        return words[: words.index("--")]
    if "exec" not in words:
        return words
    start = words.index("exec") + 1
    end = next((at for at in range(start, len(words)) if not words[at].startswith("-")), len(words))
    return words[: end + 1]


def flags_of(command: Command) -> set[str]:
    names = {f"--{flag.name}" for flag in command.flags} | {f"-{flag.short}" for flag in command.flags if flag.short}
    return names | {"-h", "--help", "-"}


def test_every_command_is_documented() -> None:
    text = (REPOSITORY / "docs/reference/cli.md").read_text()
    assert [name for name in VERBS if f"## `{name}`" not in text] == []


def test_every_environment_variable_is_documented() -> None:
    text = (REPOSITORY / "docs/reference/files.md").read_text()
    named = set()
    for path in (REPOSITORY / "src/boxwright").rglob("*.py"):
        named |= set(re.findall(r"environ(?:\.get\(|\[)[\"']([A-Z_]+)[\"']", path.read_text()))
    assert "NO_COLOR" in named
    assert [name for name in sorted(named) if f"`{name}`" not in text] == []


def test_every_annotation_that_counts_is_documented() -> None:
    text = (REPOSITORY / "docs/reference/annotations.md").read_text()
    keys = set()
    for path in (REPOSITORY / "src/boxwright").rglob("*.py"):
        keys |= set(re.findall(r"^\w*ANNOTATION = \"(.*)\"$", path.read_text(), re.M))
    assert len(keys) >= 3
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


def test_generated_pages_are_up_to_date() -> None:
    tool = REPOSITORY / "tools/write-docs"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- what is shown at work ----------------------------------------------------------------------------------------


@pytest.fixture
def of_nobody() -> Iterator[Path]:
    """A directory of a user without rights, where that user can get at it."""
    directory = Path(tempfile.mkdtemp(prefix="boxwright-docs-"))
    os.chown(directory, NOBODY, NOBODY)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.root
@pytest.mark.parametrize("page", [page for page in PAGES if any("run" in b.mark for b in blocks(page))], ids=name_of)
def test_what_is_shown_is_what_happens(page: Path, boxwright_command: str, tmp_path: Path, of_nobody: Path) -> None:
    lacks.need("busybox", Path("/bin/busybox").exists())
    shown = blocks(page)
    users = {"run": User(boxwright_command, tmp_path), "run without root": User(boxwright_command, of_nobody, NOBODY)}
    try:
        for block, following in zip(shown, [*shown[1:], Block("", "", "")], strict=True):
            user = users.get(block.mark)
            if user and block.kind == "python":
                assert following.mark == "prints"
                said = user.call(sys.executable, "-c", block.text)
                assert matches(following.text, said), said
            elif user:
                for command, expected in steps(block.text):
                    said = user.call("sh", "-c", command)
                    assert matches(expected, said), f"$ {command}\n{said}"
    finally:
        left = [name for user in users.values() for name in user.clear()]
    assert left == []


class User:
    """Who runs what a page shows: in a directory, which holds the state of containers too."""

    def __init__(self, command: str, directory: Path, uid: int = 0) -> None:
        self._command = command
        self._directory = directory
        self._id = {"user": uid, "group": uid, "extra_groups": []} if uid else {}
        self._state = directory / ".run"
        self._state.mkdir(0o700)
        os.chown(self._state, uid, uid)
        self._env = dict(os.environ) | {
            "PATH": f"{Path(command).parent}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(REPOSITORY / "src"),
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "1",
            "BOXWRIGHT_ROOTLESS": "1",  # the state of other containers on this machine is not ours
            "XDG_RUNTIME_DIR": str(self._state),
        }

    def call(self, *words: str) -> str:
        """All that the command writes. A file takes it: what goes on behind it would keep a pipe open."""
        with tempfile.TemporaryFile("w+") as said:
            subprocess.run(
                words, cwd=self._directory, env=self._env, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                timeout=SECONDS, check=False, **self._id,
            )  # fmt: skip
            said.seek(0)
            return said.read()

    def clear(self) -> list[str]:
        """Delete what the page left, and give the names."""
        left = [path.name for path in (self._state / "boxwright").glob("[!.]*")]
        for name in left:
            self.call(self._command, "delete", "--force", name)
        return left


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Each command with what stands below it."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def matches(expected: str, said: str) -> bool:
    lines = [
        r"(?:.*\n)*?" if line.strip() == "…" else ".*?".join(map(re.escape, line.rstrip().split("…"))) + r"[ \t]*\n"
        for line in expected.splitlines()
    ]
    return re.fullmatch("".join(lines), said if said.endswith("\n") or not said else f"{said}\n") is not None


@pytest.mark.parametrize(
    ("expected", "said", "same"),
    [
        ("one\ntwo\n", "one\ntwo\n", True),
        ("one\n", "one\ntwo\n", False),
        ("one\n…\nfour\n", "one\ntwo\nthree\nfour\n", True),
        ("pid … ended\n", "pid 17 ended\n", True),
        ("pid … ended\n", "pid 17\nended\n", False),
        ("", "", True),
        ("", "error: no\n", False),
        ("a.c\n", "abc\n", False),
    ],
)
def test_what_is_shown_is_compared_as_it_is_meant(expected: str, said: str, same: bool) -> None:
    assert matches(expected, said) is same
