"""A timeline as a page: one file, that needs no network and no script."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from pytest_channelstub._html import svg as page_drawing
from pytest_channelstub._record import formatting as rendering
from pytest_channelstub._html.layout import layout
from pytest_channelstub._record.history import replay

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_channelstub._html.layout import Layout
    from pytest_channelstub._record.timeline import Event, Timeline

_STYLE = Path(__file__).with_suffix(".css")
_MOST_IN_NAME = 80
_MOST_TICKS = 130
_MOST_AS_TEXT = 10_000


class Told(TypedDict):
    """What the index says of a page; plain values, so that pytest-xdist can carry it.

    Attributes:
        nodeid: The test.
        outcome: `passed`, `failed` or `skipped`.
        file: The page's name.
        events: How many events there are.
        sent: How many messages reached a queue.
        dropped: How many did not.
        timeouts: How many clients timed out.
        ticks: The kinds of the events, one for each tick of the small picture.
    """

    nodeid: str
    outcome: str
    file: str
    events: int
    sent: int
    dropped: int
    timeouts: int
    ticks: list[str]


def write_page(
    directory: Path,
    nodeid: str,
    outcome: str,
    timelines: Sequence[tuple[Timeline, int]],
    failure: str = "",
) -> Told:
    """Write a test's page.

    Args:
        directory: Where to; it is made where it is missing.
        nodeid: The test.
        outcome: `passed`, `failed` or `skipped`.
        timelines: Of the stubs that the test used, each with the index of its first event.
        failure: The text of the failure, if it failed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    name = file_name(nodeid)
    (directory / name).write_bytes(
        page(nodeid, outcome, timelines, failure).encode("utf-8", "backslashreplace")
    )
    events = [event for timeline, first in timelines for event in timeline[first:]]
    kinds = Counter(event.kind for event in events)
    step = max(1, len(events) // _MOST_TICKS)
    return Told(
        nodeid=nodeid,
        outcome=outcome,
        file=name,
        events=len(events),
        sent=kinds["send"],
        dropped=kinds["drop"],
        timeouts=kinds["timeout"],
        ticks=[_loudest(events[i : i + step]) for i in range(0, len(events), step)],
    )


def write_index(directory: Path, pages: Iterable[Told]) -> None:
    """Write the page that leads to the others: the failed tests first."""
    order = {"failed": 0, "passed": 1}
    ordered = sorted(pages, key=lambda told: (order.get(told["outcome"], 2), told["nodeid"]))
    counts = Counter(told["outcome"] for told in ordered)
    summary = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items())
    tests = rendering.plural(len(ordered), "test")
    body = f"""<header><p class="kind">channel timelines</p><h1>{tests}</h1>
<p class="facts">{summary}</p></header>
<table><thead><tr><th>test</th><th>what happened</th><th>events</th><th>queued</th>
<th>dropped</th><th>timed out</th></tr></thead>
<tbody>
{"".join(map(_index_row, ordered))}</tbody></table>"""
    text = _document("Channel timelines", f'<main class="index">{body}</main>')
    (directory / "index.html").write_bytes(text.encode("utf-8", "backslashreplace"))


def page(
    nodeid: str, outcome: str, timelines: Sequence[tuple[Timeline, int]], failure: str = ""
) -> str:
    """A test's page as HTML."""
    charts = [
        layout(replay(*timeline.snapshot()), timeline.start, first) for timeline, first in timelines
    ]
    many = len(charts) > 1
    sections = [
        _section(chart, timeline[first:], number if many else 0)
        for number, (chart, (timeline, first)) in enumerate(zip(charts, timelines, strict=True), 1)
    ]
    events = [event for timeline, first in timelines for event in timeline[first:]]
    return _document(
        rendering.bare(nodeid), _header(nodeid, outcome, events, failure) + "\n".join(sections)
    )


def file_name(nodeid: str) -> str:
    """The name of a test's page: readable, and like no other's."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", nodeid).strip("-")[-_MOST_IN_NAME:].strip("-")
    digest = hashlib.sha256(nodeid.encode("utf-8", "backslashreplace")).hexdigest()
    return f"{readable}-{digest[:8]}.html"


def _document(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>
{_STYLE.read_text("utf-8")}</style></head>
<body>
{body}
</body></html>
"""


def _header(nodeid: str, outcome: str, events: Sequence[Event], failure: str) -> str:
    where, name = _named(nodeid)
    told = ""
    if failure:
        told = (
            "<details class='failure' open><summary>Why it failed</summary>"
            f"<pre>{escape(_plain_lines(failure))}</pre></details>"
        )
    return f"""<header class="page"><p class="kind">channel timeline</p>
<h1><span class="pill {escape(outcome)}">{escape(outcome)}</span> {escape(name)}</h1>
<p class="where">{escape(where)}</p>
<p class="facts">{_facts(events)}</p>
{told}{_LEGEND}</header>
"""


