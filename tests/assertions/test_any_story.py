"""Whatever has happened to a stub: an assertion on it holds, or fails with a text."""

from __future__ import annotations

import contextlib
import random
import re
from unittest import mock

import pytest

from pytest_channelstub import (
    ANY,
    ChannelClient,
    ChannelServiceStub,
    FakeClock,
    InvalidTokenError,
    TokenTimedOutError,
    apiproxy_errors,
    assert_connected,
    assert_disconnected,
    assert_dropped,
    assert_not_sent,
    assert_queued,
    assert_sent,
    assert_token_expired,
    assert_token_valid,
    channel,
)
from pytest_channelstub._record.remarks import describe_left_messages, list_remarks
from pytest_channelstub._record.timeline import KINDS

STORIES = 25
STEPS = 40
CLIENT_IDS = ["alice", "Alice", "alice ", "bob", "jos\u00e9", "jose\u0301", "\ud800", "send"]
MESSAGES = ["hi", '{"a": 1}', "[1, 2]", '"x"', "", "x" * 40_000, {"a": 1}, b"hi", None, "a\nb"]
EXPECTED = [*MESSAGES, 1, True, ANY, [2, 1], {"a": 2}, mock.ANY, re.compile("h")]
REFUSALS = (
    AssertionError, RuntimeError, AttributeError, channel.Error, apiproxy_errors.Error,
    InvalidTokenError, TokenTimedOutError,
)  # fmt: skip


class Story:
    """A stub, and what a test may do to it, by chance."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.stub = self.build()
        self.others = []
        self.clients = []
        self.tokens = ["a-channel-b"]

    def build(self):
        return ChannelServiceStub(time_func=FakeClock().time)

    def choose(self, *choices):
        return self.random.choice(choices)

    def anybody(self):
        return self.choose(*CLIENT_IDS, *self.tokens)

    def act(self):
        stub, client_id = self.stub, self.choose(*CLIENT_IDS)
        client = self.choose(*self.clients) if self.clients else None
        self.choose(
            lambda: self.tokens.append(channel.create_channel(client_id, self.choose(None, 1))),
            lambda: self.connect(client_id),
            lambda: channel.send_message(self.anybody(), self.choose(*MESSAGES)),
            lambda: channel.send_message(client_id, self.choose(*MESSAGES)),
            lambda: stub.clock.advance(self.choose(0.5, 3, 100)),
            lambda: client and client.receive(),
            lambda: client and client.close(),
            lambda: client and stub.get_channel_messages(client.token).clear(),
            lambda: stub.disconnect(client_id, self.choose("close", "disconnect")),
            lambda: stub.add_disconnect_event(client_id),
            lambda: stub.connect_channel(self.choose(*self.tokens)),
            lambda: stub.SetError(apiproxy_errors.OverQuotaError("x"), "SendChannelMessage", 0.5),
            lambda: stub.reset("queues"),
            lambda: self.others.append(self.build()),
            lambda: self.others and self.others.pop().close(),
        )()

    def connect(self, client_id):
        token = channel._create_channel(self.stub, client_id, self.choose(None, 1))
        self.clients.append(ChannelClient(self.stub, token, keep_alive=self.choose(True, False)))

    def ask(self):
        stub, to, expected = self.stub, self.anybody(), self.choose(*EXPECTED)
        self.choose(
            lambda: assert_queued(stub, to, *self.random.choices(EXPECTED, k=2)),
            lambda: assert_sent(stub, self.choose(to, ANY), expected, count=self.choose(None, 2)),
            lambda: assert_not_sent(stub, self.choose(to, ANY), expected),
            lambda: assert_dropped(stub, self.choose(to, ANY), expected),
            lambda: assert_connected(stub, to),
            lambda: assert_disconnected(stub, to),
            lambda: assert_token_valid(stub, to),
            lambda: assert_token_expired(stub, to),
            lambda: stub.wait_for(self.choose(*KINDS), to, timeout=0, message=expected),
            lambda: str(stub.timeline),
            lambda: list_remarks(stub),
            lambda: describe_left_messages(stub.timeline, ("dropped", "unread")),
        )()


@pytest.mark.filterwarnings("ignore:nothing is known")
def test_no_story_makes_an_assertion_raise_anything_but_an_assertion_error():
    texts = set()
    for seed in range(STORIES):
        story = Story(seed)
        for _ in range(STEPS):
            with contextlib.suppress(*REFUSALS):
                story.act()
            try:
                story.ask()
            except AssertionError as error:
                texts.add(str(error).split("\n", maxsplit=1)[0])
        for stub in (story.stub, *story.others):
            stub.close()
    assert len(texts) > STORIES
    assert all(texts)
