"""A timeline's picture as SVG: a mark and a label for every event."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pytest_channelstub._html.labels import columns, cut, escape_unprintable
from pytest_channelstub._html.layout import APP_X, LETTER, ROW, half_width
from pytest_channelstub._record import formatting
from pytest_channelstub._record.history import PENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_channelstub._html.layout import Band, Break, Lane, Layout, Row, TokenBar
    from pytest_channelstub._record.history import Outcome

MESSAGE_LIMIT = 2000
"""How many characters of a message a description shows."""

_TOKENS_X = 19.0  # pixels from a lane's middle
_FAR = 340.0  # pixels
_MARK_LABELS = {
    "connect": "connected",
    "close": "closed",
    "disconnect": "disconnected by hand",
    "timeout": "timed out",
    "clear": "cleared",
}
_DEFINITIONS = """<defs>
<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"
orient="auto" markerUnits="userSpaceOnUse"><path class="tip" d="M0.5 0.5 7.5 4 0.5 7.5z"/>
</marker>
<marker id="tip-soft" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"
orient="auto" markerUnits="userSpaceOnUse"><path class="tip-soft" d="M0.5 0.5 7.5 4 0.5 7.5"/>
</marker>
</defs>"""


def draw_picture(chart: Layout, alternative: str) -> str:
    """Draw the lanes and everything on them.

    Args:
        chart: The picture's layout.
        alternative: What a screen reader says in its place.
    """
    role = f'role="img" aria-label="{escape(alternative)}"'
    parts = [
        f'<svg class="chart" {_size(chart.width, chart.height)} {role}>',
        _DEFINITIONS,
        *_draw_shades(chart),
        *_draw_lifelines(chart),
        *(_draw_break(chart, one) for one in chart.breaks),
        *(_draw_event(chart, row) for row in chart.rows),
        "</svg>",
    ]
    return "\n".join(parts)


def draw_times(chart: Layout) -> str:
    """Draw the column of times, which stays in sight when the lanes are scrolled sideways."""
    parts = [f'<svg class="times" {_size(chart.gutter, chart.height)} aria-hidden="true">']
    last = -1
    for row in chart.rows:
        if row.instant != last:
            time = formatting.format_offset(row.event.at, chart.start)
            parts.append(_text(chart.gutter - 9, row.y, time, "time", anchor="end"))
            last = row.instant
    for one in chart.breaks:
        length = (
            f"{formatting.format_duration(one.seconds)} {'later' if one.seconds > 0 else 'back'}"
        )
        parts.append(_text(9, one.y, length, "idle on"))
    return "\n".join([*parts, "</svg>"])


def draw_heads(chart: Layout) -> str:
    """Return the lanes' names, which stay in sight when the lanes are scrolled down."""
    parts = [f'<div class="head" style="left:{_n(APP_X)}px"><b>app</b></div>']
    for lane in chart.lanes.values():
        counts = [f"{lane.sent:,} sent"] if lane.sent or not lane.dropped else []
        if lane.dropped:
            counts.append(f'<i class="bad">{lane.dropped:,} dropped</i>')
        parts.append(
            f'<div class="head" style="left:{_n(lane.x)}px;width:{_n(chart.lane_width - 8)}px" '
            f'title="{escape(formatting.quoted(lane.client_id, 300))}">'
            f"<b>{escape(formatting.format_client(lane.client_id))}</b>"
            f"<span>{' '.join(counts)}</span></div>"
        )
    return "\n".join(parts)


def describe_event(chart: Layout, index: int) -> list[str]:
    """Return what an event's line does not say: what came of a message, and the line of code.

    Args:
        chart: The picture's layout.
        index: Of the event.
    """
    outcome = chart.history.outcomes.get(index)
    notes = [] if outcome is None else [_describe_outcome(chart, outcome)]
    source = chart.history.events[index].source
    return [*notes, escape_unprintable(source)] if source else notes


def _describe_outcome(chart: Layout, outcome: Outcome) -> str:
    if outcome.index is None:
        return "pending at the end" if outcome.kind == PENDING else "taken out of the list by hand"
    at = formatting.format_offset(chart.history.events[outcome.index].at, chart.start)
    return f"read at {at}" if outcome.kind == "read" else f"lost at {at}: {outcome.kind}"


def _draw_shades(chart: Layout) -> Iterator[str]:
    """Draw a shade behind every other instant: what happened at the same time belongs together."""
    first = 0
    rows = chart.rows
    for index in range(1, len(rows) + 1):
        if index == len(rows) or rows[index].instant != rows[first].instant:
            if rows[first].instant % 2:
                top, bottom = rows[first].y - ROW / 2, rows[index - 1].y + ROW / 2
                yield _rect("shade", 0, top, chart.width, bottom - top)
            first = index


