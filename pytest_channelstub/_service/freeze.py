"""The clock with which freezegun holds the whole process's time."""

from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import freezegun.api

from pytest_channelstub._record.frames import hide_frame
from pytest_channelstub._service.clock import DEFAULT_START, FakeClock, Moment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from types import FrameType

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

# The code of these modules and packages gets the real time. Of a package that also calls
# functions of its users, which are to get the held time, only the part that waits is here.
_REAL_TIME_MODULES = {
    # Durations, time limits and progress of the test run.
    "_hypothesis_pytestplugin", "_pytest", "execnet", "pytest_benchmark", "pytest_rerunfailures",
    "pytest_timeout", "xdist",
    # Deadlines of examples.
    "hypothesis",
    # The standard library's time-outs.
    "asyncio.base_events", "asyncio.windows_events", "concurrent.futures._base",
    "multiprocessing.connection", "multiprocessing.managers", "multiprocessing.queues",
    "multiprocessing.synchronize", "queue", "socketserver", "subprocess",
    # The clock of an event loop.
    "trio._core",
    # Waits for browsers, and for servers, whose certificates are of today.
    "playwright", "selenium", "urllib3",
}  # fmt: skip
# `threading` waits by a name of its own, which stays real. What it calls in a thread gets the
# held time.
_UNCHANGED_MODULES = ("freezegun.api", "threading")
_MOMENT = 0.001  # seconds
_api: Any = freezegun.api
# What freezegun puts in place of what.
_FUNCTIONS = (
    "gmtime", "localtime", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns",
    "strftime", "time", "time_ns",
)  # fmt: skip
_FAKES = {f"real_{name}": f"fake_{name}" for name in _FUNCTIONS}
_FAKES |= {"real_date": "FakeDate", "real_datetime": "FakeDatetime"}
_FAKES_BY_REAL = {id(getattr(_api, real)): getattr(_api, fake) for real, fake in _FAKES.items()}
_REALS_BY_FAKE = {id(getattr(_api, fake)): getattr(_api, real) for real, fake in _FAKES.items()}
# What freezegun knows of the freezes that are on, each list the newest last.
_LISTS = (_api.freeze_factories, _api.tz_offsets, _api.ignore_lists, _api.tick_flags)


class FrozenClock(FakeClock):
    """A clock of its own time, at which freezegun holds the whole process.

    Between `_freeze` and `_thaw` the process sees this time, in every thread. Of several
    freezes, freezegun's own among them, the one that began last is seen; they may end in
    any order.

    Not held are: other processes; what reads the clock without Python's `time` and
    `datetime`, such as a database or the times of files; `time.sleep`, `time.process_time`,
    `time.thread_time` and `time.clock_gettime`; an event loop's `time()`; a function of
    `time` that was taken before and is kept in a default, a class or an object; and the
    modules that measure or wait: pytest, Hypothesis and others (see `_REAL_TIME_MODULES`).
    """

    def __init__(
        self, start: Moment = DEFAULT_START, real_time_modules: Iterable[str] = ()
    ) -> None:
        super().__init__(start)
        self._real_time_modules = _REAL_TIME_MODULES.union(real_time_modules)

    def _freeze(self) -> None:
        _process_time.hold(self)

    def _thaw(self) -> None:
        _process_time.release(self)


