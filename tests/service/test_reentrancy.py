"""Calls that come inside another call: finalizers, signal handlers, and forked processes.

CHANNELSTUB_LONG=1 tries five times as often.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import warnings
from contextlib import contextmanager

import pytest

from pytest_channelstub import ChannelClient, ChannelServiceStub, FakeClock, channel

TIMES = 5 if os.environ.get("CHANNELSTUB_LONG") else 1
ROUNDS = 100 * TIMES
FORKS = 10 * TIMES
PATIENCE = 60.0  # seconds


@pytest.fixture
def stub():
    with ChannelServiceStub(time_func=FakeClock(start=0).time) as stub:
        yield stub


@contextmanager
def collecting_at_every_chance():
    usual = gc.get_threshold()
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


class Session:
    """An app's object that closes its client when it is collected."""

    def __init__(self, stub, client_id):
        self.client = ChannelClient(stub, channel.create_channel(client_id), keep_alive=True)
        self.itself = self

    def __del__(self):
        self.client.close()


def test_finalizers_that_close_clients_hang_nothing_and_lose_nothing(stub):
    heard = []

    def app(environ, start_response):
        heard.append(environ["PATH_INFO"].split("/")[3])
        start_response("200 OK", [])
        return []

    def work():
        for number in range(ROUNDS):
            Session(stub, f"session {number}")
            page = ChannelClient(stub, channel.create_channel(f"page {number}"))
            channel.send_message(f"page {number}", "hello")
            received.append(page.receive())

    stub.app, received = app, []
    with collecting_at_every_chance():
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(PATIENCE)
    assert not worker.is_alive(), "it waits for a lock that it holds itself"
    gc.collect()
    stub.clock.advance(2)

    assert received == ["hello"] * ROUNDS
    assert len(stub.timeline.of(kind="close")) == ROUNDS
    assert stub.connected_client_ids == ()
    assert heard.count("connected") == heard.count("disconnected") == 2 * ROUNDS


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no interval timers")
def test_a_signal_handler_may_call_the_stub(stub):
    token = channel.create_channel("alice")
    stub.connect_channel(token)
    sent, received = [], []

    def handle(*_):
        text = f"signal {len(sent)}"  # the next signal may come before this one is sent
        sent.append(text)
        channel.send_message("alice", text)

    usual = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        while len(sent) < 200:
            message = stub.connect_and_pop_first_message(token)
            received += [message] if message else []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
    while message := stub.pop_first_message(token):
        received.append(message)

    # A signal may interrupt the handler of the one before, so their sends may overtake.
    assert received == [event.message for event in stub.timeline.of(kind="send")]
    assert sorted(received) == sorted(sent)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage's own lock hangs a forked child")
def test_a_process_forked_while_threads_are_in_the_stub_can_use_it(stub):
    is_over = threading.Event()

    def work(client_id):
        token = channel.create_channel(client_id)
        while not is_over.is_set():
            stub.connect_and_pop_first_message(token)
            channel.send_message(client_id, "hello")
            stub.disconnect(client_id)

    def app(_, start_response):
        start_response("200 OK", [])
        return []

    stub.app = app
    threads = [threading.Thread(target=work, args=(f"client {n}",), daemon=True) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        statuses = [fork_and(use, stub) for _ in range(FORKS)]
    finally:
        is_over.set()
        for thread in threads:
            thread.join(PATIENCE)

    assert statuses == [0] * FORKS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage's own lock hangs a forked child")
def test_in_a_forked_process_no_move_of_another_threads_clock_goes_on(stub):
    is_in, is_over = threading.Event(), threading.Event()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/_ah/channel/disconnected/":
            is_in.set()
            is_over.wait(PATIENCE)
        start_response("200 OK", [])
        return []

    stub.app = app
    ChannelClient(stub, channel.create_channel("alice"))
    mover = threading.Thread(target=stub.clock.advance, args=(100,), daemon=True)
    mover.start()
    assert is_in.wait(PATIENCE)
    try:
        assert fork_and(advance_by_one, stub) == 0
    finally:
        is_over.set()
        mover.join(PATIENCE)
    assert stub.clock.elapsed == 100


def use(stub):
    page = ChannelClient(stub, channel.create_channel("child"))
    channel.send_message("child", "hello")
    assert page.receive() == "hello"
    page.close()
    assert stub.timeline[-1].outcome == "200 OK"
    stub.clock.advance(10)
    assert stub.connected_client_ids == ()


def advance_by_one(stub):
    stub.clock.advance(1)
    assert stub.clock.elapsed == 3


def fork_and(job, stub):
    """The exit status of a child that does something; the kernel ends one that hangs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        signal.alarm(10)
        job(stub)
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)
