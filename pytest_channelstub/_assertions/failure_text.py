"""What the texts of failures are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_channelstub._assertions import diff as nearest
from pytest_channelstub._record import formatting
from pytest_channelstub._record.diagnosis import client_id_of
from pytest_channelstub._record.formatting import settings
from pytest_channelstub._record.matching import ANY, may_match

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pytest_channelstub._record.diagnosis import Diagnosis, Reason
    from pytest_channelstub._service.stub import ChannelServiceStub

_MOST_EVENTS = 20
MOST_MESSAGES = 10
_MOST_COMPARED = 200
_COLUMN = 16
_NEAR_ELSEWHERE = 0.6
_NOT_APART = 0.15


def miss(
    diagnosis: Diagnosis,
    to: str,
    expected: object,
    *,
    prefer: Sequence[int] = (),
    skip: Collection[int | None] = (),
) -> list[str]:
    """The message that comes closest: the client's own first, then those of others."""
    index = _nearest_index(diagnosis, to, expected, prefer, skip)
    if index is None:
        return []
    event = diagnosis.history.events[index]
    found = event.message or ""
    whose = formatting.format_client(event.client_id)
    if may_match(expected, found):
        return [f"the same message, {_told(diagnosis, index)} to {whose}"]
    return [
        f"{show(found)}, to {whose},",
        diagnosis.fate(index),
        *("  " + line for line in nearest.explain(expected, found, full=settings.full)),
    ]


def _nearest_index(
    diagnosis: Diagnosis,
    to: str,
    expected: object,
    prefer: Sequence[int],
    skip: Collection[int | None],
) -> int | None:
    events = diagnosis.history.events
    own = [index for index in prefer or diagnosis.messages(to) if index not in skip]
    own = own[-_MOST_COMPARED:]
    least = _NOT_APART if isinstance(expected, str) else 0.0
    best = nearest.nearest(expected, [events[index].message or "" for index in own], least=least)
    if best is not None:
        return own[best]
    others = [i for i, event in enumerate(events) if event.kind in ("send", "drop")]
    others = [index for index in others if index not in skip][-_MOST_COMPARED:]
    best = nearest.nearest(
        expected, [events[index].message or "" for index in others], least=_NEAR_ELSEWHERE
    )
    return None if best is None else others[best]


def _told(diagnosis: Diagnosis, index: int) -> str:
    how = "dropped" if diagnosis.history.events[index].kind == "drop" else "sent"
    return f"{how} at {diagnosis.at(index)}"


def message(diagnosis: Diagnosis, index: int) -> str:
    """A message that was sent, and when."""
    return f"{show(diagnosis.history.events[index].message)}, {_told(diagnosis, index)}"


def show(value: object) -> str:
    """An expected value or a message, shortened unless all is to be shown."""
    return (
        "a message, whatever it says" if value is ANY else nearest.show(value, full=settings.full)
    )


def numbered(texts: Sequence[str]) -> list[str]:
    """Lines with a number each, the first of them where there are many."""
    return listed([f"{number}. {text}" for number, text in enumerate(texts, 1)])


def listed(texts: Sequence[str]) -> list[str]:
    """Lines, the first of them where there are many."""
    if settings.full or len(texts) <= MOST_MESSAGES:
        return list(texts)
    more = f"({len(texts) - MOST_MESSAGES:,} more: run with -vv)"
    return [*texts[:MOST_MESSAGES], more]


def text(  # noqa: PLR0913 (the parts of a failure's text)
    stub: ChannelServiceStub,
    to: str,
    *,
    expected: Sequence[str],
    found: Sequence[str],
    miss: Sequence[str],
    reason: Reason,
) -> str:
    """A failure's text: what was expected and found, the nearest miss, the reason, the timeline.

    Args:
        stub: Whose timeline ends it.
        to: The client id or token that was asserted on.
        expected: Lines on what was expected.
        found: Lines on what is there.
        miss: Lines on what comes nearest; none leaves them out.
        reason: The likely reason.
    """
    sentence = reason.sentence + "."
    told = [
        f"expected {expected[0]}",
        *(f"  {line}" for line in expected[1:]),
        *_labelled("found:", found),
        *_labelled("nearest miss:", miss),
        *_labelled("likely reason:", [sentence, *([reason.advice] if reason.advice else [])]),
    ]
    if settings.show_timeline:
        told += ["timeline:", *("  " + line for line in _timeline(stub, to).split("\n"))]
    return "\n".join(told)


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    return [
        f"{'' if number else label:{_COLUMN}}{line}".rstrip() for number, line in enumerate(lines)
    ]


def _timeline(stub: ChannelServiceStub, to: str) -> str:
    """The whole of a short timeline; of a long one what concerns the client."""
    events = stub.timeline[:]
    limit = None if settings.full else formatting.SHORT
    if settings.full or len(events) <= _MOST_EVENTS:
        return formatting.format_timeline(events, stub.timeline.start, limit=limit)
    addresses = (None, to, client_id_of(to))
    own = [event for event in events if event.client_id in addresses][-_MOST_EVENTS:]
    shown = formatting.format_timeline(own, stub.timeline.start, limit=limit)
    left_out = formatting.plural(len(events) - len(own), "event")
    name = formatting.format_client(client_id_of(to))
    return f"(of {name}; {left_out} of others or earlier left out: run with -vv)\n{shown}"
