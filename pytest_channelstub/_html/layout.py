"""Where everything in a timeline's picture stands: lanes side by side, time from top to bottom."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_channelstub import _tokens
from pytest_channelstub._html.labels import Labels, columns, readable
from pytest_channelstub._record import formatting
from pytest_channelstub._record.history import ENDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_channelstub._record.history import Connection, History
    from pytest_channelstub._record.timeline import Event

ROW = 26.0
APP_X = 28.0
LETTER = 5.9  # pixels of a label's letter, on average
_BESIDE_LABEL = 63.0  # pixels of a lane that its messages' labels leave free
_WIDEST_LANE, _NARROWEST_LANE = 236.0, 122.0
_ALL_LANES = 1060.0
_RIGHT_MARGIN = 190.0
_TOP = 24.0
_BREAK = 40.0
_LONGEST_DRAWN = 20  # seconds; a longer time without events is a break
_DEEPEST_QUEUE = 6
_TOKEN_COLUMNS = 3
_DIGIT = 6.4  # pixels of a letter of the column of times, on average


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the picture.

    Attributes:
        index: Of its event; of the first one where several equal polls share the row.
        event: The event.
        y: Its middle, in pixels.
        count: How many events share the row.
        instant: Rows of the same time have the same number.
    """

    index: int
    event: Event
    y: float
    count: int
    instant: int


@dataclass(frozen=True, slots=True)
class Break:
    """A time without events that is left out.

    Attributes:
        y: Its middle, in pixels.
        seconds: Its length; negative where the clock was set back.
    """

    y: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Band:
    """A time during which a client was connected.

    Attributes:
        steps: Where the number of pending messages changes: (y, number).
        bottom: Where it ends, in pixels.
        title: Its description.
    """

    steps: tuple[tuple[float, int], ...]
    bottom: float
    title: str


@dataclass(frozen=True, slots=True)
class TokenBar:
    """The time during which a token is valid.

    Attributes:
        top: Where it begins, in pixels.
        bottom: Where it ends, in pixels.
        expired: Whether its end is within the picture.
        column: Its place beside other tokens of the same time, from 0.
        title: Its description.
    """

    top: float
    bottom: float
    expired: bool
    column: int
    title: str


@dataclass(slots=True)
class Lane:
    """A client, or an address that no client has.

    Attributes:
        client_id: The client's.
        x: Its middle, in pixels.
        sent: How many messages reached its queue.
        dropped: How many messages did not.
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
        history: The replayed timeline.
        start: What times are relative to, in seconds since the epoch.
        first: Index of the first event of the test.
        rows: From top to bottom.
        breaks: The times that are left out between them.
        lanes: By client id, from left to right.
        lane_width: In pixels.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        gutter: Width of the column of times, in pixels.
        labels: Short forms of the messages.
        depths: How many messages are pending after an event, by its index.
        lost: How many messages an event made lost, by its index.
        hidden: How many requests are not drawn, as there was no app to take them.
    """

    history: History
    start: float
    first: int
    rows: tuple[Row, ...]
    breaks: tuple[Break, ...]
    lanes: dict[str, Lane]
    lane_width: float
    width: float
    height: float
    gutter: float
    labels: Labels
    depths: dict[int, int]
    lost: Counter[int]
    hidden: int

    @property
    def events(self) -> tuple[Event, ...]:
        """The events of the test."""
        return self.history.events[self.first :]

    @property
    def label_room(self) -> int:
        """How many columns there are for a message."""
        return int((self.lane_width - _BESIDE_LABEL) / LETTER)


def half_width(depth: int) -> float:
    """Return half of a band's width where `depth` messages are pending, in pixels."""
    return 3.5 + 2.0 * min(depth, _DEEPEST_QUEUE)


