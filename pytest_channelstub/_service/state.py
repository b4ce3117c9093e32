"""Who is connected, what is pending for them, and when they time out.

A call is a `Step`. It reads the state and collects what to change, each a single call of
a built-in, and `State.commit` makes all of it in one call that Python cannot interrupt:
neither a finalizer or a signal handler, which may call the stub again, nor an exception
from outside, such as Ctrl-C, finds a step half done.
"""

from __future__ import annotations

import heapq
import itertools
import operator
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_channelstub._record.frames import hide_frame
from pytest_channelstub._record.timeline import Kind, Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_channelstub._record.timeline import Source, Timeline
    from pytest_channelstub._service.delivery import Outbox, Outgoing

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

_Result = TypeVar("_Result")
_consume = deque[object](maxlen=0).extend
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
        timers: Its time-out, and those of `add_disconnect_event`.
        leases: Until when it is kept alive (microseconds since the epoch), by holder.
    """

    queue: deque[str] | list[str] | None = None
    since: tuple[int, int] = (0, 0)
    timers: tuple[Timer, ...] = ()
    leases: dict[object, int] = field(default_factory=dict)

    def time_out(self) -> Timer | None:
        """The timer that a sign of life puts off."""
        return next((timer for timer in self.timers if not timer.cause), None)


class Step:
    """One call: what it changes, and the events that tell of it.

    Args:
        state: What it changes.
        version: Of the state that it is prepared for.
        now: When it is, in microseconds since the epoch.
        source: The line that caused it.

    Attributes:
        operations: What to do, in order: functions with their arguments.
        claims: What to do before them. The step is planned anew if that is a ValueError.
    """

    __slots__ = ("_state", "claims", "now", "operations", "source", "version")

    def __init__(self, state: State, version: int, now: int, source: Source | None = None) -> None:
        self.version = version
        self.now = now
        self.source = source
        self.operations: list[tuple[Any, ...]] = []
        self.claims: list[tuple[Any, ...]] = []
        self._state = state

    def do(self, operation: Callable[..., object], *arguments: object) -> None:
        """Have a built-in called when the step is committed."""
        self.operations.append((operation, *arguments))

    def take(self, queue: deque[str] | list[str], message: str) -> None:
        """Take a message out of a queue, unless a test has: it may hold the list."""
        self.claims.append((queue.remove, message))

    def postpone(self, function: Callable[..., object], *arguments: object) -> None:
        """Have code that is not ours called once the lock is released, in order."""
        self._state.outbox.postpone(self, function, *arguments)

    def record(  # noqa: PLR0913 (an event's parts)
        self,
        kind: Kind,
        client_id: str | None = None,
        *,
        token: str | None = None,
        message: str | None = None,
        outcome: str | int = "",
        outgoing: Outgoing | None = None,
    ) -> None:
        """Add an event, and the request to the app that follows from it, if one does."""
        row = Row(self.now, kind, client_id, token, message, outcome, self.source, outgoing)
        self.do(self._state.timeline._rows.append, row)
        if outgoing is not None:
            self.request(outgoing)

    def request(self, outgoing: Outgoing) -> None:
        """Add a request to the app, to be delivered when the lock is released."""
        row = Row(
            self.now, "request", outgoing.client_id, None, outgoing.url, "", self.source, outgoing
        )
        self.do(self._state.timeline._rows.append, row)
        self._state.outbox.put(self, outgoing)

    def client(self, client_id: str) -> Client:
        """A client to change; one that is new is added."""
        client = self._state.clients.get(client_id)
        if client is None:
            client = Client()
            self.do(self._state.clients.__setitem__, client_id, client)
        return client


class State:
    """The state of one stub.

    Args:
        timeline: Takes the events.
        outbox: Takes the requests to the app.
        timeout: How long a client stays connected without a sign of life, in microseconds.

    Attributes:
        clients: By client id.
        now: When the last step was, in microseconds since the epoch.
    """

    def __init__(self, timeline: Timeline, outbox: Outbox, timeout: int) -> None:
        self.timeline = timeline
        self.outbox = outbox
        self.clients: dict[str, Client] = {}
        self.now = 0
        self._timeout = timeout
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = itertools.count()
        self._version = [0]

    @property
    def version(self) -> int:
        """Grows with every step."""
        return self._version[0]

    def commit(self, step: Step) -> bool:
        """Make a step, whole; False, and nothing is done, if the state has changed meanwhile."""
        if not step.operations:
            return step.version == self.version
        has_claimed: list[bool] = []
        operations = [
            (self._version.remove, step.version),
            *step.claims,
            (has_claimed.append, True),
            *step.operations,
            (self._version.append, step.version + 1),
        ]
        try:
            # All of it runs in C, within this one call.
            _consume(itertools.starmap(operator.call, operations))
        except BaseException as error:
            if not self._version:
                self._version.append(step.version + len(has_claimed))
            if has_claimed or not isinstance(error, ValueError):
                raise
            return False
        return True

    def change(
        self,
        plan: Callable[..., _Result],
        arguments: tuple[object, ...] = (),
        settle: Callable[[], tuple[int, int]] | None = None,
        source: Source | None = None,
    ) -> _Result:
        """Make a step, planned anew until nothing has come in between; the lock is held.

        Args:
            plan: Called with the step and the arguments.
            arguments: For `plan`.
            settle: Gives the version of the state to plan for, and the time.
            source: The line that caused the step.

        Returns:
            What `plan` returns.
        """
        while True:
            version, now = (self.version, self.now) if settle is None else settle()
            step = Step(self, version, now, source)
            try:
                result = plan(step, *arguments)
            except Exception:
                if version == self.version:
                    raise
                # It saw a state that a finalizer or a signal handler has changed.
            else:
                if self.commit(step):
                    self.outbox.changed.notify_all()
                    return result

    # Reading.

    def queue(self, client_id: str | None) -> deque[str] | list[str] | None:
        """The pending messages of a client; None if it is not connected."""
        client = None if client_id is None else self.clients.get(client_id)
        return None if client is None else client.queue

    def connected(self) -> list[str]:
        """The connected clients, in the order in which they connected."""
        clients = self.clients.copy().items()
        found = [(each.since[1], name) for name, each in clients if each.queue is not None]
        return [client_id for _, client_id in sorted(found)]

    def deadline(self, now: int, client: Client) -> int:
        """When a client times out that gives a sign of life now."""
        return max((now, *client.leases.values())) + self._timeout

    def first_timer(self) -> tuple[int, Timer] | None:
        """The first timer to run, and when it is due, in microseconds since the epoch."""
        while True:
            mend = Step(self, self.version, 0)
            first = next(iter(self._timers), None)
            if first is None:
                return None
            due, order, timer = first
            if timer.due is None:
                mend.do(heapq.heappop, self._timers)
            elif (due, order) != (timer.due, timer.order):  # it was postponed
                mend.do(heapq.heapreplace, self._timers, (timer.due, timer.order, timer))
            else:
                return due, timer
            self.commit(mend)

    def is_due(self, now: int) -> bool:
        """Whether a timer is due; a postponed timer's place is too early, never too late."""
        first = next(iter(self._timers), None)
        if first is None or first[0] > now:
            return False
        timer = self.first_timer()
        return timer is not None and timer[0] <= now

    # Changing.

    def connect(
        self, step: Step, client_id: str, token: str, outgoing: Outgoing | None, *, is_timed: bool
    ) -> None:
        """Connect a client that is not connected, for two seconds or until another ends it."""
        client = step.client(client_id)
        if is_timed:
            self._add_timer(step, client_id, client)
        step.do(setattr, client, "queue", deque())
        step.do(setattr, client, "since", (step.now, next(self._order)))
        step.record("connect", client_id, token=token, outgoing=outgoing)

    def refresh(self, step: Step, client_id: str) -> None:
        """Put a client's time-out off to two seconds from now, or from its leases' end."""
        client = self.clients.get(client_id)
        timer = None if client is None else client.time_out()
        if client is not None and timer is not None:
            self._reschedule(step, timer, self.deadline(step.now, client))

    def add_timer(self, step: Step, client_id: str, cause: str = "") -> None:
        """Have a client disconnected two seconds from now, or from its leases' end."""
        self._add_timer(step, client_id, step.client(client_id), cause)

    def end(  # noqa: PLR0913 (an event's parts)
        self,
        step: Step,
        kind: Kind,
        client_id: str,
        outgoing: Outgoing | None,
        *,
        token: str | None = None,
        cause: str = "",
        timer: Timer | None = None,
        holder: object = None,
    ) -> None:
        """Disconnect a client, connected or not; what is pending for it is lost.

        Args:
            step: The call.
            kind: `close`, `disconnect` or `timeout`.
            client_id: The client.
            outgoing: The request to the app that follows.
            token: Of the client that closed its channel.
            cause: Stands before the outcome.
            timer: The timer that has run; without one, all of the client's are cancelled.
            holder: Of the lease that ends with it.
        """
        client = self.clients.get(client_id, _UNKNOWN)
        ended = client.timers if timer is None else (timer,)
        left = tuple(each for each in client.timers if each not in ended)
        for each in ended:
            step.do(setattr, each, "due", None)
        if left or any(each is not holder for each in client.leases):
            step.do(setattr, client, "queue", None)
            step.do(setattr, client, "timers", left)
            step.do(client.leases.pop, holder, None)
        else:
            step.do(self.clients.pop, client_id, None)
        outcome = "was not connected" if client.queue is None else f"{len(client.queue)} unread"
        step.record(kind, client_id, token=token, outcome=cause + outcome, outgoing=outgoing)
        self._sweep(step)

    def begin_lease(self, step: Step, client_id: str, holder: object, expires: int) -> None:
        """Keep a client alive until its token expires, or the lease ends."""
        client = step.client(client_id)
        step.do(client.leases.__setitem__, holder, expires)
        timer = client.time_out()
        if timer is not None:
            due = max(self.deadline(step.now, client), expires + self._timeout)
            self._reschedule(step, timer, due)

    def end_lease(self, step: Step, client_id: str, holder: object) -> None:
        """Keep a client alive no longer; it has two seconds from now."""
        client = self.clients.get(client_id)
        if client is None or holder not in client.leases:
            return
        step.do(client.leases.pop, holder, None)
        others = [expires for each, expires in client.leases.items() if each is not holder]
        timer = client.time_out()
        if timer is not None and client.leases[holder] > step.now:
            self._reschedule(step, timer, max((step.now, *others)) + self._timeout)
        if client.queue is None and not client.timers and not others:
            step.do(self.clients.pop, client_id, None)

    def go_back(self, step: Step, now: int) -> None:
        """The clock was set back to `now`: a client has two seconds from there at most."""
        step.do(setattr, self, "now", now)  # a step that is planned for a later time is made anew
        late = [
            (timer.due, timer.order, timer, latest)
            for client in self.clients.copy().values()
            for latest in [self.deadline(now, client)]
            for timer in client.timers
            if timer.due is not None and timer.due > latest
        ]
        for _, _, timer, latest in sorted(late):
            self._reschedule(step, timer, latest)

    def clear(self, step: Step) -> int:
        """Empty every queue; a live list that somebody holds is left as it is.

        Returns:
            How many messages are lost.
        """
        lost = 0
        for client in self.clients.copy().values():
            if client.queue is not None:
                lost += len(client.queue)
                step.do(setattr, client, "queue", deque())
        return lost

    def forget_clients(self, step: Step) -> None:
        """As new: nobody is connected or kept alive, and the app does not hear of it."""
        step.do(self.clients.clear)
        step.do(self._timers.clear)

    def begin_epoch(self, step: Step, carried: dict[str, float], span: str) -> None:
        """Begin a test: the timeline is empty, and knows what there was before."""
        queues = {name: client.queue for name, client in self.clients.items() if client.queue}
        emptied = {name: tuple(queue) for name, queue in queues.items()}
        step.do(setattr, self.timeline, "_emptied", emptied)
        step.do(setattr, self.timeline, "_span", span)
        step.do(self.timeline._rows.clear)
        step.do(self.timeline._acknowledged.clear)
        step.do(setattr, self.timeline, "_carried", carried)

    def _add_timer(self, step: Step, client_id: str, client: Client, cause: str = "") -> None:
        due = self.deadline(step.now, client)
        timer = Timer(due, next(self._order), client_id, cause)
        left = client.timers
        if not cause:  # a client has one time-out; an older one is that of an earlier connection
            left = tuple(each for each in left if each.cause)
            for each in client.timers:
                if not each.cause:
                    step.do(setattr, each, "due", None)
        step.do(setattr, client, "timers", (*left, timer))
        step.do(heapq.heappush, self._timers, (due, timer.order, timer))

    def _reschedule(self, step: Step, timer: Timer, due: int) -> None:
        order = next(self._order)
        step.do(setattr, timer, "due", due)
        step.do(setattr, timer, "order", order)
        # A timer that is due later keeps its place, and moves when that comes up.
        if timer.due is not None and due < timer.due:
            step.do(heapq.heappush, self._timers, (due, order, timer))

    def _sweep(self, step: Step) -> None:
        """Throw the cancelled timers away, once they are many."""
        if len(self._timers) >= _SWEEP_FROM + 2 * len(self.clients):
            clients = self.clients.copy().values()
            timers = [timer for client in clients for timer in client.timers]
            left = [(each.due, each.order, each) for each in timers if each.due is not None]
            step.do(self._timers.__setitem__, slice(None), sorted(left))


_UNKNOWN = Client()


def live_lists(clients: dict[str, Client]) -> dict[str, tuple[str, ...]]:
    """What is in the live lists that somebody holds, by client id."""
    return {
        client_id: tuple(client.queue)
        for client_id, client in clients.copy().items()
        if isinstance(client.queue, list)
    }
