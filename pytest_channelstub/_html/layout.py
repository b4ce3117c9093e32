"""Where everything in a timeline's picture stands: lanes side by side, time from top to bottom.

Lengths are in pixels, and times in seconds since the epoch.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from pytest_channelstub import _tokens
from pytest_channelstub._html.labels import Labels
from pytest_channelstub._record import formatting
from pytest_channelstub._record.history import replay

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_channelstub._record.history import Connection
    from pytest_channelstub._record.timeline import Event, Timeline

_place = itemgetter(0)
ROW = 26
APP_X = 28
LETTER = 5.9  # the width of a label's letter, on average
_DIGIT = 6.4  # the same in the column of times
_BESIDE_LABEL = 63  # what its messages' labels leave free of a lane
_WIDEST_LANE, _NARROWEST_LANE = 236, 122
_ALL_LANES = 1060
_RIGHT_MARGIN = 190
_TOP = 24
_BREAK = 40
BREAK_Y = -33  # a break's middle, seen from that of the row below
_LONGEST_DRAWN = 20  # seconds; a longer time without events is a break
_TOKEN_COLUMNS = 3
_QUEUE_KINDS = ("send", "read", "clear", "reset")


@dataclass(slots=True)
class Row:
    """One line of the picture: an event, or the first of several equal polls."""

    index: int
    event: Event
    y: int  # its middle
    break_before: float = 0.0  # seconds that are left out; negative where the clock was set back
    count: int = 1


class Band(NamedTuple):
    """A time during which a client was connected."""

    steps: list[tuple[int, int]]  # from which y on how many messages are pending; then the end
    title: str


class TokenBar(NamedTuple):
    """The time during which a token is valid."""

    top: int
    bottom: int
    column: int  # beside other tokens of the same time
    title: str


class Lane(NamedTuple):
    """A client, or an address that no client has."""

    client_id: str
    x: int  # its middle
    bands: list[Band]
    tokens: list[TokenBar]


class Layout:
    """A timeline's picture, before it is drawn."""

    def __init__(self, timeline: Timeline, first: int) -> None:
        self.start = timeline.start
        self.first = first
        self.history = replay(timeline._snapshot())
        self.events = self.history.events[first:]
        self.lost = Counter(  # how many messages an event made lost
            outcome.index
            for outcome in self.history.outcomes.values()
            if outcome.index is not None and outcome.index >= first and outcome.kind != "read"
        )
        self.depths: dict[int, int] = {}  # how many messages are pending after an event
        # By client, each with its index; those that concern all clients have none.
        self._queue_events: dict[str | None, list[tuple[int, Event]]] = defaultdict(list)
        self._tokens: dict[str | None, list[tuple[int, Event]]] = defaultdict(list)
        for index, event in enumerate(self.history.events):
            if event.kind in _QUEUE_KINDS:
                self._queue_events[event.client_id].append((index, event))
            elif event.kind == "create":
                self._tokens[event.client_id].append((index, event))
        drawn = [
            (index, event)
            for index, event in enumerate(self.events, first)
            if event.kind != "request" or event.outcome != "no app"
        ]
        self.hidden = len(self.events) - len(drawn)
        self.labels = Labels(
            event.message
            for _, event in drawn
            if event.message is not None and event.kind != "request"
        )
        self.rows = _place_rows(drawn)
        self._is_forward = all(one.event.at <= two.event.at for one, two in pairwise(self.rows))
        self.instants = [list(rows) for _, rows in groupby(self.rows, lambda row: row.event.at)]
        self._ys = {
            index: row.y for row in self.rows for index in range(row.index, row.index + row.count)
        }
        self.height = (self.rows[-1].y if self.rows else _TOP) + ROW + _TOP
        times = [self.format_time(row.event.at) for row in self.rows]
        self.gutter = round(18 + _DIGIT * max(map(len, times), default=0))
        # A call that was turned down may name a client that cannot exist.
        names = dict.fromkeys(
            event.client_id
            for _, event in drawn
            if event.client_id is not None and event.kind != "refuse"
        )
        wanted = min(_WIDEST_LANE, LETTER * self.labels.longest + _BESIDE_LABEL)
        wanted = max(_NARROWEST_LANE + 40, wanted)
        available = _ALL_LANES / max(1, len(names))
        self.lane_width = round(max(_NARROWEST_LANE, min(wanted, available)))
        self.label_columns = int((self.lane_width - _BESIDE_LABEL) / LETTER)
        self.width = APP_X + self.lane_width * len(names) + max(self.lane_width, _RIGHT_MARGIN)
        self.lanes = {
            name: Lane(
                name,
                APP_X + self.lane_width * place,
                list(self._place_bands(name)),
                self._place_tokens(name),
            )
            for place, name in enumerate(names, start=1)
        }

    def format_time(self, at: float) -> str:
        """Return a time as the picture shows it: "+1.5 s"."""
        return formatting.format_offset(at, self.start)

    def _place_bands(self, client_id: str) -> Iterator[Band]:
        events = self.history.events
        own = list(heapq.merge(self._queue_events[client_id], self._queue_events[None], key=_place))
        for connection in self.history.connections.get(client_id, ()):
            if connection.last is not None and connection.last < self.first:
                continue
            begin = -1 if connection.first is None else connection.first
            end = len(events) if connection.last is None else connection.last
            depth = 0
            steps = {self._ys.get(begin, 0): depth}
            span = bisect_right(own, begin, key=_place), bisect_left(own, end, key=_place)
            for index, event in own[slice(*span)]:
                depth = {"send": depth + 1, "read": max(0, depth - 1)}.get(event.kind, 0)
                steps[self._ys.get(index, 0)] = self.depths[index] = depth
            bottom = self._ys.get(end, self.height)
            yield Band([*steps.items(), (bottom, 0)], self._describe_connection(connection))

    def _describe_connection(self, connection: Connection) -> str:
        begin = f"connected at {self.format_time(connection.since)}"
        if connection.first is None:
            begin += ", before this test"
        if connection.last is None:
            return f"{begin}, still connected at the end"
        end = self.history.events[connection.last]
        return f"{begin}, {end.kind} at {self.format_time(end.at)}"

    def _place_tokens(self, client_id: str) -> list[TokenBar]:
        bars: list[TokenBar] = []
        valid: list[TokenBar] = []  # at the time of the token
        for index, event in self._tokens[client_id]:
            token = _tokens.read(event.token)
            if token is None:
                continue
            top = self._ys.get(index, 0)
            later = bisect_right(self.rows, index, key=lambda row: row.index)
            bottom = self._find_end(token.expires, later)
            if bottom < _TOP:  # expired before the first row
                continue
            valid = [bar for bar in valid if bar.bottom > top]
            column = len(valid) % _TOKEN_COLUMNS
            made, end = self.format_time(event.at), self.format_time(token.expires)
            title = (
                f"{formatting.format_token(event.token or '')}\nmade at {made}, valid until {end}"
            )
            valid.append(TokenBar(top, bottom, column, title))
            bars.append(valid[-1])
        return bars

    def _find_end(self, expires: float, first: int) -> int:
        """Where a token expires, that was made before row `first`."""
        rows = self.rows
        if self._is_forward:
            found = bisect_left(rows, expires, first, key=lambda row: row.event.at)
        else:
            later = range(first, len(rows))
            found = next((place for place in later if rows[place].event.at >= expires), len(rows))
        return rows[found].y - ROW // 2 if found < len(rows) else self.height


def _place_rows(drawn: Iterable[tuple[int, Event]]) -> list[Row]:
    rows: list[Row] = []
    before = 0.0  # when the last event was
    for index, event in drawn:
        elapsed, before = event.at - before, event.at
        if not rows:
            rows.append(Row(index, event, _TOP))
        elif _shares_row(rows[-1], index, event):
            rows[-1].count += 1
        elif 0 <= elapsed <= _LONGEST_DRAWN:
            space = round(5 + 7 * math.log2(1 + elapsed)) if elapsed else 0
            rows.append(Row(index, event, rows[-1].y + ROW + space))
        else:
            rows.append(Row(index, event, rows[-1].y + ROW + _BREAK, elapsed))
    return rows


def _shares_row(row: Row, index: int, event: Event) -> bool:
    """Whether a poll that found nothing goes into the row of the polls just before it."""
    return (
        event.kind in ("poll", "refresh")
        and (row.event.kind, row.event.client_id) == (event.kind, event.client_id)
        and row.index + row.count == index
        and 0 <= event.at - row.event.at <= _LONGEST_DRAWN
    )
