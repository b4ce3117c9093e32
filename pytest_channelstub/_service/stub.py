"""ChannelServiceStub: what an app, a page and a test see and do of the service."""

from __future__ import annotations

import logging
import math
import random
import threading
from collections import deque
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, TypeVar

from pytest_channelstub import _tokens, apiproxy_errors
from pytest_channelstub._record import diagnosis, formatting, matching
from pytest_channelstub._record.formatting import format_source
from pytest_channelstub._record.frames import caller, hide_frame
from pytest_channelstub._record.settings import settings
from pytest_channelstub._record.timeline import (
    MICROSECONDS,
    THIS_TEST,
    Row,
    Timeline,
    check_kind,
    to_event,
)
from pytest_channelstub._service.apiproxy import APIProxyStub, call_locked
from pytest_channelstub._service.channel_service_pb import (
    ChannelServiceError,
    InvalidChannelClientIdError,
    InvalidMessageError,
    read_text,
)
from pytest_channelstub._service.clock import FakeClock, SystemClock, real_monotonic
from pytest_channelstub._service.delivery import Outbox, Outgoing
from pytest_channelstub._service.registry import registry
from pytest_channelstub._service.state import Client, State, Step, live_lists
from pytest_channelstub._service.wsgi import FORM, check_app
from pytest_channelstub._tokens import Error, InvalidTokenError, TokenTimedOutError, text_or_none

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from pytest_channelstub._record.timeline import Event, Kind, Source
    from pytest_channelstub._service.apiproxy import FailingCalls
    from pytest_channelstub._service.channel_service_pb import (
        CreateChannelRequest,
        CreateChannelResponse,
        SendMessageRequest,
    )
    from pytest_channelstub._service.delivery import Request
    from pytest_channelstub._service.state import Timer

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

__all__ = ["ChannelServiceStub", "Error", "InvalidTokenError", "TokenTimedOutError"]

Reset = Literal["queues", "all", "nothing"]
"""What `ChannelServiceStub.reset` takes."""

_RESETS: tuple[Reset, ...] = ("queues", "all", "nothing")
_LOGGER = logging.getLogger("pytest_channelstub")
_TIMER = "channel-disconnect"
# A wait that nothing notifies, as the system's clock does not, looks again after so long.
_LOOK_AGAIN = 0.25  # seconds
# How long the next test waits for handlers of the last one that still run.
_LEAVE_TIME = 1.0  # seconds

# What a test may look for on the stub, and where it is.
_INSTEAD = {
    "send_message": "channel.send_message(client_id, message)",
    "create_channel": "channel.create_channel(client_id)",
    "connect": "channel_client(client_id), or connect_channel(token)",
    "poll": "connect_and_pop_first_message(token)",
    "receive": "channel_client(client_id).receive()",
    "messages": "pending(client_id)",
    "get_messages": "pending(client_id)",
    "close_channel": "disconnect(client_id)",
    "advance": "stub.clock.advance(seconds)",
}

# The message of a poll that has only just connected.
_NOT_READ = object()
_Result = TypeVar("_Result")


class Page(Protocol):
    """A page that has connected over HTTP.

    Attributes:
        client_id: Of its token.
        is_there: Whether it keeps its client connected.
    """

    @property
    def client_id(self) -> str: ...
    @property
    def is_there(self) -> bool: ...

    def end(self) -> None:
        """Keep the client connected no longer."""


