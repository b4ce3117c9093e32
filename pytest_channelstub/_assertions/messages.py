"""The texts of failed assertions: what was expected of whom, and the reason, in the first line.

`settings` is what the plugin sets for the time of a run: whether texts show everything, and
whether the timeline ends them, which under pytest stands in a section of the report.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

from pytest_channelstub import _tokens
from pytest_channelstub._assertions import diff
from pytest_channelstub._assertions.diff import show
from pytest_channelstub._record import diagnosis, formatting, matching
from pytest_channelstub._record.diagnosis import Diagnosis, Reason, times
from pytest_channelstub._record.formatting import (
    format_advance,
    format_client,
    name_stub,
    plural,
    settings,
)
from pytest_channelstub._record.matching import ANY, may_match
from pytest_channelstub._record.outcomes import client_id_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pytest_channelstub._service.stub import ChannelServiceStub

__all__ = ["settings"]

_LONGEST_CALL = 72
_MOST_MESSAGES = 10
_MOST_COMPARED = 200
_NEAR = 0.15
_NEAR_ELSEWHERE = 0.6


def queued(
    stub: ChannelServiceStub, to: str, pending: Sequence[str], expected: Sequence[object]
) -> str:
    """Why `assert_queued` does not hold."""
    known = Diagnosis(stub.timeline, stub)
    client_id = client_id_of(to)
    name = format_client(client_id)
    sent = _find_events(known, client_id, pending)
    used = _pair(expected, pending)
    extra = [index for index in range(len(pending)) if index not in used]
    unmet = [value for value, index in zip(expected, used, strict=True) if index is None]
    if unmet:
        what, more = show(unmet[0]), len(unmet) - 1
        reason = _explain_unmet(known, to, unmet[0], pending, expected, used, sent)
        others = f" (and {more} more)" if more else ""
        headline = f"{what}{others} is not pending for {name}: {reason.of('it')}"
    elif not extra:
        reason = Reason("", "Messages are pending in the order in which they were sent.")
        headline = f"the messages for {name} are pending in another order than expected"
    else:
        headline, reason = _explain_surplus(known, client_id, pending, expected, extra, sent)
    details = [*reason.sources]
    if not pending:
        details += _describe_state(known, to, reason)
    elif len(expected) > 1 or len({*pending}) > 1:
        details += _list_queues(pending, expected, used, extra)
    return _compose(stub, to, headline, details, reason.advice)


def sent(
    stub: ChannelServiceStub,
    to: str | None,
    expected: object,
    count: int | None,
    found: Sequence[int],
) -> str:
    """Why `assert_sent` does not hold."""
    known = Diagnosis(stub.timeline, stub)
    what, name = show(expected), _name(to)
    if found and count is not None:
        wanted = f"was expected {times(count)}" if count else "was not expected"
        headline = f"{what} was sent to {name} {times(len(found))}, and {wanted}"
        if len(found) > count:
            return _compose(stub, to, headline, _list_sent(known, found))
        cause = known.find_cause(to, expected, skip=found)
        if cause is None:
            return _compose(stub, to, headline, _list_sent(known, found))
        headline += f": another {cause.of('one')}"
        return _compose(stub, to, headline, cause.sources, cause.advice)
    reason = _explain_missing(known, to, expected)
    verb = "did not reach" if reason.sentence.startswith("was dropped") else "was not sent to"
    often = "" if count in (None, 1) else f" {times(count)}"
    headline = f"{what} {verb} {name}{often}: {reason.of('it')}"
    return _compose(stub, to, headline, reason.sources, reason.advice)


def not_sent(
    stub: ChannelServiceStub, to: str | None, expected: object, found: Sequence[int]
) -> str:
    """Why `assert_not_sent` does not hold."""
    known = Diagnosis(stub.timeline, stub)
    what = "nothing" if expected is ANY else f"nothing like {show(expected)}"
    what = f"{what} was to be sent{'' if to is None else f' to {_name(to)}'}"
    if len(found) == 1:
        event = known.events[found[0]]
        whom = f" to {format_client(event.client_id)}" if to is None else ""
        headline = f"{what}, and {show(event.message)}{whom} {known.describe(found[0])}"
        return _compose(stub, to, headline, known.sources(found[0]))
    headline = f"{what}, and {plural(len(found), 'message')} were"
    return _compose(stub, to, headline, _list_sent(known, found))


def dropped(stub: ChannelServiceStub, to: str | None, expected: object) -> str:
    """Why `assert_dropped` does not hold."""
    known = Diagnosis(stub.timeline, stub)
    queued = known.find_matching(known.messages(to, ("send",)), expected)
    whom = "" if to is None else f" to {_name(to)}"
    what = f"no message{whom}" if expected is ANY else f"{show(expected)}{whom}"
    verb = "was dropped" if expected is ANY else "was not dropped"
    if queued:
        event = known.events[queued[-1]]
        headline = (
            f"{what} {verb}: {format_client(event.client_id)} was connected, and "
            f"{'it' if expected is not ANY else show(event.message)} {known.describe(queued[-1])}"
        )
        return _compose(stub, to, headline, known.sources(queued[-1]))
    reason = _explain_missing(known, to, expected)
    headline = f"{what} {verb}: {reason.of('it' if expected is not ANY else '')}"
    return _compose(stub, to, headline, reason.sources, reason.advice)


def connected(stub: ChannelServiceStub, to: str) -> str:
    """Why `assert_connected` does not hold."""
    known = Diagnosis(stub.timeline, stub)
    reason = known.explain_unconnected(to)
    others = [format_client(each) for each in stub.connected_client_ids]
    details = [*reason.sources]
    if others:
        details.append(f"connected: {', '.join(_shorten_list(others))}")
    headline = f"{_name(to)} is not connected: {reason.sentence}"
    return _compose(stub, to, headline, details, reason.advice)


def disconnected(stub: ChannelServiceStub, to: str) -> str:
    """Why `assert_disconnected` does not hold."""
    known = Diagnosis(stub.timeline, stub)
    client_id = client_id_of(to)
    due, is_kept = stub._deadline_of(client_id)
    end = f"{name_stub()}.disconnect({client_id!r})"
    at = formatting.format_offset(due, stub.timeline.start)
    if is_kept:
        why = f"it is kept alive, until its token expires at the latest, and then times out ({at})"
        advice = f"End it with the client's close(), or with {end}."
    else:
        why = f"it times out at {at} if it does not poll before"
        wait = f"{name_stub()}.wait_for('timeout', {client_id!r})"
        if stub._is_clock_own:
            wait = format_advance(due - stub.clock.time())
        advice = f"Let time pass: {wait}; or end it: {end}."
    last = known.history.connection(client_id)
    source = known.source(last.first) if last is not None and last.first is not None else ""
    headline = f"{known.describe_connection(to)}: {why}"
    return _compose(stub, to, headline, [source] if source else [], advice)


def token_valid(
    stub: ChannelServiceStub, token: object, client_id: str | None, whose: str | None
) -> str:
    """Why `assert_token_valid` does not hold."""
    if whose is not None:
        headline = (
            f"the token is not one of {format_client(client_id)}: "
            f"its client id is {formatting.quoted(whose)}"
        )
        return _compose(stub, token, headline, [])
    read = _read_token(stub, token)
    if read is None:
        return _refuse_token(stub, token)
    end = formatting.format_offset(read.expires, stub.timeline.start)
    late = stub.clock.time() - read.expires
    ago = f"{formatting.format_duration(late)} ago" if late else "and at that second it is over"
    headline = f"{formatting.format_token(str(token))} is not valid: it expired at {end}, {ago}"
    advice = f"Make another: channel.create_channel({read.client_id!r})."
    return _compose(stub, token, headline, [], advice)


def token_expired(stub: ChannelServiceStub, token: object) -> str:
    """Why `assert_token_expired` does not hold."""
    read = _read_token(stub, token)
    if read is None:
        return _refuse_token(stub, token)
    end = formatting.format_offset(read.expires, stub.timeline.start)
    left = read.expires - stub.clock.time()
    headline = (
        f"{formatting.format_token(str(token))} is not expired: it is valid until {end}, for "
        f"{formatting.format_duration(left)} more"
    )
    advice = f"Let time pass: {format_advance(left)}." if stub._is_clock_own else ""
    return _compose(stub, token, headline, [], advice)


def nothing_to_receive(stub: ChannelServiceStub, client_id: str, token: str) -> str:
    """Why a client that wants to receive a message gets none."""
    known = Diagnosis(stub.timeline, stub, token)
    reason = known.explain_nothing_to_receive(client_id)
    details = [*reason.sources]
    if not stub.is_connected(client_id):
        details += _describe_state(known, client_id, reason)
    headline = f"{format_client(client_id)} has nothing to receive: {reason.of()}"
    return _compose(stub, client_id, headline, details, reason.advice)


def not_json(client_id: str, message: str, error: ValueError) -> str:
    """Why `receive_json` does not give a message that was received."""
    return (
        f"{format_client(client_id)} received {show(message)}, which is not JSON: {error}\n"
        "  hint: receive() gives it as text; have the app send json.dumps(...) for JSON."
    )


def unknown_client(stub: ChannelServiceStub, client_id: str) -> str:
    """That nothing is known of a client id, and which one may be meant; empty otherwise."""
    rows = stub.timeline._rows.copy()
    known = {row.client_id for row in rows if row.client_id} | {*stub.connected_client_ids}
    if client_id in known:
        return ""
    for other in sorted(known):
        if matching.is_misspelt(client_id, other):
            return (
                f"nothing is known of client id {client_id!r} in this test, so that this holds: "
                f"is {other!r} meant?"
            )
    return ""


def _compose(
    stub: ChannelServiceStub,
    to: object,
    headline: str,
    details: Sequence[str],
    advice: str = "",
) -> str:
    foreign = Diagnosis(stub.timeline).describe_foreign_token(to)
    if foreign and foreign not in headline:
        details = [*details, foreign]
    return diagnosis.format_failure(stub.timeline, headline, details, advice)


def _explain_missing(
    known: Diagnosis, to: str | None, expected: object, skip: Collection[int | None] = ()
) -> Reason:
    """Why a message is not among those of a client; the message nearest to it, if any is."""
    if isinstance(expected, bytes):
        text = expected.decode("utf-8", "backslashreplace")
        return Reason("messages are text, and this is bytes", f"Pass {text!r}.")
    cause = known.find_cause(to, expected, skip=skip)
    if cause is None and expected is not ANY:
        cause = _compare_nearest(known, to, expected, skip)
    return cause or known.explain_silence(to)


def _describe_state(known: Diagnosis, to: str, reason: Reason) -> list[str]:
    """Whether a client is connected, where the reason does not say so already."""
    last = known.history.connection(client_id_of(to))
    if last is None or (last.last is not None and known.at(last.last) in reason.sentence):
        return []
    state = known.describe_connection(to)
    return [f"nothing is pending; {state}" if last.last is None else state]


def _compare_nearest(
    known: Diagnosis,
    to: str | None,
    expected: object,
    skip: Collection[int | None],
    prefer: Sequence[int] = (),
) -> Reason | None:
    """In what the message that comes closest differs: one of the client's own, else of others."""
    own = [index for index in prefer or known.messages(to) if index not in skip]
    everybody = known.messages(None)
    for indexes, least in (
        (own[-_MOST_COMPARED:], 0.0 if len(own) == 1 else _NEAR),
        (everybody[-_MOST_COMPARED:], _NEAR_ELSEWHERE),
    ):
        messages = [known.events[index].message or "" for index in indexes]
        best = diff.find_nearest(expected, messages, least)
        if best is not None:
            return _compare(known, to, expected, indexes[best])
    return None


