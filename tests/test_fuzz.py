"""Hostile values everywhere: only the documented errors ever come out.

CHANNELSTUB_LONG=1 tries sixty times as many values.
"""

from __future__ import annotations

import functools
import os
import random
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_channelstub import FakeClock, InvalidTokenError, TokenTimedOutError, channel
from pytest_channelstub._plugin import options as _options
from pytest_channelstub.web import ChannelMiddleware

TIMES = 60 if os.environ.get("CHANNELSTUB_LONG") else 1
MUTATED_TOKENS = 3_000 * TIMES
# No examples are kept on disk, and each run tries the same ones: a red run is never chance.
plainly = settings(
    max_examples=15 * TIMES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# As st.text(), which takes two seconds of a first run to find out which characters UTF-8 has.
text = functools.partial(st.text, st.characters(exclude_categories=["Cs"]))
surrogates_too = st.text(st.characters(codec=None), max_size=300)
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(),
    surrogates_too,
    st.lists(st.integers()),
    st.dictionaries(text(), st.none()),
    st.builds(object),
)


def as_text(value):
    """What comes out where a text went in, or its UTF-8 bytes."""
    return value.decode() if isinstance(value, bytes) else value


RAISING = (
    "validate_token_and_extract_client_id",
    "connect_channel",
    "connect_and_pop_first_message",
)
FORGIVING = (
    "client_id_from_token",
    "get_channel_messages",
    "has_channel_messages",
    "pop_first_message",
    "clear_channel_messages",
)
ODD_PIECES = ("-", "--", "²", "٣", "\ud800", "\x00", "9" * 50, "", " ", "+1", "é", "channel", "-1-")


# What a forger or a bad proxy might do: each takes a token, a place in it, and chance.
MUTATIONS = (
    lambda token, at, chance: token[:at] + chr(chance.randrange(0x11000)) + token[at + 1 :],
    lambda token, at, chance: token[:at] + chance.choice(ODD_PIECES) + token[at:],
    lambda token, at, chance: token[:at] + token[at + chance.randint(1, 9) :],
    lambda token, at, _: token[:at],
    lambda token, at, _: token[at:],
    lambda token, *_: token.swapcase(),
    lambda token, *_: token * 2,
    lambda token, *_: token[::-1],
    lambda token, _, chance: "-".join(chance.sample(pieces := token.split("-"), len(pieces))),
)


def mutated(chance, token):
    for _ in range(chance.randint(1, 3)):
        token = chance.choice(MUTATIONS)(token, chance.randrange(len(token) + 1), chance)
    return token


def test_mutated_tokens_raise_nothing_but_the_two_token_errors(channel_stub):
    chance = random.Random("tokens")
    tokens = [
        channel.create_channel(client_id, minutes)
        for client_id in ("alice", "a-b-c", "日本語", "x" * 256, " ")
        for minutes in (1, 1440)
    ]
    channel_stub.clock.advance(minutes=2)
    refused = 0
    for number in range(MUTATED_TOKENS):
        token = mutated(chance, chance.choice(tokens))
        try:
            getattr(channel_stub, RAISING[number % 3])(token)
        except (InvalidTokenError, TokenTimedOutError):
            refused += 1
            assert channel_stub.client_id_from_token(token) is None
        for forgiving in FORGIVING:
            getattr(channel_stub, forgiving)(token)
    assert refused > MUTATED_TOKENS * 0.99


@plainly
@given(token=anything)
def test_a_value_that_is_not_a_token_is_refused_or_gives_nothing(channel_stub, token):
    for method in RAISING:
        with pytest.raises(InvalidTokenError):
            getattr(channel_stub, method)(token)
    for method in FORGIVING:
        assert not getattr(channel_stub, method)(token)


@plainly
@given(client_id=anything)
def test_a_client_id_makes_a_token_that_says_it_or_is_refused(channel_stub, client_id):
    try:
        token = channel.create_channel(client_id)
    except channel.InvalidChannelClientIdError:
        return
    assert channel_stub.validate_token_and_extract_client_id(token) == as_text(client_id)
    assert channel_stub.connect_and_pop_first_message(token) is None


@plainly
@given(duration=anything)
def test_a_duration_makes_a_token_or_is_refused(channel_stub, duration):
    try:
        token = channel.create_channel("alice", duration)
    except channel.InvalidChannelTokenDurationError:
        return
    assert duration is None or 1 <= duration <= 1440
    assert channel_stub.client_id_from_token(token) == "alice"


@plainly
@given(message=anything)
def test_a_message_arrives_as_it_was_or_is_refused(channel_stub, message):
    token = channel.create_channel("alice")
    channel_stub.connect_channel(token)
    try:
        channel.send_message("alice", message)
    except channel.InvalidMessageError:
        return
    assert channel_stub.pop_first_message(token) == as_text(message)


@plainly
@given(to=anything)
def test_an_address_reaches_nobody_or_is_refused(channel_stub, to):
    try:
        channel.send_message(to, "hello")
    except channel.InvalidChannelClientIdError:
        return
    assert channel_stub.timeline[-1].kind == "drop"
    assert channel_stub.timeline[-1].client_id == as_text(to)


