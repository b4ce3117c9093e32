"""What became of every message and connection, derived from the timeline alone."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_channelstub._record.timeline import Event, Snapshot

ENDS = ("timeout", "close", "disconnect")
"""The kinds of event that end a connection, and its queue with it."""

PENDING = "pending"
TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message that reached a queue.

    Attributes:
        kind: `pending`, `taken`, `read`, `clear`, `reset`, or one of `ENDS`.
        index: The event that did it; None while pending, or where no event is recorded.
    """

    kind: str = PENDING
    index: int | None = None


@dataclass(slots=True)
class Connection:
    """A time for which a client was connected.

    Attributes:
        first: Index of its connect event; None where it connected before this test.
        heard: Index of the last event in which the client was heard of.
        last: Index of the event that ended it; None while it lasts.
        since: When it connected, in seconds since the epoch.
    """

    first: int | None
    heard: int | None
    last: int | None = None
    since: float = 0.0


@dataclass(slots=True)
class History:
    """A timeline, replayed.

    Attributes:
        events: As they happened.
        outcomes: What became of each message that was queued, by the index of its event.
        connections: Of each client, in order.
        queues: Of each client, the indexes of the messages that are pending at the end.
    """

    events: tuple[Event, ...]
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    connections: dict[str, list[Connection]] = field(default_factory=dict)
    queues: dict[str, deque[int]] = field(default_factory=dict)

    def connection(self, client_id: str, before: int | None = None) -> Connection | None:
        """A client's last connection; of those begun before event `before`, if given."""
        begun = reversed(self.connections.get(client_id, ()))
        return next(
            (one for one in begun if before is None or (one.first is None or one.first < before)),
            None,
        )

    def next_connection(self, client_id: str, after: int) -> Connection | None:
        """A client's first connection begun after event `after`."""
        begun = self.connections.get(client_id, ())
        return next((one for one in begun if one.first is not None and one.first > after), None)


def replay(snapshot: Snapshot) -> History:
    """Derive the history of a timeline."""
    history = History(snapshot.events)
    for client_id, since in snapshot.carried.items():
        history.connections[client_id] = [Connection(None, None, since=since)]
        history.queues[client_id] = deque()
    for index, event in enumerate(history.events):
        step = _STEPS.get(event.kind)
        if step is not None:
            step(history, index, event)
    for client_id, messages in snapshot.live_lists.items():
        _take_out(history, client_id, messages)
    return history


def _connect(history: History, index: int, event: Event) -> None:
    client_id = event.client_id or ""
    history.connections.setdefault(client_id, []).append(Connection(index, index, since=event.at))
    history.queues[client_id] = deque()


def _hear(history: History, index: int, event: Event) -> None:
    connection = history.connection(event.client_id or "")
    if connection is not None:
        connection.heard = index


def _send(history: History, index: int, event: Event) -> None:
    history.outcomes[index] = Outcome()
    history.queues.setdefault(event.client_id or "", deque()).append(index)


def _read(history: History, index: int, event: Event) -> None:
    if event.outcome != "pop":
        _hear(history, index, event)
    queue = history.queues.get(event.client_id or "", ())
    # A test that holds the live list may have taken messages out of it unseen.
    for sent in queue:
        if history.events[sent].message == event.message:
            history.outcomes[sent] = Outcome("read", index)
            history.queues[event.client_id or ""].remove(sent)
            return


def _end(history: History, index: int, event: Event) -> None:
    connection = history.connection(event.client_id or "")
    if connection is not None and connection.last is None:
        connection.last = index
        _empty(history, index, event)


def _empty(history: History, index: int, event: Event) -> None:
    for sent in history.queues.pop(event.client_id or "", ()):
        history.outcomes[sent] = Outcome(event.kind, index)


def _reset(history: History, index: int, event: Event) -> None:
    for queue in history.queues.values():
        for sent in queue:
            history.outcomes[sent] = Outcome(event.kind, index)
        queue.clear()


def _take_out(history: History, client_id: str, messages: Sequence[object]) -> None:
    left = Counter(str.__str__(one) for one in messages if isinstance(one, str))
    pending: deque[int] = deque()
    # Where messages are alike, the first were taken, as a poll would have.
    for index in reversed(history.queues.get(client_id, ())):
        message = str.__str__(history.events[index].message or "")
        left[message] -= 1
        if left[message] < 0:
            history.outcomes[index] = Outcome(TAKEN)
        else:
            pending.appendleft(index)
    history.queues[client_id] = pending


_STEPS: dict[str, Callable[[History, int, Event], None]] = {
    "connect": _connect,
    "refresh": _hear,
    "poll": _hear,
    "send": _send,
    "read": _read,
    "clear": _empty,
    "reset": _reset,
    **dict.fromkeys(ENDS, _end),
}
