"""What our script has beyond the SDK's: polls that are held, and pages that are there."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pytest_channelstub import _tokens
from pytest_channelstub._service.clock import real_monotonic
from pytest_channelstub._tokens import Error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_channelstub._service.state import Step
    from pytest_channelstub._service.stub import ChannelServiceStub, Lease

READER = "HTTP"
"""What the timeline says has read a message."""

# Nothing wakes a poll when its connection ends or the system's clock moves: it looks again.
_LOOK_AGAIN = 0.25  # seconds
_DONT_WAIT: int = getattr(socket, "MSG_DONTWAIT", 0)  # Windows has none


@dataclass(frozen=True, slots=True)
class Query:
    """What a request of a page, or of another client, asks for."""

    token: str
    page: str  # what the page calls itself; empty for a client that is not our script
    wait: float  # how long a poll may be held, in real seconds
    next_poll_within: float  # real seconds; 0 if the client does not say
    connection: Any  # where the answer goes; None where the server does not show it
    stopping: threading.Event  # set when the server stops: from then on no poll is held


class Page:
    """A page that has connected, as our script names it; or another client, during a held poll.

    Its client stays connected while a request of the page is under way, and then until
    the time by which the page has said that it polls again. Without that, an advance of
    the clock between two polls would disconnect the client or not, by chance.

    Pages are kept with the stub: a page outlives the server through which it connected, and
    a test begins without pages, so that what earlier ones say changes nothing.
    """

    def __init__(self, stub: ChannelServiceStub, query: Query) -> None:
        self._key = _key(query)
        self.client_id: str = self._key[0]
        self._name = query.page
        self._token = query.token
        self._stub = stub
        # Of the requests under way, and of those after which the page is to poll again in time.
        self._leases: dict[Lease, threading.Timer] = {}

    @property
    def is_there(self) -> bool:
        """Whether a request is under way, or the page is to poll again."""
        return bool(self._leases)

    def _is_known(self) -> bool:
        """Whether the page has connected in this test, and has not left."""
        return self._stub._pages.get(self._key) is self

    def _is_wanted(self, query: Query) -> bool:
        """Whether anybody is there to answer."""
        return (self._is_known() or not self._name) and not has_ended(query.connection)

    def connect(self, query: Query) -> None:
        """Connect the page, and its client; an error if the token is not valid."""
        with self._request(query):
            self._stub._step(self._plan_connect)

    def _plan_connect(self, step: Step) -> str | Error | None:
        result = self._stub._plan_connect(step, self._token, "refresh")
        if not isinstance(result, Error):
            step.do(self._stub._pages.__setitem__, self._key, self)
        return result

    def leave(self) -> None:
        """Forget the page; disconnect its client, if no other page of it is there."""
        try:
            self._stub._step(self._plan_leave)
        finally:
            self.end()

    def _plan_leave(self, step: Step) -> None:
        if not self._is_known():
            return
        step.do(self._stub._pages.pop, self._key, None)
        # Seen in the same step: a page that connects now is there, or connects the client again.
        there = {page for page in self._stub._pages.copy().values() if page.is_there} - {self}
        is_last = self.client_id not in {page.client_id for page in there}
        if is_last and self._stub._state.queue(self.client_id) is not None:
            self._stub._plan_end(step, self.client_id, "close", self._token)

    def poll(self, query: Query) -> str | None:
        """Poll, and where there is no message wait for one.

        Whether the poll is wanted is asked in the step that takes a message: one that was
        taken cannot be put back. None comes where the client was disconnected meanwhile.
        """
        poll = partial(self._stub._poll, query.token, READER, partial(self._is_wanted, query))
        with self._request(query):
            until = real_monotonic() + query.wait
            message = poll()
            while message is None and self._wait(query, until):
                message = poll()
        return message

    def _wait(self, query: Query, until: float) -> bool:
        """Wait until a poll finds a message, or the token expired; False for neither."""
        stub = self._stub
        while self._is_wanted(query) and not (stub._is_closed or query.stopping.is_set()):
            now = stub._touch()
            with stub._lock:
                queue = stub._state.queue(self.client_id)
                if queue or stub._client_id(self._token, now) is None:
                    return True
                left = until - real_monotonic()
                if queue is None or left <= 0:
                    return False
                stub._changed.wait(min(left, _LOOK_AGAIN))
        return False

    @contextlib.contextmanager
    def _request(self, query: Query) -> Iterator[None]:
        """Keep the client connected during a request, and until the next one."""
        lease = self._stub._keep_alive(self._token)
        timer = threading.Timer(query.next_poll_within, self._end, [lease])
        timer.daemon = True
        try:
            waiting = [each for each, other in self._leases.copy().items() if other.is_alive()]
            self._leases[lease] = timer
            for each in waiting:
                self._end(each)
            yield
        finally:
            is_last = not query.next_poll_within or query.stopping.is_set()
            if is_last or not self._is_wanted(query):
                self._end(lease)
            else:
                timer.start()

    def end(self) -> None:
        """Keep the client connected no longer; it has two seconds on the stub's clock."""
        leases = self._leases.copy()
        for lease in leases:
            self._end(lease)
        for timer in leases.values():
            if timer.is_alive():  # cancelled; its thread ends at once
                timer.join()

    def _end(self, lease: Lease) -> None:
        timer = self._leases.pop(lease, None)
        if timer is not None:
            timer.cancel()
        lease.end()


def _key(query: Query) -> tuple[str, str]:
    """What a stub knows a page by: its client id, and its own name."""
    read = _tokens.read(query.token)
    return "" if read is None else read.client_id, query.page


def find_page(stub: ChannelServiceStub, query: Query) -> Page | None:
    """The page that asks; None if it has not connected in this test, or has left."""
    return cast("Page | None", stub._pages.get(_key(query)))


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
