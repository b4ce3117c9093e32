"""Where everything of a timeline's picture stands: lanes side by side, time running down."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_channelstub._record import formatting as rendering
from pytest_channelstub import _tokens as tokens
from pytest_channelstub._record.history import ENDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_channelstub._record.history import Connection, Story
    from pytest_channelstub._record.timeline import Event

ROW = 26.0
APP_X = 56.0
_FIRST_GAP = 1.15
_WIDEST, _NARROWEST = 250.0, 122.0
_ROOM = 1060.0
_TOP = 24.0
_BREAK = 40.0
_IDLE = 20.0  # seconds that are drawn; longer ones are a break
_DEEPEST = 6
_MOST_TOKENS = 3
_DIGIT = 6.6  # pixels of the times' letters, on average


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the picture.

    Attributes:
        index: Of its event; of the first where several like polls stand for one.
        event: The event.
        y: Its middle, in pixels.
        count: How many events it stands for.
        instant: The number of its instant: rows of one instant share it.
    """

    index: int
    event: Event
    y: float
    count: int
    instant: int


@dataclass(frozen=True, slots=True)
class Break:
    """A time in which nothing happened, left out.

    Attributes:
        y: Its middle, in pixels.
        seconds: How long; negative where the clock was set back.
    """

    y: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Band:
    """A time for which a client was connected.

    Attributes:
        steps: Where the number of waiting messages changes: (y, number).
        bottom: Where it ends.
        end: The kind of event that ended it; empty while it lasts.
    """

    steps: tuple[tuple[float, int], ...]
    bottom: float
    end: str


@dataclass(frozen=True, slots=True)
class TokenBar:
    """A token's life.

    Attributes:
        top: Where it begins.
        bottom: Where it ends.
        expired: Whether its end lies in the picture.
        column: Its place beside others of the same time, from 0.
        title: What it says when pointed at.
    """

    top: float
    bottom: float
    expired: bool
    column: int
    title: str


@dataclass(slots=True)
class Lane:
    """One client, or an address that is nobody's.

    Attributes:
        client_id: Whose.
        x: Its middle, in pixels.
        sent: How many messages reached its queue.
        dropped: How many did not.
        bands: When it was connected.
        tokens: Its tokens.
    """

    client_id: str
    x: float
    sent: int = 0
    dropped: int = 0
    bands: list[Band] = field(default_factory=list)
    tokens: list[TokenBar] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Layout:
    """A timeline's picture, before it is drawn.

    Attributes:
        lanes: By client id, from left to right.
        rows: From top to bottom.
        breaks: The idle times between them.
        story: The timeline, replayed.
        start: What times are relative to, in seconds since the epoch.
        lane_width: In pixels.
        width: Of the whole.
        height: Of the whole.
        hidden: How many requests had no app to go to, and are not drawn.
        depths: How many messages waited at each row, by event index.
        gutter: Width of the column of times, in pixels.
    """

    lanes: dict[str, Lane]
    rows: tuple[Row, ...]
    breaks: tuple[Break, ...]
    story: Story
    start: float
    lane_width: float
    width: float
    height: float
    hidden: int
    depths: dict[int, int]
    gutter: float


def half_width(depth: int) -> float:
    """Half of a connection's width where so many messages wait."""
    return 3.5 + 2.0 * min(depth, _DEEPEST)


def layout(story: Story, start: float, first: int = 0) -> Layout:
    """Lay a timeline out.

    Args:
        story: The stub's timeline, replayed.
        start: What times are relative to, in seconds since the epoch.
        first: Index of the first event to draw; what was before is carried in.
    """
    events = story.events
    drawn = [i for i in range(first, len(events)) if not _is_idle_request(events[i])]
    rows, breaks, bottom = _rows(events, drawn)
    lanes, lane_width = _lanes(story, drawn)
    depths = _depths(story)
    chart = Layout(
        lanes,
        tuple(rows),
        tuple(breaks),
        story,
        start,
        lane_width,
        APP_X + lane_width * (_FIRST_GAP + max(0, len(lanes) - 1)) + max(lane_width, 190.0),
        bottom,
        len(events) - first - len(drawn),
        depths,
        _gutter(rows, breaks, start),
    )
    places = _Places(chart, first)
    for lane in lanes.values():
        lane.bands = places.bands(lane.client_id)
        lane.tokens = places.tokens(lane.client_id)
    return chart


