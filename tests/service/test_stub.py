"""The stub and its pages, without pytest's side: misuse, hostile values, and odd moments."""

from __future__ import annotations

import gc
import logging
import pickle
import threading

import pytest

from pytest_channelstub import ChannelClient, ChannelServiceStub, FakeClock, InvalidTokenError, TokenTimedOutError, apiproxy_errors, channel
from pytest_channelstub._service.delivery import ChannelAppWarning, RequestInfo
from pytest_channelstub._service.process_clock import SystemClock
from pytest_channelstub._record.timeline import Timeline


class Unshowable:
    def __str__(self):
        raise ZeroDivisionError

    __repr__ = __str__


class UnshowableText(str):
    __slots__ = ()

    def __str__(self):
        raise ZeroDivisionError

    __repr__ = __format__ = __str__


NO_TOKENS = [
    None,
    b"bytes",
    True,
    1.5,
    [],
    "\ud800",
    pytest.param(10**5000, id="five thousand digits"),
    pytest.param(Unshowable(), id="unshowable"),
    pytest.param(UnshowableText("x"), id="unshowable text"),
]


class App:
    """Answers as it is told, and remembers whom it was told of."""

    def __init__(self, status="200 OK"):
        self.status = status
        self.told = []
        self.do = lambda: None

    def __call__(self, environ, start_response):
        form = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        self.told.append((environ["PATH_INFO"].split("/")[3], form))
        self.do()
        start_response(self.status, [])
        return [b"done"]


@pytest.fixture
def stub():
    with ChannelServiceStub(time_func=FakeClock(start=0).time) as stub:
        yield stub


@pytest.fixture
def app(stub):
    stub.app = App()
    return stub.app


def pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 (its own)


def connected(stub, client_id="alice", **options):
    return ChannelClient(stub, channel.create_channel(client_id), **options)


# Values that are no tokens, and no client ids.


@pytest.mark.parametrize("token", NO_TOKENS)
def test_what_is_no_token_is_an_invalid_one_whatever_it_is(stub, token):
    for method in (
        stub.validate_token_and_extract_client_id,
        stub.connect_channel,
        stub.connect_and_pop_first_message,
    ):
        with pytest.raises(InvalidTokenError, match="is no channel token: pass what"):
            method(token)

    assert stub.client_id_from_token(token) is None
    assert stub.get_channel_messages(token) is None
    assert stub.has_channel_messages(token) is False
    assert stub.pop_first_message(token) is None
    assert stub.clear_channel_messages(token) is None
    assert [event.outcome for event in stub.timeline] == ["invalid", "invalid"]
    assert repr(stub.timeline[:])


def test_a_token_that_is_text_of_another_class_is_recorded_as_its_text(stub):
    token = channel.create_channel("alice")

    stub.connect_channel(UnshowableText(token))

    assert stub.connected_client_ids == ("alice",)


@pytest.mark.parametrize(
    "client_id",
    [
        None,
        5,
        b"alice",
        [],
        pytest.param(10**5000, id="five thousand digits"),
        pytest.param(Unshowable(), id="unshowable"),
    ],
)
def test_a_client_id_that_is_no_text_changes_nothing(stub, app, client_id):
    for method in (
        stub.add_connect_event,
        stub.add_disconnect_event,
        stub.disconnect_channel_event,
        stub.disconnect,
    ):
        with pytest.raises(TypeError, match="pass a str"):
            method(client_id)

    stub.clock.advance(10)
    assert (len(stub.timeline), stub.requests, app.told) == (0, (), [])


def test_a_client_id_of_another_class_of_text_is_told_as_its_text(stub, app):
    stub.disconnect_channel_event(UnshowableText("alice"))

    assert app.told == [("disconnected", b"from=alice")]


def test_a_client_id_that_utf8_cannot_hold_reaches_the_app_all_the_same(stub, app):
    stub.add_disconnect_event("\ud800")
    stub.clock.advance(2)

    assert app.told == [("disconnected", b"from=%ED%A0%80")]
    assert repr(stub.timeline[:])


def test_an_expired_token_says_when_it_ended_and_how_long_ago(stub):
    token = channel.create_channel("alice", duration_minutes=1)
    stub.clock.advance(minutes=2, seconds=0.5)

    with pytest.raises(TokenTimedOutError) as caught:
        stub.connect_channel(token)
    assert str(caught.value) == (
        "the token of client id 'alice' ended 59.5 s ago, at +1 min 1 s: "
        "make another with create_channel"
    )


