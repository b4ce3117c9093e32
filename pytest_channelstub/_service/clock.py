"""A clock that stands still until it is told to move, and fires what falls due."""

from __future__ import annotations

import itertools
import threading
from datetime import date, datetime, timedelta, timezone

from pytest_channelstub._record._values import shown
from pytest_channelstub._service.agenda import Agenda

# A failure points at the line of the test, not at ours.
__tracebackhide__ = True

Moment = datetime | date | str | float
"""A point in time: a datetime (a naive one is UTC), an ISO 8601 string, or epoch seconds."""

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
DEFAULT_START = datetime(2020, 1, 1, tzinfo=timezone.utc)

_BILLION = 1_000_000_000
_EARLIEST = -62_135_596_800 * _BILLION
_LONGEST = 1e12
_LATEST = 253_402_300_800 * _BILLION - 1


class FakeClock:
    """The time of a `ChannelServiceStub`: it moves when the test says, and not before.

    Going forward fires what falls due, in order, each at its own instant; going back
    fires nothing. All methods may be called from any thread, and from the code that a
    timer runs.

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
        ValueError: `start` is no time between the years 1 and 9999.

    Attributes:
        agenda: What falls due on this clock.
    """

    def __init__(self, start: Moment = DEFAULT_START) -> None:
        self._start = _DEFAULT if start is DEFAULT_START else nanoseconds(start)
        self._nanoseconds = self._start
        self._seconds = self._start / _BILLION
        self.agenda = Agenda()
        self._lock = threading.Lock()
        # Where each thread that moves the clock now is going; more than one place where
        # what a timer runs moves it on.
        self._movers: dict[int, list[int]] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.now.isoformat()} (+{self.elapsed:g} s)>"

    def time(self) -> float:
        """The time in seconds since the epoch, as `time.time()` gives it."""
        return self._seconds

    @property
    def now(self) -> datetime:
        """The time as an aware UTC datetime, to the microsecond."""
        return self._datetime(self._read())

    @property
    def start(self) -> float:
        """The time at which the clock began, in seconds since the epoch."""
        return self._start / _BILLION

    @property
    def elapsed(self) -> float:
        """Seconds since the start; negative when the clock was moved to before it."""
        return (self._read() - self._start) / _BILLION

    def advance(
        self,
        seconds: float | timedelta = 0,
        *,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
    ) -> None:
        """Let time pass, and fire what falls due on the way, each at its own instant.

        An exception in what falls due reaches the caller; the clock then stands at
        that instant, and what was still to come stays so.

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
        """
        self._advance(self._span(seconds, minutes, hours, days))

    def tick(self, delta: float | timedelta = 1) -> datetime:
        """Move by `delta`, as the `tick` of freezegun's frozen time does.

        Args:
            delta: Seconds, or a timedelta. A negative one moves back and fires nothing.

        Returns:
            The new time, an aware UTC datetime.
        """
        span = duration(delta, "delta")
        if span < 0:
            self._move_back(self._read() + span)
        else:
            self._advance(span)
        return self.now

    def move_to(self, target: Moment) -> None:
        """Move to a point in time, as the `move_to` of freezegun's frozen time does.

        Forward, it fires what falls due on the way; back, it fires nothing.

        Args:
            target: A datetime (a naive one is UTC), an ISO 8601 string, or seconds
                since the epoch.
        """
        goal = nanoseconds(target)
        if goal < self._read():
            self._move_back(goal)
        else:
            self._travel(goal)

    def reset(self) -> None:
        """Go back to the start; nothing fires."""
        self._move_back(self._start)

    def run_due(self, until: float) -> None:
        """Fire what is due at `until` (seconds since the epoch) and has not fired yet.

        Where the clock is being moved already, whoever moves it sees to that.
        """
        with self._lock:
            if self._movers:
                return
            self._set_out(_EARLIEST)
        try:
            while (taken := self.agenda.take(until)) is not None:
                due, timer = taken
                timer.action(due)
        finally:
            self._arrive()

    def _read(self) -> int:
        return self._nanoseconds

    @staticmethod
    def _datetime(time: int) -> datetime:
        return EPOCH + timedelta(microseconds=time // 1000)

    @staticmethod
    def _span(seconds: float | timedelta, minutes: float, hours: float, days: float) -> int:
        span = (
            duration(seconds, "seconds")
            + 60 * duration(minutes, "minutes")
            + 3600 * duration(hours, "hours")
            + 86400 * duration(days, "days")
        )
        if span < 0:
            message = (
                f"a clock is advanced forwards, and {span / _BILLION:g} s is negative: "
                "go back with tick() or move_to(), which fire nothing"
            )
            raise ValueError(message)
        return span

    def _advance(self, span: int) -> None:
        """Move on by `span` nanoseconds; those of several threads add up."""
        with self._lock:
            mine = threading.get_ident() in self._movers
            others = () if mine else itertools.chain(*self._movers.values())
            goal = _in_calendar(max((self._read(), *others)) + span)
            self._set_out(goal)
        self._go(goal)

    def _travel(self, goal: int) -> None:
        with self._lock:
            self._set_out(goal)
        self._go(goal)

    def _go(self, goal: int) -> None:
        until = goal / _BILLION
        try:
            while (taken := self.agenda.take(until)) is not None:
                due, timer = taken
                if due != self.time():  # what falls due at one instant is often many
                    self._set(duration(due), exact=due)
                timer.action(due)
            self._set(goal)
        finally:
            self._arrive()

    def _set_out(self, goal: int) -> None:
        """Note where this thread moves the clock; the lock is held."""
        self._movers.setdefault(threading.get_ident(), []).append(goal)

    def _arrive(self) -> None:
        mover = threading.get_ident()
        with self._lock:
            self._movers[mover].pop()
            if not self._movers[mover]:
                del self._movers[mover]

    def _move_back(self, goal: int) -> None:
        self._set(_in_calendar(goal), back=True)

    def _set(self, time: int, *, exact: float | None = None, back: bool = False) -> None:
        """Show another time; unless `back`, one that is later already stays."""
        with self._lock:
            self._nanoseconds = time if back else max(time, self._nanoseconds)
            seconds = self._nanoseconds / _BILLION
            # An instant that was given as a float is met as that very float.
            self._seconds = exact if exact is not None and abs(exact - seconds) < 1e-6 else seconds  # noqa: PLR2004
        self._moved()

    def _moved(self) -> None:
        """For clocks that have others to tell; called outside the lock."""


def duration(value: float | timedelta, name: str = "delta") -> int:
    """Read a length of time.

    Args:
        value: Seconds as a number, or a timedelta.
        name: What the caller calls it, for the error's text.

    Returns:
        Whole nanoseconds.

    Raises:
        TypeError: `value` is neither.
        ValueError: `value` is not finite, or longer than any calendar.
    """
    if isinstance(value, timedelta):
        return (value // timedelta(microseconds=1)) * 1000
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        message = (
            f"{name} is {shown(value)}, of type {type(value).__name__}: "
            "pass a number or a timedelta"
        )
        raise TypeError(message)
    if not -_LONGEST <= value <= _LONGEST:  # a NaN fails this too
        message = f"{name} is out of range: pass a finite number of seconds, at most {_LONGEST:g}"
        raise ValueError(message)
    # A float of seconds since the epoch times a billion is past what a float holds exactly.
    whole, fraction = divmod(value, 1)
    return int(whole) * _BILLION + round(fraction * _BILLION)


def nanoseconds(moment: Moment) -> int:
    """Read a point in time.

    Args:
        moment: A datetime or date (a naive one is UTC), an ISO 8601 string, a string
            of digits, or a number of seconds since the epoch.

    Returns:
        Whole nanoseconds since the epoch.

    Raises:
        TypeError: `moment` is none of these.
        ValueError: `moment` is no time between the years 1 and 9999.
    """
    if isinstance(moment, str):
        moment = _from_text(moment)
    if isinstance(moment, date):
        if not isinstance(moment, datetime):
            moment = datetime(moment.year, moment.month, moment.day, tzinfo=timezone.utc)
        elif moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        return _in_calendar(duration(moment - EPOCH))
    if isinstance(moment, bool) or not isinstance(moment, (int, float)):
        message = (
            f"{shown(moment)}, of type {type(moment).__name__}, is no point in time: pass a "
            "datetime, an ISO 8601 string or seconds since the epoch"
        )
        raise TypeError(message)
    return _in_calendar(duration(moment, "the time"))


def _from_text(text: str) -> datetime | float:
    cleaned = text.strip()
    try:
        return float(cleaned)
    except ValueError:
        pass
    if cleaned[-1:] in ("Z", "z"):  # Python 3.10 does not know it
        cleaned = cleaned[:-1] + "+00:00"
    try:
        return datetime.fromisoformat(cleaned)
    except ValueError:
        message = (
            f"{text!r} is no point in time: pass an ISO 8601 string such as "
            "'2020-01-01T00:00:00Z', a datetime or seconds since the epoch"
        )
        raise ValueError(message) from None


def _in_calendar(time: int) -> int:
    if not _EARLIEST <= time <= _LATEST:
        message = (
            f"{time // _BILLION} s since the epoch lies outside the years 1 to 9999, "
            "where no datetime can follow"
        )
        raise ValueError(message)
    return time


_DEFAULT = nanoseconds(DEFAULT_START)
