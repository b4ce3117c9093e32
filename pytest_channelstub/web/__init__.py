"""The service over HTTP: for a page in a real browser, or any client that speaks HTTP."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pytest_channelstub.web.middleware import ChannelMiddleware

if TYPE_CHECKING:
    from pytest_channelstub.web.server import ChannelServer

__all__ = ["ChannelMiddleware", "ChannelServer"]


def __getattr__(name: str) -> object:
    # The server needs Werkzeug, which the middleware can do without.
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.server"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
