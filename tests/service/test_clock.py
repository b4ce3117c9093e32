"""The clocks of a stub: what they read, how they move, and when clients time out."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from pytest_channelstub import ChannelServiceStub, FakeClock, channel
from pytest_channelstub._service import clock as clock_module

# pytest cannot make an id of it itself.
FIVE_THOUSAND_DIGITS = pytest.param(10**5000, id="five thousand digits")


class Unshowable:
    def __repr__(self):
        raise ZeroDivisionError


class App:
    """Hears who comes and goes, and does something then."""

    def __init__(self, on_disconnected=lambda: None):
        self.heard = []
        self.on_disconnected = on_disconnected

    def __call__(self, environ, start_response):
        self.heard.append(environ["PATH_INFO"].split("/")[3])
        start_response("200 OK", [])
        if self.heard[-1] == "disconnected":
            self.on_disconnected()
        return []


@pytest.fixture
def clock():
    return FakeClock(start=0)


@pytest.fixture
def stub(clock):
    with ChannelServiceStub(time_func=clock.time) as stub:
        yield stub


@pytest.fixture
def hectic_switching():
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def connect(stub, client_id="alice"):
    stub.connect_channel(channel.create_channel(client_id))


def timeouts(stub):
    return [event.at for event in stub.timeline if event.kind == "timeout"]


@pytest.mark.parametrize(
    ("seconds", "looks_and_end"),
    [
        (-1, (1, 2)),  # three seconds on, and one back from there
        (5, (2, 5)),  # three of the five seconds have passed
        (0.25, (1, 3)),  # it is past its end
    ],
)
def test_a_move_in_the_middle_of_a_move_is_not_undone(
    clock, stub, monkeypatch, seconds, looks_and_end
):
    read, (looks, end) = clock._read, looks_and_end
    left = [looks]

    def read_then_advance():
        now = read()
        left[0] -= 1
        if left[0] == 0:  # a finalizer comes just behind this look at the clock
            clock.advance(3)
        return now

    monkeypatch.setattr(clock, "_read", read_then_advance)
    clock.tick(seconds)
    monkeypatch.undo()

    assert clock.elapsed == end


def run_in_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    ("start", "seconds"),
    [
        (0, 0.0),
        (1.5, 1.5),
        ("12", 12.0),
        (" 1970-01-01T00:00:02z ", 2.0),
        ("19700102", 86400.0),
        (date(1970, 1, 2), 86400.0),
        (datetime(1970, 1, 1, 1), 3600.0),  # noqa: DTZ001 (a naive one is UTC)
        (datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=-1))), 3600.0),
    ],
)
def test_a_start_is_a_datetime_an_iso_string_or_seconds(start, seconds):
    assert FakeClock(start=start).time() == seconds


@pytest.mark.parametrize(
    "start", ["", "noon", float("nan"), "inf", 1e13, FIVE_THOUSAND_DIGITS, -70_000_000_000]
)
def test_a_start_outside_the_calendar_is_a_value_error(start):
    with pytest.raises(ValueError, match=r"pass|outside the years"):
        FakeClock(start=start)


@pytest.mark.parametrize("start", [True, None, b"0", [10**5000], Unshowable()])
def test_a_start_of_another_type_is_a_type_error(start):
    with pytest.raises(TypeError, match="is not a time: pass a datetime"):
        FakeClock(start=start)


@pytest.mark.parametrize("span", [True, "1", None, Unshowable(), [10**5000]])
def test_a_duration_of_another_type_is_refused_and_moves_nothing(clock, span):
    for move in (clock.advance, clock.tick):
        with pytest.raises(TypeError, match="pass a number or a timedelta"):
            move(span)
    with pytest.raises(TypeError, match=r"minutes is .*: pass a number$"):
        clock.advance(minutes=span)
    assert clock.time() == 0


def test_only_seconds_may_be_a_timedelta(clock):
    with pytest.raises(TypeError, match=r"hours is .*timedelta.*: pass a number$"):
        clock.advance(hours=timedelta(hours=1))


@pytest.mark.parametrize("span", [-1, float("nan"), FIVE_THOUSAND_DIGITS, 3e11, timedelta.max])
def test_a_duration_that_cannot_be_advanced_moves_nothing(clock, span):
    with pytest.raises(ValueError, match=r"of 0 or more|out of range|outside the years"):
        clock.advance(span)
    clock.advance(1)
    assert clock.time() == 1


def test_a_clock_shows_its_time_and_what_has_elapsed(clock):
    clock.advance(timedelta(minutes=1), hours=1, days=1)

    assert repr(clock) == "<FakeClock 1970-01-02T01:01:00+00:00 (+90060 s)>"
    assert (clock.elapsed, clock.start) == (90060, 0)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ({"hours": 1 / 3}, 1200),
        ({"minutes": 1 / 3}, 20),
        ({"days": 1 / 3}, 28800),
        ({"seconds": 0.1 + 0.2}, 0.3),
        ({"seconds": timedelta(microseconds=1)}, 0.000001),
    ],
)
def test_durations_are_whole_microseconds(clock, duration, seconds):
    clock.advance(**duration)

    assert clock.time() == seconds


@pytest.mark.parametrize(
    ("start", "first"),
    [(0, 7.777), ("2004-01-10T13:37:03", 0.9), ("2038-01-19T03:14:06", 0.7), (1e9, 1 / 3)],
)
def test_two_seconds_are_two_seconds_at_any_date(start, first):
    clock = FakeClock(start=start)
    stub = ChannelServiceStub(time_func=clock.time)
    clock.advance(first)
    connect(stub)

    clock.advance(1.999999)
    assert stub.is_connected("alice")
    clock.advance(0.000001)
    assert not stub.is_connected("alice")


def test_tokens_made_before_1970_are_valid():
    clock = FakeClock(start="1969-12-31T12:00:00")
    stub = ChannelServiceStub(time_func=clock.time)
    token = channel.create_channel("alice", duration_minutes=120)

    stub.connect_channel(token)

    assert stub.validate_token_and_extract_client_id(token) == "alice"
    clock.advance(hours=3)
    assert stub.client_id_from_token(token) is None


def test_a_clock_that_moves_back_runs_no_timer(clock, stub):
    connect(stub)
    clock.advance(1.5)

    assert clock.tick(-0.5) == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    clock.move_to(0.5)
    assert timeouts(stub) == []

    clock.move_to(2)
    assert timeouts(stub) == [2]


def test_a_client_has_two_seconds_from_where_the_clock_went_back_to(clock, stub):
    clock.advance(hours=1)
    connect(stub)

    clock.move_to(0)
    clock.advance(1.9)
    assert stub.is_connected("alice")
    clock.advance(3000)
    assert timeouts(stub) == [2]


def test_a_system_clock_that_went_back_leaves_nobody_connected_for_ever():
    now = [10_000.0]
    stub = ChannelServiceStub(time_func=lambda: now[0])
    connect(stub)

    now[0] = 5_000
    assert stub.is_connected("alice")
    now[0] = 8_000
    assert not stub.is_connected("alice")
    assert timeouts(stub) == [5_002]


def test_a_handler_that_raises_leaves_the_clock_at_its_timer(clock, stub):
    def fail():
        raise LookupError

    stub.app = App(fail)
    connect(stub)
    clock.advance(1)
    connect(stub, "bob")

    with pytest.raises(LookupError):
        clock.advance(10)

    assert clock.time() == 2
    assert stub.is_connected("bob")


def test_a_handler_may_let_time_pass_itself(clock, stub):
    stub.app = App(lambda: clock.advance(1.5))
    connect(stub)

    clock.advance(2.5)

    assert clock.time() == 3.5


def test_the_advances_of_several_threads_add_up(clock, hectic_switching):
    threads = [
        threading.Thread(target=lambda: [clock.advance(1) for _ in range(500)]) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert clock.elapsed == 1500


def test_an_advance_from_another_thread_comes_on_top_of_one_under_way(clock, stub):
    stub.app = App(lambda: run_in_thread(clock.advance, 5))
    connect(stub)

    clock.advance(10)

    assert clock.time() == 15


def test_the_goal_of_an_earlier_advance_does_not_count_after_going_back(clock, stub):
    clock.advance(100)
    clock.move_to(0)
    stub.app = App(lambda: run_in_thread(clock.advance, 5))
    connect(stub)

    clock.advance(2)

    assert clock.time() == 7


def test_a_reset_in_a_handler_ends_the_move(clock, stub):
    stub.app = App(lambda: stub.reset("all"))
    connect(stub)

    clock.advance(10)

    assert (clock.time(), len(stub.timeline)) == (0, 0)
    clock.advance(3)
    assert clock.time() == 3


def test_a_handler_that_reconnects_at_every_disconnect_ends_a_long_move(clock, stub, monkeypatch):
    assert clock_module._MOST_TIMEOUTS == 10_000
    monkeypatch.setattr(clock_module, "_MOST_TIMEOUTS", 1_000)
    stub.app = App(lambda: connect(stub))
    connect(stub)

    with pytest.raises(RuntimeError, match=r"client id 'alice' has timed out 1,000 times in one"):
        clock.advance(days=1)

    assert clock.elapsed == 2_000


@pytest.mark.parametrize("move", [FakeClock.advance, FakeClock.tick])
@pytest.mark.parametrize("span", [-2, 0, 2], ids=["back", "nowhere", "on"])
def test_a_handler_that_reconnects_and_moves_the_clock_does_not_go_on_for_ever(
    clock, stub, monkeypatch, move, span
):
    monkeypatch.setattr(clock_module, "_MOST_TIMEOUTS", 50)

    def reconnect():
        connect(stub)
        clock.tick(span)

    stub.app = App(reconnect)
    connect(stub)

    with pytest.raises(RuntimeError, match=r"or sets the clock back, each time|without end"):
        move(clock, 120)
    assert len(timeouts(stub)) <= 120


def test_an_honest_test_of_many_clients_for_hours_meets_no_limit(clock, stub, monkeypatch):
    monkeypatch.setattr(clock_module, "_MOST_TIMEOUTS", 10)
    clients = [channel.create_channel(f"client {number}") for number in range(11)]
    for _ in range(110):
        for token in clients:
            stub.connect_channel(token)
        clock.advance(minutes=1)

    assert len(timeouts(stub)) == 1_210


def test_a_clock_with_a_time_func_of_the_test_moves_only_with_it():
    now = [10.0]
    clock = ChannelServiceStub(time_func=lambda: now[0]).clock
    now[0] = 12.5

    assert (clock.time(), clock.elapsed) == (12.5, 2.5)
    for move in (clock.advance, clock.tick, clock.move_to):
        with pytest.raises(RuntimeError, match=r"this clock follows the time_func"):
            move(20)


def test_a_system_clock_notices_nothing_until_the_stubs_next_call():
    now = [10.0]
    stub = ChannelServiceStub(time_func=lambda: now[0])
    stub.app = App()
    connect(stub)

    now[0] = 60.0
    assert stub.app.heard == ["connected"]
    assert stub.connected_client_ids == ()
    assert stub.app.heard == ["connected", "disconnected"]
    assert timeouts(stub) == [12.0]


@pytest.mark.parametrize("move", ["back", "to"])
def test_a_move_from_another_thread_changes_where_an_advance_ends(clock, stub, move):
    moves = {"back": lambda: clock.tick(-0.5), "to": lambda: clock.move_to(7)}
    stub.app = App(lambda: run_in_thread(moves[move]))
    stub.add_connect_event("alice")
    stub.connect_channel(channel.create_channel("alice"))

    clock.advance(10)

    assert clock.time() == {"back": 9.5, "to": 7}[move]
