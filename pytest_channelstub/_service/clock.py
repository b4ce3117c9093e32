"""The clocks of a stub: each says what time it is, and runs the timers that are due."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
import weakref
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pytest_channelstub._record.formatting import describe_type, shorten_repr
from pytest_channelstub._record.frames import hide_frame, is_running
from pytest_channelstub._record.timeline import MICROSECONDS
from pytest_channelstub._service.apiproxy import call_locked

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from pytest_channelstub._service.state import Step
    from pytest_channelstub._service.stub import ChannelServiceStub

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

Moment = datetime | date | str | float
"""A point in time: a datetime (a naive one is UTC), an ISO 8601 string, or epoch seconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DEFAULT_START = datetime(2020, 1, 1, tzinfo=UTC)

_MICROSECOND = timedelta(microseconds=1)
_EARLIEST = -62_135_596_800 * MICROSECONDS
_LATEST = 253_402_300_800 * MICROSECONDS - 1
_LONGEST = 1e12  # seconds
# A client that times out so often while the clock moves once is connected again each time.
# A test would have to let it happen for more than five hours. So are so many new clients.
_MOST_TIMEOUTS = 10_000


@dataclass(slots=True)
class _Move:
    """A move that is under way."""

    thread: int
    resets: int  # the clock's count of resets when it began
    goal: int  # microseconds since the epoch
    timeouts: Counter[str]  # by client id
    known: int  # how many clients there were when it began


