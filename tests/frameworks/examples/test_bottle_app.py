from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from bottle_app import app, present

app.catchall = False  # lets an exception in a handler through to the test


@pytest.fixture
def channel_app():
    present.clear()
    return app


def test_a_page_is_greeted_when_it_connects(channel_client):
    alice = channel_client("alice")
    assert alice.receive() == "Welcome, Alice Liddell!"
    assert present == {"alice"}


def test_a_page_that_stops_polling_is_gone_after_two_seconds(channel_client, channel_clock):
    channel_client("alice")
    channel_clock.advance(2)
    assert present == set()


def test_the_page_has_the_script_and_a_token(channel_server, channel_stub):
    with urlopen(channel_server.url_for("/", user="alice")) as answer:
        html = answer.read().decode()
    assert '<script src="/_ah/channel/jsapi">' in html
    [created] = channel_stub.timeline.of("alice", kind="create")
    assert created.token in html


def test_a_message_is_sent_to_the_page(channel_server, channel_client):
    bob = channel_client("bob")
    form = urlencode({"to": "bob", "text": "hello"}).encode()
    with urlopen(channel_server.url_for("/send"), form) as answer:
        assert answer.status == 200
    assert bob.receive_all() == ["Welcome, Bob Cratchit!", "hello"]


def test_an_exception_in_a_handler_reaches_the_test(channel_client):
    with pytest.raises(KeyError, match="a stranger"):
        channel_client("a stranger")
