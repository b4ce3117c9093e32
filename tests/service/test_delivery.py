"""Requests to the app: their order, and what counts as delivered."""

from __future__ import annotations

import threading

import pytest

from pytest_channelstub import ChannelClient, ChannelServiceStub, FakeClock, channel
from pytest_channelstub._service import clock as clock_module
from pytest_channelstub._service.delivery import ChannelAppWarning, Outgoing

PATIENCE = 30.0  # seconds


class App:
    """An app that records what it hears, and who it believes is here."""

    def __init__(self, status="200 OK"):
        self.status = status
        self.heard = []
        self.here = set()
        self.on = {"connected": lambda _: None, "disconnected": lambda _: None}

    def __call__(self, environ, start_response):
        form = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        event, client_id = environ["PATH_INFO"].split("/")[3], form.decode().partition("=")[2]
        self.on[event](client_id)
        self.heard.append((event, client_id))
        (self.here.add if event == "connected" else self.here.discard)(client_id)
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


def run_in_thread(job):
    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    return thread


def connect(stub, client_id="alice", **options):
    return ChannelClient(stub, channel.create_channel(client_id), **options)


class Gate:
    """Holds a handler until the test opens it."""

    def __init__(self):
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, _):
        self.reached.set()
        assert self.opened.wait(PATIENCE)


# Order.


def test_a_client_that_disconnects_during_a_slow_handler_is_heard_in_order(stub, app):
    app.on["connected"] = gate = Gate()
    token = channel.create_channel("alice")
    thread = run_in_thread(lambda: stub.connect_channel(token))
    assert gate.reached.wait(PATIENCE)

    stub.disconnect("alice")
    gate.opened.set()
    thread.join(PATIENCE)

    assert app.heard == [("connected", "alice"), ("disconnected", "alice")]
    assert app.here == set()
    outcomes = [event.outcome for event in stub.timeline.of("alice", kind="request")]
    assert outcomes == ["200 OK", "200 OK"]


def test_a_slow_handler_of_one_client_does_not_hold_another_client_up(stub, app):
    gate = Gate()
    app.on["connected"] = lambda client_id: gate(client_id) if client_id == "alice" else None
    token = channel.create_channel("alice")
    thread = run_in_thread(lambda: stub.connect_channel(token))
    assert gate.reached.wait(PATIENCE)

    connect(stub, "bob")

    assert app.heard == [("connected", "bob")]
    gate.opened.set()
    thread.join(PATIENCE)
    assert app.here == {"alice", "bob"}


def test_a_handler_that_disconnects_its_own_client_is_heard_in_order(stub, app):
    app.on["connected"] = stub.disconnect

    connect(stub)

    assert app.heard == [("connected", "alice"), ("disconnected", "alice")]


def test_in_one_thread_everything_is_delivered_before_the_call_returns(stub, app):
    app.on["connected"] = lambda client_id: channel.send_message(client_id, "welcome")
    token = channel.create_channel("alice")

    assert stub.connect_and_pop_first_message(token) == "welcome"
    assert app.here == {"alice"}


def test_the_error_of_a_handler_reaches_the_caller_in_whose_call_it_ran(stub, app):
    app.on["connected"] = lambda _: 1 / 0
    token = channel.create_channel("alice")

    with pytest.raises(ZeroDivisionError):
        stub.connect_channel(token)

    assert stub.is_connected("alice")
    assert stub.timeline[-1].outcome == "ZeroDivisionError: division by zero"
    stub.disconnect("alice")
    assert app.heard == [("disconnected", "alice")]


def test_the_error_of_a_handler_keeps_no_request_of_another_client(app):
    now = [1_600_000_000.0]
    with ChannelServiceStub(time_func=lambda: now[0]) as stub:
        for name in ("alice", "bob", "carol"):
            stub.connect_channel(channel.create_channel(name))
        stub.app = app

        def fail(client_id):
            app.heard.append(client_id)
            if client_id != "bob":
                raise LookupError(client_id)

        app.on["disconnected"] = fail
        now[0] += 10
        with pytest.raises(LookupError, match="carol") as caught:
            _ = stub.connected_client_ids
    assert isinstance(caught.value.__context__, LookupError)
    assert [each for each in app.heard if isinstance(each, str)] == ["alice", "bob", "carol"]


