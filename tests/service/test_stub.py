"""The stub and its clients without pytest: arguments, leases, tokens, resets and its end."""

from __future__ import annotations

import gc
import logging
import operator
import pickle
import threading
import time

import pytest

from pytest_channelstub import (
    ChannelClient,
    ChannelServiceStub,
    FakeClock,
    InvalidTokenError,
    TokenTimedOutError,
    apiproxy_errors,
    channel,
)
from pytest_channelstub._record.timeline import Timeline
from pytest_channelstub._service.channel_service_pb import (
    CreateChannelRequest,
    CreateChannelResponse,
    SendMessageRequest,
)
from pytest_channelstub._service.clock import SystemClock
from pytest_channelstub._service.registry import SDK, registry
from pytest_channelstub._service.state import Step


class Unshowable:
    def __str__(self):
        raise ZeroDivisionError

    __repr__ = __str__


NOT_TOKENS = [
    None,
    b"bytes",
    b"\xff",
    True,
    1.5,
    [],
    "\ud800",
    pytest.param(10**5000, id="five thousand digits"),
    pytest.param(Unshowable(), id="unshowable"),
]


@pytest.fixture
def stub():
    with ChannelServiceStub(time_func=FakeClock(start=0).time) as stub:
        yield stub


def connect(stub, client_id="alice", **options):
    return ChannelClient(stub, channel.create_channel(client_id), **options)


def kinds(stub):
    return [event.kind for event in stub.timeline]


# Arguments.


@pytest.mark.parametrize("value", NOT_TOKENS)
def test_any_other_value_is_an_invalid_token(stub, value):
    for method in (
        stub.validate_token_and_extract_client_id,
        stub.connect_channel,
        stub.connect_and_pop_first_message,
    ):
        with pytest.raises(InvalidTokenError, match="is not a channel token: pass what"):
            method(value)

    assert stub.client_id_from_token(value) is None
    assert stub.get_channel_messages(value) is None
    assert stub.has_channel_messages(value) is False
    assert stub.pop_first_message(value) is None
    assert stub.clear_channel_messages(value) is None
    assert [event.outcome for event in stub.timeline] == ["invalid", "invalid"]


def test_a_token_may_be_utf8_bytes(stub):
    token = channel.create_channel("alice")

    stub.connect_channel(token.encode())

    assert stub.connected_client_ids == ("alice",)
    assert stub.timeline.of("alice", kind="connect")[0].token == token


@pytest.mark.parametrize(
    "client_id",
    [
        None,
        5,
        [],
        pytest.param(10**5000, id="five thousand digits"),
        pytest.param(Unshowable(), id="unshowable"),
    ],
)
def test_a_client_id_that_is_not_text_changes_nothing(stub, client_id):
    for method in (
        stub.add_connect_event,
        stub.add_disconnect_event,
        stub.disconnect_channel_event,
        stub.disconnect,
    ):
        with pytest.raises(TypeError, match="pass a str"):
            method(client_id)

    stub.clock.advance(10)
    assert kinds(stub) == []


def test_a_client_id_may_be_utf8_bytes_and_bad_bytes_are_refused(stub):
    connect(stub, "é")

    assert stub.is_connected("é".encode())
    stub.disconnect("é".encode())
    assert not stub.is_connected("é")
    with pytest.raises(channel.InvalidChannelClientIdError, match="not UTF-8"):
        stub.disconnect(b"\xff")


def test_a_closing_kind_other_than_close_and_disconnect_is_refused(stub):
    with pytest.raises(ValueError, match="pass 'close' or 'disconnect'"):
        stub.disconnect("alice", kind="timeout")


def test_an_expired_token_error_says_when_it_expired(stub):
    token = channel.create_channel("alice", duration_minutes=1)
    stub.clock.advance(minutes=2, seconds=0.5)

    with pytest.raises(TokenTimedOutError) as caught:
        stub.connect_channel(token)
    assert str(caught.value) == (
        "the token of client id 'alice' expired 59.5 s ago, at +1 min 1 s: "
        "make another with create_channel"
    )


def test_a_client_with_swapped_arguments_is_a_type_error(stub):
    with pytest.raises(TypeError, match="the stub is 'alice', of type str: pass the stub first"):
        ChannelClient("alice", stub)