@plainly
@given(client_id=text(min_size=1, max_size=60))
def test_the_app_reads_back_exactly_the_client_id(channel_stub, client_id):
    read = []

    def app(environ, start_response):
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode("ascii")
        read.extend(parse_qs(body, strict_parsing=True)["from"])
        start_response("200 OK", [])
        return []

    channel_stub.app = app
    channel_stub.add_connect_event(client_id)
    assert read == [client_id]
    assert channel_stub.requests[-1].body == f"from={client_id}"


# Over HTTP. A middleware that was stopped holds no poll, so that nothing is waited for.

words = st.sampled_from(
    ["command", "channel", "wait", "again", "page", "client", "connect", "poll", "disconnect"]
)
pieces = st.one_of(words, st.sampled_from(["=", "&", ";", "%", "%zz", "+", "\x00"]), text())
queries = st.lists(pieces, max_size=12).map("".join)
well_formed = st.dictionaries(words, text(max_size=40) | words, max_size=6).map(urlencode)


@pytest.fixture
def ask(channel_stub):
    """A function that sends a query to the service's endpoint, and gives the status."""
    middleware = ChannelMiddleware(channel_stub)
    middleware.stop()

    def ask(query, **environ):
        statuses = []
        path = {"REQUEST_METHOD": "GET", "PATH_INFO": "/_ah/channel/dev", "QUERY_STRING": query}
        body = middleware(path | environ, lambda status, _headers: statuses.append(status))
        assert all(isinstance(part, bytes) for part in body)
        [status] = statuses
        return int(status.split()[0])

    return ask


@plainly
@given(query=queries | well_formed)
def test_a_query_string_is_answered_or_refused(ask, query):
    assert ask(query) in (200, 400, 401)


@plainly
@given(
    command=st.sampled_from(["connect", "poll", "disconnect", "stay"]),
    more=st.dictionaries(words, text(max_size=10) | st.floats().map(str), max_size=4),
    cookie=text(max_size=30),
)
def test_a_good_token_is_answered_whatever_comes_with_it(ask, command, more, cookie):
    token = channel.create_channel("alice & bob")
    query = urlencode({"command": command, "channel": token}) + "&" + urlencode(more)
    assert ask(query, HTTP_COOKIE=cookie) in (200, 400)


# Settings and times.


class Config:
    """In place of pytest's config: one of its ini values is hostile."""

    def __init__(self, name, value):
        self.values = {f"channelstub_{name}": [value] if name == "strict" else value}

    def getini(self, name):
        return self.values.get(
            name, _options._OPTIONS[name.removeprefix("channelstub_")].ini_default
        )

    def getoption(self, name, default=None):
        return {"channelstub_host": "127.0.0.1", "channelstub_port": 0}.get(name, default)


@plainly
@given(
    name=st.sampled_from(["start", "clock", "seed", "strict", "scope", "reset", "appengine"]),
    value=text(max_size=30) | st.integers().map(str) | st.floats().map(str) | st.dates().map(str),
)
def test_an_ini_value_is_taken_or_a_usage_error_that_names_it(name, value):
    try:
        _options.read_run_options(Config(name, value))
    except pytest.UsageError as error:
        message = str(error)
    else:
        return
    assert message.startswith(f"ini channelstub_{name}: ")


class Item:
    """In place of a test that has one marker."""

    nodeid = "test_it.py::test_it"

    def __init__(self, marker):
        self.marker = marker

    def iter_markers(self, name):
        return [self.marker] if self.marker.name == name else []

    def iter_markers_with_node(self, name):
        return [(self, marker) for marker in self.iter_markers(name)]

    def get_closest_marker(self, name):
        return self.marker if self.marker.name == name else None


DEFAULTS = _options.read_run_options(Config("clock", ""))
keywords = st.sampled_from(["start", "clock", "seed", "strict", "what", "error", "call", "rate"])


@plainly
@given(
    name=st.sampled_from(["channel_stub", "channel_reset", "channel_error"]),
    arguments=st.lists(anything, max_size=2),
    named=st.dictionaries(keywords | text(max_size=5), anything, max_size=3),
)
def test_a_markers_arguments_are_taken_or_the_test_fails_and_is_named(name, arguments, named):
    item = Item(pytest.Mark(name, tuple(arguments), named, _ispytest=True))
    try:
        _options.read_item_options(item, DEFAULTS)
    except pytest.fail.Exception as error:
        message, shows_frames = str(error), error.pytrace
    else:
        return
    assert not shows_frames
    assert message.startswith(item.nodeid)


@plainly
@given(start=anything | st.datetimes() | st.dates() | st.floats(width=64))
def test_a_clock_starts_at_a_time_or_says_why_not(start):
    try:
        clock = FakeClock(start)
    except (TypeError, ValueError):
        return
    assert clock.now.timestamp() == pytest.approx(clock.time(), abs=1e-3)


@plainly
@given(duration=anything | st.timedeltas() | st.floats(allow_nan=True), back=st.booleans())
def test_a_clock_moves_by_a_duration_or_says_why_not(duration, back):
    clock = FakeClock()
    try:
        (clock.tick if back else clock.advance)(duration)
    except (TypeError, ValueError):
        assert clock.elapsed == 0