def test_ctrl_c_in_a_handler_has_the_error_of_another_handler_behind_it(app):
    now = [1_600_000_000.0]
    with ChannelServiceStub(time_func=lambda: now[0]) as stub:
        for name in ("alice", "bob"):
            stub.connect_channel(channel.create_channel(name))
        stub.app = app

        def fail(client_id):
            raise LookupError if client_id == "alice" else KeyboardInterrupt

        app.on["disconnected"] = fail
        now[0] += 10
        with pytest.raises(KeyboardInterrupt) as caught:
            _ = stub.connected_client_ids
    assert isinstance(caught.value.__context__, LookupError)


def test_a_thousand_requests_that_fail_are_all_made(stub, app):
    def fail(client_id):
        app.heard.append(client_id)
        raise error

    def queue_many(_):
        for _ in range(1_200):
            stub.add_connect_event("alice")
        app.on["connected"] = fail

    error = LookupError("the same each time")
    app.on["connected"] = queue_many
    with pytest.raises(LookupError):
        stub.add_connect_event("alice")
    assert len(app.heard) == 1_201


def test_a_kept_alive_client_whose_handler_raised_times_out(stub, app):
    app.on["connected"] = lambda _: 1 / 0
    token = channel.create_channel("alice")

    with pytest.raises(ZeroDivisionError):
        ChannelClient(stub, token, keep_alive=True)

    assert stub.is_connected("alice")
    stub.clock.advance(2)
    assert not stub.is_connected("alice")


def test_a_poll_reads_after_its_handler_has_let_time_pass(stub, app):
    app.on["connected"] = lambda _: stub.clock.advance(1)
    token = channel.create_channel("alice")

    assert stub.connect_and_pop_first_message(token) is None
    assert [event.at for event in stub.timeline.of("alice", kind="poll")] == [1.0]


def test_a_reset_in_a_handler_ends_the_advance_that_ran_it(stub, app):
    connect(stub)
    app.on["disconnected"] = lambda _: stub.reset("all")

    stub.clock.advance(10)

    assert stub.clock.elapsed == 0
    assert stub.connected_client_ids == ()


def test_an_app_that_is_removed_hears_nothing_more(stub, app):
    connect(stub)
    stub.app = None
    stub.disconnect("alice")

    assert app.heard == [("connected", "alice")]
    assert stub.timeline[-1].outcome == "no app"


def test_an_app_that_is_set_later_hears_nothing_of_earlier_clients(stub):
    connect(stub)

    stub.app = App()
    connect(stub, "bob")

    assert stub.app.heard == [("connected", "bob")]


def test_a_client_id_with_a_lone_surrogate_reaches_the_app(stub, app):
    stub.add_disconnect_event("\ud800")
    stub.clock.advance(2)

    assert app.heard == [("disconnected", "%ED%A0%80")]


# Between tests.


def test_the_next_test_waits_for_requests_under_way(stub, app):
    app.on["connected"] = gate = Gate()
    token = channel.create_channel("alice")
    thread = run_in_thread(lambda: stub.connect_channel(token))
    assert gate.reached.wait(PATIENCE)
    opener = threading.Timer(0.05, gate.opened.set)
    opener.start()

    stub._begin_epoch("queues")

    assert app.heard == [("connected", "alice")]
    assert len(stub.timeline) == 0
    thread.join(PATIENCE)
    opener.join(PATIENCE)


# Handlers without end.


@pytest.mark.filterwarnings("error")
def test_handlers_that_connect_and_disconnect_each_other_are_a_runtime_error(stub, app):
    token = channel.create_channel("alice")
    app.on["connected"] = stub.disconnect
    app.on["disconnected"] = lambda _: stub.connect_channel(token)

    with pytest.raises(RuntimeError, match="connect and disconnect client id 'alice' without end"):
        stub.connect_channel(token)


def test_a_handler_that_connects_another_client_each_time_is_a_runtime_error(stub, app):
    def connect(number):
        stub.connect_channel(channel.create_channel(str(number)))

    app.on["connected"] = lambda client_id: connect(int(client_id) + 1)

    with pytest.raises(RuntimeError, match="50 within each other, at last client id '50'"):
        connect(0)
    app.on["connected"] = lambda _: None
    connect(100)
    assert app.heard[-1] == ("connected", "100")


def test_a_chain_of_forty_handlers_ends_by_itself(stub, app):
    def connect(number):
        stub.connect_channel(channel.create_channel(str(number)))

    app.on["connected"] = lambda client_id: int(client_id) < 40 and connect(int(client_id) + 1)

    connect(1)

    assert len(stub.connected_client_ids) == 40


