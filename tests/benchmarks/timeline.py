"""What recording and reading a timeline cost: run it with Python, it needs no pytest.

pip install . && python tests/benchmarks/timeline.py
"""

from __future__ import annotations

import sys
import time
import tracemalloc

from pytest_channelstub import ChannelServiceStub, FakeClock
from pytest_channelstub._record.diagnosis import Diagnosis
from pytest_channelstub._record.outcomes import format_record
from pytest_channelstub._record.timeline import Row, Timeline

EVENTS = 1_000_000
AT_MOST_MICROSECONDS = 0.5
AT_MOST_MEGABYTES = 250
ROUNDS = 10


def record(events):
    """Record as the stub does: a row of its own for each event, of values that are there."""
    timeline = Timeline(0.0)
    append, message, now = timeline._rows.append, "a message", 1_500_000
    for _ in range(events):
        append(Row(now, "send", "alice", None, message))
    return timeline


def microseconds_an_event():
    """Processor time, the best of some rounds: what else the machine does only adds to it."""
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.process_time()
        record(EVENTS // ROUNDS)
        best = min(best, (time.process_time() - begin) / (EVENTS // ROUNDS))
    return best * 1e6


def megabytes():
    """What the events take, each with a time and a message of its own."""
    tracemalloc.start()
    timeline = Timeline(0.0)
    for number in range(EVENTS):
        timeline._rows.append(Row(number * 1000, "send", "alice", None, f"message {number}"))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / 1e6


def milliseconds_of(call):
    begin = time.process_time()
    call()
    return (time.process_time() - begin) * 1e3


def main():
    cost, size = microseconds_an_event(), megabytes()
    timeline = record(10_000)
    shown = milliseconds_of(lambda: format_record(timeline, last=50))
    with ChannelServiceStub(time_func=FakeClock().time) as stub:
        stub._timeline = timeline
        why = milliseconds_of(lambda: Diagnosis(stub, "bob").find_cause("hi"))
    sys.stdout.write(
        f"recording: {cost:.3f} us an event (at most {AT_MOST_MICROSECONDS})\n"
        f"{EVENTS:,} events: {size:.0f} MB, messages included (at most {AT_MOST_MEGABYTES})\n"
        f"of 10,000 events: the last 50 shown in {shown:.1f} ms, a reason found in {why:.1f} ms\n"
    )
    assert cost < AT_MOST_MICROSECONDS
    assert size < AT_MOST_MEGABYTES


if __name__ == "__main__":
    main()