class _ProcessTime:
    """The process's time, while frozen clocks hold it.

    freezegun keeps its freezes in lists, and ends whichever is the last. This one is the
    first, so that no other's end takes it away. Those that were on before a clock, and would
    hide it, are replaced by it for as long as the clock is held.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._clocks: list[FrozenClock] = []
        self._freezer: Any = None
        self._should_use_real_time: Any = None
        # By the place in freezegun's lists: what stood there, and the clocks that began before it.
        self._hidden: dict[int, tuple[list[Any], list[FrozenClock]]] = {}

    def __call__(self) -> datetime:
        """The time as freezegun asks for it, naive and UTC."""
        newest = self._clocks[-1:]
        is_real = not newest or self._is_exempt(sys._getframe(1))
        now: datetime = _api.real_datetime.now(UTC) if is_real else newest[0].now
        return now.replace(tzinfo=None)

    def hold(self, clock: FrozenClock) -> None:
        """Hold the process at a clock's time; where that fails, nothing is changed."""
        _check_time_machine()
        with self._lock:
            try:
                if self._freezer is None:
                    self._start(clock)
                self._clocks.append(clock)
                self._hide_others()
            except BaseException:
                self.release(clock)
                raise

    def release(self, clock: FrozenClock) -> None:
        """Hold the process at this clock's time no longer, if it is held."""
        with self._lock:
            if clock in self._clocks:
                self._clocks.remove(clock)
                self._show_others()
            if self._freezer is not None and not self._clocks:
                self._stop()

    def _start(self, clock: FrozenClock) -> None:
        # The name of every module begins with "": freezegun changes none. Its search for what
        # to change loads lazy modules, stops at one that raises, and takes 300 ms at first.
        freezer = _api.freeze_time(clock.now, ignore=[""])
        count = len(_api.freeze_factories)
        try:
            freezer.start()
        except BaseException:
            if len(_api.freeze_factories) > count:
                freezer.stop()
            raise
        self._freezer, self._should_use_real_time = freezer, _api._should_use_real_time
        # freezegun's own looks at the modules of five callers, and at how their names begin.
        _api._should_use_real_time = self._is_real_time_due
        for each, value in zip(_LISTS, (self, timedelta(0), (), False), strict=True):
            each[:] = [value, *each[:-1]]
        _replace(_FAKES_BY_REAL)

    def _stop(self) -> None:
        freezer, self._freezer = self._freezer, None
        self._hidden.clear()
        is_only = len(_api.freeze_factories) == 1
        if is_only:
            # freezegun's functions raise once its lists are empty: none is to be called any
            # more, and a thread that is within one has a moment to leave it.
            _replace(_REALS_BY_FAKE)
            if threading.active_count() > 1:
                time.sleep(_MOMENT)
        for each in _LISTS:
            each[:] = [*each[1:], each[0]]
        freezer.stop()
        _api._should_use_real_time = self._should_use_real_time
        if not is_only:
            # A freeze of another is still on. It leaves alone, and at its end too, what it
            # ignores; and what it needs at its end it only has if it was the first.
            _replace(_REALS_BY_FAKE, _api.ignore_lists[0])
            _api._freeze_time.fake_names = (*_FAKES.values(),)
            _api._freeze_time.reals = _REALS_BY_FAKE

    def _hide_others(self) -> None:
        """Have the freezes that are on show the time of the newest clock."""
        for place in range(1, len(_LISTS[0])):
            if _LISTS[0][place] is not self:
                self._hidden[place] = ([each[place] for each in _LISTS], self._clocks[:-1])
                for each in _LISTS:
                    each[place] = each[0]

    def _show_others(self) -> None:
        """Have the freezes that are still on, and newer than every clock, show their time again."""
        for place, (values, older) in self._hidden.items():
            is_hidden = place < len(_LISTS[0]) and _LISTS[0][place] is self
            if is_hidden and all(each in older for each in self._clocks):
                for each, value in zip(_LISTS, values, strict=True):
                    each[place] = value

    def _is_real_time_due(self) -> bool:
        """Whether freezegun is to give the real time, instead of its own function for that."""
        return self._is_exempt(sys._getframe(1)) or self._should_use_real_time()

    def _is_exempt(self, frame: FrameType | None) -> bool:
        """Whether the code that asks for the time, outside freezegun, sees the real one."""
        clocks = self._clocks[-1:]
        if not clocks:
            return True
        while frame is not None and frame.f_globals is _api.__dict__:
            frame = frame.f_back
        name = "" if frame is None else frame.f_globals.get("__name__") or ""
        while name:
            if name in clocks[0]._real_time_modules:
                return True
            name = name.rpartition(".")[0]
        return False


_process_time = _ProcessTime()  # a process has one time


def _check_time_machine() -> None:
    time_machine = sys.modules.get("time_machine")
    if time_machine is not None and time_machine.escape_hatch.is_travelling():
        raise RuntimeError(
            "clock='freeze' cannot hold the process's time, as time-machine holds it now: use "
            "clock='system', which follows time-machine, or end the travel first"
        )


def _replace(values: dict[int, Any], prefixes: tuple[str, ...] = ("",)) -> None:
    """Put other objects in the place of some, in the modules that are loaded."""
    names = {*_FAKES, *_FAKES.values()}
    for module_name, module in [*sys.modules.items()]:
        if module_name in _UNCHANGED_MODULES or not module_name.startswith(prefixes):
            continue
        try:
            # A lazy module's own way to its attributes would load it.
            namespace = object.__getattribute__(module, "__dict__").copy()
            if values.keys().isdisjoint(map(id, namespace.values())):  # half the time of the loop
                continue
            for name, value in namespace.items():
                if id(value) in values and name not in names:
                    setattr(module, name, values[id(value)])
        except Exception:  # noqa: BLE001, S112 (anything may be among the modules: the others count)
            continue