def test_a_client_that_is_connected_again_at_each_timeout_is_a_runtime_error(
    stub, app, monkeypatch
):
    monkeypatch.setattr(clock_module, "_MOST_TIMEOUTS", 100)
    token = channel.create_channel("alice", 1440)
    stub.connect_channel(token)
    app.on["disconnected"] = lambda _: stub.connect_channel(token)

    with pytest.raises(RuntimeError, match=r"'alice' has timed out 100 times in one move"):
        stub.clock.advance(hours=12)


@pytest.mark.parametrize("back", [0, 2])
def test_new_clients_at_each_timeout_are_a_runtime_error(stub, app, monkeypatch, back):
    monkeypatch.setattr(clock_module, "_MOST_TIMEOUTS", 100)
    stub.connect_channel(channel.create_channel("0"))

    def connect_next(client_id):
        stub.clock.tick(-back)
        stub.connect_channel(channel.create_channel(str(int(client_id) + 1)))

    app.on["disconnected"] = connect_next

    with pytest.raises(RuntimeError, match="100 clients, '100' the last, have connected and timed"):
        stub.clock.advance(hours=12)


def test_any_number_of_clients_may_time_out_in_one_move(stub, monkeypatch):
    monkeypatch.setattr(clock_module, "_MOST_TIMEOUTS", 10)
    for number in range(50):
        stub.connect_channel(channel.create_channel(str(number)))

    stub.clock.advance(2)

    assert not stub.connected_client_ids


def test_a_handler_that_sets_the_clock_back_each_time_is_a_runtime_error(stub, app, monkeypatch):
    monkeypatch.setattr(clock_module, "_MOST_TIMEOUTS", 100)
    token = channel.create_channel("alice", 1440)
    stub.connect_channel(token)

    def rewind(_):
        stub.clock.tick(-2)
        stub.connect_channel(token)

    app.on["disconnected"] = rewind
    with pytest.raises(RuntimeError, match="sets the clock back, each time"):
        stub.clock.advance(5)


# What a handler raises, and an answer of 400 or more.


class Unshowable(Exception):  # noqa: N818 (a fault, and no error of ours)
    def __str__(self):
        raise ValueError


def test_an_exception_of_5_megabytes_is_shortened_in_the_record(stub, app):
    def fail(_):
        raise LookupError("x" * 5_000_000)

    app.on["connected"] = fail
    with pytest.raises(LookupError):
        stub.add_connect_event("alice")

    outcome = stub.timeline[-1].outcome
    assert outcome.startswith("LookupError: xxx")
    assert len(outcome) < 1000


def test_an_exception_that_cannot_be_shown_reaches_the_caller_as_it_is(stub, app):
    def fail(_):
        raise Unshowable

    app.on["connected"] = fail
    with pytest.raises(Unshowable):
        stub.add_connect_event("alice")

    assert "Unshowable" in stub.timeline[-1].outcome


def test_an_answer_of_400_or_more_is_a_warning_at_the_line_that_caused_it(stub, app):
    app.status = "404 Not Found"

    with pytest.warns(ChannelAppWarning, match="answered '404 Not Found' to POST") as at_once:
        stub.add_connect_event("alice")
    stub.add_disconnect_event("alice")
    with pytest.warns(ChannelAppWarning) as later:
        stub.clock.advance(2)

    assert {one.filename for one in (*at_once, *later)} == {__file__}


def test_a_fork_in_a_handler_keeps_what_its_own_thread_delivers(stub, app):
    def renew(_):
        stub._renew_locks()
        stub.disconnect("alice")

    app.on["connected"] = renew
    connect(stub)

    assert app.heard == [("connected", "alice"), ("disconnected", "alice")]


def test_an_app_that_is_removed_in_a_handler_hears_nothing_of_what_waits(stub, app):
    def remove(_):
        stub.disconnect("alice")
        stub.app = None

    app.on["connected"] = remove
    connect(stub)

    assert app.heard == [("connected", "alice")]
    assert len(stub.requests) == 2


@pytest.mark.parametrize(
    ("is_answered", "outcome"), [(False, "interrupted"), (True, "200 OK")], ids=["cut short", "old"]
)
def test_a_request_that_has_reached_the_app_is_not_made_again(stub, app, is_answered, outcome):
    outgoing = Outgoing("alice", "/_ah/channel/connected/", 0, "127.0.0.1", outcome="200 OK")
    outgoing.is_answered, outgoing.is_called = is_answered, True

    stub._outbox._deliver_one(outgoing)

    assert outgoing.outcome == outcome
    assert outgoing.is_answered
    assert not app.heard
