"""The texts of failed assertions: what was expected of whom, and the reason, in the first line."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

from pytest_channelstub import _tokens
from pytest_channelstub._assertions import diff
from pytest_channelstub._assertions.diff import show
from pytest_channelstub._assertions.pairing import pair
from pytest_channelstub._record import formatting
from pytest_channelstub._record.diagnosis import Diagnosis, Reason, times
from pytest_channelstub._record.formatting import (
    describe_source,
    format_client,
    format_duration,
    format_token,
    limit_lines,
    plural,
)
from pytest_channelstub._record.matching import ANY

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pytest_channelstub._service.stub import ChannelServiceStub

_LONGEST_CALL = 72
_MOST_MESSAGES = 10
_MOST_COMPARED = 200
_NEAR = 0.15
_NEAR_ELSEWHERE = 0.6


def queued(
    stub: ChannelServiceStub, to: str, pending: Sequence[str], expected: Sequence[object]
) -> str:
    """Why `assert_queued` does not hold."""
    return _Queue(stub, to, pending, expected).explain()


def sent(
    stub: ChannelServiceStub,
    to: str | None,
    expected: object,
    count: int | None,
    found: Sequence[int],
) -> str:
    """Why `assert_sent` does not hold."""
    known = Diagnosis(stub, to)
    what = show(expected)
    if count == len(found):
        return _refuse_bytes(known, expected)
    if found and count is not None:
        wanted = f"was expected {times(count)}" if count else "was not expected"
        headline = f"{what} was sent to {known.name} {times(len(found))}, and {wanted}"
        cause = known.find_cause(expected, skip=found) if len(found) < count else None
        if cause is None:
            return _compose(known, headline, _list_sent(known, found))
        return _compose(known, f"{headline}: {cause.of('another one')}", cause)
    reason = _explain_missing(known, expected)
    is_known = reason.sentence.startswith(("was dropped", "was not sent"))
    verb = "did not reach" if is_known else "was not sent to"
    often = "" if count in (None, 1) else f" {times(count)}"
    return _compose(known, f"{what} {verb} {known.name}{often}: {reason.of('it')}", reason)


def not_sent(
    stub: ChannelServiceStub, to: str | None, expected: object, found: Sequence[int]
) -> str:
    """Why `assert_not_sent` does not hold."""
    known = Diagnosis(stub, to)
    if not found:
        return _refuse_bytes(known, expected)
    what = "nothing" if expected is ANY else f"nothing like {show(expected)}"
    what = f"{what} was to be sent{'' if to is None else f' to {known.name}'}, and"
    if len(found) > 1:
        headline = f"{what} {plural(len(found), 'message')} were"
        return _compose(known, headline, _list_sent(known, found))
    [index] = found
    event = known.events[index]
    whom = f" to {format_client(event.client_id)}" if to is None else ""
    headline = f"{what} {show(event.message)}{whom} {known.describe(index)}"
    return _compose(known, headline, Reason(sources=known.causes(index)))


def dropped(stub: ChannelServiceStub, to: str | None, expected: object) -> str:
    """Why `assert_dropped` does not hold."""
    known = Diagnosis(stub, to, awaited="drop")
    whom = "" if to is None else f" to {known.name}"
    headline, subject = f"{show(expected)}{whom} was not dropped", "it"
    if expected is ANY:
        headline, subject = f"no message{whom} was dropped", ""
    queued = known.find_matching(known.own(("send",)), expected)
    if not queued:
        reason = _explain_missing(known, expected)
        return _compose(known, f"{headline}: {reason.of(subject)}", reason)
    event = known.events[queued[-1]]
    what = f"{subject or show(event.message)} {known.describe(queued[-1])}"
    headline = f"{headline}: {format_client(event.client_id)} was connected, and {what}"
    return _compose(known, headline, Reason(sources=known.causes(queued[-1])))


def connected(stub: ChannelServiceStub, to: str) -> str:
    """Why `assert_connected` does not hold."""
    known = Diagnosis(stub, to)
    reason = known.explain_unconnected()
    others = limit_lines(
        [format_client(each) for each in stub.connected_client_ids], _MOST_MESSAGES
    )
    more = [f"connected: {', '.join(others)}"] if others else []
    return _compose(known, f"{known.name} is not connected: {reason.sentence}", reason, more)


def disconnected(stub: ChannelServiceStub, to: str) -> str:
    """Why `assert_disconnected` does not hold."""
    known = Diagnosis(stub, to)
    why, is_kept, advance, end = known.explain_connection()
    wait = advance or f"{known.stub_name}.wait_for('timeout', {known.client_id!r})"
    advice = f"Let time pass: {wait}; or end it: {end}."
    if is_kept:
        advice = f"End it with the client's close(), or with {end}."
    last = known.last_connection
    sources = known.sources(None if last is None else last.first)
    headline = f"{known.describe_connection()}: {why}"
    return _compose(known, headline, Reason(advice=advice, sources=sources))


def token_of_another(
    stub: ChannelServiceStub, token: str | None, client_id: str, whose: str
) -> str:
    """Why `assert_token_valid` does not hold for a valid token: it is another client's."""
    whom = f"{format_client(client_id)}: its client id is {formatting.quoted(whose)}"
    return _compose(Diagnosis(stub, token), f"the token is not one of {whom}")


