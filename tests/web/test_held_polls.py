"""Polls with `wait`: held until there is something to say."""

from __future__ import annotations

import socket
import threading
import time
from concurrent import futures

import pytest

from pytest_channelstub import ChannelServiceStub, FakeClock, channel
from pytest_channelstub.web import ChannelMiddleware, long_poll

DEV = "/_ah/channel/dev"
LONG = 30


def ask(middleware, query, **environ):
    started = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": DEV, "QUERY_STRING": query, **environ}
    body = b"".join(middleware(environ, lambda *given: started.append(given)))
    (status, _), *_ = started
    return status, body.decode()


def poll(middleware, token, wait=LONG, page=None, next_poll_within=30, **environ):
    query = f"command=poll&channel={token}&wait={wait}"
    if page is not None:
        query += f"&page={page}&next_poll_within={next_poll_within}"
    return ask(middleware, query, **environ)


def connect(middleware, token, page, next_poll_within=30):
    more = f"&page={page}&next_poll_within={next_poll_within}"
    return ask(middleware, f"command=connect&channel={token}{more}")


def disconnect(middleware, token, page):
    return ask(middleware, f"command=disconnect&channel={token}&page={page}")


@pytest.fixture
def alice():
    return channel.create_channel("alice")


@pytest.fixture
def held(middleware, stub, in_background):
    """Start a poll, and return once it has found nothing."""

    def start(token, **query):
        before = len(stub.timeline.of(kind="poll"))
        future = in_background(poll, middleware, token, **query)
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


def test_a_poll_waits_on_when_another_reader_takes_the_message(held, stub, alice):
    answer = held(alice)
    for number in range(20):
        channel.send_message("alice", str(number))
        if stub.pop_first_message(alice) is None:
            assert answer.result(5) == ("200 OK", str(number))
            answer = held(alice)
    channel.send_message("alice", "the last")
    assert answer.result(5) == ("200 OK", "the last")


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


def test_a_page_stays_connected_between_its_polls(held, stub, middleware, alice):
    connect(middleware, alice, "p")
    stub.clock.advance(60)
    answer = held(alice, page="p")
    channel.send_message("alice", "hello")
    answer.result(5)
    stub.clock.advance(60)
    assert stub.is_connected("alice")


def test_a_page_that_polls_every_20_seconds_stays_connected(stub, middleware, alice):
    connect(middleware, alice, "p", next_poll_within=25)
    assert poll(middleware, alice, wait=0, page="p", next_poll_within=25) == ("200 OK", "")
    stub.clock.advance(60)
    assert stub.is_connected("alice")


def test_a_page_that_does_not_poll_in_time_is_gone(middleware, stub, alice):
    connect(middleware, alice, "p", next_poll_within=0.001)
    until_gone(stub, "alice")


def until_gone(stub, client_id):
    for _ in range(1000):
        stub.clock.advance(2)
        if not stub.is_connected(client_id):
            return
        threading.Event().wait(0.005)
    pytest.fail(f"{client_id} is still there")


def test_two_messages_go_to_the_two_pages_of_a_client(held, middleware, alice):
    for page in (1, 2):
        connect(middleware, alice, page)
    first, second = held(alice, page=1), held(alice, page=2)
    channel.send_message("alice", "one")
    channel.send_message("alice", "two")
    assert {first.result(5)[1], second.result(5)[1]} == {"one", "two"}


def test_the_last_page_that_leaves_disconnects_the_client(held, middleware, stub, alice):
    for page in (1, 2):
        connect(middleware, alice, page)
    first, second = held(alice, page=1), held(alice, page=2)
    disconnect(middleware, alice, page=1)
    assert stub.is_connected("alice")
    assert first.result(5) == ("200 OK", "")
    channel.send_message("alice", "to the other")
    assert second.result(5) == ("200 OK", "to the other")
    disconnect(middleware, alice, page=2)
    assert not stub.is_connected("alice")
    assert [request.url for request in stub.requests] == [
        "/_ah/channel/connected/",
        "/_ah/channel/disconnected/",
    ]


def test_a_reload_whose_requests_arrive_in_the_other_order_stays_connected(middleware, stub, alice):
    connect(middleware, alice, "before")
    connect(middleware, channel.create_channel("alice"), "after")
    disconnect(middleware, alice, "before")
    assert stub.is_connected("alice")
    assert len(stub.requests) == 1