# The app's handler.


def test_a_status_without_a_code_is_an_error_that_says_so(stub, app):
    app.status = "OK"

    with pytest.raises(AssertionError, match="with the status 'OK': call start_response with"):
        stub.add_connect_event("alice")

    assert stub.requests[0].status is None
    assert stub.timeline[-1].outcome.startswith("AssertionError")


def test_an_app_that_never_starts_its_response_is_told_so(stub):
    stub.app = lambda *_: []

    with pytest.raises(AssertionError, match="without calling start_response"):
        stub.add_connect_event("alice")


def test_an_answer_is_closed_when_it_was_read(stub):
    class Answer(list):
        closed = False

        def close(self):
            self.closed = True

    answer = Answer([b"a", b"b"])
    stub.app = lambda _, start_response: start_response("204 No Content", []) and answer

    stub.add_connect_event("alice")

    assert answer.closed
    assert pickled(stub.requests)[0].status == 204


def test_an_answer_of_400_or_more_is_warned_of(stub, app):
    app.status = "404 Not Found"

    with pytest.warns(ChannelAppWarning, match="answered '404 Not Found' to POST"):
        stub.add_connect_event("alice")


@pytest.mark.parametrize("app", [3, "app", ()])
def test_what_can_be_no_app_is_refused_at_once(stub, app):
    with pytest.raises(TypeError, match=r"of type .*: pass a WSGI callable, or None for no app"):
        stub.app = app

    assert stub.app is None


def test_a_client_whose_arguments_are_swapped_is_told_their_order(stub):
    with pytest.raises(TypeError, match="the stub is 'alice', of type str: pass the stub first"):
        ChannelClient("alice", stub)


def test_the_warning_of_an_answer_points_at_the_line_that_made_the_request(stub, app):
    app.status = "500 Broken"
    stub.add_disconnect_event("alice")

    with pytest.warns(ChannelAppWarning) as at_once:
        stub.add_connect_event("alice")
    with pytest.warns(ChannelAppWarning) as in_time:
        stub.clock.advance(2)

    assert {one.filename for one in (*at_once, *in_time)} == {__file__}


def test_a_poll_whose_handler_lets_time_pass_reads_when_that_has_passed(stub, app):
    token = channel.create_channel("alice")
    app.do = lambda: stub.clock.advance(1) if len(app.told) == 1 else None

    assert stub.connect_and_pop_first_message(token) is None

    assert [event.at for event in stub.timeline.of("alice", kind="poll")] == [1.0]


def test_a_call_comes_after_what_the_handler_of_a_timeout_let_pass():
    now = [0.0]
    with ChannelServiceStub(time_func=lambda: now[0]) as stub:
        token = channel.create_channel("alice")
        connected(stub, "bob")
        stub.app = App()
        stub.app.do = lambda: now.__setitem__(0, 5.0)
        now[0] = 3.0

        assert stub.validate_token_and_extract_client_id(token) == "alice"
        stub.app.do = lambda: None
        stub.connect_channel(token)

        assert [event.at for event in stub.timeline.of("bob", kind="timeout")] == [2.0]
        assert [event.at for event in stub.timeline.of("alice", kind="connect")] == [5.0]


def test_a_page_that_the_app_refused_to_hear_of_is_kept_alive_no_longer(stub, app):
    app.do = lambda: 1 / 0
    token = channel.create_channel("alice")

    with pytest.raises(ZeroDivisionError) as kept:
        ChannelClient(stub, token, keep_alive=True)

    assert stub.is_connected("alice")
    app.do = lambda: None
    stub.clock.advance(2)
    assert not stub.is_connected("alice"), kept


def test_a_client_may_be_named_by_a_token_of_it(stub):
    token = channel.create_channel("alice", duration_minutes=1)
    stub.connect_channel(channel.create_channel("alice"))
    channel.send_message("alice", "hello")
    with stub.hold("alice", channel.create_channel("alice")):
        stub.clock.advance(minutes=5)

    assert stub.is_connected(token)
    assert stub.pending(token) == ("hello",)

    stub.disconnect(token)

    assert not stub.is_connected("alice")
    assert stub.requests[-1].body == "from=alice"


