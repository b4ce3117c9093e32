"""The calls, as App Engine's own code makes them: RPCs, requests, errors."""

from __future__ import annotations

import copy
import enum
import pickle
import re

import pytest

from pytest_channelstub import ChannelServiceStub, FakeClock, apiproxy_errors, channel
from pytest_channelstub._service.apiproxy import RPC, APIProxyStub
from pytest_channelstub._service.channel_service_pb import (
    ChannelServiceError,
    CreateChannelRequest,
    CreateChannelResponse,
    SendMessageRequest,
    VoidProto,
)


class Unshowable:
    def __repr__(self):
        raise ZeroDivisionError


HUGE = pytest.param(10**5000, id="five thousand digits")
UNSHOWABLE = pytest.param(Unshowable(), id="unshowable")


@pytest.fixture
def stub():
    with ChannelServiceStub(time_func=FakeClock(start=0).time) as stub:
        yield stub


def pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 (its own)


def create(stub, **fields):
    response = CreateChannelResponse()
    stub.MakeSyncCall("channel", "CreateChannel", CreateChannelRequest(**fields), response)
    return response.token()


# RPCs.


def test_an_rpc_answers_at_once_and_keeps_its_state(stub):
    rpc, response, ended = stub.CreateRPC(), CreateChannelResponse(), []
    assert (rpc.state, rpc.exception) == (RPC.IDLE, None)
    with pytest.raises(AssertionError, match=r"was not started: call MakeCall\(\) first"):
        rpc.Wait()

    rpc.MakeCall(
        "channel",
        "CreateChannel",
        CreateChannelRequest("alice"),
        response,
        callback=lambda: ended.append(rpc.state),
        deadline=5,
    )
    rpc.Wait()
    rpc.CheckSuccess()

    assert (rpc.state, ended, rpc.deadline) == (RPC.FINISHING, [RPC.FINISHING], 5)
    assert stub.client_id_from_token(response.token()) == "alice"
    with pytest.raises(AssertionError, match=r"channel\.CreateChannel has already been started"):
        rpc.MakeCall()


def test_an_rpc_keeps_the_error_of_its_call(stub):
    rpc = RPC("channel", "CreateChannel", CreateChannelRequest(""), VoidProto(), stub=stub)
    rpc.MakeCall()

    assert isinstance(rpc.exception, apiproxy_errors.ApplicationError)
    with pytest.raises(apiproxy_errors.ApplicationError):
        rpc.CheckSuccess()


def test_an_rpc_keeps_the_error_of_its_callback(stub):
    request = CreateChannelRequest("alice")
    rpc = RPC("channel", "CreateChannel", request, CreateChannelResponse(), lambda: 1 / 0)
    with pytest.raises(AssertionError, match=r"channel\.CreateChannel has no stub"):
        rpc.MakeCall()
    rpc.stub = stub
    rpc.MakeCall()

    with pytest.raises(ZeroDivisionError):
        rpc.CheckSuccess()


def test_an_rpc_shows_the_error_of_its_call_behind_that_of_its_callback(stub):
    request = CreateChannelRequest("")
    rpc = RPC("channel", "CreateChannel", request, VoidProto(), lambda: 1 / 0, stub=stub)
    rpc.MakeCall()

    with pytest.raises(ZeroDivisionError) as caught:
        rpc.CheckSuccess()
    assert isinstance(caught.value.__context__, apiproxy_errors.ApplicationError)


# Refused calls.


def test_a_call_of_another_service_is_refused(stub):
    with pytest.raises(AssertionError, match='Expected "channel" service name, was "xmpp"'):
        stub.MakeSyncCall("xmpp", "CreateChannel", CreateChannelRequest("alice"), VoidProto())


def test_an_unknown_call_is_refused_and_the_error_names_the_known_ones(stub):
    with pytest.raises(
        apiproxy_errors.CallNotFoundError, match="it has CreateChannel, SendChannelMessage"
    ):
        stub.MakeSyncCall("channel", "CloseChannel", VoidProto(), VoidProto())


def test_an_unknown_call_fails_with_the_error_set_for_all_calls(stub):
    stub.SetError(apiproxy_errors.OverQuotaError())

    with pytest.raises(apiproxy_errors.OverQuotaError):
        stub.MakeSyncCall("channel", "CloseChannel", VoidProto(), VoidProto())
    assert stub.timeline[0].client_id is None


