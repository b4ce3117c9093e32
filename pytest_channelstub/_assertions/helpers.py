"""The assert_ helpers: what was sent, queued or dropped, and who is connected."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from pytest_channelstub import _tokens as tokens
from pytest_channelstub._assertions import messages as failures
from pytest_channelstub._record.diagnosis import client_id_of
from pytest_channelstub._record.formatting import hide_frame, shorten_repr
from pytest_channelstub._record.matching import ANY, matches

if TYPE_CHECKING:
    from pytest_channelstub._record.timeline import Timeline
    from pytest_channelstub._service.stub import ChannelServiceStub

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

__all__ = [
    "ANY",
    "assert_connected",
    "assert_disconnected",
    "assert_dropped",
    "assert_not_sent",
    "assert_queued",
    "assert_sent",
    "assert_token_expired",
    "assert_token_valid",
]


def assert_queued(stub: ChannelServiceStub, to: str, *expected: object) -> None:
    """Exactly these messages are pending for a client, in this order.

    Example:
        >>> assert_queued(channel_stub, "alice", {"text": "hi"}, re.compile("^bye"))

    Args:
        stub: The service.
        to: A client id or a token.
        expected: A string is the message itself. A dict, list, number, bool or None is
            compared with the message read as JSON. A compiled pattern is searched in it.
            Anything else decides by its own `==`. With none given, nothing may be pending.

    Raises:
        AssertionError: Others are pending, or in another order; its text says why.
        TypeError: `stub` is no stub, or `to` no string.
    """
    client_id = _client_id("assert_queued(channel_stub, {}, ...)", stub, to)
    pending = stub.pending(client_id) or ()
    if len(pending) != len(expected) or not all(map(matches, expected, pending)):
        raise AssertionError(failures.queued(stub, to, pending, expected))
    for index in _last_sent(stub.timeline, client_id, len(pending)):
        stub.timeline._acknowledge(index)


def assert_sent(
    stub: ChannelServiceStub, to: str, expected: object, *, count: int | None = None
) -> None:
    """A message reached a client's queue; whether it was read since does not matter.

    One that was dropped does not count: `assert_dropped` is for those.

    Example:
        >>> assert_sent(channel_stub, "alice", {"text": "hi"}, count=2)

    Args:
        stub: The service.
        to: A client id or a token.
        expected: As for `assert_queued`.
        count: How many times exactly; at least once by default.

    Raises:
        AssertionError: It was not, or not so many times; its text says why.
        TypeError: `stub` is no stub, `to` no string, or `count` no whole number.
        ValueError: `count` is below 0.
    """
    _check_count(count)
    found = _indexes("assert_sent(channel_stub, {}, ...)", stub, to, expected, ("send",))
    if not (found if count is None else len(found) == count):
        raise AssertionError(failures.sent(stub, to, expected, count, found))


def assert_not_sent(stub: ChannelServiceStub, to: str, expected: object = ANY) -> None:
    """Nothing, or nothing like it, was sent to a client: neither queued nor dropped.

    Example:
        >>> assert_not_sent(channel_stub, "bob", {"secret": 1})

    Args:
        stub: The service.
        to: A client id or a token.
        expected: As for `assert_queued`; by default every message.

    Raises:
        AssertionError: It was; its text says when, and what became of it.
        TypeError: `stub` is no stub, or `to` no string.
    """
    found = _indexes("assert_not_sent(channel_stub, {}, ...)", stub, to, expected, ("send", "drop"))
    if found:
        raise AssertionError(failures.not_sent(stub, to, expected, found))


def assert_dropped(stub: ChannelServiceStub, to: str, expected: object = ANY) -> None:
    """A message was sent while the client was not connected, and so reached nobody.

    Example:
        >>> assert_dropped(channel_stub, "alice", "too early")

    Args:
        stub: The service.
        to: A client id or a token. A message sent to a token after its end is found
            under that token.
        expected: As for `assert_queued`; by default every message.

    Raises:
        AssertionError: None was; its text says what became of it instead.
        TypeError: `stub` is no stub, or `to` no string.
    """
    found = _indexes("assert_dropped(channel_stub, {}, ...)", stub, to, expected, ("drop",))
    if not found:
        raise AssertionError(failures.dropped(stub, to, expected))
    for index in found:
        stub.timeline._acknowledge(index)


def assert_connected(stub: ChannelServiceStub, to: str) -> None:
    """A client is connected now.

    Example:
        >>> assert_connected(channel_stub, "alice")

    Args:
        stub: The service.
        to: A client id or a token.

    Raises:
        AssertionError: It is not; its text says since when, and why.
        TypeError: `stub` is no stub, or `to` no string.
    """
    client_id = _client_id("assert_connected(channel_stub, {})", stub, to)
    if not stub.is_connected(client_id):
        raise AssertionError(failures.connected(stub, to))


def assert_disconnected(stub: ChannelServiceStub, to: str) -> None:
    """A client is not connected now, or never was.

    Example:
        >>> assert_disconnected(channel_stub, "alice")

    Args:
        stub: The service.
        to: A client id or a token.

    Raises:
        AssertionError: It is connected; its text says since when.
        TypeError: `stub` is no stub, or `to` no string.
    """
    client_id = _client_id("assert_disconnected(channel_stub, {})", stub, to)
    if stub.is_connected(client_id):
        raise AssertionError(failures.disconnected(stub, to))


def assert_token_valid(stub: ChannelServiceStub, token: str, client_id: str | None = None) -> None:
    """A client may connect with this token now.

    Example:
        >>> assert_token_valid(channel_stub, token, "alice")

    Args:
        stub: The service.
        token: What `create_channel` returned.
        client_id: Whose token it is; None for anybody's.

    Raises:
        AssertionError: It is no token, its time is over, or it is another client's.
        TypeError: `stub` is no stub, or `client_id` no string.
    """
    _check_stub("assert_token_valid(channel_stub, token)", stub)
    if client_id is not None and not isinstance(client_id, str):
        message = (
            f"client_id is {shorten_repr(client_id)}, of type {type(client_id).__name__}: "
            "pass the client id whose token it is, or None for anybody's"
        )
        raise TypeError(message)
    try:
        whose = stub.validate_token_and_extract_client_id(token)
    except tokens.Error:
        whose = None
    if whose is None or client_id not in (None, whose):
        raise AssertionError(failures.token_valid(stub, token, client_id, whose))


def assert_token_expired(stub: ChannelServiceStub, token: str) -> None:
    """This is a token, and its time is over.

    Example:
        >>> assert_token_expired(channel_stub, token)

    Args:
        stub: The service.
        token: What `create_channel` returned.

    Raises:
        AssertionError: It is still valid, or no token.
        TypeError: `stub` is no stub.
    """
    _check_stub("assert_token_expired(channel_stub, token)", stub)
    try:
        stub.validate_token_and_extract_client_id(token)
    except tokens.TokenTimedOutError:
        return
    except tokens.Error:
        pass
    raise AssertionError(failures.token_expired(stub, token))


def _check_stub(use: str, stub: ChannelServiceStub) -> None:
    """Refuse a first argument that is no stub.

    Args:
        use: How the helper is called, with a gap where the client is named.
        stub: The argument.
    """
    if not hasattr(stub, "timeline"):
        message = (
            f"the first argument is {shorten_repr(stub)}, of type {type(stub).__name__}: "
            f"pass the stub, as in {use.format(_example(stub))}"
        )
        raise TypeError(message)


def _client_id(use: str, stub: ChannelServiceStub, to: str) -> str:
    _check_stub(use, stub)
    if not isinstance(to, str):
        what = "its client_id" if hasattr(to, "client_id") else "a client id or a token"
        message = (
            f"to is {shorten_repr(to)}, of type {type(to).__name__}: "
            f"pass {what}, as in {use.format(_example(to))}"
        )
        raise TypeError(message)
    return client_id_of(to)


def _check_count(count: int | None) -> None:
    if count is None:
        return
    if isinstance(count, bool) or not isinstance(count, int):
        message = (
            f"count is {shorten_repr(count)}, of type {type(count).__name__}: "
            "pass a whole number, or None for at least once"
        )
        raise TypeError(message)
    if count < 0:
        message = f"count is {shorten_repr(count)}: pass how many times it was sent, at least 0"
        raise ValueError(message)


def _example(value: object) -> str:
    return "alice.client_id" if hasattr(value, "client_id") else "'alice'"


def _indexes(
    use: str, stub: ChannelServiceStub, to: str, expected: object, kinds: tuple[str, ...]
) -> list[int]:
    addresses = (to, _client_id(use, stub, to))
    stub.is_connected(to)  # what was due by now has its place on the timeline first
    return [
        index
        for index, event in enumerate(stub.timeline)
        if event.kind in kinds
        and event.client_id in addresses
        and matches(expected, event.message or "")
    ]


def _last_sent(timeline: Timeline, client_id: str, count: int) -> list[int]:
    """A queue is first in, first out: what is pending was sent last."""
    sent = (
        index
        for index in range(len(timeline) - 1, -1, -1)
        if (event := timeline[index]).kind == "send" and event.client_id == client_id
    )
    return list(islice(sent, count))