def _compare(known: Diagnosis, to: str | None, expected: object, index: int) -> Reason:
    event = known.events[index]
    comparison = diff.compare(expected, event.message or "")
    which = "the nearest message" if len(known.messages(to)) > 1 else "the message sent"
    if to is not None and event.client_id not in (to, client_id_of(to)):
        which = f"the nearest message, to {format_client(event.client_id)},"
    return Reason(
        f"{which} {comparison.sentence}",
        comparison.advice,
        (
            *comparison.lines,
            f"{'it' if comparison.shows_message else show(event.message)} {known.describe(index)}",
            *known.sources(index),
        ),
    )


def _explain_unmet(  # noqa: PLR0913, PLR0917 (what is known of the queue)
    known: Diagnosis,
    to: str,
    value: object,
    pending: Sequence[str],
    expected: Sequence[object],
    used: Sequence[int | None],
    sent: Sequence[int | None],
) -> Reason:
    """Why an expected message is not among those that are pending."""
    skip = {sent[index] for index in used if index is not None}
    cause = None if isinstance(value, bytes) else known.find_cause(to, value, skip=skip)
    if cause is not None:
        return cause
    others = [index for index in skip if index is not None]
    alike = [] if isinstance(value, bytes) else known.find_matching(others, value)
    if alike:
        return known.describe_too_few(to, alike)
    listed = _explain_list(client_id_of(to), pending, expected, value)
    if listed is not None:
        return listed
    extra = [sent[index] for index in range(len(pending)) if index not in used]
    prefer = [index for index in extra if index is not None]
    if isinstance(value, bytes) or not prefer:
        return _explain_missing(known, to, value, skip)
    return _compare_nearest(known, to, value, skip, prefer) or known.explain_silence(to)


