"""ChannelClient: a page that listens, without a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from pytest_channelstub import _tokens, channel
from pytest_channelstub._assertions import messages
from pytest_channelstub._record import matching
from pytest_channelstub._record.formatting import (
    describe_type,
    missing_name,
    plural,
    shorten_repr,
)
from pytest_channelstub._record.frames import hide_frame

if TYPE_CHECKING:
    from typing import Self

    from pytest_channelstub._service.stub import ChannelServiceStub, Lease

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

# What a test may look for on a client, and where it is.
_INSTEAD = {
    "send": "channel.send_message(client_id, message): a client only receives",
    "send_message": "channel.send_message(client_id, message): a client only receives",
    "read": "receive()",
    "pop": "receive()",
    "pop_first_message": "receive()",
    "get_channel_messages": "messages",
    "is_connected": "connected",
    "disconnect": "close()",
    "pending": "messages",
}


class ChannelClient:
    """Connects with a token, and reads what comes, as a page does.

    Example:
        >>> alice = ChannelClient(stub, channel.create_channel("alice"))
        >>> channel.send_message("alice", "hello")
        >>> alice.receive()
        'hello'

    Args:
        stub: The stub.
        token: What `create_channel` returned.
        keep_alive: Whether the client stays connected while time passes, as an open page
            does, until its token expires. Without, it times out after two seconds without
            a poll, as with the SDK's stub.

    Raises:
        TypeError: `stub` is not a stub.
        InvalidTokenError: It is not a token.
        TokenTimedOutError: The token has expired.

    Attributes:
        token: As given.
        client_id: Whose token it is.
        received: All messages read so far.
    """

    def __init__(
        self, stub: ChannelServiceStub, token: str | bytes, *, keep_alive: bool = False
    ) -> None:
        if not hasattr(stub, "validate_token_and_extract_client_id"):
            raise TypeError(
                f"the stub is {shorten_repr(stub)}, of type {type(stub).__name__}: pass the stub "
                "first, and the token second, as in ChannelClient(channel_stub, token)"
            )
        self.client_id: str = stub.validate_token_and_extract_client_id(token)
        self.token: str = _tokens.to_text(token)
        self.received: list[str] = []
        self._stub = stub
        self._closed = False
        self._lost: list[str] = []  # by its close; for the text of a failure alone
        self._lease: Lease | None = None
        try:
            if keep_alive:
                self._lease = stub._keep_alive(token)
            stub.connect_channel(token)
        except BaseException:
            self._end_lease()
            raise

    def __repr__(self) -> str:
        state = "closed" if self._closed else "connected" if self.connected else "disconnected"
        counts = f"{len(self.messages)} pending, {len(self.received)} received"
        return f"<ChannelClient {self.client_id!r}, {state}, {counts}>"

    if not TYPE_CHECKING:  # for a type checker every name would be one of a client

        def __getattr__(self, name: str) -> NoReturn:
            raise missing_name(self, name, _INSTEAD)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether the client is connected now."""
        return not self._closed and self._stub.is_connected(self.client_id)

    @property
    def messages(self) -> list[str]:
        """The pending messages, oldest first; empty while not connected."""
        return [] if self._closed else list(self._stub.pending(self.client_id) or ())

    def poll(self) -> str | None:
        """Take the first message, and keep the connection alive, as a page's poll does.

        It connects a client that was disconnected again.

        Returns:
            The message; None for no message.

        Raises:
            TokenTimedOutError: The token has expired.
            RuntimeError: The client was closed.
        """
        if self._closed:
            raise RuntimeError(self._describe_closed())
        return self._stub._poll(self.token, "client", received=self.received)

    def receive(self) -> str:
        """Take the next message.

        Returns:
            The message.

        Raises:
            AssertionError: No message is pending; the text says why.
            TokenTimedOutError: The token has expired, and the client is still connected.
        """
        message = self.poll() if self.connected else None
        if message is None:
            raise AssertionError(self._explain_nothing())
        return message

    def receive_json(self) -> Any:
        """Take the next message, and read it as JSON.

        Returns:
            What `json.loads` makes of it, as a page's `JSON.parse` would.

        Raises:
            AssertionError: No message is pending, or it is not JSON. One that is not JSON
                is taken anyway, and is the last of `received`.
            TokenTimedOutError: As `receive`.
        """
        message = self.receive()
        value = matching.read_json(message)
        if not isinstance(value, matching.NotJson):
            return value
        raise AssertionError(messages.not_json(self.client_id, message, value.reason))

    def receive_all(self) -> list[str]:
        """Take all pending messages, oldest first; none while not connected.

        Raises:
            TokenTimedOutError: As `receive`.
        """
        received: list[str] = []
        while self.messages and (message := self.poll()) is not None:
            received.append(message)
        return received

    def close(self) -> None:
        """Leave, as a page does when it is closed; the app hears of it at once.

        Nothing happens if the client is not connected, or was closed before.
        """
        if not self._closed:
            self._lost = self.messages
            self._stub._leave(self)

    def _end_lease(self) -> None:
        """Keep the connection alive no longer; it ends two seconds from now."""
        if self._lease is not None:
            self._lease.end()

    def _describe_closed(self) -> str:
        return f"the client of {self.client_id!r} is closed: open another to read on"

    def _explain_nothing(self) -> str:
        sent = [each.kind for each in self._stub.timeline.of(self.client_id) if each.message]
        if self._closed and not self._lost and sent[-1:] != ["drop"]:
            return self._describe_closed()
        return messages.nothing_to_receive(self._stub, self.client_id, self.token)


