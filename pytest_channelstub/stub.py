"""ChannelServiceStub: the service, as the SDK's stub of it behaved."""

from __future__ import annotations

import functools
import itertools
import logging
import random
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_channelstub import apiproxy, apiproxy_errors, appengine, tokens, waiting
from pytest_channelstub.channel_service_pb import ChannelServiceError
from pytest_channelstub.clock import FakeClock
from pytest_channelstub.dispatcher import Dispatcher, Request, RequestInfo
from pytest_channelstub.process_clock import SystemClock
from pytest_channelstub.queues import MessageQueue
from pytest_channelstub.timeline import Timeline
from pytest_channelstub.tokens import Error, InvalidTokenError, TokenTimedOutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

    from pytest_channelstub.channel_service_pb import (
        CreateChannelRequest,
        CreateChannelResponse,
        SendMessageRequest,
    )
    from pytest_channelstub.timeline import Event

__all__ = ["ChannelServiceStub", "Error", "InvalidTokenError", "TokenTimedOutError"]

RESETS = ("queues", "all", "nothing")
"""What `ChannelServiceStub.reset` takes."""

_FORM = (("Content-Type", "application/x-www-form-urlencoded"),)
_TIMER = "channel-disconnect"
# Stubs built without a seed make the same tokens at every run, and not each other's.
_unseeded = itertools.count()