def _explain_list(
    client_id: str, pending: Sequence[str], expected: Sequence[object], unmet: object
) -> Reason | None:
    """That a list was passed for messages that are pending one by one, if it was."""
    if not isinstance(unmet, (list, tuple)) or len(unmet) > len(pending):
        return None
    if bool(unmet) != bool(pending) or None in _pair(unmet, pending):
        return None
    apart = [one for value in expected for one in (unmet if value is unmet else [value])]
    what = "".join(f", {show(one)}" for one in apart)
    if len(what) > _LONGEST_CALL or not all(isinstance(one, str) for one in apart):
        what = ", *messages"
    how = "them one by one" if apart else "none"
    return Reason(
        f"a {type(unmet).__name__} stands for one JSON message",
        f"Pass {how}: assert_queued({name_stub()}, {client_id!r}{what}).",
    )


def _explain_surplus(  # noqa: PLR0913, PLR0917 (what is known of the queue)
    known: Diagnosis,
    client_id: str,
    pending: Sequence[str],
    expected: Sequence[object],
    extra: Sequence[int],
    sent: Sequence[int | None],
) -> tuple[str, Reason]:
    """The first line where more is pending than was expected, and the reason."""
    name, what = format_client(client_id), show(pending[extra[0]])
    alike = [index for index, message in enumerate(pending) if message == pending[extra[0]]]
    wanted = "was not expected" if expected else "nothing was expected"
    advice = (
        "Expect it too, or read it before; "
        f"assert_sent({name_stub()}, {client_id!r}, ...) checks one message and ignores the others."
    )
    if len(alike) > 1:
        events = [index for index in map(sent.__getitem__, alike) if index is not None]
        at = " and at ".join(map(known.at, events))
        often = len([index for index in alike if index not in extra])
        wanted = f"was expected {times(often)}" if often else wanted
        headline = f"{what} is pending for {name} {times(len(alike))}, and {wanted}: sent at {at}"
        advice = f"Expect it {times(len(alike))}, or have the app send it {times(often or 1)}."
        return headline, Reason("", advice, tuple(_list_sources(known, events)))
    others = f" (and {len(extra) - 1} more)" if len(extra) > 1 else ""
    headline = f"{what}{others} is pending for {name}, and {wanted}"
    index = sent[extra[0]]
    if index is None:
        return f"{headline}: the test put it into the list", Reason("", advice)
    return f"{headline}: sent at {known.at(index)}", Reason("", advice, known.sources(index))


