"""Which files of a kernel's module tree a machine needs, and in which order they load (modules.dep(5), depmod.d(5))."""

import os

from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")


class ModuleTree:
    """The module files of one version of the kernel. Raises HostError where their index cannot be read."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._files: dict[str, tuple[str, tuple[str, ...]]] = {}
        for line in _lines(f"{directory}/modules.dep", needed=True):
            path, _, below = line.partition(":")
            self._files[module_name(path)] = (path, tuple(below.split()))
        self._builtin = {module_name(line) for line in _lines(f"{directory}/modules.builtin")}
        self._soft = dict(_soft_dependencies(_lines(f"{directory}/modules.softdep")))
        self._aliases: dict[str, list[str]] | None = None

    def has(self, name: str) -> bool:
        """Whether the kernel can do what the module is for: it is a file, or built in."""
        return name in self._builtin or name in self._files

    def files(self, names: "Iterable[str]") -> tuple[str, ...]:
        """Paths below the directory of all files that these modules need, in the order to load them.

        What is built in needs none; what the kernel does not have is left out (`has` tells).
        """
        order: dict[str, None] = {}
        for name in names:
            self._add(name, order, set())
        return tuple(order)

    def _add(self, name: str, order: dict[str, None], above: set[str]) -> None:
        if name in above or name in self._builtin or name not in self._files:
            return  # a soft dependency may close a circle
        path, below = self._files[name]
        if path in order:
            return
        for wanted in self._soft.get(name, ()):
            self._add(self._resolved(wanted), order, above | {name})
        # the last of a line of modules.dep is to be loaded first
        for other in reversed(below):
            self._add(module_name(other), order, above | {name})
        order[path] = None

    def _resolved(self, wanted: str) -> str:
        """The module that a soft dependency means: itself, or the one of that alias that runs on every processor."""
        name = wanted.replace("-", "_")
        if self.has(name):
            return name
        if self._aliases is None:
            self._aliases = _aliases(_lines(f"{self.directory}/modules.alias"))
        plain = wanted.removeprefix("crypto-").replace("-", "_")
        generic = f"{plain}_generic"
        if self.has(generic):
            return generic
        return next(iter(self._aliases.get(wanted, ())), "")


def module_name(path: str) -> str:
    """The name of a module by its file: in names `-` and `_` are the same, and the kernel writes `_`."""
    name = path.strip().rpartition("/")[2]
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name.replace("-", "_")


def _soft_dependencies(lines: "Iterable[str]") -> "Iterator[tuple[str, tuple[str, ...]]]":
    """Name of a module, and what should be loaded before it: `softdep NAME pre: … post: …`."""
    for line in lines:
        words = line.split()
        if words[0] != "softdep" or "pre:" not in words:
            continue
        before = words[words.index("pre:") + 1 :]
        end = before.index("post:") if "post:" in before else len(before)
        yield words[1].replace("-", "_"), tuple(before[:end])


def _aliases(lines: "Iterable[str]") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[0] == "alias":
            found.setdefault(words[1], []).append(words[2])
    return found


def _lines(path: str, *, needed: bool = False) -> list[str]:
    """Lines that say something. Raises HostError if the file is needed and cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [line for line in file.read().splitlines() if line.strip() and not line.startswith("#")]
    except OSError as error:
        if needed or not isinstance(error, FileNotFoundError):
            hint = f"depmod {os.path.basename(os.path.dirname(path))}"
            raise HostError(f"read `{path}`", error.errno or 0, path=path, hint=hint) from error
        return []
