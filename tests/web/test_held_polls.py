"""Polls with `wait`: held until there is something to say."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent import futures

import pytest

from pytest_channelstub import ChannelServiceStub, FakeClock, channel
from pytest_channelstub.web import ChannelMiddleware, lookout, presence

DEV = "/_ah/channel/dev"
LONG = 30


def ask(middleware, query, **environ):
    started = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": DEV, "QUERY_STRING": query, **environ}
    body = b"".join(middleware(environ, lambda *given: started.append(given)))
    (status, _), *_ = started
    return status, body.decode()


def poll(middleware, token, wait=LONG, more="", **environ):
    return ask(middleware, f"command=poll&channel={token}&wait={wait}{more}", **environ)


@pytest.fixture
def alice():
    return channel.create_channel("alice")


@pytest.fixture
def held(middleware, stub, in_background):
    """Start a poll, and return once it has found nothing."""

    def start(token, wait=LONG, more="", **environ):
        before = len(stub.timeline.of(kind="poll"))
        future = in_background(poll, middleware, token, wait, more, **environ)
        stub.wait_for("poll", count=before + 1)
        return future

    return start


def test_a_message_ends_the_wait(held, alice):
    answer = held(alice)
    channel.send_message("alice", "hello")
    assert answer.result(5) == ("200 OK", "hello")


def test_a_message_that_is_there_already_is_answered_at_once(middleware, stub, alice):
    stub.connect_channel(alice)
    channel.send_message("alice", "hello")
    assert poll(middleware, alice) == ("200 OK", "hello")


def test_a_message_for_another_client_does_not_end_the_wait(held, stub, alice):
    stub.connect_channel(channel.create_channel("bob"))
    answer = held(alice)
    channel.send_message("bob", "hello")
    assert not answer.done()
    channel.send_message("alice", "yours")
    assert answer.result(5) == ("200 OK", "yours")
    assert stub.pending("bob") == ("hello",)


def test_a_poll_goes_on_waiting_where_another_reader_was_faster(held, stub, alice, monkeypatch):
    look = stub.pending

    def look_and_lose(client_id):
        found = look(client_id)
        if found == ("first",):
            stub.pop_first_message(alice)
        return found

    monkeypatch.setattr(stub, "pending", look_and_lose)
    answer = held(alice)
    channel.send_message("alice", "first")
    stub.wait_for("poll", count=2)
    assert not answer.done()
    channel.send_message("alice", "second")
    assert answer.result(5) == ("200 OK", "second")


@pytest.mark.parametrize("end", ["disconnect", "disconnect_channel_event"])
def test_a_disconnect_ends_the_wait(held, stub, alice, end):
    answer = held(alice)
    getattr(stub, end)("alice")
    assert answer.result(5) == ("200 OK", "")
    assert not stub.is_connected("alice")


def test_a_disconnect_over_http_ends_the_wait(middleware, held, stub, alice):
    answer = held(alice)
    assert ask(middleware, f"command=disconnect&channel={alice}")[0] == "200 OK"
    assert answer.result(5) == ("200 OK", "")
    assert not stub.is_connected("alice")


def test_the_end_of_the_token_on_the_stubs_clock_ends_the_wait(held, stub, alice):
    answer = held(alice)
    stub.clock.advance(hours=2, seconds=1)
    assert answer.result(5)[0] == "401 Token+timed+out."


def test_the_end_of_the_token_on_the_systems_clock_ends_the_wait(in_background):
    now = [1_600_000_000.0]
    with ChannelServiceStub(time_func=lambda: now[0]) as stub:
        middleware = ChannelMiddleware(stub)
        answer = in_background(poll, middleware, channel.create_channel("alice"))
        stub.wait_for("poll")
        now[0] += 7201
        assert answer.result(5)[0] == "401 Token+timed+out."


def test_stopping_ends_the_wait_and_nothing_is_held_afterwards(middleware, held, alice):
    answer = held(alice)
    middleware.stop()
    assert answer.result(5) == ("200 OK", "")
    assert poll(middleware, alice) == ("200 OK", "")


def test_a_reset_of_all_ends_the_wait(held, stub, alice):
    answer = held(alice)
    stub.reset("all")
    assert answer.result(5) == ("200 OK", "")


def test_the_wait_ends_by_itself(middleware, alice):
    assert poll(middleware, alice, wait=0.01) == ("200 OK", "")


def test_a_held_poll_is_a_sign_of_life(held, stub, alice):
    answer = held(alice)
    stub.clock.advance(minutes=10)
    assert stub.is_connected("alice")
    channel.send_message("alice", "still there")
    assert answer.result(5) == ("200 OK", "still there")


def test_after_a_held_poll_the_client_has_two_seconds(held, stub, alice):
    answer = held(alice)
    stub.clock.advance(minutes=10)
    channel.send_message("alice", "hello")
    answer.result(5)
    stub.clock.advance(1.9)
    assert stub.is_connected("alice")
    stub.clock.advance(0.1)
    assert not stub.is_connected("alice")


def test_a_page_that_will_ask_again_is_held_between_its_polls(held, stub, middleware, alice):
    ask(middleware, f"command=connect&channel={alice}&page=p&again=30")
    stub.clock.advance(60)
    answer = held(alice, more="&page=p&again=30")
    channel.send_message("alice", "hello")
    answer.result(5)
    stub.clock.advance(60)
    assert stub.is_connected("alice")


def test_a_page_that_does_not_ask_again_in_time_is_let_go(middleware, stub, alice):
    ask(middleware, f"command=connect&channel={alice}&page=p&again=0.01")
    assert not middleware._presence._expected or wait_until_let_go(middleware)
    stub.clock.advance(2)
    assert not stub.is_connected("alice")


def wait_until_let_go(middleware):
    # The lookout's thread ends when the page was the last thing it had to watch.
    thread = middleware._lookout._thread
    if thread is not None:
        thread.join(5)
    return not middleware._presence._expected


def test_one_message_goes_to_one_of_two_pages_of_a_client(held, alice):
    first = held(alice, more="&page=1&again=5")
    second = held(alice, more="&page=2&again=5")
    channel.send_message("alice", "one")
    channel.send_message("alice", "two")
    assert {first.result(5)[1], second.result(5)[1]} == {"one", "two"}


def test_a_page_that_leaves_takes_the_client_along_only_if_it_is_the_last(
    held, middleware, stub, alice
):
    first = held(alice, more="&page=1&again=5")
    second = held(alice, more="&page=2&again=5")
    ask(middleware, f"command=disconnect&channel={alice}&page=1")
    assert stub.is_connected("alice")
    assert first.result(5) == ("200 OK", "")
    channel.send_message("alice", "for who stays")
    assert second.result(5) == ("200 OK", "for who stays")
    ask(middleware, f"command=disconnect&channel={alice}&page=2")
    assert not stub.is_connected("alice")


def test_a_poll_that_arrives_after_its_page_left_connects_nobody(middleware, stub, alice):
    ask(middleware, f"command=connect&channel={alice}&page=p&again=5")
    ask(middleware, f"command=disconnect&channel={alice}&page=p")
    assert poll(middleware, alice, more="&page=p&again=5") == ("200 OK", "")
    assert not stub.is_connected("alice")


def test_only_the_pages_that_left_last_are_remembered(middleware, stub, alice, monkeypatch):
    monkeypatch.setattr(presence, "_MOST_REMEMBERED", 2)
    for page in (1, 2, 3):
        ask(middleware, f"command=disconnect&channel={alice}&page={page}")
    for page, connects in ((3, False), (2, False), (1, True)):
        assert poll(middleware, alice, wait=0, more=f"&page={page}") == ("200 OK", "")
        assert stub.is_connected("alice") is connects


def test_a_page_is_there_until_the_last_of_its_polls_has_ended(held, middleware, stub, alice):
    polls = [held(alice, more="&page=1") for _ in range(2)]
    channel.send_message("alice", "one")
    [first], [second] = futures.wait(polls, 5, futures.FIRST_COMPLETED)
    assert first.result() == ("200 OK", "one")
    ask(middleware, f"command=disconnect&channel={alice}&page=2")
    assert stub.is_connected("alice")
    channel.send_message("alice", "two")
    assert second.result(5) == ("200 OK", "two")


def test_a_page_whose_polls_overlapped_is_let_go_as_any_other(held, middleware, stub, alice):
    polls = [held(alice, more="&page=p&again=30") for _ in range(2)]
    for message in ("one", "two", "three"):
        channel.send_message("alice", message)
    assert {answer.result(5)[1] for answer in polls} == {"one", "two"}
    stub.clock.advance(60)
    assert stub.is_connected("alice")
    assert poll(middleware, alice, more="&page=p") == ("200 OK", "three")
    stub.clock.advance(2)
    assert not stub.is_connected("alice")


def test_a_fifth_poll_of_one_browser_is_not_held(held, middleware, alice):
    cookie = {"HTTP_COOKIE": "a=b; channelstub-browser=0123abcd"}
    four = [held(channel.create_channel(f"client {number}"), **cookie) for number in range(4)]
    assert poll(middleware, alice, **cookie) == ("200 OK", "")
    other = {"HTTP_COOKIE": "channelstub-browser=4567"}
    held(alice, **other)
    middleware.stop()
    assert [answer.result(5) for answer in four] == [("200 OK", "")] * 4


@pytest.mark.parametrize("unread", [b"", b"a connection that is closed on this is reset"])
def test_a_connection_that_ends_lets_its_client_go_and_takes_no_message(held, stub, alice, unread):
    ours, browser = socket.socketpair()
    with ours:
        answer = held(alice, more="&page=p&again=30", **{"werkzeug.socket": ours})
        ours.sendall(unread)
        browser.close()
        assert answer.result(5) == ("200 OK", "")
    channel.send_message("alice", "for the next page")
    assert stub.pending("alice") == ("for the next page",)
    stub.clock.advance(2)
    assert not stub.is_connected("alice")


def test_a_connection_is_watched_also_where_every_read_may_wait(held, alice, monkeypatch):
    monkeypatch.setattr(lookout, "_DONT_WAIT", 0)  # as on Windows
    ours, browser = socket.socketpair()
    with ours:
        answer = held(alice, **{"werkzeug.socket": ours})
        channel.send_message("alice", "hello")
        assert answer.result(5) == ("200 OK", "hello")
        answer = held(alice, **{"werkzeug.socket": ours})
        browser.close()
        assert answer.result(5) == ("200 OK", "")


def test_a_browser_that_sends_more_while_it_waits_is_not_gone(held, alice):
    ours, browser = socket.socketpair()
    with ours, browser:
        answer = held(alice, **{"werkzeug.socket": ours})
        browser.sendall(b"GET /next HTTP/1.1")
        channel.send_message("alice", "hello")
        assert answer.result(5) == ("200 OK", "hello")


def test_no_message_is_taken_for_a_connection_that_has_ended(middleware, stub, alice):
    stub.connect_channel(alice)
    channel.send_message("alice", "hello")
    ours, browser = socket.socketpair()
    browser.close()
    with ours:
        assert poll(middleware, alice, **{"werkzeug.socket": ours}) == ("200 OK", "")
    assert stub.pending("alice") == ("hello",)


def test_nothing_is_left_when_the_polls_have_ended(stub, in_background):
    before = set(threading.enumerate())
    middleware = ChannelMiddleware(stub)
    pairs = [socket.socketpair() for _ in range(5)]
    polls = []
    with contextlib.ExitStack() as ends:
        for ours, browser in pairs:
            ends.enter_context(ours)
            ends.enter_context(browser)
            client_id = f"client {ours.fileno()}"
            token = channel.create_channel(client_id)
            polls.append(
                in_background(
                    poll, middleware, token, more="&page=p&again=5", **{"werkzeug.socket": ours}
                )
            )
        stub.wait_for("poll", count=5)
        middleware.stop()
        for each in polls:
            each.result(LONG)
    assert {thread for thread in threading.enumerate() if "lookout" in thread.name} <= before
    assert stub.timeline._watchers == {}
    assert len(stub.clock.agenda) == 5  # the clients' own two seconds
    stub.clock.advance(2)
    assert stub.connected_client_ids == ()


def test_200_clients_that_wait_lose_nothing_and_cost_nothing():
    messages = [f"message {number}" for number in range(10)]
    with ChannelServiceStub(time_func=FakeClock().time) as stub:
        middleware = ChannelMiddleware(stub)
        received = {f"client {number}": [] for number in range(200)}

        def listen(client_id, token):
            while len(received[client_id]) < len(messages):
                received[client_id].append(poll(middleware, token, more="&page=p&again=5")[1])

        threads = [
            threading.Thread(target=listen, args=(name, channel.create_channel(name)))
            for name in received
        ]
        for thread in threads:
            thread.start()
        stub.wait_for("poll", count=200)
        idle = processor_time_of_a_pause()
        for message in messages:
            for client_id in received:
                channel.send_message(client_id, message)
        for thread in threads:
            thread.join(20)
        middleware.stop()
    assert list(received.values()) == [messages] * 200
    assert idle < 0.1


def processor_time_of_a_pause():
    before = time.process_time()
    threading.Event().wait(0.5)
    return time.process_time() - before


def test_a_handler_that_fails_as_a_poll_begins_leaves_nobody_held():
    now = [1_600_000_000.0]

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/_ah/channel/disconnected/":
            raise RuntimeError("the app")
        start_response("200 OK", [])
        return []

    with ChannelServiceStub(time_func=lambda: now[0]) as stub:
        stub.app = app
        bob, alice = channel.create_channel("bob"), channel.create_channel("alice")
        stub.connect_channel(bob)
        now[0] += 2
        with pytest.raises(RuntimeError):
            poll(ChannelMiddleware(stub), alice)
        stub.connect_channel(alice)
        now[0] += 1.9
        assert stub.is_connected("alice")
        now[0] += 0.1
        with pytest.raises(RuntimeError):
            stub.is_connected("alice")
        assert stub.timeline.of("alice", kind="timeout")


def test_a_lookout_goes_on_after_an_action_that_failed(monkeypatch):
    failed, done = threading.Event(), threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _args: failed.set())
    watch = lookout.Lookout()
    watch.call_later(0, lambda: 1 / 0)
    assert failed.wait(5)
    watch.call_later(0, done.set)
    assert done.wait(5)
    watch.stop(5)


def test_a_connection_that_brings_more_is_looked_at_once_and_not_for_ever():
    looks, looked = [], threading.Event()
    watch = lookout.Lookout()
    ours, browser = socket.socketpair()
    with ours, browser, watch.watching(ours, lambda: looks.append(looked.set())):
        browser.sendall(b"more")
        assert looked.wait(5)
        for _ in range(2):
            done = threading.Event()
            watch.call_later(0, done.set)
            assert done.wait(5)
    watch.stop(5)
    assert len(looks) == 1
