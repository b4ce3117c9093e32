"""What a call costs, in md5s of 60 bytes taken in the same run.

pip install '.[test]' && pytest -p no:randomly tests/benchmarks/calls.py

The unit makes runs on different machines compare. Measured as the thread's processor time,
the least of many rounds: what else a busy machine does only adds to it.
"""

from __future__ import annotations

import gc
import time

import pytest

from pytest_channelstub import ChannelServiceStub, FakeClock, channel
from pytest_channelstub._service.registry import registry

CALLS = 500
ROUNDS = 60


@pytest.fixture
def stub():
    with ChannelServiceStub(time_func=FakeClock().time) as stub:
        yield stub


@pytest.fixture
def token(stub):
    token = channel.create_channel("alice")
    stub.connect_channel(token)
    return token


def spend(call):
    """The seconds of processor time that a call takes in this thread."""
    gc.collect()
    start = time.thread_time()
    call()
    return time.thread_time() - start


@pytest.fixture
def measure(table, seconds_of_md5, stub):
    """Time a call, and put it into the table."""

    def run(what, budget, call):
        def many():
            for _ in range(CALLS):
                call()

        def spend_on_many():
            stub._begin_epoch("queues")
            return spend(many) / CALLS

        table(what, min(spend_on_many() for _ in range(ROUNDS)) / seconds_of_md5, budget, "md5")

    return run


def test_create_channel(measure):
    measure("`create_channel`", 9, lambda: channel.create_channel("alice"))


def test_send_message(measure, token):
    measure("`send_message` to a connected client", 7, lambda: channel.send_message("alice", "hi"))


def test_poll_of_nothing(measure, stub, token):
    measure(
        "`connect_and_pop_first_message`, nothing pending",
        5,
        lambda: stub.connect_and_pop_first_message(token),
    )


def test_validate(measure, stub, token):
    measure(
        "`validate_token_and_extract_client_id`",
        1,
        lambda: stub.validate_token_and_extract_client_id(token),
    )


def test_send_and_pop(measure, stub, token):
    def both():
        channel.send_message("alice", "hello")
        stub.pop_first_message(token)

    measure("send and pop", 12, both)


def test_drain(table, seconds_of_md5, stub, token):
    def drain():
        for _ in range(100_000):
            stub.pop_first_message(token)

    def fill_and_drain():
        for _ in range(100_000):
            channel.send_message("alice", "hello")
        seconds = spend(drain)
        stub._begin_epoch("queues")
        return seconds

    best = min(fill_and_drain() for _ in range(3))
    table("draining 100,000 messages, each", best / 100_000 / seconds_of_md5, 6, "md5")


def send_and_poll(stub, token):
    for _ in range(2000):
        channel.send_message("alice", "hello")
        stub.connect_and_pop_first_message(token)


def crowd_stub(seed):
    stub = ChannelServiceStub(time_func=FakeClock().time)
    stub.seed = seed
    for number in range(100_000):
        stub.connect_channel(channel.create_channel(f"client {number}"))
    return stub


def test_100_000_clients(table):
    with ChannelServiceStub(time_func=FakeClock().time) as alone:
        quiet = channel.create_channel("alice")
        alone.connect_channel(quiet)
        with crowd_stub(1) as crowd:
            busy = channel.create_channel("alice")
            crowd.connect_channel(busy)
            gc.freeze()
            few, many = [], []
            for _ in range(20):
                many.append(spend(lambda: send_and_poll(crowd, busy)))
                registry.activate(alone)
                few.append(spend(lambda: send_and_poll(alone, quiet)))
                registry.activate(crowd)
                alone._begin_epoch("queues")
            gc.unfreeze()
    table("100,000 connected clients over one: a send and a poll", min(many) / min(few), 1.2, "")


def test_100_000_timeouts(table, seconds_of_md5):
    best = 9e9
    for seed in range(2):
        with crowd_stub(seed) as stub:
            best = min(best, spend(lambda: stub.clock.advance(3)))
            assert stub.connected_client_ids == ()
    table("`advance` past 100,000 timeouts, each", best / 100_000 / seconds_of_md5, 60, "md5")
