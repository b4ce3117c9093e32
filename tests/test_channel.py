"""The calls, as App Engine's own code makes them: RPCs, requests, errors."""

from __future__ import annotations

import copy
import enum
import pickle
import threading

import pytest

from pytest_channelstub import ChannelServiceStub, FakeClock, apiproxy_errors, channel
from pytest_channelstub._service.apiproxy import RPC, APIProxyStub, Synchronized
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


def test_an_rpc_is_made_at_once_and_asked_about_later(stub):
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


def test_an_rpc_keeps_what_its_call_raised(stub):
    rpc = RPC("channel", "CreateChannel", CreateChannelRequest(""), VoidProto(), stub=stub)
    rpc.MakeCall()

    assert isinstance(rpc.exception, apiproxy_errors.ApplicationError)
    with pytest.raises(apiproxy_errors.ApplicationError):
        rpc.CheckSuccess()


def test_an_rpc_keeps_what_its_callback_raised(stub):
    request = CreateChannelRequest("alice")
    rpc = RPC("channel", "CreateChannel", request, CreateChannelResponse(), lambda: 1 / 0)
    with pytest.raises(AssertionError, match=r"channel\.CreateChannel has no stub"):
        rpc.MakeCall()
    rpc.stub = stub
    rpc.MakeCall()

    with pytest.raises(ZeroDivisionError):
        rpc.CheckSuccess()


# What a call is refused for.


def test_a_call_of_another_service_is_refused(stub):
    with pytest.raises(AssertionError, match='Expected "channel" service name, was "xmpp"'):
        stub.MakeSyncCall("xmpp", "CreateChannel", CreateChannelRequest("alice"), VoidProto())


def test_a_call_that_the_service_does_not_have_is_refused_with_those_it_has(stub):
    with pytest.raises(
        apiproxy_errors.CallNotFoundError, match="it has CreateChannel, SendChannelMessage"
    ):
        stub.MakeSyncCall("channel", "CloseChannel", VoidProto(), VoidProto())


def test_a_call_that_the_service_does_not_have_fails_as_all_calls_do(stub):
    stub.SetError(apiproxy_errors.OverQuotaError())

    with pytest.raises(apiproxy_errors.OverQuotaError):
        stub.MakeSyncCall("channel", "CloseChannel", VoidProto(), VoidProto())
    assert stub.timeline[0].client_id is None


def test_a_request_that_is_incomplete_is_refused_with_what_is_missing(stub):
    with pytest.raises(AssertionError, match="Required field: message not set"):
        stub.MakeSyncCall("channel", "SendChannelMessage", SendMessageRequest("a"), VoidProto())


def test_a_request_of_more_than_a_mebibyte_is_refused(stub):
    request = SendMessageRequest("alice", "x" * (1 << 20))

    with pytest.raises(apiproxy_errors.RequestTooLargeError, match="at most 1048576 are allowed"):
        stub.MakeSyncCall("channel", "SendChannelMessage", request, VoidProto())


@pytest.mark.parametrize("client_id", ["", "\ud800"])
def test_a_client_id_that_no_token_can_hold_is_an_application_error(stub, client_id):
    with pytest.raises(apiproxy_errors.ApplicationError) as caught:
        create(stub, application_key=client_id)

    assert caught.value.application_error == ChannelServiceError.INVALID_CHANNEL_KEY
    assert len(stub.timeline) == 0


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
def test_an_error_comes_at_a_rate_from_none_to_always(stub, rate):
    with pytest.raises(ValueError, match="pass a number from 0 to 1"):
        stub.SetError(apiproxy_errors.OverQuotaError(), error_rate=rate)
    create(stub, application_key="alice")


def test_the_error_of_one_call_is_lifted_by_a_rate_of_none(stub):
    stub.SetError(apiproxy_errors.OverQuotaError(), "CreateChannel")
    with pytest.raises(apiproxy_errors.OverQuotaError):
        create(stub, application_key="alice")
    stub.SetError(None)
    with pytest.raises(apiproxy_errors.OverQuotaError):
        create(stub, application_key="alice")

    stub.SetError(apiproxy_errors.OverQuotaError(), "CreateChannel", error_rate=0)

    assert create(stub, application_key="alice")


def test_a_rate_is_drawn_from_the_stubs_own_seed():
    def failures():
        with ChannelServiceStub(time_func=FakeClock(start=0).time) as stub:
            stub.seed = 5
            stub.SetError(apiproxy_errors.OverQuotaError(), error_rate=0.5)
            for number in range(40):
                try:
                    channel.send_message("alice", "hello")
                except apiproxy_errors.OverQuotaError:  # noqa: PERF203 (each call may fail)
                    yield number

    assert [*failures()] == [*failures()]
    assert 0 < len([*failures()]) < 40


# Stubs of one's own.


class Counter(APIProxyStub):
    _ACCEPTS_REQUEST_ID = True

    def __init__(self):
        super().__init__("counter")
        self.count = 0
        self.asked_by = None

    @Synchronized
    def add(self, number=1):
        """Count on."""
        self.count += number

    def _Dynamic_Add(self, request, response, request_id):
        self.add()
        self.asked_by = request_id