def test_an_incomplete_request_is_refused_and_the_error_names_the_missing_fields(stub):
    with pytest.raises(AssertionError, match="Required field: message not set"):
        stub.MakeSyncCall("channel", "SendChannelMessage", SendMessageRequest("a"), VoidProto())


def test_a_request_over_one_mebibyte_is_refused(stub):
    request = SendMessageRequest("alice", "x" * (1 << 20))

    with pytest.raises(apiproxy_errors.RequestTooLargeError, match="at most 1048576 are allowed"):
        stub.MakeSyncCall("channel", "SendChannelMessage", request, VoidProto())


@pytest.mark.parametrize("client_id", ["", "\ud800"])
def test_a_client_id_that_no_token_can_hold_is_an_application_error(stub, client_id):
    with pytest.raises(apiproxy_errors.ApplicationError) as caught:
        create(stub, application_key=client_id)

    assert caught.value.application_error == ChannelServiceError.INVALID_CHANNEL_KEY
    assert [event.kind for event in stub.timeline] == ["refuse"]


def test_an_empty_message_is_an_application_error(stub):
    with pytest.raises(apiproxy_errors.ApplicationError) as caught:
        stub.MakeSyncCall("channel", "SendChannelMessage", SendMessageRequest("a", ""), VoidProto())

    assert caught.value.application_error == ChannelServiceError.BAD_MESSAGE


# SetError.


@pytest.mark.parametrize("error", [apiproxy_errors.OverQuotaError, "quota", 2])
def test_only_an_error_of_a_call_can_be_set(stub, error):
    with pytest.raises(AssertionError, match="pass an instance of"):
        stub.SetError(error)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_an_error_rate_is_a_number_from_0_to_1(stub, rate):
    with pytest.raises(ValueError, match="pass a number from 0 to 1"):
        stub.SetError(apiproxy_errors.OverQuotaError(), error_rate=rate)
    with pytest.raises(TypeError, match="error_rate is 'often', of type str: pass a number from"):
        stub.SetError(apiproxy_errors.OverQuotaError(), error_rate="often")
    create(stub, application_key="alice")


def test_an_error_for_a_call_that_there_is_not_gives_a_warning(stub):
    text = "no call is named 'send_message', and none fails: pass CreateChannel or SendChannelMess"
    with pytest.warns(UserWarning, match=text):
        stub.SetError(apiproxy_errors.OverQuotaError(), "send_message")


def test_a_rate_of_0_lifts_the_error_of_one_call(stub):
    stub.SetError(apiproxy_errors.OverQuotaError(), "CreateChannel")
    with pytest.raises(apiproxy_errors.OverQuotaError):
        create(stub, application_key="alice")
    stub.SetError(None)
    with pytest.raises(apiproxy_errors.OverQuotaError):
        create(stub, application_key="alice")

    stub.SetError(apiproxy_errors.OverQuotaError(), "CreateChannel", error_rate=0)

    assert create(stub, application_key="alice")


def test_the_stubs_seed_decides_which_calls_fail_at_a_rate():
    def failures():
        with ChannelServiceStub(time_func=FakeClock(start=0).time) as stub:
            stub.seed = 5
            stub.SetError(apiproxy_errors.OverQuotaError(), error_rate=0.5)
            for number in range(40):
                try:
                    channel.send_message("alice", "hello")
                except apiproxy_errors.OverQuotaError:
                    yield number

    assert [*failures()] == [*failures()]
    assert 0 < len([*failures()]) < 40


# Custom stubs.


class Counter(APIProxyStub):
    def __init__(self):
        super().__init__("counter")
        self.count = 0

    def _Dynamic_Add(self, request, response):
        self.count += 1


def test_a_custom_stub_answers_the_calls_that_it_defines():
    counter = Counter()

    counter.MakeSyncCall("counter", "Add", VoidProto(), VoidProto(), request_id="seven")

    assert counter.count == 1


@pytest.mark.parametrize("bases", [(enum.StrEnum,), (str, enum.Enum)])
def test_a_call_may_be_named_by_a_string_enum(stub, bases):
    class Call(*bases):
        SEND = "SendChannelMessage"

    stub.MakeSyncCall("channel", Call.SEND, SendMessageRequest("alice", "hello"), VoidProto())

    assert [event.kind for event in stub.timeline] == ["drop"]


