"""What our script has beyond the SDK's: polls that are held, and pages that are there."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING, cast

from pytest_channelstub import _tokens
from pytest_channelstub._record.timeline import MICROSECONDS
from pytest_channelstub._service.clock import real_monotonic
from pytest_channelstub._tokens import Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_channelstub._service.state import Step
    from pytest_channelstub._service.stub import ChannelServiceStub, Lease

READER = "HTTP"
"""What the timeline says has read a message."""

# Nothing notifies of a connection that ends, or of the system's clock.
_LOOK_AGAIN = 0.25  # seconds
_DONT_WAIT: int = getattr(socket, "MSG_DONTWAIT", 0)  # Windows has none


class Page:
    """A page that has connected, as our script names it.

    Its client stays connected while a request of the page is under way, and then until
    the time by which the page has said that it polls again. Without that, an advance of
    the clock between two polls would disconnect the client or not, by chance.

    Args:
        stub: The service.
        token: The page's token.
        client_id: The token's client.
    """

    def __init__(self, stub: ChannelServiceStub, token: str, client_id: str) -> None:
        self.token = token
        self.client_id = client_id
        self._stub = stub
        self._under_way = 0
        self._lease: Lease | None = None
        self._timer: threading.Timer | None = None

    @property
    def is_there(self) -> bool:
        """Whether a request is under way, or the page is to poll again."""
        return self._lease is not None

    @contextlib.contextmanager
    def request(self, next_poll_within: Callable[[], float]) -> Iterator[None]:
        """Keep the client connected during a request, and until the next one.

        Args:
            next_poll_within: Gives, when this request ends, within how many real seconds
                the next one comes; 0 if none is to come.
        """
        with self._stub._lock:
            self._under_way += 1
            self._cancel_timer()
        try:
            if self._lease is None:
                self._begin_lease()
            yield
        finally:
            self._finish(next_poll_within())

    def end(self) -> None:
        """Keep the client connected no longer; it has two seconds on the stub's clock."""
        with self._stub._lock:
            timer, lease = self._timer, self._take_lease()
        _end(lease)
        if timer is not None:  # cancelled; its thread ends at once
            timer.join()

    def _begin_lease(self) -> None:
        lease = self._stub._keep_alive(self.token)
        with self._stub._lock:
            before, self._lease = self._lease, lease
        _end(before)  # of another request of the page that has begun meanwhile

    def _finish(self, seconds: float) -> None:
        with self._stub._lock:
            self._under_way -= 1
            if self._under_way or self._lease is None:
                return
            if seconds > 0:
                self._timer = threading.Timer(seconds, self._expire)
                self._timer.daemon = True
                self._timer.start()
                return
            lease = self._take_lease()
        _end(lease)

    def _expire(self) -> None:
        with self._stub._lock:
            if self._timer is not threading.current_thread():  # cancelled as it fired
                return
            lease = self._take_lease()
        _end(lease)

    def _take_lease(self) -> Lease | None:
        self._cancel_timer()
        lease, self._lease = self._lease, None
        return lease

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _end(lease: Lease | None) -> None:
    if lease is not None:
        lease.end()


class PageTracker:
    """The pages of one stub's clients, each known by its client id and a name of its own.

    They are kept with the stub: a page outlives the server through which it connected, and
    a test begins without pages, so that what earlier ones say changes nothing.

    Args:
        stub: The service.
    """

    def __init__(self, stub: ChannelServiceStub) -> None:
        self._stub = stub

    def get(self, client_id: str, name: str) -> Page | None:
        """A page; None if it has not connected in this test, or has left."""
        return cast("Page | None", self._stub._pages.get((client_id, name)))

    def connect(self, token: str, name: str, next_poll_within: Callable[[], float]) -> None:
        """Connect a page, and its client.

        Raises:
            InvalidTokenError: It is not a token.
            TokenTimedOutError: The token is expired.
        """
        stub, read = self._stub, _tokens.read(token)
        page = Page(stub, token, "" if read is None else read.client_id)

        def plan(step: Step) -> str | Error | None:
            result = stub._plan_connect(step, token, "refresh")
            if not isinstance(result, Error):
                step.do(stub._pages.__setitem__, (page.client_id, name), page)
            return result

        with page.request(next_poll_within):
            result = stub._step(plan)
        if isinstance(result, Error):
            page.end()
            raise result

    def leave(self, client_id: str, name: str) -> None:
        """Forget a page; disconnect its client, if no other page of it is there."""
        page = self.get(client_id, name)
        if page is None:
            return
        try:
            self._stub._step(self._plan_leave, page, name)
        finally:
            page.end()

    def _plan_leave(self, step: Step, page: Page, name: str) -> None:
        pages = self._stub._pages
        if self.get(page.client_id, name) is not page:
            return
        step.do(pages.pop, (page.client_id, name), None)
        # Seen in the same step: a page that connects now is there, or connects the client again.
        others = [other for other in pages.copy().values() if other is not page and other.is_there]
        is_last = all(other.client_id != page.client_id for other in others)
        if is_last and self._stub._state.queue(page.client_id) is not None:
            self._stub._plan_end(step, page.client_id, "close", page.token)

    def end_all(self) -> None:
        """Expect no page to poll again; those that do are still known."""
        for page in [*self._stub._pages.values()]:
            page.end()


class HeldPoll:
    """A poll that waits until there is something to say.

    Args:
        stub: The service.
        token: The client's token.
        wait: For how many real seconds it may be held.
        is_wanted: Whether anybody is there to answer; asked in the step that takes a
            message, as one that was taken cannot be put back.
        stopping: Set when no poll is held any more.
    """

    def __init__(
        self,
        stub: ChannelServiceStub,
        token: str,
        wait: float,
        is_wanted: Callable[[], bool],
        stopping: threading.Event,
    ) -> None:
        self._stub = stub
        self._token = token
        self._is_wanted = is_wanted
        self._stopping = stopping
        self._until = real_monotonic() + wait

    def answer(self) -> str | None:
        """Poll, and where there is no message wait for one.

        Returns:
            The message; None if none came, the client was disconnected, or the poll is
            not wanted any more.

        Raises:
            InvalidTokenError: It is not a token.
            TokenTimedOutError: It is expired, or expired during the wait.
        """
        message = self._take()
        while message is None and self._wait():
            message = self._take()
        return message

    def _take(self) -> str | None:
        return self._stub._poll(self._token, READER, is_wanted=self._is_wanted)

    def _wait(self) -> bool:
        """Wait until there may be something to say; False when it is time to give up."""
        stub, token = self._stub, _tokens.read(self._token) or _tokens.Token("", 0, "")
        while self._is_wanted() and not (stub._is_closed or self._stopping.is_set()):
            now = stub._touch()
            with stub._lock:
                queue = stub._state.queue(token.client_id)
                left = self._until - real_monotonic()
                if token.expires * MICROSECONDS <= now or queue:
                    return True
                if queue is None or left <= 0:
                    return False
                stub._changed.wait(min(left, _LOOK_AGAIN))
        return False


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
