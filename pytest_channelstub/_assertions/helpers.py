"""The assert_ helpers: what was sent, queued or dropped, and who is connected."""

from __future__ import annotations

import warnings
from itertools import islice
from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING

from pytest_channelstub import _tokens
from pytest_channelstub._assertions import messages
from pytest_channelstub._assertions.diff import show
from pytest_channelstub._record.formatting import describe_type, shorten_repr
from pytest_channelstub._record.frames import hide_frame
from pytest_channelstub._record.matching import ANY, _Any, is_json, is_misspelt, matches, read_json
from pytest_channelstub._record.outcomes import client_id_of
from pytest_channelstub._tokens import text_or_none

if TYPE_CHECKING:
    from pytest_channelstub._record.timeline import Kind, Timeline
    from pytest_channelstub._service.stub import ChannelServiceStub

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

# Beside what has no == of its own.
_EQUAL_NO_MESSAGE = (set, frozenset, MethodType, BuiltinMethodType)


def assert_queued(stub: ChannelServiceStub, to: str | bytes, *expected: object) -> None:
    """Assert that exactly these messages are pending for a client, in this order.

    Example:
        >>> assert_queued(channel_stub, "alice", {"text": "hi"}, re.compile("^bye"))

    Args:
        stub: The stub.
        to: A client id or a token.
        expected: A string is the message itself. A dict, list, number, bool or None is
            compared with the message read as JSON. A compiled pattern is searched in it.
            Anything else decides by its own `==`. With none given, nothing may be pending;
            a client id of which nothing is known gives a warning if it resembles another.

    Raises:
        AssertionError: Others are pending, or in another order; its text says why.
        TypeError: `stub` is not a stub, `to` is not text, or a value of `expected` equals no
            message, such as a function.
    """
    address = _check_client("assert_queued(channel_stub, {}, ...)", stub, to)
    _check_expected(*expected)
    client_id = client_id_of(address)
    pending = stub.pending(address) or ()
    if len(pending) != len(expected) or not all(map(matches, expected, pending)):
        raise AssertionError(messages.queued(stub, address, pending, expected))
    stub.timeline._acknowledge(_last_sent(stub.timeline, client_id, len(pending)))
    if not expected:
        _warn_of_unknown(stub, client_id)


def assert_sent(
    stub: ChannelServiceStub, to: str | bytes | _Any, expected: object, *, count: int | None = None
) -> None:
    """Assert that a message reached a client's queue, read since or not.

    A dropped message does not count: `assert_dropped` is for those.

    Example:
        >>> assert_sent(channel_stub, "alice", {"text": "hi"}, count=2)

    Args:
        stub: The stub.
        to: A client id or a token; `ANY` for anybody.
        expected: As for `assert_queued`.
        count: How many times exactly; at least once by default.

    Raises:
        AssertionError: It was not, or not so many times; its text says why.
        TypeError: `stub` is not a stub, `to` is not text, `expected` equals no message, or
            `count` is not a whole number.
        ValueError: `count` is below 0.
    """
    _check_count(count)
    address = _check_address("assert_sent(channel_stub, {}, ...)", stub, to)
    _check_expected(expected)
    found = _find_messages(stub, address, expected, ("send",))
    is_never_sent = isinstance(expected, (bytes, bytearray))
    if is_never_sent or not (found if count is None else len(found) == count):
        raise AssertionError(messages.sent(stub, address, expected, count, found))
    stub.timeline._acknowledge(found)
    if address is not None and not found:
        _warn_of_unknown(stub, client_id_of(address))


def assert_not_sent(
    stub: ChannelServiceStub, to: str | bytes | _Any = ANY, expected: object = ANY
) -> None:
    """Assert that nothing, or nothing like it, was sent to a client, queued or dropped.

    Example:
        >>> assert_not_sent(channel_stub, "bob", {"secret": 1})

    Args:
        stub: The stub.
        to: A client id or a token; anybody by default. A client id of which nothing is
            known gives a warning if it resembles another.
        expected: As for `assert_queued`; by default every message.

    Raises:
        AssertionError: It was sent, and the text says when, and what became of it; or
            `expected` is bytes, which no message is.
        TypeError: `stub` is not a stub, `to` is not text, or `expected` equals no message.
    """
    address = _check_address("assert_not_sent(channel_stub, {}, ...)", stub, to)
    _check_expected(expected)
    found = _find_messages(stub, address, expected, ("send", "drop"))
    if found or isinstance(expected, (bytes, bytearray)):
        raise AssertionError(messages.not_sent(stub, address, expected, found))
    if address is not None:
        _warn_of_unknown(stub, client_id_of(address))
    value = read_json(expected) if isinstance(expected, str) else None
    if isinstance(value, (dict, list)):
        for index in _find_messages(stub, address, value, ("send", "drop"))[:1]:
            text = (
                f"{show(stub.timeline[index].message)} was sent, which is the same JSON as "
                f"{show(expected)}, written differently: pass a {type(value).__name__} to find it"
            )
            warnings.warn(text, stacklevel=2)


