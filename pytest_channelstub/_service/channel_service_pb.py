"""The service's two requests, its response and its error codes.

They have the accessors of the SDK's protocol buffers, and no wire format: nothing
leaves the process.
"""

from __future__ import annotations

from typing import ClassVar

from pytest_channelstub._record._values import shown

# A failure points at the line of the test, not at ours.
__tracebackhide__ = True

# From here on a number takes more than one byte on the wire.
_TWO_BYTES = 128
_INT32 = 1 << 31


class ChannelServiceError:
    """The codes that an `ApplicationError` of this service carries.

    Example:
        >>> @pytest.mark.channel_error(ChannelServiceError.INTERNAL_ERROR)
    """

    OK = 0
    INTERNAL_ERROR = 1
    INVALID_CHANNEL_KEY = 2
    BAD_MESSAGE = 3
    INVALID_CHANNEL_TOKEN_DURATION = 4
    APPID_ALIAS_REQUIRED = 5

    @classmethod
    def ErrorCode_Name(cls, code: int) -> str:  # noqa: N802 (the SDK's name)
        """The name of a code, or an empty string if it is none."""
        names = {value: name for name, value in vars(cls).items() if name.isupper()}
        return names.get(code, "")


class Message:
    """What the service's messages have in common.

    A field that is not set holds None; a getter then gives an empty value.

    Example:
        >>> request = SendMessageRequest()
        >>> request.set_application_key("alice")
    """

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = ()
    _required: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.Clear()

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self._set_fields().items())
        return f"{type(self).__name__}({told})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message) or type(other) is not type(self):
            return NotImplemented
        return self._set_fields() == other._set_fields()

    __hash__ = None  # type: ignore[assignment]  # a message changes

    def IsInitialized(self, errors: list[str] | None = None) -> bool:
        """Whether every required field is set.

        Args:
            errors: Takes a line for each field that is missing.
        """
        missing = [name for name in self._required if getattr(self, f"_{name}") is None]
        if errors is not None:
            errors.extend(f"Required field: {name} not set." for name in missing)
        return not missing

    def ByteSize(self) -> int:
        """The size on the wire, in bytes."""
        return 0

    def Clear(self) -> None:
        """Unset every field."""
        for name in self._fields:
            setattr(self, f"_{name}", None)

    def _set_fields(self) -> dict[str, str | int]:
        values = {name: getattr(self, f"_{name}") for name in self._fields}
        return {name: value for name, value in values.items() if value is not None}


class CreateChannelRequest(Message):
    """Asks for a token."""

    __slots__ = (
        "_application_key",
        "_duration_minutes",
    )
    _fields = (
        "application_key",
        "duration_minutes",
    )
    _required = ("application_key",)

    def __init__(
        self, application_key: str | None = None, duration_minutes: int | None = None
    ) -> None:
        self._application_key: str | None = (
            application_key
            if application_key is None or type(application_key) is str
            else _text("application_key", application_key)
        )
        self._duration_minutes: int | None = (
            None if duration_minutes is None else _number("duration_minutes", duration_minutes)
        )

    def IsInitialized(self, errors: list[str] | None = None) -> bool:
        """Whether the client id is set; a line in `errors` says if it is not."""
        return self._application_key is not None or super().IsInitialized(errors)

    def ByteSize(self) -> int:
        """The size on the wire, in bytes."""
        minutes = self._duration_minutes
        number = 0 if minutes is None else 1 + _varint_size(minutes)
        return _text_size(self._application_key) + number

    def application_key(self) -> str:
        """The client id; empty when not set."""
        return "" if self._application_key is None else self._application_key

    def set_application_key(self, value: str) -> None:
        """Set the client id."""
        self._application_key = _text("application_key", value)

    def has_application_key(self) -> bool:
        """Whether the client id is set."""
        return self._application_key is not None

    def clear_application_key(self) -> None:
        """Unset the client id."""
        self._application_key = None

    def duration_minutes(self) -> int:
        """How long the token lasts, in minutes; 0 when not set."""
        return 0 if self._duration_minutes is None else self._duration_minutes

    def set_duration_minutes(self, value: int) -> None:
        """Set how long the token lasts, in minutes."""
        self._duration_minutes = _number("duration_minutes", value)

    def has_duration_minutes(self) -> bool:
        """Whether how long the token lasts, in minutes is set."""
        return self._duration_minutes is not None

    def clear_duration_minutes(self) -> None:
        """Unset how long the token lasts, in minutes."""
        self._duration_minutes = None