def test_calls_of_a_custom_stub_fail_with_the_error_that_was_set():
    counter = Counter()
    counter.SetError(apiproxy_errors.OverQuotaError())

    with pytest.raises(apiproxy_errors.OverQuotaError):
        counter.MakeSyncCall("counter", "Add", VoidProto(), VoidProto())


# Messages.


@pytest.mark.parametrize(
    ("kind", "field", "value", "empty"),
    [
        (CreateChannelRequest, "application_key", "alice", ""),
        (CreateChannelRequest, "duration_minutes", 5, 0),
        (CreateChannelResponse, "token", "abc", ""),
        (SendMessageRequest, "application_key", "alice", ""),
        (SendMessageRequest, "message", "hello", ""),
    ],
)
def test_a_field_is_set_read_and_cleared(kind, field, value, empty):
    message = kind()
    assert (getattr(message, field)(), getattr(message, f"has_{field}")()) == (empty, False)

    getattr(message, f"set_{field}")(value)
    assert (getattr(message, field)(), getattr(message, f"has_{field}")()) == (value, True)
    assert repr(message) == f"{kind.__name__}({field}={value!r})"
    assert message == kind(**{field: value}) == copy.copy(message)
    assert pickled(message) == message != kind()
    assert message != value

    getattr(message, f"clear_{field}")()
    assert message == kind()
    getattr(message, f"set_{field}")(value)
    message.Clear()
    assert message == kind()
    with pytest.raises(TypeError, match="pass a"):
        getattr(message, f"set_{field}")(Unshowable())
    with pytest.raises(TypeError, match="pass a"):
        kind(**{field: Unshowable()})


def test_a_message_lists_its_missing_required_fields():
    missing = []

    assert not CreateChannelRequest().IsInitialized()
    assert not SendMessageRequest(message="hello").IsInitialized(missing)
    assert CreateChannelResponse().IsInitialized()
    assert missing == ["Required field: application_key not set."]


@pytest.mark.parametrize("minutes", [1 << 31, -(1 << 31) - 1, HUGE])
def test_a_duration_over_32_bits_is_a_value_error(minutes):
    with pytest.raises(ValueError, match="that 32 bits hold"):
        CreateChannelRequest("alice", minutes)


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (VoidProto(), 0),
        (CreateChannelResponse(""), 2),
        (CreateChannelRequest("é", 127), 6),
        (CreateChannelRequest("a", 128), 6),
        (CreateChannelRequest("a", -1), 14),
        (SendMessageRequest("a", "x" * 128), 134),
        (SendMessageRequest("\ud800", "x"), 8),
    ],
)
def test_the_byte_size_of_a_message_is_its_size_on_the_wire(message, size):
    assert message.ByteSize() == size


def test_an_error_code_has_a_name():
    assert ChannelServiceError.ErrorCode_Name(3) == "BAD_MESSAGE"
    assert ChannelServiceError.ErrorCode_Name(99) == ""


# The app's side.


@pytest.mark.parametrize("client_id", [None, HUGE, UNSHOWABLE])
def test_a_client_id_that_is_not_text_is_refused(stub, client_id):
    for call in (channel.create_channel, lambda named: channel.send_message(named, "hello")):
        with pytest.raises(
            channel.InvalidChannelClientIdError, match="UTF-8 bytes, of at most 256 bytes"
        ):
            call(client_id)


@pytest.mark.parametrize("message", [None, {"text": "hello"}, HUGE, UNSHOWABLE])
def test_a_message_that_is_not_text_is_refused(stub, message):
    with pytest.raises(channel.InvalidMessageError, match="UTF-8 bytes, of at most 32767 bytes"):
        channel.send_message("alice", message)


@pytest.mark.parametrize("minutes", [0, -1, 1441, 1.5, "5", HUGE, UNSHOWABLE])
def test_a_duration_out_of_range_is_refused(stub, minutes):
    with pytest.raises(channel.InvalidChannelTokenDurationError, match="1 to 1440"):
        channel.create_channel("alice", minutes)


