"""The service behind the stub: its calls, its connections, its timeouts."""

from __future__ import annotations

import functools
import itertools
import logging
import math
import random
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_channelstub import apiproxy_errors
from pytest_channelstub._service import apiproxy
from pytest_channelstub._appengine import importing as appengine
from pytest_channelstub import _tokens as tokens
from pytest_channelstub._record._values import shown
from pytest_channelstub._service.channel_service_pb import ChannelServiceError
from pytest_channelstub._service.clock import FakeClock
from pytest_channelstub._service.connections import Connections
from pytest_channelstub._service.delivery import Dispatcher, RequestInfo
from pytest_channelstub._service.process_clock import SystemClock
from pytest_channelstub._record.timeline import Timeline
from pytest_channelstub._tokens import Error, InvalidTokenError, TokenTimedOutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_channelstub._service.channel_service_pb import (
        CreateChannelRequest,
        CreateChannelResponse,
        SendMessageRequest,
    )

# A failure points at the line of the test, not at ours.
__tracebackhide__ = True

_FORM = (("Content-Type", "application/x-www-form-urlencoded"),)
_TIMER = "channel-disconnect"
_ROOT = logging.getLogger()
_DEBUG = logging.DEBUG
# Stubs built without a seed make the same tokens at every run, and not each other's.
_unseeded = itertools.count()


