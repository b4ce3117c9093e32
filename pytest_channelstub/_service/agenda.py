"""What falls due, and in which order."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Below this many entries a sweep costs more than the cancelled ones it frees.
_SWEEP_FROM = 64


class Timer:
    """One thing that falls due; made by `Agenda.schedule`.

    Attributes:
        action: Called with the instant at which it was due (seconds since the epoch).
        when: The instant, the timer's place among those due then, and the timer.
        queued: Its entry in its agenda's heap, which is `when` or an earlier one; None
            once it has fired or was cancelled.
    """

    __slots__ = ("action", "queued", "when")

    def __init__(self, action: Callable[[float], object]) -> None:
        self.action = action
        self.when: _Entry | None = None
        self.queued: _Entry | None = None

    @property
    def due(self) -> float | None:
        """The instant in seconds since the epoch; None once fired or cancelled."""
        when = self.when
        return None if when is None or self.queued is None else when[0]


_Entry = tuple[float, int, Timer]


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
        self._heap: list[_Entry] = []
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
            self._push((due, next(self._order), timer))
        return timer

    def postpone(self, timer: Timer, due: float) -> None:
        """Move a timer to another instant, behind those that are already due then.

        One that has fired or was cancelled stays so.
        """
        queued = timer.queued
        if queued is None:
            return
        when = (due, next(self._order), timer)
        if due >= queued[0]:
            timer.when = when
            return
        with self._lock:
            if timer.queued is not None:
                self._push(when)

    def cancel(self, timer: Timer) -> None:
        """Take a timer away; nothing happens if it has fired."""
        with self._lock:
            if timer.queued is None:
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
                entry = heapq.heappop(self._heap)
                due, _, timer = entry
                when = timer.when
                if timer.queued is not entry or when is None:
                    self._cancelled = max(0, self._cancelled - 1)
                elif when is not entry:
                    # Not through _push: it may have been put off further this very moment.
                    timer.queued = when
                    heapq.heappush(self._heap, when)
                else:
                    timer.when = timer.queued = None
                    self._note_next()
                    return due, timer
            self._note_next()
            return None

    def __len__(self) -> int:
        """How many timers are still to come."""
        with self._lock:
            return sum(entry[2].queued is entry for entry in self._heap)

    def _push(self, entry: _Entry) -> None:
        timer = entry[2]
        timer.when = timer.queued = entry
        heapq.heappush(self._heap, entry)
        self._note_next()

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].queued is entry]
        heapq.heapify(self._heap)
        self._cancelled = 0
        self._note_next()

    def _note_next(self) -> None:
        self.next_due = self._heap[0][0] if self._heap else math.inf
