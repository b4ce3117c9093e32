"""Every public name, used as a user would: run by pytest, checked by mypy and pyright."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import pytest_channelstub
from pytest_channelstub import (
    ANY,
    ChannelAppWarning,
    ChannelClient,
    ChannelServiceError,
    ChannelServiceStub,
    ConnectClient,
    Event,
    FakeClock,
    InvalidTokenError,
    MakeChannelStub,
    Request,
    Timeline,
    TokenTimedOutError,
    apiproxy_errors,
    assert_connected,
    assert_disconnected,
    assert_dropped,
    assert_not_sent,
    assert_queued,
    assert_sent,
    assert_token_expired,
    assert_token_valid,
    channel,
)
from pytest_channelstub._service.channel_service_pb import (
    CreateChannelRequest,
    CreateChannelResponse,
    SendMessageRequest,
)
from pytest_channelstub.web import ChannelMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(environ["PATH_INFO"]).encode()]


@pytest.fixture(scope="module")
def service(make_channel_stub: MakeChannelStub) -> Iterator[ChannelServiceStub]:
    with make_channel_stub(start="2024-02-29", clock="fake", seed=7, app=app) as stub:
        yield stub


def test_the_package_has_the_names_that_it_lists() -> None:
    used = {name for name in globals() if name in pytest_channelstub.__all__}
    assert used == set(pytest_channelstub.__all__)


def test_the_apps_side() -> None:
    limits: tuple[int, int, int] = (
        channel.MAXIMUM_CLIENT_ID_LENGTH,
        channel.MAXIMUM_MESSAGE_LENGTH,
        channel.MAXIMUM_TOKEN_DURATION_MINUTES,
    )
    assert limits == (256, 32767, 1440)
    errors: list[type[channel.Error]] = [
        channel.InvalidChannelClientIdError,
        channel.InvalidChannelTokenDurationError,
        channel.InvalidMessageError,
        channel.AppIdAliasRequired,
    ]
    assert all(issubclass(error, channel.Error) for error in errors)
    with ChannelServiceStub():
        token: str = channel.create_channel("alice", duration_minutes=5)
        channel.send_message(token, "hello")


def test_the_stub(channel_stub: ChannelServiceStub) -> None:
    token = channel.create_channel("alice")
    channel_stub.connect_channel(token)
    client_id: str | None = channel_stub.client_id_from_token(token)
    valid: str = channel_stub.validate_token_and_extract_client_id(token)
    messages: list[str] | None = channel_stub.get_channel_messages(token)
    some: bool = channel_stub.has_channel_messages(token)
    first: str | None = channel_stub.pop_first_message(token)
    polled: str | None = channel_stub.connect_and_pop_first_message(token)
    assert (client_id, valid, messages, some, first, polled) == (
        "alice",
        "alice",
        [],
        False,
        None,
        None,
    )
    connected: tuple[str, ...] = channel_stub.connected_client_ids
    pending: tuple[str, ...] | None = channel_stub.pending("alice")
    here: bool = channel_stub.is_connected("alice")
    assert (connected, pending, here) == (("alice",), (), True)
    channel_stub.clear_channel_messages(token)
    channel_stub.add_connect_event("alice")
    channel_stub.add_disconnect_event("alice")
    channel_stub.disconnect_channel_event("alice")
    channel_stub.app = app
    channel_stub.reset()
    channel_stub.reset("all")


def test_the_stubs_constants() -> None:
    thread_safe: bool = ChannelServiceStub.THREADSAFE
    seconds: int = ChannelServiceStub.CHANNEL_TIMEOUT_SECONDS
    address: str = ChannelServiceStub.XMPP_PUBLIC_IP
    minutes: int = ChannelServiceStub.CHANNEL_TOKEN_DEFAULT_DURATION
    name: str = ChannelServiceStub.CHANNEL_TOKEN_IDENTIFIER
    assert (thread_safe, seconds, address, minutes, name) == (
        True,
        2,
        "0.1.0.10",
        120,
        "channel",
    )


def test_an_apps_errors_are_warned_of(service: ChannelServiceStub) -> None:
    category: type[Warning] = ChannelAppWarning

    def broken(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("500 Broken", [])
        return []

    service.app = broken
    with pytest.warns(category, match="500 Broken"):
        service.add_connect_event("alice")
    service.app = app


def test_calls(service: ChannelServiceStub) -> None:
    request = CreateChannelRequest()
    request.set_application_key("alice")
    response = CreateChannelResponse()
    service.MakeSyncCall("channel", "CreateChannel", request, response)
    token: str = response.token()
    assert token
    message = SendMessageRequest(application_key="alice", message="hello")
    rpc = service.CreateRPC()
    rpc.MakeCall("channel", "SendChannelMessage", message, response)
    rpc.Wait()
    rpc.CheckSuccess()
    service.SetError(apiproxy_errors.ApplicationError(ChannelServiceError.BAD_MESSAGE))
    with pytest.raises(channel.InvalidMessageError):
        channel.send_message("alice", "hello")
    service.SetError(None)
    with pytest.raises(InvalidTokenError):
        service.connect_channel("no token")


def test_what_happened(service: ChannelServiceStub) -> None:
    ChannelClient(service, channel.create_channel("bob")).close()
    timeline: Timeline = service.timeline
    event: Event = timeline[-1]
    events: tuple[Event, ...] = timeline.of("bob", kind="connect")
    at: float = events[0].at
    outcomes: tuple[str, str | None, str | None, str | None, str] = (
        event.kind,
        event.client_id,
        event.token,
        event.message,
        event.outcome,
    )
    assert at == service.clock.time()
    assert outcomes[0] == "request"
    request: Request = service.requests[-1]
    made: tuple[str, str, str, str, float, int | None] = (
        request.method,
        request.url,
        request.body,
        request.source_ip,
        request.at,
        request.status,
    )
    assert made[-1] == 200


def test_the_clock(channel_clock: FakeClock) -> None:
    channel_clock.advance(1.5, minutes=1, hours=1, days=1)
    channel_clock.advance(timedelta(seconds=1))
    channel_clock.tick()
    channel_clock.move_to(datetime(2031, 1, 1, tzinfo=UTC))
    now: datetime = channel_clock.now
    seconds: tuple[float, float, float] = (
        channel_clock.time(),
        channel_clock.start,
        channel_clock.elapsed,
    )
    assert now.timestamp() == seconds[0] == seconds[1] + seconds[2]
    assert FakeClock(start="2020-01-01").start == FakeClock().start


def test_a_client(channel_client: ConnectClient, channel_clock: FakeClock) -> None:
    alice = channel_client("alice", duration_minutes=1, keep_alive=True)
    channel.send_message(alice.client_id, '{"a": 1}')
    channel.send_message(alice.token, "two")
    channel.send_message(alice.token, "three")
    waiting: list[str] = alice.messages
    assert alice.receive_json() == {"a": 1}
    assert alice.receive() == "two"
    polled: str | None = alice.poll()
    rest: list[str] = alice.receive_all()
    received: list[str] = alice.received
    assert (polled, rest, received) == ("three", [], waiting)
    assert alice.connected
    channel_clock.advance(minutes=2)
    with pytest.raises(TokenTimedOutError):
        alice.poll()
    alice.close()


def test_assertions(
    channel_stub: ChannelServiceStub,
    channel_client: ConnectClient,
    channel_clock: FakeClock,
) -> None:
    channel.send_message("alice", "early")
    assert_dropped(channel_stub, "alice", re.compile("^early"))
    alice = channel_client("alice", duration_minutes=1)
    assert_connected(channel_stub, alice.token)
    assert_token_valid(channel_stub, alice.token, "alice")
    channel.send_message("alice", '{"a": 1}')
    channel.send_message("alice", "two")
    assert_queued(channel_stub, "alice", {"a": 1}, "two")
    assert_sent(channel_stub, "alice", ANY, count=2)
    assert_not_sent(channel_stub, "alice", "three")
    assert_not_sent(channel_stub, "bob")
    channel_clock.advance(minutes=2)
    assert_disconnected(channel_stub, "alice")
    assert_token_expired(channel_stub, alice.token)


def test_over_http(channel_stub: ChannelServiceStub) -> None:
    wsgi = ChannelMiddleware(channel_stub, app)
    answer = wsgi(
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/hello"}, lambda *_started: lambda _data: None
    )
    assert b"".join(answer) == b"/hello"
