"""Many threads at one stub: nothing is lost, doubled or out of order, and nobody waits for ever.

A plain run is short. CHANNELSTUB_LONG=1 sends ten times as many messages, and
CHANNELSTUB_STRESS_SECONDS=60 makes each case of the mixed stress last that long.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import threading
import time

import pytest

from pytest_channelstub import ChannelServiceStub, FakeClock, TokenTimedOutError, channel

SENDERS = 8
TIMES = 10 if os.environ.get("CHANNELSTUB_LONG") else 1
EACH = 500 * TIMES
PATIENCE = 60.0
STRESS_ROUNDS = 100 * TIMES
STRESS_SECONDS = float(os.environ.get("CHANNELSTUB_STRESS_SECONDS", "0"))


@pytest.fixture(params=[None, 1e-6], ids=["usual switching", "hectic switching"])
def switching(request):
    usual = sys.getswitchinterval()
    sys.setswitchinterval(request.param or usual)
    yield
    sys.setswitchinterval(usual)


def run_together(*jobs):
    """Run jobs at once, each in a thread; their errors are raised here, and so is a deadlock."""
    errors = []
    gate = threading.Barrier(len(jobs))

    def run(job):
        gate.wait()
        try:
            job()
        except BaseException as error:  # noqa: BLE001 (raised again below)
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(STRESS_SECONDS + PATIENCE)
    stuck = [thread.name for thread in threads if thread.is_alive()]
    assert not stuck, f"still running, so they wait for each other: {stuck}"
    if errors:
        raise errors[0]


def numbers_by_sender(messages):
    numbers = {}
    for message in messages:
        sender, number = message.split()
        numbers.setdefault(sender, []).append(int(number))
    return numbers


@pytest.mark.usefixtures("switching")
def test_of_8_senders_and_2_readers_no_message_is_lost_doubled_or_overtaken(channel_stub):
    token = channel.create_channel("alice")
    channel_stub.connect_channel(token)
    sending = threading.Semaphore(0)
    batches = [[], []]

    def sender(name):
        for number in range(EACH):
            channel.send_message("alice", f"{name} {number}")
            sending.release()

    def reader(pop, batch):
        for _ in range(SENDERS * EACH // 2):
            assert sending.acquire(timeout=PATIENCE)  # each permit stands for a queued message
            batch.append(pop(token))

    run_together(
        *(lambda name=name: sender(name) for name in range(SENDERS)),
        lambda: reader(channel_stub.pop_first_message, batches[0]),
        lambda: reader(channel_stub.connect_and_pop_first_message, batches[1]),
    )
    received = [message for batch in batches for message in batch]
    assert len(received) == len(set(received)) == SENDERS * EACH
    assert channel_stub.get_channel_messages(token) == []
    for batch in batches:
        for numbers in numbers_by_sender(batch).values():
            assert numbers == sorted(numbers)
    sent = [event.message for event in channel_stub.timeline.of("alice", kind="send")]
    read = [event.message for event in channel_stub.timeline.of("alice", kind="read")]
    assert sent == read


class Stress:
    """Everything at once, until each job has done its rounds or the time is over."""

    def __init__(self, stub):
        self.stub = stub
        self.until = time.monotonic() + STRESS_SECONDS
        self.sent = set()
        self.here = set()
        self.read = []
        self.names = [f"client {number}" for number in range(6)]
        self.numbers = itertools.count()
        stub.app = self.app

    def rounds(self):
        if STRESS_SECONDS:
            return itertools.takewhile(lambda _: time.monotonic() < self.until, itertools.count())
        return range(STRESS_ROUNDS)

    def app(self, environ, start_response):
        """The app's handler: it records who is here, and calls the service and the stub."""
        form = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()
        is_here = environ["PATH_INFO"].endswith("/connected/")
        (self.here.add if is_here else self.here.discard)(form)
        name = self.stub.connected_client_ids[:1]
        self.send("the app", *name)
        channel.create_channel("the app")
        start_response("200 OK", [])
        return [b""]

    def send(self, sender, *to):
        for client_id in to:
            message = f"{sender}: {next(self.numbers)}"
            self.sent.add(message)
            channel.send_message(client_id, message)

    def sender(self, seed):
        chance = random.Random(seed)
        for _ in self.rounds():
            self.send(seed, chance.choice(self.names))

    def reader(self, seed):
        chance = random.Random(seed)
        tokens = {}
        for _ in self.rounds():
            name = chance.choice(self.names)
            token = tokens.get(name) or tokens.setdefault(name, channel.create_channel(name))
            try:
                message = self.stub.connect_and_pop_first_message(token)
            except TokenTimedOutError:
                del tokens[name]
            else:
                self.read.extend([message] if message else [])

    def looker(self):
        for _ in self.rounds():
            for name in self.stub.connected_client_ids:
                pending = self.stub.pending(name)
                assert pending is None or len(set(pending)) == len(pending)
            assert all(request.at for request in self.stub.requests)
            list(self.stub.timeline[-20:])

    def clock(self):
        chance = random.Random("clock")
        for _ in self.rounds():
            self.stub.clock.advance(chance.choice([0, 0.1, 1, 3, 8000]))

    def disturber(self):
        chance = random.Random("disturber")
        for _ in self.rounds():
            what = chance.randrange(4)
            if what == 0:
                self.stub.reset("queues")
            elif what == 1:
                self.stub.disconnect_channel_event(chance.choice(self.names))
            elif what == 2:
                self.stub.clear_channel_messages(channel.create_channel(self.names[0]))
            else:
                self.stub.add_disconnect_event(chance.choice(self.names))

    def resetter(self):
        for number in self.rounds():
            if number % 100 == 0:
                self.stub.reset("all")


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("renewed", [False, True], ids=["", "and resets of everything"])
def test_senders_readers_a_clock_resets_and_an_app_that_sends_get_along(channel_stub, renewed):
    stress = Stress(channel_stub)
    jobs = [lambda seed=seed: stress.sender(seed) for seed in range(3)]
    jobs += [lambda seed=seed: stress.reader(seed) for seed in range(3)]
    jobs += [stress.looker, stress.clock, stress.disturber]
    run_together(*jobs, *([stress.resetter] if renewed else []))
    assert len(stress.read) == len(set(stress.read)), "a message was read twice"
    assert set(stress.read) <= stress.sent, "a message was read that nobody sent"
    channel_stub.clock.advance(10)
    assert channel_stub.connected_client_ids == ()
    assert not stress.here or renewed, "the app believes in somebody who has gone"


def test_a_clock_knows_all_stubs_that_threads_build_on_it():
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            clock, stubs = FakeClock(), []

            def build(clock=clock, stubs=stubs):
                stubs.extend(ChannelServiceStub(time_func=clock.time) for _ in range(5))

            run_together(*[build] * 4)
            assert len(clock._attached()) == 20
            for stub in stubs:
                stub.close()
    finally:
        sys.setswitchinterval(usual)