def lay_out(history: History, start: float, first: int = 0) -> Layout:
    """Lay a timeline out.

    Args:
        history: The replayed timeline.
        start: What times are relative to, in seconds since the epoch.
        first: Index of the test's first event. What began before it is drawn from the top.
    """
    events = history.events
    drawn = [i for i in range(first, len(events)) if not _is_request_without_app(events[i])]
    rows, breaks, height = _place_rows(events, drawn)
    messages = [
        event.message
        for i in drawn
        if (event := events[i]).message is not None and event.kind != "request"
    ]
    lanes, lane_width = _place_lanes([events[i] for i in drawn], messages)
    chart = Layout(
        history=history,
        start=start,
        first=first,
        rows=tuple(rows),
        breaks=tuple(breaks),
        lanes=lanes,
        lane_width=lane_width,
        width=APP_X + lane_width * len(lanes) + max(lane_width, _RIGHT_MARGIN),
        height=height,
        gutter=_gutter(rows, start),
        labels=Labels(messages),
        depths=_count_pending(events),
        lost=_count_lost(history),
        hidden=len(events) - first - len(drawn),
    )
    spans = _Spans(chart)
    for lane in lanes.values():
        lane.bands = spans.bands(lane.client_id)
        lane.tokens = spans.tokens(lane.client_id)
    return chart


class _Spans:
    """Where connections and tokens begin and end, in pixels."""

    def __init__(self, chart: Layout) -> None:
        self._chart = chart
        self._events = chart.history.events
        self._ys: dict[int, float] = {}
        for row in chart.rows:
            self._ys.update(dict.fromkeys(range(row.index, row.index + row.count), row.y))

    def bands(self, client_id: str) -> list[Band]:
        """Return a client's connections, as far as they are drawn."""
        return [
            self._band(client_id, one)
            for one in self._chart.history.connections.get(client_id, ())
            if one.last is None or one.last >= self._chart.first
        ]

    def tokens(self, client_id: str) -> list[TokenBar]:
        """Return a client's tokens, side by side where they overlap."""
        bars: list[TokenBar] = []
        for index, event in enumerate(self._events):
            own = event.kind == "create" and event.client_id == client_id
            token = _tokens.read(event.token) if own else None
            if token is None:
                continue
            end = self._end_of_token(index, token.expires)
            top = self._ys.get(index, 0.0)
            bottom = self._chart.height if end is None else end
            if bottom <= 0:  # expired before the first row
                continue
            column = sum(bar.bottom > top for bar in bars) % _TOKEN_COLUMNS
            title = self._token_title(index, token.expires)
            bars.append(TokenBar(top, bottom, end is not None, column, title))
        return bars

    def _band(self, client_id: str, connection: Connection) -> Band:
        chart = self._chart
        last = connection.last
        steps = [(0.0 if connection.first is None else self._ys.get(connection.first, 0.0), 0)]
        for index in range(connection.first or 0, len(self._events) if last is None else last):
            if index in chart.depths and self._events[index].client_id in (client_id, None):
                y = self._ys.get(index, 0.0)
                if steps[-1][0] == y:
                    steps.pop()
                steps.append((y, chart.depths[index]))
        bottom = chart.height if last is None else self._ys.get(last, 0.0)
        return Band(tuple(steps), bottom, self._band_title(connection))

    def _band_title(self, connection: Connection) -> str:
        begin = f"connected at {formatting.format_offset(connection.since, self._chart.start)}"
        if connection.first is None:
            begin += ", before this test"
        if connection.last is None:
            return f"{begin}, still connected at the end"
        return f"{begin}, {self._events[connection.last].kind} at {self._time(connection.last)}"

    def _end_of_token(self, index: int, expires: int) -> float | None:
        """Return a place just below the last row before a token's end; None if not drawn."""
        before = self._ys.get(index, 0.0)
        for row in self._chart.rows:
            if row.index > index:
                if row.event.at >= expires:
                    return before + min((row.y - before) / 2, 0.7 * ROW) if before else 0.0
                before = row.y
        return None

    def _token_title(self, index: int, expires: int) -> str:
        token = formatting.format_token(self._events[index].token or "")
        end = formatting.format_offset(expires, self._chart.start)
        return f"{token}\nmade at {self._time(index)}, valid until {end}"

    def _time(self, index: int) -> str:
        return formatting.format_offset(self._events[index].at, self._chart.start)


