"""The rooms of the source, as docs/explanation/architecture.md has them: who may import whom, and what is loaded."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures_runtime import REPOSITORY
from loaded import SOURCE, loaded_by, unwanted

PACKAGE = SOURCE / "boxwright"
ARCHITECTURE = REPOSITORY / "docs/explanation/architecture.md"

# below all rooms; the table says so with its first row
GROUND = {"_record", "errors"}
# the package's own modules outside of the rooms, and the rooms they open
DOORS = {"__init__": {"aio", "api", "runtime"}, "__main__": {"cli"}, "aio": {"api"}}

# modules that are loaded on the way of a hot verb, whatever loads them
HOT_MODULES = (
    "boxwright._record",
    "boxwright.boxes.vm.accel",
    "boxwright.boxes.vm.initramfs",
    "boxwright.boxes.vm.kernels",
    "boxwright.boxes.vm.parameters",
    "boxwright.boxes.vm.qmp",
    "boxwright.errors",
    "boxwright.host.seccomp_cache",
    "boxwright.plan.compile",
    "boxwright.plan.default_profile_key",
    "boxwright.plan.encode",
    "boxwright.plan.ops",
    "boxwright.plan.seccomp_flags",
    "boxwright.spec.decode",
)


def modules() -> dict[str, Path]:
    """Every module of the package by its full name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(SOURCE).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 2:
            parts.pop()
        found[".".join(parts)] = path
    return found


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def allowed_rooms() -> dict[str, set[str]]:
    """The table of the architecture page: a room to the rooms it may import."""
    table: dict[str, set[str]] = {}
    for line in ARCHITECTURE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        names = re.findall(r"`(\w+)`", cells[0])
        if not line.startswith("| `") or not names:
            continue
        above = set(table)
        allowed = above if "all above" in cells[2] else set(re.findall(r"`(\w+)`", cells[2]))
        table.update({name: allowed | GROUND | {name} for name in names})
    return table | {door: rooms | GROUND for door, rooms in DOORS.items()}


def imports(path: Path, module: str) -> Iterator[tuple[int, str]]:
    """Line and full name of every import anywhere in the file, a checker's too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *base.split(".")]).rstrip(".")
            yield from ((node.lineno, f"{base}.{alias.name}" if base == "boxwright" else base) for alias in node.names)


def test_the_table_is_read_as_it_is_meant() -> None:
    table = allowed_rooms()
    assert table["plan"] == {"_record", "errors", "plan", "spec"}
    assert table["runtime"] >= {"host", "boxes", "plan", "spec", "runtime"}
    assert "host" not in table["plan"]
    assert "cli" not in table["runtime"]


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_rooms_below_its_own(module: str) -> None:
    table = allowed_rooms()
    room = room_of(module)
    assert room in table, f"`{room}` has no row in {ARCHITECTURE.name}"
    wrong = [
        f"line {line}: {name}"
        for line, name in imports(modules()[module], module)
        if name.startswith("boxwright.") and room_of(name) not in table[room] | {"__version__"}
    ]
    assert wrong == []


def test_ctypes_is_in_the_host_s_room_only() -> None:
    users = {
        room_of(module)
        for module, path in modules().items()
        for _, name in imports(path, module)
        if name.split(".")[0] == "ctypes"
    }
    assert users <= {"host"}


def test_deciding_does_nothing_to_the_machine() -> None:
    """`spec` and `plan` are pure: nothing that runs programs, talks to others or calls the kernel is imported there."""
    acting = {"asyncio", "ctypes", "fcntl", "select", "socket", "_socket", "subprocess", "signal", "shutil", "tempfile"}
    wrong = [
        f"{module}: {name}"
        for module, path in modules().items()
        for _, name in imports(path, module)
        if room_of(module) in {"spec", "plan"} and name.split(".")[0] in acting
    ]
    assert wrong == []


def test_deciding_asks_the_machine_nothing() -> None:
    """What differs from host to host comes with the facts: of `os` only constants are taken."""
    wrong = [
        f"{module}: os.{node.attr}"
        for module, path in modules().items()
        if room_of(module) in {"spec", "plan"}
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        if not node.attr.isupper()
    ]
    assert wrong == []


def test_the_bare_interpreter_loads_nothing_dear() -> None:
    assert not loaded_by("pass") & {"enum", "json", "re", "site", "typing"}
    assert unwanted(loaded_by("import json")) >= {"json", "re", "enum"}


@pytest.mark.parametrize("module", HOT_MODULES)
def test_a_hot_module_loads_only_what_is_free(module: str) -> None:
    assert unwanted(loaded_by(f"import {module}")) == set()
