"""Waiting in real time, for what happens in other threads."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from pytest_channelstub._record import formatting as rendering
from pytest_channelstub._record.timeline import check_kind

if TYPE_CHECKING:
    from pytest_channelstub._service.stub import ChannelServiceStub
    from pytest_channelstub._record.timeline import Event

_MOST_SHOWN = 50


def monotonic() -> float:
    """Seconds on a clock that goes on while freezegun holds the process's time."""
    freezegun = sys.modules.get("freezegun.api")
    return float(time.monotonic() if freezegun is None else freezegun.real_monotonic())


def wait_for(
    stub: ChannelServiceStub,
    kind: str,
    client_id: str | None = None,
    timeout: float = 5.0,
    *,
    count: int = 1,
) -> Event:
    """Wait until a stub's timeline holds an event; one that it holds already counts.

    Args:
        stub: The stub.
        kind: What is waited for: one of the timeline's kinds, such as `connect`.
        client_id: Whose event; None for anybody's.
        timeout: How long at most, in real seconds.
        count: How many such events the timeline has to hold.

    Returns:
        The event; with `count`, the one that made the number full.

    Raises:
        AssertionError: It did not happen in time; the text shows what did.
        ValueError: There is no such kind of event, or `count` is below 1.
    """
    __tracebackhide__ = True
    check_kind(kind)
    if count < 1:
        message = f"count is {count}: pass how many such events to wait for, at least 1"
        raise ValueError(message)
    until = monotonic() + timeout
    with stub.timeline.watch(client_id) as flag:
        while True:
            flag.clear()
            found = stub.timeline.of(client_id, kind=kind)
            if len(found) >= count:
                return found[count - 1]
            if not flag.wait(max(0.0, until - monotonic())) and monotonic() >= until:
                raise AssertionError(_missed(stub, kind, client_id, timeout, count))


def _missed(
    stub: ChannelServiceStub, kind: str, client_id: str | None, timeout: float, count: int
) -> str:
    whose = "" if client_id is None else f" of {client_id!r}"
    number = "no" if count == 1 else f"fewer than {count}"
    plural = "" if count == 1 else "s"
    told = rendering.timeline(stub.timeline[:], stub.timeline.start, last=_MOST_SHOWN)
    return (
        f"{number} {kind!r} event{plural}{whose} within {timeout:g} s of real time. "
        f"What happened so far, on the stub's clock:\n{told}"
    )
