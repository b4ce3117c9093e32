"""The errors of an App Engine call: an installed SDK's own classes, else ours.

They are looked up when first asked for, so that an app's `except` clauses catch
them and a test that meets none of them imports nothing of the SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_channelstub._appengine import importing as appengine

if TYPE_CHECKING:
    from pytest_channelstub._errors import (
        ApplicationError,
        ArgumentError,
        CallNotFoundError,
        CancelledError,
        CapabilityDisabledError,
        DeadlineExceededError,
        Error,
        FeatureNotEnabledError,
        InterruptedError,  # noqa: A004 (App Engine's name)
        OverQuotaError,
        RequestTooLargeError,
        ResponseTooLargeError,
        RpcAuthorityError,
        RPCFailedError,
    )

__all__ = [
    "ApplicationError",
    "ArgumentError",
    "CallNotFoundError",
    "CancelledError",
    "CapabilityDisabledError",
    "DeadlineExceededError",
    "Error",
    "FeatureNotEnabledError",
    "InterruptedError",
    "OverQuotaError",
    "RPCFailedError",
    "RequestTooLargeError",
    "ResponseTooLargeError",
    "RpcAuthorityError",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from pytest_channelstub import _errors  # noqa: PLC0415 (most runs never raise one)

    return getattr(appengine.installed_errors() or _errors, name)


def __dir__() -> list[str]:
    return sorted(__all__)