class ChannelServiceStub(apiproxy.APIProxyStub):
    """Answers the Channel API's calls, and lets a test see and do what a page would.

    It is complete without pytest: `ChannelServiceStub(time_func=FakeClock().time)`. The
    newest stub that is alive is in force: `channel.create_channel` and
    `channel.send_message` reach it.

    Its lock is never held while other code runs: an app's handler, `log` or `time_func`
    may call the stub again, from any thread.

    Args:
        log: Called with a format and its arguments at every call.
        service_name: The service whose calls it takes.
        time_func: Gives the time in seconds since the epoch. A `FakeClock`'s `time`
            brings that clock, whose moves fire the stub's timeouts. Otherwise it is asked
            at each call; by default it is what `time.time` is at that moment.
        request_data: As the SDK's stubs take it. Where it brings a dispatcher of its own,
            timers and requests go there.

    Attributes:
        clock: The stub's `FakeClock`.
        timeline: What happened, in order.
        seed: Of the stub's generator, which is made when it is first needed.
        closing: Called, the last first, when the stub is closed.
    """

    THREADSAFE = True
    CHANNEL_TIMEOUT_SECONDS = 2
    XMPP_PUBLIC_IP = "0.1.0.10"
    CHANNEL_TOKEN_DEFAULT_DURATION = 120
    CHANNEL_TOKEN_IDENTIFIER = "channel"  # noqa: S105 (the service's name, no secret)

    def __init__(
        self,
        log: Callable[..., object] = logging.debug,
        service_name: str = "channel",
        time_func: Callable[[], float] | None = None,
        request_data: Any = None,
    ) -> None:
        super().__init__(service_name, request_data=request_data)
        self._log = log
        owner = getattr(time_func, "__self__", None)
        self.clock: FakeClock = owner if isinstance(owner, FakeClock) else SystemClock(time_func)
        self.timeline = Timeline(self.clock.time())
        self.seed: int | str = next(_unseeded)
        self.closing: list[Callable[[], object]] = []
        self._time = self.clock.time
        self._agenda = self.clock.agenda
        self._own = Dispatcher(self.clock, self.timeline)
        if request_data is None:
            self.request_data = RequestInfo(self._own)
        self._queues: dict[str, MessageQueue] = {}
        self._holds: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        apiproxy.enter_force(self)

    def __repr__(self) -> str:
        told = f"{len(self._queues)} connected, {sum(map(len, self._queues.values()))} pending"
        return f"<ChannelServiceStub {told}, {len(self.timeline)} events, {self.clock!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def app(self) -> Callable[..., Any] | None:
        """The app's WSGI callable, told when a client connects or disconnects; or None."""
        return self._own.app

    @app.setter
    def app(self, app: Callable[..., Any] | None) -> None:
        self._own.app = app

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests made to the app so far, in order."""
        return self._own.requests

    @functools.cached_property
    def random(self) -> random.Random:
        """The generator of tokens' random parts and of `SetError`'s chances."""
        return random.Random(self.seed)  # noqa: S311 (no secret)

    # The methods of the SDK's reference page.

    def client_id_from_token(self, token: str) -> str | None:
        """The client id of a valid token; None for anything else."""
        client_id = self._client_id_or_none(token, self._touch())
        self._log("Token %s is of client id %s", token, client_id)
        return client_id

    def validate_token_and_extract_client_id(self, token: str) -> str:
        """The client id of a valid token.

        Raises:
            InvalidTokenError: It is not a token.
            TokenTimedOutError: Its time is over.
        """
        client_id = self._client_id(token, self._touch())
        self._log("Token %s is valid for client id %s", token, client_id)
        return client_id

    def get_channel_messages(self, token: str) -> list[str] | None:
        """The pending messages: a live list, in which later messages and pops show.

        Returns:
            The list; None where the client is not connected, or the token not valid.
        """
        client_id = self._client_id_or_none(token, self._touch())
        self._log("Received request for messages for channel %s", token)
        with self._lock:
            queue = self._queues.get(client_id) if client_id is not None else None
            return None if queue is None else queue.live()

    def has_channel_messages(self, token: str) -> bool:
        """Whether a message is pending; False where the token is not valid."""
        client_id = self._client_id_or_none(token, self._touch())
        queue = self._queues.get(client_id) if client_id is not None else None
        has_messages = bool(queue)
        self._log("Checking for messages on channel %s: %s", token, has_messages)
        return has_messages

    def pop_first_message(self, token: str) -> str | None:
        """Take the first pending message; unlike a poll, it keeps no connection alive.

        Returns:
            The message; None where there is none, or the token is not valid.
        """
        now = self._touch()
        client_id = self._client_id_or_none(token, now)
        message = None if client_id is None else self._pop(now, client_id, token, "pop")
        self._log("Popping first message of channel %s: %r", token, message)
        return message

    def clear_channel_messages(self, token: str) -> None:
        """Drop the pending messages; the client stays connected.

        A list that `get_channel_messages` returned earlier is left as it was.
        """
        now = self._touch()
        client_id = self._client_id_or_none(token, now)
        with self._lock:
            queue = self._queues.get(client_id) if client_id is not None else None
            lost = 0 if queue is None else queue.clear()
            if queue is not None:
                self.timeline.record((now, "clear", client_id, token, None, lost))
        self._log("Clearing messages on channel %s: %d", token, lost)

    def add_connect_event(self, client_id: str) -> None:
        """Tell the app that a client has connected; connects nobody."""
        self._touch()
        self._post("connected", client_id)

    def disconnect_channel_event(self, client_id: str) -> None:
        """Disconnect a client, and tell the app, also of a client that was never there.

        A timeout that was pending for it is cancelled. In the SDK it would still fire,
        and throw out a client that has connected again.
        """
        self.disconnect(client_id, kind="disconnect")

    def add_disconnect_event(self, client_id: str) -> None:
        """Have a client disconnected two seconds from now."""
        self._schedule(client_id, self._touch())
        self._log("Channel of client id %s is disconnected when it stays idle", client_id)

    def connect_channel(self, token: str) -> None:
        """Connect a client, or refresh its connection.

        The app is told of a new connection when the queue is there already; for the
        next two seconds, and after every refresh, the client stays connected.

        Raises:
            InvalidTokenError: It is not a token.
            TokenTimedOutError: Its time is over.
            Exception: What the app's handler raises; the client is connected then.
        """
        now = self._touch()
        client_id = self._admitted(token, now)
        self._log("Connecting channel %s of client id %s", token, client_id)
        if client_id in self._queues:
            self._refresh(client_id, now)
            self.timeline.record((now, "refresh", client_id, token, None, ""))
        else:
            self._connect(client_id, token, now)

    def connect_and_pop_first_message(self, token: str) -> str | None:
        """Poll, as a page does: connect or refresh, then take the first message.

        Returns:
            The message; None where there is none.

        Raises:
            InvalidTokenError: It is not a token.
            TokenTimedOutError: Its time is over.
            Exception: What the app's handler raises; the client is connected then.
        """
        return self.read_message(token, "poll")

    # What the SDK's stub never had.

    @property
    def connected_client_ids(self) -> tuple[str, ...]:
        """The clients that are connected now, in the order in which they connected."""
        self._touch()
        return tuple(self._queues.copy())

    def is_connected(self, client_id: str) -> bool:
        """Whether a client is connected now."""
        self._touch()
        return client_id in self._queues

    def pending(self, client_id: str) -> tuple[str, ...] | None:
        """The messages that wait for a client, as they are now; None if not connected."""
        self._touch()
        with self._lock:
            queue = self._queues.get(client_id)
            return None if queue is None else queue.snapshot()

    def disconnect(self, client_id: str, kind: str = "close") -> None:
        """Disconnect a client and tell the app.

        Args:
            client_id: The client.
            kind: What the timeline calls it: `close` for a page that says goodbye,
                `disconnect` for a disconnect by hand.
        """
        now = self._touch()
        self._log("Removing channel of client id %s", client_id)
        self._own.cancel_events(client_id)
        self._remove(client_id, kind, now)
        self._post("disconnected", client_id, now)

    def read_message(self, token: str, reader: str = "client") -> str | None:
        """Poll as `connect_and_pop_first_message` does.

        Args:
            token: The token.
            reader: Who the timeline says has read the message.
        """
        now = self._touch()
        client_id = self._admitted(token, now)
        if client_id in self._queues:
            self._refresh(client_id, now)
        else:
            self._connect(client_id, token, now)
        message = self._pop(now, client_id, token, reader)
        if message is None:
            self.timeline.record((now, "poll", client_id, token, None, ""))
        self._log("Polling channel %s of client id %s: %r", token, client_id, message)
        return message

    def wait_for(
        self, kind: str, client_id: str | None = None, timeout: float = 5.0, *, count: int = 1
    ) -> Event:
        """Wait, in real time, until the timeline holds an event; an earlier one counts too.

        Example:
            >>> stub.wait_for("connect", "alice")

        Args:
            kind: One of the timeline's kinds, such as `connect`, `read` or `close`.
            client_id: Whose event; None for anybody's.
            timeout: How long at most, in real seconds.
            count: How many such events there have to be.

        Returns:
            The event; with `count`, the one that made the number full.

        Raises:
            AssertionError: It did not happen in time; the text shows the timeline.
            ValueError: There is no such kind of event, or `count` is below 1.
        """
        __tracebackhide__ = True
        return waiting.wait_for(self, kind, client_id, timeout, count=count)

    @contextmanager
    def hold(self, client_id: str, token: str) -> Iterator[None]:
        """Keep a client connected, as a page that polls all the time does.

        While it is held, and its token valid, the client does not time out. The two
        seconds run from the end of the hold, or from the end of the token.
        """
        read = tokens.read(token)
        expires = 0 if read is None else read.expires
        with self._lock:
            self._holds.setdefault(client_id, []).append(expires)
        self._refresh(client_id, self._touch())
        try:
            yield
        finally:
            with self._lock:
                self._holds[client_id].remove(expires)
                if not self._holds[client_id]:
                    del self._holds[client_id]
            self._refresh(client_id, min(self._time(), expires))

    def reset(self, what: str = "queues") -> None:
        """Start over, in part or whole; the app is not told.

        Args:
            what: `queues` empties every queue, and leaves connections, tokens and clock.
                `all` makes the stub as new: nobody connected, the clock at its start,
                timeline and requests empty, no error set. `nothing` does nothing.

        Raises:
            ValueError: `what` is none of these.
        """
        if what not in RESETS:
            message = f"reset takes 'queues', 'all' or 'nothing', and got {what!r}"
            raise ValueError(message)
        if what == "queues":
            self._empty_queues()
        elif what == "all":
            self._renew()

    def close(self) -> None:
        """End the stub: it is in force no longer, and its timers are cancelled.

        What it has recorded can still be read. Closing it again does nothing.
        """
        apiproxy.leave_force(self)
        self._own.cancel_all()
        while self.closing:
            self.closing.pop()()
        self.timeline.wake()

    # The calls of the service.

    def _Dynamic_CreateChannel(
        self, request: CreateChannelRequest, response: CreateChannelResponse
    ) -> None:
        client_id = request.application_key()
        if not client_id:
            raise apiproxy_errors.ApplicationError(
                ChannelServiceError.INVALID_CHANNEL_KEY, "the client id is empty"
            )
        minutes = (
            request.duration_minutes()
            if request.has_duration_minutes()
            else self.CHANNEL_TOKEN_DEFAULT_DURATION
        )
        now = self._touch()
        expires = int(now + minutes * 60) + 1
        chance = self.random.getrandbits(32)
        token = tokens.make(self.CHANNEL_TOKEN_IDENTIFIER, chance, expires, client_id)
        self.timeline.record((now, "create", client_id, token, None, expires))
        self._log(
            "Creating channel token %s with client id %s and duration %s", token, client_id, minutes
        )
        response.set_token(token)

    def _Dynamic_SendChannelMessage(self, request: SendMessageRequest, response: object) -> None:
        message = request.message()
        if not message:
            raise apiproxy_errors.ApplicationError(
                ChannelServiceError.BAD_MESSAGE, "the message is empty"
            )
        address = request.application_key()
        now = self._touch()
        token = tokens.read(address)
        client_id, used = address, None
        if token is not None:
            used = address
            if token.expires > now and token.identifier == self.CHANNEL_TOKEN_IDENTIFIER:
                client_id = token.client_id
        with self._lock:
            queue = self._queues.get(client_id)
            if queue is not None:
                queue.append(message)
                self.timeline.record((now, "send", client_id, used, message, ""))
            else:
                outcome = "expired token" if used is client_id else ""
                self.timeline.record((now, "drop", client_id, used, message, outcome))
        if queue is None:
            self._log("SKIPPING message, client id %s is not connected: %r", client_id, message)
        else:
            self._log("Sending message to client id %s: %r", client_id, message)

    def _failing(self, call: str, request: Any, error: Any) -> None:
        sent = request.message() if hasattr(request, "message") else None
        client_id = request.application_key()
        outcome = f"{call}: {type(error).__name__}"
        self.timeline.record((self._touch(), "error", client_id, None, sent, outcome))

    # Within.

    def _touch(self) -> float:
        """The time, once what was due by then has fired."""
        now = self._time()
        if now >= self._agenda.next_due:
            self.clock.run_due(now)
        return now

    def _client_id(self, token: object, now: float) -> str:
        read = tokens.read(token)
        if read is None or read.identifier != self.CHANNEL_TOKEN_IDENTIFIER:
            message = f"{token!a:.120} is no channel token: pass what create_channel returned"
            raise InvalidTokenError(message)
        if read.expires <= now:
            message = (
                f"the token of client id {read.client_id!r} was valid until {read.expires}, "
                f"and it is {now:g}: make another with create_channel"
            )
            raise TokenTimedOutError(message)
        return read.client_id

    def _client_id_or_none(self, token: object, now: float) -> str | None:
        read = tokens.read(token)
        if read is None or read.expires <= now:
            return None
        return read.client_id if read.identifier == self.CHANNEL_TOKEN_IDENTIFIER else None

    def _admitted(self, token: str, now: float) -> str:
        try:
            return self._client_id(token, now)
        except Error as error:
            invalid = isinstance(error, InvalidTokenError)
            read = tokens.read(token)
            client_id = None if read is None else read.client_id
            outcome = "invalid" if invalid else "expired"
            self.timeline.record((now, "reject", client_id, str(token), None, outcome))
            raise

    def _pop(self, now: float, client_id: str, token: str, reader: str) -> str | None:
        with self._lock:
            queue = self._queues.get(client_id)
            message = None if queue is None else queue.pop()
            if message is not None:
                self.timeline.record((now, "read", client_id, token, message, reader))
        return message

    def _connect(self, client_id: str, token: str, now: float) -> None:
        with self._lock:
            if client_id in self._queues:
                return
            self._queues[client_id] = MessageQueue()
            self.timeline.record((now, "connect", client_id, token, None, ""))
        # The timer is set before the app is told: a handler that raises, or that lets
        # time pass, finds a connection like any other.
        self._schedule(client_id, now)
        self._post("connected", client_id, now)

    def _remove(self, client_id: str, kind: str, now: float) -> None:
        with self._lock:
            queue = self._queues.pop(client_id, None)
            lost = 0 if queue is None else len(queue)
            outcome = f"{lost} unread" if queue is not None else "was not connected"
            if kind == "timeout":
                outcome = f"idle for {self.CHANNEL_TIMEOUT_SECONDS} s, {outcome}"
            self.timeline.record((now, kind, client_id, None, None, outcome))

    def _time_out(self, client_id: str, due: float) -> None:
        self._remove(client_id, "timeout", due)
        self._log("Channel of client id %s has timed out", client_id)
        self._post("disconnected", client_id, due)

    def _deadline(self, client_id: str, now: float) -> float:
        if self._holds:
            now = max(now, *self._holds.get(client_id, (now,)))
        return now + self.CHANNEL_TIMEOUT_SECONDS

    def _dispatcher(self) -> Any:
        data = self.request_data
        if appengine.is_silent_request_data(data):
            return self._own
        return data.get_dispatcher()

    def _refresh(self, client_id: str, now: float) -> None:
        self._dispatcher().update_event(self._deadline(client_id, now), _TIMER, client_id)

    def _schedule(self, client_id: str, now: float) -> None:
        due = self._deadline(client_id, now)
        runnable = functools.partial(_time_out, weakref.ref(self), client_id, due)
        self._dispatcher().add_event(runnable, due, _TIMER, client_id)

    def _post(self, event: str, client_id: str, at: float | None = None) -> None:
        dispatcher = self._dispatcher()
        when = {"at": at} if dispatcher is self._own else {}
        self._log("Telling the app that client id %s is %s", client_id, event)
        dispatcher.add_async_request(
            "POST",
            f"/_ah/channel/{event}/",
            list(_FORM),
            f"from={client_id}",
            self.XMPP_PUBLIC_IP,
            **when,
        )

    def _empty_queues(self) -> None:
        now = self._touch()
        with self._lock:
            lost = sum(queue.clear() for queue in self._queues.values())
            if self._queues:
                self.timeline.record((now, "reset", None, None, None, f"queues, {lost} lost"))

    def _renew(self) -> None:
        self._own.cancel_all()
        self._own.forget_requests()
        with self._lock:
            self._queues.clear()
            self._errors.clear()
            self._error = None
            self.__dict__.pop("random", None)
            self.timeline.clear()
        self.clock.reset()
        self.timeline.wake()


def _time_out(
    reference: weakref.ref[ChannelServiceStub],
    client_id: str,
    due: float,
    fired: float | None = None,
) -> None:
    """Time a client out, unless its stub is gone; a foreign dispatcher gives no instant."""
    stub = reference()
    if stub is not None:
        stub._time_out(client_id, due if fired is None else fired)  # noqa: SLF001 (its own)