class _Places:
    """Where events that are not rows themselves stand between those that are."""

    def __init__(self, chart: Layout, first: int) -> None:
        self._chart = chart
        self._first = first
        self._events = chart.story.events
        self._ys: dict[int, float] = {}
        for row in chart.rows:
            self._ys.update(dict.fromkeys(range(row.index, row.index + row.count), row.y))

    def bands(self, client_id: str) -> list[Band]:
        """When a client was connected, as far as it is drawn."""
        return [
            self._band(client_id, one)
            for one in self._chart.story.connections.get(client_id, ())
            if one.last is None or one.last >= self._first
        ]

    def tokens(self, client_id: str) -> list[TokenBar]:
        """A client's tokens, beside one another where they overlap."""
        bars: list[TokenBar] = []
        for index, event in enumerate(self._events):
            own = event.kind == "create" and event.client_id == client_id
            read = tokens.read(event.token) if own else None
            if read is None:
                continue
            end = self._end_of(index, read.expires)
            top = self._ys.get(index, 0.0)
            bottom = self._chart.height if end is None else end
            if bottom <= 0:  # over before the first row
                continue
            column = sum(bar.bottom > top for bar in bars) % _MOST_TOKENS
            title = self._token_title(index, read.expires)
            bars.append(TokenBar(top, bottom, end is not None, column, title))
        return bars

    def _band(self, client_id: str, one: Connection) -> Band:
        last = len(self._events) if one.last is None else one.last
        chart = self._chart
        steps = [(self._ys.get(one.first, 0.0), 0)]
        for index in range(one.first, last):
            if index in chart.depths and self._concerns(index, client_id):
                depth = chart.depths[index]
                y = self._ys.get(index, 0.0)
                if steps[-1][0] == y:
                    steps.pop()
                steps.append((y, depth))
        bottom = chart.height if one.last is None else self._ys.get(one.last, 0.0)
        end = "" if one.last is None else self._events[one.last].kind
        return Band(tuple(steps), bottom, end)

    def _concerns(self, index: int, client_id: str) -> bool:
        return self._events[index].client_id in (client_id, None)

    def _end_of(self, index: int, expires: int) -> float | None:
        """Just after the last row before a token's end; None where that is not drawn."""
        before = self._ys.get(index, 0.0)
        for row in self._chart.rows:
            if row.index > index:
                if row.event.at >= expires:
                    return before + min((row.y - before) / 2, 0.7 * ROW) if before else 0.0
                before = row.y
        return None

    def _token_title(self, index: int, expires: int) -> str:
        event = self._events[index]
        start = self._chart.start
        made, ends = rendering.since(event.at, start), rendering.since(expires, start)
        return f"{rendering.token(event.token or '')}\nmade at {made}, valid until {ends}"


def _gutter(rows: Sequence[Row], breaks: Sequence[Break], start: float) -> float:
    times = [len(rendering.since(row.event.at, start)) for row in rows]
    times += [len(rendering.span(one.seconds)) + len(" later") for one in breaks]
    return 36.0 + _DIGIT * max(times, default=0)


def _is_idle_request(event: Event) -> bool:
    return event.kind == "request" and event.outcome == "no app"


def _rows(events: Sequence[Event], drawn: Sequence[int]) -> tuple[list[Row], list[Break], float]:
    rows: list[Row] = []
    breaks: list[Break] = []
    y, instant = _TOP, 0
    for index in drawn:
        event = events[index]
        if rows and _joins(rows[-1], index, event):
            last = rows[-1]
            rows[-1] = Row(last.index, last.event, last.y, last.count + 1, last.instant)
            continue
        if rows:
            passed = event.at - events[rows[-1].index + rows[-1].count - 1].at
            instant += passed != 0
            y += ROW + _gap(passed)
            if not 0 <= passed <= _IDLE:
                breaks.append(Break(y - ROW / 2 - _gap(passed) / 2, passed))
        rows.append(Row(index, event, y, 1, instant))
    return rows, breaks, y + ROW + _TOP


def _joins(row: Row, index: int, event: Event) -> bool:
    """Whether a poll that found nothing goes into the row of those just before it."""
    return (
        event.kind in ("poll", "refresh")
        and row.event.kind == event.kind
        and row.event.client_id == event.client_id
        and row.index + row.count == index
        and 0 <= event.at - row.event.at <= _IDLE
    )


def _gap(passed: float) -> float:
    if not 0 <= passed <= _IDLE:
        return _BREAK
    return 0.0 if not passed else min(34.0, 5.0 + 7.0 * math.log2(1 + passed))


def _lanes(story: Story, drawn: Sequence[int]) -> tuple[dict[str, Lane], float]:
    names: dict[str, None] = {}
    for index in drawn:
        client_id = story.events[index].client_id
        if client_id is not None:
            names.setdefault(client_id)
    room = _ROOM / max(1.0, len(names) + _FIRST_GAP - 1)
    lane_width = max(_NARROWEST, min(_WIDEST, room))
    lanes = {
        name: Lane(name, APP_X + lane_width * (_FIRST_GAP + place))
        for place, name in enumerate(names)
    }
    for index in drawn:
        event = story.events[index]
        if event.kind in ("send", "drop") and event.client_id is not None:
            lane = lanes[event.client_id]
            lane.sent += event.kind == "send"
            lane.dropped += event.kind == "drop"
    return lanes, lane_width


def _depths(story: Story) -> dict[int, int]:
    """How many messages wait after each event that changes their number."""
    depths: dict[int, int] = {}
    waiting: dict[str | None, int] = {}
    for index, event in enumerate(story.events):
        if event.kind == "send":
            waiting[event.client_id] = waiting.get(event.client_id, 0) + 1
        elif event.kind == "read":
            waiting[event.client_id] = max(0, waiting.get(event.client_id, 0) - 1)
        elif event.kind == "reset":
            waiting.clear()
        elif event.kind in ("clear", *ENDS):
            waiting[event.client_id] = 0
        else:
            continue
        depths[index] = waiting.get(event.client_id, 0)
    return depths
