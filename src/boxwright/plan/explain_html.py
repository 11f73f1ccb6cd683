"""An explanation as one page of HTML: nothing is loaded from elsewhere, and it reads in light and in dark."""

from html import escape

from boxwright.plan.explain_svg import picture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boxwright.plan.explain import Explanation, Line, Stage
    from boxwright.plan.walls import Fact, Walls

_STYLE = """\
:root{color-scheme:light dark;--paper:#fbfaf7;--ink:#22262b;--soft:#69707a;--line:#dcd8cf;--card:#fff;--wall:#2f5d62;
--fill:#2f5d6210;--gap:#b3541e;--read:#3c7a4b;--write:#b3541e;--code:#f1eee7}
@media(prefers-color-scheme:dark){:root{--paper:#15181b;--ink:#e6e3dc;--soft:#969da6;--line:#33393f;--card:#1c2024;
--wall:#7fb7b5;--fill:#7fb7b510;--gap:#e59a62;--read:#84c795;--write:#e59a62;--code:#262b30}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1120px;margin:0 auto;padding:2rem 1.2rem 4rem}
h1{font-size:1.5rem;margin:0 0 .3rem;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:2.4rem 0 .8rem}
code{font-family:ui-monospace,monospace;font-size:.88em;background:var(--code);border-radius:4px;padding:.08em .35em;
overflow-wrap:anywhere}
.lead{color:var(--soft);margin:0 0 1.4rem}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:14px;padding:1rem;overflow-x:auto}
svg{display:block;width:100%;min-width:760px;height:auto;font-family:system-ui,sans-serif}
svg text{fill:var(--ink);font-size:13px}
svg .side{fill:var(--soft);font-size:13px;font-weight:600}
.wall{stroke:var(--wall);stroke-width:2;fill:var(--fill)}
.wall.gap{stroke:var(--gap);stroke-dasharray:3 6;fill:none}
svg .label{font-size:11px;fill:var(--wall)}svg .label.gap{fill:var(--gap)}
svg .program{font:600 17px ui-monospace,monospace}svg .who{fill:var(--soft)}
.cross{stroke-width:1.6}.cross.read{stroke:var(--read)}.cross.write{stroke:var(--write)}.cross.neutral{stroke:var(--soft)}
.tip.read{fill:var(--read)}.tip.write{fill:var(--write)}.tip.neutral{fill:var(--soft)}
svg .what.write{fill:var(--write)}
figcaption{color:var(--soft);font-size:.85rem;margin-top:.6rem}
.key{font-weight:600}.key.read{color:var(--read)}.key.write,.key.gap{color:var(--write)}.key.wall-key{color:var(--wall)}
.cards{columns:310px;column-gap:1rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1rem 1.1rem;break-inside:avoid;
margin-bottom:1rem}
.card h3{font-size:.95rem;margin:0 0 .5rem}
dl{margin:0;display:grid;grid-template-columns:auto 1fr;gap:.2rem .9rem;font-size:.88rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.shared{color:var(--write)}
ul.thoughts{margin:0;padding-left:1.1rem}ul.thoughts li::marker{color:var(--write)}
details{background:var(--card);border:1px solid var(--line);border-radius:12px;margin-bottom:.8rem}
summary{cursor:pointer;padding:.7rem 1.1rem;font-weight:600}
summary small{color:var(--soft);font-weight:400}
ol{list-style:none;margin:0;padding:.2rem 1.1rem 1rem}
li.step{display:flex;flex-wrap:wrap;gap:0 1rem;padding:.18rem 0;border-top:1px solid var(--line);font-size:.9rem}
li.step .text{flex:1 1 26rem;overflow-wrap:anywhere}
li.step .why{color:var(--soft);font-size:.8rem;font-family:ui-monospace,monospace;overflow-wrap:anywhere}
li.serving .text{color:var(--soft);padding-left:1.2rem}
footer{color:var(--soft);font-size:.85rem;margin-top:2.5rem}
"""