class CreateChannelResponse(Message):
    """Brings the token."""

    __slots__ = ("_token",)
    _fields = ("token",)

    def __init__(self, token: str | None = None) -> None:
        self._token: str | None = (
            token if token is None or type(token) is str else _text("token", token)
        )

    def ByteSize(self) -> int:
        """The size on the wire, in bytes."""
        return _text_size(self._token)

    def token(self) -> str:
        """The token; empty when not set."""
        return "" if self._token is None else self._token

    def set_token(self, value: str) -> None:
        """Set the token."""
        self._token = _text("token", value)

    def has_token(self) -> bool:
        """Whether the token is set."""
        return self._token is not None

    def clear_token(self) -> None:
        """Unset the token."""
        self._token = None


class SendMessageRequest(Message):
    """Sends a message to a client."""

    __slots__ = (
        "_application_key",
        "_message",
    )
    _fields = (
        "application_key",
        "message",
    )
    _required = (
        "application_key",
        "message",
    )

    def __init__(self, application_key: str | None = None, message: str | None = None) -> None:
        self._application_key: str | None = (
            application_key
            if application_key is None or type(application_key) is str
            else _text("application_key", application_key)
        )
        self._message: str | None = (
            message if message is None or type(message) is str else _text("message", message)
        )

    def IsInitialized(self, errors: list[str] | None = None) -> bool:
        """Whether both fields are set; a line in `errors` for each that is not."""
        if self._application_key is not None and self._message is not None:
            return True
        return super().IsInitialized(errors)

    def ByteSize(self) -> int:
        """The size on the wire, in bytes."""
        key, message = self._application_key, self._message
        if key and message and key.isascii() and message.isascii():
            size = len(key) + len(message)
            if size < _TWO_BYTES:  # as most are
                return size + 4
        return _text_size(key) + _text_size(message)

    def application_key(self) -> str:
        """The client id or token; empty when not set."""
        return "" if self._application_key is None else self._application_key

    def set_application_key(self, value: str) -> None:
        """Set the client id or token."""
        self._application_key = _text("application_key", value)

    def has_application_key(self) -> bool:
        """Whether the client id or token is set."""
        return self._application_key is not None

    def clear_application_key(self) -> None:
        """Unset the client id or token."""
        self._application_key = None

    def message(self) -> str:
        """The message; empty when not set."""
        return "" if self._message is None else self._message

    def set_message(self, value: str) -> None:
        """Set the message."""
        self._message = _text("message", value)

    def has_message(self) -> bool:
        """Whether the message is set."""
        return self._message is not None

    def clear_message(self) -> None:
        """Unset the message."""
        self._message = None


class VoidProto(Message):
    """The answer to a call that has nothing to say."""

    __slots__ = ()


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        message = f"{name} is {shown(value)}, of type {type(value).__name__}: pass a str"
        raise TypeError(message)
    return value


def _number(name: str, value: object) -> int:
    if not isinstance(value, int):
        message = f"{name} is {shown(value)}, of type {type(value).__name__}: pass an int"
        raise TypeError(message)
    if not -_INT32 <= value < _INT32:
        message = f"{name} is {shown(value)}: pass a number that 32 bits hold"
        raise ValueError(message)
    return value


def _text_size(value: str | None) -> int:
    """A tag of one byte, the length, and that many bytes."""
    if value is None:
        return 0
    size = len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
    return size + (2 if size < _TWO_BYTES else 1 + _varint_size(size))


def _varint_size(value: int) -> int:
    """Seven bits a byte; a negative number fills all ten."""
    return 10 if value < 0 else max(1, (value.bit_length() + 6) // 7)
