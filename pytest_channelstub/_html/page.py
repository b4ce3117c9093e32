"""A run's timelines as pages: files that need no network and no script."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from collections import Counter
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, TypedDict

from pytest_channelstub._html import svg
from pytest_channelstub._html.labels import escape_unprintable, readable
from pytest_channelstub._html.layout import Layout
from pytest_channelstub._record import formatting

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from pytest_channelstub._record.timeline import Event, Timeline

_GENERATOR = '<meta name="generator" content="pytest-channelstub">'
_GENERATOR_WITHIN = 500  # bytes from a page's beginning
_LONGEST_NAME = 80
_MOST_BARS = 130
_IMPORTANT = ("drop", "error", "refuse", "reject", "timeout", "send", "read")
_ORDER = {"failed": 0, "passed": 1}
_COUNTED = {
    "send": "sent",
    "read": "read",
    "drop": "dropped",
    "timeout": "timed out",
    "refuse": "refused",
    "lost": "lost",
}


class PageSummary(TypedDict):
    """What the index says of a page; plain values, so that pytest-xdist can carry it."""

    nodeid: str
    outcome: str
    file: str
    counts: dict[str, int]
    bars: list[str]  # the kinds of the events, one for each bar of the small picture


def write_page(
    directory: Path,
    nodeid: str,
    outcome: str,
    timelines: Sequence[tuple[Timeline, int]],
    failure: str = "",
) -> PageSummary:
    """Write a test's page."""
    charts = [Layout(timeline, first) for timeline, first in timelines]
    headings = [f"Stub {number}" for number in range(1, len(charts) + 1)]
    where, name = _split_nodeid(nodeid)
    body = _fill(
        "test",
        outcome=escape(outcome),
        name=_break_anywhere(name),
        where=_break_anywhere(where),
        facts=" <i>\u00b7</i> ".join(
            f'<b class="{kind}">{fact}</b>' for kind, fact in _list_facts(charts)
        ),
        failure=_format_failure(failure),
        stubs="\n".join(map(_format_stub, charts, headings if len(charts) > 1 else [""])),
    )
    file = _name_file(nodeid)
    directory.mkdir(parents=True, exist_ok=True)
    _write_document(directory / file, f"{name} \u00b7 channel timeline", body)
    events = [event for chart in charts for event in chart.events]
    kinds = Counter(event.kind for event in events)
    step = max(1, math.ceil(len(events) / _MOST_BARS))
    return PageSummary(
        nodeid=nodeid,
        outcome=outcome,
        file=file,
        counts={
            "events": len(events),
            "sent": kinds["send"],
            "dropped": kinds["drop"],
            "timed out": kinds["timeout"],
        },
        bars=[_most_important(events[i : i + step]) for i in range(0, len(events), step)],
    )


def write_index(directory: Path, pages: Iterable[PageSummary]) -> None:
    """Write the index, failed tests first, and remove the pages of earlier runs."""
    ordered = sorted(pages, key=lambda page: (_ORDER.get(page["outcome"], 2), page["nodeid"]))
    outcomes = Counter(page["outcome"] for page in ordered)
    body = _fill(
        "index",
        tests=formatting.plural(len(ordered), "test"),
        outcomes=", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items()),
        rows="\n".join(map(_format_index_row, ordered)),
    )
    _write_document(directory / "index.html", "Channel timelines", body)
    _remove_old_documents(directory, {"index.html", *(page["file"] for page in ordered)})


def _fill(template: str, **values: str) -> str:
    """Fill a template of this folder with HTML."""
    text = Path(__file__).with_name(f"{template}.html").read_text("utf-8")
    return Template(text).substitute(values)


def _write_document(path: Path, title: str, body: str) -> None:
    """Write a page in one step, so that there is never half of one; do not follow a symlink."""
    style = Path(__file__).with_name("page.css").read_text("utf-8")
    text = _fill("document", generator=_GENERATOR, title=escape(title), style=style, body=body)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_old_documents(directory: Path, current: Collection[str]) -> None:
    """Remove the pages that `_write_document` wrote in earlier runs, and nothing else."""
    for path in directory.glob("*.html"):
        if path.name not in current and path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                is_ours = _GENERATOR.encode() in file.read(_GENERATOR_WITHIN)
            if is_ours:
                path.unlink()