def assert_dropped(
    stub: ChannelServiceStub, to: str | bytes | _Any, expected: object = ANY
) -> None:
    """Assert that a message was sent while the client was not connected.

    Example:
        >>> assert_dropped(channel_stub, "alice", "too early")

    Args:
        stub: The stub.
        to: A client id or a token; `ANY` for anybody. A message sent to an expired token
            is found under that token.
        expected: As for `assert_queued`; by default every message.

    Raises:
        AssertionError: No such message was dropped; the text says what became of it instead.
        TypeError: `stub` is not a stub, `to` is not text, or `expected` equals no message.
    """
    address = _check_address("assert_dropped(channel_stub, {}, ...)", stub, to)
    _check_expected(expected)
    found = _find_messages(stub, address, expected, ("drop",))
    if not found:
        raise AssertionError(messages.dropped(stub, address, expected))
    stub.timeline._acknowledge(found)


def assert_connected(stub: ChannelServiceStub, to: str | bytes) -> None:
    """Assert that a client is connected now.

    Example:
        >>> assert_connected(channel_stub, "alice")

    Args:
        stub: The stub.
        to: A client id or a token.

    Raises:
        AssertionError: It is not connected; the text says since when, and why.
        TypeError: `stub` is not a stub, or `to` is not text.
    """
    address = _check_client("assert_connected(channel_stub, {})", stub, to)
    if not stub.is_connected(address):
        raise AssertionError(messages.connected(stub, address))


def assert_disconnected(stub: ChannelServiceStub, to: str | bytes) -> None:
    """Assert that a client is not connected now.

    Example:
        >>> assert_disconnected(channel_stub, "alice")

    Args:
        stub: The stub.
        to: A client id or a token. A client id of which nothing is known gives a warning
            if it resembles another.

    Raises:
        AssertionError: It is connected; the text says since when.
        TypeError: `stub` is not a stub, or `to` is not text.
    """
    address = _check_client("assert_disconnected(channel_stub, {})", stub, to)
    if stub.is_connected(address):
        raise AssertionError(messages.disconnected(stub, address))
    _warn_of_unknown(stub, client_id_of(address))


def assert_token_valid(
    stub: ChannelServiceStub, token: str | bytes, client_id: str | bytes | None = None
) -> None:
    """Assert that a client can connect with this token now.

    Example:
        >>> assert_token_valid(channel_stub, token, "alice")

    Args:
        stub: The stub.
        token: What `create_channel` returned.
        client_id: Whose token it is, by client id or another token; None for anybody's.

    Raises:
        AssertionError: It is not a token, it is expired, or it is another client's.
        TypeError: `stub` is not a stub, or `client_id` is not text.
    """
    _check_stub("assert_token_valid(channel_stub, token)", stub)
    name = None if client_id is None else text_or_none(client_id)
    if client_id is not None and name is None:
        instead = "the client id whose token it is, or None for anybody's"
        raise TypeError(describe_type("client_id", client_id, instead))
    try:
        whose = stub.validate_token_and_extract_client_id(token)
    except _tokens.Error:
        whose = None
    text = text_or_none(token)
    if whose is None:
        raise AssertionError(messages.token(stub, text or token, is_valid=False))
    if name is not None and client_id_of(name) != whose:
        raise AssertionError(messages.token_of_another(stub, text, name, whose))


