"""A timeline's picture as SVG: marks and words for every event."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pytest_channelstub._record import formatting as rendering
from pytest_channelstub._html.layout import APP_X, ROW, half_width
from pytest_channelstub._record.history import PENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_channelstub._html.layout import Band, Break, Lane, Layout, Row, TokenBar

_LETTER = 6.2  # pixels of the labels' letters, on average
_TOKENS_AT = 19.0
_FAR = 900.0  # pixels
_WORDS = {
    "connect": "connected",
    "close": "closed",
    "disconnect": "disconnected by hand",
    "timeout": "timed out",
}


def picture(chart: Layout) -> str:
    """The lanes and everything on them."""
    size = f'width="{_n(chart.width)}" height="{_n(chart.height)}"'
    parts = [
        f'<svg class="chart" {size} role="img" aria-label="{_SPOKEN}">',
        _DEFINITIONS,
        *_instants(chart),
        *_lifelines(chart),
        *(_break(chart, one) for one in chart.breaks),
        *(_event(chart, row) for row in chart.rows),
        "</svg>",
    ]
    return "\n".join(parts)


def times(chart: Layout) -> str:
    """The column of times, which stays in sight when the lanes are scrolled sideways."""
    size = f'width="{_n(chart.gutter)}" height="{_n(chart.height)}"'
    parts = [f'<svg class="times" {size} aria-hidden="true">']
    last = -1
    for row in chart.rows:
        if row.instant != last:
            text = rendering.since(row.event.at, chart.start)
            parts.append(_text(chart.gutter - 14, row.y, text, "time", anchor="end"))
            last = row.instant
    for one in chart.breaks:
        said = f"{rendering.span(one.seconds)} {'later' if one.seconds > 0 else 'back'}"
        parts.append(_text(chart.gutter - 14, one.y, said, "idle", anchor="end"))
    return "\n".join([*parts, "</svg>"])


def headers(chart: Layout) -> str:
    """The lanes' names, which stay in sight when the page is scrolled down."""
    parts = [f'<div class="head" style="left:{_n(APP_X)}px;width:90px"><b>app</b></div>']
    for lane in chart.lanes.values():
        name = rendering.client(lane.client_id)
        dropped = f' <i class="bad">{lane.dropped:,} dropped</i>' if lane.dropped else ""
        parts.append(
            f'<div class="head" style="left:{_n(lane.x)}px;width:{_n(chart.lane_width - 8)}px" '
            f'title="{escape(rendering.quoted(lane.client_id, 300))}"><b>{escape(name)}</b>'
            f"<span>{lane.sent:,} queued{dropped}</span></div>"
        )
    return "\n".join(parts)


_SPOKEN = "What happened, as a picture; the same stands below as text"
_DEFINITIONS = """<defs>
<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"
orient="auto" markerUnits="userSpaceOnUse"><path class="tip" d="M0.5 0.5 7.5 4 0.5 7.5z"/>
</marker>
<marker id="tip-soft" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"
orient="auto" markerUnits="userSpaceOnUse"><path class="tip-soft" d="M0.5 0.5 7.5 4 0.5 7.5"/>
</marker>
</defs>"""


def _instants(chart: Layout) -> Iterator[str]:
    """A shade behind every other instant: what happened at one time belongs together."""
    first = 0
    rows = chart.rows
    for index in range(1, len(rows) + 1):
        if index == len(rows) or rows[index].instant != rows[first].instant:
            if rows[first].instant % 2:
                top, bottom = rows[first].y - ROW / 2, rows[index - 1].y + ROW / 2
                yield _rect("shade", 0, top, chart.width, bottom - top)
            first = index


def _lifelines(chart: Layout) -> Iterator[str]:
    yield f'<path class="app" d="M{_n(APP_X)} 0V{_n(chart.height)}"/>'
    for lane in chart.lanes.values():
        yield f'<path class="away" d="M{_n(lane.x)} 0V{_n(chart.height)}"/>'
        for bar in lane.tokens:
            yield _token_bar(lane, bar)
        for band in lane.bands:
            yield _band(lane, band)


def _token_bar(lane: Lane, bar: TokenBar) -> str:
    x = lane.x + _TOKENS_AT + 5 * bar.column
    end = f'<path class="token-end" d="M{_n(x - 3)} {_n(bar.bottom)}h9"/>' if bar.expired else ""
    return (
        f'<g class="token">{_title(bar.title)}'
        f"{_rect('life', x, bar.top, 3, bar.bottom - bar.top)}{end}</g>"
    )