def test_a_client_may_be_named_by_its_token_even_an_expired_one(stub):
    token = channel.create_channel("alice", duration_minutes=1)
    page = connect(stub, keep_alive=True)
    channel.send_message("alice", "hello")
    stub.clock.advance(minutes=5)

    assert stub.is_connected(token)
    assert stub.pending(token) == ("hello",)

    stub.disconnect(token)

    assert not page.connected
    assert stub.requests[-1].body == "from=alice"


def test_a_client_id_that_looks_like_a_token_names_that_client(stub):
    odd = channel.create_channel("alice")
    stub.connect_channel(channel.create_channel(odd))

    assert stub.is_connected(odd)
    assert not stub.is_connected("alice")


# Tokens.


def test_a_stub_built_at_the_same_line_makes_the_same_tokens():
    def tokens():
        with ChannelServiceStub(time_func=FakeClock().time):
            return [channel.create_channel("alice") for _ in range(3)]

    runs = [tokens() for _ in range(2)]

    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 3


def test_stubs_of_one_line_that_are_active_together_make_different_tokens():
    def tokens():
        stubs = [ChannelServiceStub(time_func=FakeClock().time) for _ in range(3)]
        made = [channel._create_channel(stub, "alice") for stub in stubs]
        for stub in stubs:
            stub.close()
        return made

    first, again = (tokens() for _ in range(2))

    assert len(set(first)) == 3
    assert first == again


