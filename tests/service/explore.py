"""Stop one call at each of its lines, run another call there, and check what comes of it.

    python tests/service/explore.py             the pairs of two threads: a sample, in seconds
    python tests/service/explore.py --all       all pairs of two threads, in an hour
    python tests/service/explore.py --reenter   the other call runs in the same thread
    python tests/service/explore.py --interrupt an exception in place of the other call

Each run builds a stub in one of several states, with an app or without. What the run has
left, in results, record, app and state, and in a while of polling and idling, has to be what
one of the two orders of the calls leaves. Where a call takes several steps, it has to be
consistent: the record with itself, with the app and with the state.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest_channelstub
from pytest_channelstub import ChannelClient, ChannelServiceStub, Event, FakeClock, channel
from pytest_channelstub._record import timeline
from pytest_channelstub._service import stub as stub_module
from pytest_channelstub._service.registry import registry

PACKAGE = str(Path(pytest_channelstub.__file__).parent)
START = 1_300_000_000
PATIENCE = 20.0  # seconds, after which a call hangs
MOST_SHOWN = 10


class WatchedLock:
    """A re-entrant lock that says when a thread has to wait for it."""

    def __init__(self, on_wait: Callable[[], None]) -> None:
        self._lock: Any = threading.RLock()
        self._on_wait = on_wait

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._lock.acquire(blocking=False):
            return True
        if blocking:
            self._on_wait()
        return blocking and self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    # For threading.Condition.

    def _is_owned(self) -> bool:
        return self._lock._is_owned()

    def _release_save(self) -> Any:
        self._on_wait()
        return self._lock._release_save()

    def _acquire_restore(self, saved: Any) -> None:
        self._lock._acquire_restore(saved)


class App:
    """An app that records what it hears and who it believes is here, and may send."""

    def __init__(self, world: World, *, sends: bool) -> None:
        self.heard: list[tuple[str, str]] = []
        self.here: set[str] = set()
        self._world = world
        self._sends = sends

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        form = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()
        event, client_id = environ["PATH_INFO"].split("/")[3], form.partition("=")[2]
        self.heard.append((event, client_id))
        if event == "connected":
            self.here.add(client_id)
        else:
            self.here.discard(client_id)
        if self._sends:
            self._world.send(client_id, f"{event} {client_id} {len(self.heard)}")
            self._world.send("bob", f"{client_id} {event} {len(self.heard)}")
        start_response("200 OK", [])
        return []


class World:
    """A stub, its app, and what the calls need, in one of the starting states."""

    def __init__(self, state: str, app: str) -> None:
        self.on_wait: Callable[[], None] = lambda: None
        self.clock = FakeClock(START)
        self.clock._lock = WatchedLock(lambda: self.on_wait())  # noqa: PLW0108 (it changes)
        self.clock._changed = threading.Condition(self.clock._lock)  # type: ignore[arg-type]
        self._registry_lock = registry._lock
        registry._lock = WatchedLock(lambda: self.on_wait())  # noqa: PLW0108 (it changes)
        self.stub = ChannelServiceStub(time_func=self.clock.time)
        self.stub.seed = 1
        self.sends = itertools.count()
        self.expired = self.create("alice", 1)
        self.clock.advance(90.25)
        self.token, self.bobs = self.create("alice"), self.create("bob")
        self.app = App(self, sends=app == "sends")
        self.stub.app = self.app
        self.page = ChannelClient(self.stub, self.token, keep_alive=state == "kept")
        self.lease = self.stub._keep_alive(self.token)
        if state != "leased":
            self.lease.end()
        self.clock.advance(1.5)
        if state == "absent":
            self.clock.advance(1)
        if state == "pending":
            self.stub.connect_channel(self.token)
            self.send("alice", "first")
            self.send("alice", "second")
        if state == "two":
            self.stub.connect_channel(self.bobs)
            self.send("bob", "for bob")
        self.begin = len(self.stub.timeline)

    def end(self) -> None:
        self.stub.close()
        registry._lock = self._registry_lock

    def create(self, client_id: str, minutes: int | None = None) -> str:
        return channel._create_channel(self.stub, client_id, minutes)

    def send(self, client_id: str, message: str) -> None:
        request = channel.SendMessageRequest(client_id, message)
        self.stub.MakeSyncCall("channel", "SendChannelMessage", request, channel.VoidProto())

    def open(self, *, keep_alive: bool = False) -> Any:
        client = ChannelClient(self.stub, self.token, keep_alive=keep_alive)
        return client.client_id


Call = Callable[[World], Any]

CALLS: dict[str, Call] = {
    "connect": lambda world: world.stub.connect_channel(world.token),
    "poll": lambda world: world.stub.connect_and_pop_first_message(world.token),
    "poll of bob": lambda world: world.stub.connect_and_pop_first_message(world.bobs),
    "poll of an expired token": lambda world: world.stub.connect_and_pop_first_message(
        world.expired
    ),
    "poll of a client": lambda world: (world.page.poll(), list(world.page.received)),
    "send": lambda world: world.send("alice", "hello"),
    "disconnect": lambda world: world.stub.disconnect_channel_event("alice"),
    "open a client": lambda world: world.open(),
    "open a kept client": lambda world: world.open(keep_alive=True),
    "close a client": lambda world: world.page.close(),
    "begin a lease": lambda world: world.stub._keep_alive(world.token).client_id,
    "end a lease": lambda world: world.lease.end(),
    "advance past the timeout": lambda world: world.clock.advance(3),
    "advance": lambda world: world.clock.advance(0.25),
    "go back": lambda world: world.clock.tick(-1) and None,
    "move to": lambda world: world.clock.move_to(START + 93),
    "clear": lambda world: world.stub.clear_channel_messages(world.token),
    "pop": lambda world: world.stub.pop_first_message(world.token),
    "reset all": lambda world: world.stub.reset("all"),
    "reset queues": lambda world: world.stub.reset("queues"),
    "begin an epoch": lambda world: world.stub._begin_epoch("queues"),
    "add_disconnect_event": lambda world: world.stub.add_disconnect_event("alice"),
    "add_connect_event": lambda world: world.stub.add_connect_event("alice"),
    "create": lambda world: world.create("alice"),
    "validate": lambda world: world.stub.validate_token_and_extract_client_id(world.token),
    "look": lambda world: (world.stub.connected_client_ids, world.stub.pending("alice")),
    "close": lambda world: world.stub.close(),
}
STATES = ("absent", "connected", "pending", "kept", "leased", "two")
APPS = ("plain", "sends")

# Calls that take more than one step, so that another may come between: validation, a lease
# and a connection; a connection and a read; a timer and the next; an event and a touch.
SEVERAL = {
    "poll", "poll of bob", "poll of a client", "open a client", "open a kept client",
    "advance past the timeout", "move to", "begin an epoch", "look", "close", "reset all",
}  # fmt: skip
# These make no request to the app, which goes on believing what it believes.
SILENT = {"reset all", "begin an epoch", "close", "add_connect_event"}
MOVES = {"advance", "advance past the timeout", "go back", "move to"}
SAMPLE = ("connect", "poll", "send", "disconnect", "end a lease", "advance past the timeout")


def attempt(call: Call, world: World) -> Any:
    """What a call returns or raises, as a value that compares."""
    try:
        return call(world)
    except Exception as error:  # noqa: BLE001 (it is the outcome)
        return f"{type(error).__name__}: {error}"


# What is left.


@dataclass
class Outcome:
    """What two calls have left, and what follows from that."""

    results: tuple[Any, ...]
    events: list[tuple[Any, ...]]
    heard: dict[str, list[str]]
    state: Any
    later: list[Any] = field(default_factory=list)


def read_events(world: World) -> list[tuple[Any, ...]]:
    return [
        (event.at, event.kind, event.client_id, event.token, event.message, event.outcome)
        for event in world.stub.timeline
    ]


def read_heard(world: World) -> dict[str, list[str]]:
    heard = defaultdict(list)
    for event, client_id in world.app.heard:
        heard[client_id].append(event)
    return dict(heard)


def read_state(world: World) -> Any:
    state = world.stub._state
    clients = {
        name: (
            None if client.queue is None else tuple(client.queue),
            tuple(timer.due for timer in client.timers),
            sorted(client.leases.values()),
        )
        for name, client in state.clients.items()
    }
    return clients, world.clock.elapsed, world.page._closed, tuple(world.page.received)


def observe(world: World, *results: Any) -> Outcome:
    world.stub._touch()
    outcome = Outcome(results, read_events(world), read_heard(world), read_state(world))
    outcome.later = [follow(world), read_events(world), read_heard(world)]
    return outcome


def follow(world: World) -> list[Any]:
    """Poll for a while, then idle: who is connected at each moment."""
    stub, seen = world.stub, []
    if stub._is_closed:
        return []
    for _ in range(3):
        for client_id, token in (("alice", world.token), ("bob", world.bobs)):
            if stub.is_connected(client_id):
                seen.append(attempt(lambda _, token=token: stub._poll(token, "poll"), world))
        world.clock.advance(1)
        seen.append(stub.connected_client_ids)
    world.clock.advance(1.5)
    seen.append(stub.connected_client_ids)
    world.clock.advance(7300)
    seen.append(stub.connected_client_ids)
    return seen


# Whether it is consistent.


def find_faults(world: World, names: tuple[str, ...]) -> list[str]:
    """What of the record contradicts itself, the app or the state."""
    world.stub._touch()
    faults = [*check_record(world, names)]
    requests = defaultdict(list)
    for event in world.stub.timeline.of(kind="request"):
        requests[event.client_id].append(event)
        if event.outcome == "under way":
            faults.append(f"never delivered: {event}")
    for client_id, heard in read_heard(world).items():
        sent = [
            (event.message.split("/")[3], event.outcome == "200 OK")
            for event in requests.get(client_id, ())
        ]
        if not is_heard(sent, heard):
            faults.append(f"the app heard {heard} of {client_id}, the record has {sent}")
    here, connected = world.app.here, set(world.stub.connected_client_ids)
    if here != connected and not SILENT.intersection(names):
        faults.append(f"the app believes in {here}, the stub in {connected}")
    return faults


def is_heard(sent: list[tuple[str, bool]], heard: list[str]) -> bool:
    """Whether an app has heard this last; it may not have heard what was cut short."""
    if not sent:
        return True
    event, is_answered = sent[-1]
    if heard[-1:] == [event] and is_heard(sent[:-1], heard[:-1]):
        return True
    return not is_answered and is_heard(sent[:-1], heard)


class Replay:
    """Who is connected, and what is pending, by the record alone; and what contradicts it."""

    def __init__(self, carried: Iterable[str]) -> None:
        self.queues: dict[str | None, list[str | None]] = {name: [] for name in carried}
        self.faults: list[str] = []

    def read(self, event: Event) -> None:
        queue = self.queues.get(event.client_id)
        wants_queue = QUEUED.get(event.kind)
        if wants_queue is not None and wants_queue is not (queue is not None):
            self.faults.append(f"{event}, with {queue}")
        elif event.kind in ("close", "disconnect", "timeout"):
            self.end(event, queue)
        elif event.kind in ("read", "poll"):
            first = queue.pop(0) if queue else None
            if first != event.message:
                self.faults.append(f"{event}, with {first}")
        elif event.kind == "connect":
            self.queues[event.client_id] = []
        elif event.kind == "send" and queue is not None:
            queue.append(event.message)
        elif event.kind in ("clear", "reset"):
            for each in self.queues.values() if queue is None else (queue,):
                each.clear()

    def end(self, event: Event, queue: list[str | None] | None) -> None:
        outcome = "was not connected" if queue is None else f"{len(queue)} unread"
        if not event.outcome.endswith(outcome):
            self.faults.append(f"{event}, with {queue}")
        self.queues.pop(event.client_id, None)


# Whether a client has a queue when such an event happens.
QUEUED = {
    "send": True, "read": True, "poll": True, "refresh": True, "clear": True, "connect": False,
    "drop": False,
}  # fmt: skip


def check_record(world: World, names: tuple[str, ...]) -> list[str]:
    """What of the record contradicts itself or the state."""
    stub = world.stub
    events, replay = [*stub.timeline], Replay(stub.timeline._snapshot().carried)
    for event in events:
        replay.read(event)
    faults = replay.faults
    if not {"go back", "move to"}.intersection(names):
        faults += [f"before its time: {b}" for a, b in itertools.pairwise(events) if b.at < a.at]
    pending = {name: [*(stub.pending(name) or ())] for name in stub.connected_client_ids}
    if pending != replay.queues and not stub._is_closed:
        faults.append(f"by the record {replay.queues} is pending, by the state {pending}")
    return faults


# Runs.


class Stopper:
    """Runs an action at the `line`th line of ours that a call reaches, in its thread."""

    def __init__(self, line: int, action: Callable[[], None], extra: Any = None) -> None:
        self.line = line
        self.reached = 0
        self.at = ""
        self._action = action
        self._extra = extra

    def trace(self, frame: Any, event: str, _: object) -> Any:
        code = frame.f_code
        if event == "call":
            is_ours = code.co_filename.startswith(PACKAGE) or code is App.__call__.__code__
            return self.trace if is_ours else None
        if event == "line":
            self.reached += 1
            if self.reached == self.line:
                self.at = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}"
                self._action()
        return self.trace

    def run(self, call: Callable[[], Any]) -> Any:
        usual = sys.gettrace()
        sys.settrace(self.trace)
        try:
            return call()
        finally:
            sys.settrace(usual)


@dataclass
class Run:
    """One run: which calls, from which state, stopped at which line."""

    first: str
    second: str
    state: str
    app: str
    line: int = 0
    is_nested: bool = False
    at: str = ""
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        where = f"{self.first} / {self.second} ({self.state}, {self.app}) at {self.line} {self.at}"
        return "\n    ".join([where, *self.faults])


def run_in_turn(names: tuple[str, str], state: str, app: str, order: tuple[int, int]) -> Outcome:
    world, results = World(state, app), [None, None]
    try:
        for index in order:
            results[index] = attempt(CALLS[names[index]], world)
        return observe(world, *results)
    finally:
        world.end()


def explore_pair(
    pair: tuple[str, str], state: str, app: str, *, same_thread: bool = False, step: int = 1
) -> Iterator[Run]:
    """A run for each line, or each `step`th; `faults` holds what is wrong with it."""
    orders = [run_in_turn(pair, state, app, order) for order in ((0, 1), (1, 0))]
    together = run_nested if same_thread else run_threads
    for line in itertools.count(1, step):
        run = Run(*pair, state, app, line, same_thread)
        world = World(state, app)
        try:
            stopper, results = together(world, run)
            if stopper.reached < line:
                return
            run.at = stopper.at
            if not run.faults:
                judge(run, world, results, orders)
        finally:
            world.end()
        yield run


def judge(run: Run, world: World, results: list[Any], orders: list[Outcome]) -> None:
    faults = find_faults(world, (run.first, run.second))
    outcome = observe(world, *results)
    # A handler that sends makes a call of several steps, and so does one that a thread
    # finds under way.
    names = {run.first, run.second}
    is_whole = run.app != "sends" and not SEVERAL & names
    # In one thread a move of the clock contains the other, as in a handler; and the call that
    # has drawn its token's number first may be recorded second.
    if run.is_nested and (names <= MOVES or names == {"create"}):
        is_whole = False
    if outcome not in orders and (faults or is_whole):
        faults += describe_difference(outcome, orders)
    run.faults += faults
    if outcome.later[0] and outcome.later[0][-1] != ():
        run.faults.append(f"connected for ever: {outcome.later[0]}")


def describe_difference(outcome: Outcome, orders: list[Outcome]) -> list[str]:
    for name in ("results", "events", "heard", "state", "later"):
        value, wanted = getattr(outcome, name), [getattr(order, name) for order in orders]
        if value not in wanted:
            return [f"{name}: {value}", *(f"or else: {each}" for each in wanted)]
    return [f"neither order: {outcome}", *(f"or else: {order}" for order in orders)]


def run_threads(world: World, run: Run) -> tuple[Stopper, list[Any]]:
    """Stop the first call in its thread, and run the second in another."""
    results: list[Any] = [None, None]
    stopped, second_ended = threading.Event(), threading.Event()

    def run_second() -> None:
        results[1] = attempt(CALLS[run.second], world)
        second_ended.set()
        stopped.set()

    thread = threading.Thread(target=run_second, daemon=True)

    def stop() -> None:
        world.on_wait = lambda: stopped.set() if threading.current_thread() is thread else None
        thread.start()
        if not stopped.wait(PATIENCE):  # it has ended, or waits for the first
            run.faults.append("the second call hangs")

    stopper = Stopper(run.line, stop)
    first = threading.Thread(
        target=lambda: results.__setitem__(
            0, stopper.run(lambda: attempt(CALLS[run.first], world))
        ),
        daemon=True,
    )
    first.start()
    first.join(PATIENCE)
    if thread.ident is not None:
        thread.join(PATIENCE)
    if first.is_alive() or thread.is_alive():
        run.faults.append("a call hangs")
    return stopper, results


def run_nested(world: World, run: Run) -> tuple[Stopper, list[Any]]:
    """Run the second call in the thread of the first, as a finalizer does."""
    results: list[Any] = [None, None]

    def act() -> None:
        results[1] = attempt(CALLS[run.second], world)

    stopper = Stopper(run.line, act)
    results[0] = stopper.run(lambda: attempt(CALLS[run.first], world))
    return stopper, results


# Interrupts.


def interrupt_call(name: str, state: str, app: str, *, step: int = 1) -> Iterator[Run]:
    """Raise KeyboardInterrupt at every line of a call; what is left has to be whole."""
    before, after = (snapshot(name, state, app, is_run=is_run) for is_run in (False, True))
    for line in itertools.count(1, step):
        run = Run(name, "KeyboardInterrupt", state, app, line)
        world = World(state, app)
        try:
            stopper = Stopper(line, raise_interrupt)
            with contextlib.suppress(KeyboardInterrupt):
                stopper.run(partial(attempt, CALLS[name], world))
            if stopper.reached < line:
                return
            run.at = stopper.at
            run.faults += check_whole(world, name, before, after)
        finally:
            world.end()
        yield run


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def snapshot(name: str, state: str, app: str, *, is_run: bool) -> Any:
    world = World(state, app)
    try:
        if is_run:
            attempt(CALLS[name], world)
        world.stub._touch()
        return read_state(world)
    finally:
        world.end()


def check_whole(world: World, name: str, before: Any, after: Any) -> Iterator[str]:
    looks: list[Any] = []
    thread = threading.Thread(
        target=lambda: looks.append(attempt(CALLS["look"], world)), daemon=True
    )
    thread.start()
    thread.join(PATIENCE)
    if not looks:
        yield "another thread hangs"
        return
    names = (name, "add_connect_event")  # a request may have been cut short, so the app may err
    yield from find_faults(world, names)
    if not world.stub._outbox.is_idle():
        yield "a request is left"
    state = read_state(world)
    # A lease that is cut short ends, and leaves its client two seconds from there.
    is_whole = app_is_quiet(world) and name not in {*SEVERAL, "begin a lease"}
    if is_whole and state not in (before, after):
        yield f"neither before nor after: {state}, {before}, {after}"
    if world.stub._is_closed:
        return
    elapsed = world.clock.elapsed
    mover = threading.Thread(target=lambda: world.clock.advance(0.25), daemon=True)
    mover.start()
    mover.join(PATIENCE)
    if world.clock.elapsed != elapsed + 0.25:
        yield f"the clock went from {elapsed} to {world.clock.elapsed}"
    seen = follow(world)
    if seen[-1] != ():
        yield f"connected for ever: {seen}"
    world.stub._begin_epoch("queues")
    yield from find_faults(world, names)
    world.stub._begin_epoch("all")
    if world.stub.connected_client_ids or world.clock.elapsed or len(world.stub.timeline):
        yield "a reset leaves something"


def app_is_quiet(world: World) -> bool:
    return not world.app._sends


# The command.


def show(line: object) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def shorten_runs() -> None:
    """Save time where no run needs it: a third of all."""
    # A reset within a handler waits so long for that handler, which waits for it.
    stub_module._LEAVE_TIME = 0.01
    timeline.format_source = functools.cache(timeline.format_source)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--all", action="store_true", help="all calls; a few otherwise")
    parser.add_argument("--reenter", action="store_true", help="in the same thread")
    parser.add_argument("--interrupt", action="store_true", help="interrupt one call")
    parser.add_argument("--only", default="", help="calls whose name holds this, as the first")
    parser.add_argument("--part", default="1/1", help="such as 2/3: the second of three parts")
    options = parser.parse_args()
    shorten_runs()
    names = tuple(CALLS) if options.all or options.interrupt else SAMPLE
    chosen = [name for name in names if options.only in name]
    start, runs, wrong = time.monotonic(), 0, 0
    places: Counter[str] = Counter()
    seconds = ("",) if options.interrupt else names
    part, parts = map(int, options.part.split("/"))
    series = (
        interrupt_call(first, *where)
        if options.interrupt
        else explore_pair((first, second), *where, same_thread=options.reenter)
        for number, (first, second, *where) in enumerate(
            itertools.product(chosen, seconds, STATES, APPS)
        )
        if number % parts == part - 1
    )
    for run in itertools.chain.from_iterable(series):
        runs += 1
        if run.faults:
            wrong += 1
            places[f"{run.first} / {run.second}: {run.faults[0][:60]}"] += 1
            if wrong <= MOST_SHOWN:
                show(run)
    for place, count in places.most_common(40):
        show(f"{count:6} {place}")
    show(f"{runs:,} runs, {wrong:,} wrong, in {time.monotonic() - start:.0f} s")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