def test_a_client_whose_id_reads_like_a_token_is_that_client(stub):
    odd = channel.create_channel("alice")
    stub.connect_channel(channel.create_channel(odd))

    assert stub.is_connected(odd)
    assert not stub.is_connected("alice")


@pytest.mark.parametrize("way", ["connect_channel", "connect_and_pop_first_message"])
@pytest.mark.parametrize("connected_before", [False, True])
def test_a_client_that_connects_while_the_time_goes_back_stays_two_seconds_from_there(
    way, connected_before
):
    times = [0.0]
    with ChannelServiceStub(time_func=lambda: times.pop(0) if times[1:] else times[0]) as stub:
        token = channel.create_channel("alice")
        if connected_before:
            stub.connect_channel(token)
        times[:] = [1.5, 0.5]

        getattr(stub, way)(token)

        times[:] = [2.25]
        assert stub.is_connected("alice")
        times[:] = [2.5]
        assert not stub.is_connected("alice")


# Holds.


def test_a_page_that_is_garbage_is_collected_under_any_lock(stub):
    def leave_garbage():
        page = connected(stub, "garbage", keep_alive=True)
        page.itself = page

    def work():
        for number in range(300):
            leave_garbage()
            connected(stub, f"page {number}")
            channel.send_message(f"page {number}", "hello")

    usual = gc.get_threshold()
    gc.set_threshold(1)
    try:
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(60)
    finally:
        gc.set_threshold(*usual)

    assert not worker.is_alive(), "it waits for a lock that it holds itself"


def test_a_hold_that_could_not_begin_holds_nothing():
    now = [0.0]
    with ChannelServiceStub(time_func=lambda: now[0]) as stub:
        token = channel.create_channel("alice")
        connected(stub, "bob")
        stub.app = App()
        stub.app.do = lambda: 1 / 0
        now[0] = 3.0

        with pytest.raises(ZeroDivisionError), stub.hold("alice", token):
            pass

        stub.app = None
        stub.connect_channel(token)
        now[0] = 5.0
        assert not stub.is_connected("alice")


def test_a_hold_without_a_valid_token_holds_nothing(stub):
    page = connected(stub)

    with stub.hold("alice", "no token"):
        stub.clock.advance(2)

    assert not page.connected


def test_of_two_holds_the_other_goes_on_when_one_ends(stub):
    token = channel.create_channel("alice")
    stub.connect_channel(token)

    with stub.hold("alice", token):
        with stub.hold("alice", token):
            stub.clock.advance(5)
        stub.clock.advance(5)
        assert stub.is_connected("alice")
    stub.clock.advance(2)
    assert not stub.is_connected("alice")


def test_a_hold_ends_with_a_reset_of_everything(stub):
    with stub.hold("alice", channel.create_channel("alice")):
        stub.reset("all")
        token = channel.create_channel("alice")
        stub.connect_channel(token)
        stub.clock.advance(1)
    stub.clock.advance(1)

    assert not stub.is_connected("alice")


# Pages.


def test_a_page_says_what_it_is_doing(stub):
    with connected(stub) as page:
        channel.send_message("alice", "hello")
        assert repr(page) == "<ChannelClient 'alice', connected, 1 pending, 0 received>"
        page.receive()
        stub.clock.advance(2)
        assert repr(page) == "<ChannelClient 'alice', disconnected, 0 pending, 1 received>"
    assert repr(page) == "<ChannelClient 'alice', closed, 0 pending, 1 received>"


def test_a_closed_page_reads_nothing_and_is_closed_once(stub, app):
    page = connected(stub)
    page.close()
    page.close()

    assert [event for event, _ in app.told] == ["connected", "disconnected"]
    assert (page.messages, page.receive_all()) == ([], [])
    with pytest.raises(RuntimeError, match="is closed: open another to read on"):
        page.poll()
    with pytest.raises(AssertionError, match="is closed: open another to read on"):
        page.receive()


def test_a_page_that_was_timed_out_tells_nobody_when_it_is_closed(stub, app):
    page = connected(stub)
    stub.clock.advance(2)

    page.close()

    assert [event for event, _ in app.told] == ["connected", "disconnected"]
    assert not stub.timeline.of(kind="close")


