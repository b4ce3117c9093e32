"""Where a stub's events go: timers, and requests to the app."""

from __future__ import annotations

import functools
import inspect
import os
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_channelstub._record._values import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_channelstub._service.agenda import Agenda, Timer
    from pytest_channelstub._service.clock import FakeClock
    from pytest_channelstub._record.timeline import Timeline

# A failure points at the line of the test, not at ours.
__tracebackhide__ = True

_FIRST_ERROR_STATUS = 400
_HERE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")  # noqa: PTH118, PTH120 (as code objects say it)


class ChannelAppWarning(UserWarning):
    """The app answered one of the service's requests with a status of 400 or more.

    Example:
        >>> with pytest.warns(ChannelAppWarning): stub.connect_channel(token)
    """


@dataclass(frozen=True, slots=True)
class Request:
    """A request that the service made to the app.

    Attributes:
        method: Always `POST`.
        url: `/_ah/channel/connected/` or `/_ah/channel/disconnected/`.
        headers: Names and values.
        body: As the SDK's stub hands it over: `from=` and the client id, not escaped.
            The app itself receives a form from which it reads back exactly the client id.
        source_ip: The address it comes from, `0.1.0.10`.
        at: When, in seconds since the epoch.
        status: What the app answered, such as 200; None where there is no app, or it raised.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: str
    source_ip: str
    at: float
    status: int | None = None


class _Entry:
    """A request and what came of it so far; read as text by the timeline."""

    __slots__ = ("asked", "outcome", "status")

    def __init__(
        self, asked: tuple[str, str, tuple[tuple[str, str], ...], str, str, float]
    ) -> None:
        self.asked = asked
        self.status: int | None = None
        self.outcome = "no app"

    def request(self) -> Request:
        return Request(*self.asked, self.status)

    def __str__(self) -> str:
        return self.outcome


class Dispatcher:
    """Keeps the timers of a stub's clients, and makes its requests to the app.

    The methods that the SDK's dispatchers have as well bear their names.

    Attributes:
        app: The app's WSGI callable, or None.
    """

    def __init__(self, clock: FakeClock, timeline: Timeline) -> None:
        self.app: Callable[..., Any] | None = None
        self._clock = clock
        self._agenda: Agenda = clock.agenda
        self._timeline = timeline
        self._timers: dict[str, list[Timer]] = {}
        self._entries: list[_Entry] = []
        self._lock = threading.Lock()

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests made so far, in order."""
        return tuple(entry.request() for entry in self._entries.copy())

    def add_event(
        self, runnable: Callable[..., object], eta: float, service: str, event_id: str
    ) -> None:
        """Have `runnable` called with `eta` when the clock is there.

        Args:
            runnable: Called with `eta`.
            eta: Seconds since the epoch.
            service: Whose event it is.
            event_id: What `update_event` and `cancel_events` know it by.
        """
        timer = self._agenda.schedule(eta, functools.partial(self._fire, event_id, runnable))
        with self._lock:
            self._timers.setdefault(event_id, []).append(timer)

    def update_event(self, eta: float, service: str, event_id: str) -> None:
        """Move the first event of that id to `eta`."""
        timers = self._timers.get(event_id)
        if timers:
            self._agenda.postpone(timers[0], eta)

    def cancel_events(self, event_id: str) -> None:
        """Take away every event of that id."""
        with self._lock:
            timers = self._timers.pop(event_id, [])
        for timer in timers:
            self._agenda.cancel(timer)

    def add_async_request(  # noqa: PLR0913 (the SDK's signature)
        self,
        method: str,
        relative_url: str,
        headers: Sequence[tuple[str, str]],
        body: str,
        source_ip: str,
        *,
        at: float | None = None,
    ) -> None:
        """Note a request and make it to the app, before anything else happens.

        Args:
            method: The HTTP method.
            relative_url: The path.
            headers: Names and values.
            body: The form, not escaped.
            source_ip: The address it comes from.
            at: When it is made, in seconds since the epoch; now by default.

        Raises:
            Exception: Whatever the app raises.
        """
        at = self._clock.time() if at is None else at
        entry = _Entry((method, relative_url, tuple(headers), body, source_ip, at))
        self._entries.append(entry)
        client_id = body.partition("=")[2]
        self._timeline.record((at, "request", client_id, None, relative_url, entry))
        if self.app is not None:
            self._deliver(self.app, entry, client_id)

    def cancel_all(self) -> None:
        """Take away every event."""
        with self._lock:
            pending = [timer for timers in self._timers.values() for timer in timers]
            self._timers.clear()
        for timer in pending:
            self._agenda.cancel(timer)

    def forget_requests(self) -> None:
        """Start a new list of requests."""
        self._entries.clear()

    def _fire(self, event_id: str, runnable: Callable[..., object], due: float) -> None:
        with self._lock:
            still = [timer for timer in self._timers.get(event_id, ()) if timer.queued]
            if still:
                self._timers[event_id] = still
            else:
                self._timers.pop(event_id, None)
        runnable(due)

    def _deliver(self, app: Callable[..., Any], entry: _Entry, client_id: str) -> None:
        from pytest_channelstub._service import wsgi  # noqa: PLC0415 (most stubs have no app)

        entry.outcome = "under way"
        try:
            status = wsgi.post_form(app, entry.asked[1], {"from": client_id}, entry.asked[4])
        except BaseException as error:
            entry.outcome = f"{type(error).__name__}: {error}"
            raise
        entry.status = int(status[:3])
        entry.outcome = status
        if entry.status >= _FIRST_ERROR_STATUS:
            message = (
                f"the app answered {status!r} to POST {entry.asked[1]} for client id {client_id!r}"
            )
            warnings.warn(message, ChannelAppWarning, stacklevel=_level_of_foreign_code())


def _level_of_foreign_code() -> int:
    """The `stacklevel` at which a warning of the caller's points at a line that is not ours."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        level, frame = level + 1, frame.f_back
    return level


def check_app(app: object) -> None:
    """Refuse what can be no app.

    Raises:
        TypeError: It is neither None nor something that can be called.
    """
    if app is not None and not callable(app):
        raise TypeError(
            f"the app is {shown(app)}, of type {type(app).__name__}: pass a WSGI callable, "
            "or None for no app"
        )


class RequestInfo:
    """Gives access to a dispatcher, as an SDK's `request_data` does."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def get_dispatcher(self) -> Dispatcher:
        """The dispatcher."""
        return self._dispatcher