def token(stub: ChannelServiceStub, value: object, *, is_valid: bool) -> str:
    """Why `assert_token_valid` or `assert_token_expired` does not hold."""
    known = Diagnosis(stub, value if isinstance(value, str) else None)
    read = _tokens.read(value)
    if read is None or read.identifier != stub.CHANNEL_TOKEN_IDENTIFIER:
        name, state = show(value), "a token"
        why, advice = _refuse_token(known, value)
    else:
        name, end = format_token(str(value)), known.offset(read.expires)
        left = read.expires - stub.clock.time()
        if is_valid:
            state, why = "expired", f"it is valid until {end}, for {format_duration(left)} more"
            advice = f"Let time pass: {known.advance_call(left)}." if stub._is_clock_own else ""
        else:
            ago = f"{format_duration(left)} ago" if left else "and at that second it is over"
            state, why = "valid", f"it expired at {end}, {ago}"
            advice = f"Make another: channel.create_channel({read.client_id!r})."
    return _compose(known, f"{name} is not {state}: {why}", Reason(advice=advice))


def nothing_to_receive(stub: ChannelServiceStub, client_id: str, token: str) -> str:
    """Why a client that wants to receive a message gets none."""
    known = Diagnosis(stub, client_id, token)
    reason = known.explain_nothing_to_receive()
    more = [] if stub.is_connected(client_id) else _describe_state(known, reason)
    return _compose(known, f"{known.name} has nothing to receive: {reason.of()}", reason, more)


def not_json(client_id: str, message: str, reason: str) -> str:
    """Why `receive_json` does not give a message that was received."""
    return (
        f"{format_client(client_id)} received {show(message)}, which is not JSON: {reason}\n"
        "  hint: receive() gives it as text; have the app send json.dumps(...) for JSON."
    )