def test_what_is_not_json_has_been_read_all_the_same(stub):
    page = connected(stub)
    channel.send_message("alice", "{}")
    channel.send_message("alice", "{")

    assert page.receive_json() == {}
    with pytest.raises(AssertionError, match=r"received '\{', which is not JSON"):
        page.receive_json()
    assert page.received == ["{}", "{"]


def test_all_that_waits_is_received_oldest_first(stub):
    page = connected(stub)
    for message in ("one", "two"):
        channel.send_message("alice", message)

    assert page.receive_all() == ["one", "two"]


# The stub as a whole.


def test_a_stub_that_was_closed_can_still_be_read(stub):
    token = channel.create_channel("alice")
    stub.connect_channel(token)
    stub.close()
    stub.close()

    assert stub.is_connected("alice")
    stub.clock.advance(10)
    assert stub.is_connected("alice")
    assert repr(stub).startswith("<ChannelServiceStub 1 connected, 3 events, <FakeClock ")


def test_all_that_waits_for_a_stubs_end_is_called_also_when_one_raises(stub):
    called = []
    stub.closing += [lambda: called.append("first"), lambda: 1 / 0, lambda: called.append("last")]

    with stub.timeline.watch() as flag, pytest.raises(ZeroDivisionError):
        stub.close()

    assert (called, flag.is_set()) == (["last", "first"], True)


def test_a_reset_takes_only_what_it_knows(stub):
    with pytest.raises(ValueError, match="reset takes 'queues', 'all' or 'nothing', and got 'al'"):
        stub.reset("al")


def test_an_emptied_queue_leaves_a_list_taken_earlier_as_it_was(stub):
    token = channel.create_channel("alice")
    stub.connect_channel(token)
    taken = stub.get_channel_messages(token)
    channel.send_message("alice", "hello")

    stub.clear_channel_messages(token)
    stub.clear_channel_messages(channel.create_channel("nobody"))

    assert (taken, stub.get_channel_messages(token)) == (["hello"], [])
    assert [event.outcome for event in stub.timeline.of(kind="clear")] == ["1 message"]


def test_every_call_is_logged_where_a_log_is_given():
    told = []
    clock = FakeClock(start=0)
    with ChannelServiceStub(log=lambda text, *values: told.append(text % values),
                            time_func=clock.time) as stub:  # fmt: skip
        token = channel.create_channel("alice")
        stub.validate_token_and_extract_client_id(token)
        channel.send_message("alice", "early")
        stub.connect_and_pop_first_message(token)
        channel.send_message("alice", "hello")
        stub.pop_first_message(token)
        clock.advance(2)

    assert [line.split(" ")[0] for line in told] == [
        "Creating", "Token", "SKIPPING", "Telling", "Polling", "Sending", "Popping", "Channel",
        "Telling",
    ]  # fmt: skip


def test_the_usual_log_is_that_of_the_root_logger(stub, caplog):
    with caplog.at_level(logging.DEBUG):
        channel.create_channel("alice")

    assert "Creating channel token" in caplog.text


def test_a_dispatcher_of_ones_own_takes_the_events():
    class Dispatcher:
        def __init__(self):
            self.calls = []

        def __getattr__(self, name):
            return lambda *values: self.calls.append((name, values))

    dispatcher = Dispatcher()
    clock = FakeClock(start=0)
    data = RequestInfo(dispatcher)
    with ChannelServiceStub(time_func=clock.time, request_data=data) as stub:
        page = connected(stub)
        page.poll()
        event, request, update = dispatcher.calls
        runnable = event[1][0]
        clock.advance(5)
        assert page.connected
        runnable()

    assert (event[0], request[0], update[0]) == ("add_event", "add_async_request", "update_event")
    assert not page.connected
    assert stub.timeline.of(kind="timeout")[0].at == 2.0


def test_a_stub_that_is_gone_times_nobody_out():
    clock = FakeClock(start=0)
    stub = ChannelServiceStub(time_func=clock.time)
    connected(stub)
    timeline = stub.timeline
    del stub
    gc.collect()

    clock.advance(5)

    assert not timeline.of(kind="timeout")


def test_a_stub_on_the_systems_clock_begins_with_its_first_event():
    now = [50.0]
    with ChannelServiceStub(time_func=lambda: now[0]) as stub:
        assert stub.timeline.start == 0.0
        now[0] = 60.0
        channel.create_channel("alice")
        assert stub.timeline.start == 60.0
        assert isinstance(stub.clock, SystemClock)


