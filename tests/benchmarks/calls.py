"""What a call costs.

pip install '.[test,bench]' && pytest -p no:randomly tests/benchmarks/calls.py
"""

from __future__ import annotations

import gc
import time

import pytest

from pytest_channelstub import ChannelServiceStub, FakeClock, channel

CALLS = 2000


@pytest.fixture
def stub():
    with ChannelServiceStub(time_func=FakeClock().time) as stub:
        yield stub


@pytest.fixture
def token(stub):
    token = channel.create_channel("alice")
    stub.connect_channel(token)
    return token


@pytest.fixture
def measure(benchmark, table, seconds_of_md5, stub):
    """Time a call, and put it into the table."""

    def fresh():
        stub.reset("queues")
        stub.timeline.clear()

    def run(what, budget, call):
        def many():
            for _ in range(CALLS):
                call()

        benchmark.pedantic(many, setup=fresh, rounds=60, iterations=1, warmup_rounds=2)
        table(what, benchmark.stats.stats.min / CALLS * 1e6, budget, "us")

    return run


def test_create_channel(measure):
    measure("`create_channel`", 8, lambda: channel.create_channel("alice"))


def test_send_message(measure, token):
    measure(
        "`send_message` to a connected client", 3, lambda: channel.send_message("alice", "hello")
    )


def test_poll_of_nothing(measure, stub, token):
    measure(
        "`connect_and_pop_first_message`, nothing there",
        2,
        lambda: stub.connect_and_pop_first_message(token),
    )


def test_validate(measure, stub, token):
    measure(
        "`validate_token_and_extract_client_id`",
        0.5,
        lambda: stub.validate_token_and_extract_client_id(token),
    )


def test_send_and_pop(measure, stub, token):
    def both():
        channel.send_message("alice", "hello")
        stub.pop_first_message(token)

    measure("send and pop", 5, both)


def once(call):
    gc.collect()
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def test_drain(table, stub, token):
    def drain():
        for _ in range(100_000):
            stub.pop_first_message(token)

    def fill_and_drain():
        for _ in range(100_000):
            channel.send_message("alice", "hello")
        seconds = once(drain)
        stub.timeline.clear()
        return seconds

    best = min(fill_and_drain() for _ in range(5))
    table("draining 100,000 messages, each", best / 100_000 * 1e6, 6, "us")


def send_and_poll(stub, token):
    for _ in range(2000):
        channel.send_message("alice", "hello")
        stub.connect_and_pop_first_message(token)


def crowded(seed):
    stub = ChannelServiceStub(time_func=FakeClock().time)
    stub.seed = seed
    for number in range(100_000):
        stub.connect_channel(channel.create_channel(f"client {number}"))
    return stub


def test_100_000_clients(table):
    with ChannelServiceStub(time_func=FakeClock().time) as alone:
        quiet = channel.create_channel("alice")
        alone.connect_channel(quiet)
        with crowded(1) as crowd:
            busy = channel.create_channel("alice")
            crowd.connect_channel(busy)
            gc.freeze()
            few, many = [], []
            for _ in range(40):
                many.append(once(lambda: send_and_poll(crowd, busy)))
                crowd.close()
                few.append(once(lambda: send_and_poll(alone, quiet)))
                alone.timeline.clear()
                _in_force(crowd)
            gc.unfreeze()
    table("100,000 connected clients over one: a send and a poll", min(many) / min(few), 1.2, "")


def _in_force(stub):
    from pytest_channelstub._service import apiproxy  # noqa: PLC0415 (only here)

    apiproxy.enter_force(stub)


def test_100_000_timeouts(table):
    best = 9e9
    for seed in range(3):
        with crowded(seed) as stub:
            best = min(best, once(lambda: stub.clock.advance(3)))
            assert stub.connected_client_ids == ()
    table("`advance` past 100,000 timeouts, each", best / 100_000 * 1e6, 10, "us")
