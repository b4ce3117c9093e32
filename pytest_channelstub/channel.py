"""The app's side of the Channel API: what `google.appengine.api.channel` was."""

from __future__ import annotations

import sys
from typing import Any

from pytest_channelstub import apiproxy_errors
from pytest_channelstub._service import apiproxy
from pytest_channelstub._appengine import importing as appengine
from pytest_channelstub._record._values import shown
from pytest_channelstub._service.channel_service_pb import (
    ChannelServiceError,
    CreateChannelRequest,
    CreateChannelResponse,
    SendMessageRequest,
    VoidProto,
)

# A failure points at the line of the test, not at ours.
__tracebackhide__ = True

__all__ = [
    "MAXIMUM_CLIENT_ID_LENGTH",
    "MAXIMUM_MESSAGE_LENGTH",
    "MAXIMUM_TOKEN_DURATION_MINUTES",
    "AppIdAliasRequired",
    "Error",
    "InvalidChannelClientIdError",
    "InvalidChannelTokenDurationError",
    "InvalidMessageError",
    "create_channel",
    "send_message",
]

MAXIMUM_CLIENT_ID_LENGTH = 256
"""The longest client id, in UTF-8 bytes."""
MAXIMUM_MESSAGE_LENGTH = 32767
"""The longest message, in UTF-8 bytes."""
MAXIMUM_TOKEN_DURATION_MINUTES = 1440
"""The longest life of a token, in minutes: one day."""

# It has no fields, so one serves every call.
_NOTHING = VoidProto()


class Error(Exception):
    """The base of the errors of this module."""


class InvalidChannelClientIdError(Error):
    """The client id is not text, or too long, or empty."""


class InvalidChannelTokenDurationError(Error):
    """The duration is not a whole number of minutes from 1 to 1440."""


class InvalidMessageError(Error):
    """The message is not text, or too long, or empty."""


class AppIdAliasRequired(Error):  # noqa: N818 (App Engine's name)
    """The app has to have an alias before it may use the service."""


def create_channel(client_id: str, duration_minutes: int | None = None) -> str:
    """Make a channel's token, which a page connects with.

    Example:
        >>> token = channel.create_channel("alice", duration_minutes=60)

    Args:
        client_id: Who will listen: 1 to 256 UTF-8 bytes.
        duration_minutes: How long the token lasts: 1 to 1440 minutes; 120 by default.

    Returns:
        The token.

    Raises:
        InvalidChannelClientIdError: The client id is not such a text.
        InvalidChannelTokenDurationError: The duration is not such a number.
        AppIdAliasRequired: The service says so.
        apiproxy_errors.Error: The call failed, as `SetError` has it.
        AssertionError: No stub is in force.
    """
    return create_channel_on(None, client_id, duration_minutes)


def create_channel_on(proxy: Any, client_id: str, duration_minutes: int | None = None) -> str:
    """As `create_channel`, of a certain stub; None for the one in force."""
    request = CreateChannelRequest(application_key=_checked_client_id(client_id))
    if duration_minutes is not None:
        request.set_duration_minutes(_checked_duration(duration_minutes))
    response = CreateChannelResponse()
    _call(proxy, "CreateChannel", request, response)
    return response.token()


def send_message(client_id: str, message: str) -> None:
    """Send a message to the pages that listen to a client id.

    As the service does, it drops the message without a word when the client is not
    connected; the stub's timeline says so.

    Example:
        >>> channel.send_message("alice", "hello")

    Args:
        client_id: The client id, or a token of it: up to 256 UTF-8 bytes.
        message: 1 to 32767 UTF-8 bytes.

    Raises:
        InvalidChannelClientIdError: The client id is not such a text.
        InvalidMessageError: The message is not such a text.
        AppIdAliasRequired: The service says so.
        apiproxy_errors.Error: The call failed, as `SetError` has it.
        AssertionError: No stub is in force.
    """
    # What nearly every call passes is seen to be right at once.
    if not (
        type(client_id) is str
        and len(client_id) <= MAXIMUM_CLIENT_ID_LENGTH
        and client_id.isascii()
    ):
        client_id = _checked_client_id(client_id)
    if not (type(message) is str and len(message) <= MAXIMUM_MESSAGE_LENGTH and message.isascii()):
        message = _checked_message(message)
    request = SendMessageRequest(client_id, message)
    _call(None, "SendChannelMessage", request, _NOTHING)