def _draw_lifelines(chart: Layout) -> Iterator[str]:
    yield _path("app", f"M{_n(APP_X)} 0V{_n(chart.height)}")
    for lane in chart.lanes.values():
        yield _path("away", f"M{_n(lane.x)} 0V{_n(chart.height)}")
        yield from (_draw_token_bar(lane, bar) for bar in lane.tokens)
        yield from (_draw_band(lane, band) for band in lane.bands)


def _draw_token_bar(lane: Lane, bar: TokenBar) -> str:
    x = lane.x + _TOKENS_X + 5 * bar.column
    end = _path("token-end", f"M{_n(x - 3)} {_n(bar.bottom)}h9") if bar.expired else ""
    life = _rect("life", x, bar.top, 3, bar.bottom - bar.top)
    return f'<g class="token">{_title(bar.title)}{life}{end}</g>'


def _draw_band(lane: Lane, band: Band) -> str:
    """Draw a connection, as wide as its queue is long."""
    right: list[str] = []
    left: list[str] = []
    bottoms = [y for y, _ in band.steps[1:]] + [band.bottom]
    for (top, depth), bottom in zip(band.steps, bottoms, strict=True):
        half = half_width(depth)
        right.append(f"{_n(lane.x + half)} {_n(top)}L{_n(lane.x + half)} {_n(bottom)}")
        left.append(f"{_n(lane.x - half)} {_n(bottom)}L{_n(lane.x - half)} {_n(top)}")
    outline = "L".join([*right, *reversed(left)])
    return f'<g class="connection">{_title(band.title)}{_path("live", f"M{outline}z")}</g>'


def _draw_break(chart: Layout, one: Break) -> str:
    """Draw two wavy lines across all lanes."""
    wave = "q6 -5 12 0t12 0" * (int(chart.width / 24) + 1)
    waves = "".join(f"M0 {_n(y)}{wave}" for y in (one.y - 4, one.y + 4))
    cover = _rect("cover", 0, one.y - 4, chart.width, 8)
    return f'<g class="break{"" if one.seconds > 0 else " back"}">{cover}{_path("wave", waves)}</g>'


def _draw_event(chart: Layout, row: Row) -> str:
    kind = row.event.kind
    lane = chart.lanes.get(row.event.client_id or "")
    if kind in _AT_APP:
        drawing = _AT_APP[kind](chart, row)
    elif lane is not None and kind in _AT_LANE:
        drawing = _AT_LANE[kind](chart, row, lane)
    else:
        drawing = _draw_note(chart, row)
    [line] = formatting.format_events([row.event], chart.start, MESSAGE_LIMIT)
    if row.count > 1:
        line = f"{row.count:,} times, from here on: {line}"
    title = "\n".join([line, *describe_event(chart, row.index)])
    hover = _rect("hit", 0, row.y - ROW / 2, chart.width, ROW)
    return f'<g class="e k-{kind}">{_title(title)}{hover}{drawing}</g>'


def _draw_send(chart: Layout, row: Row, lane: Lane) -> str:
    end = lane.x - half_width(chart.depths.get(row.index, 0)) - 1
    arrow = _path("arrow", f"M{_n(APP_X)} {_n(row.y)}H{_n(end)}", ' marker-end="url(#tip)"')
    return _draw_message(chart, row, lane, end - 11) + arrow


def _draw_drop(chart: Layout, row: Row, lane: Lane) -> str:
    end, y = lane.x - 13, row.y
    line = _path("arrow", f"M{_n(APP_X)} {_n(y)}H{_n(end - 6)}")
    why = "expired token" if row.event.outcome else "dropped"
    message = _draw_message(chart, row, lane, end - 6)
    return f"{message}{line}{_cross(end, y, 4)}{_draw_beside(chart, lane, y, why)}"


def _draw_create(chart: Layout, row: Row, lane: Lane) -> str:
    end = lane.x + _TOKENS_X
    line = _path("soft", f"M{_n(APP_X)} {_n(row.y)}H{_n(end)}")
    key = _rect("key", end - 2.5, row.y - 4, 8, 8)
    return f"{line}{key}{_draw_beside(chart, lane, row.y, 'token')}"


def _draw_read(chart: Layout, row: Row, lane: Lane) -> str:
    x, room = _place_beside(chart, lane)
    room = min(chart.label_room, room - len("read "))
    label = "read " + chart.labels.shorten(row.event.message or "", room)
    return _dot("read", lane.x, row.y, 4) + _text(x, row.y, label, "side on")


def _draw_poll(chart: Layout, row: Row, lane: Lane) -> str:
    label = "empty poll" if row.event.kind == "poll" else "refreshed"
    times = f" \u00d7{row.count:,}" if row.count > 1 else ""
    return _dot("dot", lane.x, row.y, 2.2) + _draw_beside(chart, lane, row.y, label + times)


