"""ChannelServiceStub: what a test sees and does of the service, as in the SDK's stub."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pytest_channelstub._service import apiproxy
from pytest_channelstub import _tokens as tokens
from pytest_channelstub._service import waiting
from pytest_channelstub._service.delivery import check_app
from pytest_channelstub._service.service import ChannelService, Hold, plain_client_id
from pytest_channelstub._tokens import Error, InvalidTokenError, TokenTimedOutError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

    from typing_extensions import Self

    from pytest_channelstub._service.delivery import Request
    from pytest_channelstub._record.timeline import Event

# A failure points at the line of the test, not at ours.
__tracebackhide__ = True

__all__ = ["ChannelServiceStub", "Error", "InvalidTokenError", "TokenTimedOutError"]

_ROOT = logging.getLogger()

RESETS = ("queues", "all", "nothing")
"""What `ChannelServiceStub.reset` takes."""


class ChannelServiceStub(ChannelService):
    """Answers the Channel API's calls, and lets a test see and do what a page would.

    It is complete without pytest: `ChannelServiceStub(time_func=FakeClock().time)`. The
    newest stub that is alive is in force: `channel.create_channel` and
    `channel.send_message` reach it.

    Its lock is never held while other code runs: an app's handler, `log` or `time_func`
    may call the stub again, from any thread.

    Example:
        >>> stub = ChannelServiceStub(time_func=FakeClock().time)

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

    def __init__(
        self,
        log: Callable[..., object] = logging.debug,
        service_name: str = "channel",
        time_func: Callable[[], float] | None = None,
        request_data: Any = None,
    ) -> None:
        super().__init__(log, service_name, time_func, request_data)
        self.closing: list[Callable[[], object]] = []
        apiproxy.enter_force(self)

    def __repr__(self) -> str:
        told = f"{len(self._connections.queues)} connected, {len(self.timeline)} events"
        return f"<ChannelServiceStub {told}, {self.clock!r}>"

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
        check_app(app)
        self._own.app = app

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests made to the app so far, in order."""
        return self._own.requests

    # The methods of the SDK's reference page.

    def client_id_from_token(self, token: str) -> str | None:
        """The client id of a valid token; None for anything else."""
        client_id = self._client_id(token, self._touch())
        self._log("Token %s is of client id %s", token, client_id)
        return client_id

    def validate_token_and_extract_client_id(self, token: str) -> str:
        """The client id of a valid token.

        Raises:
            InvalidTokenError: It is not a token.
            TokenTimedOutError: Its time is over.
        """
        now = self._time()
        if now >= self._agenda.next_due:
            now = self._touch()
        read = tokens.remembered[token] if type(token) is str else tokens.read(token)
        if not (read and read.expires > now and read.identifier == self.CHANNEL_TOKEN_IDENTIFIER):
            raise self._refusal(token, now)
        if _ROOT.level <= self._heard_at:
            self._log("Token %s is valid for client id %s", token, read.client_id)
        return read.client_id

    def get_channel_messages(self, token: str) -> list[str] | None:
        """The pending messages: a live list, in which later messages and pops show.

        Returns:
            The list; None where the client is not connected, or the token not valid.
        """
        client_id = self._client_id(token, self._touch())
        self._log("Received request for messages for channel %s", token)
        return None if client_id is None else self._connections.live(client_id)

    def has_channel_messages(self, token: str) -> bool:
        """Whether a message is pending; False where the token is not valid."""
        client_id = self._client_id(token, self._touch())
        has_messages = client_id is not None and self._connections.waiting(client_id) > 0
        self._log("Checking for messages on channel %s: %s", token, has_messages)
        return has_messages

    def pop_first_message(self, token: str) -> str | None:
        """Take the first pending message; unlike a poll, it keeps no connection alive.

        Returns:
            The message; None where there is none, or the token is not valid.
        """
        now = self._touch()
        client_id = self._client_id(token, now)
        message = None if client_id is None else self._connections.pop(now, client_id, token, "pop")
        if _ROOT.level <= self._heard_at:
            self._log("Popping first message of channel %s: %r", token, message)
        return message

    def clear_channel_messages(self, token: str) -> None:
        """Drop the pending messages; the client stays connected.

        A list that `get_channel_messages` returned earlier is left as it was.
        """
        now = self._touch()
        client_id = self._client_id(token, now)
        lost = 0 if client_id is None else self._connections.clear(now, client_id, token)
        self._log("Clearing messages on channel %s: %d", token, lost)

    def add_connect_event(self, client_id: str) -> None:
        """Tell the app that a client has connected; connects nobody."""
        client_id = plain_client_id(client_id)
        self._touch()
        self._post("connected", client_id)

    def disconnect_channel_event(self, client_id: str) -> None:
        """Disconnect a client, and tell the app, also of a client that was never there.

        A timeout that was pending for it is cancelled. In the SDK it would still fire,
        and throw out a client that has connected again.
        """
        self._leave(client_id, "disconnect")

    def add_disconnect_event(self, client_id: str) -> None:
        """Have a client disconnected two seconds from now."""
        self._schedule(plain_client_id(client_id), self._touch())
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
        client_id = self._client_id(token, now)
        if client_id is None:
            self._reject(token, now)
        self._log("Connecting channel %s of client id %s", token, client_id)
        if self._enter(client_id, token, now):
            self.timeline.record((now, "refresh", client_id, token, None, ""))
        earlier = self._time()
        if earlier < now:
            self._refresh(client_id, earlier)

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
        return self._connections.client_ids()

    def is_connected(self, client_id: str) -> bool:
        """Whether a client, named by its client id or a token of it, is connected now."""
        self._touch()
        return self._named(client_id) in self._connections.queues

    def pending(self, client_id: str) -> tuple[str, ...] | None:
        """The messages that wait for a client, as they are now; None if not connected.

        Args:
            client_id: The client id, or a token of it.
        """
        self._touch()
        return self._connections.pending(self._named(client_id))

    def disconnect(self, client_id: str, kind: str = "close") -> None:
        """Disconnect a client and tell the app.

        Args:
            client_id: The client id, or a token of it.
            kind: What the timeline calls it: `close` for a page that says goodbye,
                `disconnect` for a disconnect by hand.
        """
        self._leave(self._named(plain_client_id(client_id)), kind)

    def read_message(self, token: str, reader: str = "client") -> str | None:
        """Poll as `connect_and_pop_first_message` does.

        Args:
            token: The token.
            reader: Who the timeline says has read the message.
        """
        now = self._time()
        if now >= self._agenda.next_due:
            now = self._touch()
        client_id = self._client_id(token, now)
        if client_id is None:
            self._reject(token, now)
        if client_id in self._connections.queues:
            self._refresh(client_id, now)
        else:
            self._enter(client_id, token, now)
        # The app's handler may have let time pass, and another thread may have gone back.
        began, now = now, self._time()
        if now < began:
            self._refresh(client_id, now)
        message = self._connections.pop(now, client_id, token, reader)
        if _ROOT.level <= self._heard_at:
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

    def hold(self, client_id: str, token: str) -> AbstractContextManager[None]:
        """Keep a client connected, as a page that polls all the time does.

        While it is held, and its token valid, the client does not time out. The two
        seconds run from the end of the hold, or from the end of the token.

        Example:
            >>> with stub.hold("alice", token):
            ...     stub.clock.advance(minutes=5)
        """
        read = tokens.read(token)
        return Hold(self, client_id, 0 if read is None else read.expires)

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
            self._connections.clear_all(self._touch())
        elif what == "all":
            self._renew()

    def close(self) -> None:
        """End the stub: it is in force no longer, and its timers are cancelled.

        What it has recorded can still be read. Closing it again does nothing.
        """
        apiproxy.leave_force(self)
        self._own.cancel_all()
        try:
            while self.closing:
                self.closing.pop()()
        finally:
            if self.closing:  # one has raised: the others are called all the same
                self.close()
            self.timeline.wake()

    def _renew(self) -> None:
        # The clock first: a call of another thread that began before then finds, when it
        # has connected its client, that the time has gone back.
        self.clock.reset()
        self._own.cancel_all()
        self._own.forget_requests()
        self._connections.forget()
        self._errors.clear()
        self.__dict__.pop("random", None)
        self.timeline.clear()
        self.timeline.wake()
