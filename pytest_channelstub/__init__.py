"""App Engine's Channel API in your tests."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

# An installed SDK makes itself known to the core before anything else asks for it.
from pytest_channelstub._appengine import patches as _patches  # noqa: F401

if TYPE_CHECKING:
    from pytest_channelstub import apiproxy_errors, channel
    from pytest_channelstub._assertions.helpers import (
        assert_connected,
        assert_disconnected,
        assert_dropped,
        assert_not_sent,
        assert_queued,
        assert_sent,
        assert_token_expired,
        assert_token_valid,
    )
    from pytest_channelstub._plugin.session import MakeChannelStub
    from pytest_channelstub._record.matching import ANY
    from pytest_channelstub._record.timeline import Event, Timeline
    from pytest_channelstub._service.channel_service_pb import ChannelServiceError
    from pytest_channelstub._service.clock import FakeClock
    from pytest_channelstub._service.delivery import ChannelAppWarning, Request
    from pytest_channelstub._service.stub import ChannelServiceStub
    from pytest_channelstub._tokens import InvalidTokenError, TokenTimedOutError
    from pytest_channelstub.client import ChannelClient, ConnectClient

# Where the public names are; all others are helpers.
_HOMES = {
    "ANY": "_record.matching",
    "ChannelAppWarning": "_service.delivery",
    "ChannelClient": "client",
    "ChannelServiceError": "_service.channel_service_pb",
    "ChannelServiceStub": "_service.stub",
    "ConnectClient": "client",
    "Event": "_record.timeline",
    "FakeClock": "_service.clock",
    "InvalidTokenError": "_tokens",
    "MakeChannelStub": "_plugin.session",
    "Request": "_service.delivery",
    "Timeline": "_record.timeline",
    "TokenTimedOutError": "_tokens",
}
__all__ = [
    "ANY",
    "ChannelAppWarning",
    "ChannelClient",
    "ChannelServiceError",
    "ChannelServiceStub",
    "ConnectClient",
    "Event",
    "FakeClock",
    "InvalidTokenError",
    "MakeChannelStub",
    "Request",
    "Timeline",
    "TokenTimedOutError",
    "apiproxy_errors",
    "assert_connected",
    "assert_disconnected",
    "assert_dropped",
    "assert_not_sent",
    "assert_queued",
    "assert_sent",
    "assert_token_expired",
    "assert_token_valid",
    "channel",
]


def __getattr__(name: str) -> object:
    # pytest imports this package at its start, for plugin.py: the rest loads when asked for.
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    if name in ("apiproxy_errors", "channel"):
        return importlib.import_module(f"{__name__}.{name}")
    home = _HOMES.get(name, "_assertions.helpers")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
