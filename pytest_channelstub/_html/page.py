"""A test's timelines as a page: one file that needs no network and no script."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from pytest_channelstub._html.files import fill, write_document
from pytest_channelstub._html.index import (
    PageSummary,
    break_anywhere,
    split_nodeid,
    summarize,
    write_index,
)
from pytest_channelstub._html.labels import escape_unprintable
from pytest_channelstub._html.layout import lay_out
from pytest_channelstub._html.svg import (
    MESSAGE_LIMIT,
    describe_event,
    draw_heads,
    draw_picture,
    draw_times,
)
from pytest_channelstub._record import formatting
from pytest_channelstub._record.history import replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_channelstub._html.layout import Layout
    from pytest_channelstub._record.timeline import Kind, Timeline

__all__ = ["PageSummary", "write_index", "write_page"]

_LONGEST_NAME = 80
_MOST_AS_TEXT = 10_000
# A timeline in the text of a failure: its heading, and lines that begin with a time or a remark.
_TIMELINE_IN_FAILURE = re.compile(
    r"(?:^timeline[^\n]*|\bWhat happened so far[^\n]*):\n(?:[ \t]*(?:[+-]\d|\()[^\n]*(?:\n|\Z))*",
    re.MULTILINE,
)
_COUNTED: dict[Kind, str] = {
    "send": "sent",
    "read": "read",
    "drop": "dropped",
    "timeout": "timed out",
    "refuse": "refused",
}


def write_page(
    directory: Path,
    nodeid: str,
    outcome: str,
    timelines: Sequence[tuple[Timeline, int]],
    failure: str = "",
) -> PageSummary:
    """Write a test's page.

    Args:
        directory: Where to; it is made where it is missing.
        nodeid: The test.
        outcome: `passed`, `failed` or `skipped`.
        timelines: Of the stubs that the test used, each with the index of its first event.
        failure: The text of the failure, if it failed.

    Returns:
        What `write_index` needs.

    Raises:
        OSError: The page cannot be written. What was there before is as it was.
    """
    charts = [lay_out(replay(line._snapshot()), line.start, first) for line, first in timelines]
    where, name = split_nodeid(nodeid)
    facts = [f'<b class="{kind}">{fact}</b>' for kind, fact in _facts(charts)]
    headings = [f"Stub {number}" for number in range(1, len(charts) + 1)]
    body = fill(
        "test",
        outcome=escape(outcome),
        name=break_anywhere(name),
        where=break_anywhere(where),
        facts=" <i>\u00b7</i> ".join(facts),
        failure=_failure(failure),
        stubs="\n".join(map(_stub, charts, headings if len(charts) > 1 else [""])),
    )
    file = _file_name(nodeid)
    directory.mkdir(parents=True, exist_ok=True)
    write_document(directory / file, f"{name} \u00b7 channel timeline", body)
    events = [event for chart in charts for event in chart.events]
    return summarize(nodeid, outcome, file, events)


def _file_name(nodeid: str) -> str:
    """Return a page's name: readable, and different for every test."""
    readable_part = re.sub(r"[^A-Za-z0-9]+", "-", nodeid).strip("-")[-_LONGEST_NAME:].strip("-")
    digest = hashlib.sha256(nodeid.encode("utf-8", "backslashreplace")).hexdigest()
    return f"{readable_part}-{digest[:8]}.html"


def _facts(charts: Sequence[Layout]) -> Iterator[tuple[str, str]]:
    """Yield what stands below the page's title: the kind of event, and a few words."""
    events = [event for chart in charts for event in chart.events]
    kinds = Counter(event.kind for event in events)
    yield "plain", formatting.plural(len(events), "event")
    passed = max(
        (chart.events[-1].at - chart.events[0].at for chart in charts if chart.events), default=0
    )
    if passed > 0:
        yield "plain", f"over {formatting.format_duration(passed)}"
    for kind, label in _COUNTED.items():
        if kinds[kind]:
            yield kind, f"{kinds[kind]:,} {label}"
    lost = sum(n for chart in charts for index, n in chart.lost.items() if index >= chart.first)
    if lost:
        yield "lost", f"{lost:,} lost"
    if kinds["error"]:
        yield "error", formatting.plural(kinds["error"], "error")


def _failure(text: str) -> str:
    text = _TIMELINE_IN_FAILURE.sub("", text).rstrip()
    if not text:
        return ""
    lines = "\n".join(map(escape_unprintable, text.split("\n")))
    return (
        '<details class="failure" open><summary>Why it failed</summary>'
        f'<pre tabindex="0">{escape(lines)}</pre></details>'
    )


def _stub(chart: Layout, heading: str) -> str:
    name = heading or "Timeline"
    facts = ", ".join(fact for _, fact in _facts([chart]))
    note = ""
    if chart.hidden:
        requests = formatting.plural(chart.hidden, "request")
        note = f'<p class="note">{requests} not drawn: the stub has no app.</p>'
    return fill(
        "stub",
        heading=f"<h2>{heading}</h2>" if heading else "",
        region=f"{name}, a picture that can be scrolled",
        full_width=f"{chart.width + chart.gutter:.0f}",
        gutter=f"{chart.gutter:.0f}",
        width=f"{chart.width:.0f}",
        heads=draw_heads(chart),
        times=draw_times(chart),
        picture=draw_picture(chart, f"{name} as a picture: {facts}. The same follows as text."),
        note=note,
        events="\n".join(_list_events(chart)),
    )


def _list_events(chart: Layout) -> Iterator[str]:
    events = chart.history.events
    first = max(chart.first, len(events) - _MOST_AS_TEXT)
    if first > chart.first:
        yield f"<li>({formatting.plural(first - chart.first, 'earlier event')} left out)</li>"
    lines = formatting.format_events(events[first:], chart.start, MESSAGE_LIMIT)
    for index, line in enumerate(lines, first):
        notes = "".join(f"<small>{escape(note)}</small>" for note in describe_event(chart, index))
        yield f"<li>{escape(line)}{notes}</li>"
