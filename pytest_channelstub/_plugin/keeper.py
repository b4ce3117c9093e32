"""The stubs that live in a pytest run: built, reset between tests, ended."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pytest_channelstub._service.clock import (
    DEFAULT_START,
    FakeClock,
    Moment,
    SystemClock,
)
from pytest_channelstub._service.delivery import check_app
from pytest_channelstub._service.freeze import FrozenClock
from pytest_channelstub._service.stub import ChannelServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_channelstub._plugin.options import FailingCalls
    from pytest_channelstub._record.timeline import Timeline


class Keeper:
    """Knows every stub that the plugin has built and that is still alive.

    Attributes:
        alive: The stubs, oldest first, and for each how long its timeline was when the
            current test began.
        ended: The timelines of those that the current test has closed, likewise.
    """

    def __init__(self) -> None:
        self.alive: dict[ChannelServiceStub, int] = {}
        self.ended: list[tuple[Timeline, int]] = []
        self._failing: tuple[FailingCalls, ...] = ()

    def build(
        self,
        *,
        start: Moment | None = None,
        clock: str | FakeClock = "fake",
        seed: int | str | None = None,
        app: Callable[..., Any] | None = None,
    ) -> ChannelServiceStub:
        """Build a stub and keep it until it is closed.

        Raises:
            TypeError: The app is none.
        """
        check_app(app)  # before there is a stub, which would stay in force
        stub = ChannelServiceStub(time_func=_clock(clock, start).time)
        if seed is not None:
            stub.seed = seed
        stub.app = app
        self.alive[stub] = 0
        stub._failing = self._failing
        stub._closing.append(functools.partial(self._end, stub))
        if clock == "freeze":
            stub._closing.append(stub.clock._thaw)  # type: ignore[attr-defined]
            try:
                stub.clock._freeze()  # type: ignore[attr-defined]
            except BaseException:
                stub.close()
                raise
        return stub

    def begin_test(self, what: str) -> None:
        """Reset the stubs that are alive before a test."""
        self.ended.clear()
        # What was due may fire now, and an app's handler may build or close a stub.
        for stub in [*self.alive]:
            stub._begin_epoch(what)
            if stub in self.alive:
                self.alive[stub] = len(stub.timeline)

    def fail_calls(self, failing: tuple[FailingCalls, ...]) -> None:
        """Have calls fail, on the stubs that are alive and on those built later."""
        self._failing = failing
        for stub in self.alive:
            stub._failing = failing

    def timelines(self) -> list[tuple[Timeline, int]]:
        """The timelines of the current test's stubs, each with its length when the test began."""
        return [*self.ended, *((stub.timeline, since) for stub, since in self.alive.items())]

    def _end(self, stub: ChannelServiceStub) -> None:
        self.ended.append((stub.timeline, self.alive.pop(stub)))

    def close(self) -> None:
        """Close every stub that is still alive, the newest first."""
        while self.alive:
            next(reversed(self.alive)).close()


def _clock(clock: str | FakeClock, start: Moment | None) -> FakeClock:
    if isinstance(clock, FakeClock):
        return clock
    if clock == "fake":
        return FakeClock(DEFAULT_START if start is None else start)
    if clock == "system":
        return SystemClock()
    return FrozenClock(DEFAULT_START if start is None else start)
