"""What falls due, and in which order."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_When = tuple[float, int]

# Below this many entries a sweep costs more than the cancelled ones it frees.
_SWEEP_FROM = 64


class Timer:
    """One thing that falls due; made by `Agenda.schedule`.

    Attributes:
        action: Called with the instant at which it was due (seconds since the epoch).
        when: The instant, and the timer's place among those due then.
        queued: Where it stands in its agenda's heap, at `when` or before; None once
            it has fired or was cancelled.
    """

    __slots__ = ("action", "queued", "when")

    def __init__(self, action: Callable[[float], object]) -> None:
        self.action = action
        self.when: _When | None = None
        self.queued: _When | None = None

    @property
    def due(self) -> float | None:
        """The instant in seconds since the epoch; None once fired or cancelled."""
        when = self.when
        return None if when is None or self.queued is None else when[0]


class Agenda:
    """Timers in the order in which they fall due; equal ones first in, first out.

    A timer that is put off, as every poll does to its client's, stays where it is
    in the heap and moves only when its old place comes up: putting off is one
    assignment, however many timers there are.

    Attributes:
        next_due: No timer is due before this instant (seconds since the epoch).
    """

    def __init__(self) -> None:
        self.next_due = math.inf
        self._heap: list[tuple[float, int, Timer]] = []
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._cancelled = 0

    def schedule(self, due: float, action: Callable[[float], object]) -> Timer:
        """Have `action` called with `due` when the time is `due`.

        Args:
            due: The instant, in seconds since the epoch.
            action: Called with `due`, outside every lock.
        """
        timer = Timer(action)
        with self._lock:
            self._push(timer, (due, next(self._order)))
        return timer

    def postpone(self, timer: Timer, due: float) -> None:
        """Move a timer to another instant, behind those that are already due then.

        One that has fired or was cancelled stays so.
        """
        queued = timer.queued
        if timer.when is None or queued is None:
            return
        when = (due, next(self._order))
        if due >= queued[0]:
            timer.when = when
            return
        with self._lock:
            self._push(timer, when)

    def cancel(self, timer: Timer) -> None:
        """Take a timer away; nothing happens if it has fired."""
        with self._lock:
            if timer.when is None:
                return
            timer.when = timer.queued = None
            self._cancelled += 1
            if self._cancelled * 2 > len(self._heap) > _SWEEP_FROM:
                self._sweep()

    def take(self, until: float) -> tuple[float, Timer] | None:
        """Take out the first timer that is due at `until` or before.

        Returns:
            The instant at which it was due, and the timer; None if there is none.
        """
        with self._lock:
            while self._heap and self._heap[0][0] <= until:
                due, order, timer = heapq.heappop(self._heap)
                if timer.queued != (due, order):
                    self._cancelled = max(0, self._cancelled - 1)
                elif timer.when != timer.queued:
                    assert timer.when is not None  # noqa: S101 (for the type checker: a queued timer has an instant)
                    self._push(timer, timer.when)
                else:
                    timer.when = timer.queued = None
                    self._note_next()
                    return due, timer
            self._note_next()
            return None

    def __len__(self) -> int:
        """How many timers are still to come."""
        with self._lock:
            return sum(timer.queued == (due, order) for due, order, timer in self._heap)

    def _push(self, timer: Timer, when: _When) -> None:
        timer.when = timer.queued = when
        heapq.heappush(self._heap, (*when, timer))
        self._note_next()

    def _sweep(self) -> None:
        self._heap = [
            (due, order, timer) for due, order, timer in self._heap if timer.queued == (due, order)
        ]
        heapq.heapify(self._heap)
        self._cancelled = 0
        self._note_next()

    def _note_next(self) -> None:
        self.next_due = self._heap[0][0] if self._heap else math.inf