def assert_token_expired(stub: ChannelServiceStub, token: str | bytes) -> None:
    """Assert that this is a token, and that it has expired.

    Example:
        >>> assert_token_expired(channel_stub, token)

    Args:
        stub: The stub.
        token: What `create_channel` returned.

    Raises:
        AssertionError: It is still valid, or it is not a token.
        TypeError: `stub` is not a stub.
    """
    _check_stub("assert_token_expired(channel_stub, token)", stub)
    try:
        stub.validate_token_and_extract_client_id(token)
    except _tokens.TokenTimedOutError:
        return
    except _tokens.Error:
        pass
    raise AssertionError(messages.token(stub, text_or_none(token) or token, is_valid=True))


def _check_stub(use: str, stub: ChannelServiceStub) -> None:
    """Refuse a first argument that is no stub."""
    if not hasattr(stub, "timeline"):
        instead = f"the stub, as in {use.format(_example(stub))}"
        raise TypeError(describe_type("the first argument", stub, instead))


def _check_address(use: str, stub: ChannelServiceStub, to: str | bytes | _Any) -> str | None:
    """The client id or token that a helper was given, as text; None for `ANY`."""
    _check_stub(use, stub)
    return None if to is ANY else _check_client(use, stub, to)


def _check_client(use: str, stub: ChannelServiceStub, to: object) -> str:
    """The client id or token that a helper was given, as text."""
    _check_stub(use, stub)
    text = text_or_none(to)
    if text is None:
        what = "its client_id" if hasattr(to, "client_id") else "a client id or a token"
        if isinstance(to, bytes):
            what = f"{what}; these bytes are not UTF-8"
        raise TypeError(describe_type("to", to, f"{what}, as in {use.format(_example(to))}"))
    return text


def _check_expected(*values: object) -> None:
    """Refuse a value that equals no message: an assertion that nothing is sent would hold."""
    for value in values:
        has_no_equality = type(value).__eq__ is object.__eq__ and not is_json(value)
        if has_no_equality or isinstance(value, _EQUAL_NO_MESSAGE):
            instead = (
                "a string, a value of JSON, a compiled pattern, or an object with an == of its "
                "own, such as one of dirty_equals"
            )
            raise TypeError(describe_type("expected", value, instead))


def _check_count(count: int | None) -> None:
    if count is None:
        return
    if isinstance(count, bool) or not isinstance(count, int):
        instead = "a whole number, or None for at least once"
        raise TypeError(describe_type("count", count, instead))
    if count < 0:
        message = f"count is {shorten_repr(count)}: pass how many times it was sent, at least 0"
        raise ValueError(message)


def _example(value: object) -> str:
    return "alice.client_id" if hasattr(value, "client_id") else "'alice'"


def _find_messages(
    stub: ChannelServiceStub, to: str | None, expected: object, kinds: tuple[Kind, ...]
) -> list[int]:
    """Indexes of the events of messages that match."""
    stub._touch()  # so that what is due by now is on the timeline
    addresses = None if to is None else (to, client_id_of(to))
    return [
        index
        for index, row in enumerate(stub.timeline._rows.copy())
        if row.kind in kinds
        and (addresses is None or row.client_id in addresses)
        and matches(expected, row.message or "")
    ]


def _last_sent(timeline: Timeline, client_id: str, count: int) -> list[int]:
    """A queue is first in, first out: what is pending was sent last."""
    rows = timeline._rows.copy()
    sent = (
        index
        for index in reversed(range(len(rows)))
        if rows[index].kind == "send" and rows[index].client_id == client_id
    )
    return list(islice(sent, count))


def _warn_of_unknown(stub: ChannelServiceStub, client_id: str) -> None:
    """Warn, at the test's line, of an assertion that holds for a misspelt client id."""
    rows = stub.timeline._rows.copy()
    if any(row.client_id == client_id for row in rows):
        return
    if any(row.message == client_id for row in rows if row.kind in ("send", "drop")):
        text = (
            f"{client_id!r} is a message that was sent, and no client is named so, so that this "
            "holds: pass the client id, or ANY, and then the message"
        )
        warnings.warn(text, stacklevel=3)
        return
    known = {row.client_id for row in rows if row.client_id} | {*stub.connected_client_ids}
    meant = next((each for each in sorted(known) if is_misspelt(client_id, each)), None)
    if meant is not None and client_id not in known:
        text = (
            f"nothing is known of client id {client_id!r} in this test, so that this holds: "
            f"is {meant!r} meant?"
        )
        warnings.warn(text, stacklevel=3)