def test_a_poll_that_arrives_after_its_page_has_left_connects_nobody(middleware, stub, alice):
    connect(middleware, alice, "p")
    disconnect(middleware, alice, "p")
    assert poll(middleware, alice, page="p") == ("200 OK", "")
    assert not stub.is_connected("alice")


@pytest.mark.parametrize("what", ["queues", "all"])
def test_a_page_of_an_earlier_test_changes_nothing(held, middleware, stub, alice, what):
    connect(middleware, alice, "p")
    answer = held(alice, page="p")
    stub._begin_epoch(what)
    assert answer.result(5) == ("200 OK", "")
    channel.send_message("alice", "of this test")
    before = list(stub.timeline)
    assert poll(middleware, alice, page="p") == ("200 OK", "")
    assert disconnect(middleware, alice, "p") == ("200 OK", "")
    assert list(stub.timeline) == before
    assert stub.is_connected("alice") is (what == "queues")
    stub.clock.advance(2)
    assert not stub.is_connected("alice")


def test_a_page_of_an_earlier_test_that_connects_anew_is_one_of_this_test(middleware, stub, alice):
    connect(middleware, alice, "p")
    stub._begin_epoch("queues")
    connect(middleware, alice, "another")
    channel.send_message("alice", "of this test")
    assert poll(middleware, alice, page="another") == ("200 OK", "of this test")
    disconnect(middleware, alice, "another")
    assert not stub.is_connected("alice")


@pytest.mark.parametrize("command", ["poll", "disconnect"])
def test_what_a_page_says_as_the_next_test_begins_changes_nothing(
    middleware, stub, alice, monkeypatch, command
):
    connect(middleware, alice, "p")
    step, late = stub._step, {"_plan_leave", "_plan_poll"}

    def step_in_the_next_test(plan, *arguments, **options):
        if plan.__name__ in late:
            late.clear()
            stub._begin_epoch("queues")
        return step(plan, *arguments, **options)

    monkeypatch.setattr(stub, "_step", step_in_the_next_test)
    assert ask(middleware, f"command={command}&channel={alice}&page=p") == ("200 OK", "")
    assert not late
    assert list(stub.timeline) == []
    assert stub.is_connected("alice")


def test_two_polls_of_a_page_that_begin_at_once_keep_it_once(middleware, stub, alice, monkeypatch):
    connect(middleware, alice, "p", next_poll_within=0)
    keep_alive, polls = stub._keep_alive, [lambda: poll(middleware, alice, wait=0, page="p")]

    def keep_alive_after_another(token):
        if polls:
            polls.pop()()
        return keep_alive(token)

    monkeypatch.setattr(stub, "_keep_alive", keep_alive_after_another)
    poll(middleware, alice, wait=0, page="p")
    stub.clock.advance(60)
    assert stub.is_connected("alice")
    middleware.stop()
    stub.clock.advance(2)
    assert not stub.is_connected("alice")


def test_a_timer_that_was_cancelled_as_it_fired_ends_nothing(middleware, stub, alice):
    connect(middleware, alice, "p")
    [page] = stub._pages.values()
    [timer] = page._leases.values()
    poll(middleware, alice, wait=0, page="p")
    timer.function(*timer.args)
    stub.clock.advance(60)
    assert stub.is_connected("alice")


def test_a_page_goes_on_when_tests_tell_one_story(middleware, stub, alice):
    connect(middleware, alice, "p")
    stub._begin_epoch("nothing")
    channel.send_message("alice", "hello")
    assert poll(middleware, alice, page="p") == ("200 OK", "hello")


def test_a_page_is_known_to_another_server_of_the_same_stub(middleware, stub, alice):
    connect(middleware, alice, "p")
    middleware.stop()
    channel.send_message("alice", "hello")
    assert poll(ChannelMiddleware(stub), alice, page="p") == ("200 OK", "hello")


def test_a_page_is_there_until_the_last_of_its_polls_has_ended(held, middleware, stub, alice):
    for page in (1, 2):
        connect(middleware, alice, page, next_poll_within=0)
    polls = [held(alice, page=1, next_poll_within=0) for _ in range(2)]
    channel.send_message("alice", "one")
    [first], [second] = futures.wait(polls, 5, futures.FIRST_COMPLETED)
    assert first.result() == ("200 OK", "one")
    disconnect(middleware, alice, page=2)
    assert stub.is_connected("alice")
    channel.send_message("alice", "two")
    assert second.result(5) == ("200 OK", "two")


