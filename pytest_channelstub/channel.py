"""The app's side of the Channel API: what `google.appengine.api.channel` was."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_channelstub import apiproxy_errors
from pytest_channelstub._record.formatting import describe_type, shorten_repr
from pytest_channelstub._record.frames import hide_frame
from pytest_channelstub._record.settings import settings
from pytest_channelstub._service.channel_service_pb import (
    ChannelServiceError,
    CreateChannelRequest,
    CreateChannelResponse,
    Error,
    InvalidChannelClientIdError,
    InvalidMessageError,
    SendMessageRequest,
    VoidProto,
    read_text,
)
from pytest_channelstub._service.registry import active_stub, registry

if TYPE_CHECKING:
    from types import FrameType

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

# What pytest calls before it builds a test's fixtures.
_BEFORE_FIXTURES = {
    "setUpClass",
    "setUpModule",
    "setup_class",
    "setup_function",
    "setup_method",
    "setup_module",
}

__all__ = [
    "MAXIMUM_CLIENT_ID_LENGTH",
    "MAXIMUM_MESSAGE_LENGTH",
    "MAXIMUM_TOKEN_DURATION_MINUTES",
    "AppIdAliasRequired",
    "Error",
    "InvalidChannelClientIdError",
    "InvalidChannelKeyError",
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

InvalidChannelKeyError = InvalidChannelClientIdError


class InvalidChannelTokenDurationError(Error):
    """The duration is not a whole number of minutes from 1 to 1440."""


class AppIdAliasRequired(Error):  # noqa: N818 (App Engine's name)
    """The app has to have an alias before it may use the service."""


def create_channel(client_id: str | bytes, duration_minutes: int | None = None) -> str:
    """Make a channel's token, which a page connects with.

    Example:
        >>> token = channel.create_channel("alice", duration_minutes=60)

    Args:
        client_id: Whose channel: 1 to 256 UTF-8 bytes.
        duration_minutes: How long the token is valid: 1 to 1440 minutes; 120 by default.

    Returns:
        The token.

    Raises:
        InvalidChannelClientIdError: The client id is not such a text.
        InvalidChannelTokenDurationError: The duration is not such a number.
        AppIdAliasRequired: The call failed with that, as `SetError` has it.
        apiproxy_errors.Error: The call failed, as `SetError` or `channel_error` has it.
        AssertionError: No stub is active.
    """
    return _create_channel(None, client_id, duration_minutes)


def _create_channel(stub: Any, client_id: str | bytes, duration_minutes: int | None = None) -> str:
    """As `create_channel`, of a certain stub; None for the one that calls reach."""
    try:
        request = CreateChannelRequest(_ValidateClientId(client_id))
        if duration_minutes is not None:
            request.set_duration_minutes(_check_duration(duration_minutes))
    except Error as error:
        _record_refusal(stub, client_id, None, error)
        raise
    response = CreateChannelResponse()
    _call(stub, "CreateChannel", request, response)
    return response.token()


def send_message(client_id: str | bytes, message: str | bytes) -> None:
    """Send a message to the pages of a client.

    As the service does, it drops the message silently when the client is not
    connected; the stub's timeline shows it.

    Example:
        >>> channel.send_message("alice", "hello")

    Args:
        client_id: The client id, or a token of it: up to 256 UTF-8 bytes.
        message: 1 to 32767 UTF-8 bytes.

    Raises:
        InvalidChannelClientIdError: The client id is not such a text.
        InvalidMessageError: The message is not such a text.
        AppIdAliasRequired: The call failed with that, as `SetError` has it.
        apiproxy_errors.Error: The call failed, as `SetError` or `channel_error` has it.
        AssertionError: No stub is active.
    """
    try:
        request = SendMessageRequest(_ValidateClientId(client_id), _check_message(message))
    except Error as error:
        _record_refusal(None, client_id, message, error)
        raise
    _call(None, "SendChannelMessage", request, VoidProto())


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


def _ValidateClientId(client_id: object) -> str:
    """Check a client id, as the SDK's function of this name does; gives it as a str."""
    return _check_text(
        "client id", client_id, MAXIMUM_CLIENT_ID_LENGTH, InvalidChannelClientIdError
    )