def test_a_stub_of_ones_own_takes_the_id_of_the_request():
    counter = Counter()

    counter.MakeSyncCall("counter", "Add", VoidProto(), VoidProto(), request_id="seven")

    assert (counter.count, counter.asked_by) == (1, "seven")
    assert counter.random.random() != Counter().random.random()


def test_a_stub_of_ones_own_may_have_any_number_of_calls():
    answered = []
    counter = Counter()
    for number in range(100):
        setattr(
            counter, f"_Dynamic_Call{number}", lambda *_, number=number: answered.append(number)
        )

    for _ in range(2):
        for number in range(100):
            counter.MakeSyncCall("counter", f"Call{number}", VoidProto(), VoidProto())

    assert answered == [*range(100)] * 2


def test_a_call_may_be_named_by_any_kind_of_text(stub):
    class Call(str, enum.Enum):
        SEND = "SendChannelMessage"

    class Other(str):
        __slots__ = ()

        def __format__(self, how):
            return "CreateChannel"

    for call in (Call.SEND, Other("SendChannelMessage"), "SendChannelMessage"):
        stub.MakeSyncCall("channel", call, SendMessageRequest("alice", "hello"), VoidProto())

    assert [event.kind for event in stub.timeline] == ["drop"] * 3
    with pytest.raises(TypeError):
        stub.MakeSyncCall("channel", None, VoidProto(), VoidProto())


def test_a_synchronized_method_runs_in_one_thread_at_a_time():
    counter = Counter()
    threads = [
        threading.Thread(target=lambda: [counter.add(number=2) for _ in range(1000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counter.count == 8000
    assert counter.add.__doc__ == "Count on."


def test_a_stub_of_ones_own_fails_as_it_is_set():
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
        kind(**{field: b"bytes"})


def test_a_message_says_which_required_fields_are_not_set():
    missing = []

    assert not CreateChannelRequest().IsInitialized()
    assert not SendMessageRequest(message="hello").IsInitialized(missing)
    assert CreateChannelResponse().IsInitialized()
    assert missing == ["Required field: application_key not set."]


@pytest.mark.parametrize("minutes", [1 << 31, -(1 << 31) - 1, HUGE])
def test_a_duration_that_32_bits_cannot_hold_is_no_duration(minutes):
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
def test_a_message_has_the_size_that_it_has_on_the_wire(message, size):
    assert message.ByteSize() == size


def test_the_codes_of_the_service_have_names():
    assert ChannelServiceError.ErrorCode_Name(3) == "BAD_MESSAGE"
    assert ChannelServiceError.ErrorCode_Name(99) == ""


# The app's side.


@pytest.mark.parametrize("client_id", [None, b"alice", HUGE, UNSHOWABLE])
def test_a_client_id_that_is_no_text_is_an_invalid_one(stub, client_id):
    for call in (channel.create_channel, lambda named: channel.send_message(named, "hello")):
        with pytest.raises(channel.InvalidChannelClientIdError, match="pass a str of at most 256"):
            call(client_id)


@pytest.mark.parametrize("message", [None, b"hello", HUGE, UNSHOWABLE])
def test_a_message_that_is_no_text_is_an_invalid_one(stub, message):
    with pytest.raises(channel.InvalidMessageError, match="pass a str of at most 32767"):
        channel.send_message("alice", message)


@pytest.mark.parametrize("minutes", [0, -1, 1441, 1.5, "5", HUGE, UNSHOWABLE])
def test_a_duration_out_of_range_is_an_invalid_one(stub, minutes):
    with pytest.raises(channel.InvalidChannelTokenDurationError, match="from 1 to 1440"):
        channel.create_channel("alice", minutes)
    assert len(stub.timeline) == 0


def test_a_lone_surrogate_is_refused_in_a_client_id_and_in_a_message(stub):
    with pytest.raises(channel.InvalidChannelClientIdError, match="lone surrogate"):
        channel.create_channel("\ud800")
    with pytest.raises(channel.InvalidMessageError, match="lone surrogate"):
        channel.send_message("alice", "\ud800")


def test_text_of_another_class_is_sent_as_plain_text(stub):
    class Text(str):
        __slots__ = ()

    stub.connect_channel(channel.create_channel(Text("alice")))
    channel.send_message(Text("alice"), Text("hello"))

    assert type(stub.pending("alice")[0]) is str


def test_an_application_error_becomes_the_error_of_the_apps_side(stub):
    told = apiproxy_errors.ApplicationError(ChannelServiceError.APPID_ALIAS_REQUIRED, "which app?")
    stub.SetError(told)
    with pytest.raises(channel.AppIdAliasRequired, match=r"which app\?"):
        channel.create_channel("alice")

    stub.SetError(apiproxy_errors.ApplicationError(ChannelServiceError.INTERNAL_ERROR))
    with pytest.raises(apiproxy_errors.ApplicationError, match="ApplicationError: 1"):
        channel.create_channel("alice")
    assert pickled(told).error_detail == "which app?"


def test_an_interrupted_wait_says_by_whose_error():
    cause = ZeroDivisionError()

    error = apiproxy_errors.InterruptedError(cause, "rpc")

    assert (error.exception, error.rpc) == (cause, "rpc")
