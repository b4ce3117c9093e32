"""Who is connected, what is pending for them, and when they time out.

Plain data, and functions that prepare changes to it. A change is a list of operations,
each a single call of a built-in, and `State.commit` makes all of them in one call that
Python cannot interrupt: neither a finalizer or a signal handler, which may call the stub
again, nor an exception from outside, such as Ctrl-C, finds a change half done.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import operator
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_channelstub._record.timeline import Kind, Row

if TYPE_CHECKING:
    from pytest_channelstub._record.timeline import Source, Timeline
    from pytest_channelstub._service.delivery import Outbox, Outgoing

Operation = Callable[[], object]
Change = list[Operation]

_later: Callable[..., Operation] = functools.partial
_call: Callable[[Operation], object] = operator.call
# Below this many timers, the cancelled ones cost less than a sweep.
_SWEEP_FROM = 64


@dataclass(slots=True, eq=False)
class Timer:
    """When a client is disconnected, if nothing happens before.

    Attributes:
        due: Microseconds since the epoch; None once it has run or was cancelled.
        order: Its place among the timers that are due at the same time.
        client_id: Whose it is.
        cause: Why it disconnects the client, in a few words; empty for its time-out.
    """

    due: int | None
    order: int
    client_id: str
    cause: str = ""


@dataclass(slots=True, eq=False)
class Client:
    """What is known of a client id.

    Attributes:
        queue: The pending messages, oldest first; None while not connected. A list, once
            somebody holds it as a live list, where pops and later messages show.
        since: When it connected: microseconds since the epoch, and its place among others.
        timers: Its time-out first; those of `add_disconnect_event` too.
        leases: Until when it is kept alive (microseconds since the epoch), by holder.
    """

    queue: deque[str] | list[str] | None = None
    since: tuple[int, int] = (0, 0)
    timers: tuple[Timer, ...] = ()
    leases: dict[object, int] = field(default_factory=dict)


_UNKNOWN = Client()


class State:
    """The state of one stub.

    Args:
        timeline: Takes the events.
        outbox: Takes the requests to the app.
        timeout: How long a client stays connected without a sign of life, in microseconds.

    Attributes:
        clients: By client id.
        epoch: Counts the tests; what belongs to an earlier one changes nothing.
        now: When the last step was, in microseconds since the epoch.
    """

    def __init__(self, timeline: Timeline, outbox: Outbox, timeout: int) -> None:
        self.clients: dict[str, Client] = {}
        self.epoch = 0
        self.now = 0
        self._timeline = timeline
        self._outbox = outbox
        self._timeout = timeout
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()
        self._version = [0]

    # Reading.

    def queue(self, client_id: str) -> deque[str] | list[str] | None:
        """The pending messages of a client; None if it is not connected."""
        client = self.clients.get(client_id)
        return None if client is None else client.queue

    def connected(self) -> list[str]:
        """The connected clients, in the order in which they connected."""
        found = [
            (client.since[1], client_id)
            for client_id, client in self.clients.copy().items()
            if client.queue is not None
        ]
        return [client_id for _, client_id in sorted(found)]

    def carried(self) -> dict[str, int]:
        """The connected clients, and since when, in microseconds since the epoch."""
        return {client_id: self.clients[client_id].since[0] for client_id in self.connected()}

    def next_due(self) -> int | None:
        """When the first timer is due, in microseconds since the epoch."""
        timers = self._timers
        while timers:
            due, order, timer = timers[0]
            if timer.due is None:
                heapq.heappop(timers)
            elif (due, order) != (timer.due, timer.order):  # it was postponed
                heapq.heapreplace(timers, (timer.due, timer.order, timer))
            else:
                return due
        return None

    def is_due(self, now: int) -> bool:
        """Whether a timer is due."""
        timers = self._timers
        if not timers or timers[0][0] > now:  # a postponed timer's entry is too early, never late
            return False
        due = self.next_due()
        return due is not None and due <= now

    def deadline(self, now: int, client_id: str) -> int:
        """When a client times out that gives a sign of life now."""
        return self._deadline(now, self.clients.get(client_id, _UNKNOWN))

    def first_timer(self) -> Timer | None:
        """The first timer to run."""
        return None if self.next_due() is None else self._timers[0][2]

    # Changing.

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._version[0]

    def commit(self, version: int, change: Iterable[Operation]) -> bool:
        """Make a change, whole.

        Args:
            version: Of the state that the change was prepared for.
            change: What to do.

        Returns:
            False if the state has changed since, and nothing was done.
        """
        operations: Iterable[Operation] = itertools.chain(
            (_later(self._version.remove, version),),
            change,
            (_later(self._version.append, version + 1),),
        )
        try:
            # All of it runs in C, within this one call.
            deque(map(_call, operations), maxlen=0)
        except ValueError:
            if self._version:
                return False
            self._version.append(version + 1)
            raise
        return True

    def record(self, row: Row) -> Operation:
        """Add an event to the timeline."""
        return _later(self._timeline._rows.append, row)

    def request(self, outgoing: Outgoing | None, row: Row) -> Change:
        """Add an event, and the request to the app that follows from it."""
        if outgoing is None:
            return [self.record(row)]
        return [
            self.record(row._replace(answer=outgoing)),
            self.record(
                Row(row.at, "request", row.client_id, message=outgoing.url, answer=outgoing,
                    source=row.source)
            ),
            *self._outbox.put(outgoing),
        ]  # fmt: skip

    def connect(  # noqa: PLR0913 (what its event tells)
        self,
        now: int,
        client_id: str,
        token: str,
        source: Source | None,
        outgoing: Outgoing | None,
        *,
        is_timed: bool,
    ) -> Change:
        """Connect a client that is not connected."""
        client, change = self._client(client_id)
        timer = self.add_timer(now, client_id, client) if is_timed else []
        return [
            *change,
            _later(setattr, client, "queue", deque()),
            _later(setattr, client, "since", (now, next(self._order))),
            *timer,
            *self.request(outgoing, Row(now, "connect", client_id, token, source=source)),
        ]

    def refresh(self, now: int, client_id: str) -> Change:
        """Put a client's time-out off to two seconds from now, or from its leases' end."""
        client = self.clients.get(client_id)
        if client is None or not client.timers:
            return []
        return self._reschedule(client.timers[0], self._deadline(now, client))

    def end(  # noqa: PLR0913, PLR0917 (what its event tells)
        self,
        kind: Kind,
        now: int,
        client_id: str,
        source: Source | None,
        outgoing: Outgoing | None,
        note: str = "",
        timer: Timer | None = None,
        token: str | None = None,
        holder: object = None,
    ) -> Change:
        """Disconnect a client, connected or not; what is pending for it is lost.

        Args:
            kind: `close`, `disconnect` or `timeout`.
            now: Microseconds since the epoch.
            client_id: The client.
            source: The line that caused it.
            outgoing: The request to the app that follows.
            note: Stands before the outcome.
            timer: The timer that has run; the others are cancelled too, without one.
            token: Of the client that closed its channel.
            holder: Of the lease that ends with it.
        """
        client = self.clients.get(client_id, _UNKNOWN)
        outcome = "was not connected" if client.queue is None else f"{len(client.queue)} unread"
        ended = client.timers if timer is None else (timer,)
        left = tuple(each for each in client.timers if each not in ended)
        change = [_later(setattr, each, "due", None) for each in ended]
        if left or any(each is not holder for each in client.leases):
            change += [
                _later(setattr, client, "queue", None),
                _later(setattr, client, "timers", left),
                _later(client.leases.pop, holder, None),
            ]
        else:
            change += [_later(self.clients.pop, client_id, None)]
        row = Row(now, kind, client_id, token, outcome=note + outcome, source=source)
        return [*change, *self.request(outgoing, row), *self._sweep()]

    def add_timer(
        self, now: int, client_id: str, client: Client | None = None, cause: str = ""
    ) -> Change:
        """Have a client disconnected two seconds from now, or from its leases' end."""
        change: Change = []
        if client is None:
            client, change = self._client(client_id)
        timer = Timer(self._deadline(now, client), next(self._order), client_id, cause)
        return [
            *change,
            _later(setattr, client, "timers", (*client.timers, timer)),
            _later(heapq.heappush, self._timers, (timer.due, timer.order, timer)),
        ]

    def begin_lease(self, now: int, client_id: str, holder: object, expires: int) -> Change:
        """Keep a client alive until its token expires, or the lease ends."""
        client, change = self._client(client_id)
        change.append(_later(client.leases.__setitem__, holder, expires))
        if client.timers:
            due = max(self._deadline(now, client), expires + self._timeout)
            change += self._reschedule(client.timers[0], due)
        return change

    def end_lease(self, now: int, client_id: str, holder: object) -> Change:
        """Keep a client alive no longer; it has two seconds from now."""
        client = self.clients.get(client_id)
        if client is None or holder not in client.leases:
            return []
        change: Change = [_later(client.leases.pop, holder, None)]
        others = [expires for each, expires in client.leases.items() if each is not holder]
        if client.timers and client.leases[holder] > now:
            due = max(now, *others) if others else now
            change += self._reschedule(client.timers[0], due + self._timeout)
        if client.queue is None and not client.timers and not others:
            change.append(_later(self.clients.pop, client_id, None))
        return change

    def go_back(self, now: int) -> Change:
        """The clock was set back: a client has two seconds from there at most."""
        change: Change = []
        for client in self.clients.copy().values():
            latest = self._deadline(now, client)
            for timer in client.timers:
                if timer.due is not None and timer.due > latest:
                    change += self._reschedule(timer, latest)
        return change

    def clear(self, client_id: str, row: Row) -> Change:
        """Empty a client's queue; a live list that somebody holds is left as it is."""
        return [_later(setattr, self.clients[client_id], "queue", deque()), self.record(row)]

    def clear_all(self) -> Change:
        """Empty every queue."""
        connected = [each for each in self.clients.copy().values() if each.queue is not None]
        return [_later(setattr, client, "queue", deque()) for client in connected]

    def forget_clients(self) -> Change:
        """As new: nobody is connected or kept alive, and the app does not hear of it."""
        return [_later(self.clients.clear), _later(self._timers.clear)]

    def _client(self, client_id: str) -> tuple[Client, Change]:
        """A client, and what adds it to the clients where it is new."""
        client = self.clients.get(client_id)
        if client is not None:
            return client, []
        client = Client()
        return client, [_later(self.clients.__setitem__, client_id, client)]

    def _deadline(self, now: int, client: Client) -> int:
        return max((now, *client.leases.values())) + self._timeout

    def _reschedule(self, timer: Timer, due: int) -> Change:
        order = next(self._order)
        change: Change = [
            _later(setattr, timer, "due", due),
            _later(setattr, timer, "order", order),
        ]
        # A timer that is due later keeps its entry, which moves when it comes up.
        if timer.due is not None and due < timer.due:
            change.append(_later(heapq.heappush, self._timers, (due, order, timer)))
        return change

    def _sweep(self) -> Change:
        """Throw the cancelled timers away, once they are many."""
        if len(self._timers) < _SWEEP_FROM + 2 * len(self.clients):
            return []
        left = [
            (timer.due, timer.order, timer)
            for client in self.clients.copy().values()
            for timer in client.timers
            if timer.due is not None
        ]
        return [_later(self._timers.__setitem__, slice(None), sorted(left))]


def live_lists(clients: dict[str, Client]) -> dict[str, tuple[str, ...]]:
    """What is in the live lists that somebody holds, by client id."""
    return {
        client_id: tuple(client.queue)
        for client_id, client in clients.copy().items()
        if isinstance(client.queue, list)
    }