def test_what_was_refreshed_while_it_was_connected_is_not_connected_twice(stub):
    token = channel.create_channel("alice")
    stub.connect_channel(token)

    assert not stub._connections.open(0.0, "alice", token)


def test_own_events_of_a_dispatcher_can_be_moved_and_taken_away(stub):
    fired = []
    dispatcher = stub.request_data.get_dispatcher()
    for due in (1.0, 2.0):
        dispatcher.add_event(fired.append, due, "channel-disconnect", "both")
    dispatcher.add_event(fired.append, 1.5, "channel-disconnect", "gone")
    dispatcher.update_event(3.0, "channel-disconnect", "both")
    dispatcher.update_event(3.0, "channel-disconnect", "unknown")
    dispatcher.cancel_events("gone")

    stub.clock.advance(5)

    assert fired == [2.0, 3.0]


def test_a_dispatcher_takes_requests_as_the_sdks_own_dispatchers_do(stub):
    stub.clock.advance(1.5)

    stub.request_data.get_dispatcher().add_async_request(
        "POST", "/_ah/channel/connected/", [("X-Header", "a value")], "from=alice", "0.1.0.10"
    )

    (request,) = stub.requests
    assert request.headers == (("X-Header", "a value"),)
    assert (request.body, request.at) == ("from=alice", stub.clock.time())
    assert stub.timeline.of("alice")[-1].kind == "request"


def test_the_requests_of_the_stubs_own_dispatcher_can_be_watched(stub, monkeypatch):
    seen = []
    dispatcher = stub.request_data.get_dispatcher()
    monkeypatch.setattr(dispatcher, "add_async_request", lambda *told, **_: seen.append(told[1]))

    stub.connect_channel(channel.create_channel("alice"))
    stub.clock.advance(2)

    assert seen == ["/_ah/channel/connected/", "/_ah/channel/disconnected/"]


# The timeline.


def test_a_timeline_compares_with_what_holds_the_same_events(stub):
    channel.create_channel("alice")
    timeline = stub.timeline

    assert timeline == [timeline[0]]
    assert timeline == (timeline[-1],)
    assert timeline != Timeline()
    assert timeline != "events"
    assert pickled(timeline[0]) == timeline[0]
    assert repr(timeline) == "<Timeline of 1 events>"
    assert repr(timeline[0]).startswith("<Event create 1970-01-01T00:00:00Z alice")


def test_who_watches_a_client_is_woken_by_its_events_and_at_the_end(stub):
    watch = stub.timeline.watch
    with watch("alice") as of_alice, watch("alice") as too, watch("bob") as of_bob, watch() as all_:
        token = channel.create_channel("alice")
        assert [flag.is_set() for flag in (of_alice, too, of_bob, all_)] == [
            True,
            True,
            False,
            True,
        ]
        all_.clear()
        stub.connect_channel(token)
        channel.send_message("alice", "hello")
        assert all_.is_set()
        all_.clear()
        stub.pop_first_message(token)
        assert all_.is_set()
        stub.reset()
        assert not of_bob.is_set()
        stub.close()
        assert of_bob.is_set()


def test_calls_fail_again_and_again_without_keeping_what_was(stub):
    error = apiproxy_errors.OverQuotaError("enough")
    stub.SetError(error)
    depths = []
    for _ in range(3):
        with pytest.raises(apiproxy_errors.OverQuotaError) as caught:
            channel.send_message("alice", "hello")
        depths.append(len(caught.traceback))

    assert len({*depths}) == 1


@pytest.mark.parametrize("wrong", ["dropped", "connected", ""])
def test_a_kind_that_no_event_has_is_refused(stub, wrong):
    with pytest.raises(ValueError, match=f"no event of kind '{wrong}': pass one of create, "):
        stub.timeline.of(kind=wrong)


def test_a_kind_that_is_passed_as_a_client_id_is_refused_unless_a_client_has_that_name(stub):
    channel.send_message("alice", "hello")
    with pytest.raises(ValueError, match=r"no client id: pass kind='drop'"):
        stub.timeline.of("drop")

    channel.create_channel("drop")

    assert [event.kind for event in stub.timeline.of("drop")] == ["create"]