def _gutter(rows: Sequence[Row], start: float) -> float:
    longest = max((len(formatting.format_offset(row.event.at, start)) for row in rows), default=0)
    return 18.0 + _DIGIT * longest


def _is_request_without_app(event: Event) -> bool:
    return event.kind == "request" and event.outcome == "no app"


def _place_rows(
    events: Sequence[Event], drawn: Sequence[int]
) -> tuple[list[Row], list[Break], float]:
    """Return the rows, the breaks between them, and the height of all."""
    rows: list[Row] = []
    breaks: list[Break] = []
    y, instant = _TOP, 0
    for index in drawn:
        event = events[index]
        if rows and _shares_row(rows[-1], index, event):
            last = rows[-1]
            rows[-1] = Row(last.index, last.event, last.y, last.count + 1, last.instant)
            continue
        if rows:
            passed = event.at - events[rows[-1].index + rows[-1].count - 1].at
            instant += passed != 0
            y += ROW + _gap(passed)
            if not 0 <= passed <= _LONGEST_DRAWN:
                breaks.append(Break(y - ROW / 2 - _gap(passed) / 2, passed))
        rows.append(Row(index, event, y, 1, instant))
    return rows, breaks, y + ROW + _TOP


def _shares_row(row: Row, index: int, event: Event) -> bool:
    """Whether a poll that found nothing goes into the row of the polls just before it."""
    return (
        event.kind in ("poll", "refresh")
        and row.event.kind == event.kind
        and row.event.client_id == event.client_id
        and row.index + row.count == index
        and 0 <= event.at - row.event.at <= _LONGEST_DRAWN
    )


def _gap(passed: float) -> float:
    if not 0 <= passed <= _LONGEST_DRAWN:
        return _BREAK
    return 0.0 if not passed else min(34.0, 5.0 + 7.0 * math.log2(1 + passed))


def _place_lanes(events: Sequence[Event], messages: Sequence[str]) -> tuple[dict[str, Lane], float]:
    # A call that was turned down may name a client that cannot exist.
    named = [event for event in events if event.client_id is not None and event.kind != "refuse"]
    names = dict.fromkeys(event.client_id or "" for event in named)
    longest = max((columns(readable(message)) for message in messages), default=0)
    wanted = max(_NARROWEST_LANE + 40, min(_WIDEST_LANE, LETTER * longest + _BESIDE_LABEL))
    lane_width = max(_NARROWEST_LANE, min(wanted, _ALL_LANES / max(1, len(names))))
    lanes = {
        name: Lane(name, APP_X + lane_width * place) for place, name in enumerate(names, start=1)
    }
    for event in named:
        lane = lanes[event.client_id or ""]
        lane.sent += event.kind == "send"
        lane.dropped += event.kind == "drop"
    return lanes, lane_width


def _count_lost(history: History) -> Counter[int]:
    """Return how many messages each event made lost."""
    outcomes = history.outcomes.values()
    return Counter(one.index for one in outcomes if one.index is not None and one.kind != "read")


def _count_pending(events: Sequence[Event]) -> dict[int, int]:
    """Return how many messages are pending after each event that changes their number."""
    depths: dict[int, int] = {}
    pending: Counter[str | None] = Counter()
    for index, event in enumerate(events):
        if event.kind == "send":
            pending[event.client_id] += 1
        elif event.kind == "read":
            pending[event.client_id] = max(0, pending[event.client_id] - 1)
        elif event.kind == "reset":
            pending.clear()
        elif event.kind in ("clear", *ENDS):
            pending[event.client_id] = 0
        else:
            continue
        depths[index] = pending[event.client_id]
    return depths