def _check_message(message: object) -> str:
    return _check_text("message", message, MAXIMUM_MESSAGE_LENGTH, InvalidMessageError)


def _check_text(name: str, value: object, limit: int, error: type[Error]) -> str:
    advice = ", such as json.dumps(...)" if name == "message" else ""
    instead = f"a str, or its UTF-8 bytes, of at most {limit} bytes{advice}"
    text = read_text(f"the {name}", value, error, error, instead)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        message = f"the {name} has a lone surrogate, which is not UTF-8: {shorten_repr(value)}"
        raise error(message) from None
    if size > limit:
        message = f"the {name} has {size} UTF-8 bytes: at most {limit} are allowed"
        raise error(message)
    return text


def _check_duration(minutes: object) -> int:
    if not isinstance(minutes, int):
        instead = f"a whole number of minutes from 1 to {MAXIMUM_TOKEN_DURATION_MINUTES}"
        message = describe_type("duration_minutes", minutes, instead)
        raise InvalidChannelTokenDurationError(message)
    if not 1 <= minutes <= MAXIMUM_TOKEN_DURATION_MINUTES:
        message = (
            f"duration_minutes is {shorten_repr(minutes)}: a token is valid for 1 to "
            f"{MAXIMUM_TOKEN_DURATION_MINUTES} minutes"
        )
        raise InvalidChannelTokenDurationError(message)
    return minutes


def _call(stub: Any, call: str, request: Any, response: Any) -> None:
    service = _GetService()
    proxy = stub or registry.sdk.proxy_map(service) or active_stub(service)
    if proxy is None:
        _refuse_without_stub(service)
    try:
        proxy.MakeSyncCall(service, call, request, response)
    except apiproxy_errors.ApplicationError as error:
        translated = _ToChannelError(error)
        if translated is error:
            raise
        raise translated from None  # it says all that `error` did


def _refuse_without_stub(service: str) -> NoReturn:
    advice = "Build one: stub = ChannelServiceStub(time_func=FakeClock().time)"
    what = "no stub is active"
    if "PYTEST_CURRENT_TEST" in os.environ:
        early = _find_early_function()
        if getattr(settings.find_fixture_stub(), "_is_closed", False):
            what += ", as channel_stub is closed"
            advice = "Close it later, or build another with make_channel_stub()"
        elif early:
            what += f" in {early}, which pytest calls before it builds fixtures"
            advice = (
                f"Put what {early} does into a fixture: "
                "@pytest.fixture(autouse=True) def set_up(self, channel_stub)"
            )
        else:
            advice = (
                "Request the channel_stub fixture in this test (in a unittest class: "
                '@pytest.mark.usefixtures("channel_stub")), or build a stub with '
                "make_channel_stub()"
            )
    advice += "; with a testbed: testbed.init_channel_stub()"
    if service != "channel":
        what = "no stub of that name is active"
        advice = f"_GetService() names it; build one: ChannelServiceStub(service_name={service!r})"
    message = f'No api proxy found for service "{service}": {what}. {advice}'
    raise AssertionError(message)


def _find_early_function() -> str | None:
    """The function that is running and that pytest calls before a test's fixtures, if one is."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name in _BEFORE_FIXTURES:
            return frame.f_code.co_name
        frame = frame.f_back
    return None


def _record_refusal(stub: Any, client_id: object, message: object, error: Error) -> None:
    """Have the stub that the call would have reached record why it did not."""
    service = _GetService()
    stub = stub or registry.sdk.stub(service) or active_stub(service)
    record = getattr(stub, "_record_refusal", None)
    if record is not None:
        record(client_id, message, error)