def test_the_first_tokens_of_two_threads_differ():
    for _ in range(200):
        with ChannelServiceStub(time_func=FakeClock().time):
            made, gate = [], threading.Barrier(2)

            def create(made=made, gate=gate):
                gate.wait()
                made.append(channel.create_channel("alice"))

            threads = [threading.Thread(target=create) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert made[0] != made[1]


# Two seconds.


@pytest.mark.parametrize("start", [0, "2004-01-10", "2038-01-19", "1960-01-01", "9999-12-01"])
def test_a_client_times_out_after_exactly_two_seconds(start):
    clock = FakeClock(start=start)
    with ChannelServiceStub(time_func=clock.time) as stub:
        clock.advance(7.777)
        page = connect(stub)
        clock.advance(1.999999)
        assert page.connected
        clock.advance(0.000001)
        assert not page.connected


def test_a_clock_that_goes_back_leaves_a_client_two_seconds(stub):
    stub.clock.advance(5000)
    page = connect(stub)

    stub.clock.tick(-3000)
    stub.clock.advance(1.5)
    assert page.connected
    stub.clock.advance(0.5)
    assert not page.connected


def test_a_time_function_that_goes_back_leaves_a_client_two_seconds():
    now = [5000.0]
    with ChannelServiceStub(time_func=lambda: now[0]) as stub:
        page = connect(stub)
        now[0] = 2000.0
        assert page.connected
        now[0] = 2001.75
        assert page.connected
        now[0] = 2002.0
        assert not page.connected


@pytest.mark.parametrize("method", ["connect_channel", "connect_and_pop_first_message"])
@pytest.mark.parametrize("is_connected", [False, True])
def test_a_client_that_connects_while_the_time_goes_back_has_two_seconds_from_there(
    method, is_connected
):
    times = [0.0]
    with ChannelServiceStub(time_func=lambda: times.pop(0) if times[1:] else times[0]) as stub:
        token = channel.create_channel("alice")
        if is_connected:
            stub.connect_channel(token)
        times[:] = [1.5, 0.5]

        getattr(stub, method)(token)

        times[:] = [2.25]
        assert stub.is_connected("alice")
        times[:] = [3.5]
        assert not stub.is_connected("alice")


# Leases.


def test_a_lease_keeps_its_client_connected_until_it_ends(stub):
    token = channel.create_channel("alice")
    stub.connect_channel(token)

    lease = stub._keep_alive(token)
    stub.clock.advance(3600)
    lease.end()
    stub.clock.advance(1.5)
    assert stub.is_connected("alice")
    stub.clock.advance(0.5)
    assert not stub.is_connected("alice")


def test_a_lease_ends_with_its_token(stub):
    page = ChannelClient(stub, channel.create_channel("alice", 1), keep_alive=True)

    stub.clock.advance(62.5)
    assert page.connected
    stub.clock.advance(0.5)
    assert not page.connected


def test_a_lease_of_an_invalid_token_keeps_nobody_alive(stub):
    page = connect(stub)

    stub._keep_alive("no token")
    stub.clock.advance(2)

    assert not page.connected


def test_of_two_leases_the_second_goes_on_when_the_first_ends(stub):
    token = channel.create_channel("alice")
    stub.connect_channel(token)
    first, second = (stub._keep_alive(token) for _ in range(2))

    first.end()
    stub.clock.advance(5)
    assert stub.is_connected("alice")
    second.end()
    second.end()
    stub.clock.advance(2)
    assert not stub.is_connected("alice")


def test_a_lease_ends_with_a_reset_of_everything(stub):
    stub._keep_alive(channel.create_channel("alice"))

    stub.reset("all")
    page = connect(stub)
    stub.clock.advance(2)

    assert not page.connected


# Clients.


def test_the_repr_of_a_client_shows_its_state(stub):
    with connect(stub) as page:
        channel.send_message("alice", "hello")
        assert repr(page) == "<ChannelClient 'alice', connected, 1 pending, 0 received>"
        page.receive()
        stub.clock.advance(2)
        assert repr(page) == "<ChannelClient 'alice', disconnected, 0 pending, 1 received>"
    assert repr(page) == "<ChannelClient 'alice', closed, 0 pending, 1 received>"


def test_a_closed_client_reads_nothing_and_closes_once(stub):
    page = connect(stub)
    page.close()
    page.close()

    assert kinds(stub) == ["create", "connect", "request", "close", "request"]
    assert (page.messages, page.receive_all()) == ([], [])
    with pytest.raises(RuntimeError, match="is closed: open another to read on"):
        page.poll()
    with pytest.raises(AssertionError, match="is closed: open another to read on"):
        page.receive()


def test_a_closed_client_says_what_became_of_a_message_that_it_did_not_read(stub):
    with connect(stub) as page:
        channel.send_message("alice", "one")
    with pytest.raises(AssertionError, match=r"'one' was sent .* and lost .*, when alice closed"):
        page.receive()
    with connect(stub) as page:
        pass
    channel.send_message("alice", "two")
    with pytest.raises(AssertionError, match=r"'two' was dropped .*: alice closed its channel at"):
        page.receive()


def test_a_client_that_has_timed_out_does_not_close(stub):
    page = connect(stub)
    stub.clock.advance(2)

    page.close()

    assert not stub.timeline.of(kind="close")


def test_a_message_that_is_not_json_has_been_read(stub):
    page = connect(stub)
    messages = ["{}", "{", '{"a": NaN}', "[" * 30_000]
    for message in messages:
        channel.send_message("alice", message)

    assert page.receive_json() == {}
    for _ in messages[1:]:
        with pytest.raises(AssertionError, match=r"^alice received '.*, which is not JSON: "):
            page.receive_json()
    assert page.received == messages


def test_receive_all_gives_the_pending_messages_oldest_first(stub):
    page = connect(stub)
    for message in ("one", "two"):
        channel.send_message("alice", message)

    assert page.receive_all() == ["one", "two"]


# A closed stub.


def test_the_record_of_a_closed_stub_can_be_read_and_nobody_is_connected(stub):
    token = channel.create_channel("alice")
    stub.connect_channel(token)
    stub.close()
    stub.close()

    assert kinds(stub) == ["create", "connect", "request"]
    assert stub.connected_client_ids == ()
    assert not stub.is_connected("alice")
    assert stub.pending("alice") is None
    assert stub.get_channel_messages(token) is None
    assert len(stub.requests) == 1
    assert stub.wait_for("connect").client_id == "alice"
    assert stub.client_id_from_token(token) == "alice"
    stub.clock.advance(10)
    assert repr(stub).startswith("<ChannelServiceStub 0 connected, 3 events, <FakeClock ")


CHANGES = [
    lambda stub, token: stub.connect_channel(token),
    lambda stub, token: stub.connect_and_pop_first_message(token),
    lambda stub, token: stub.pop_first_message(token),
    lambda stub, token: stub.clear_channel_messages(token),
    lambda stub, _: stub.add_connect_event("alice"),
    lambda stub, _: stub.add_disconnect_event("alice"),
    lambda stub, _: stub.disconnect_channel_event("alice"),
    lambda stub, _: stub.disconnect("alice"),
    lambda stub, _: stub.reset(),
    lambda stub, _: stub.reset("all"),
    ChannelClient,
    lambda stub, token: ChannelClient(stub, token, keep_alive=True),
    lambda stub, _: channel._create_channel(stub, "alice"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_call_that_would_change_a_closed_stub_is_a_runtime_error(stub, change):
    token = channel.create_channel("alice")
    stub.close()

    with pytest.raises(RuntimeError, match="this stub is closed: its record can be read"):
        change(stub, token)
    assert kinds(stub) == ["create"]


def test_a_client_and_a_lease_may_end_after_their_stub(stub):
    page = connect(stub, keep_alive=True)
    stub.close()

    page.close()

    assert not page.connected


def test_a_wait_ends_when_its_stub_is_closed(stub):
    failures = []

    def wait():
        try:
            stub.wait_for("connect", timeout=60)
        except AssertionError as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    stub.close()
    thread.join(10)

    assert len(failures) == 1


# Resets.


def test_an_unknown_reset_is_refused(stub):
    with pytest.raises(ValueError, match="reset takes 'queues', 'all' or 'nothing', got 'al'"):
        stub.reset("al")


def test_a_live_list_stays_as_it_was_when_its_queue_is_cleared(stub):
    token = channel.create_channel("alice")
    stub.connect_channel(token)
    live = stub.get_channel_messages(token)
    channel.send_message("alice", "hello")

    stub.clear_channel_messages(token)
    stub.clear_channel_messages(channel.create_channel("nobody"))

    assert (live, stub.get_channel_messages(token)) == (["hello"], [])
    assert [event.outcome for event in stub.timeline.of(kind="clear")] == ["1 message"]


def test_a_live_list_shows_later_messages_and_pops(stub):
    token = channel.create_channel("alice")
    stub.connect_channel(token)
    live = stub.get_channel_messages(token)

    channel.send_message("alice", "one")
    channel.send_message("alice", "two")
    assert live == ["one", "two"]
    stub.pop_first_message(token)
    assert live == ["two"]
    live.clear()
    assert stub.pop_first_message(token) is None


def test_an_epoch_begins_with_an_empty_record_and_the_clients_that_are_connected(stub):
    page = connect(stub, keep_alive=True)
    channel.send_message("alice", "hello")

    stub._begin_epoch("queues")

    assert (len(stub.timeline), stub.requests) == (0, ())
    assert page.connected
    assert page.messages == []
    assert stub.timeline._snapshot().carried == {"alice": 0.0}
    with pytest.raises(AssertionError):
        stub.wait_for("connect", "alice", timeout=0)


def test_an_epoch_after_a_reset_of_everything_begins_with_nobody(stub):
    connect(stub, keep_alive=True)
    stub.clock.advance(5)

    stub._begin_epoch("all")

    assert (len(stub.timeline), stub.connected_client_ids, stub.clock.elapsed) == (0, (), 0)


def test_without_a_reset_the_epoch_goes_on(stub):
    connect(stub)

    stub._begin_epoch("nothing")

    assert kinds(stub) == ["create", "connect", "request"]


# The log, and a request_data of one's own.


def test_every_call_is_passed_to_the_log():
    lines = []
    clock = FakeClock(start=0)
    with ChannelServiceStub(
        log=lambda text, *values: lines.append(text % values), time_func=clock.time
    ) as stub:
        token = channel.create_channel("alice")
        stub.validate_token_and_extract_client_id(token)
        channel.send_message("alice", "early")
        stub.connect_and_pop_first_message(token)
        channel.send_message("alice", "hello")
        stub.pop_first_message(token)
        clock.advance(2)

    assert [line.split(" ")[0] for line in lines] == [
        "Creating", "Token", "SKIPPING", "Telling", "Polling", "Sending", "Popping", "Telling",
        "Channel",
    ]  # fmt: skip


def test_a_log_may_call_the_stub():
    clock = FakeClock(start=0)
    seen = []

    def log(_, *values):
        seen.append(stub.connected_client_ids)

    with ChannelServiceStub(log=log, time_func=clock.time) as stub:
        connect(stub)
        clock.advance(2)

    assert seen[-1] == ()


def test_by_default_calls_are_logged_at_level_debug(stub, caplog):
    with caplog.at_level(logging.DEBUG, logger="pytest_channelstub"):
        channel.create_channel("alice")

    assert "Creating channel token" in caplog.text


class Dispatcher:
    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *values: self.calls.append((name, values))


class RequestData:
    def __init__(self):
        self.dispatcher = Dispatcher()

    def get_dispatcher(self):
        return self.dispatcher


def test_a_custom_dispatcher_takes_the_timers_and_the_requests():
    clock = FakeClock(start=0)
    data = RequestData()
    with ChannelServiceStub(time_func=clock.time, request_data=data) as stub:
        page = connect(stub)
        page.poll()
        event, request, update = data.dispatcher.calls
        clock.advance(5)
        assert page.connected
        event[1][0]()

        assert not page.connected
        assert stub.timeline.of(kind="timeout")[0].at == 2.0

    assert (event[0], request[0], update[0]) == ("add_event", "add_async_request", "update_event")


# The stub as a whole.


def test_a_stub_that_nobody_holds_is_freed_and_its_timers_do_not_run():
    clock = FakeClock(start=0)
    stub = ChannelServiceStub(time_func=clock.time)
    connect(stub)
    timeline = stub.timeline
    del stub
    gc.collect()

    clock.advance(5)

    assert not timeline.of(kind="timeout")


def test_the_callbacks_of_a_closing_stub_all_run_when_one_raises(stub):
    called = []
    stub._closing += [lambda: called.append("first"), lambda: 1 / 0, lambda: called.append("last")]

    with pytest.raises(ZeroDivisionError):
        stub.close()

    assert called == ["last", "first"]


def test_the_timeline_of_a_stub_on_the_system_clock_starts_with_its_first_event():
    now = [50.0]
    with ChannelServiceStub(time_func=lambda: now[0]) as stub:
        assert stub.timeline.start == 0.0
        now[0] = 60.0
        channel.create_channel("alice")
        assert stub.timeline.start == 60.0
        assert isinstance(stub.clock, SystemClock)


def test_set_errors_do_not_collect_tracebacks(stub):
    error = apiproxy_errors.OverQuotaError("enough")
    stub.SetError(error)
    depths = []
    for _ in range(3):
        with pytest.raises(apiproxy_errors.OverQuotaError) as caught:
            channel.send_message("alice", "hello")
        depths.append(len(caught.traceback))

    assert len({*depths}) == 1


@pytest.mark.parametrize(("pending", "message"), [(1, None), (2, "m1")])
def test_a_message_that_a_test_takes_out_of_the_list_in_the_middle_of_a_call(
    stub, monkeypatch, pending, message
):
    token = channel.create_channel("alice")
    stub.connect_channel(token)
    live = stub.get_channel_messages(token)
    for number in range(pending):
        channel.send_message("alice", f"m{number}")
    commit, taken = stub._state.commit, []

    def take_one(step):
        if not taken:
            taken.append(live.pop(0))
        return commit(step)

    monkeypatch.setattr(stub._state, "commit", take_one)
    assert stub.pop_first_message(token) == message
    assert taken == ["m0"]
    assert live == []
    channel.send_message("alice", "next")
    assert stub.pop_first_message(token) == "next"


def test_an_operation_that_fails_fails_its_own_call_alone(stub):
    def plan(step):
        step.do(operator.truediv, 1, 0)

    with pytest.raises(ZeroDivisionError):
        stub._step(plan)
    assert stub.connected_client_ids == ()
    channel.create_channel("alice")


@pytest.mark.parametrize("order", ["connect, event", "event, connect"])
def test_add_disconnect_event_ends_a_client_once_and_its_polls_go_on(order):
    with ChannelServiceStub(time_func=FakeClock(start=0).time) as stub:
        token = channel.create_channel("alice")
        for what in order.split(", "):
            if what == "event":
                stub.add_disconnect_event("alice")
            else:
                stub.connect_channel(token)
        for _ in range(40):
            stub.clock.advance(0.5)
            stub.connect_and_pop_first_message(token)

        assert [event.at for event in stub.timeline.of(kind="timeout")] == [2.0]


def test_a_seed_that_no_generator_takes_is_refused(stub):
    with pytest.raises(ValueError, match="seed has a lone surrogate"):
        stub.seed = "\ud800"
    channel.create_channel("alice")


def test_a_call_without_a_response_changes_nothing(stub):
    with pytest.raises(AttributeError):
        stub.MakeSyncCall("channel", "CreateChannel", CreateChannelRequest("alice"), None)
    assert len(stub.timeline) == 0


# The timeline.


def test_a_timeline_equals_a_sequence_of_the_same_events(stub):
    channel.create_channel("alice")
    timeline = stub.timeline
    event = timeline[0]

    assert timeline == [timeline[0]]
    assert timeline == (timeline[-1],)
    assert timeline != Timeline()
    assert timeline != "events"
    assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301 (its own)
    assert repr(timeline) == "<Timeline of 1 event>"
    assert repr(event).startswith("<Event create 1970-01-01T00:00:00Z alice")


def test_an_event_names_the_line_that_caused_it(stub):
    connect(stub)
    stub.clock.advance(2)

    sources = {event.kind: event.source for event in stub.timeline}
    assert sources["connect"].startswith("test_stub.py:")
    assert sources["connect"].endswith(" in connect")
    assert sources["timeout"] == ""


@pytest.mark.parametrize("wrong", ["dropped", "connected", ""])
def test_an_unknown_kind_of_event_is_refused(stub, wrong):
    with pytest.raises(ValueError, match=f"no event of kind '{wrong}': pass one of create, "):
        stub.timeline.of(kind=wrong)


def test_a_kind_passed_as_a_client_id_is_refused_unless_a_client_has_that_name(stub):
    channel.send_message("alice", "hello")
    with pytest.raises(ValueError, match=r"not a client id: pass kind='drop'"):
        stub.timeline.of("drop")

    channel.create_channel("drop")

    assert [event.kind for event in stub.timeline.of("drop")] == ["create"]


@pytest.mark.parametrize(
    ("time_func", "instead"), [(FakeClock(), r"its method, clock\.time"), (7, "a function, such")]
)
def test_a_time_func_or_log_that_cannot_be_called_is_refused_and_leaves_no_stub(time_func, instead):
    with pytest.raises(TypeError, match=f"^time_func is .*: pass {instead}"):
        ChannelServiceStub(time_func=time_func)
    with pytest.raises(TypeError, match=r"^log is 7, of type int: pass a function, such as logg"):
        ChannelServiceStub(7)
    with pytest.raises(TypeError, match=r"; a clock's time goes by name, time_func=clock\.time$"):
        ChannelServiceStub(FakeClock().time)
    with pytest.raises(TypeError, match=r"^what time_func returned is '2020', of type str: pass a"):
        ChannelServiceStub(time_func=lambda: "2020")
    with pytest.raises(AssertionError, match="no stub is active"):
        channel.create_channel("alice")


@pytest.mark.parametrize("name", ["clock", "timeline"])
def test_a_stub_keeps_its_clock_and_its_timeline(stub, name):
    with pytest.raises(AttributeError, match=name):
        setattr(stub, name, FakeClock())


def test_the_timeline_takes_a_client_id_and_its_utf_8_bytes(stub):
    token = channel.create_channel("猫")
    for name in ("猫", "猫".encode(), token, token.encode()):
        assert [event.kind for event in stub.timeline.of(name)] == ["create"]


@pytest.mark.parametrize("client_id", [7, object()])
@pytest.mark.parametrize("ask", ["is_connected", "pending", "disconnect", "timeline.of"])
def test_a_client_that_is_not_named_by_text_is_refused_and_not_just_absent(stub, ask, client_id):
    with pytest.raises(TypeError, match=f"of type {type(client_id).__name__}: pass a "):
        operator.attrgetter(ask)(stub)(client_id)
    assert len(stub.timeline) == 0


@pytest.mark.parametrize("ask", ["is_connected", "pending", "disconnect"])
def test_a_client_named_by_bytes_that_are_not_utf_8_is_refused(stub, ask):
    with pytest.raises(channel.InvalidChannelClientIdError, match="bytes that are not UTF-8"):
        getattr(stub, ask)(b"\xff")
    with pytest.raises(TypeError, match="as a str or its UTF-8 bytes"):
        stub.timeline.of(b"\xff")


@pytest.mark.parametrize("seed", [None, True, 1.5, [1]])
def test_a_seed_of_another_type_is_refused_and_changes_nothing(stub, seed):
    stub.seed = 7
    with pytest.raises(TypeError, match="pass a whole number or a str"):
        stub.seed = seed
    assert stub.seed == 7


def test_a_custom_dispatcher_hears_of_a_disconnection_and_of_a_kept_connection():
    clock = FakeClock(start=0)
    data = RequestData()
    with ChannelServiceStub(time_func=clock.time, request_data=data) as stub:
        connect(stub, keep_alive=True)
        stub.disconnect("alice")

    assert ("cancel_events", ("alice",)) in data.dispatcher.calls
    due = [values[0] for name, values in data.dispatcher.calls if name == "update_event"]
    token_end = 2 * 60 * 60 + 1  # seconds: a token lasts until its second is over
    assert due == [token_end + 2]


def test_a_stub_goes_on_in_a_forked_process(stub):
    page = connect(stub)
    bob = connect(stub, "bob")

    registry.renew_locks()

    channel.send_message("alice", "hi")
    assert page.receive() == "hi"
    bob.close()
    stub.clock.advance(2)
    assert [event.client_id for event in stub.timeline.of(kind="close")] == ["bob"]
    assert [event.client_id for event in stub.timeline.of(kind="timeout")] == ["alice"]


@pytest.mark.parametrize("make", [lambda: None, lambda: FakeClock(start=5).time])
def test_a_reset_of_a_stub_on_a_clock_of_its_own_counts_from_now(make):
    with ChannelServiceStub(time_func=make()) as stub:
        connect(stub)

        stub.reset("all")

        assert not stub.connected_client_ids
        assert stub.clock.elapsed == pytest.approx(0, abs=60)


def test_a_step_that_fails_within_leaves_the_stub_as_it_was(stub):
    page = connect(stub)
    state = stub._state
    step = Step(state, state.version, state.now)
    step.do(int, "no number")

    with pytest.raises(ValueError, match="no number"):
        state.commit(step)

    channel.send_message("alice", "hi")
    assert page.receive() == "hi"


def test_a_plan_that_failed_on_a_changed_state_is_made_anew(stub):
    page = connect(stub)
    failed = []

    def plan(step):
        if not failed:
            failed.append(step.version)
            channel.send_message("alice", "in between")
            raise KeyError("seen half")
        return step.version

    with stub._lock:
        assert stub._state.change(plan) > failed[0]
    assert page.receive() == "in between"


def test_a_time_read_before_another_step_does_not_turn_the_clock_back():
    with ChannelServiceStub(time_func=time.time) as stub:
        connect(stub)
        before = stub._state.now

        _, now = stub._settle_time((-1, before - 1_000_000))

        assert now == before


def test_a_client_that_is_closed_leaves_once(stub):
    page = connect(stub)
    page.close()
    recorded = kinds(stub)

    stub._leave(page)

    assert kinds(stub) == recorded


def test_without_an_sdk_the_core_is_asked_for_nothing():
    sdk = SDK()

    assert sdk.proxy_map("channel") is None
    assert sdk.stub("channel") is None
    assert sdk.is_silent_request_data(None)
    assert not sdk.is_silent_request_data(object())


def test_bytes_that_are_not_utf8_are_no_field_of_a_message():
    with pytest.raises(channel.InvalidMessageError, match="not UTF-8"):
        SendMessageRequest().set_message(b"\xff")
    with pytest.raises(InvalidTokenError, match="not UTF-8"):
        CreateChannelResponse().set_token(b"\xff")
