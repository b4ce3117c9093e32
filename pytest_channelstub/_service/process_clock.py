"""Clocks that share their time with the whole process."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from pytest_channelstub._service.clock import FakeClock, duration

if TYPE_CHECKING:
    from collections.abc import Callable


# A failure points at the line of the test, not at ours.
__tracebackhide__ = True


class SystemClock(FakeClock):
    """What `time.time()`, or another function, says at each call.

    What is due fires at the next touch of a stub, in order, each told its own instant.

    Args:
        time_func: Gives seconds since the epoch; None for what `time.time` is at the
            moment of the call, so that a frozen time is followed.
    """

    def __init__(self, time_func: Callable[[], float] | None = None) -> None:
        self._time_func = time_func
        super().__init__(self.time())

    def time(self) -> float:
        """The time in seconds since the epoch."""
        # Looked up at the call: a time.time that was kept is not frozen by freezegun.
        return time.time() if self._time_func is None else self._time_func()

    def reset(self) -> None:
        """Count from now; the time itself is not this clock's to move."""
        self._start = self._read()

    def _read(self) -> int:
        return duration(self.time())

    def _advance(self, span: int) -> None:
        self._frozen_time()
        super()._advance(span)

    def _travel(self, goal: int) -> None:
        self._frozen_time()
        super()._travel(goal)

    def _set(self, time: int, *, exact: float | None = None, back: bool = False) -> None:
        goal = time if back else max(time, self._read())
        self._frozen_time().move_to(self._datetime(goal))

    def _frozen_time(self) -> Any:
        """What freezegun holds the process's time with."""
        if self._time_func is not None:
            message = (
                "this clock follows the time_func that its stub was given: move what that "
                "function reads, or build the stub with time_func=FakeClock().time"
            )
            raise RuntimeError(message)
        freezegun = sys.modules.get("freezegun.api")
        if freezegun is None or not freezegun.freeze_factories:
            message = (
                "this clock follows time.time(), which freezegun does not hold now: move it "
                "with what holds it (time-machine's traveller.shift()), or freeze it "
                "(@freeze_time, the freezer fixture), or use clock='fake', whose time is its own"
            )
            raise RuntimeError(message)
        return freezegun.freeze_factories[-1]


class FrozenClock(FakeClock):
    """A clock of its own time, at which freezegun holds the whole process.

    Between `freeze` and `thaw` the process sees this time. Of several, the newest is
    seen; when it ends, the one before it is again.
    """

    def freeze(self) -> None:
        """Hold the process at this clock's time, until `thaw`."""
        _hold(self)

    def thaw(self) -> None:
        """Let the process's time go; nothing happens where it is not held."""
        _release(self)

    def _moved(self) -> None:
        _show(self)


_holding: list[FrozenClock] = []
_holding_lock = threading.RLock()
_freezer: Any = None
_frozen_time: Any = None


def _hold(clock: FrozenClock) -> None:
    global _freezer, _frozen_time  # noqa: PLW0603 (a process has one time)
    from freezegun import freeze_time  # noqa: PLC0415 (only this mode pays for it)

    with _holding_lock:
        if _freezer is None:
            freezer = freeze_time(clock.now, real_asyncio=True)
            _frozen_time = freezer.start()
            _freezer = freezer
        _holding.append(clock)
    _show(clock)


def _release(clock: FrozenClock) -> None:
    global _freezer, _frozen_time  # noqa: PLW0603 (a process has one time)
    with _holding_lock:
        if clock not in _holding:
            return
        _holding.remove(clock)
        if not _holding:
            _freezer.stop()
            _freezer = _frozen_time = None
        else:
            _show(_holding[-1])


def _show(clock: FrozenClock) -> None:
    with _holding_lock:
        if _holding and _holding[-1] is clock:
            _frozen_time.move_to(clock.now)
