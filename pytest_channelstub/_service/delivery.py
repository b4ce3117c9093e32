"""Requests to the app: delivered in the order of the record, for each client one at a time."""

from __future__ import annotations

import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_channelstub._record.formatting import format_exception, shorten_repr
from pytest_channelstub._record.frames import caller, hide_frame, is_running
from pytest_channelstub._record.timeline import MICROSECONDS
from pytest_channelstub._service.apiproxy import call_locked
from pytest_channelstub._service.wsgi import FORM, App, find_line, plain_text, post_form

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from pytest_channelstub._record.timeline import Source
    from pytest_channelstub._service.state import Step

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

_FIRST_ERROR_STATUS = 400
# Handlers that cause each other's requests so many times in a row do so for ever.
_MOST_IN_A_ROW = 1_000
# The same of handlers that run within each other; Python's own limit is not far above.
_MOST_NESTED = 50


class ChannelAppWarning(UserWarning):
    """The app answered one of the service's requests with a status of 400 or more.

    Example:
        >>> with pytest.warns(ChannelAppWarning): stub.connect_channel(token)
    """

    __module__ = "pytest_channelstub"  # the name under which it can be imported


@dataclass(frozen=True, slots=True)
class Request:
    """A request that the service made to the app.

    Example:
        >>> request = stub.requests[-1]

    Attributes:
        method: Always `POST`.
        url: `/_ah/channel/connected/` or `/_ah/channel/disconnected/`.
        headers: Names and values.
        body: As the SDK's stub hands it over: `from=` and the client id, not escaped.
            The app itself receives a form from which it reads back exactly the client id.
        source_ip: The address it comes from, `0.1.0.10`.
        at: When, in seconds since the epoch.
        status: What the app answered, such as 200; None where there is no app, or it raised.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: str
    source_ip: str
    at: float
    status: int | None = None


@dataclass(slots=True, eq=False)
class Outgoing:
    """A request to the app, and what came of it so far.

    Attributes:
        client_id: The client that it speaks of.
        url: The path.
        at: Microseconds since the epoch.
        source_ip: The address that it comes from.
        source: The line that caused it.
        status: The code that the app answered.
        outcome: What came of it, in a few words.
        answer: The beginning of what the app answered with a status of 400 or more.
        is_answered: Whether nothing more is to come.
        is_called: Whether the app was called.
        depth: How many requests have caused this one, each in the handler of the one before.
    """

    client_id: str
    url: str
    at: int
    source_ip: str
    source: Source | None = None
    status: int | None = None
    outcome: str = "no app"
    answer: str = ""
    is_answered: bool = True
    is_called: bool = False
    depth: int = 0

    def request(self) -> Request:
        """The request as a test sees it."""
        body, at = f"from={self.client_id}", self.at / MICROSECONDS
        return Request("POST", self.url, (FORM,), body, self.source_ip, at, self.status)


_Item = Outgoing | Callable[[], object]


class Outbox:
    """The requests of one stub that the app has still to receive.

    For each client one is delivered at a time, in the order of the record. A call that
    finds a client's delivery under way leaves its request to that delivery.

    Args:
        changed: Notified when a request was answered; its lock is the stub's.

    Attributes:
        changed: As given.
        app: The app's WSGI callable, or None.
        answers: How many requests were answered.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self.app: App | None = None
        self.answers = 0
        self.changed = changed
        # By client id; what was postponed has none.
        self._waiting: dict[str | None, deque[_Item]] = {None: deque()}
        # By the same: the call that delivers.
        self._under_way: dict[str | None, FrameType] = {}
        # By thread: the depths of the requests whose handlers run, the outermost first.
        self._depths: dict[int, list[int]] = {}

    def put(self, step: Step, outgoing: Outgoing) -> None:
        """Have a request delivered once the step is made, and the lock released."""
        if self.app is not None:
            outgoing.outcome, outgoing.is_answered = "under way", False
            outgoing.depth = self._depths.get(threading.get_ident(), [0])[-1] + 1
            step.do(self._waiting.setdefault(outgoing.client_id, deque()).append, outgoing)

    def postpone(self, step: Step, function: Callable[..., object], *arguments: object) -> None:
        """Have code that is not ours called once the lock is released, in order."""
        step.do(self._waiting[None].append, partial(function, *arguments))

    def has_waiting(self) -> bool:
        """Whether there may be something to deliver."""
        return len(self._waiting) > 1 or bool(self._waiting[None])

    def deliver(self) -> None:
        """Deliver what no other call is delivering.

        Raises:
            Exception: What the app raises; all other requests are delivered before.
        """
        errors: list[BaseException] = []
        try:
            # Until there is nothing left: a finalizer may add to it at any time.
            deliver_to = partial(self._deliver_to, errors=errors)
            while any(list(map(deliver_to, tuple(self._waiting)))):
                pass
        except BaseException as error:  # noqa: BLE001 (Ctrl-C, which is raised below)
            errors.append(error)
        if errors:
            last = _chain(errors)
            errors.clear()
            try:
                raise last
            finally:
                del last  # in a circle with its frame it would keep the stub active

    def tidy(self, step: Step) -> None:
        """Forget the clients to whom everything is delivered."""
        for client_id, waiting in tuple(self._waiting.items()):
            if client_id is not None and not waiting:
                step.do(self._waiting.pop, client_id, None)

    def runs_handler(self) -> bool:
        """Whether a handler of the app runs in this thread."""
        return threading.get_ident() in self._depths

    def is_idle(self) -> bool:
        """Whether every request has been answered."""
        return all(outgoing.is_answered for outgoing in self._requests())

    def forget(self, step: Step | None = None) -> None:
        """Deliver nothing of what waits, from this step on or now; what is under way goes on."""
        change = setattr if step is None else partial(step.do, setattr)
        for outgoing in self._requests():
            if not outgoing.is_called:
                change(outgoing, "outcome", "not delivered")
                change(outgoing, "is_answered", True)

    def renew(self, changed: threading.Condition) -> None:
        """After a fork, in which only this thread goes on: notify another condition."""
        self.changed = changed
        stack, frame = set(), sys._getframe().f_back
        while frame is not None:
            stack.add(frame)
            frame = frame.f_back
        self._under_way = {
            client_id: frame for client_id, frame in self._under_way.items() if frame in stack
        }

    def _requests(self) -> list[Outgoing]:
        waiting = [each for queue in tuple(self._waiting.values()) for each in tuple(queue)]
        return [each for each in waiting if isinstance(each, Outgoing)]

    def _deliver_to(self, client_id: str | None, errors: list[BaseException]) -> bool:
        """Deliver to one client; whether there was something, and no other call was at it."""
        has_delivered = False
        # Another call may leave a request to this one at its very end. (No variable keeps the
        # frame: it would refer to itself, and the stub would not be freed.)
        while self._waiting.get(client_id) and self._take(client_id, sys._getframe()):
            has_delivered = True
            try:
                self._deliver_all(self._waiting.get(client_id, deque()), errors)
            finally:
                self._under_way.pop(client_id, None)
        return has_delivered

    def _take(self, client_id: str | None, frame: FrameType) -> bool:
        """Begin to deliver to a client, if no other call is at it.

        Under no lock: what a finalizer leaves to a call that holds the lock is delivered by
        that call, once it has released it.
        """
        other = self._under_way.setdefault(client_id, frame)
        if other is not frame and not is_running(other):
            call_locked(self.changed, self._drop, client_id, other)
            other = self._under_way.setdefault(client_id, frame)
        return other is frame

    def _drop(self, client_id: str | None, frame: FrameType) -> None:
        if self._under_way.get(client_id) is frame:
            del self._under_way[client_id]

    def _deliver_all(self, waiting: deque[_Item], errors: list[BaseException]) -> None:
        while waiting:
            try:
                self._deliver_first(waiting)
            except Exception as error:  # noqa: BLE001 (`deliver` raises it)
                errors.append(error)

    def _deliver_first(self, waiting: deque[_Item]) -> None:
        first = waiting[0]
        if not isinstance(first, Outgoing):
            waiting.popleft()()  # type: ignore[operator]  # it is `first`
            return
        try:
            self._deliver_one(first)
        finally:
            if first.is_answered:
                waiting.popleft()

    def _deliver_one(self, outgoing: Outgoing) -> None:
        app = self.app
        if outgoing.is_answered:
            return
        if outgoing.is_called:  # an exception from outside, such as Ctrl-C, has cut it short
            self._answer(outgoing, "interrupted")
        elif app is None:
            self._answer(outgoing, "no app")
        else:
            self._post_nested(app, outgoing)

    def _post_nested(self, app: App, outgoing: Outgoing) -> None:
        me = threading.get_ident()
        outer = self._depths.get(me, [])
        is_nested = len(outer) >= _MOST_NESTED
        if is_nested or outgoing.depth > _MOST_IN_A_ROW:
            self.forget()
            raise RuntimeError(_describe_endless(outgoing, is_nested=is_nested))
        try:
            self._depths[me] = [*outer, outgoing.depth]
            self._post(app, outgoing)
        finally:
            if outer:
                self._depths[me] = outer
            else:
                self._depths.pop(me, None)

    def _post(self, app: App, outgoing: Outgoing) -> None:
        def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            outgoing.is_called = True
            return app(environ, start_response)

        try:
            status, body = post_form(call, outgoing.url, outgoing.client_id, outgoing.source_ip)
        except BaseException as error:
            # What Ctrl-C has kept from the app waits for the next call.
            if outgoing.is_called or isinstance(error, Exception):
                self._answer(outgoing, format_exception(error))
            raise
        outgoing.status = int(status[:3])
        if outgoing.status >= _FIRST_ERROR_STATUS:
            outgoing.answer = plain_text(body)
        quote = f": {shorten_repr(outgoing.answer)}" if outgoing.answer else ""
        self._answer(outgoing, status + quote)
        if outgoing.status >= _FIRST_ERROR_STATUS:
            _warn(app, outgoing, status)

    def _answer(self, outgoing: Outgoing, outcome: str) -> None:
        outgoing.outcome = outcome
        outgoing.is_answered = True
        call_locked(self.changed, self._notify)

    def _notify(self) -> None:
        self.answers += 1
        self.changed.notify_all()


