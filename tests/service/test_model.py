"""The stub and a plain model of it, driven side by side by whatever Hypothesis comes up with.

A plain run tries the same 100 stories each time, and with CHANNELSTUB_LONG=1 the same 4,000;
CHANNELSTUB_MODEL_SECONDS=600 tries ever new ones for that long.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from pytest_channelstub import (
    ChannelClient,
    ChannelServiceStub,
    FakeClock,
    InvalidTokenError,
    TokenTimedOutError,
    apiproxy_errors,
    channel,
)

START = 1_300_000_000.0
STORIES = 4_000 if os.environ.get("CHANNELSTUB_LONG") else 100
SECONDS = float(os.environ.get("CHANNELSTUB_MODEL_SECONDS", "0"))
CLIENTS = ("alice", "bob", "a-b c&d")
CALLS = ("CreateChannel", "SendChannelMessage")

# All of these are exact in binary, so that the model may add them up as floats.
spans = st.sampled_from([0.0, 0.25, 1.0, 1.5, 1.75, 2.0, 2.25, 30.0, 60.0, 61.0, 3600.0])
clients = st.sampled_from(CLIENTS)


@dataclass
class Timer:
    client_id: str
    due: float
    place: int


@dataclass
class Model:
    """What a stub does, in the plainest words: lists, and a search through all of them."""

    now: float = START
    queues: dict[str, list[str]] = field(default_factory=dict)
    timers: list[Timer] = field(default_factory=list)
    holds: dict[object, tuple[str, int]] = field(default_factory=dict)
    posts: list[tuple[str, str, float]] = field(default_factory=list)
    events: list[tuple[float, str, str | None, str | None]] = field(default_factory=list)
    errors: dict[str | None, type] = field(default_factory=dict)
    places: int = 0

    def note(self, kind, client_id, message=None, at=None):
        self.events.append((self.now if at is None else at, kind, client_id, message))

    def post(self, event, client_id, at):
        url = f"/_ah/channel/{event}/"
        self.posts.append((url, f"from={client_id}", at))
        self.note("request", client_id, url, at)

    def deadline(self, client_id):
        ends = [expires for held, expires in self.holds.values() if held == client_id]
        return max([self.now, *ends]) + 2

    def schedule(self, client_id):
        self.places += 1
        self.timers.append(Timer(client_id, self.deadline(client_id), self.places))

    def refresh(self, client_id):
        for timer in self.timers:
            if timer.client_id == client_id:
                self.places += 1
                timer.due, timer.place = self.deadline(client_id), self.places
                return

    def enter(self, client_id):
        """Connect or refresh; True if it was connected before."""
        if client_id in self.queues:
            self.refresh(client_id)
            return True
        self.queues[client_id] = []
        self.note("connect", client_id)
        self.schedule(client_id)
        self.post("connected", client_id, self.now)
        return False

    def let_go(self, hold):
        client_id, expires = self.holds.pop(hold, (None, self.now))
        if expires > self.now:
            self.refresh(client_id)

    def leave(self, client_id, kind):
        self.timers = [timer for timer in self.timers if timer.client_id != client_id]
        self.queues.pop(client_id, None)
        self.note(kind, client_id)
        self.post("disconnected", client_id, self.now)

    def move(self, goal):
        while due := [timer for timer in self.timers if timer.due <= goal]:
            timer = min(due, key=lambda timer: (timer.due, timer.place))
            self.timers.remove(timer)
            self.now = max(self.now, timer.due)
            self.queues.pop(timer.client_id, None)
            self.note("timeout", timer.client_id, at=timer.due)
            self.post("disconnected", timer.client_id, timer.due)
        self.now = goal


class StubBesideModel(RuleBasedStateMachine):
    tokens = Bundle("tokens")
    pages = Bundle("pages")
    holds = Bundle("holds")

    def __init__(self):
        super().__init__()
        self.clock = FakeClock(START)
        self.stub = ChannelServiceStub(time_func=self.clock.time)
        self.model = Model()
        self.sent = 0

    def teardown(self):
        self.stub.close()

    # The app's side.

    def failing(self, call):
        return self.model.errors.get(call) or self.model.errors.get(None)

    @rule(target=tokens, client_id=clients, minutes=st.sampled_from([1, 2, 60, 1440]))
    def create(self, client_id, minutes):
        if error := self.failing("CreateChannel"):
            self.model.note("error", client_id)
            with pytest.raises(error):
                channel.create_channel(client_id, minutes)
            return multiple()
        token = channel.create_channel(client_id, minutes)
        expires = int(self.model.now + 60 * minutes) + 1
        assert token.split("-", 4)[3:] == [str(expires), client_id]
        self.model.note("create", client_id)
        return (token, client_id, expires)

    @rule(target=tokens, client_id=clients)
    def forge(self, client_id):
        return (f"{'0' * 32}-channel-1-9999999999-{client_id}", None, 0)

    @rule(client_id=clients, token=st.none() | tokens)
    def send(self, client_id, token):
        self.sent += 1
        message = f"message {self.sent}"
        address = client_id
        if token is not None:
            address, owner, expires = token
            client_id = owner if owner and expires > self.model.now else address
        if error := self.failing("SendChannelMessage"):
            self.model.note("error", address, message)
            with pytest.raises(error):
                channel.send_message(address, message)
            return
        channel.send_message(address, message)
        queue = self.model.queues.get(client_id)
        self.model.note("drop" if queue is None else "send", client_id, message)
        if queue is not None:
            queue.append(message)

    @rule(error=st.sampled_from(["OverQuotaError", "RPCFailedError"]))
    def fail_all(self, error):
        error = getattr(apiproxy_errors, error)
        self.stub.SetError(error())
        self.model.errors[None] = error

    @rule(call=st.sampled_from(CALLS))
    def fail_one(self, call):
        self.stub.SetError(apiproxy_errors.CapabilityDisabledError(), call)
        self.model.errors[call] = apiproxy_errors.CapabilityDisabledError

    @rule()
    def fail_no_more(self):
        self.stub.SetError(None)
        for call in CALLS:
            self.stub.SetError(apiproxy_errors.Error(), call, error_rate=0)
        self.model.errors.clear()

    # The page's side.

    def admitted(self, token, method):
        """The client of a valid token; for another, sees it refused."""
        text, client_id, expires = token
        if client_id is not None and expires > self.model.now:
            return client_id
        with pytest.raises(TokenTimedOutError if client_id else InvalidTokenError):
            method(text)
        if method != self.stub.validate_token_and_extract_client_id:
            self.model.note("reject", client_id)
        return None

    @rule(token=tokens)
    def connect(self, token):
        if client_id := self.admitted(token, self.stub.connect_channel):
            self.stub.connect_channel(token[0])
            if self.model.enter(client_id):
                self.model.note("refresh", client_id)

    @rule(token=tokens)
    def poll(self, token):
        if client_id := self.admitted(token, self.stub.connect_and_pop_first_message):
            self.model.enter(client_id)
            queue = self.model.queues[client_id]
            message = queue.pop(0) if queue else None
            assert self.stub.connect_and_pop_first_message(token[0]) == message
            self.model.note("read" if message else "poll", client_id, message)

    @rule(token=tokens)
    def look(self, token):
        text = token[0]
        client_id = self.admitted(token, self.stub.validate_token_and_extract_client_id)
        queue = self.model.queues.get(client_id)
        assert self.stub.client_id_from_token(text) == client_id
        assert self.stub.has_channel_messages(text) == bool(queue)
        assert self.stub.get_channel_messages(text) == queue

    @rule(token=tokens)
    def pop(self, token):
        client_id = self.stub.client_id_from_token(token[0])
        queue = self.model.queues.get(client_id)
        message = queue.pop(0) if queue else None
        assert self.stub.pop_first_message(token[0]) == message
        if message:
            self.model.note("read", client_id, message)

    @rule(token=tokens)
    def clear(self, token):
        self.stub.clear_channel_messages(token[0])
        client_id = self.stub.client_id_from_token(token[0])
        if client_id in self.model.queues:
            self.model.queues[client_id].clear()
            self.model.note("clear", client_id)

    @rule(target=pages, token=tokens)
    def open_a_page(self, token):
        text, client_id, expires = token
        if client_id is None or expires <= self.model.now:
            with pytest.raises(TokenTimedOutError if client_id else InvalidTokenError):
                ChannelClient(self.stub, text, keep_alive=True)
            return multiple()
        page = ChannelClient(self.stub, text, keep_alive=True)
        self.model.holds[page] = (client_id, expires)
        self.model.refresh(client_id)
        if self.model.enter(client_id):
            self.model.note("refresh", client_id)
        return (page, client_id)

    @rule(page=consumes(pages))
    def close_a_page(self, page):
        page, client_id = page
        page.close()
        self.model.let_go(page)
        if client_id in self.model.queues:
            self.model.leave(client_id, "close")

    @rule(target=holds, token=tokens)
    def begin_to_hold(self, token):
        text, client_id, expires = token
        if client_id is None or expires <= self.model.now:
            return multiple()
        hold = ExitStack()
        hold.enter_context(self.stub.hold(client_id, text))
        self.model.holds[hold] = (client_id, expires)
        self.model.refresh(client_id)
        return hold

    @rule(hold=consumes(holds))
    def stop_holding(self, hold):
        hold.close()
        self.model.let_go(hold)

    # By hand.

    @rule(client_id=clients)
    def disconnect(self, client_id):
        self.stub.disconnect_channel_event(client_id)
        self.model.leave(client_id, "disconnect")

    @rule(client_id=clients)
    def say_it_connected(self, client_id):
        self.stub.add_connect_event(client_id)
        self.model.post("connected", client_id, self.model.now)

    @rule(client_id=clients)
    def have_it_disconnected(self, client_id):
        self.stub.add_disconnect_event(client_id)
        self.model.schedule(client_id)

    @rule()
    def empty_the_queues(self):
        self.stub.reset()
        for queue in self.model.queues.values():
            queue.clear()
        if self.model.queues:
            self.model.note("reset", None)

    @rule()
    def start_over(self):
        self.stub.reset("all")
        self.model = Model()

    # Time.

    @rule(span=spans)
    def advance(self, span):
        self.clock.advance(span)
        self.model.move(self.model.now + span)

    @rule(token=tokens, offset=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.75]))
    def go_to_the_end_of(self, token, offset):
        goal = token[2] + offset
        if goal >= self.model.now:
            self.clock.move_to(goal)
            self.model.move(goal)

    @rule(span=spans)
    def go_back(self, span):
        self.clock.tick(-span)
        self.model.now -= span

    @invariant()
    def they_agree(self):
        assert self.clock.time() == self.model.now
        assert self.stub.connected_client_ids == tuple(self.model.queues)
        for client_id in CLIENTS:
            pending = self.model.queues.get(client_id)
            assert self.stub.pending(client_id) == (None if pending is None else tuple(pending))
        requests = [(request.url, request.body, request.at) for request in self.stub.requests]
        assert requests == self.model.posts
        events = [(each.at, each.kind, each.client_id, each.message) for each in self.stub.timeline]
        assert events == self.model.events


def some(count, **options):
    return settings(
        max_examples=count,
        stateful_step_count=60,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        **options,
    )


def test_the_stub_does_what_the_model_does_in_the_same_stories():
    run_state_machine_as_test(StubBesideModel, settings=some(STORIES, derandomize=True))


@pytest.mark.skipif(not SECONDS, reason="CHANNELSTUB_MODEL_SECONDS says how long")
def test_the_stub_does_what_the_model_does_for_as_long_as_asked():
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        run_state_machine_as_test(StubBesideModel, settings=some(500, derandomize=False))
