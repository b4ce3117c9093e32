"""A timeline's picture as SVG: a mark and a label for every event."""

from __future__ import annotations

from collections import Counter
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_channelstub._html.labels import cut, escape_unprintable
from pytest_channelstub._html.layout import APP_X, BREAK_Y, LETTER, ROW
from pytest_channelstub._record import formatting
from pytest_channelstub._record.history import PENDING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_channelstub._html.layout import Band, Lane, Layout, Row, TokenBar

MESSAGE_LIMIT = 2000
"""How many characters of a message a description shows."""

_TOKENS_X = 19  # pixels from a lane's middle
_FAR = 340  # pixels
_DEEPEST_QUEUE = 6
_CROSS = "m-5 -5l10 10m0 -10l-10 10"
_DOT = "m-2.2 0a2.2 2.2 0 1 0 4.4 0a2.2 2.2 0 1 0-4.4 0"
_LINE = "m-8 0h16"
# By an event's kind: the class of its mark on the lane, its form, and its label.
_MARKS = {
    "connect": ("mark", "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0", "connected"),
    "refresh": ("dot", _DOT, "refreshed"),
    "poll": ("dot", _DOT, "empty poll"),
    "read": ("read", "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", "read"),
    "clear": ("mark", _LINE, "cleared"),
    "close": ("mark", _LINE, "closed"),
    "disconnect": ("mark", _LINE, "disconnected by hand"),
    "timeout": ("mark", "m0 -7l7 7-7 7-7-7z", "timed out"),
    "reject": ("cross", _CROSS, "token"),
}


