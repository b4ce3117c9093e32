"""The clocks, and what falls due on them, without a stub."""

from __future__ import annotations

import copy
import sys
import threading
import time
from datetime import date, datetime, timedelta, timezone

import freezegun
import pytest

from pytest_channelstub import FakeClock
from pytest_channelstub._service.process_clock import FrozenClock, SystemClock

# pytest cannot make an id of it itself.
FIVE_THOUSAND_DIGITS = pytest.param(10**5000, id="five thousand digits")


class Unshowable:
    def __repr__(self):
        raise ZeroDivisionError


@pytest.fixture
def clock():
    return FakeClock(start=0)


@pytest.fixture
def hectic_switching():
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def schedule_notes(clock, *instants):
    fired = []
    timers = [clock.agenda.schedule(due, lambda _, due=due: fired.append(due)) for due in instants]
    return fired, timers


@pytest.mark.parametrize(
    ("start", "seconds"),
    [
        (0, 0.0),
        (1.5, 1.5),
        ("12", 12.0),
        (" 1970-01-01T00:00:02z ", 2.0),
        (date(1970, 1, 2), 86400.0),
        (datetime(1970, 1, 1, 1), 3600.0),  # noqa: DTZ001 (a naive one is UTC)
        (datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=-1))), 3600.0),
    ],
)
def test_a_start_is_read_from_whatever_names_a_moment(start, seconds):
    assert FakeClock(start=start).time() == seconds


@pytest.mark.parametrize(
    "start", ["", "noon", float("nan"), "inf", 1e13, FIVE_THOUSAND_DIGITS, -70_000_000_000]
)
def test_a_start_that_no_calendar_has_is_a_value_error(start):
    with pytest.raises(ValueError, match=r"pass|outside the years"):
        FakeClock(start=start)


@pytest.mark.parametrize("start", [True, None, b"0", [10**5000], Unshowable()])
def test_a_start_of_another_type_is_a_type_error(start):
    with pytest.raises(TypeError, match="is no point in time: pass a datetime"):
        FakeClock(start=start)


@pytest.mark.parametrize("span", [True, "1", None, Unshowable(), [10**5000]])
def test_a_span_of_another_type_moves_nothing(clock, span):
    for move in (clock.advance, clock.tick):
        with pytest.raises(TypeError, match="pass a number or a timedelta"):
            move(span)
    assert clock.time() == 0


@pytest.mark.parametrize("span", [-1, float("nan"), FIVE_THOUSAND_DIGITS, 3e11, timedelta.max])
def test_a_span_that_cannot_be_advanced_moves_nothing(clock, span):
    with pytest.raises(ValueError, match=r"negative|out of range|outside the years"):
        clock.advance(span)
    clock.advance(1)
    assert clock.time() == 1


def test_a_clock_says_where_it_stands(clock):
    clock.advance(timedelta(minutes=1), hours=1, days=1)

    assert repr(clock) == "<FakeClock 1970-01-02T01:01:00+00:00 (+90060 s)>"
    assert clock.elapsed == 90060


def test_a_clock_that_moves_back_fires_nothing(clock):
    fired, _ = schedule_notes(clock, 5)
    clock.advance(4)

    assert clock.tick(-2) == datetime(1970, 1, 1, 0, 0, 2, tzinfo=timezone.utc)
    clock.move_to(1)
    clock.reset()

    assert (fired, clock.time()) == ([], 0)
    clock.move_to(5)
    assert fired == [5]


def test_what_raises_leaves_the_clock_at_its_instant_and_the_rest_to_come(clock):
    def fail(due):
        raise LookupError(due)

    clock.agenda.schedule(2, fail)
    fired, _ = schedule_notes(clock, 2, 3)

    with pytest.raises(LookupError):
        clock.advance(10)

    assert (clock.time(), fired) == (2, [])
    clock.advance(1)
    assert (clock.time(), fired) == (3, [2, 3])


def test_what_falls_due_may_let_time_pass_itself(clock):
    fired, _ = schedule_notes(clock, 3)
    clock.agenda.schedule(2, lambda _: clock.advance(1.5))

    clock.advance(2.5)

    assert (clock.time(), fired) == (3.5, [3])