def _list_sources(known: Diagnosis, events: Sequence[int]) -> list[str]:
    """The lines of code that sent messages, each with its time."""
    lines = [
        f"sent at {known.at(index)} by {formatting.describe_source(known.events[index].source)}"
        for index in events
        if known.events[index].source
    ]
    return _shorten_list(lines)


def _list_queues(
    pending: Sequence[str],
    expected: Sequence[object],
    used: Sequence[int | None],
    extra: Sequence[int],
) -> list[str]:
    wanted = [
        show(value) + ("   <- not pending" if index is None else "")
        for value, index in zip(expected, used, strict=True)
    ]
    there = [
        show(message) + ("   <- not expected" if index in extra else "")
        for index, message in enumerate(pending)
    ]
    return [*_number("expected:", wanted), *_number("pending:", there)]


def _list_sent(known: Diagnosis, indexes: Sequence[int]) -> list[str]:
    lines = ["; ".join((known.name_message(index), *known.sources(index)[:1])) for index in indexes]
    return _shorten_list(lines)


def _number(heading: str, texts: Sequence[str]) -> list[str]:
    lines = [f"  {number}. {text}" for number, text in enumerate(texts, 1)]
    return [heading, *_shorten_list(lines)] if texts else []


def _shorten_list(texts: Sequence[str]) -> list[str]:
    if settings.full or len(texts) <= _MOST_MESSAGES:
        return list(texts)
    more = f"({len(texts) - _MOST_MESSAGES:,} more: run with -vv)"
    return [*texts[:_MOST_MESSAGES], more]


