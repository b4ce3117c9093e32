"""What happened to a stub, in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import CodeType
from typing import ClassVar, Literal, NamedTuple, Protocol, get_args, overload

from pytest_channelstub import _tokens
from pytest_channelstub._record import formatting, outcomes
from pytest_channelstub._record.formatting import format_source
from pytest_channelstub._record.frames import hide_frame

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

Kind = Literal[
    "create", "connect", "refresh", "poll", "send", "drop", "read", "clear", "close",
    "disconnect", "timeout", "request", "error", "reject", "refuse", "reset",
]  # fmt: skip
"""The kinds of event that a timeline holds."""

KINDS: tuple[Kind, ...] = get_args(Kind)

THIS_TEST = "in this test"

MICROSECONDS = 1_000_000
"""How many a second has: time is whole microseconds inside, and floats at the border."""

Source = tuple[CodeType, int]
"""A line of code, cheap to keep: the code object and the line's number."""


class Answer(Protocol):
    """What the app has answered to a request so far."""

    @property
    def outcome(self) -> str: ...  # in a few words
    @property
    def is_answered(self) -> bool: ...  # whether nothing more is to come


class Row(NamedTuple):
    """An event as it is kept; the names are those of `Event`."""

    at: int  # microseconds since the epoch
    kind: Kind
    client_id: str | None = None
    token: str | None = None
    message: str | None = None
    outcome: str | int = ""  # a number of messages or a second as an int
    source: Source | None = None
    answer: Answer | None = None  # to the request to the app that follows from it


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    `str(event)` is the event as one line, such as
    ``drop 2020-01-01T00:00:01.500Z alice 'hi'``.

    Example:
        >>> event = stub.timeline[-1]

    Attributes:
        at: When, in seconds since the epoch.
        kind: `create`, `connect`, `refresh`, `poll`, `send`, `drop`, `read`, `clear`,
            `close`, `disconnect`, `timeout`, `request`, `error`, `reject`, `refuse` or `reset`.
        client_id: Whose event it is. A message to a valid token is its client's; the
            address is in `token`.
        token: The token that was made or used, where there was one.
        message: The message; for a request to the app, its path.
        outcome: What came of it, in a few words; often empty.
        source: The line of the test or the app that caused it, such as
            ``chat.py:41 in notify``; empty where no line did.
    """

    at: float
    kind: Kind
    client_id: str | None = None
    token: str | None = None
    message: str | None = None
    outcome: str = ""
    source: str = ""

    def __str__(self) -> str:
        return formatting.format_event(self)

    def __repr__(self) -> str:
        return f"<Event {self}>"


class Snapshot(NamedTuple):
    """A timeline at one moment."""

    events: tuple[Event, ...]
    # What `get_channel_messages` has handed out: what a test takes out of it is no event.
    live_lists: Mapping[str, Sequence[object]]
    carried: Mapping[str, float]  # who was connected before this test, and since when


class Timeline(Sequence[Event]):
    """The events of one stub in this test, in the order in which they happened.

    `print(stub.timeline)` shows them as a failure does.

    Example:
        >>> stub.timeline.of("alice", kind="drop")
    """

    def __init__(self, start: float | None = None) -> None:
        self._start = start
        self._rows: list[Row] = []
        self._acknowledged: set[int] = set()
        self._carried: dict[str, float] = {}
        # What was pending for whom as the timeline began.
        self._emptied: dict[str, tuple[str, ...]] = {}
        # What the events tell of, in a sentence: "it did not connect in this test".
        self._span = THIS_TEST
        self._live_lists: Callable[[], Mapping[str, Sequence[object]]] = dict

    @property
    def start(self) -> float:
        """The time that a failure's times count from, in seconds since the epoch.

        The clock's start, where the clock is the stub's own; else the first event's
        time, as `@freeze_time` may move the process's time after the stub was built.
        """
        if self._start is not None:
            return self._start
        rows = self._rows
        return rows[0].at / MICROSECONDS if rows else 0.0

    def __repr__(self) -> str:
        return f"<Timeline of {formatting.plural(len(self._rows), 'event')}>"

    def __str__(self) -> str:
        return outcomes.format_record(self)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Event, ...]: ...

    def __getitem__(self, index: int | slice) -> Event | tuple[Event, ...]:
        if isinstance(index, slice):
            return tuple(map(to_event, self._rows[index]))
        return to_event(self._rows[index])

    def __iter__(self) -> Iterator[Event]:
        return map(to_event, self._rows.copy())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (Timeline, list, tuple)):
            return list(self) == list(other)
        return NotImplemented

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # it grows, and compares by what it holds

    def of(
        self, client_id: str | bytes | None = None, *, kind: Kind | None = None
    ) -> tuple[Event, ...]:
        """The events of one client, of one kind, or both.

        Args:
            client_id: A client id, or a token of it; None for everybody's events.
            kind: Which; None for every kind.

        Raises:
            TypeError: `client_id` is not text.
            ValueError: There is no such kind, or a kind was passed as a client id that
                nobody has: nothing would ever be found.
        """
        if kind is not None:
            check_kind(kind)
        rows, name = self._rows.copy(), None
        if client_id is not None:
            name = _tokens.text_or_none(client_id)
            if name is None:
                instead = "a client id or a token of it, as a str or its UTF-8 bytes"
                if isinstance(client_id, bytes):
                    instead += "; these bytes are not UTF-8"
                raise TypeError(formatting.describe_type("client_id", client_id, instead))
            is_known = any(row.client_id == name for row in rows)
            token = None if is_known else _tokens.read(name)
            meant = name if token is None else token.client_id
            rows = [row for row in rows if row.client_id == meant]
        if not rows and name in KINDS:
            message = f"{name!r} is a kind of event and not a client id: pass kind={name!r}"
            raise ValueError(message)
        return tuple(to_event(row) for row in rows if kind is None or row.kind == kind)

    def json_lines(self) -> str:
        """The events as JSON, a line each, for snapshots and other tools.

        The keys are the attributes of `Event`; `at` is in seconds since the epoch.
        """
        return "".join(f"{json.dumps(asdict(event))}\n" for event in self)

    def _snapshot(self) -> Snapshot:
        while True:
            rows, lists, carried = self._rows.copy(), self._live_lists(), self._carried
            if len(rows) == len(self._rows):  # no other thread has come in between
                return Snapshot(tuple(map(to_event, rows)), lists, carried)

    def _acknowledge(self, indexes: Iterable[int]) -> None:
        """Count the messages of some events as ones that the test knows of."""
        self._acknowledged.update(indexes)


def check_kind(kind: str) -> None:
    """Refuse a kind of event that does not exist."""
    if kind not in KINDS:
        message = f"there is no event of kind {kind!r}: pass one of {', '.join(KINDS)}"
        raise ValueError(message)


def to_event(row: Row) -> Event:
    outcome = row.answer.outcome if row.kind == "request" and row.answer else row.outcome
    return Event(
        row.at / MICROSECONDS,
        row.kind,
        row.client_id,
        row.token,
        row.message,
        _format_outcome(row.kind, outcome),
        format_source(row.source),
    )


def _format_outcome(kind: str, outcome: str | int) -> str:
    if kind == "create":
        return f"valid until {outcome}"
    return formatting.plural(outcome, "message") if isinstance(outcome, int) else outcome
