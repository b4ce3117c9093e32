"""Which stubs are active, and what the core asks of an installed SDK."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_channelstub._service.apiproxy import APIProxyStub


class SDK:
    """What the core asks of an installed SDK; without one, as here, there is nothing."""

    def proxy_map(self, service: str) -> Any:
        """What a call of the service has to be made on; None for the active stub."""
        return None

    def stub(self, service: str) -> Any:
        """The stub that the SDK's map has for a service; None for the active stub."""
        return None

    def is_silent_request_data(self, request_data: object) -> bool:
        """Whether this request_data has the SDK's no-op dispatcher; also if None."""
        return request_data is None


class _Registry:
    """The stubs that are active, and who is to know of new ones."""

    def __init__(self) -> None:
        # Each is called with a stub that becomes active.
        self.observers: list[Callable[[Any], object]] = []
        self.sdk = SDK()  # until `_appengine` registers the installed one
        self._stubs: tuple[weakref.ref[Any], ...] = ()  # the oldest first
        self._lock = threading.RLock()

    def activate(self, stub: APIProxyStub) -> None:
        """Put a stub before those that are active already."""
        # On one line, as in call_locked.
        with self._lock: self._replace(stub, weakref.ref(stub))  # fmt: skip  # noqa: E701
        # Where pytest runs within pytest, the stub belongs to the inner one's test.
        for observe in self.observers[-1:]:
            observe(stub)

    def deactivate(self, stub: APIProxyStub) -> None:
        """Take a stub away; the one before it is active again."""
        with self._lock: self._replace(stub)  # fmt: skip  # noqa: E701

    def stubs(self) -> list[Any]:
        """The active stubs, the newest first."""
        found = (reference() for reference in reversed(self._stubs))
        return [stub for stub in found if stub is not None]

    def _replace(self, stub: APIProxyStub, *references: weakref.ref[Any]) -> None:
        left = [one for one in self._stubs if one() not in (None, stub)]
        self._stubs = (*left, *references)

    def renew_locks(self) -> None:
        """Free what other threads held when this process was forked: they are not here."""
        self._lock = threading.RLock()
        for stub in self.stubs():
            stub._renew_locks()


registry = _Registry()
"""The one registry of stubs: a process has one service of a kind."""


def active_stub(service: str = "channel") -> Any | None:
    """The newest stub of a service that is not closed, or None."""
    for reference in reversed(registry._stubs):  # every call asks: no list is made
        stub = reference()
        if stub is not None and stub._service_name == service:
            return stub
    return None


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=registry.renew_locks)
