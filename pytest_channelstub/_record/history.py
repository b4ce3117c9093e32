"""What became of every message and connection, derived from the timeline alone."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_channelstub._record.timeline import Event, Snapshot

PENDING = "pending"
TAKEN = "taken"

# The kinds of event in which a client is heard of, unless it is `pop_first_message`.
_HEARD = ("refresh", "poll", "read")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message that reached a queue."""

    kind: str = PENDING  # `pending`, `taken`, or the kind of the event that did it
    index: int | None = None  # that event; None while pending, or where none is recorded


@dataclass(slots=True)
class Connection:
    """A time for which a client was connected; its events by their indexes."""

    first: int | None  # in which it connected; None where it did before this test
    heard: int | None  # in which the client was last heard of
    last: int | None = None  # in which it ended; None while it lasts
    since: float = 0.0  # when it connected, in seconds since the epoch


@dataclass(slots=True)
class History:
    """A timeline, replayed; messages by the indexes of their events."""

    events: tuple[Event, ...]
    outcomes: dict[int, Outcome] = field(default_factory=dict)  # of messages that were queued
    connections: dict[str, list[Connection]] = field(default_factory=dict)  # by client, in order
    queues: dict[str, deque[int]] = field(default_factory=dict)  # by client: what is pending

    def connection(self, client_id: str) -> Connection | None:
        """A client's last connection."""
        connections = self.connections.get(client_id)
        return connections[-1] if connections else None

    def around(self, client_id: str, index: int) -> tuple[Connection | None, Connection | None]:
        """A client's last connection before event `index`, and its first one after it."""
        own = self.connections.get(client_id, [])
        count = bisect_left(own, index, key=lambda each: -1 if each.first is None else each.first)
        return (own[count - 1] if count else None), (own[count] if count < len(own) else None)

    def _apply(self, index: int, event: Event) -> None:
        client_id = event.client_id or ""
        connection = self.connection(client_id)
        match event.kind:
            case "connect":
                self._connect(client_id, Connection(index, index, since=event.at))
            case "send":
                self.outcomes[index] = Outcome()
                self.queues.setdefault(client_id, deque()).append(index)
            case "read":
                self._read(client_id, index, event.message)
            case "clear":
                self._empty(client_id, Outcome(event.kind, index))
            case "reset":
                for each in [*self.queues]:
                    self._empty(each, Outcome(event.kind, index))
            case "timeout" | "close" | "disconnect" if connection and connection.last is None:
                connection.last = index
                self._empty(client_id, Outcome(event.kind, index))
        if event.kind in _HEARD and connection and event.outcome != "pop":
            connection.heard = index

    def _connect(self, client_id: str, connection: Connection) -> None:
        self.connections.setdefault(client_id, []).append(connection)
        self.queues[client_id] = deque()

    def _read(self, client_id: str, index: int, message: str | None) -> None:
        # A test that holds the live list may have taken messages out of it unseen.
        queue = self.queues.get(client_id, ())
        sent = next((each for each in queue if self.events[each].message == message), None)
        if sent is not None:
            self.outcomes[sent] = Outcome("read", index)
            self.queues[client_id].remove(sent)

    def _empty(self, client_id: str, outcome: Outcome) -> None:
        self.outcomes.update(dict.fromkeys(self.queues.pop(client_id, ()), outcome))

    def _take_out(self, client_id: str, messages: Sequence[object]) -> None:
        left = Counter(str.__str__(one) for one in messages if isinstance(one, str))
        pending: deque[int] = deque()
        # Where messages are alike, the first were taken, as a poll would have.
        for index in reversed(self.queues.get(client_id, ())):
            message = self.events[index].message or ""
            left[message] -= 1
            if left[message] < 0:
                self.outcomes[index] = Outcome(TAKEN)
            else:
                pending.appendleft(index)
        self.queues[client_id] = pending


def replay(snapshot: Snapshot) -> History:
    """Derive the history of a timeline."""
    history = History(snapshot.events)
    for client_id, since in snapshot.carried.items():
        history._connect(client_id, Connection(None, None, since=since))
    for index, event in enumerate(history.events):
        history._apply(index, event)
    for client_id, messages in snapshot.live_lists.items():
        history._take_out(client_id, messages)
    return history
