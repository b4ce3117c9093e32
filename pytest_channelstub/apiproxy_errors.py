"""The errors of an App Engine call: an installed SDK's own classes, else ours.

The SDK's are looked up when first asked for, so that an app's `except` clauses catch
them and a test that meets none of them imports nothing of the SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Error(Exception):
    """The base of all errors of an App Engine call."""


class RPCFailedError(Error):
    """The call to the service failed."""


class CallNotFoundError(Error):
    """The service has no such call."""


class ArgumentError(Error):
    """The service could not read the call's arguments."""


class DeadlineExceededError(Error):
    """The call took too long."""


class CancelledError(Error):
    """The call was cancelled."""


class ApplicationError(Error):
    """The service refused the call, with one of its codes.

    Attributes:
        application_error: The code; for this service, one of `ChannelServiceError`.
        error_detail: What the service said beside the code.
    """

    def __init__(self, application_error: int, error_detail: str = "") -> None:
        super().__init__(application_error)
        self.application_error = application_error
        self.error_detail = error_detail

    def __str__(self) -> str:
        return f"ApplicationError: {self.application_error} {self.error_detail}"


class OverQuotaError(Error):
    """The app has used up its quota of calls."""


class RequestTooLargeError(Error):
    """The request was too large."""


class ResponseTooLargeError(Error):
    """The response was too large."""


class CapabilityDisabledError(Error):
    """The service is switched off for now."""


class FeatureNotEnabledError(Error):
    """The app has to enable a feature before it makes this call."""


class InterruptedError(Error):  # noqa: A001 (App Engine's name)
    """A wait ended because the callback of some call raised.

    Attributes:
        exception: What the callback raised.
        rpc: The call that the callback belongs to.
    """

    def __init__(self, exception: BaseException, rpc: object) -> None:
        super().__init__(
            "The Wait() request was interrupted by an exception from another callback:", exception
        )
        self.exception = exception
        self.rpc = rpc


class RpcAuthorityError(Error):
    """The authority to make calls could not be read from the environment."""


# Ours are set aside, so that every look-up of a name comes by `__getattr__`.
_OWN = {name: globals().pop(name) for name in __all__}
# `_appengine` puts a function here that gives the module of an installed SDK, which has the names.
_installed: Callable[[], object] = object


def __getattr__(name: str) -> object:
    if name not in _OWN:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(_installed(), name, None) or _OWN[name]


def __dir__() -> list[str]:
    return __all__
