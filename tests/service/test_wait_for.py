"""`wait_for`: a test waits for what a page, in another thread or process, does."""

from __future__ import annotations

import threading
import time

import pytest
from freezegun import freeze_time

from pytest_channelstub import channel


def test_an_event_that_is_there_already_is_given_at_once(channel_stub, channel_client):
    channel_client("alice")
    event = channel_stub.wait_for("connect", "alice", timeout=0)
    assert (event.kind, event.client_id) == ("connect", "alice")


def test_an_event_of_another_thread_ends_the_wait(channel_stub, channel_client):
    channel_client("alice")
    threading.Timer(0.05, channel.send_message, ("alice", "hello")).start()
    assert channel_stub.wait_for("send").message == "hello"


def test_with_a_count_the_event_is_given_that_makes_it_full(channel_stub, channel_client):
    channel_client("alice")
    for message in ("one", "two", "three"):
        channel.send_message("alice", message)
    assert channel_stub.wait_for("send", "alice", count=2).message == "two"


def test_an_event_that_never_comes_is_an_assertion_error_that_says_why(
    channel_stub, channel_client
):
    channel_client("alice")
    with pytest.raises(AssertionError) as raised:
        channel_stub.wait_for("disconnect", "alice", timeout=0.01)
    text = str(raised.value)
    assert text.startswith(
        "no 'disconnect' event of alice within 0.01 s of real time: alice is connected, since "
        "+0.0 s"
    )


@pytest.mark.asyncio
async def test_in_a_coroutine_the_failure_names_what_blocks_the_loop(channel_stub):
    with pytest.raises(AssertionError) as raised:
        channel_stub.wait_for("connect", "alice", timeout=0.01)
    text = str(raised.value)
    assert "real time: wait_for() blocks the event loop, in which nothing else runs" in text
    assert "blocked by test_in_a_coroutine_the_failure_names_what_blocks_the_loop() at " in text
    assert "await asyncio.to_thread(channel_stub.wait_for, ...)" in text


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"client_id": 7}, TypeError, "the client id is 7, of type int: pass a str"),
        ({"timeout": None}, TypeError, "timeout is None, of type NoneType: pass a number of real"),
        ({"timeout": "1"}, TypeError, "timeout is '1', of type str: pass a number of real"),
        ({"timeout": float("nan")}, ValueError, "timeout is nan: pass a number of real seconds"),
        ({"count": "2"}, TypeError, "count is '2', of type str: pass a whole number"),
        ({"count": True}, TypeError, "count is True, of type bool: pass a whole number"),
        ({"count": 0}, ValueError, "count is 0: pass how many such events to wait for"),
    ],
)
def test_a_bad_argument_is_refused_before_anything_is_waited_for(
    channel_stub, channel_client, arguments, error, text
):
    channel_client("alice")
    with pytest.raises(error, match=text):
        channel_stub.wait_for("connect", **arguments)


@pytest.mark.parametrize("timeout", [0, float("inf"), 10**400])
def test_an_event_that_is_there_is_given_however_long_the_wait_might_be(
    channel_stub, channel_client, timeout
):
    channel_client("alice")
    assert channel_stub.wait_for("connect", "alice", timeout).kind == "connect"


def test_too_few_events_are_counted(channel_stub):
    channel.send_message("alice", "one")
    with pytest.raises(AssertionError, match=r"only 1 of 3 'drop' events within 0 s"):
        channel_stub.wait_for("drop", timeout=0, count=3)


def test_another_clients_event_does_not_count(channel_stub, channel_client):
    channel_client("alice")
    with pytest.raises(AssertionError):
        channel_stub.wait_for("connect", "bob", timeout=0.01)


def test_the_timeout_is_real_while_freezegun_holds_the_time(channel_stub):
    with freeze_time("2020-01-01"), pytest.raises(AssertionError):
        channel_stub.wait_for("connect", timeout=0.01)


@pytest.mark.parametrize("kind", ["connected", "", "message"])
def test_an_unknown_kind_is_refused_with_the_kinds_there_are(channel_stub, kind):
    with pytest.raises(ValueError, match=r"pass one of create, connect, refresh"):
        channel_stub.wait_for(kind)


def test_waiting_costs_no_processor_time(channel_stub):
    before = time.process_time()
    with pytest.raises(AssertionError):
        channel_stub.wait_for("connect", timeout=0.3)
    assert time.process_time() - before < 0.1


def test_an_event_counts_once_the_app_has_answered_what_follows_from_it(channel_stub):
    reached, opened, here = threading.Event(), threading.Event(), []

    def app(_, start_response):
        reached.set()
        assert opened.wait(30)
        here.append("alice")
        start_response("200 OK", [])
        return []

    channel_stub.app = app
    token = channel.create_channel("alice")
    thread = threading.Thread(target=channel_stub.connect_channel, args=(token,), daemon=True)
    thread.start()
    assert reached.wait(30)
    with pytest.raises(AssertionError):
        channel_stub.wait_for("connect", "alice", timeout=0.01)

    threading.Timer(0.01, opened.set).start()
    channel_stub.wait_for("connect", "alice")

    assert here == ["alice"]
    assert channel_stub.wait_for("request", "alice").outcome == "200 OK"
    thread.join(30)