class _Queue:
    """A client's pending messages, and those that were expected to be pending."""

    def __init__(
        self,
        stub: ChannelServiceStub,
        to: str,
        pending: Sequence[str],
        expected: Sequence[object],
    ) -> None:
        self._known = Diagnosis(stub, to)
        self._pending = pending
        self._expected = expected
        self._events = self._find_events()
        # For each expected message the pending one that it is, and those that are none.
        self._used = pair(expected, pending)
        used = {*self._used}
        self._extra = [index for index in range(len(pending)) if index not in used]

    def explain(self) -> str:
        """The text of the failure."""
        known = self._known
        pairs = zip(self._expected, self._used, strict=True)
        unmet = [value for value, index in pairs if index is None]
        if unmet:
            others = f" (and {len(unmet) - 1:,} more)" if len(unmet) > 1 else ""
            headline = f"{show(unmet[0])}{others} is not pending for {known.name}"
            reason = self._explain_unmet(unmet[0])
            headline = f"{headline}: {reason.of('it')}"
        elif self._extra:
            headline, reason = self._explain_surplus()
        else:
            headline = f"the messages for {known.name} are pending in another order than expected"
            reason = Reason(advice="Messages are pending in the order in which they were sent.")
        more = []
        if not self._pending:
            more = _describe_state(known, reason)
        elif len(self._expected) > 1 or any(one != self._pending[0] for one in self._pending):
            more = self._list()
        return _compose(known, headline, reason, more)

    def _find_events(self) -> list[int | None]:
        """The event that sent each pending message; None for what a test put there itself."""
        alike: dict[str, deque[int]] = defaultdict(deque)
        for index in self._known.history.queues.get(self._known.client_id, ()):
            alike[self._known.events[index].message or ""].append(index)
        found = (alike.get(one) if isinstance(one, str) else None for one in self._pending)
        return [indexes.popleft() if indexes else None for indexes in found]

    def _explain_unmet(self, value: object) -> Reason:
        """Why an expected message is not among those that are pending."""
        known, events = self._known, self._events
        skip = {events[index] for index in self._used if index is not None}
        reason = known.find_closed_stub()
        if reason is None and not isinstance(value, (bytes, bytearray)):
            alike = known.find_matching([one for one in skip if one is not None], value)
            too_few = known.describe_too_few(alike) if alike else None
            reason = known.find_cause(value, skip) or too_few
        prefer = [event for index in self._extra if (event := events[index]) is not None]
        return reason or self._explain_list(value) or _explain_missing(known, value, skip, prefer)

    def _explain_list(self, unmet: object) -> Reason | None:
        """That a list was passed for messages that are pending one by one, or None for none."""
        pending, parts = self._pending, [] if unmet is None else unmet
        if not isinstance(parts, (list, tuple)) or len(parts) > len(pending):
            return None
        if bool(parts) != bool(pending) or None in pair(parts, pending):
            return None
        apart = [one for value in self._expected for one in (parts if value is unmet else [value])]
        what = "".join(f", {show(one)}" for one in apart)
        if len(what) > _LONGEST_CALL or not all(isinstance(one, str) for one in apart):
            what = ", *messages"
        how = "them one by one" if apart else "none"
        kind = "None" if unmet is None else f"a {type(unmet).__name__}"
        return Reason(
            f"{kind} stands for one JSON message",
            f"Pass {how}: assert_queued({self._known.stub_name}, {self._known.client_id!r}{what}).",
        )

    def _explain_surplus(self) -> tuple[str, Reason]:
        """The first line where more is pending than was expected, and the reason."""
        known, message = self._known, self._pending[self._extra[0]]
        alike = [index for index, one in enumerate(self._pending) if one == message]
        wanted = "was not expected" if self._expected else "nothing was expected"
        headline = f"{show(message)} is pending for {known.name}"
        if len(alike) > 1:
            events = [event for index in alike if (event := self._events[index]) is not None]
            often = len({*alike} - {*self._extra})
            wanted = f"was expected {times(often)}" if often else wanted
            whence = f"sent at {' and at '.join(map(known.at, events))}"
            instead = f"have the app send it {times(often)}" if often else "read it before"
            advice = f"Expect it {times(len(alike))}, or {instead}."
            if len(events) < len(alike):
                whence = "the test put it into the list"
            headline = f"{headline} {times(len(alike))}, and {wanted}: {whence}"
            return headline, Reason(advice=advice, sources=_list_sources(known, events))
        others = f" (and {len(self._extra) - 1:,} more)" if len(self._extra) > 1 else ""
        event = self._events[self._extra[0]]
        whence = "the test put it into the list" if event is None else f"sent at {known.at(event)}"
        call = f"assert_sent({known.stub_name}, {known.client_id!r}, ...)"
        return (
            f"{show(message)}{others} is pending for {known.name}, and {wanted}: {whence}",
            Reason(
                advice="Expect it too, or read it before; "
                f"{call} checks one message and ignores the others.",
                sources=known.sources(event),
            ),
        )

    def _list(self) -> list[str]:
        """What was expected, and what is pending."""
        extra = {*self._extra}
        wanted = [
            show(value) + ("   <- not pending" if index is None else "")
            for value, index in zip(self._expected, self._used, strict=True)
        ]
        there = [
            show(message) + ("   <- not expected" if index in extra else "")
            for index, message in enumerate(self._pending)
        ]
        lines = []
        for heading, texts in (("expected:", wanted), ("pending:", there)):
            if texts:
                numbered = [f"  {number}. {text}" for number, text in enumerate(texts, 1)]
                lines += [heading, *limit_lines(numbered, _MOST_MESSAGES)]
        return lines