class ChannelServiceStub(APIProxyStub):
    """Answers the Channel API's calls, and lets a test see and do what a page would.

    It is complete without pytest: `ChannelServiceStub(time_func=FakeClock().time)`. The
    newest stub that is not closed is active: `channel.create_channel` and
    `channel.send_message` reach it.

    Every call is a step: the timers that are due run, the state changes, and the events
    are recorded, all of that or nothing. The app hears of it after that, while no lock is
    held; its handlers may call the stub again, from any thread.

    Example:
        >>> stub = ChannelServiceStub(time_func=FakeClock().time)

    Args:
        log: Called with a format and its arguments at every call. By default the logger
            `pytest_channelstub` takes them, at level DEBUG.
        service_name: The service whose calls it takes.
        time_func: Gives the time in seconds since the epoch. A `FakeClock`'s `time`
            brings that clock, whose moves run the stub's timers. Otherwise it is asked
            at each call; by default it is what `time.time` is at that moment.
        request_data: As the SDK's stubs take it. Where it brings a dispatcher of its own,
            timers and requests go there.

    Raises:
        TypeError: `time_func` or `log` cannot be called.
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
        if not (time_func is None or callable(time_func)):
            is_clock = isinstance(time_func, FakeClock)
            instead = "its method, clock.time" if is_clock else "a function, such as time.time"
            raise TypeError(formatting.describe_type("time_func", time_func, instead))
        is_clock = isinstance(getattr(log, "__self__", None), FakeClock)
        if is_clock or not callable(log):
            instead = "a function, such as logging.info"
            if is_clock:
                instead += "; a clock's time goes by name, time_func=clock.time"
            raise TypeError(formatting.describe_type("log", log, instead))
        super().__init__(service_name, request_data=request_data)
        # logging.debug itself would give a root logger without handlers one.
        self._log = _LOGGER.debug if log is logging.debug else log
        owner = getattr(time_func, "__self__", None)
        self._clock: FakeClock = owner if isinstance(owner, FakeClock) else SystemClock(time_func)
        self._lock, self._changed = self.clock._lock, self.clock._changed
        self._timeline = Timeline(self.clock.start if self.clock._is_own else None)
        self._outbox = Outbox(self._changed)
        self._state = State(
            self.timeline, self._outbox, self.CHANNEL_TIMEOUT_SECONDS * MICROSECONDS
        )
        # Of the clients alone: a timeline that knows its stub would keep it from being freed.
        self.timeline._live_lists = partial(live_lists, self._state.clients)
        self._presence = True
        # The pages that have connected over HTTP in this test. No other page changes anything.
        self._pages: dict[tuple[str, str], Page] = {}
        self._is_closed = False
        self._closing: list[Callable[[], object]] = []
        # Calls of this test that found nothing as their token is not valid: the method and how
        # the value reads, with its text, if it is one, and the line of the call.
        self._invalid: dict[tuple[str, str], tuple[str | None, Source | None]] = {}
        self._origin = caller()
        self._seed: int | str | None = None
        # How many stubs that the same line has built are active already.
        self._number = sum(
            getattr(stub, "_origin", None) == self._origin for stub in registry.stubs()
        )
        self._older_threads = frozenset(threading.enumerate())
        self.clock._attach(self)
        registry.activate(self)

    def __repr__(self) -> str:
        count = len(self._state.connected())
        events = formatting.plural(len(self.timeline), "event")
        return f"<ChannelServiceStub {count} connected, {events}, {self.clock!r}>"

    if not TYPE_CHECKING:  # for a type checker every name would be one of a stub

        def __getattr__(self, name: str) -> NoReturn:
            raise formatting.missing_name(self, name, _INSTEAD)

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
    def clock(self) -> FakeClock:
        """The stub's clock, for as long as the stub exists."""
        return self._clock

    @property
    def timeline(self) -> Timeline:
        """What happened in this test, in order."""
        return self._timeline

    @property
    def app(self) -> Callable[..., Any] | None:
        """The app's WSGI callable, which hears of connections and disconnections; or None."""
        return self._outbox.app

    @app.setter
    def app(self, app: Callable[..., Any] | None) -> None:
        check_app(app)
        self._outbox.app = app

    @property
    def seed(self) -> int | str:
        """The seed of tokens' random parts and of `SetError`'s chances.

        By default it is the line where the stub was built, so that every run is the same.
        """
        if self._seed is not None:
            return self._seed
        line = format_source(self._origin)
        return f"{line} {self._number}" if self._number else line

    @seed.setter
    def seed(self, seed: int | str) -> None:
        if isinstance(seed, bool) or not isinstance(seed, (int, str)):
            raise TypeError(formatting.describe_type("seed", seed, "a whole number or a str"))
        if isinstance(seed, str) and not _is_utf8(seed):
            message = f"seed has a lone surrogate, which is not UTF-8: {seed!a}"
            raise ValueError(message)
        self._seed = seed
        self.__dict__.pop("_random", None)

    def _random_seed(self) -> int | str:
        return self.seed

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests made to the app in this test, in order."""
        rows = self.timeline._rows.copy()
        outgoing = (row.answer for row in rows if row.kind == "request")
        return tuple(each.request() for each in outgoing if isinstance(each, Outgoing))

    # The calls.

    def _Dynamic_CreateChannel(
        self, request: CreateChannelRequest, response: CreateChannelResponse
    ) -> None:
        client_id = request.application_key()
        if not client_id:
            self._refuse_call(
                request, "the client id is empty", ChannelServiceError.INVALID_CHANNEL_KEY
            )
        if not _is_utf8(client_id):
            what = f"the client id holds a lone surrogate: {formatting.shorten_repr(client_id)}"
            self._refuse_call(request, what, ChannelServiceError.INVALID_CHANNEL_KEY)
        minutes = (
            request.duration_minutes()
            if request.has_duration_minutes()
            else self.CHANNEL_TOKEN_DEFAULT_DURATION
        )
        drawn: list[int] = []
        set_token = response.set_token  # an error before the step changes nothing
        token = self._step(self._plan_create, client_id, minutes, drawn)
        self._log(
            "Creating channel token %s with client id %s and duration %s", token, client_id, minutes
        )
        set_token(token)

    def _plan_create(self, step: Step, client_id: str, minutes: int, drawn: list[int]) -> str:
        # int() rounds towards zero, as the SDK's stub does.
        expires = int(step.now / MICROSECONDS + minutes * 60) + 1
        if not drawn:  # once, however often the step is planned
            drawn.append(self._random.getrandbits(32))
        token = _tokens.make(self.CHANNEL_TOKEN_IDENTIFIER, drawn[0], expires, client_id)
        step.record("create", client_id, token=token, outcome=expires)
        return token

    def _Dynamic_SendChannelMessage(self, request: SendMessageRequest, response: object) -> None:
        message, address = request.message(), request.application_key()
        if not message:
            self._refuse_call(request, "the message is empty", ChannelServiceError.BAD_MESSAGE)
        is_sent = self._step(self._plan_send, address, message)
        done = "Sending message to" if is_sent else "SKIPPING message, not connected:"
        self._log("%s client id %s: %r", done, address, message)

    def _plan_send(self, step: Step, address: str, message: str) -> bool:
        read = self._read_token(address)
        # An expired token is taken for a client id, as by the SDK's stub.
        is_expired = read is not None and read.expires * MICROSECONDS <= step.now
        client_id = address if read is None or is_expired else read.client_id
        token = None if read is None else address
        note = "expired token" if is_expired else ""
        queue = self._state.queue(client_id)
        kind: Kind = "drop" if queue is None else "send"
        step.record(kind, client_id, token=token, message=message, outcome=note)
        if queue is not None:
            step.do(queue.append, message)
        return queue is not None

    def CheckRequest(self, service: str, call: str, request: Any) -> None:
        """Refuse a call that no service would take, and record that.

        Raises:
            AssertionError: The service is another one, or a required field is missing.
            RequestTooLargeError: The request is over the limit.
        """
        try:
            super().CheckRequest(service, call, request)
        except (AssertionError, apiproxy_errors.Error) as error:
            self._record_refusal(*_fields(request), error)
            raise

    def _refuse_call(self, request: Any, detail: str, code: int) -> NoReturn:
        """Raise the service's error, recorded as the one that the app's side makes of it."""
        is_message = code == ChannelServiceError.BAD_MESSAGE
        error = InvalidMessageError if is_message else InvalidChannelClientIdError
        self._record_refusal(*_fields(request), error(detail))
        raise apiproxy_errors.ApplicationError(code, detail)

    def _record_refusal(self, client_id: object, message: object, error: Exception) -> None:
        """Record that a call was turned down for its arguments."""
        outcome = formatting.format_exception(error)
        texts = text_or_none(client_id), text_or_none(message)
        self._step(self._plan_failure, "refuse", *texts, outcome)

    def _record_set_error(self, call: str, request: Any, order: FailingCalls) -> None:
        outcome = f"{call}: {type(order.error).__name__} ({order.origin})"
        self._step(self._plan_failure, "error", *_fields(request), outcome)

    def _plan_failure(
        self, step: Step, kind: Kind, client_id: str | None, message: str | None, outcome: str
    ) -> None:
        step.record(kind, client_id, message=message, outcome=outcome)

    # The methods of the SDK's reference page.

    def client_id_from_token(self, token: str | bytes) -> str | None:
        """The client id of a valid token; None for anything else."""
        now = self._touch()
        client_id = self._client_id(token, now)
        self._note_invalid("client_id_from_token", token, now)
        self._log("Token %s is of client id %s", token, client_id)
        return client_id

    def validate_token_and_extract_client_id(self, token: str | bytes) -> str:
        """The client id of a valid token.

        Raises:
            InvalidTokenError: It is not a token.
            TokenTimedOutError: It is expired.
        """
        now = self._touch()
        client_id = self._client_id(token, now)
        if client_id is None:
            raise self._token_error(token, now)
        self._log("Token %s is valid for client id %s", token, client_id)
        return client_id

    def get_channel_messages(self, token: str | bytes) -> list[str] | None:
        """The pending messages: a live list, in which later messages and pops show.

        Returns:
            The list; None where the client is not connected, or the token not valid.
        """
        self._log("Received request for messages for channel %s", token)
        if self._is_closed:
            return None
        messages = self._step(self._plan_live_list, token)
        self._note_invalid("get_channel_messages", token, self._state.now)
        return messages

    def _plan_live_list(self, step: Step, token: str | bytes) -> list[str] | None:
        client_id = self._client_id(token, step.now)
        client = None if client_id is None else self._state.clients.get(client_id)
        if client is None or client.queue is None:
            return None
        if isinstance(client.queue, list):
            return client.queue
        live = list(client.queue)
        step.do(setattr, client, "queue", live)
        return live

    def has_channel_messages(self, token: str | bytes) -> bool:
        """Whether a message is pending; False where the token is not valid."""
        now = self._touch()
        self._note_invalid("has_channel_messages", token, now)
        has_messages = bool(self._state.queue(self._client_id(token, now)))
        self._log("Checking for messages on channel %s: %s", token, has_messages)
        return has_messages

    def pop_first_message(self, token: str | bytes) -> str | None:
        """Take the first pending message; unlike a poll, it keeps no connection alive.

        Returns:
            The message; None where there is none, or the token is not valid.
        """
        message = self._step(self._plan_pop, None, token, "pop")
        self._note_invalid("pop_first_message", token, self._state.now)
        self._log("Popping first message of channel %s: %r", token, message)
        return message

    def clear_channel_messages(self, token: str | bytes) -> None:
        """Empty the queue; the client stays connected, and what was pending is lost.

        A list that `get_channel_messages` returned earlier is left as it was.
        """
        lost = self._step(self._plan_clear, token)
        self._note_invalid("clear_channel_messages", token, self._state.now)
        self._log("Clearing messages on channel %s: %d", token, lost)

    def _plan_clear(self, step: Step, token: str | bytes) -> int:
        client_id = self._client_id(token, step.now)
        queue = self._state.queue(client_id)
        if client_id is None or queue is None:
            return 0
        step.do(setattr, step.client(client_id), "queue", deque())
        step.record("clear", client_id, token=text_or_none(token), outcome=len(queue))
        return len(queue)

    def add_connect_event(self, client_id: str | bytes) -> None:
        """Tell the app that a client has connected; connects nobody."""
        self._step(self._plan_connect_event, _check_client_id(client_id))

    def _plan_connect_event(self, step: Step, client_id: str) -> None:
        outgoing = self._outgoing(step, "connected", client_id)
        if outgoing is not None:
            step.request(outgoing)

    def disconnect_channel_event(self, client_id: str | bytes) -> None:
        """Disconnect a client, and tell the app, also of a client that was never there.

        A timeout that was pending for it is cancelled. In the SDK it would still run,
        and disconnect a client that has connected again.
        """
        self._end(_check_client_id(client_id), "disconnect")

    def add_disconnect_event(self, client_id: str | bytes) -> None:
        """Have a client disconnected two seconds from now."""
        cause = f"{self.CHANNEL_TIMEOUT_SECONDS} s after add_disconnect_event"
        self._step(self._add_timer, _check_client_id(client_id), cause)
        self._log("Channel of client id %s is disconnected when it stays idle", client_id)

    def connect_channel(self, token: str | bytes) -> None:
        """Connect a client, or refresh its connection.

        The app hears of a new connection when the queue is there already; for the
        next two seconds, and after every refresh, the client stays connected.

        Raises:
            InvalidTokenError: It is not a token.
            TokenTimedOutError: It is expired.
            Exception: What the app's handler raises; the client is connected then.
        """
        client_id = self._step(self._plan_connect, token, "refresh")
        self._log("Connecting channel %s of client id %s", token, client_id)

    def connect_and_pop_first_message(self, token: str | bytes) -> str | None:
        """Poll, as a page does: connect or refresh, then take the first message.

        Returns:
            The message; None for no message.

        Raises:
            InvalidTokenError: It is not a token.
            TokenTimedOutError: It is expired.
            Exception: What the app's handler raises; the client is connected then.
        """
        return self._poll(token, "poll")

    # What the SDK's stub never had.

    @property
    def connected_client_ids(self) -> tuple[str, ...]:
        """The clients that are connected now, in the order in which they connected."""
        self._touch()
        return tuple(self._state.connected())

    def is_connected(self, client_id: str | bytes) -> bool:
        """Whether a client, named by its client id or a token of it, is connected now.

        Raises:
            TypeError: `client_id` is not text.
            InvalidChannelClientIdError: It is bytes that are not UTF-8.
        """
        self._touch()
        return self._state.queue(self._resolve_client_id(client_id)) is not None

    def pending(self, client_id: str | bytes) -> tuple[str, ...] | None:
        """The messages that are pending for a client now; None if it is not connected.

        Args:
            client_id: The client id, or a token of it.

        Raises:
            TypeError: `client_id` is not text.
            InvalidChannelClientIdError: It is bytes that are not UTF-8.
        """
        self._touch()
        queue = self._state.queue(self._resolve_client_id(client_id))
        return None if queue is None else tuple(queue)

    def disconnect(
        self, client_id: str | bytes, kind: Literal["close", "disconnect"] = "close"
    ) -> None:
        """Disconnect a client and tell the app.

        Args:
            client_id: The client id, or a token of it.
            kind: What the timeline calls it: `close` for a page that closes, `disconnect`
                for a disconnect by hand.

        Raises:
            TypeError: `client_id` is not text.
            InvalidChannelClientIdError: It is bytes that are not UTF-8.
            ValueError: There is no such kind.
        """
        if kind not in ("close", "disconnect"):
            message = f"kind is {formatting.shorten_repr(kind)}: pass 'close' or 'disconnect'"
            raise ValueError(message)
        self._end(self._resolve_client_id(client_id), kind)

    def wait_for(
        self,
        kind: Kind,
        client_id: str | bytes | None = None,
        timeout: float = 5.0,
        *,
        count: int = 1,
        message: object = matching.ANY,
    ) -> Event:
        """Wait, in real time, until the timeline holds an event; an earlier one counts too.

        An event counts when the app has answered the request that follows from it.

        Example:
            >>> stub.wait_for("connect", "alice")

        Args:
            kind: One of the timeline's kinds, such as `connect`, `read` or `close`.
            client_id: Whose event, by client id or token; None for anybody's.
            timeout: How long at most, in real seconds.
            count: How many such events there have to be.
            message: What the event's message has to be, as `assert_sent` takes it.

        Returns:
            The event; with `count`, the one that made the number full.

        Raises:
            AssertionError: It did not happen in time; the text says what did.
            TypeError: `client_id` is not text, or `timeout` or `count` is not a number.
            InvalidChannelClientIdError: `client_id` is bytes that are not UTF-8.
            ValueError: There is no such kind of event, `count` is below 1, or `timeout` is NaN.
        """
        check_kind(kind)
        _check_wait(timeout, count)
        name = None if client_id is None else _check_client_id(client_id)
        until = real_monotonic() + min(max(timeout, 0), threading.TIMEOUT_MAX)
        while True:
            self._touch()
            seen, left = self._progress(), until - real_monotonic()
            found = self._find_rows(kind, name, message)
            if len(found) >= count:
                return to_event(found[count - 1])
            if left <= 0 or self._is_closed:
                raise AssertionError(
                    diagnosis.explain_wait(self, kind, name, timeout, count, message)
                )
            call_locked(self._lock, self._wait_for_progress, seen, min(left, _LOOK_AGAIN))

    def _find_rows(self, kind: Kind, client_id: str | None, message: object) -> list[Row]:
        """The events of which the app has answered what follows."""
        names = None if client_id is None else {client_id, self._resolve_client_id(client_id)}
        return [
            row
            for row in self.timeline._rows.copy()
            if row.kind == kind
            and (names is None or row.client_id in names)
            and (row.answer is None or row.answer.is_answered)
            and (message is matching.ANY or matching.matches(message, row.message or ""))
        ]

    def _progress(self) -> tuple[int, int]:
        """Grows with every change, and with every answer of the app."""
        return self._state.version, self._outbox.answers

    def _wait_for_progress(self, seen: tuple[int, int], timeout: float) -> None:
        if self._progress() == seen and not self._is_closed:
            self._changed.wait(timeout)

    def reset(self, what: Reset = "queues") -> None:
        """Start over, in part or whole; the app does not hear of it.

        Args:
            what: `queues` empties every queue, and leaves connections, tokens and clock.
                `all` makes the stub as new: nobody connected, the clock at its start,
                timeline and requests empty, no error set. `nothing` does nothing.

        Raises:
            ValueError: `what` is none of these.
        """
        _check_reset(what)
        if what == "queues":
            self._step(self._plan_reset)
        elif what == "all":
            self._renew("since reset('all')")

    def _plan_reset(self, step: Step) -> None:
        lost = self._state.clear(step)
        if step.operations:
            step.record("reset", outcome=f"queues, {lost} lost")

    def close(self) -> None:
        """End the stub: it is not active any more, and nobody is connected.

        What it has recorded can still be read. A call that would change it is a
        RuntimeError. Closing it again does nothing.
        """
        registry.deactivate(self)
        call_locked(self._lock, self._state.change, self._plan_close)
        self._deliver()
        try:
            while self._closing:
                self._closing.pop()()
        finally:
            if self._closing:  # one has raised: the others are called all the same
                self.close()

    def _plan_close(self, step: Step) -> None:
        step.do(setattr, self, "_is_closed", True)
        self._state.forget_clients(step)
        self._outbox.forget(step)

    # Steps.

    def _step(
        self, plan: Callable[..., _Result], *arguments: object, needs_open: bool = True
    ) -> _Result:
        """Run the timers that are due, then make one step; then deliver to the app.

        Args:
            plan: Called with the step and the arguments. It is called again where a
                finalizer or a signal handler has changed the state meanwhile.
            arguments: For `plan`.
            needs_open: Whether a closed stub refuses the step.

        Returns:
            What `plan` returns; an `Error` that it returns is raised.
        """
        settle = partial(self._settle_time, self._read_clock(), needs_open)
        result: _Result = call_locked(
            self._lock, self._state.change, plan, arguments, settle, caller()
        )
        self._deliver()
        if isinstance(result, Error):
            try:
                raise result
            finally:
                del result  # in a circle with its frame it would keep the stub active
        return result

    def _touch(self) -> int:
        """Run the timers that are due; the time, in microseconds since the epoch."""
        reading = self._read_clock()
        now = self.clock._now if reading is None else reading[1]
        if not self._is_closed and (now < self._state.now or self._state.is_due(now)):
            _, now = call_locked(self._lock, self._settle_time, reading)
        self._deliver()
        return now

    def _read_clock(self) -> tuple[int, int] | None:
        """The time of a clock that is not the stub's own, read while no lock is held."""
        return None if self.clock._is_own else (self._state.version, self.clock._read())

    def _settle_time(
        self, reading: tuple[int, int] | None, needs_open: bool = False
    ) -> tuple[int, int]:
        """Run the timers that are due by now.

        Returns:
            The version of the state after that, and the time of this step.
        """
        state = self._state
        while True:
            version = state.version
            read_at, now = reading or (version, self.clock._now)
            if now < state.now and read_at != version:
                now = state.now  # another thread's step has come in between
            self._follow(now)
            if state.is_due(now):
                self._time_out(now)
            elif state.version == version:
                if needs_open:
                    self._check_open()
                return version, now

    def _follow(self, now: int) -> None:
        """Note the time; a clock that went back leaves a client two seconds at most."""
        if now < self._state.now:
            self._state.change(self._state.go_back, (now,))
        self._state.now = now

    def _time_out(self, now: int) -> str | None:
        """Disconnect the client whose timer is the first that is due; gives that client."""

        def plan(step: Step) -> str | None:
            due, timer = self._state.first_timer() or (now + 1, None)
            if timer is None or due > now:
                return None
            step.now = due
            self._plan_timeout(step, timer.client_id, timer)
            return timer.client_id

        return self._state.change(plan)

    def _plan_timeout(self, step: Step, client_id: str, timer: Timer | None = None) -> None:
        idle = f"idle for {self.CHANNEL_TIMEOUT_SECONDS} s"
        cause = idle if timer is None else timer.cause or idle
        outgoing = self._outgoing(step, "disconnected", client_id)
        self._state.end(step, "timeout", client_id, outgoing, cause=f"{cause}, ", timer=timer)
        step.postpone(self._log, "Channel of client id %s has timed out", client_id)

    def _deliver(self) -> None:
        """Deliver the requests to the app, and call what was postponed.

        A finalizer or a signal handler may run inside a step: what it leaves is delivered
        at the end of that.
        """
        if self._outbox.has_waiting() and not self._lock._is_owned():
            self._outbox.deliver()
            call_locked(self._lock, self._state.change, self._outbox.tidy)

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError(
                "this stub is closed: its record can be read, and nothing can be changed. Build "
                "another with make_channel_stub()"
            )

    # As the clock sees it.

    def _next_due(self) -> int | None:
        if self.clock._is_own:
            self._follow(self.clock._now)
        first = self._state.first_timer()
        return None if first is None else first[0]

    def _run_timer(self, now: int) -> str | None:
        client_id = call_locked(self._lock, self._time_out, now)
        self._deliver()
        return client_id

    # Clients.

    def _plan_connect(
        self,
        step: Step,
        token: str | bytes,
        kind: Kind | None,
        is_wanted: Callable[[], bool] | None = None,
    ) -> str | Error | None:
        if not (is_wanted is None or is_wanted()):
            return None
        client_id = self._client_id(token, step.now)
        if client_id is None:
            return self._reject(step, token)
        if self._state.queue(client_id) is None:
            is_timed = not self._add_foreign_timer(step, client_id)
            outgoing = self._outgoing(step, "connected", client_id)
            text = _tokens.to_text(token)
            self._state.connect(step, client_id, text, outgoing, is_timed=is_timed)
        else:
            self._refresh(step, client_id)
            if kind is not None:
                step.record(kind, client_id, token=_tokens.to_text(token))
        return client_id

    def _reject(self, step: Step, token: object) -> Error:
        """Record that a token is not valid; gives the error."""
        read = self._read_token(token)
        text = text_or_none(token)
        step.record(
            "reject",
            None if read is None else read.client_id,
            token=formatting.shorten_repr(token) if text is None else text,
            outcome="invalid" if read is None else "expired",
        )
        return self._token_error(token, step.now)

    def _poll(
        self,
        token: str | bytes,
        reader: str,
        is_wanted: Callable[[], bool] | None = None,
        received: list[str] | None = None,
    ) -> str | None:
        """Poll as `connect_and_pop_first_message` does.

        Args:
            token: The token.
            reader: What the timeline says has read the message.
            is_wanted: Whether the poll is still to happen; asked in its very step.
            received: Takes the message as well.
        """
        how = reader, is_wanted, received
        client_id, message = self._step(self._plan_poll, token, *how)
        if message is _NOT_READ:
            # The app has heard of a new connection by now: its greeting is read at once.
            message = self._step(self._plan_pop, client_id, token, *how)
        if client_id is not None:
            self._log("Polling channel %s of client id %s: %r", token, client_id, message)
        text: str | None = message
        return text

    def _plan_poll(
        self,
        step: Step,
        token: str | bytes,
        reader: str,
        is_wanted: Callable[[], bool] | None,
        received: list[str] | None,
    ) -> Any:
        result = self._plan_connect(step, token, None, is_wanted)
        if isinstance(result, Error):
            return result
        if result is None:
            return None, None
        if self._state.queue(result) is None:
            return result, _NOT_READ
        return result, self._plan_pop(step, result, token, reader, is_wanted, received)

    def _plan_pop(  # noqa: PLR0913, PLR0917 (see _poll)
        self,
        step: Step,
        client_id: str | None,
        token: str | bytes,
        reader: str,
        is_wanted: Callable[[], bool] | None = None,
        received: list[str] | None = None,
    ) -> str | None:
        """Take the first message of a client, by default that of the token."""
        if client_id is None:
            client_id = self._client_id(token, step.now)
        queue = self._state.queue(client_id)
        # A poll may find itself disconnected meanwhile.
        if queue is None or not (is_wanted is None or is_wanted()):
            return None
        text = text_or_none(token)
        if not queue:
            if reader != "pop":
                step.record("poll", client_id, token=text)
            return None
        message = queue[0]
        step.take(queue, message)
        step.record("read", client_id, token=text, message=message, outcome=reader)
        if received is not None:
            step.do(received.append, message)
        return message

    def _end(self, client_id: str, kind: Kind) -> None:
        self._log("Removing channel of client id %s", client_id)
        self._step(self._plan_end, client_id, kind)

    def _plan_end(
        self,
        step: Step,
        client_id: str,
        kind: Kind,
        token: str | None = None,
        holder: object = None,
    ) -> None:
        outgoing = self._outgoing(step, "disconnected", client_id)
        self._state.end(step, kind, client_id, outgoing, token=token, holder=holder)
        dispatcher = self._foreign_dispatcher()
        if dispatcher is not None:
            step.postpone(dispatcher.cancel_events, client_id)

    def _leave(self, client: Any) -> None:
        """Close a `ChannelClient`: all of it at once, its lease too."""
        self._log("Removing channel of client id %s", client.client_id)
        self._step(self._plan_leave, client, needs_open=False)

    def _plan_leave(self, step: Step, client: Any) -> None:
        if client._closed:
            return
        name, holder = client.client_id, client._lease and client._lease.holder
        if self._state.queue(name) is None:
            self._state.end_lease(step, name, holder)
        else:
            self._plan_end(step, name, "close", client.token, holder)
        step.do(setattr, client, "_closed", True)

    def _keep_alive(self, token: str | bytes) -> Lease:
        """Keep a token's client connected, as a page that polls all the time does.

        While the lease lasts, and the token is valid, the client does not time out. The
        two seconds run from the end of the lease, or from the end of the token.
        """
        read = _tokens.read(token) or _tokens.Token("", 0, "")
        lease = Lease(self, read.client_id)
        try:
            self._step(self._plan_begin_lease, lease, read.expires * MICROSECONDS)
            return lease  # noqa: TRY300 (one that is cut short here has to end)
        except BaseException:
            lease.end()
            raise

    def _plan_begin_lease(self, step: Step, lease: Lease, expires: int) -> None:
        self._state.begin_lease(step, lease.client_id, lease.holder, expires)
        dispatcher = self._foreign_dispatcher()
        if dispatcher is not None:
            due = max(step.now, expires) / MICROSECONDS + self.CHANNEL_TIMEOUT_SECONDS
            step.postpone(dispatcher.update_event, due, _TIMER, lease.client_id)

    def _plan_end_lease(self, step: Step, lease: Lease) -> None:
        self._state.end_lease(step, lease.client_id, lease.holder)

    # Tokens and client ids.

    def _read_token(self, token: object) -> _tokens.Token | None:
        """A token of this service, expired or not."""
        read = _tokens.read(token)
        if read is None or read.identifier != self.CHANNEL_TOKEN_IDENTIFIER:
            return None
        # To the SDK's stub a second before 1970 is malformed; a clock may stand there all the same.
        return None if read.expires < 0 <= self._state.now else read

    def _client_id(self, token: object, now: int) -> str | None:
        """The client id of a valid token; None for anything else."""
        read = _tokens.read(token)
        if read is None or read.expires * MICROSECONDS <= now:
            return None
        return read.client_id if read.identifier == self.CHANNEL_TOKEN_IDENTIFIER else None

    def _resolve_client_id(self, address: str | bytes) -> str:
        """The client id that a test means by a client id, or by a token of it."""
        text = _check_client_id(address)
        read = None if self._state.queue(text) is not None else _tokens.read(text)
        return text if read is None else read.client_id

    def _note_invalid(self, method: str, token: object, now: int) -> None:
        """Note a call that can find nothing, as its token is not valid, for a failure to tell."""
        if self._client_id(token, now) is None:
            key = method, formatting.shorten_repr(token)
            self._invalid.setdefault(key, (text_or_none(token), caller()))

    def _token_error(self, token: object, now: int) -> Error:
        """The error for an invalid or expired token."""
        read = self._read_token(token)
        if read is None:
            is_bad_bytes = isinstance(token, bytes) and text_or_none(token) is None
            reason = " (bytes that are not UTF-8)" if is_bad_bytes else ""
            return InvalidTokenError(
                f"{formatting.shorten_repr(token)}{reason} is not a channel token: "
                "pass what create_channel returned"
            )
        ago = formatting.format_duration(now / MICROSECONDS - read.expires)
        at = formatting.format_offset(read.expires, self.timeline.start)
        return TokenTimedOutError(
            f"the token of client id {read.client_id!r} expired {ago} ago, at {at}: "
            "make another with create_channel"
        )

    # Timers and requests to the app: ours, or those of request_data's own dispatcher.

    def _foreign_dispatcher(self) -> Any:
        """The dispatcher that request_data brings; None for our own."""
        data = self.request_data
        if data is None or registry.sdk.is_silent_request_data(data):
            return None
        return data.get_dispatcher()

    def _outgoing(self, step: Step, event: str, client_id: str) -> Outgoing | None:
        """The request that tells the app of a client; None where another dispatcher makes it."""
        path = f"/_ah/channel/{event}/"
        dispatcher = self._foreign_dispatcher()
        if not self._presence:
            return None
        step.postpone(self._log, "Telling the app that client id %s is %s", client_id, event)
        if dispatcher is None:
            return Outgoing(client_id, path, step.now, self.XMPP_PUBLIC_IP, step.source)
        request = ("POST", path, [FORM], f"from={client_id}", self.XMPP_PUBLIC_IP)
        step.postpone(dispatcher.add_async_request, *request)
        return None

    def _add_timer(self, step: Step, client_id: str, cause: str) -> None:
        if not self._add_foreign_timer(step, client_id):
            self._state.add_timer(step, client_id, cause)

    def _add_foreign_timer(self, step: Step, client_id: str) -> bool:
        """Have another dispatcher disconnect a client in time, if there is one."""
        dispatcher = self._foreign_dispatcher()
        if dispatcher is None:
            return False
        due = self._foreign_deadline(step, client_id)
        run = partial(self._step, self._plan_foreign_timeout, client_id, due)
        step.postpone(dispatcher.add_event, run, due, _TIMER, client_id)
        return True

    def _plan_foreign_timeout(self, step: Step, client_id: str, due: float) -> None:
        step.now = round(due * MICROSECONDS)
        self._plan_timeout(step, client_id)

    def _refresh(self, step: Step, client_id: str) -> None:
        dispatcher = self._foreign_dispatcher()
        if dispatcher is None:
            self._state.refresh(step, client_id)
        else:
            due = self._foreign_deadline(step, client_id)
            step.postpone(dispatcher.update_event, due, _TIMER, client_id)

    def _foreign_deadline(self, step: Step, client_id: str) -> float:
        client = self._state.clients.get(client_id) or Client()
        return self._state.deadline(step.now, client) / MICROSECONDS

    # As a failure sees it.

    @property
    def _is_clock_own(self) -> bool:
        """Whether the time stands still unless the test moves it."""
        return self.clock._is_own

    @property
    def _is_in_handler(self) -> bool:
        """Whether a handler of the app runs in this thread, called by the stub."""
        return self._outbox.runs_handler()

    @property
    def _built_by(self) -> str:
        """Where the stub was built, to go on in a sentence."""
        if self._is_of_fixture:
            return "is that of the fixture channel_stub"
        return f"was built by {formatting.describe_source(format_source(self._origin))}"

    @property
    def _is_of_fixture(self) -> bool:
        """Whether no line of a test or an app has built the stub."""
        source = self._origin
        return source is None or "_pytest" in PurePath(source[0].co_filename).parts

    def _other_stubs(self) -> list[ChannelServiceStub]:
        """The other stubs that are active, and newer ones that are closed."""
        stubs = [*registry.stubs(), *settings.find_closed_stubs(self)]
        return [each for each in stubs if isinstance(each, type(self)) and each is not self]

    def _deadline_of(self, client_id: str) -> tuple[float, bool, str]:
        """When a connected client times out, whether it is kept alive until then, and the cause."""
        client = self._state.clients[client_id]
        due = [(timer.due, timer.cause) for timer in client.timers if timer.due is not None]
        deadline = self._state.deadline(self._state.now, client)
        first, cause = min(due, default=(deadline, ""))
        return first / MICROSECONDS, bool(client.leases), cause

    def _overdue(self) -> list[tuple[str, float]]:
        """The clients that are due to time out, and since when: nothing has noticed yet."""
        if self.clock._is_own or self._is_closed:
            return []
        now, clients = self.clock._read(), self._state.clients.copy()
        return [
            (timer.client_id, timer.due / MICROSECONDS)
            for client in clients.values()
            for timer in client.timers
            if timer.due is not None and timer.due <= now
        ]

    # Between tests.

    def _begin_epoch(self, what: Reset) -> None:
        """Begin a test: reset, with an empty timeline; with `nothing` the story goes on."""
        _check_reset(what)
        if what == "nothing" or self._is_closed:
            return
        self._older_threads = frozenset(threading.enumerate())
        try:
            self._touch()
        finally:  # what the app raises at a time-out of an earlier test comes after the reset
            self._wait_until_idle(_LEAVE_TIME)
            for page in [*self._pages.values()]:
                page.end()
            if what == "all":
                self._renew()
            else:
                call_locked(self._lock, self._state.change, self._plan_next_test)
                self._deliver()

    def _plan_next_test(self, step: Step) -> None:
        clients = self._state.clients
        since = {name: clients[name].since[0] / MICROSECONDS for name in self._state.connected()}
        self._state.clear(step)
        self._plan_epoch(step, since, THIS_TEST)

    def _renew(self, span: str = THIS_TEST) -> None:
        self._check_open()
        now = self.clock._read_start()
        call_locked(self._lock, self._state.change, self._plan_renewal, (now, span))
        self._deliver()

    def _plan_renewal(self, step: Step, now: int, span: str) -> None:
        self._state.forget_clients(step)
        self._outbox.forget(step)
        self._plan_epoch(step, {}, span)
        self.clock._plan_reset(step, now)
        step.do(setattr, self._state, "now", now)
        step.do(self._errors.clear)
        step.do(setattr, self, "_random", random.Random(self.seed))  # noqa: S311 (no secret)

    def _plan_epoch(self, step: Step, carried: dict[str, float], span: str) -> None:
        self._state.begin_epoch(step, carried, span)
        step.do(self._pages.clear)
        step.do(self._invalid.clear)

    def _wait_until_idle(self, timeout: float) -> None:
        """Wait until the app has answered every request; for so many real seconds at most."""
        until = real_monotonic() + timeout
        while not self._outbox.is_idle() and (left := until - real_monotonic()) > 0:
            seen = self._progress()
            call_locked(self._lock, self._wait_for_progress, seen, min(left, _LOOK_AGAIN))

    def _renew_locks(self) -> None:
        """In a forked process: free what threads held that are not in it."""
        self.clock._renew_locks()
        self._lock, self._changed = self.clock._lock, self.clock._changed
        self._outbox.renew(self._changed)


