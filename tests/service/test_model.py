"""The stub and a plain model of it, driven side by side by whatever Hypothesis comes up with.

A plain run tries the same 40 stories each time, and with CHANNELSTUB_LONG=1 the same 4,000;
CHANNELSTUB_MODEL_SECONDS=600 tries ever new ones for that long.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs

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
STORIES = 4_000 if os.environ.get("CHANNELSTUB_LONG") else 20
SECONDS = float(os.environ.get("CHANNELSTUB_MODEL_SECONDS", "0"))
CLIENTS = ("alice", "bob", "a-b c&d", "grüße")
CALLS = ("CreateChannel", "SendChannelMessage")
IDLE = "idle for 2 s"
# Events whose outcome the model does not predict.
UNPREDICTED = ("create", "error", "refuse")

# All of these are exact in binary, so that the model may add them up as floats.
spans = st.sampled_from([0.0, 0.25, 1.0, 1.5, 1.75, 2.0, 2.25, 30.0, 60.0, 61.0, 3600.0])
clients = st.sampled_from(CLIENTS)
is_bytes = st.booleans()


def encode(text, as_bytes):
    return text.encode() if as_bytes else text


@dataclass
class Timer:
    client_id: str
    due: float
    place: int
    cause: str


@dataclass
class Model:
    """The stub and its app in the plainest words: lists, and a search through all of them.

    The app hears of each request when it is made. One that greets sends a message to each
    client that connects.
    """

    app: str = "none"
    now: float = START
    queues: dict[str, list[str]] = field(default_factory=dict)
    timers: list[Timer] = field(default_factory=list)
    leases: dict[object, tuple[str, int]] = field(default_factory=dict)
    posts: list[tuple[str, str, float]] = field(default_factory=list)
    events: list[tuple] = field(default_factory=list)
    heard: list[tuple[str, str]] = field(default_factory=list)
    errors: dict[str | None, type] = field(default_factory=dict)
    places: int = 0

    def record(self, kind, client_id, message=None, at=None, outcome=""):
        self.events.append((self.now if at is None else at, kind, client_id, message, outcome))

    def post(self, event, client_id, at):
        url = f"/_ah/channel/{event}/"
        self.posts.append((url, f"from={client_id}", at))
        self.record("request", client_id, url, at, "no app" if self.app == "none" else "200 OK")
        if self.app != "none":
            self.heard.append((event, client_id))
        if self.app == "greets" and event == "connected":
            self.send(client_id, f"welcome {len(self.heard)}")

    def failing(self, call):
        return self.errors.get(call) or self.errors.get(None)

    def send(self, address, message, client_id=None, outcome=""):
        client_id = client_id or address
        if self.failing("SendChannelMessage"):
            self.record("error", address, message)
            return
        queue = self.queues.get(client_id)
        kind = "drop" if queue is None else "send"
        self.record(kind, client_id, message, outcome=outcome)
        if queue is not None:
            queue.append(message)

    def deadline(self, client_id):
        ends = [expires for held, expires in self.leases.values() if held == client_id]
        return max([self.now, *ends]) + 2

    def schedule(self, client_id, cause=IDLE):
        self.places += 1
        if cause == IDLE:  # the only one: an older is that of an earlier connection
            old = (client_id, IDLE)
            self.timers = [each for each in self.timers if (each.client_id, each.cause) != old]
        self.timers.append(Timer(client_id, self.deadline(client_id), self.places, cause))

    def reschedule(self, timer, due):
        self.places += 1
        timer.due, timer.place = due, self.places

    def refresh(self, client_id):
        for timer in self.timers:
            if timer.client_id == client_id and timer.cause == IDLE:
                self.reschedule(timer, self.deadline(client_id))
                return

    def connect(self, client_id):
        """Connect or refresh; True if it was connected before."""
        if client_id in self.queues:
            self.refresh(client_id)
            return True
        self.queues[client_id] = []
        self.record("connect", client_id)
        self.schedule(client_id)
        self.post("connected", client_id, self.now)
        return False

    def read(self, client_id, reader):
        queue = self.queues[client_id]
        message = queue.pop(0) if queue else None
        self.record(
            *(("read", client_id, message, None, reader) if message else ("poll", client_id))
        )
        return message

    def end_lease(self, holder):
        client_id, expires = self.leases.pop(holder, (None, self.now))
        if expires > self.now:
            self.refresh(client_id)

    def end(self, client_id, kind, at, cause=""):
        queue = self.queues.pop(client_id, None)
        outcome = "was not connected" if queue is None else f"{len(queue)} unread"
        self.record(kind, client_id, at=at, outcome=f"{cause}{outcome}")
        self.post("disconnected", client_id, at)

    def leave(self, client_id, kind):
        self.timers = [timer for timer in self.timers if timer.client_id != client_id]
        self.end(client_id, kind, self.now)

    def move(self, goal):
        while due := [timer for timer in self.timers if timer.due <= goal]:
            timer = min(due, key=lambda timer: (timer.due, timer.place))
            self.timers.remove(timer)
            self.now = max(self.now, timer.due)
            self.end(timer.client_id, "timeout", timer.due, f"{timer.cause}, ")
        self.now = goal

    def go_back(self, span):
        """A client has two seconds from there at most, or from its leases' ends."""
        self.now -= span
        for timer in sorted(self.timers, key=lambda timer: (timer.due, timer.place)):
            if timer.due > self.deadline(timer.client_id):
                self.reschedule(timer, self.deadline(timer.client_id))

    def clear_all(self):
        lost = sum(map(len, self.queues.values()))
        for queue in self.queues.values():
            queue.clear()
        return lost


