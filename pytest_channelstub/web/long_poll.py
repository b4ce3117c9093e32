"""The held poll: an answer that waits until there is something to say."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_channelstub import _tokens as tokens
from pytest_channelstub._service.clock import SystemClock
from pytest_channelstub._service.clock import real_monotonic as monotonic
from pytest_channelstub.web.lookout import has_ended

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from pytest_channelstub._service.stub import ChannelServiceStub
    from pytest_channelstub.web.lookout import Lookout

# A browser opens six connections to a server at most. Those that polls do not take are
# left to the pages themselves; further pages poll now and then, as the SDK's page did.
_MOST_HELD_PER_BROWSER = 4
# Nobody tells when the system's clock has reached a token's end.
_LOOK_AT_SYSTEM_CLOCK = 0.5


class AskerGoneError(Exception):
    """Whoever asked is gone: an answer would reach nobody."""


@dataclass(frozen=True, slots=True)
class Poll:
    """A poll.

    Attributes:
        token: The client's token, as it came.
        wait: For how many real seconds it may be held.
        connection: Where the answer goes; None where the server does not show it.
        browser: Whose poll it is; empty where nobody knows.
        has_left: Says whether the page that asks has taken its leave.
    """

    token: str
    wait: float
    connection: socket.socket | None
    browser: str
    has_left: Callable[[], bool]


class Polls:
    """The polls of one stub that are held."""

    def __init__(self, stub: ChannelServiceStub, lookout: Lookout) -> None:
        self._stub = stub
        self._lookout = lookout
        self._lock = threading.Lock()
        self._held: set[threading.Event] = set()
        self._by_browser: Counter[str] = Counter()
        self._stopped = False
        own_time = not isinstance(stub.clock, SystemClock)
        self._longest_sleep = float("inf") if own_time else _LOOK_AT_SYSTEM_CLOCK

    def answer(self, poll: Poll) -> str | None:
        """Answer a poll; where there is no message, wait for one.

        Returns:
            The message; None if none came, the client was disconnected, or the polls stopped.

        Raises:
            InvalidTokenError: It is not a token.
            TokenTimedOutError: Its time is over, or ended during the wait.
            AskerGoneError: Nobody is there to answer; no message was taken.
        """
        read = tokens.read(poll.token)
        if poll.wait <= 0 or read is None:
            return self._take(poll)
        with (
            self._holding(poll.browser) as held,
            self._stub.timeline.watch(read.client_id) as flag,
        ):
            message = self._take(poll)
            if message is not None or not held:
                return message
            with (
                self._awake(flag, read.expires),
                self._lookout.watching(poll.connection, flag.set),
            ):
                return self._wait(poll, read, flag)

    def wake(self) -> None:
        """Have every held poll look whether there is something to say."""
        with self._lock:
            for flag in self._held:
                flag.set()

    def stop(self) -> None:
        """Have every held poll answered now, and hold none from now on."""
        self._stopped = True
        self.wake()

    def _take(self, poll: Poll) -> str | None:
        # Looked at last of all: a message that was taken cannot be put back.
        if _is_gone(poll):
            raise AskerGoneError
        return self._stub.connect_and_pop_first_message(poll.token)

    def _wait(self, poll: Poll, read: tokens.Token, flag: threading.Event) -> str | None:
        until = monotonic() + poll.wait
        while True:
            # Cleared before anything is looked at: what happens after that sets it again.
            flag.clear()
            if self._stopped:
                return None
            expired = read.expires <= self._stub.clock.time()
            pending = self._stub.pending(read.client_id)
            if expired or pending or _is_gone(poll):
                message = self._take(poll)
                if message is not None:
                    return message
            elif pending is None:
                return None
            else:
                flag.wait(max(0.0, min(until - monotonic(), self._longest_sleep)))
                if monotonic() >= until:
                    return None

    @contextlib.contextmanager
    def _holding(self, browser: str) -> Iterator[bool]:
        """Count a browser's poll; gives whether there is room to hold it."""
        with self._lock:
            room = not browser or self._by_browser[browser] < _MOST_HELD_PER_BROWSER
            self._by_browser[browser] += room
        try:
            yield room
        finally:
            with self._lock:
                self._by_browser[browser] -= room
                if not self._by_browser[browser]:
                    del self._by_browser[browser]

    @contextlib.contextmanager
    def _awake(self, flag: threading.Event, expires: int) -> Iterator[None]:
        """Have the flag set when the token ends on the stub's clock, and when all stops."""
        agenda = self._stub.clock.agenda
        timer = agenda.schedule(expires, lambda _due: flag.set())
        with self._lock:
            self._held.add(flag)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(flag)
            agenda.cancel(timer)


def _is_gone(poll: Poll) -> bool:
    return poll.has_left() or has_ended(poll.connection)