def _band(lane: Lane, band: Band) -> str:
    """A connection, as wide as its queue is long."""
    right: list[str] = []
    left: list[str] = []
    bottoms = [y for y, _ in band.steps[1:]] + [band.bottom]
    for (top, depth), bottom in zip(band.steps, bottoms, strict=True):
        half = half_width(depth)
        right.append(f"{_n(lane.x + half)} {_n(top)}L{_n(lane.x + half)} {_n(bottom)}")
        left.append(f"{_n(lane.x - half)} {_n(bottom)}L{_n(lane.x - half)} {_n(top)}")
    outline = "L".join([*right, *reversed(left)])
    kind = band.end or "open"
    return f'<path class="live live-{kind}" d="M{outline}z"/>'


def _break(chart: Layout, one: Break) -> str:
    """Two wavy lines across all lanes: the time between them is left out."""
    wave = "q6 -5 12 0t12 0" * (int(chart.width / 24) + 1)
    waves = "".join(f"M0 {_n(y)}{wave}" for y in (one.y - 4, one.y + 4))
    kind = "break" if one.seconds > 0 else "break back"
    cover = _rect("cover", 0, one.y - 4, chart.width, 8)
    return f'<g class="{kind}">{cover}<path d="{waves}"/></g>'


def _event(chart: Layout, row: Row) -> str:
    known = row.event.client_id in chart.lanes
    draw = _DRAWN.get(row.event.kind, _draw_note) if known else _draw_note
    title = rendering.lines([row.event], chart.start, 2000)[0].strip()
    if row.count > 1:
        title = f"{row.count:,} times, from here on: {title}"
    fate = _fate(chart, row)
    hit = _rect("hit", 0, row.y - ROW / 2, chart.width, ROW)
    body = draw(chart, row)
    return f'<g class="e k-{row.event.kind}">{_title(title + fate)}{hit}{body}</g>'


def _fate(chart: Layout, row: Row) -> str:
    fate = chart.story.fates.get(row.index)
    if fate is None:
        return ""
    if fate.index is None:
        pending = fate.kind == PENDING
        return "\nstill waiting at the end" if pending else "\ntaken out of the list by hand"
    at = rendering.since(chart.story.events[fate.index].at, chart.start)
    return f"\n{'read' if fate.kind == 'read' else 'lost unread: ' + fate.kind} at {at}"


def _draw_send(chart: Layout, row: Row) -> str:
    lane = chart.lanes[row.event.client_id or ""]
    edge = lane.x - half_width(chart.depths.get(row.index, 0)) - 1
    line = f'd="M{_n(APP_X)} {_n(row.y)}H{_n(edge)}"'
    arrow = f'<path class="arrow" marker-end="url(#tip)" {line}/>'
    return _label(chart, row, lane, edge - 11) + arrow


def _draw_drop(chart: Layout, row: Row) -> str:
    lane = chart.lanes[row.event.client_id or ""]
    end, y = lane.x - 13, row.y
    cross = f'<path class="cross" d="M{_n(end - 4)} {_n(y - 4)}l8 8m0 -8l-8 8"/>'
    line = f'<path class="arrow" d="M{_n(APP_X)} {_n(y)}H{_n(end - 6)}"/>'
    why = "expired token" if row.event.outcome else "dropped"
    return f"{_label(chart, row, lane, end - 6)}{line}{cross}{_side(chart, lane, y, why)}"


def _draw_create(chart: Layout, row: Row) -> str:
    lane = chart.lanes[row.event.client_id or ""]
    end = lane.x + _TOKENS_AT
    line = f'<path class="soft" d="M{_n(APP_X)} {_n(row.y)}H{_n(end)}"/>'
    mark = (
        f'<rect class="key" x="{_n(end - 2.5)}" y="{_n(row.y - 4)}" width="8" height="8" rx="2"/>'
    )
    return f"{line}{mark}{_side(chart, lane, row.y, 'token')}"


def _draw_read(chart: Layout, row: Row) -> str:
    lane = chart.lanes[row.event.client_id or ""]
    dot = f'<circle class="read" cx="{_n(lane.x)}" cy="{_n(row.y)}" r="4"/>'
    return dot + _side(
        chart,
        lane,
        row.y,
        f"read {_short(chart, row.event.message or '', max(13, _letters(chart) - 8))}",
    )


def _draw_poll(chart: Layout, row: Row) -> str:
    lane = chart.lanes[row.event.client_id or ""]
    dot = f'<circle class="dot" cx="{_n(lane.x)}" cy="{_n(row.y)}" r="2.2"/>'
    word = "empty poll" if row.event.kind == "poll" else "refreshed"
    return dot + _side(
        chart, lane, row.y, word + (f" \u00d7{row.count:,}" if row.count > 1 else "")
    )