class StubBesideModel(RuleBasedStateMachine):
    tokens = Bundle("tokens")
    pages = Bundle("pages")
    leases = Bundle("leases")

    def __init__(self):
        super().__init__()
        self.clock = FakeClock(START)
        self.stub = ChannelServiceStub(time_func=self.clock.time)
        self.model = Model()
        self.heard = []
        self.carried = {}
        self.sent = 0

    def teardown(self):
        token = None if self.model.failing("CreateChannel") else channel.create_channel("alice")
        events = list(self.stub.timeline)
        self.stub.close()
        for change in (
            lambda: self.stub.connect_channel(token),
            lambda: self.stub.connect_and_pop_first_message(token),
            lambda: self.stub.disconnect("alice"),
            lambda: self.stub.add_disconnect_event("alice"),
            lambda: self.stub.add_connect_event("alice"),
            self.stub.reset,
        ):
            with pytest.raises(RuntimeError, match="closed"):
                change()
        self.clock.advance(10)
        assert list(self.stub.timeline) == events
        assert self.stub.connected_client_ids == ()

    # The app.

    def app(self, environ, start_response):
        form = parse_qs(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode())
        event, client_id = environ["PATH_INFO"].split("/")[3], form["from"][0]
        self.heard.append((event, client_id))
        if self.model.app == "greets" and event == "connected":
            with contextlib.suppress(apiproxy_errors.Error):
                channel.send_message(client_id, f"welcome {len(self.heard)}")
        start_response("200 OK", [])
        return []

    @rule(app=st.sampled_from(["none", "listens", "greets"]))
    def change_the_app(self, app):
        self.model.app = app
        self.stub.app = None if app == "none" else self.app

    @rule(target=tokens, client_id=clients, minutes=st.sampled_from([1, 2, 60, 1440]), raw=is_bytes)
    def create(self, client_id, minutes, raw):
        if error := self.model.failing("CreateChannel"):
            self.model.record("error", client_id)
            with pytest.raises(error):
                channel.create_channel(encode(client_id, raw), minutes)
            return multiple()
        token = channel.create_channel(encode(client_id, raw), minutes)
        expires = int(self.model.now + 60 * minutes) + 1
        assert token.split("-", 4)[3:] == [str(expires), client_id]
        self.model.record("create", client_id)
        return (token, client_id, expires)

    @rule(target=tokens, client_id=clients)
    def forge(self, client_id):
        return (f"{'0' * 32}-channel-1-9999999999-{client_id}", None, 0)

    @rule(client_id=clients, token=st.none() | tokens, raw=is_bytes)
    def send(self, client_id, token, raw):
        self.sent += 1
        message, address, outcome = f"message {self.sent}", client_id, ""
        if token is not None:
            address, owner, expires = token
            is_valid = owner is not None and expires > self.model.now
            client_id = owner if is_valid else address
            outcome = "expired token" if owner is not None and not is_valid else ""
        error = self.model.failing("SendChannelMessage")
        with pytest.raises(error) if error else contextlib.nullcontext():
            channel.send_message(encode(address, raw), encode(message, raw))
        self.model.send(address, message, client_id, outcome)

    @rule(client_id=clients, message=st.sampled_from(["", None, "x" * 32768]))
    def send_what_is_refused(self, client_id, message):
        error = self.model.failing("SendChannelMessage") if message == "" else None
        with pytest.raises(error or channel.InvalidMessageError):
            channel.send_message(client_id, message)
        self.model.record("error" if error else "refuse", client_id, message)

    @rule(client_id=st.sampled_from([None, "x" * 257]), minutes=st.sampled_from([1, 60]))
    def create_what_is_refused(self, client_id, minutes):
        with pytest.raises(channel.InvalidChannelClientIdError):
            channel.create_channel(client_id, minutes)
        self.model.record("refuse", client_id)

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

    def admit(self, token, method):
        """The client of a valid token; another is refused."""
        text, client_id, expires = token
        if client_id is not None and expires > self.model.now:
            return client_id
        with pytest.raises(TokenTimedOutError if client_id else InvalidTokenError):
            method(text)
        if method != self.stub.validate_token_and_extract_client_id:
            self.model.record("reject", client_id, outcome="expired" if client_id else "invalid")
        return None

    @rule(token=tokens, raw=is_bytes)
    def connect(self, token, raw):
        if client_id := self.admit(token, self.stub.connect_channel):
            self.stub.connect_channel(encode(token[0], raw))
            if self.model.connect(client_id):
                self.model.record("refresh", client_id)

    @rule(token=tokens, raw=is_bytes)
    def poll(self, token, raw):
        if client_id := self.admit(token, self.stub.connect_and_pop_first_message):
            message = self.stub.connect_and_pop_first_message(encode(token[0], raw))
            self.model.connect(client_id)
            assert self.model.read(client_id, "poll") == message

    @rule(token=tokens)
    def look(self, token):
        text = token[0]
        client_id = self.admit(token, self.stub.validate_token_and_extract_client_id)
        queue = self.model.queues.get(client_id)
        assert self.stub.client_id_from_token(text) == client_id
        assert self.stub.has_channel_messages(text) == bool(queue)

    @rule(token=tokens)
    def take_from_the_live_list(self, token):
        live = self.stub.get_channel_messages(token[0])
        queue = self.model.queues.get(self.stub.client_id_from_token(token[0]))
        assert live == queue
        if live:
            assert live.pop(0) == queue.pop(0)

    @rule(token=tokens)
    def pop(self, token):
        client_id = self.stub.client_id_from_token(token[0])
        queue = self.model.queues.get(client_id)
        message = queue.pop(0) if queue else None
        assert self.stub.pop_first_message(token[0]) == message
        if message:
            self.model.record("read", client_id, message, outcome="pop")

    @rule(token=tokens)
    def clear(self, token):
        self.stub.clear_channel_messages(token[0])
        client_id = self.stub.client_id_from_token(token[0])
        if client_id in self.model.queues:
            lost = len(self.model.queues[client_id])
            self.model.queues[client_id].clear()
            outcome = f"{lost} message{'' if lost == 1 else 's'}"
            self.model.record("clear", client_id, outcome=outcome)

    @rule(target=pages, token=tokens, kept=st.booleans())
    def open_a_page(self, token, kept):
        text, client_id, expires = token
        if client_id is None or expires <= self.model.now:
            with pytest.raises(TokenTimedOutError if client_id else InvalidTokenError):
                ChannelClient(self.stub, text, keep_alive=kept)
            return multiple()
        page = ChannelClient(self.stub, text, keep_alive=kept)
        if kept:
            self.model.leases[page] = (client_id, expires)
            self.model.refresh(client_id)
        if self.model.connect(client_id):
            self.model.record("refresh", client_id)
        return (page, token)

    @rule(page=pages)
    def poll_a_page(self, page):
        page, token = page
        if client_id := self.admit(token, lambda _: page.poll()):
            before = [*page.received]
            message = page.poll()
            self.model.connect(client_id)
            assert self.model.read(client_id, "client") == message
            assert page.received == [*before, *([message] if message else [])]

    @rule(page=consumes(pages))
    def close_a_page(self, page):
        page, (_, client_id, _) = page
        page.close()
        self.model.end_lease(page)
        if client_id in self.model.queues:
            self.model.leave(client_id, "close")

    @rule(target=leases, token=tokens)
    def begin_a_lease(self, token):
        text, client_id, expires = token
        if client_id is None or expires <= self.model.now:
            return multiple()
        lease = self.stub._keep_alive(text)
        self.model.leases[lease] = (client_id, expires)
        self.model.refresh(client_id)
        return lease

    @rule(lease=consumes(leases))
    def end_a_lease(self, lease):
        lease.end()
        self.model.end_lease(lease)

    # By hand.

    @rule(client_id=clients, raw=is_bytes)
    def disconnect(self, client_id, raw):
        self.stub.disconnect_channel_event(encode(client_id, raw))
        self.model.leave(client_id, "disconnect")

    @rule(client_id=clients, raw=is_bytes)
    def add_a_connect_event(self, client_id, raw):
        self.stub.add_connect_event(encode(client_id, raw))
        self.model.post("connected", client_id, self.model.now)

    @rule(client_id=clients, raw=is_bytes)
    def add_a_disconnect_event(self, client_id, raw):
        self.stub.add_disconnect_event(encode(client_id, raw))
        self.model.schedule(client_id, "2 s after add_disconnect_event")

    @rule()
    def reset_the_queues(self):
        self.stub.reset()
        connected, lost = bool(self.model.queues), self.model.clear_all()
        if connected:
            self.model.record("reset", None, outcome=f"queues, {lost} lost")

    @rule()
    def reset_everything(self):
        self.stub.reset("all")
        self.model, self.carried = Model(self.model.app, heard=self.model.heard), {}

    # Between tests.

    @rule(what=st.sampled_from(["queues", "all", "nothing"]))
    def begin_an_epoch(self, what):
        self.stub._begin_epoch(what)
        if what == "all":
            self.model, self.carried = Model(self.model.app, heard=self.model.heard), {}
        elif what == "queues":
            self.model.clear_all()
            self.model.events.clear()
            self.model.posts.clear()
            self.carried = set(self.model.queues)

    # Time.

    @rule(span=spans)
    def advance(self, span):
        self.clock.advance(span)
        self.model.move(self.model.now + span)

    @rule(token=tokens, offset=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.75]))
    def move_to_the_end_of(self, token, offset):
        goal = token[2] + offset
        if goal >= self.model.now:
            self.clock.move_to(goal)
            self.model.move(goal)

    @rule(span=spans)
    def go_back(self, span):
        self.clock.tick(-span)
        self.model.go_back(span)

    @invariant()
    def they_agree(self):
        assert self.clock.time() == self.model.now
        assert self.stub.connected_client_ids == tuple(self.model.queues)
        for client_id in CLIENTS:
            pending = self.model.queues.get(client_id)
            assert self.stub.pending(client_id) == (None if pending is None else tuple(pending))
        requests = [(request.url, request.body, request.at) for request in self.stub.requests]
        assert requests == self.model.posts
        events = [
            (each.at, each.kind, each.client_id, each.message)
            + (("",) if each.kind in UNPREDICTED else (each.outcome,))
            for each in self.stub.timeline
        ]
        assert events == self.model.events
        assert set(self.stub.timeline._snapshot().carried) == set(self.carried)
        assert self.heard == self.model.heard


def some(count, **options):
    return settings(
        max_examples=count,
        stateful_step_count=60,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        **options,
    )


def test_the_stub_and_its_model_agree_in_the_same_stories():
    run_state_machine_as_test(StubBesideModel, settings=some(STORIES, derandomize=True))


@pytest.mark.skipif(not SECONDS, reason="runs only if CHANNELSTUB_MODEL_SECONDS is set")
def test_the_stub_and_its_model_agree_for_as_long_as_asked():
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        run_state_machine_as_test(StubBesideModel, settings=some(500, derandomize=False))