def page(explanation: "Explanation") -> str:
    """The whole page. Everything that comes from the configuration is escaped."""
    title = explanation.program or "no program"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{escape(title)}: its box</title>",
            f"<style>\n{_STYLE}</style>",
            "</head>",
            "<body><main>",
            f"<h1><code>{escape(title)}</code></h1>",
            f'<p class="lead">{escape(_lead(explanation))}</p>',
            "<figure>",
            picture(explanation),
            _CAPTION,
            "</figure>",
            *_thoughts(explanation.walls),
            "<h2>What the box is made of</h2>",
            '<div class="cards">',
            *_cards(explanation),
            "</div>",
            "<h2>What happens, step by step</h2>",
            *(part for stage in explanation.stages for part in _stage(stage)),
            "<footer>Written by <code>boxwright explain --html</code>. Nothing has been made or changed.</footer>",
            "</main></body>",
            "</html>",
            "",
        ]
    )


_CAPTION = (
    '<figcaption><span class="key wall-key">Solid</span>: a wall that stands. <span class="key gap">Dashed</span>: '
    'one that is missing. <span class="key read">One arrow head</span>: the box can read. '
    '<span class="key write">Two</span>: what it changes is changed on the host.</figcaption>'
)


def _lead(explanation: "Explanation") -> str:
    parts = [explanation.user, f"in {explanation.cwd}" if explanation.cwd else ""]
    parts += ["with a terminal" if explanation.terminal else "", f"root {explanation.root}"]
    parts.append(explanation.root_writes)
    parts.append(f"host name {explanation.hostname}" if explanation.hostname else "")
    return " · ".join(part for part in parts if part)


def _thoughts(walls: "Walls") -> "Iterator[str]":
    if walls.concerns:
        yield "<h2>Worth a thought</h2>"
        yield '<ul class="thoughts">'
        for concern in walls.concerns:
            yield f"<li>{_marked(concern)}</li>"
        yield "</ul>"


def _cards(explanation: "Explanation") -> "Iterator[str]":
    walls = explanation.walls
    rows = []
    if walls.machine:
        yield _card("Machine", _rows(walls.machine))
    for row in walls.namespaces:
        state = f'<span class="{row.state.split()[0]}">{escape(row.state)}</span>'
        rows.append((row.type, f"{state}{f': {escape(row.detail)}' if row.detail else ''}", row.pointer))
    yield _card("Namespaces", rows)
    shown = [(row, f"{row.source} ({row.type}) {row.options}".strip()) for row in walls.mounts]
    yield _card("Mounts", [(row.destination, escape(text), row.pointer) for row, text in shown])
    for title, facts in (
        ("Network", walls.network),
        ("Devices", walls.devices),
        ("Capabilities", walls.capabilities),
        ("Seccomp", walls.seccomp),
        ("Labels and privileges", walls.labels),
        ("Hidden files", walls.hidden),
        ("Limits", walls.limits),
        ("Hooks", walls.hooks),
    ):
        yield _card(title, _rows(facts))


def _rows(facts: "Sequence[Fact]") -> list[tuple[str, str, str]]:
    return [(fact.name, escape(fact.value), fact.pointer) for fact in facts]


def _card(title: str, rows: "Sequence[tuple[str, str, str]]") -> str:
    """A card of names with values; the values are HTML already, the names are not."""
    body = "".join(
        f'<dt title="{escape(pointer)}">{escape(name)}</dt><dd>{value}</dd>' for name, value, pointer in rows
    )
    return f'<section class="card"><h3>{escape(title)}</h3><dl>{body or "<dt>none</dt><dd></dd>"}</dl></section>'


def _stage(stage: "Stage") -> "Iterator[str]":
    count = len(stage.lines)
    yield f"<details><summary>{_marked(stage.title)} <small>{escape(stage.actor)}, {count} steps</small></summary><ol>"
    for line in stage.lines:
        yield _step(line)
    yield "</ol></details>"


def _step(line: "Line") -> str:
    detail = f" ({escape(line.detail)})" if line.detail else ""
    soft = ", if possible" if line.soft else ""
    why = escape("  ".join(part for part in (line.pointer, line.anchor) if part))
    kind = "step serving" if line.serving else "step"
    text = f'<span class="text">{_marked(line.text)}{detail}{soft}</span>'
    return f'<li class="{kind}">{text}<span class="why">{why}</span></li>'


def _marked(text: str) -> str:
    """The text with what stands in backticks as code, escaped."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 and at < len(parts) - 1 else part for at, part in enumerate(parts))