class ChannelService(apiproxy.APIProxyStub):
    """Answers the service's calls, and lets clients connect, stay and time out.

    What a test says to it is in `ChannelServiceStub`.
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
        # logging.debug itself would give a root logger without handlers one; and it is
        # called only where it would be heard, as every call of the service comes by here.
        self._log = _ROOT.debug if log is logging.debug else log
        self._heard_at = _DEBUG if log is logging.debug else math.inf
        owner = getattr(time_func, "__self__", None)
        self.clock: FakeClock = owner if isinstance(owner, FakeClock) else SystemClock(time_func)
        shared = isinstance(self.clock, SystemClock)
        self.timeline = Timeline(None if shared else self.clock.start)
        self.seed: int | str = next(_unseeded)
        self._time = self.clock.time
        self._agenda = self.clock.agenda
        self._own = Dispatcher(self.clock, self.timeline)
        self._own_data = RequestInfo(self._own)
        if request_data is None:
            self.request_data = self._own_data
        self._connections = Connections(self.timeline)

    @functools.cached_property
    def random(self) -> random.Random:
        """The generator of tokens' random parts and of `SetError`'s chances."""
        return random.Random(self.seed)  # noqa: S311 (no secret)

    # The calls.

    def _Dynamic_CreateChannel(
        self, request: CreateChannelRequest, response: CreateChannelResponse
    ) -> None:
        client_id = request.application_key()
        if not client_id:
            raise apiproxy_errors.ApplicationError(
                ChannelServiceError.INVALID_CHANNEL_KEY, "the client id is empty"
            )
        if not _is_utf8(client_id):
            raise apiproxy_errors.ApplicationError(
                ChannelServiceError.INVALID_CHANNEL_KEY,
                f"the client id holds a lone surrogate: {shown(client_id)}",
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
        message, address = request.message(), request.application_key()
        if not message:
            raise apiproxy_errors.ApplicationError(
                ChannelServiceError.BAD_MESSAGE, "the message is empty"
            )
        now = self._time()
        if now >= self._agenda.next_due:
            self.clock.run_due(now)
        token = tokens.remembered[address] if type(address) is str else tokens.read(address)
        if token is None or token.identifier != self.CHANNEL_TOKEN_IDENTIFIER:
            client_id, used, note = address, None, ""
        elif token.expires <= now:  # then it is taken for a client id, as by the SDK's stub
            client_id, used, note = address, address, "expired token"
        else:
            client_id, used, note = token.client_id, address, ""
        sent = self._connections.send(now, client_id, used, message, note)
        if _ROOT.level <= self._heard_at:
            told = "Sending message to" if sent else "SKIPPING message, not connected:"
            self._log("%s client id %s: %r", told, client_id, message)

    def _failing(self, call: str, request: Any, error: Any) -> None:
        sent = request.message() if hasattr(request, "message") else None
        client_id = request.application_key() if hasattr(request, "application_key") else None
        outcome = f"{call}: {type(error).__name__}"
        self.timeline.record((self._touch(), "error", client_id, None, sent, outcome))

    # Tokens.

    def _client_id(self, token: object, now: float) -> str | None:
        """The client id of a valid token; None for anything else."""
        read = tokens.remembered[token] if type(token) is str else tokens.read(token)
        if read is None or read.expires <= now:
            return None
        return read.client_id if read.identifier == self.CHANNEL_TOKEN_IDENTIFIER else None

    def _named(self, address: str) -> str:
        """The client id that a test means by a client id, or by a token of it."""
        if address in self._connections.queues:
            return address
        read = tokens.read(address)
        return address if read is None else read.client_id

    def _refusal(self, token: object, now: float) -> Error:
        """Why a token that is not valid is none."""
        read = tokens.read(token)
        if read is None or read.identifier != self.CHANNEL_TOKEN_IDENTIFIER:
            message = f"{shown(token)} is no channel token: pass what create_channel returned"
            return InvalidTokenError(message)
        from pytest_channelstub._record import formatting as rendering  # noqa: PLC0415 (few tokens are refused)

        message = (
            f"the token of client id {read.client_id!r} ended {rendering.span(now - read.expires)} "
            f"ago, at {rendering.since(read.expires, self.timeline.start)}: make another with "
            "create_channel"
        )
        return TokenTimedOutError(message)

    def _reject(self, token: object, now: float) -> NoReturn:
        """Refuse a token that somebody connects with, and put that on the record."""
        read = tokens.read(token)
        known = read is not None and read.identifier == self.CHANNEL_TOKEN_IDENTIFIER
        outcome = "expired" if known else "invalid"
        client_id = None if read is None else read.client_id
        text = str.__str__(token) if isinstance(token, str) else shown(token)
        self.timeline.record((now, "reject", client_id, text, None, outcome))
        raise self._refusal(token, now)

    # Connections.

    def _touch(self) -> float:
        """The time, once what was due by then has fired."""
        now = self._time()
        if now >= self._agenda.next_due:
            self.clock.run_due(now)
            now = self._time()  # the app's handler may have let time pass
        return now

    def _enter(self, client_id: str, token: str, now: float) -> bool:
        """Connect a client, or refresh its connection; True if it was connected before."""
        if client_id in self._connections.queues:
            self._refresh(client_id, now)
            return True
        if self._connections.open(now, client_id, token):
            # The timer is set before the app is told: a handler that raises, or that lets
            # time pass, finds a connection like any other.
            self._schedule(client_id, now)
            self._post("connected", client_id, now)
        return False

    def _leave(self, client_id: str, kind: str) -> None:
        client_id = plain_client_id(client_id)
        now = self._touch()
        self._log("Removing channel of client id %s", client_id)
        self._own.cancel_events(client_id)
        self._connections.remove(now, client_id, kind)
        self._post("disconnected", client_id, now)

    def _time_out(self, client_id: str, due: float) -> None:
        note = f"idle for {self.CHANNEL_TIMEOUT_SECONDS} s, "
        self._connections.remove(due, client_id, "timeout", note)
        if _ROOT.level <= self._heard_at:
            self._log("Channel of client id %s has timed out", client_id)
        self._post("disconnected", client_id, due)

    def _begin_hold(self, client_id: str, expires: int) -> object:
        hold = self._connections.hold(client_id, expires)
        try:
            self._refresh(client_id, self._touch())
        except BaseException:
            self._end_hold(client_id, expires, hold)
            raise
        return hold

    def _end_hold(self, client_id: str, expires: int, hold: object) -> None:
        found = self._connections.release(client_id, hold)
        now = self._time()
        # The two seconds from the token's end run already; another page may have put them off.
        if found and now < expires:
            self._refresh(client_id, now)

    # Timers and requests.

    def _dispatcher(self) -> Any:
        data = self.request_data
        if data is self._own_data or appengine.is_silent_request_data(data):
            return self._own
        return data.get_dispatcher()

    def _deadline(self, client_id: str, now: float) -> float:
        return self._connections.alive_until(client_id, now) + self.CHANNEL_TIMEOUT_SECONDS

    def _refresh(self, client_id: str, now: float) -> None:
        dispatcher = self._own if self.request_data is self._own_data else self._dispatcher()
        due = now + self.CHANNEL_TIMEOUT_SECONDS
        if self._connections.holds:
            due = self._deadline(client_id, now)
        dispatcher.update_event(due, _TIMER, client_id)

    def _schedule(self, client_id: str, now: float) -> None:
        due = self._deadline(client_id, now)
        runnable = functools.partial(_time_out, weakref.ref(self), client_id, due)
        self._dispatcher().add_event(runnable, due, _TIMER, client_id)

    def _post(self, event: str, client_id: str, at: float | None = None) -> None:
        dispatcher = self._dispatcher()
        if _ROOT.level <= self._heard_at:
            self._log("Telling the app that client id %s is %s", client_id, event)
        path, body, source_ip = f"/_ah/channel/{event}/", f"from={client_id}", self.XMPP_PUBLIC_IP
        if dispatcher is self._own:
            dispatcher.add_async_request("POST", path, _FORM, body, source_ip, at=at)
        else:
            dispatcher.add_async_request("POST", path, [*_FORM], body, source_ip)


class Hold:
    """Keeps a client connected from its `__enter__` to its `__exit__`.

    One that is never left holds until the token ends. It is no generator: Python would
    run the end of that one while it collects garbage, at any point of any thread, under
    the very lock that the end needs.

    Args:
        service: Who holds.
        client_id: The client.
        expires: The second since the epoch at which its token ends.
    """

    def __init__(self, service: ChannelService, client_id: str, expires: int) -> None:
        self._service = service
        self._held = client_id, expires
        self._hold: object = None

    def __enter__(self) -> None:
        self._hold = self._service._begin_hold(*self._held)  # noqa: SLF001 (its own)

    def __exit__(self, *_: object) -> None:
        self._service._end_hold(*self._held, self._hold)  # noqa: SLF001 (its own)


def plain_client_id(client_id: object) -> str:
    """The plain text of a client id that a test names; a subclass may print as it likes.

    Raises:
        TypeError: It is no text.
    """
    if not isinstance(client_id, str):
        message = (
            f"the client id is {shown(client_id)}, of type {type(client_id).__name__}: pass a str"
        )
        raise TypeError(message)
    return client_id if type(client_id) is str else str.__str__(client_id)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _time_out(
    reference: weakref.ref[ChannelService], client_id: str, due: float, fired: float | None = None
) -> None:
    """Time a client out, unless its stub is gone; a foreign dispatcher gives no instant."""
    stub = reference()
    if stub is not None:
        stub._time_out(client_id, due if fired is None else fired)  # noqa: SLF001 (its own)