_LEGEND = """<ul class="legend" aria-label="What the marks mean">
<li><svg width="26" height="12"><path class="l-send" d="M1 6h22m-5-4 5 4-5 4"/></svg>queued</li>
<li><svg width="26" height="12"><path class="l-drop" d="M1 6h13m3-4 8 8m0-8-8 8"/></svg>dropped</li>
<li><svg width="14" height="12"><circle class="l-read" cx="7" cy="6" r="4"/></svg>read</li>
<li><svg width="12" height="14"><rect class="l-live" x="1" width="10" height="14"/></svg>connected,
as wide as its queue</li>
<li><svg width="14" height="14"><path class="l-out" d="M7 1l6 6-6 6-6-6z"/></svg>timed out</li>
<li><svg width="8" height="14"><rect class="l-life" x="2" width="3" height="14" rx="1.5"/></svg>a
token's life</li></ul>"""


_WORDS = {
    "send": "queued",
    "drop": "dropped",
    "read": "read",
    "timeout": "timed out",
    "error": "failed",
}


def _facts(events: Sequence[Event]) -> str:
    kinds = Counter(event.kind for event in events)
    facts = [rendering.plural(len(events), "event")]
    if events:
        facts.append(f"over {rendering.span(events[-1].at - events[0].at)}")
    for kind, word in (
        ("send", "queued"),
        ("drop", "dropped"),
        ("read", "read"),
        ("timeout", "timed out"),
        ("error", "failed"),
    ):
        if kinds[kind]:
            count = f"{kinds[kind]:,} {word}"
            facts.append(f'<b class="{kind}">{count}</b>')
    return " <i>\u00b7</i> ".join(facts)


def _section(chart: Layout, events: Sequence[Event], number: int) -> str:
    title = f"<h2>Stub {number}</h2>" if number else ""
    hidden = ""
    if chart.hidden:
        hidden = (
            f'<p class="note">{rendering.plural(chart.hidden, "request")} to the app, which was '
            "none, stand only in the text.</p>"
        )
    return f"""{title}<div class="board" style="width:{chart.width + chart.gutter:.0f}px">
<div class="corner" style="width:{chart.gutter:.0f}px"></div>
<div class="heads" style="width:{chart.width:.0f}px">{page_drawing.headers(chart)}</div>
<div class="side-times">{page_drawing.times(chart)}</div>
{page_drawing.picture(chart)}
</div>
<footer>{hidden}{_as_text(chart, events)}</footer>
"""


def _as_text(chart: Layout, events: Sequence[Event]) -> str:
    told = rendering.timeline(events, chart.start, last=_MOST_AS_TEXT, limit=2000)
    return f"<details><summary>The same as text</summary><pre>{escape(told)}</pre></details>"


def _index_row(told: Told) -> str:
    where, name = _named(told["nodeid"])
    outcome = told["outcome"]
    cells = "".join(
        f'<td class="{kind}">{count or ""}</td>'
        for kind, count in (
            ("number", told["events"]),
            ("number", told["sent"]),
            ("number drop", told["dropped"]),
            ("number timeout", told["timeouts"]),
        )
    )
    return (
        f'<tr><td><span class="pill {escape(outcome)}">{escape(outcome)}</span>'
        f'<a href="{escape(told["file"])}">{escape(name)}</a>'
        f"<small>{escape(where)}</small></td><td>{_ticks(told['ticks'])}</td>{cells}</tr>\n"
    )


def _named(nodeid: str) -> tuple[str, str]:
    """Where a test stands, and its own name with its parameters."""
    path, bracket, parameters = rendering.bare(nodeid).partition("[")
    where, _, name = path.rpartition("::")
    return where, name + bracket + parameters


def _ticks(kinds: Sequence[str]) -> str:
    bars = "".join(
        f'<rect class="t-{escape(kind)}" x="{3 * place}" width="2" {_HEIGHTS.get(kind, _LOW)}/>'
        for place, kind in enumerate(kinds)
    )
    return (
        f'<svg class="ticks" width="{3 * len(kinds)}" height="16" aria-hidden="true">{bars}</svg>'
    )


_LOW = 'y="11" height="5"'
_HEIGHTS = {
    **dict.fromkeys(("drop", "error", "reject", "timeout"), 'y="0" height="16"'),
    **dict.fromkeys(("send", "read"), 'y="5" height="11"'),
}
_LOUD = ("drop", "error", "reject", "timeout", "send", "read")


def _loudest(events: Sequence[Event]) -> str:
    kinds = {event.kind for event in events}
    return next((kind for kind in _LOUD if kind in kinds), events[0].kind)


def _plain_lines(text: str) -> str:
    return "\n".join(rendering.bare(line) for line in text.split("\n"))