def test_a_lone_surrogate_is_refused_in_a_client_id_and_in_a_message(stub):
    with pytest.raises(channel.InvalidChannelClientIdError, match="lone surrogate"):
        channel.create_channel("\ud800")
    with pytest.raises(channel.InvalidMessageError, match="lone surrogate"):
        channel.send_message("alice", "\ud800")


REFUSED = [
    (
        lambda: channel.send_message("alice", {"text": "hello"}),
        "alice",
        None,
        "InvalidMessageError",
    ),
    (
        lambda: channel.send_message("alice", "x" * 32768),
        "alice",
        "x" * 32768,
        "InvalidMessageError",
    ),
    (lambda: channel.send_message(None, "hello"), None, "hello", "InvalidChannelClientIdError"),
    (lambda: channel.send_message("alice", b"\xff"), "alice", None, "InvalidMessageError"),
    (lambda: channel.send_message("alice", ""), "alice", "", "InvalidMessageError"),
    (lambda: channel.create_channel("x" * 257), "x" * 257, None, "InvalidChannelClientIdError"),
    (lambda: channel.create_channel(""), "", None, "InvalidChannelClientIdError"),
    (
        lambda: channel.create_channel("alice", 0),
        "alice",
        None,
        "InvalidChannelTokenDurationError",
    ),
]


@pytest.mark.parametrize(("call", "client_id", "message", "error"), REFUSED)
def test_a_refused_call_is_an_event_with_its_arguments_and_its_error(
    stub, call, client_id, message, error
):
    with pytest.raises(Exception, match=r".") as caught:
        call()

    (event,) = stub.timeline
    assert (event.kind, event.client_id, event.message) == ("refuse", client_id, message)
    assert event.outcome.startswith(f"{error}: ")
    assert event.source.startswith("test_channel.py:")
    assert isinstance(caught.value, (channel.Error, apiproxy_errors.Error))


def test_an_incomplete_request_is_recorded_as_refused(stub):
    with pytest.raises(AssertionError):
        stub.MakeSyncCall("channel", "SendChannelMessage", SendMessageRequest("a"), VoidProto())

    assert [(event.kind, event.client_id) for event in stub.timeline] == [("refuse", "a")]


def test_client_ids_and_messages_may_be_utf8_bytes(stub):
    stub.connect_channel(channel.create_channel("é".encode()))
    channel.send_message("é".encode(), "grüße".encode())

    assert stub.pending("é") == ("grüße",)
    assert stub.timeline[0].client_id == "é"


def test_limits_count_utf8_bytes(stub):
    channel.create_channel("é" * 128)
    channel.send_message("alice", "é" * 16383)

    with pytest.raises(channel.InvalidChannelClientIdError, match="has 258 UTF-8 bytes"):
        channel.create_channel("é" * 129)
    with pytest.raises(channel.InvalidMessageError, match="has 32768 UTF-8 bytes"):
        channel.send_message("alice", "é" * 16384)


def test_an_application_error_becomes_the_channel_modules_error(stub):
    alias = apiproxy_errors.ApplicationError(ChannelServiceError.APPID_ALIAS_REQUIRED, "which app?")
    stub.SetError(alias)
    with pytest.raises(channel.AppIdAliasRequired, match=r"which app\?"):
        channel.create_channel("alice")

    stub.SetError(apiproxy_errors.ApplicationError(ChannelServiceError.INTERNAL_ERROR))
    with pytest.raises(apiproxy_errors.ApplicationError, match="ApplicationError: 1"):
        channel.create_channel("alice")
    assert pickled(alias).error_detail == "which app?"


def test_an_interrupted_error_holds_its_cause_and_its_rpc():
    cause = ZeroDivisionError()

    error = apiproxy_errors.InterruptedError(cause, "rpc")

    assert (error.exception, error.rpc) == (cause, "rpc")


def test_a_service_without_a_stub_is_named(channel_stub, monkeypatch):
    monkeypatch.setattr(channel, "_GetService", lambda: "news")
    text = (
        'No api proxy found for service "news": no stub of that name is active. _GetService() '
        "names it; build one: ChannelServiceStub(service_name='news')"
    )
    with pytest.raises(AssertionError, match=re.escape(text)):
        channel.send_message("alice", "x")
    with ChannelServiceStub(service_name="news") as stub:
        channel.send_message("alice", "x")
        assert len(stub.timeline) == 1