def draw_picture(chart: Layout) -> str:
    """Draw the lanes and everything on them."""
    shades = [  # what happened at the same time belongs together
        _rect("shade", 0, rows[0].y - ROW // 2, chart.width, rows[-1].y - rows[0].y + ROW)
        for rows in chart.instants[1::2]
    ]
    breaks = [_draw_break(chart, row) for row in chart.rows if row.break_before]
    events = [_draw_event(chart, row) for row in chart.rows]
    return "\n".join([*shades, *_draw_lifelines(chart), *breaks, *events])


def draw_times(chart: Layout) -> str:
    """Draw the column of times, which stays in sight when the lanes are scrolled sideways."""
    parts = [
        _text(chart.gutter - 9, rows[0].y, chart.format_time(rows[0].event.at), "time end")
        for rows in chart.instants
    ]
    for row in chart.rows:
        if row.break_before:
            direction = "later" if row.break_before > 0 else "back"
            label = f"{formatting.format_duration(row.break_before)} {direction}"
            parts.append(_text(9, row.y + BREAK_Y, label, "idle on"))
    return "\n".join(parts)


def draw_heads(chart: Layout) -> str:
    """Return the lanes' names, which stay in sight when the lanes are scrolled down."""
    parts = [f'<div class="head" style="left:{APP_X}px"><b>app</b></div>']
    counts = Counter((event.client_id, event.kind) for event in chart.events)
    for lane in chart.lanes.values():
        sent, dropped = counts[lane.client_id, "send"], counts[lane.client_id, "drop"]
        facts = [f"{sent:,} sent"] if sent or not dropped else []
        if dropped:
            facts.append(f'<i class="bad">{dropped:,} dropped</i>')
        parts.append(
            f'<div class="head" style="left:{lane.x}px;width:{chart.lane_width - 8}px" '
            f'title="{escape(formatting.quoted(lane.client_id, 300))}">'
            f"<b>{escape(formatting.format_client(lane.client_id))}</b>"
            f"<span>{' '.join(facts)}</span></div>"
        )
    return "\n".join(parts)


def describe_event(chart: Layout, index: int) -> Iterator[str]:
    """Yield what an event's line does not say: what came of a message, and the line of code."""
    outcome = chart.history.outcomes.get(index)
    if outcome is not None and outcome.index is not None:
        at = chart.format_time(chart.history.events[outcome.index].at)
        yield f"read at {at}" if outcome.kind == "read" else f"lost at {at}: {outcome.kind}"
    elif outcome is not None:
        is_pending = outcome.kind == PENDING
        yield "pending at the end" if is_pending else "taken out of the list by hand"
    source = chart.history.events[index].source
    if source:
        yield escape_unprintable(source)


def _draw_lifelines(chart: Layout) -> Iterator[str]:
    yield _path("app", f"M{APP_X} 0V{chart.height}")
    for lane in chart.lanes.values():
        yield _path("away", f"M{lane.x} 0V{chart.height}")
        yield from (_draw_token_bar(chart, lane, bar) for bar in lane.tokens)
        yield from (_draw_band(lane, band) for band in lane.bands)


def _draw_token_bar(chart: Layout, lane: Lane, bar: TokenBar) -> str:
    x = lane.x + _TOKENS_X + 5 * bar.column
    life = _rect("life", x, bar.top, 3, bar.bottom - bar.top)
    is_expired = bar.bottom < chart.height
    end = _path("token-end", f"M{x - 3} {bar.bottom}h9") if is_expired else ""
    return _group("token", bar.title, life + end)


def _draw_band(lane: Lane, band: Band) -> str:
    """Draw a connection, as wide as its queue is long."""
    corners = [
        (_half_width(depth), y)
        for (top, depth), (bottom, _) in pairwise(band.steps)
        for y in (top, bottom)
    ]
    right = [f"{lane.x + half} {y}" for half, y in corners]
    left = [f"{lane.x - half} {y}" for half, y in reversed(corners)]
    return _group("connection", band.title, _path("live", f"M{'L'.join(right + left)}z"))


def _draw_break(chart: Layout, row: Row) -> str:
    """Draw two wavy lines across all lanes."""
    y = row.y + BREAK_Y
    wave = "q6 -5 12 0t12 0" * (chart.width // 24 + 1)
    cover = _rect("cover", 0, y - 4, chart.width, 8)
    waves = _path("wave", f"M0 {y - 4}{wave}M0 {y + 4}{wave}")
    return f'<g class="break{"" if row.break_before > 0 else " back"}">{cover}{waves}</g>'


def _draw_event(chart: Layout, row: Row) -> str:
    kind = row.event.kind
    lane = chart.lanes.get(row.event.client_id or "")
    if kind in ("error", "refuse"):
        drawing = _draw_failed_call(chart, row)
    elif lane is None or kind == "reset":
        drawing = _draw_note(chart, row)
    elif kind in ("send", "drop"):
        drawing = _draw_message(chart, row, lane)
    elif kind == "create":
        drawing = _draw_token(chart, row, lane)
    elif kind == "request":
        drawing = _draw_request(chart, row, lane)
    else:
        drawing = _draw_mark(chart, row, lane)
    [line] = formatting.format_events([row.event], chart.start, MESSAGE_LIMIT)
    if row.count > 1:
        line = f"{row.count:,} times, from here on: {line}"
    title = "\n".join([line, *describe_event(chart, row.index)])
    hover = _rect("hit", 0, row.y - ROW // 2, chart.width, ROW)
    return _group(f"e k-{kind}", title, hover + drawing)


def _draw_message(chart: Layout, row: Row, lane: Lane) -> str:
    """Draw an arrow to a client's queue, or a broken one to a cross before it."""
    if row.event.kind == "send":
        tip = lane.x - _half_width(chart.depths.get(row.index, 0)) - 1
        end, label_end, rest = tip, tip - 11, ""
    else:
        end = label_end = lane.x - 19
        why = "expired token" if row.event.outcome else "dropped"
        cross = _path("cross", f"M{lane.x - 13} {row.y}{_CROSS}")
        rest = cross + _draw_beside(chart, row, lane, why)
    message = chart.labels.shorten(row.event.message or "", chart.label_columns)
    label = _text(label_end, row.y - 8, message, "word on end")
    if lane.x >= APP_X + _FAR:  # the client's name at the arrow's start
        label += _text(APP_X + 9, row.y - 8, formatting.format_client(lane.client_id), "to on")
    return label + _path("arrow", f"M{APP_X} {row.y}H{end}") + rest


def _draw_token(chart: Layout, row: Row, lane: Lane) -> str:
    end = lane.x + _TOKENS_X
    key = _rect("key", end - 2.5, row.y - 4, 8, 8)
    line = _path("soft", f"M{APP_X} {row.y}H{end}")
    return line + key + _draw_beside(chart, row, lane, "token")


def _draw_request(chart: Layout, row: Row, lane: Lane) -> str:
    outcome = row.event.outcome
    path = (row.event.message or "").strip("/").rpartition("/")[2]
    label = cut(escape_unprintable(f"{path}: {outcome}"), chart.label_columns + 8)
    kind = "word on" if outcome[:1] in "23" else "word on bad"
    line = _path("soft", f"M{lane.x - 10} {row.y}H{APP_X + 2}")
    return _text(APP_X + 14, row.y - 8, label, kind) + line


def _draw_mark(chart: Layout, row: Row, lane: Lane) -> str:
    kind, form, label = _MARKS[row.event.kind]
    if row.event.kind == "read":
        room = min(chart.label_columns, _room_beside(chart, lane) - len("read "))
        label = f"read {chart.labels.shorten(row.event.message or '', room)}"
    elif row.event.kind == "reject":
        label = f"{row.event.outcome} token"
    elif row.count > 1:
        label += f" \u00d7{row.count:,}"
    elif chart.lost[row.index]:
        label += f", {chart.lost[row.index]:,} lost"
    return _path(kind, f"M{lane.x} {row.y}{form}") + _draw_beside(chart, row, lane, label)


def _draw_failed_call(chart: Layout, row: Row) -> str:
    label = row.event.outcome
    if row.event.kind == "refuse":
        label = f"refused: {label.partition(':')[0]}"
    if row.event.message:
        label += f" {chart.labels.shorten(row.event.message, max(20, chart.label_columns))}"
    cross = _path("cross", f"M{APP_X} {row.y}{_CROSS}")
    return cross + _text(APP_X + 14, row.y, label, "word bad on")


def _draw_note(chart: Layout, row: Row) -> str:
    label = f"{row.event.kind}: {row.event.outcome}".rstrip(": ")
    line = _path("across", f"M0 {row.y}H{chart.width}")
    return line + _text(APP_X + 14, row.y - 9, label, "word on")


def _draw_beside(chart: Layout, row: Row, lane: Lane, label: str) -> str:
    """Draw a label beside a lane, shortened where it would reach the next lane."""
    room = _room_beside(chart, lane)
    if formatting.width(label) > room:
        label = cut(label.partition(",")[0], room)
    return _text(lane.x + _beside(lane), row.y, label, "side on")


def _room_beside(chart: Layout, lane: Lane) -> int:
    """Return how many columns there are for labels beside a lane."""
    return int((chart.lane_width - _half_width(0) - _beside(lane)) / LETTER)


def _beside(lane: Lane) -> int:
    """Return how far from a lane's middle the labels beside it begin: behind its tokens."""
    return _TOKENS_X + 4 + 5 * max((bar.column + 1 for bar in lane.tokens), default=0)


def _half_width(depth: int) -> float:
    """Return half of a band's width, in pixels, where `depth` messages are pending."""
    return 3.5 + 2 * min(depth, _DEEPEST_QUEUE)


def _text(x: float, y: float, label: str, kind: str) -> str:
    label = escape(escape_unprintable(label))
    return f'<text class="{kind}" x="{x}" y="{y}">{label}</text>'


def _path(kind: str, d: str) -> str:
    return f'<path class="{kind}" d="{d}"/>'


def _rect(kind: str, x: float, y: int, width: int, height: int) -> str:
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}"/>'


def _group(kind: str, title: str, shapes: str) -> str:
    return f'<g class="{kind}"><title>{escape(title)}</title>{shapes}</g>'
