"""Writes the table of the boxes as a page: `python -m boxwright.boxes.table > docs/reference/boxes.md`."""

import sys

from boxwright.boxes.capabilities import PARTIAL, SUPPORTED, UNSUPPORTED, Row, Support, rows
from boxwright.boxes.require import BOXES, NOT_YET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = """\
# What each box honours

One row a property of `config.json`; it holds for everything below that property unless that has a row of its own.
What a box cannot honour is refused before anything is created: an error that names the property, never a weaker box.
What depends on the host, such as a controller that it lacks, is refused in the same way while the plan is compiled;
`boxwright doctor` tells beforehand. Where it says "not yet", the box itself does not exist yet.

This page is written by `python -m boxwright.boxes.table`, from the table in `src/boxwright/boxes/capabilities.py`.
"""
_MARKS = {SUPPORTED: "yes", PARTIAL: "partly", UNSUPPORTED: "no"}


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEAD, *_sections(), ""])


def _sections() -> "Iterator[str]":
    title = ""
    for row in rows():
        section = row.property.split(".")[0].removesuffix("[]")
        if section != title:
            if title:
                yield ""
            title = section
            yield f"## {title}\n"
            yield f"| property | {' | '.join(f'`{box}`' for box in BOXES)} | section of the standard |"
            yield f"|{'---|' * (len(BOXES) + 2)}"
        yield _line(row)


def _line(row: Row) -> str:
    cells = [f"`{row.property}`", *(_cell(row.of(box)) for box in BOXES), row.anchor]
    return f"| {' | '.join(cells)} |"


def _cell(support: Support) -> str:
    if support.text == NOT_YET:
        return "not yet"
    mark = _MARKS.get(support.level, support.level)
    return f"{mark}: {support.text}" if support.text else mark


if __name__ == "__main__":
    sys.stdout.write(page())
