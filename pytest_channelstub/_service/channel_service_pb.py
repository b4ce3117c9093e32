"""The service's two requests, its response and its error codes.

They have the accessors of the SDK's protocol buffers, and no wire format: nothing
leaves the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pytest_channelstub import _tokens
from pytest_channelstub._record.formatting import describe_type, shorten_repr
from pytest_channelstub._record.frames import hide_frame
from pytest_channelstub._tokens import InvalidTokenError

if TYPE_CHECKING:
    from collections.abc import Callable

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

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
        """The name of a code; empty if there is no such code."""
        names = {value: name for name, value in vars(cls).items() if name.isupper()}
        return names.get(code, "")


class Error(Exception):
    """The base of the errors of `pytest_channelstub.channel`."""

    __module__ = "pytest_channelstub.channel"


class InvalidChannelClientIdError(Error):
    """The client id is not text, or too long, or empty."""

    __module__ = "pytest_channelstub.channel"


class InvalidMessageError(Error):
    """The message is not text, or too long, or empty."""

    __module__ = "pytest_channelstub.channel"


_NOT_UTF8 = {"application_key": InvalidChannelClientIdError, "message": InvalidMessageError}


def _add_accessors(cls: type, name: str, kind: type) -> None:
    empty = kind()
    check = _check_text if kind is str else _check_number

    def get(self: Any) -> Any:
        return self._values.get(name, empty)

    def set_(self: Any, value: object) -> None:
        self._values[name] = check(name, value)

    def has(self: Any) -> bool:
        return name in self._values

    def clear(self: Any) -> None:
        self._values.pop(name, None)

    accessors = {"": get, "set_": set_, "has_": has, "clear_": clear}
    for prefix, accessor in accessors.items():
        accessor.__name__ = prefix + name
        accessor.__qualname__ = f"{cls.__name__}.{prefix}{name}"
        setattr(cls, prefix + name, accessor)


def read_text(
    name: str,
    value: object,
    not_utf8: type[Exception],
    not_text: type[Exception] = TypeError,
    instead: str = "a str or its UTF-8 bytes",
) -> str:
    """Read text: a str or its UTF-8 bytes; an error of those types for anything else."""
    try:
        return _tokens.to_text(value)
    except TypeError:
        raise not_text(describe_type(name, value, instead)) from None
    except UnicodeDecodeError:
        message = f"{name} is bytes that are not UTF-8: {shorten_repr(value)}"
        raise not_utf8(message) from None


def _check_text(name: str, value: object) -> str:
    return read_text(name, value, _NOT_UTF8.get(name, InvalidTokenError))


def _check_number(name: str, value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(describe_type(name, value, "an int"))
    if not -_INT32 <= value < _INT32:
        raise ValueError(f"{name} is {shorten_repr(value)}: pass a number that 32 bits hold")
    return value


class ProtocolBuffer:
    """What the service's messages have in common.

    Each field has four accessors: `field()`, `set_field(value)`, `has_field()` and
    `clear_field()`. The getter of a field that is not set gives an empty value.

    Example:
        >>> request = SendMessageRequest()
        >>> request.set_application_key("alice")
    """

    _fields: ClassVar[dict[str, type]] = {}
    _required: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        for name, kind in cls._fields.items():
            _add_accessors(cls, name, kind)

    def __init__(self) -> None:
        self._values: dict[str, str | int] = {}  # of the fields that are set

    def __repr__(self) -> str:
        values = [(name, self._values[name]) for name in self._fields if name in self._values]
        fields = ", ".join(f"{name}={value!r}" for name, value in values)
        return f"{type(self).__name__}({fields})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProtocolBuffer) or type(other) is not type(self):
            return NotImplemented
        return self._values == other._values

    __hash__ = None  # type: ignore[assignment]  # a message changes

    def IsInitialized(self, errors: list[str] | None = None) -> bool:
        """Whether every required field is set."""
        missing = [name for name in self._required if name not in self._values]
        if errors is not None:
            errors.extend(f"Required field: {name} not set." for name in missing)
        return not missing

    def ByteSize(self) -> int:
        """The size on the wire, in bytes."""
        return sum([1 + _size(value) for value in self._values.values()])

    def Clear(self) -> None:
        """Unset every field."""
        self._values.clear()


class CreateChannelRequest(ProtocolBuffer):
    """Asks for a token."""

    _fields = {"application_key": str, "duration_minutes": int}  # noqa: RUF012 (a ClassVar)
    _required = ("application_key",)

    application_key: Callable[[], str]
    set_application_key: Callable[[str | bytes], None]
    has_application_key: Callable[[], bool]
    clear_application_key: Callable[[], None]
    duration_minutes: Callable[[], int]
    set_duration_minutes: Callable[[int], None]
    has_duration_minutes: Callable[[], bool]
    clear_duration_minutes: Callable[[], None]

    def __init__(
        self, application_key: str | bytes | None = None, duration_minutes: int | None = None
    ) -> None:
        super().__init__()
        if application_key is not None:
            self.set_application_key(application_key)
        if duration_minutes is not None:
            self.set_duration_minutes(duration_minutes)


class CreateChannelResponse(ProtocolBuffer):
    """Brings the token."""

    _fields = {"token": str}  # noqa: RUF012 (a ClassVar)

    token: Callable[[], str]
    set_token: Callable[[str | bytes], None]
    has_token: Callable[[], bool]
    clear_token: Callable[[], None]

    def __init__(self, token: str | bytes | None = None) -> None:
        super().__init__()
        if token is not None:
            self.set_token(token)


class SendMessageRequest(ProtocolBuffer):
    """Sends a message to a client."""

    _fields = {"application_key": str, "message": str}  # noqa: RUF012 (a ClassVar)
    _required = ("application_key", "message")

    application_key: Callable[[], str]
    set_application_key: Callable[[str | bytes], None]
    has_application_key: Callable[[], bool]
    clear_application_key: Callable[[], None]
    message: Callable[[], str]
    set_message: Callable[[str | bytes], None]
    has_message: Callable[[], bool]
    clear_message: Callable[[], None]

    def __init__(
        self, application_key: str | bytes | None = None, message: str | bytes | None = None
    ) -> None:
        super().__init__()
        if application_key is not None:
            self.set_application_key(application_key)
        if message is not None:
            self.set_message(message)


class VoidProto(ProtocolBuffer):
    """The answer to a call that has nothing to say."""


def _size(value: str | int) -> int:
    """The size of a field on the wire, without its tag of one byte."""
    if isinstance(value, int):
        return _number_size(value)
    size = len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
    return size + _number_size(size)


def _number_size(value: int) -> int:
    # Seven bits a byte; a negative number fills all ten.
    return 10 if value < 0 else max(1, (value.bit_length() + 6) // 7)
