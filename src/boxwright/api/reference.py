"""The page docs/reference/library.md out of the docstrings: `tools/write-docs` writes it."""

import ast
import inspect
import textwrap

import boxwright

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_INTRODUCTION = """\
# The library

<!-- written by tools/write-docs from the docstrings of src/boxwright; change those instead -->

    import boxwright

What is public is what stands here; `boxwright.__all__` has the names. All of it is typed. Importing it loads nothing:
a name is loaded when it is first used. Paths are texts or `os.PathLike`, output is bytes, times are seconds, sizes are
bytes. What goes wrong raises a [`BoxwrightError`](errors.md); a program that fails is a result, not an error.

`Argv` is a sequence of texts or paths, `StrPath` a text or a path, `User` a uid, `(uid, gid)` or None, `Input` bytes, a
descriptor, a file or None, `Stream` a descriptor, a file, `PIPE` or `DEVNULL`. `Reason` is one of the texts `exited`,
`signalled`, `timeout` and `oom`.
"""
_CLASSES = ("Limits", "Bind", "Result", "Usage", "Stats", "Box", "Process", "Runtime")


def reference() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, "## Functions\n", _function("boxwright.run", boxwright.run), "## Classes\n"]
    parts += [text for name in _CLASSES for text in _class(f"boxwright.{name}", getattr(boxwright, name))]
    parts += [
        "## Streams\n",
        "`PIPE` and `DEVNULL` are what `Box.spawn` takes for a stream; they are the numbers of `subprocess`.\n",
        "## asyncio\n",
        _text(boxwright.aio),
        _function("await boxwright.aio.run", boxwright.aio.run),
    ]
    parts += [
        text for name in ("Box", "Process") for text in _class(f"boxwright.aio.{name}", getattr(boxwright.aio, name))
    ]
    return "\n".join(parts)


def _text(thing: object) -> str:
    return f"{inspect.getdoc(thing) or ''}\n"


def _function(name: str, function: object, level: int = 3) -> str:
    signature = _signature(function)
    return f"{'#' * level} `{name}`\n\n```python\n{name.rpartition('.')[2]}{signature}\n```\n\n{_text(function)}"


def _signature(function: object) -> str:
    """As it stands in the source, without quotes around the types; one argument a line where it is long."""
    assert callable(function)
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    arguments, texts = node.args, []
    plain = [argument for argument in arguments.args if argument.arg != "self"]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    texts = [_argument(argument, default) for argument, default in zip(plain, defaults, strict=True)]
    if arguments.kwonlyargs:
        texts.append("*")
    texts += [_argument(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    gives = f" -> {_annotation(node.returns)}" if node.returns and node.name != "__init__" else ""
    line = f"({', '.join(texts)}){gives}"
    return line if len(line) <= 90 else "(\n    " + ",\n    ".join(texts) + f",\n){gives}"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {_annotation(argument.annotation)}" if argument.annotation else ""
    return f"{argument.arg}{kind}" + (f" = {ast.unparse(default)}" if default else "")


def _annotation(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)


def _class(name: str, cls: type) -> "Iterator[str]":
    yield f"### `{name}`\n"
    yield _text(cls)
    if fields := getattr(cls, "_kinds", None):
        yield _fields(cls, fields)
    elif name == "boxwright.Runtime":
        yield f"```python\nRuntime{_signature(vars(cls)['__init__'])}\n```\n\n{_text(vars(cls)['__init__'])}"
    for member, value in _members(cls):
        if isinstance(value, property):
            yield f"#### `{member}`\n\n{_text(value)}"
        else:
            yield _function(f"{name.rpartition('.')[2]}.{member}", value, 4)


def _fields(cls: type, kinds: "dict[str, object]") -> str:
    defaults: dict[str, object] = getattr(cls, "_defaults", {})
    lines = ["| field | type | default |", "|---|---|---|"]
    for field, kind in kinds.items():
        shown = kind.__name__ if isinstance(kind, type) else str(kind)
        shown = shown.replace("|", "or")
        lines.append(f"| `{field}` | {shown} | {repr(defaults[field]) if field in defaults else ''} |")
    return "\n".join([*lines, ""])


def _members(cls: type) -> "Iterator[tuple[str, object]]":
    """Public methods and properties in the order of the source, those of bases last."""
    seen = set()
    for base in cls.__mro__:
        if base.__module__.startswith("boxwright.") and base.__name__ != "Record":
            for name, value in vars(base).items():
                public = not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
                if public and name not in seen:
                    seen.add(name)
                    yield name, value