class FakeClock:
    """The time of a `ChannelServiceStub`: it moves when the test says, and not before.

    A move forward runs the timers that are due, in order, each at its own time; a move
    back runs none, and a client then times out two seconds later at the latest. All
    methods may be called from any thread, and from the app's handlers.

    Example:
        >>> clock = FakeClock(start="2020-01-01T00:00:00Z")
        >>> clock.advance(minutes=2)
        >>> clock.elapsed
        120.0

    Args:
        start: A datetime (a naive one is UTC), an ISO 8601 string, or seconds since
            the epoch.

    Raises:
        TypeError: `start` is none of these.
        ValueError: `start` is not a time between the years 1 and 9999.
    """

    # Whether the time is this clock's own, so that it only changes under the lock.
    _is_own = True

    def __init__(self, start: Moment = DEFAULT_START) -> None:
        self._start = to_microseconds(start)
        self._now = self._start
        # One lock for a clock and the stubs on it: none of them acts while the time moves.
        self._stubs: list[weakref.ref[ChannelServiceStub]] = []
        # The calls that move the clock now.
        self._moves: dict[FrameType, _Move] = {}
        self._renew_locks()
        # Counts the resets: a move that began before one ends with it.
        self._resets = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.now.isoformat()} (+{self.elapsed:g} s)>"

    def time(self) -> float:
        """The time in seconds since the epoch, as `time.time()` gives it."""
        return self._read() / MICROSECONDS

    @property
    def now(self) -> datetime:
        """The time as an aware UTC datetime, to the microsecond."""
        return _to_datetime(self._read())

    @property
    def start(self) -> float:
        """The time at which the clock began, in seconds since the epoch."""
        return self._start / MICROSECONDS

    @property
    def elapsed(self) -> float:
        """Seconds since the start; negative when the clock was moved to before it."""
        return (self._read() - self._start) / MICROSECONDS

    def advance(
        self,
        seconds: float | timedelta = 0,
        *,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
    ) -> None:
        """Let time pass, and run the timers that are due on the way, each at its own time.

        An exception of the app's handler reaches the caller; the clock then stands at
        that time, and the timers after it are still to come.

        Example:
            >>> FakeClock().advance(seconds=1.5, minutes=2)

        Args:
            seconds: Seconds, or a timedelta.
            minutes: Minutes to add.
            hours: Hours to add.
            days: Days of 24 hours to add.

        Raises:
            TypeError: An argument is not a number.
            ValueError: The sum is negative or not finite, or leaves the years 1 to 9999.
            RuntimeError: The app's handlers connect a client again at each of its timeouts.
        """
        span = (
            read_duration(seconds, "seconds")
            + _read_number(minutes, "minutes", 60)
            + _read_number(hours, "hours", 3600)
            + _read_number(days, "days", 86400)
        )
        if span < 0:
            raise ValueError(
                f"advance() takes a duration of 0 or more, got {span / MICROSECONDS:g} s; "
                "use tick() or move_to() to go back"
            )
        self._move(span)

    def tick(self, delta: float | timedelta = 1) -> datetime:
        """Move by `delta`, as the `tick` of freezegun's frozen time does.

        Args:
            delta: Seconds, or a timedelta. A negative one moves back and runs no timer.

        Returns:
            The new time, an aware UTC datetime.
        """
        self._move(read_duration(delta))
        return self.now

    def move_to(self, target: Moment) -> None:
        """Move to a point in time, as the `move_to` of freezegun's frozen time does.

        Forward, it runs the timers that are due on the way; back, it runs none.

        Args:
            target: A datetime (a naive one is UTC), an ISO 8601 string, or seconds
                since the epoch.
        """
        self._move(None, to_microseconds(target))

    def _read(self) -> int:
        """The time in microseconds since the epoch."""
        return self._now

    def _set(self, now: int, seen: int) -> bool:
        """Show another time, unless it is no longer `seen`; whether it shows. The lock is held."""
        # Nothing else runs within this line: a finalizer before it may have moved the clock.
        self._now = now if self._now == seen else self._now
        self._changed.notify_all()
        return self._now == now

    def _read_start(self) -> int:
        """The time after a reset, in microseconds since the epoch."""
        return self._start

    def _plan_reset(self, step: Step, now: int) -> None:
        """Go back to the start and run no timer; a move under way ends."""
        step.do(setattr, self, "_resets", self._resets + 1)
        step.do(setattr, self, "_now", now)

    def _renew_locks(self) -> None:
        """In a forked process: free what threads held that are not in it."""
        self._lock: Any = threading.RLock()  # of a class that has no name before Python 3.13
        self._changed = threading.Condition(self._lock)
        me = threading.get_ident()
        self._moves = {frame: move for frame, move in self._moves.items() if move.thread == me}

    def _attach(self, stub: ChannelServiceStub) -> None:
        """Run the timers of a stub, for as long as it exists."""
        call_locked(self._lock, self._replace_stubs, weakref.ref(stub))

    def _replace_stubs(self, new: weakref.ref[ChannelServiceStub]) -> None:
        self._stubs = [*(each for each in self._stubs if each() is not None), new]

    def _attached(self) -> list[ChannelServiceStub]:
        return [stub for reference in self._stubs if (stub := reference()) is not None]

    def _move(self, span: int | None, target: int = 0) -> None:
        """Move by so many microseconds, or to a certain time."""
        # The frame is kept in no variable of its own, which would be a circle.
        try:
            move = call_locked(self._lock, self._begin_move, sys._getframe(), span, target)
            self._run_timers(move)
        finally:
            self._moves.pop(sys._getframe(), None)
        for stub in self._attached():
            stub._deliver()  # what finalizers have left while the clock moved

    def _begin_move(self, frame: FrameType, span: int | None, target: int) -> _Move:
        others = self._running_moves(of_this_thread=False)
        timeouts, known = Counter[str](), sum(len(one._state.clients) for one in self._attached())
        for outer in self._running_moves(of_this_thread=True):
            timeouts, known = (
                outer.timeouts,
                outer.known,
            )  # a handler moves on: both repeat together
        _check_repetition(timeouts, known)
        goal = self._find_goal(span, target, others)
        for move in others:
            if span is None:
                move.goal = goal  # all of them end there
            elif span < 0:
                move.goal += span
        self._moves[frame] = move = _Move(
            threading.get_ident(), self._resets, goal, timeouts, known
        )
        return move

    def _find_goal(self, span: int | None, target: int, others: list[_Move]) -> int:
        """Where a move is to end; one that goes back is made at once."""
        while True:
            now = self._read()
            if span is None:
                goal = target
            elif span < 0:
                goal = _check_calendar(now + span)
            else:  # the moves of several threads add up
                goal = _check_calendar(max([now, *(move.goal for move in others)]) + span)
            if goal >= now or self._set(goal, now):
                return goal

    def _running_moves(self, *, of_this_thread: bool) -> list[_Move]:
        me = threading.get_ident()
        return [
            move
            for frame, move in [*self._moves.items()]
            if (move.thread == me) is of_this_thread and is_running(frame)
        ]

    def _run_timers(self, move: _Move) -> None:
        while (timer := call_locked(self._lock, self._step_towards, move)) is not None:
            due, stub = timer
            client_id = stub._run_timer(due)
            if client_id is not None:
                move.timeouts[client_id] += 1
                _check_repetition(move.timeouts, move.known, client_id)

    def _step_towards(self, move: _Move) -> tuple[int, ChannelServiceStub] | None:
        """Move to the first timer that is due by then, of all stubs on this clock."""
        while self._resets == move.resets:
            now, goal = self._read(), move.goal
            timers = [
                (due, stub)
                for stub in self._attached()
                if (due := stub._next_due()) is not None and due <= goal
            ]
            first = min(timers, key=lambda timer: timer[0], default=None)
            target = goal if first is None else first[0]
            if target <= now or self._set(target, now):
                return first
        return None


