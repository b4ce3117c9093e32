"""Which pages are there: those that ask, and those that said they will ask again."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_channelstub._service.stub import ChannelServiceStub
    from pytest_channelstub.web.lookout import Lookout

# Pages that left are remembered only for as long as a request of theirs may still come.
_MOST_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """A page's socket.

    Attributes:
        client_id: Whose token it connected with.
        name: What the page calls itself; empty for a client that is no page of ours.
    """

    client_id: str
    name: str


class Presence:
    """Keeps the clients connected whose pages are there, whatever the stub's clock says.

    A page that polls all the time still has a moment between two polls. Were its client
    not held then, an advance of the clock would throw it out or not, as chance has it.
    """

    def __init__(self, stub: ChannelServiceStub, lookout: Lookout) -> None:
        self._stub = stub
        self._lookout = lookout
        self._lock = threading.Lock()
        self._nobody_asks = threading.Condition(self._lock)
        self._asking: Counter[Page] = Counter()
        self._expected: dict[Page, contextlib.ExitStack] = {}
        self._left: dict[Page, None] = {}

    @contextlib.contextmanager
    def asking(self, page: Page, token: str) -> Iterator[None]:
        """Hold a page's client while the page has a request under way."""
        with self._counted(page), self._stub.hold(page.client_id, token):
            self._forget(page)
            yield

    def expect(self, page: Page, token: str, seconds: float) -> None:
        """Hold a page's client until the page asks again.

        Args:
            page: The page.
            token: Its token; when it ends, the hold is worth nothing.
            seconds: How long to expect the page, in real seconds.
        """
        hold = contextlib.ExitStack()
        hold.enter_context(self._stub.hold(page.client_id, token))
        with self._lock:
            earlier = self._expected.get(page)
            self._expected[page] = hold
        if earlier is not None:
            earlier.close()
        self._lookout.call_later(seconds, lambda: self._forget(page, hold))

    def leave(self, page: Page) -> bool:
        """Note that a page has left.

        Returns:
            Whether its client is to be disconnected: no other page of it is there, or the
            page has no name, as a client that is no page of ours.
        """
        if not page.name:
            return True
        self._forget(page)
        with self._lock:
            self._left[page] = None
            if len(self._left) > _MOST_REMEMBERED:
                del self._left[next(iter(self._left))]
            others = {*self._asking, *self._expected} - {page}
        return all(other.client_id != page.client_id or not other.name for other in others)

    def has_left(self, page: Page) -> bool:
        """Whether a page has left: what it asked before may arrive later."""
        return page in self._left

    def stop(self, timeout: float) -> None:
        """Expect nobody any more, and wait until no request is under way.

        Args:
            timeout: How long to wait at most, in real seconds.
        """
        with self._lock:
            self._nobody_asks.wait_for(lambda: not self._asking, timeout)
        for page in list(self._expected):
            self._forget(page)

    @contextlib.contextmanager
    def _counted(self, page: Page) -> Iterator[None]:
        with self._lock:
            self._asking[page] += 1
        try:
            yield
        finally:
            with self._lock:
                self._asking[page] -= 1
                if not self._asking[page]:
                    del self._asking[page]
                    self._nobody_asks.notify_all()

    def _forget(self, page: Page, hold: contextlib.ExitStack | None = None) -> None:
        with self._lock:
            expected = self._expected.get(page)
            if expected is None or (hold is not None and hold is not expected):
                return
            del self._expected[page]
        expected.close()
