"""The service's two requests, its response and its error codes.

They have the accessors of the SDK's protocol buffers, and no wire format: nothing
leaves the process.
"""

from __future__ import annotations

from typing import ClassVar, cast

from typing_extensions import Self


class ChannelServiceError:
    """The codes that an `ApplicationError` of this service carries."""

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

    Example:
        >>> request = SendMessageRequest(application_key="alice", message="hello")

    Args:
        **fields: Values to set at once.

    Raises:
        TypeError: A field is unknown, or a value has the wrong type.
    """

    __slots__ = ("_values",)
    _types: ClassVar[dict[str, type]] = {}
    _required: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **fields: str | int) -> None:
        self._values: dict[str, str | int] = {}
        for name, value in fields.items():
            self._set(name, value)

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self._values.items())
        return f"{type(self).__name__}({told})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message) or type(other) is not type(self):
            return NotImplemented
        return self._values == other._values

    __hash__ = None  # type: ignore[assignment]  # a message changes

    def IsInitialized(self, errors: list[str] | None = None) -> bool:
        """Whether every required field is set.

        Args:
            errors: Takes a line for each field that is missing.
        """
        missing = [name for name in self._required if name not in self._values]
        if errors is not None:
            errors.extend(f"Required field: {name} not set." for name in missing)
        return not missing

    def ByteSize(self) -> int:
        """The size on the wire, in bytes."""
        return sum([_field_size(value) for value in self._values.values()])

    def Clear(self) -> None:
        """Unset every field."""
        self._values.clear()

    def CopyFrom(self, other: Self) -> None:  # noqa: N802 (the SDK's name)
        """Take over every field of `other`, and no other."""
        self._values = dict(other._values)

    def _set(self, name: str, value: object) -> None:
        kind = self._types.get(name)
        if kind is None or not isinstance(value, kind):
            message = (
                f"{type(self).__name__} has no field {name!r}: it has {', '.join(self._types)}"
                if kind is None
                else f"{name} is {value!r}, of type {type(value).__name__}: pass {kind.__name__}"
            )
            raise TypeError(message)
        self._values[name] = cast("str | int", value)

    def _text(self, name: str) -> str:
        return cast("str", self._values.get(name, ""))


class CreateChannelRequest(Message):
    """Asks for a token: `application_key`, the client id, and `duration_minutes`."""

    __slots__ = ()
    _types: ClassVar[dict[str, type]] = {"application_key": str, "duration_minutes": int}
    _required = ("application_key",)

    def application_key(self) -> str:
        """The client id."""
        return self._text("application_key")

    def set_application_key(self, value: str) -> None:
        """Set the client id."""
        self._set("application_key", value)

    def has_application_key(self) -> bool:
        """Whether the client id is set."""
        return "application_key" in self._values

    def clear_application_key(self) -> None:
        """Unset the client id."""
        self._values.pop("application_key", None)

    def duration_minutes(self) -> int:
        """How long the token lasts, in minutes; 0 when not set."""
        return cast("int", self._values.get("duration_minutes", 0))

    def set_duration_minutes(self, value: int) -> None:
        """Set how long the token lasts, in minutes."""
        self._set("duration_minutes", value)

    def has_duration_minutes(self) -> bool:
        """Whether a duration is set."""
        return "duration_minutes" in self._values

    def clear_duration_minutes(self) -> None:
        """Unset the duration: the service's default holds."""
        self._values.pop("duration_minutes", None)


class CreateChannelResponse(Message):
    """Brings the `token`."""

    __slots__ = ()
    _types: ClassVar[dict[str, type]] = {"token": str}

    def token(self) -> str:
        """The token; empty when not set."""
        return self._text("token")

    def set_token(self, value: str) -> None:
        """Set the token."""
        self._set("token", value)

    def has_token(self) -> bool:
        """Whether the token is set."""
        return "token" in self._values

    def clear_token(self) -> None:
        """Unset the token."""
        self._values.pop("token", None)


class SendMessageRequest(Message):
    """Sends `message` to `application_key`, a client id or a token."""

    __slots__ = ()
    _types: ClassVar[dict[str, type]] = {"application_key": str, "message": str}
    _required = ("application_key", "message")

    def application_key(self) -> str:
        """The client id or token."""
        return self._text("application_key")

    def set_application_key(self, value: str) -> None:
        """Set the client id or token."""
        self._set("application_key", value)

    def has_application_key(self) -> bool:
        """Whether the client id or token is set."""
        return "application_key" in self._values

    def clear_application_key(self) -> None:
        """Unset the client id or token."""
        self._values.pop("application_key", None)

    def message(self) -> str:
        """The message; empty when not set."""
        return self._text("message")

    def set_message(self, value: str) -> None:
        """Set the message."""
        self._set("message", value)

    def has_message(self) -> bool:
        """Whether the message is set."""
        return "message" in self._values

    def clear_message(self) -> None:
        """Unset the message."""
        self._values.pop("message", None)


class VoidProto(Message):
    """The answer to a call that has nothing to say."""

    __slots__ = ()


def _field_size(value: str | int) -> int:
    """A tag of one byte, then a number, or a length and that many bytes of text."""
    if isinstance(value, str):
        size = len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
        return 1 + _number_size(size) + size
    return 1 + _number_size(value)


def _number_size(value: int) -> int:
    """Seven bits a byte; a negative number fills all ten."""
    return 10 if value < 0 else max(1, (value.bit_length() + 6) // 7)