def _name(to: str | None) -> str:
    return "anybody" if to is None else format_client(client_id_of(to))


def _read_token(stub: ChannelServiceStub, token: object) -> _tokens.Token | None:
    read = _tokens.read(token)
    return read if read is not None and read.identifier == stub.CHANNEL_TOKEN_IDENTIFIER else None


def _refuse_token(stub: ChannelServiceStub, token: object) -> str:
    """Why a value is not a token."""
    what = show(token)
    if not isinstance(token, (str, bytes)):
        advice = (
            "Pass its token." if hasattr(token, "token") else "Pass what create_channel returned."
        )
        kind = type(token).__name__
        headline = f"{what} is not a token: a token is a string, and this is of type {kind}"
    elif "-" not in str(token) or any(event.client_id == token for event in stub.timeline):
        advice = "Pass what create_channel returned for it."
        headline = f"{what} is not a token: it is a client id"
    else:
        advice = "Pass what create_channel returned, unchanged."
        headline = f"{what} is not a token: create_channel has not returned it, or it was changed"
    return _compose(stub, token, headline, [], advice)


def _pair(expected: Sequence[object], pending: Sequence[str]) -> list[int | None]:
    """For each expected message the pending one that it is, each taken once."""
    free = list(range(len(pending)))
    taken: list[int | None] = []
    for value in expected:
        index = next((one for one in free if may_match(value, pending[one])), None)
        if index is not None:
            free.remove(index)
        taken.append(index)
    return taken


def _find_events(known: Diagnosis, client_id: str, pending: Sequence[str]) -> list[int | None]:
    """The event that sent each pending message; None for what a test put there itself."""
    alike: dict[str, deque[int]] = defaultdict(deque)
    for index in known.history.queues.get(client_id, ()):
        alike[known.events[index].message or ""].append(index)
    found = (alike.get(message) if isinstance(message, str) else None for message in pending)
    return [indexes.popleft() if indexes else None for indexes in found]
