"""A sample of what `python tests/service/explore.py --all` checks in an hour.

CHANNELSTUB_LONG=1 tries every line of the calls that have failed, a plain run one in seven.
"""

from __future__ import annotations

import os

import explore
import pytest

PAIRS = [
    ("connect", "disconnect"),
    ("poll", "advance past the timeout"),
    ("end a lease", "poll"),
    ("close a client", "connect"),
]
# Each line would take seconds; a prime step meets all of them in turn.
STEP = 29
STEP_WHERE_IT_FAILED = 1 if os.environ.get("CHANNELSTUB_LONG") else 7


def check(runs):
    runs = list(runs)
    assert runs
    assert not [str(run) for run in runs if run.faults]


@pytest.mark.parametrize("same_thread", [False, True], ids=["another thread", "same thread"])
@pytest.mark.parametrize("pair", PAIRS)
def test_two_calls_leave_what_one_of_their_orders_leaves(pair, same_thread):
    state, app = ("kept", "plain") if "close a client" in pair else ("absent", "sends")
    check(explore.explore_pair(pair, state, app, same_thread=same_thread, step=STEP))


# Each was found in this way: a finalizer's call, one of the two moving the clock.
@pytest.mark.parametrize(
    ("pair", "world"),
    [
        (("reset all", "poll of bob"), ("absent", "sends")),
        (("advance", "advance past the timeout"), ("pending", "sends")),
        (("connect", "go back"), ("absent", "plain")),
    ],
)
def test_a_call_in_the_middle_of_another_and_a_move_of_the_clock_agree(pair, world):
    step = STEP_WHERE_IT_FAILED
    check(explore.explore_pair(pair, *world, same_thread=True, step=step))


@pytest.mark.parametrize("call", ["connect", "poll", "close a client", "advance past the timeout"])
def test_an_interrupted_call_leaves_a_consistent_stub(call):
    check(explore.interrupt_call(call, "kept", "plain", step=STEP_WHERE_IT_FAILED))


def test_the_explorer_finds_a_call_that_is_made_in_two_steps(monkeypatch):
    def send_twice(world):
        world.send("alice", "one")
        world.send("alice", "two")

    monkeypatch.setitem(explore.CALLS, "send", send_twice)
    runs = list(explore.explore_pair(("send", "pop"), "connected", "plain", step=7))

    assert any(run.faults for run in runs)