def test_what_is_due_at_once_fires_once_where_two_threads_see_to_it(clock):
    fired, _ = schedule_notes(clock, 1, 2)
    clock.agenda.schedule(0, lambda _: clock.run_due(2))

    clock.run_due(2)

    assert fired == [1, 2]


def test_the_advances_of_several_threads_add_up(clock, hectic_switching):
    threads = [
        threading.Thread(target=lambda: [clock.advance(1) for _ in range(2000)]) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert clock.elapsed == 6000


def test_an_advance_from_another_thread_comes_on_top_of_one_under_way(clock):
    def advance_elsewhere(_):
        thread = threading.Thread(target=clock.advance, args=(5,))
        thread.start()
        thread.join()

    clock.agenda.schedule(2, advance_elsewhere)
    clock.advance(10)

    assert clock.time() == 15


def test_where_an_earlier_advance_went_is_no_matter_after_going_back(clock):
    clock.advance(100)
    clock.move_to(0)
    clock.agenda.schedule(0, lambda _: run_in_thread(clock.advance, 5))

    clock.run_due(0)

    assert clock.time() == 5


def run_in_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


def test_cancelled_timers_are_swept_out(clock):
    _, timers = schedule_notes(clock, *range(1, 1001))
    for timer in timers[:-1]:
        clock.agenda.cancel(timer)
        clock.agenda.cancel(timer)

    assert len(clock.agenda) == 1
    assert len(clock.agenda._heap) < 200
    assert timers[0].due is None
    assert timers[-1].due == 1000


class Interrupting:
    """A lock before which something else happens, as in another thread."""

    def __init__(self, lock, action):
        self.lock, self.action = lock, action

    def __enter__(self):
        action, self.action = self.action, lambda: None
        action()
        self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()


def test_a_timer_that_is_cancelled_while_it_is_put_forward_stays_cancelled(clock):
    fired, (timer,) = schedule_notes(clock, 7200)
    agenda = clock.agenda
    other = copy.copy(agenda)
    agenda._lock = Interrupting(agenda._lock, lambda: other.cancel(timer))

    agenda.postpone(timer, 2)
    clock.advance(10)

    assert (fired, timer.due) == ([], None)


def test_a_timer_is_moved_later_and_earlier(clock):
    fired, (timer, other) = schedule_notes(clock, 5, 6)
    clock.agenda.postpone(timer, 7)
    clock.advance(6)
    assert fired == [6]
    clock.agenda.postpone(timer, 6.5)
    assert timer.due == 6.5
    clock.agenda.postpone(other, 9)

    clock.advance(10)

    assert fired == [6, 5]
    assert other.due is None


def test_a_system_clock_follows_the_function_it_was_given():
    now = [10.0]
    clock = SystemClock(lambda: now[0])
    now[0] = 12.5

    assert (clock.time(), clock.elapsed) == (12.5, 2.5)
    with pytest.raises(RuntimeError, match=r"this clock follows the time_func"):
        clock.advance(1)
    with pytest.raises(RuntimeError, match=r"this clock follows the time_func"):
        clock.move_to(20)
    clock.reset()
    assert clock.elapsed == 0


def test_a_frozen_clock_holds_the_process_and_lets_it_go():
    real = time.time()
    outer, inner = FrozenClock(start=100), FrozenClock(start=200)
    outer.thaw()

    outer.freeze()
    inner.freeze()
    inner.advance(1)
    outer.advance(1)
    assert time.time() == 201
    inner.thaw()
    assert time.time() == 101
    outer.thaw()

    assert time.time() >= real


def test_a_freeze_that_fails_holds_nothing(monkeypatch):
    clock, other = FrozenClock(start=100), FrozenClock(start=200)
    with monkeypatch.context() as patch:
        patch.setattr(freezegun, "freeze_time", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            clock.freeze()

    clock.advance(1)
    other.freeze()
    assert time.time() == 200
    other.thaw()
    clock.thaw()
    assert time.time() > 1e9