def _GetService() -> str:
    """The service that calls go to; looked up at each call, so it can be replaced."""
    return "channel"


def _ToChannelError(error: Any) -> Exception:
    """Give an `ApplicationError` its class of this module, if it has one."""
    classes = {
        ChannelServiceError.INVALID_CHANNEL_KEY: InvalidChannelClientIdError,
        ChannelServiceError.BAD_MESSAGE: InvalidMessageError,
        ChannelServiceError.APPID_ALIAS_REQUIRED: AppIdAliasRequired,
    }
    translated = classes.get(error.application_error)
    return error if translated is None else translated(error.error_detail)


def _call(proxy: Any, call: str, request: Any, response: Any) -> None:
    if proxy is None and appengine.MAP in sys.modules:
        proxy = appengine.proxy_map()
    proxy = proxy or apiproxy.in_force()
    if proxy is None:
        message = (
            'No api proxy found for service "channel": no stub is in force. Request the '
            "channel_stub fixture in this test (in a unittest class: "
            '@pytest.mark.usefixtures("channel_stub")), or build a stub with make_channel_stub()'
        )
        raise AssertionError(message)
    try:
        proxy.MakeSyncCall(_GetService(), call, request, response)
    except apiproxy_errors.ApplicationError as error:
        translated = _ToChannelError(error)
        if translated is error:
            raise
        raise translated from error


def _checked_client_id(client_id: object) -> str:
    if not isinstance(client_id, str):
        message = (
            f"the client id is {shown(client_id)}, of type {type(client_id).__name__}: pass a str "
            f"of at most {MAXIMUM_CLIENT_ID_LENGTH} UTF-8 bytes"
        )
        raise InvalidChannelClientIdError(message)
    _check_size("client id", client_id, MAXIMUM_CLIENT_ID_LENGTH, InvalidChannelClientIdError)
    return client_id if type(client_id) is str else str.__str__(client_id)


def _checked_message(text: object) -> str:
    if not isinstance(text, str):
        message = (
            f"the message is {shown(text)}, of type {type(text).__name__}: pass a str of at most "
            f"{MAXIMUM_MESSAGE_LENGTH} UTF-8 bytes, such as json.dumps(...)"
        )
        raise InvalidMessageError(message)
    _check_size("message", text, MAXIMUM_MESSAGE_LENGTH, InvalidMessageError)
    return text if type(text) is str else str.__str__(text)


def _checked_duration(minutes: object) -> int:
    if not isinstance(minutes, int):
        message = (
            f"duration_minutes is {shown(minutes)}, of type {type(minutes).__name__}: pass a whole "
            f"number of minutes from 1 to {MAXIMUM_TOKEN_DURATION_MINUTES}"
        )
        raise InvalidChannelTokenDurationError(message)
    if not 1 <= minutes <= MAXIMUM_TOKEN_DURATION_MINUTES:
        message = (
            f"duration_minutes is {shown(minutes)}: a token lasts from 1 to "
            f"{MAXIMUM_TOKEN_DURATION_MINUTES} minutes"
        )
        raise InvalidChannelTokenDurationError(message)
    return minutes


def _check_size(name: str, text: str, limit: int, error: type[Error]) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        message = f"the {name} holds a lone surrogate, which UTF-8 cannot express: {text!a:.80}"
        raise error(message) from None
    if size > limit:
        message = f"the {name} has {size} UTF-8 bytes: at most {limit} are allowed"
        raise error(message)