def _draw_mark(chart: Layout, row: Row, lane: Lane) -> str:
    x, y = lane.x, row.y
    mark = _path("mark", f"M{_n(x - 8)} {_n(y)}h16")
    if row.event.kind == "connect":
        mark = _dot("mark", x, y, 5)
    elif row.event.kind == "timeout":
        mark = _path("mark", f"M{_n(x)} {_n(y - 7)}l7 7-7 7-7-7z")
    lost = chart.lost[row.index]
    label = _MARK_LABELS[row.event.kind] + (f", {lost:,} lost" if lost else "")
    return mark + _draw_beside(chart, lane, y, label)


def _draw_reject(chart: Layout, row: Row, lane: Lane) -> str:
    label = f"{row.event.outcome} token"
    return _cross(lane.x, row.y, 5) + _draw_beside(chart, lane, row.y, label)


def _draw_request(chart: Layout, row: Row, lane: Lane) -> str:
    line = f"M{_n(lane.x - 10)} {_n(row.y)}H{_n(APP_X + 2)}"
    path = (row.event.message or "").strip("/").rpartition("/")[2]
    label = cut(escape_unprintable(f"{path}: {row.event.outcome}"), chart.label_room + 8)
    bad = "" if row.event.outcome[:1] in "23" else " bad"
    return _text(APP_X + 14, row.y - 8, label, f"word on{bad}") + _path(
        "soft", line, ' marker-end="url(#tip-soft)"'
    )


def _draw_error(chart: Layout, row: Row) -> str:
    return _draw_failed_call(chart, row, row.event.outcome)


def _draw_refuse(chart: Layout, row: Row) -> str:
    return _draw_failed_call(chart, row, f"refused: {row.event.outcome.partition(':')[0]}")


def _draw_failed_call(chart: Layout, row: Row, label: str) -> str:
    if row.event.message:
        label += f" {chart.labels.shorten(row.event.message, max(20, chart.label_room))}"
    return _cross(APP_X, row.y, 5) + _text(APP_X + 14, row.y, label, "word bad on")


def _draw_note(chart: Layout, row: Row) -> str:
    label = f"{row.event.kind}: {row.event.outcome}".rstrip(": ")
    line = _path("across", f"M0 {_n(row.y)}H{_n(chart.width)}")
    return line + _text(APP_X + 14, row.y - 9, label, "word on")


_AT_LANE: dict[str, Callable[[Layout, Row, Lane], str]] = {
    "send": _draw_send,
    "drop": _draw_drop,
    "create": _draw_create,
    "read": _draw_read,
    "poll": _draw_poll,
    "refresh": _draw_poll,
    "request": _draw_request,
    "reject": _draw_reject,
    **dict.fromkeys(_MARK_LABELS, _draw_mark),
}
_AT_APP: dict[str, Callable[[Layout, Row], str]] = {"error": _draw_error, "refuse": _draw_refuse}


def _draw_message(chart: Layout, row: Row, lane: Lane, end: float) -> str:
    """Label an arrow's end with its message, and the start of a long arrow with its client."""
    message = chart.labels.shorten(row.event.message or "", chart.label_room)
    label = _text(end, row.y - 8, message, "word on", anchor="end")
    if lane.x < APP_X + _FAR:
        return label
    return label + _text(APP_X + 9, row.y - 8, formatting.format_client(lane.client_id), "to on")


def _draw_beside(chart: Layout, lane: Lane, y: float, label: str) -> str:
    """Draw a label beside a lane, shortened where it would reach the next lane."""
    x, room = _place_beside(chart, lane)
    if columns(label) > room:
        label = cut(label.partition(",")[0], room)
    return _text(x, y, label, "side on")


def _place_beside(chart: Layout, lane: Lane) -> tuple[float, int]:
    """Return where labels beside a lane begin, and how many columns there are for them."""
    token_columns = 1 + max((bar.column for bar in lane.tokens), default=-1)
    offset = _TOKENS_X + 5 * token_columns + 4
    return lane.x + offset, int((chart.lane_width - half_width(0) - offset) / LETTER)


def _text(x: float, y: float, label: str, kind: str, *, anchor: str = "start") -> str:
    end = "" if anchor == "start" else f' text-anchor="{anchor}"'
    label = escape(escape_unprintable(label))
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}"{end}>{label}</text>'


def _path(kind: str, d: str, attributes: str = "") -> str:
    return f'<path class="{kind}"{attributes} d="{d}"/>'


def _cross(x: float, y: float, half: int) -> str:
    side = 2 * half
    return _path("cross", f"M{_n(x - half)} {_n(y - half)}l{side} {side}m0 -{side}l-{side} {side}")


def _dot(kind: str, x: float, y: float, radius: float) -> str:
    return f'<circle class="{kind}" cx="{_n(x)}" cy="{_n(y)}" r="{radius}"/>'


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{_n(x)}" y="{_n(y)}" {_size(width, max(0.0, height))}/>'


def _size(width: float, height: float) -> str:
    return f'width="{_n(width)}" height="{_n(height)}"'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