def _draw_mark(chart: Layout, row: Row) -> str:
    lane = chart.lanes[row.event.client_id or ""]
    x, y = lane.x, row.y
    mark = f'<path class="mark" d="M{_n(x - 8)} {_n(y)}h16"/>'
    if row.event.kind == "connect":
        mark = f'<circle class="mark" cx="{_n(x)}" cy="{_n(y)}" r="5"/>'
    elif row.event.kind == "timeout":
        mark = f'<path class="mark" d="M{_n(x)} {_n(y - 7)}l7 7-7 7-7-7z"/>'
    return mark + _side(chart, lane, y, _WORDS.get(row.event.kind, row.event.kind) + _lost(row))


def _lost(row: Row) -> str:
    outcome = row.event.outcome
    if row.event.kind == "clear":
        return f"ed: {outcome}"
    unread = outcome.rpartition(", ")[2]
    return f", {unread}" if unread.endswith("unread") and not unread.startswith("0") else ""


def _draw_request(chart: Layout, row: Row) -> str:
    lane = chart.lanes[row.event.client_id or ""]
    x, end, y = lane.x - 10, APP_X + 2, row.y
    line = f'<path class="soft" marker-end="url(#tip-soft)" d="M{_n(x)} {_n(y)}H{_n(end)}"/>'
    path = (row.event.message or "").strip("/").rpartition("/")[2]
    bad = "" if row.event.outcome[:1] in "23" else " bad"
    said = rendering.quoted(f"{path}: {row.event.outcome}", _letters(chart) + 8)[1:-1]
    return _text(APP_X + 14, y - 8, said, "word on" + bad) + line


def _draw_error(chart: Layout, row: Row) -> str:
    y = row.y
    cross = f'<path class="cross" d="M{_n(APP_X - 5)} {_n(y - 5)}l10 10m0 -10l-10 10"/>'
    said = row.event.outcome
    if row.event.message:
        said += f" {_short(chart, row.event.message, 20)}"
    return cross + _text(APP_X + 14, y, said, "word bad on")


def _draw_reject(chart: Layout, row: Row) -> str:
    lane = chart.lanes[row.event.client_id or ""]
    x, y = lane.x, row.y
    cross = f'<path class="cross" d="M{_n(x - 5)} {_n(y - 5)}l10 10m0 -10l-10 10"/>'
    return cross + _side(chart, lane, y, f"refused, {row.event.outcome} token")


def _draw_note(chart: Layout, row: Row) -> str:
    said = f"{row.event.kind}: {row.event.outcome}".rstrip(": ")
    line = f'<path class="across" d="M0 {_n(row.y)}H{_n(chart.width)}"/>'
    return line + _text(APP_X + 14, row.y, said, "word on")


_DRAWN: dict[str, Callable[[Layout, Row], str]] = {
    "send": _draw_send,
    "drop": _draw_drop,
    "create": _draw_create,
    "read": _draw_read,
    "poll": _draw_poll,
    "refresh": _draw_poll,
    "request": _draw_request,
    "error": _draw_error,
    "reject": _draw_reject,
    **dict.fromkeys(("connect", "close", "disconnect", "timeout", "clear"), _draw_mark),
}


def _label(chart: Layout, row: Row, lane: Lane, end: float) -> str:
    """A message over its arrow's end; where that is far away, the client over its start."""
    said = _text(end, row.y - 8, _short(chart, row.event.message or ""), "word on", anchor="end")
    if lane.x < APP_X + _FAR:
        return said
    return said + _text(APP_X + 9, row.y - 8, rendering.client(lane.client_id), "to on")


def _side(chart: Layout, lane: Lane, y: float, said: str) -> str:
    """A word beside a lane, shortened where it would reach the next one."""
    columns = 1 + max((bar.column for bar in lane.tokens), default=-1)
    x = lane.x + _TOKENS_AT + 5 * columns + 4
    room = int((lane.x + chart.lane_width - half_width(0) - x) / _LETTER)
    if len(said) > room:
        said = said.partition(",")[0]
    if len(said) > room:
        said = said[: room - 1].rstrip() + "\u2026"
    return _text(x, y, said, "side on")


def _letters(chart: Layout) -> int:
    return int((chart.lane_width - 56) / _LETTER)


def _short(chart: Layout, message: str, most: int | None = None) -> str:
    room = max(6, min(_letters(chart), most or 60))
    told = rendering.quoted(message[: room + 1], None)[1:-1]
    return told if len(told) <= room else told[: room - 1] + "\u2026"


def _text(x: float, y: float, said: str, kind: str, *, anchor: str = "start") -> str:
    end = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return (
        f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}"{end}>{escape(rendering.bare(said))}</text>'
    )


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    size = f'width="{_n(width)}" height="{_n(max(0.0, height))}"'
    return f'<rect class="{kind}" x="{_n(x)}" y="{_n(y)}" {size}/>'


def _title(said: str) -> str:
    return f"<title>{escape(said)}</title>"


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
