"""The texts of failed assertions: expected, found, nearest miss, likely reason, timeline."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

from pytest_channelstub import _tokens as tokens
from pytest_channelstub._assertions import failure_text
from pytest_channelstub._record import formatting
from pytest_channelstub._record.diagnosis import Diagnosis, Reason, client_id_of, times
from pytest_channelstub._record.formatting import settings
from pytest_channelstub._record.matching import ANY, may_match

__all__ = ["settings"]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_channelstub._service.stub import ChannelServiceStub

_LONGEST_CALL = 72


def queued(
    stub: ChannelServiceStub, to: str, pending: Sequence[str], expected: Sequence[object]
) -> str:
    """Why `assert_queued` does not hold."""
    diagnosis = Diagnosis(stub.timeline)
    client_id = client_id_of(to)
    sent = _events_of(diagnosis, client_id, pending)
    used = _paired(expected, pending)
    unmet = [value for value, index in zip(expected, used, strict=True) if index is None]
    extra = [index for index in range(len(pending)) if index not in used]
    if unmet:
        skip = {sent[index] for index in used if index is not None}
        listed = _why_listed(client_id, pending, expected, unmet[0])
        reason = diagnosis.why_absent(
            to, lambda one: may_match(unmet[0], one), skip=skip, otherwise=listed
        )
        prefer = [event for event in map(sent.__getitem__, extra) if event is not None]
        miss = (
            []
            if reason is listed
            else failure_text.miss(diagnosis, to, unmet[0], prefer=prefer, skip=skip)
        )
    else:
        reason = _why_surplus(diagnosis, client_id, [sent[index] for index in extra])
        miss = []
    return failure_text.text(
        stub,
        to,
        expected=_expected_queue(client_id, expected),
        found=_found_queue(diagnosis, client_id, pending, extra),
        miss=miss,
        reason=reason,
    )


def sent(
    stub: ChannelServiceStub, to: str, expected: object, count: int | None, found: Sequence[int]
) -> str:
    """Why `assert_sent` does not hold."""
    diagnosis = Diagnosis(stub.timeline)
    name = formatting.format_client(client_id_of(to))
    often = "" if count is None else f", {times(count)}"
    if found and count is not None and len(found) > count:
        surplus = found[count:]
        reason = Reason(f"one too many was {diagnosis.fate(surplus[0])}")
        miss = []
    else:
        reason = diagnosis.why_absent(to, lambda one: may_match(expected, one), skip=set(found))
        miss = failure_text.miss(diagnosis, to, expected, skip=set(found))
    return failure_text.text(
        stub,
        to,
        expected=[f"{failure_text.show(expected)}, sent to {name}{often}"],
        found=_found_sent(diagnosis, to, found),
        miss=miss,
        reason=reason,
    )


def not_sent(stub: ChannelServiceStub, to: str, expected: object, found: Sequence[int]) -> str:
    """Why `assert_not_sent` does not hold."""
    diagnosis = Diagnosis(stub.timeline)
    name = formatting.format_client(client_id_of(to))
    what = "nothing" if expected is ANY else f"nothing like {failure_text.show(expected)}"
    outcomes = [diagnosis.fate(index) for index in found[:3]]
    if len(found) > len(outcomes):
        outcomes.append(f"and {len(found) - len(outcomes)} more")
    return failure_text.text(
        stub,
        to,
        expected=[f"{what} sent to {name}"],
        found=failure_text.listed([f"{failure_text.message(diagnosis, index)}" for index in found]),
        miss=[],
        reason=Reason("; ".join(outcomes)),
    )


def dropped(stub: ChannelServiceStub, to: str, expected: object) -> str:
    """Why `assert_dropped` does not hold."""
    diagnosis = Diagnosis(stub.timeline)
    name = formatting.format_client(client_id_of(to))
    what = "a message" if expected is ANY else failure_text.show(expected)
    others = diagnosis.messages(to, ("drop",))
    found = f"{_count(others) if others else 'no message'} to {name} was dropped"
    if len(others) > 1:
        found = found.replace(" was ", " were ")
    queued = [
        index
        for index in diagnosis.messages(to, ("send",))
        if may_match(expected, diagnosis.history.events[index].message or "")
    ]
    if queued:
        reason = Reason(f"{name} was connected, and it was {diagnosis.fate(queued[-1])}")
    else:
        reason = diagnosis.why_absent(to, lambda one: may_match(expected, one))
    return failure_text.text(
        stub,
        to,
        expected=[f"{what}, sent to {name} and dropped"],
        found=[f"{found}, none like it" if others else found],
        miss=[] if expected is ANY else failure_text.miss(diagnosis, to, expected),
        reason=reason,
    )


def connected(stub: ChannelServiceStub, to: str) -> str:
    """Why `assert_connected` does not hold."""
    diagnosis = Diagnosis(stub.timeline)
    name = formatting.format_client(client_id_of(to))
    others = [formatting.format_client(one) for one in stub.connected_client_ids]
    who = ", ".join(others[: failure_text.MOST_MESSAGES]) or "nobody"
    found = f"{who} {'are' if len(others) > 1 else 'is'}"
    return failure_text.text(
        stub,
        to,
        expected=[f"{name} to be connected"],
        found=[f"{name} is not connected; {found}"],
        miss=[],
        reason=diagnosis.why_unconnected(to),
    )


def disconnected(stub: ChannelServiceStub, to: str) -> str:
    """Why `assert_disconnected` does not hold."""
    diagnosis = Diagnosis(stub.timeline)
    client_id = client_id_of(to)
    name = formatting.format_client(client_id)
    last = diagnosis.history.connection(client_id)
    heard = "" if last is None else f" was last heard from at {diagnosis.at(last.heard)} and"
    return failure_text.text(
        stub,
        to,
        expected=[f"{name} not to be connected"],
        found=[_state(diagnosis, client_id)],
        miss=[],
        reason=Reason(
            f"{name}{heard} has not left since; it is now {_now(stub)}",
            "It times out 2 s after it was last heard from, unless it is kept alive: "
            "channel_clock.advance(2).",
        ),
    )


def token_valid(
    stub: ChannelServiceStub, token: object, client_id: str | None, whose: str | None
) -> str:
    """Why `assert_token_valid` does not hold."""
    name = "" if client_id is None else f" for {formatting.format_client(client_id)}"
    if whose is not None:
        found = f"a valid token, for {formatting.format_client(whose)}"
        reason = Reason(f"the token carries the client id {formatting.quoted(whose)}")
        return _token_text(stub, token, f"a valid token{name}", found, reason)
    read = tokens.read(token)
    if read is None or read.identifier != stub.CHANNEL_TOKEN_IDENTIFIER:
        return _token_text(stub, token, f"a valid token{name}", *_no_token(stub, token))
    ended = formatting.format_offset(read.expires, stub.timeline.start)
    gone = stub.clock.time() - read.expires
    late = "and a token ends at its very second"
    if gone:
        late = f"{formatting.format_duration(gone)} after its end"
    return _token_text(
        stub,
        token,
        f"a valid token{name}",
        f"{formatting.format_token(str(token))}, which expired at {ended}",
        Reason(f"it is now {_now(stub)}, {late}"),
    )


def token_expired(stub: ChannelServiceStub, token: object) -> str:
    """Why `assert_token_expired` does not hold."""
    read = tokens.read(token)
    if read is None or read.identifier != stub.CHANNEL_TOKEN_IDENTIFIER:
        return _token_text(stub, token, "an expired token", *_no_token(stub, token))
    left = read.expires - stub.clock.time()
    return _token_text(
        stub,
        token,
        "an expired token",
        f"{formatting.format_token(str(token))}, which is valid until "
        f"{formatting.format_offset(read.expires, stub.timeline.start)}",
        Reason(
            f"it is now {_now(stub)}, {formatting.format_duration(left)} before its end",
            f"Let time pass: channel_clock.advance({left:g}).",
        ),
    )


def _no_token(stub: ChannelServiceStub, token: object) -> tuple[str, Reason]:
    found = f"{failure_text.show(token)}, which is no token"
    made = [event for event in stub.timeline.of(kind="create") if event.client_id == token]
    if made:
        return found, Reason("that is a client id: pass what create_channel returned for it")
    if not isinstance(token, str):
        advice = "Pass its token." if hasattr(token, "token") else ""
        kind = type(token).__name__
        return found, Reason(f"a token is a string, and this is of type {kind}", advice)
    return found, Reason(
        "a token is md5hex-channel-random-expirysecond-clientid, and the hash has to be that "
        "of all that follows the first dash: this was not made by create_channel, or was changed"
    )


def _token_text(
    stub: ChannelServiceStub, token: object, expected: str, found: str, reason: Reason
) -> str:
    if isinstance(token, str):
        reason = Diagnosis(stub.timeline).why_foreign(token) or reason
    to = token if isinstance(token, str) else ""
    return failure_text.text(stub, to, expected=[expected], found=[found], miss=[], reason=reason)


def _paired(expected: Sequence[object], pending: Sequence[str]) -> list[int | None]:
    """For each expected message the pending one that it is, each taken once."""
    free = list(range(len(pending)))
    taken: list[int | None] = []
    for value in expected:
        index = next((one for one in free if may_match(value, pending[one])), None)
        if index is not None:
            free.remove(index)
        taken.append(index)
    return taken


def _events_of(diagnosis: Diagnosis, client_id: str, pending: Sequence[object]) -> list[int | None]:
    """The event that sent each pending message; None for what a test put there itself."""
    alike: dict[str, deque[int]] = defaultdict(deque)
    for index in diagnosis.history.queues.get(client_id, ()):
        alike[str.__str__(diagnosis.history.events[index].message or "")].append(index)
    known = (
        alike.get(str.__str__(message)) if isinstance(message, str) else None for message in pending
    )
    return [indexes.popleft() if indexes else None for indexes in known]


def _why_listed(
    client_id: str, pending: Sequence[str], expected: Sequence[object], unmet: object
) -> Reason | None:
    """That a list was passed for messages that are pending one by one, if it was."""
    if not isinstance(unmet, (list, tuple)) or len(unmet) > len(pending):
        return None
    if bool(unmet) != bool(pending) or None in _paired(unmet, pending):
        return None
    apart = [one for value in expected for one in (unmet if value is unmet else [value])]
    what = "".join(f", {failure_text.show(one)}" for one in apart)
    if len(what) > _LONGEST_CALL or not all(isinstance(one, str) for one in apart):
        what = ", *messages"
    return Reason(
        f"a {type(unmet).__name__} stands for one JSON message",
        f"Pass {'them one by one' if apart else 'none'}: assert_queued(stub, {client_id!r}{what}).",
    )


def _why_surplus(diagnosis: Diagnosis, client_id: str, extra: Sequence[int | None]) -> Reason:
    if not extra:
        return Reason("the same messages in another order: they wait in the order they were sent")
    name, first = repr(client_id), extra[0]
    fate = "put into the list by hand" if first is None else diagnosis.fate(first)
    return Reason(
        f"{formatting.plural(len(extra), 'message')} more than expected, the first {fate}",
        f"Name them all, or read them first; assert_sent(stub, {name}, ...) asks for one alone.",
    )


def _expected_queue(client_id: str, expected: Sequence[object]) -> list[str]:
    name = formatting.format_client(client_id)
    if not expected:
        return [f"nothing pending for {name}"]
    if len(expected) == 1:
        return [f"{failure_text.show(expected[0])}, pending for {name}"]
    return [
        f"{len(expected)} messages pending for {name}, in this order:",
        *failure_text.numbered([failure_text.show(value) for value in expected]),
    ]


def _found_queue(
    diagnosis: Diagnosis, client_id: str, pending: Sequence[str], extra: Sequence[int]
) -> list[str]:
    if not pending:
        return [f"nothing pending; {_state(diagnosis, client_id)}"]
    shown = [
        failure_text.show(message) + ("   <- not expected" if index in extra else "")
        for index, message in enumerate(pending)
    ]
    return [f"{formatting.plural(len(pending), 'message')} pending:", *failure_text.numbered(shown)]


def _found_sent(diagnosis: Diagnosis, to: str, found: Sequence[int]) -> list[str]:
    name = formatting.format_client(client_id_of(to))
    if found:
        return [
            f"sent {times(len(found))}, at " + ", ".join(diagnosis.at(index) for index in found[:8])
        ]
    queued = diagnosis.messages(to, ("send",))
    dropped = diagnosis.messages(to, ("drop",))
    if not queued and not dropped:
        return [f"no message to {name}"]
    told = "none queued"
    if queued:
        told = f"{_count(queued)} queued for {name}, none like it"
    if dropped:
        told += f"; {_count(dropped)} to {name} dropped"
    return [told]


def _count(indexes: Sequence[int]) -> str:
    return f"{formatting.plural(len(indexes), 'message')}"


def _state(diagnosis: Diagnosis, client_id: str) -> str:
    name = formatting.format_client(client_id)
    last = diagnosis.history.connection(client_id)
    if last is None or last.last is not None:
        return f"{name} is not connected"
    return f"{name} is connected since {diagnosis.at(last.first)}"


def _now(stub: ChannelServiceStub) -> str:
    return formatting.format_offset(stub.clock.time(), stub.timeline.start)


def nothing_to_receive(stub: ChannelServiceStub, client_id: str) -> str:
    """Why a client that wants to receive a message gets none."""
    diagnosis = Diagnosis(stub.timeline)
    return failure_text.text(
        stub,
        client_id,
        expected=[f"a message for {formatting.format_client(client_id)} to receive"],
        found=[f"nothing pending; {_state(diagnosis, client_id)}"],
        miss=[],
        reason=diagnosis.why_nothing_to_receive(client_id),
    )