def _chain(errors: Sequence[BaseException]) -> BaseException:
    """The last of several errors, with those before it as its context."""
    for earlier, error in pairwise(errors):
        before = {id(each) for each in _contexts(earlier)}
        *_, first = _contexts(error)
        if id(first) not in before:
            first.__context__ = earlier
    return errors[-1]


def _contexts(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those during which it was raised."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__context__


def _describe_endless(outgoing: Outgoing, *, is_nested: bool) -> str:
    if is_nested:
        return (
            f"the app's handlers connect or disconnect client after client, {_MOST_NESTED} within "
            f"each other, at last client id {outgoing.client_id!r}: do so after the handler's "
            "return, or end the chain"
        )
    return (
        f"the app's handlers connect and disconnect client id {outgoing.client_id!r} without end: "
        f"{_MOST_IN_A_ROW:,} requests that caused each other. Do not connect a client in the "
        "handler of its disconnection and disconnect it in the other"
    )


def _warn(app: App, outgoing: Outgoing, status: str) -> None:
    message = (
        f"the app answered {status!r} to POST {outgoing.url} for client id "
        f"{outgoing.client_id!r}{_advise(outgoing)}"
    )
    warn(message, outgoing.source or find_line(app, caller()))


def warn(message: str, source: Source) -> None:
    """Warn of an app's answer, at a line of the test or the app."""
    code, line = source
    warnings.warn_explicit(message, ChannelAppWarning, code.co_filename, line, registry={})


def _advise(outgoing: Outgoing) -> str:
    if outgoing.status == 403 and "csrf" in outgoing.answer.lower():  # noqa: PLR2004 (Forbidden)
        advice = "exempt the handler from the CSRF check (Django: @csrf_exempt)"
    elif outgoing.status in (404, 405):
        advice = "have the app handle it"
    else:
        advice = "fix its handler"
    quote = f", which began {shorten_repr(outgoing.answer)}" if outgoing.answer else ""
    return f"{quote}: {advice}, or set presence=False (@pytest.mark.channel_stub)"