def _refuse_bytes(known: Diagnosis, expected: object) -> str:
    """Why it does not hold that bytes were not sent: no message is bytes."""
    reason = _explain_missing(known, expected)
    return _compose(known, f"{show(expected)} is never sent: {reason.sentence}", reason)


def _compose(
    known: Diagnosis, headline: str, reason: Reason | None = None, more: Sequence[str] = ()
) -> str:
    foreign = known.describe_foreign_token()
    if foreign and foreign not in headline:
        more = [*more, foreign]
    return known.compose(headline, reason, more)


def _explain_missing(
    known: Diagnosis,
    expected: object,
    skip: Collection[int | None] = (),
    prefer: Sequence[int] = (),
) -> Reason:
    """Why a message is not among those of a client; the message nearest to it, if any is."""
    if isinstance(expected, (bytes, bytearray)):
        text = _tokens.text_or_none(bytes(expected))
        advice = "" if text is None else f"Pass {text!r}."
        return Reason("messages are text, and this is bytes", advice)
    cause = known.find_cause(expected, skip)
    if cause is None and expected is not ANY:
        cause = _compare_nearest(known, expected, skip, prefer)
    return cause or known.explain_silence()


def _describe_state(known: Diagnosis, reason: Reason) -> list[str]:
    """Whether a client is connected, where the reason does not say so already."""
    last = known.last_connection
    if last is None or known.find_closed_stub() is not None:
        return []
    if last.last is not None and known.at(last.last) in reason.sentence:
        return []
    state = known.describe_connection()
    return [f"nothing is pending; {state}" if last.last is None else state]


def _compare_nearest(
    known: Diagnosis, expected: object, skip: Collection[int | None], prefer: Sequence[int]
) -> Reason | None:
    """In what the message that comes closest differs: one of the client's own, else of others."""
    own = known.own()
    among = [index for index in prefer or own if index not in skip]
    for indexes, least in (
        (among[-_MOST_COMPARED:], 0.0 if len(among) == 1 else _NEAR),
        (known.find()[-_MOST_COMPARED:], _NEAR_ELSEWHERE),
    ):
        messages = [known.events[index].message or "" for index in indexes]
        best = diff.find_nearest(expected, messages, least)
        if best is not None:
            index, message = indexes[best], messages[best]
            comparison = diff.compare(expected, message)
            which = "the nearest message" if len(own) > 1 else "the message sent"
            if index not in own:
                which = f"the nearest message, to {format_client(known.events[index].client_id)},"
            subject = "it" if comparison.shows_message else show(message)
            became = f"{subject} {known.describe(index)}"
            lines = (*comparison.lines, became, *known.causes(index))
            return Reason(f"{which} {comparison.sentence}", comparison.advice, lines)
    return None


def _list_sent(known: Diagnosis, indexes: Sequence[int]) -> Reason:
    lines = [known.summarize(index) for index in indexes]
    return Reason(sources=tuple(limit_lines(lines, _MOST_MESSAGES)))


def _list_sources(known: Diagnosis, events: Sequence[int]) -> tuple[str, ...]:
    """The lines of code that sent messages, each with its time."""
    lines = [
        f"sent at {known.at(index)} by {describe_source(known.events[index].source)}"
        for index in events
        if known.events[index].source
    ]
    return tuple(limit_lines(lines, _MOST_MESSAGES))


def _refuse_token(known: Diagnosis, value: object) -> tuple[str, str]:
    """Why a value is not a token, and what to pass."""
    if not isinstance(value, (str, bytes)):
        why = f"a token is a string, and this is of type {type(value).__name__}"
        has_one = hasattr(value, "token")
        return why, "Pass its token." if has_one else "Pass what create_channel returned."
    text = _tokens.text_or_none(value)
    if not text:
        why = "it is empty" if text == "" else "it is bytes that are not UTF-8"
        return why, "Pass what create_channel returned."
    if "-" not in text or any(event.client_id == text for event in known.events):
        return "it is a client id", "Pass what create_channel returned for it."
    why = "create_channel has not returned it, or it was changed"
    return why, "Pass what create_channel returned, unchanged."