class Lease:
    """Keeps a client connected until its `end`, or until its token expires.

    Args:
        stub: Of the client.
        client_id: The client.

    Attributes:
        client_id: As given.
        holder: What the stub knows the lease by.
    """

    def __init__(self, stub: ChannelServiceStub, client_id: str) -> None:
        self.client_id = client_id
        self.holder = object()
        self._stub = stub

    def end(self) -> None:
        """Keep the client alive no longer; it has two seconds. A second call does nothing."""
        self._stub._step(self._stub._plan_end_lease, self, needs_open=False)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_client_id(client_id: object) -> str:
    """A client id that a test names, as plain text."""
    return read_text("the client id", client_id, InvalidChannelClientIdError)


def _check_wait(timeout: object, count: object) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        instead = "a number of real seconds"
        raise TypeError(formatting.describe_type("timeout", timeout, instead))
    if isinstance(timeout, float) and math.isnan(timeout):  # no time ever reaches it
        message = "timeout is nan: pass a number of real seconds"
        raise ValueError(message)
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(formatting.describe_type("count", count, "a whole number"))
    if count < 1:
        message = f"count is {count}: pass how many such events to wait for, at least 1"
        raise ValueError(message)


def _check_reset(what: object) -> None:
    if what not in _RESETS:
        shown = formatting.shorten_repr(what)
        message = f"reset takes 'queues', 'all' or 'nothing', got {shown}"
        raise ValueError(message)


def _fields(request: Any) -> tuple[str | None, str | None]:
    """The client id and the message of a request, as far as it has them."""
    getters = (getattr(request, name, None) for name in ("application_key", "message"))
    client_id, message = (get() if callable(get) else None for get in getters)
    return text_or_none(client_id), text_or_none(message)
