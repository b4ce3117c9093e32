import pytest
import relay
import webtest

from pytest_channelstub import ChannelClient, assert_queued


@pytest.fixture
def app():
    return webtest.TestApp(relay.application)


@pytest.fixture
def alice(app, channel_stub):
    return ChannelClient(channel_stub, app.get("/token?to=alice").text)


def test_json_is_handed_on(app, alice, channel_stub):
    app.post_json("/?to=alice", {"move": "e4"})
    assert_queued(channel_stub, "alice", {"move": "e4"})
    assert alice.receive_json() == {"move": "e4"}


def test_what_comes_as_bytes_is_received_as_text(app, alice):
    app.post("/?to=alice", "grüß 猫".encode())
    assert alice.receive() == "grüß 猫"


def test_the_limit_is_counted_in_bytes(app, alice):
    longest = "ü" * 16383 + "x"
    app.post("/?to=alice", longest.encode())
    app.post("/?to=alice", f"{longest}x".encode(), status=400)
    assert alice.receive_all() == [longest]


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"gr\xfc\xdf"])
def test_a_body_that_is_no_message_is_refused(app, alice, body):
    app.post("/?to=alice", body, status=400)
    assert alice.receive_all() == []


def test_a_body_that_is_not_utf_8_is_refused_in_words(app, alice):
    assert "not UTF-8" in app.post("/?to=alice", b"gr\xfc\xdf", status=400).text