def test_a_page_whose_polls_overlapped_has_two_seconds_after_the_last(
    held, middleware, stub, alice
):
    connect(middleware, alice, "p")
    polls = [held(alice, page="p") for _ in range(2)]
    for message in ("one", "two", "three"):
        channel.send_message("alice", message)
    assert {answer.result(5)[1] for answer in polls} == {"one", "two"}
    stub.clock.advance(60)
    assert stub.is_connected("alice")
    assert poll(middleware, alice, page="p", next_poll_within=0) == ("200 OK", "three")
    stub.clock.advance(2)
    assert not stub.is_connected("alice")


@pytest.mark.parametrize("unread", [b"", b"a connection that is closed on this is reset"])
def test_a_connection_that_ends_takes_no_message_and_keeps_nobody(
    held, middleware, stub, alice, unread
):
    connect(middleware, alice, "p")
    ours, browser = socket.socketpair()
    with ours:
        answer = held(alice, page="p", **{"werkzeug.socket": ours})
        ours.sendall(unread)
        browser.close()
        assert answer.result(5) == ("200 OK", "")
    channel.send_message("alice", "to the next page")
    assert stub.pending("alice") == ("to the next page",)
    stub.clock.advance(2)
    assert not stub.is_connected("alice")


def test_a_connection_is_seen_to_end_where_every_read_may_block(held, alice, monkeypatch):
    monkeypatch.setattr(long_poll, "_DONT_WAIT", 0)  # as on Windows
    ours, browser = socket.socketpair()
    with ours:
        answer = held(alice, **{"werkzeug.socket": ours})
        channel.send_message("alice", "hello")
        assert answer.result(5) == ("200 OK", "hello")
        answer = held(alice, **{"werkzeug.socket": ours})
        browser.close()
        assert answer.result(5) == ("200 OK", "")


def test_a_browser_that_sends_more_during_its_poll_is_not_gone(held, alice):
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


def test_a_server_of_one_thread_is_not_held(middleware, alice):
    connect(middleware, alice, "p")
    single = {"wsgi.multithread": False}
    assert poll(middleware, alice, page="p", **single) == ("200 OK", "")
    assert poll(middleware, alice, **single) == ("200 OK", "")


def test_closing_the_stub_ends_the_wait(held, stub, alice):
    answer = held(alice)
    stub.close()
    assert answer.result(5) == ("200 OK", "")


def test_nothing_is_left_when_the_polls_have_ended(stub, in_background):
    before = set(threading.enumerate())
    middleware = ChannelMiddleware(stub)
    polls = []
    for number in range(5):
        token = channel.create_channel(f"client {number}")
        connect(middleware, token, "p", next_poll_within=5)
        polls.append(in_background(poll, middleware, token, page="p", next_poll_within=5))
    stub.wait_for("poll", count=5)
    middleware.stop()
    for each in polls:
        each.result(LONG)
    for thread in {*threading.enumerate()} - before:
        thread.join(5)
    assert {*threading.enumerate()} <= before
    stub.clock.advance(2)
    assert stub.connected_client_ids == ()


def test_many_clients_that_wait_lose_nothing_and_cost_little():
    messages = [f"message {number}" for number in range(4)]
    with ChannelServiceStub(time_func=FakeClock().time) as stub:
        middleware = ChannelMiddleware(stub)
        received = {f"client {number}": [] for number in range(50)}

        def listen(client_id, token):
            connect(middleware, token, "p")
            while len(received[client_id]) < len(messages):
                received[client_id].append(poll(middleware, token, page="p")[1])

        threads = [
            threading.Thread(target=listen, args=(name, channel.create_channel(name)))
            for name in received
        ]
        for thread in threads:
            thread.start()
        stub.wait_for("poll", count=50)
        idle = processor_time_of_a_pause()
        for message in messages:
            for client_id in received:
                channel.send_message(client_id, message)
        for thread in threads:
            thread.join(20)
        middleware.stop()
    assert list(received.values()) == [messages] * 50
    assert idle < 0.1


def processor_time_of_a_pause():
    before = time.process_time()
    threading.Event().wait(0.2)
    return time.process_time() - before


def test_a_handler_that_fails_as_a_poll_begins_keeps_nobody_connected():
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
