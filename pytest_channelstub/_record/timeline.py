"""What happened to a stub, in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import overload

# A failure points at the line of the test, not at ours.
__tracebackhide__ = True

KINDS = (
    "create", "connect", "refresh", "poll", "send", "drop", "read", "clear", "close",
    "disconnect", "timeout", "request", "error", "reject", "reset",
)  # fmt: skip
"""The kinds of event that a timeline holds."""

Row = tuple[float, str, str | None, str | None, str | None, object]
"""An event as it is kept: time, kind, client id, token, message, and what came of it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        at: When, in seconds since the epoch.
        kind: `create`, `connect`, `refresh`, `poll`, `send`, `drop`, `read`, `clear`,
            `close`, `disconnect`, `timeout`, `request`, `error`, `reject` or `reset`.
        client_id: Whose event it is; for a message, the address as it was sent to.
        token: The token that was made or used, where there was one.
        message: The message; for a request to the app, its path.
        outcome: What came of it, in a few words; often empty.
    """

    at: float
    kind: str
    client_id: str | None = None
    token: str | None = None
    message: str | None = None
    outcome: str = ""

    def __repr__(self) -> str:
        from pytest_channelstub._record import formatting as rendering  # noqa: PLC0415 (few events are shown)

        return f"<Event {rendering.one(self)}>"


class Timeline(Sequence[Event]):
    """The events of one stub, in the order in which they happened.

    Recording keeps a tuple; events are made of them when they are read.

    Example:
        >>> stub.timeline.of("alice", kind="drop")

    Attributes:
        expected: Indexes of the messages that an assertion has named.
        changing: Held by who changes a queue and records that.
        live_lists: Gives what is in the lists that `get_channel_messages` has handed out,
            by client id: what a test takes out of them itself is no event.
    """

    def __init__(self, start: float | None = None) -> None:
        self._start = start
        self.changing = threading.Lock()
        self.live_lists: Callable[[], Mapping[str, Sequence[object]]] = dict
        self.expected: set[int] = set()
        self._rows: list[Row] = []
        self._watchers: dict[str | None, list[threading.Event]] = {}
        self._lock = threading.Lock()

    @property
    def start(self) -> float:
        """What times are told relative to, in seconds since the epoch.

        The clock's start, where the clock is the stub's own; else the first event, as
        `@freeze_time` may move the process's time after the stub was built.
        """
        if self._start is None:
            return self._rows[0][0] if self._rows else 0.0
        return self._start

    def __repr__(self) -> str:
        return f"<Timeline of {len(self._rows)} events>"

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Event, ...]: ...

    def __getitem__(self, index: int | slice) -> Event | tuple[Event, ...]:
        if isinstance(index, slice):
            return tuple(_event(row) for row in self._rows[index])
        return _event(self._rows[index])

    def __iter__(self) -> Iterator[Event]:
        return (_event(row) for row in self._rows.copy())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (Timeline, list, tuple)):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it grows, and compares by what it holds

    def of(self, client_id: str | None = None, *, kind: str | None = None) -> tuple[Event, ...]:
        """The events of one client, of one kind, or both.

        Args:
            client_id: Whose; None for everybody's.
            kind: Which; None for every kind.

        Raises:
            ValueError: There is no such kind, or a kind was passed as a client id that
                nobody has: nothing would ever be found.
        """
        if kind is not None:
            check_kind(kind)
        rows = [row for row in self._rows.copy() if client_id is None or row[2] == client_id]
        if not rows and client_id in KINDS:
            message = f"{client_id!r} is a kind of event and no client id: pass kind={client_id!r}"
            raise ValueError(message)
        return tuple(_event(row) for row in rows if kind is None or row[1] == kind)

    def snapshot(self) -> tuple[tuple[Event, ...], Mapping[str, Sequence[object]]]:
        """The events, and what was in the `live_lists` at the same moment."""
        with self.changing:
            rows, lists = self._rows.copy(), self.live_lists()
        return tuple(map(_event, rows)), lists

    def record(self, row: Row) -> None:
        """Add an event, and wake who waits for it."""
        self._rows.append(row)
        if self._watchers:
            self._wake(row[2])

    def recording(
        self,
    ) -> tuple[Callable[[Row], None], Mapping[str | None, object], Callable[[str | None], None]]:
        """The parts of `record`, for who records at every call.

        Returns:
            What adds an event; what is true while somebody waits; and what is then to
            be called with the event's client id.
        """
        return self._rows.append, self._watchers, self._wake

    def expect(self, index: int) -> None:
        """Count the message of event `index` as one the test knows of."""
        self.expected.add(index)

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
        self.expected.clear()

    @contextmanager
    def watch(self, client_id: str | None = None) -> Iterator[threading.Event]:
        """Hand out a flag that is set at each event of a client (None: at every event)."""
        flag = threading.Event()
        with self._lock:
            self._watchers.setdefault(client_id, []).append(flag)
        try:
            yield flag
        finally:
            with self._lock:
                flags = self._watchers[client_id]
                flags.remove(flag)
                if not flags:
                    del self._watchers[client_id]

    def wake(self) -> None:
        """Set every flag that `watch` has handed out."""
        with self._lock:
            for flags in self._watchers.values():
                for flag in flags:
                    flag.set()

    def _wake(self, client_id: str | None) -> None:
        with self._lock:
            for flag in self._watchers.get(None, ()):
                flag.set()
            if client_id is not None:
                for flag in self._watchers.get(client_id, ()):
                    flag.set()


def check_kind(kind: str) -> None:
    """Refuse what is no kind of event.

    Raises:
        ValueError: It is none.
    """
    if kind not in KINDS:
        message = f"there is no event of kind {kind!r}: pass one of {', '.join(KINDS)}"
        raise ValueError(message)


def _event(row: Row) -> Event:
    at, kind, client_id, token, message, outcome = row
    return Event(at, kind, client_id, token, message, _told(kind, outcome))


def _told(kind: str, outcome: object) -> str:
    if kind == "create":
        return f"valid until {outcome}"
    if isinstance(outcome, int):
        return f"{outcome} message{'' if outcome == 1 else 's'}"
    return str(outcome)