class SystemClock(FakeClock):
    """The time that `time.time()`, or another function, gives at each call.

    When that time moves, nothing happens until the stub's next call: then the timers that
    are due run, in order, each with its own due time, and the app hears of it. Until then a
    client whose two seconds are over counts as connected.

    `advance`, `tick` and `move_to` move the time with which freezegun holds the process,
    if it does. What time-machine or a `time_func` gives is not theirs to move.
    """

    _is_own = False

    def __init__(self, time_func: Callable[[], float] | None = None) -> None:
        self._time_func = time_func
        super().__init__(self._read() / MICROSECONDS)

    def time(self) -> float:
        """The time in seconds since the epoch."""
        # Looked up at the call: a time.time that was kept is not frozen by freezegun.
        return time.time() if self._time_func is None else self._time_func()

    def _read(self) -> int:
        return _read_number(self.time(), "what time_func returned")

    def _read_start(self) -> int:
        return self._read()

    def _plan_reset(self, step: Step, now: int) -> None:
        """Count from now; the time itself is not this clock's to move."""
        step.do(setattr, self, "_resets", self._resets + 1)
        step.do(setattr, self, "_start", now)

    def _set(self, now: int, seen: int) -> bool:
        self._frozen_time().move_to(_to_datetime(now))
        self._changed.notify_all()
        return True

    def _move(self, span: int | None, target: int = 0) -> None:
        self._frozen_time()  # raises where somebody else moves it
        super()._move(span, target)

    def _frozen_time(self) -> Any:
        """What freezegun holds the process's time with."""
        if self._time_func is not None:
            raise RuntimeError(
                "this clock follows the time_func that its stub was given: move what that "
                "function reads, or build the stub with time_func=FakeClock().time"
            )
        freezegun = sys.modules.get("freezegun.api")
        if freezegun is None or not freezegun.freeze_factories:
            raise RuntimeError(
                "this clock follows time.time(), which freezegun does not hold now: move it "
                "with what holds it (time-machine's traveller.shift()), or freeze it "
                "(@freeze_time, the freezer fixture), or give the stub a clock of its own "
                "(clock='fake', or time_func=FakeClock().time)"
            )
        freeze = freezegun.freeze_factories[-1]
        if not hasattr(freeze, "move_to"):
            raise RuntimeError(
                "this clock follows time.time(), which a stub with clock='freeze' holds now: "
                "advance that stub's clock"
            )
        return freeze


def real_monotonic() -> float:
    """Seconds on a clock that goes on while freezegun holds the process's time."""
    freezegun = sys.modules.get("freezegun.api")
    return float(time.monotonic() if freezegun is None else freezegun.real_monotonic())


def read_duration(value: float | timedelta, name: str = "delta") -> int:
    """Read a length of time."""
    if isinstance(value, timedelta):
        return value // _MICROSECOND
    return _read_number(value, name, allowed="a number or a timedelta")


def _read_number(value: float, name: str, unit: int = 1, *, allowed: str = "a number") -> int:
    """Read a number of units, of so many seconds each, as whole microseconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(describe_type(name, value, allowed))
    if not -_LONGEST <= value <= _LONGEST:  # a NaN fails this too
        raise ValueError(f"{name} is out of range: pass a finite number, at most {_LONGEST:g}")
    # A float of seconds since the epoch times a million is past what a float holds exactly.
    whole, fraction = divmod(value * unit, 1)
    return int(whole) * MICROSECONDS + round(fraction * MICROSECONDS)


def to_microseconds(moment: Moment) -> int:
    """Read a point in time."""
    if isinstance(moment, str):
        moment = _parse(moment)
    if isinstance(moment, date):
        if not isinstance(moment, datetime):
            moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
        elif moment.utcoffset() is None:
            moment = moment.replace(tzinfo=UTC)
        return _check_calendar(read_duration(moment - _EPOCH))
    if isinstance(moment, bool) or not isinstance(moment, (int, float)):
        raise TypeError(
            f"{shorten_repr(moment)}, of type {type(moment).__name__}, is not a time: pass a "
            "datetime, an ISO 8601 string or seconds since the epoch"
        )
    return _check_calendar(read_duration(moment, "the time"))


def _parse(text: str) -> datetime | float:
    cleaned = text.strip().upper()
    # Eight digits alone are a date; four may be a year or seconds.
    is_number = not re.fullmatch(r"\d{4}|\d{8}", cleaned)
    is_date = not re.fullmatch(r"\d{4}", cleaned)
    for is_possible, read in ((is_number, float), (is_date, datetime.fromisoformat)):
        if is_possible:
            with contextlib.suppress(ValueError):
                return read(cleaned)
    raise ValueError(
        f"{text!r} is not a time: pass a datetime, an ISO 8601 string such as "
        "'2020-01-01T00:00:00Z' or seconds since the epoch"
    )


def _check_calendar(microseconds: int) -> int:
    if not _EARLIEST <= microseconds <= _LATEST:
        raise ValueError(
            f"{microseconds // MICROSECONDS} s since the epoch is outside the years 1 to 9999, "
            "which a datetime can show"
        )
    return microseconds


def _to_datetime(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _check_repetition(timeouts: Counter[str], known: int, latest: str = "") -> None:
    client_id = latest or next(reversed(timeouts), "")
    if len(timeouts) >= known + _MOST_TIMEOUTS:
        raise RuntimeError(
            f"{_MOST_TIMEOUTS:,} clients, {client_id!r} the last, have connected and timed out in "
            "one move of the clock: the app connects another, or sets the clock back, each time it "
            "hears of a disconnection. Do neither in the handler of /_ah/channel/disconnected/"
        )
    if timeouts[client_id] >= _MOST_TIMEOUTS:
        raise RuntimeError(
            f"client id {client_id!r} has timed out {_MOST_TIMEOUTS:,} times in one move of the "
            "clock: the app connects it again, or sets the clock back, each time it hears of the "
            "disconnection. Do neither in the handler of /_ah/channel/disconnected/"
        )