def _name_file(nodeid: str) -> str:
    """Return a page's name: readable, and different for every test."""
    readable_part = re.sub(r"[^A-Za-z0-9]+", "-", nodeid).strip("-")[-_LONGEST_NAME:].strip("-")
    digest = hashlib.sha256(nodeid.encode("utf-8", "backslashreplace")).hexdigest()
    return f"{readable_part}-{digest[:8]}.html"


def _split_nodeid(nodeid: str) -> tuple[str, str]:
    """Return where a test stands, and its own name with its parameters."""
    path, bracket, parameters = readable(nodeid).partition("[")
    where, _, name = path.rpartition("::")
    return where, name + bracket + parameters


def _break_anywhere(name: str) -> str:
    """Return a test's name as HTML that wraps between its words."""
    return re.sub(r"([_/.:-]+)", r"\1<wbr>", escape(name))


def _list_facts(charts: Sequence[Layout]) -> Iterator[tuple[str, str]]:
    """Yield what stands below the page's title: the kind of event, and a few words."""
    counts = Counter[str](event.kind for chart in charts for event in chart.events)
    yield "plain", formatting.plural(counts.total(), "event")
    elapsed = [chart.events[-1].at - chart.events[0].at for chart in charts if chart.events]
    if max(elapsed, default=0) > 0:
        yield "plain", f"over {formatting.format_duration(max(elapsed))}"
    counts["lost"] = sum(chart.lost.total() for chart in charts)
    for kind, label in _COUNTED.items():
        if counts[kind]:
            yield kind, f"{counts[kind]:,} {label}"
    if counts["error"]:
        yield "error", formatting.plural(counts["error"], "error")


def _format_failure(text: str) -> str:
    lines = "\n".join(map(escape_unprintable, text.rstrip().split("\n")))
    return _fill("failure", lines=escape(lines)) if lines else ""


def _format_stub(chart: Layout, heading: str) -> str:
    requests = formatting.plural(chart.hidden, "request")
    note = f'<p class="note">{requests} not drawn: the stub has no app.</p>'
    return _fill(
        "stub",
        heading=f"<h2>{heading}</h2>" if heading else "",
        name=heading or "Timeline",
        facts=", ".join(fact for _, fact in _list_facts([chart])),
        gutter=str(chart.gutter),
        width=str(chart.width),
        height=str(chart.height),
        heads=svg.draw_heads(chart),
        times=svg.draw_times(chart),
        picture=svg.draw_picture(chart),
        note=note if chart.hidden else "",
        events="\n".join(_list_events(chart)),
    )


def _list_events(chart: Layout) -> Iterator[str]:
    lines = formatting.format_events(chart.events, chart.start, svg.MESSAGE_LIMIT)
    for index, line in enumerate(lines, chart.first):
        notes = svg.describe_event(chart, index)
        small = "".join(f"<small>{escape(note)}</small>" for note in notes)
        yield f"<li>{escape(line)}{small}</li>"


def _format_index_row(page: PageSummary) -> str:
    where, name = _split_nodeid(page["nodeid"])
    counts = {label: f"{count:,}" if count else "" for label, count in page["counts"].items()}
    return _fill(
        "index_row",
        outcome=escape(page["outcome"]),
        file=escape(page["file"]),
        name=_break_anywhere(name),
        where=_break_anywhere(where),
        line=", ".join(f"{count} {label}" for label, count in counts.items() if count),
        width=str(3 * len(page["bars"])),
        bars="".join(
            f'<rect class="t-{kind}" x="{3 * place}" width="2"/>'
            for place, kind in enumerate(page["bars"])
        ),
        counts="".join(f'<td class="wide {label}">{count}</td>' for label, count in counts.items()),
    )


def _most_important(events: Sequence[Event]) -> str:
    kinds = {event.kind for event in events}
    return next((kind for kind in _IMPORTANT if kind in kinds), events[0].kind)