class Connector:
    """What the fixture `channel_client` gives: called, it connects a client."""

    def __init__(self, stub: ChannelServiceStub) -> None:
        # A failure's traceback keeps its test's clients: on a stub that outlives the test they
        # would keep themselves alive in the next ones, unless their leases end with it.
        self.clients: list[ChannelClient] = []
        self._stub = stub

    def __repr__(self) -> str:
        return f"<channel_client, {plural(len(self.clients), 'client')}>"

    def __call__(
        self, client_id: str | bytes, duration_minutes: int | None = None, keep_alive: bool = False
    ) -> ChannelClient:
        """Create a channel and connect a client to it, as `ConnectClient` has it."""
        if isinstance(duration_minutes, bool):
            instead = "a number of minutes; keep_alive=True has the client stay connected"
            raise TypeError(describe_type("duration_minutes", duration_minutes, instead))
        if _tokens.read(_tokens.text_or_none(client_id) or "") is not None:
            raise ValueError(
                f"{shorten_repr(client_id)} is a token, and channel_client makes one itself: pass "
                "the client id, or connect with the token, as in ChannelClient(channel_stub, token)"
            )
        token = channel._create_channel(self._stub, client_id, duration_minutes)
        self.clients.append(ChannelClient(self._stub, token, keep_alive=keep_alive))
        return self.clients[-1]

    # Errors call it by the name that the test knows.
    __call__.__qualname__ = "channel_client"

    if not TYPE_CHECKING:  # for a type checker every name would be one of this

        def __getattr__(self, name: str) -> NoReturn:
            text = f"the fixture channel_client is a function, and has no {name!r}"
            if name in vars(ChannelClient):
                text += f": call it first, as in channel_client('alice').{name}"
            raise AttributeError(text)


class ConnectClient(Protocol):
    """The type of what the fixture `channel_client` gives.

    Example:
        >>> def test_it(channel_client: ConnectClient) -> None: ...
    """

    def __call__(
        self, client_id: str | bytes, duration_minutes: int | None = None, keep_alive: bool = False
    ) -> ChannelClient:
        """Create a channel and connect a client to it.

        Args:
            client_id: The client id, not a token.
            duration_minutes: How long the token lasts; 120 minutes by default.
            keep_alive: Whether the client stays connected while time passes.

        Raises:
            TypeError: `duration_minutes` is a bool.
            ValueError: `client_id` is a token.
            InvalidChannelClientIdError: The client id is not 1 to 256 UTF-8 bytes.
            InvalidChannelTokenDurationError: The duration is not 1 to 1440 minutes.
        """
