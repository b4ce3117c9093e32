"""One thread that watches for connections which end, and for times which run out."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import select
import selectors
import socket
import threading
from typing import TYPE_CHECKING

from pytest_channelstub._service.clock import real_monotonic as monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DONT_WAIT: int = getattr(socket, "MSG_DONTWAIT", 0)  # Windows has none


def has_ended(connection: socket.socket | None) -> bool:
    """Whether the other side has closed a connection; False where there is none to ask."""
    if connection is None:
        return False
    try:
        if not _DONT_WAIT and not select.select([connection], [], [], 0)[0]:
            return False
        return not connection.recv(1, socket.MSG_PEEK | _DONT_WAIT)
    except (BlockingIOError, ValueError):  # an encrypted connection takes no such look
        return False
    except OSError:
        return True


class Lookout:
    """Watches from a thread of its own, which is there only while something is watched."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders: list[Callable[[selectors.BaseSelector], object]] = []
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._count = itertools.count()
        self._thread: threading.Thread | None = None
        self._bell: socket.socket | None = None

    @contextlib.contextmanager
    def watching(
        self, connection: socket.socket | None, look: Callable[[], object]
    ) -> Iterator[None]:
        """Have `look` called, once, if a connection ends or brings more within the `with`.

        Args:
            connection: The connection; None where the server does not show it.
            look: Called from the lookout's thread; `has_ended` tells which of both it was.
        """
        if connection is None:
            yield
            return
        # A duplicate is ours to close: its number cannot become another connection's
        # while the selector still knows it.
        copy = connection.dup()
        self._order(lambda selector: selector.register(copy, selectors.EVENT_READ, look))
        try:
            yield
        finally:
            self._order(lambda selector: _let_go(selector, copy))

    def call_later(self, seconds: float, action: Callable[[], object]) -> None:
        """Have `action` called, from the lookout's thread, so many real seconds from now."""
        due = monotonic() + seconds
        with self._lock:
            first = not self._due or due < self._due[0][0]
            heapq.heappush(self._due, (due, next(self._count), action))
        if first:
            self._order(_look_again)

    def stop(self, timeout: float) -> None:
        """Forget what was to be called later, and wait for the last `watching` to end.

        Args:
            timeout: How long to wait at most, in real seconds.
        """
        with self._lock:
            self._due.clear()
            self._ring()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _order(self, order: Callable[[selectors.BaseSelector], object]) -> None:
        with self._lock:
            self._orders.append(order)
            if self._ring():
                return
            bell, ear = socket.socketpair()
            bell.setblocking(False)
            self._bell = bell
            self._thread = threading.Thread(
                target=self._run,
                args=(bell, ear, self._thread),
                name="channelstub-lookout",
                daemon=True,
            )
            self._thread.start()

    def _ring(self) -> bool:
        """Have the thread look at its orders; False if none is there to hear it."""
        if self._bell is None:
            return False
        with contextlib.suppress(BlockingIOError):  # full: it rings already
            self._bell.send(b"!")
        return True

    def _run(
        self, bell: socket.socket, ear: socket.socket, before: threading.Thread | None
    ) -> None:
        if before is not None:  # it has hung up and is ending: who waits for us waits for it too
            before.join()
        with bell, ear:
            try:
                self._watch(ear)
            except BaseException:
                with self._lock:
                    self._bell = None  # what was called has failed: the next order finds no thread
                raise

    def _watch(self, ear: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(ear, selectors.EVENT_READ)
            while self._obey(selector):
                for key, _ in selector.select(self._patience()):
                    if key.fileobj is ear:
                        ear.recv(4096)
                    else:
                        # Once is enough: one that has more to say would be readable for ever.
                        selector.unregister(key.fileobj)
                        key.data()
                self._call_due()

    def _obey(self, selector: selectors.BaseSelector) -> bool:
        """Carry out the orders; False, and the thread ends, where nothing is left to watch."""
        with self._lock:
            for order in self._orders:
                order(selector)
            self._orders.clear()
            busy = bool(self._due) or len(selector.get_map()) > 1
            if not busy:
                self._bell = None
            return busy

    def _patience(self) -> float | None:
        with self._lock:
            return max(0.0, self._due[0][0] - monotonic()) if self._due else None

    def _call_due(self) -> None:
        now = monotonic()
        while True:
            with self._lock:
                if not self._due or self._due[0][0] > now:
                    return
                action = heapq.heappop(self._due)[2]
            action()


def _look_again(_selector: selectors.BaseSelector) -> None:
    """Nothing to do: the order itself has woken the thread."""


def _let_go(selector: selectors.BaseSelector, connection: socket.socket) -> None:
    if connection.fileno() in selector.get_map():
        selector.unregister(connection)
    connection.close()
