"""Why a message is not where a test expects it: sentences, derived from the record alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from pytest_channelstub import _tokens
from pytest_channelstub._record import formatting, matching
from pytest_channelstub._record.formatting import format_advance, format_connect, name_stub
from pytest_channelstub._record.history import TAKEN
from pytest_channelstub._record.outcomes import Outcomes, client_id_of, format_record, spell
from pytest_channelstub._record.threads import find_coroutine, find_running_threads

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from threading import Thread

    from pytest_channelstub._record.history import Connection
    from pytest_channelstub._record.timeline import Event, Timeline

MOST_EVENTS = 50
"""How many events of a timeline a failure shows."""

_LONGEST_TOKEN = 1440  # minutes


class Stub(Protocol):
    """What a diagnosis asks of a stub beside its timeline."""

    @property
    def timeline(self) -> Timeline: ...
    @property
    def app(self) -> Any: ...
    @property
    def clock(self) -> Any: ...
    @property
    def _presence(self) -> bool: ...
    @property
    def _built_by(self) -> str: ...
    @property
    def _is_clock_own(self) -> bool: ...
    @property
    def _older_threads(self) -> Collection[Thread]: ...
    def _other_stubs(self) -> Sequence[Stub]: ...
    def _overdue(self) -> Sequence[tuple[str, float]]: ...


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is not as expected.

    Attributes:
        sentence: What happened, without a full stop; of a message that is there, what became
            of it, such as "was dropped at +1.5 s, before bob connected (+2.0 s)".
        advice: What to type next, in sentences; or empty.
        sources: The lines of code behind it, such as "sent by notify() at chat.py:41".
        message: The message that the sentence is about, if it is about one.
    """

    sentence: str
    advice: str = ""
    sources: tuple[str, ...] = ()
    message: str | None = None

    def of(self, subject: str = "") -> str:
        """The whole sentence; about a message its subject is the message, or another word."""
        if self.message is None:
            return self.sentence
        return f"{subject or formatting.quoted(self.message)} {self.sentence}"


class Diagnosis(Outcomes):
    """The reasons behind one timeline."""

    def __init__(
        self, timeline: Timeline, stub: Stub | None = None, token: str | None = None
    ) -> None:
        super().__init__(timeline, token)
        self._stub = stub

    def explain(self, index: int) -> Reason:
        """What became of a message, and what to type so that it arrives or is found."""
        message = self.events[index].message
        return Reason(self.describe(index), self._advise(index), self.sources(index), message)

    # What to type.

    def _advise(self, index: int) -> str:
        event = self.events[index]
        address = event.client_id or ""
        name = repr(client_id_of(address))
        if event.kind == "send":
            outcome = self.history.outcomes[index]
            if outcome.kind in ("read", "clear", "reset", TAKEN):
                call = f"assert_sent({name_stub()}, {name}, ...)"
                return f"{call} also holds when a message was read or lost."
            if outcome.index is None:
                return ""
            return self._advise_connection(address, self.history.connection(address, outcome.index))
        if event.outcome == "expired token":
            return f"Send to the client id {name}, or to a token that is valid."
        other = self.find_similar(address)
        before = self.history.connection(address, before=index)
        if before is None and other and self.history.next_connection(address, index) is None:
            difference = matching.spelling_difference(address, other)
            right, wrong = spell(address, difference), spell(other, difference)
            return f"Connect {right}, or have the app send to {wrong}."
        return self._advise_connection(address, before, index)

    def _now(self) -> float:
        return self.events[-1].at if self._stub is None else float(self._stub.clock.time())

    def _advise_connection(
        self, address: str, before: Connection | None, index: int | None = None
    ) -> str:
        """How to have a client connected when event `index` happens."""
        connect = format_connect(address)
        if before is None or before.last is None:
            return f"Connect it before the app sends: {connect}."
        end = self.events[before.last]
        if end.kind != "timeout":
            return f"Connect it again before the app sends: {connect}."
        if "add_disconnect_event" in end.outcome:
            return (
                "add_disconnect_event ends a connection after 2 s: leave it out, or connect again."
            )
        if self.token_end(before) is None:
            keep = format_connect(address, keep_alive=True)
            return f"Keep it connected: {keep}, or call its poll() more often than every 2 s."
        until = self._now() if index is None else self.events[index].at
        minutes = math.ceil((until - before.since) / 60) + 1
        if minutes > _LONGEST_TOKEN:
            return f"Connect it again with a new token: {connect}."
        keep = format_connect(address, minutes, keep_alive=True)
        return f"Give it a token that lasts longer: {keep}, or connect it again: {connect}."

    # One message that was expected, and is not there.

    def find_cause(
        self,
        to: str | None,
        expected: object,
        *,
        skip: Collection[int | None] = (),
        after: int = -1,
    ) -> Reason | None:
        """Why a message that was sent, or was to be sent, is not there."""
        own = self.find_matching(self.messages(to, after=after), expected)
        left = [index for index in own if index not in skip]
        if left:
            return self.explain(left[-1])
        is_any = expected is matching.ANY
        return (
            self._find_failure(to, expected, after)
            or (None if is_any else self._find_refusal(to, after, expected))
            or self._find_elsewhere(to, expected, after, is_sent=bool(own))
            or self._find_in_other_stub(to, expected)
        )

    def describe_too_few(self, to: str | None, own: Sequence[int]) -> Reason:
        """That a message was sent, but less often than expected."""
        last = "" if len(own) == 1 else ", the last"
        sentence = f"was sent to {_name(to)} only {times(len(own))}{last} at {self.at(own[-1])}"
        return Reason(sentence, "", self._sources_of(own[-1]), self.events[own[-1]].message)

    def explain_silence(
        self, to: str | None, *, after: int = -1, has_waited: bool = False
    ) -> Reason:
        """Why a client was sent nothing, or nothing like what was expected."""
        own = self.messages(to, after=after)
        refused = self._find_refusal(to, after)
        if refused is not None:
            return refused
        if own:
            if len(own) == 1:
                return Reason(f"the one message sent to {_name(to)} is not like it")
            return Reason(f"none of the {len(own):,} messages sent to {_name(to)} is like it")
        return (
            self.find_running_handler(to)
            or self._find_app_failure(to)
            or self._find_foreign_token(to)
            or self._find_running_thread(to)
            or self._describe_silence(to, after, has_waited=has_waited)
        )

    def explain_nothing_to_receive(self, client_id: str) -> Reason:
        """Why a client has no message to read."""
        reads = [
            index
            for index, event in enumerate(self.events)
            if event.kind == "read"
            and event.outcome == "client"
            and (event.client_id, event.token) == (client_id, self._token)
        ]
        last = reads[-1] if reads else -1
        outcomes = self.history.outcomes
        ended = {sent: outcome.index for sent, outcome in outcomes.items()}
        left = [sent for sent in self.messages(client_id) if ended.get(sent) not in reads]
        recent = [sent for sent in left if max(sent, ended.get(sent) or 0) > last]
        if recent:
            return self.explain(recent[-1])
        everything = {*self.messages(client_id)}
        reason = self.find_cause(client_id, matching.ANY, skip=everything, after=last)
        if reason is None:
            reason = self.explain_silence(client_id, after=last)
            if left:
                earlier = self.explain(left[-1]).of()
                reason = replace(reason, sentence=f"{reason.sentence}; earlier, {earlier}")
        return reason

    def explain_unconnected(self, to: str, subject: str = "it") -> Reason:
        """Why a client is not connected: "it timed out at +3.5 s, ..."."""
        client_id = client_id_of(to)
        last = self.history.connection(client_id)
        if last is not None and last.last is not None:
            advice = self._advise_connection(client_id, last)
            return Reason(self.describe_over(last, subject), advice, self._sources_of(last.last))
        return (
            self._find_rejection(client_id)
            or self._find_foreign_token(to)
            or Reason(self.describe_never(client_id, subject), self._advise_first(client_id))
        )

    def describe_foreign_token(self, to: object) -> str:
        """That a token was not made in this test; empty for any other address."""
        if not isinstance(to, str) or _tokens.read(to) is None:
            return ""
        if any(event.kind == "create" and event.token == to for event in self.events):
            return ""
        return (
            f"{formatting.format_token(to)} was not made by this stub in this test: it belongs to "
            "another stub or an earlier test"
        )

    # What else may be behind it.

    def _find_failure(self, to: str | None, expected: object, after: int) -> Reason | None:
        failed = self.find_matching(self.messages(to, ("error",), after), expected)
        if not failed:
            return None
        event = self.events[failed[-1]]
        error, _, origin = event.outcome.partition(": ")[2].partition(" (")
        origin = origin.removesuffix(")")
        if origin == "SetError":
            advice = f"{name_stub()}.SetError(None) removes it."
        elif origin.startswith("SetError for "):
            call = origin.removeprefix("SetError for ")
            advice = f"{name_stub()}.SetError(apiproxy_errors.Error(), {call!r}, 0) removes it."
        else:
            advice = "Remove that marker, or have the app handle the error."
        sentence = (
            f"was not sent: the call raised {error} at {self.at(failed[-1])}, set by {origin}"
        )
        return Reason(sentence, advice, self._sources_of(failed[-1]), event.message)

    def _find_refusal(
        self, to: str | None, after: int, expected: object = matching.ANY
    ) -> Reason | None:
        """A call that was refused for its arguments, whose message may have been the one."""
        shown = formatting.shorten_repr(expected)
        refused = [
            index
            for index in (
                *self.messages(to, ("refuse",), after),
                *self._refused_without_client(after),
            )
            if expected is matching.ANY
            or (self.events[index].message is None and shown in self.events[index].outcome)
            or matching.may_match(expected, self.events[index].message or "")
        ]
        if not refused:
            return None
        sentence = f"{self.describe_refusal(refused[-1])}: {self.events[refused[-1]].outcome}"
        advice = "The error was caught, and the test went on. Fix the call."
        return Reason(sentence, advice, self._sources_of(refused[-1]))

    def _refused_without_client(self, after: int) -> list[int]:
        return [
            index
            for index, event in enumerate(self.events)
            if index > after and event.kind == "refuse" and event.client_id is None
        ]

    def _find_elsewhere(
        self, to: str | None, expected: object, after: int, *, is_sent: bool
    ) -> Reason | None:
        """That it went to another client id: of any, the one that is most like it."""
        if to is None:
            return None
        events, client_id = self.events, client_id_of(to)
        own = {*self.messages(to)}
        least = 1 if is_sent or expected is matching.ANY else 0
        others = [
            index
            for index in self.messages(None, after=after)
            if index not in own and _kinship(client_id, events[index]) >= least
        ]
        found = self.find_matching(others, expected)
        if not found:
            return None
        index = max(found, key=lambda each: (_kinship(client_id, events[each]), each))
        other = events[index].client_id or ""
        if events[index].outcome == "expired token":
            return self.explain(index)
        difference = matching.spelling_difference(client_id, other)
        sentence = (
            f"was sent at {self.at(index)} to {formatting.format_client(other)}, not to {_name(to)}"
        )
        if difference:
            sentence = (
                f"was sent at {self.at(index)} to {spell(other, difference)}, "
                f"which differs from {spell(client_id, difference)} in {difference}"
            )
        right, wrong = spell(client_id, difference), spell(other, difference)
        advice = f"Use {wrong} in the test, or have the app send to {right}."
        return Reason(sentence, advice, self._sources_of(index), events[index].message)

    def _find_in_other_stub(self, to: str | None, expected: object) -> Reason | None:
        for other in () if self._stub is None else self._stub._other_stubs():
            for event in reversed(other.timeline[:]):
                if (
                    event.kind in ("send", "drop")
                    and (to is None or client_id_of(event.client_id or "") == client_id_of(to))
                    and matching.may_match(expected, event.message or "")
                ):
                    how = "was dropped by" if event.kind == "drop" else "went to"
                    return Reason(
                        f"{how} another stub, which {other._built_by}",
                        "Calls reach the newest stub that is not closed: connect and assert on "
                        "that stub, or close it before the client connects.",
                        _source_lines("sent", event),
                        event.message,
                    )
        return None

    def find_running_handler(self, to: str | None) -> Reason | None:
        """That the app's answer to a request about a client is still to come."""
        for index in self.messages(to, ("request",)):
            event = self.events[index]
            if event.outcome == "under way":
                wait = f"{name_stub()}.wait_for('request', {event.client_id!r})"
                return Reason(
                    f"the app's handler of {event.message} is still running, "
                    f"which was called {self.describe_request(index)}",
                    f"Wait for its answer: {wait}.",
                )
        return None

    def _find_app_failure(self, to: str | None) -> Reason | None:
        """That the app has not handled a request about a client, or of a browser."""
        about = {*self.messages(to, ("request",))}
        for index, event in reversed([*enumerate(self.events)]):
            is_browsers = event.kind == "request" and event.client_id is None
            if index not in about and not is_browsers:
                continue
            failure = self.describe_app_failure(index)
            if failure:
                status, _, quote = event.outcome.partition(": ")
                advice = f"Have the app handle POST {event.message}."
                if not status.startswith(("404", "405")):
                    answer = f" Its answer began {quote}." if quote and status[0].isdigit() else ""
                    advice = f"Fix the handler of {event.message}.{answer}"
                return Reason(
                    f"the app {failure} {self.describe_request(index)}, and what its handler was "
                    "to send was not sent",
                    advice,
                )
        return None

    def _find_rejection(self, client_id: str) -> Reason | None:
        rejected = self.messages(client_id, ("reject",))
        if not rejected:
            return None
        event, at = self.events[rejected[-1]], self.at(rejected[-1])
        sentence = (
            f"its connection was rejected at {at}: {self.describe_expired(event.token or '')}"
        )
        advice = f"Connect it with a new token: {format_connect(client_id)}."
        return Reason(sentence, advice, self._sources_of(rejected[-1]))

    def _find_foreign_token(self, to: str | None) -> Reason | None:
        sentence = self.describe_foreign_token(to)
        advice = "Use a token that create_channel has returned in this test."
        return Reason(sentence, advice) if sentence else None

    def _find_running_thread(self, to: str | None) -> Reason | None:
        older = () if self._stub is None else self._stub._older_threads
        thread = next(find_running_threads(older), None)
        if thread is None:
            return None
        return Reason(f"{thread}, and may send it later", f"Wait for it: {_wait_for_send(to)}.")

    def _describe_silence(self, to: str | None, after: int, *, has_waited: bool) -> Reason:
        """That no message is known, and what may be behind that."""
        sent = [self.events[index] for index in self.messages(None, after=after)]
        if after >= 0 and self.events[after].kind == "read":
            read = formatting.quoted(self.events[after].message or "")
            at = self.at(after)
            sentence = f"nothing was sent to {_name(to)} after {read}, which was read at {at}"
        elif sent:
            others = {formatting.format_client(event.client_id) for event in sent}
            whom = f"to {others.pop()}" if len(others) == 1 else f"to {len(others)} other clients"
            were = "was" if len(sent) == 1 else "were"
            count = formatting.plural(len(sent), "message")
            sentence = f"{count} {were} sent {whom}, and none to {_name(to)}"
            return Reason(sentence, "Check to whom the app sends.")
        else:
            sentence = "send_message was not called in this test"
        advice = ["Was a branch not taken, or an exception caught?"]
        if not has_waited:
            wait = _wait_for_send(to)
            advice.append(f"Work that is scheduled may not have run yet: {wait} waits for it.")
        unheard = None if after >= 0 else self._find_unheard_connection(to)
        if unheard is not None:
            sentence = f"{sentence}, and {unheard.sentence}"
            advice.insert(0, unheard.advice)
        return Reason(sentence, " ".join(advice))

    def _find_unheard_connection(self, to: str | None) -> Reason | None:
        """That the app did not hear of a client's connection, so that it sent no greeting."""
        stub = self._stub
        if stub is None:
            return None
        if self.messages(to, ("connect",)):
            if stub.app is None:
                override = "or override the channel_app fixture"
                return Reason(
                    "no app is set that hears of a connection",
                    f"Set {name_stub()}.app, {override}.",
                )
            if not stub._presence:
                return Reason(
                    "presence is off, so the app does not hear of a connection",
                    "Leave presence=False out.",
                )
        last = None if to is None else self.history.connection(client_id_of(to))
        if last is not None and last.first is None and self.messages(to, ("refresh",)):
            return Reason(
                f"{_name(to)} was connected before this test, so the app did not hear of it again",
                '@pytest.mark.channel_reset("all") begins with nobody connected.',
            )
        return None

    def _sources_of(self, index: int) -> tuple[str, ...]:
        source = self.source(index)
        return (source,) if source else ()

    def _advise_first(self, client_id: str) -> str:
        other = self.find_similar(client_id)
        if other:
            difference = matching.spelling_difference(client_id, other)
            right, wrong = spell(client_id, difference), spell(other, difference)
            return f"Use {wrong} in the test, or connect {right}."
        if self.messages(client_id, ("create",)):
            return (
                "create_channel makes a token, and does not connect: "
                f"{format_connect(client_id)} does both."
            )
        return f"Connect it: {format_connect(client_id)}."


def format_failure(
    timeline: Timeline, headline: str, details: Sequence[str], advice: str = ""
) -> str:
    """The text of a failure: its first line says it; outside pytest the timeline ends it."""
    lines = [headline, *(f"  {line}" for line in details)]
    if advice:
        lines.append(f"  hint: {advice}")
    if formatting.settings.show_timeline:
        record = format_record(timeline, last=MOST_EVENTS, full=formatting.settings.full)
        lines += ["timeline:", *(f"  {line}" for line in record.split("\n"))]
    return "\n".join(lines)


def explain_wait(  # noqa: PLR0913, PLR0917 (what a test has waited for)
    stub: Stub, kind: str, client_id: str | None, seconds: float, count: int, message: object
) -> str:
    """Why a wait for an event has ended without it."""
    diagnosis = Diagnosis(stub.timeline, stub)
    found = diagnosis.find_matching(diagnosis.messages(client_id, (kind,)), message)
    number = f"no {kind!r} event"
    if 0 < len(found) < count:
        number = f"only {len(found)} of {count} {kind!r} events"
    whose = "" if client_id is None else f" of {_name(client_id)}"
    what = "" if message is matching.ANY else f" with {formatting.shorten_repr(message)}"
    headline = f"{number}{whose}{what} within {seconds:g} s of real time"
    reason = _explain_wait(diagnosis, stub, kind, client_id, message, found)
    if reason is None:
        return format_failure(stub.timeline, headline, [])
    headline = f"{headline}: {reason.of()}"
    return format_failure(stub.timeline, headline, reason.sources, reason.advice)


def _explain_wait(  # noqa: PLR0913, PLR0917 (what a test has waited for)
    diagnosis: Diagnosis,
    stub: Stub,
    kind: str,
    client_id: str | None,
    message: object,
    found: Sequence[int],
) -> Reason | None:
    coroutine = find_coroutine()
    if coroutine:
        return Reason(
            "wait_for() blocks the event loop, in which nothing else runs meanwhile",
            f"Wait in another thread: await asyncio.to_thread({name_stub()}.wait_for, ...).",
            (f"blocked by {coroutine}",),
        )
    running = diagnosis.find_running_handler(client_id)
    if running is not None:
        return running
    if kind in ("send", "drop", "read"):
        skip = () if kind == "read" else found
        cause = diagnosis.find_cause(client_id, message, skip=skip)
        return cause or diagnosis.explain_silence(client_id, has_waited=True)
    if client_id is None or kind not in ("connect", "close", "disconnect", "timeout"):
        return None
    last = diagnosis.history.connection(client_id_of(client_id))
    if last is None or last.last is not None:
        return diagnosis.explain_unconnected(client_id, _name(client_id))
    advice = ""
    if kind == "timeout" and stub._is_clock_own:
        advice = f"The stub's clock moves only when the test moves it: {format_advance(2)}."
    return Reason(diagnosis.describe_connection(client_id), advice)


def times(count: int) -> str:
    """How often: "not once", "once", "twice", "3 times"."""
    return {0: "not once", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _wait_for_send(to: str | None) -> str:
    name = "" if to is None else f", {client_id_of(to)!r}"
    return f"{name_stub()}.wait_for('send'{name})"


def _name(to: str | None) -> str:
    return "anybody" if to is None else formatting.format_client(client_id_of(to))


def _source_lines(verb: str, event: Event) -> tuple[str, ...]:
    return (f"{verb} by {formatting.describe_source(event.source)}",) if event.source else ()


def _kinship(client_id: str, event: Event) -> int:
    """How likely an event's address was meant for a client: more is likelier."""
    address = event.client_id or ""
    if event.outcome == "expired token" and client_id_of(address) == client_id:
        return 2
    return 1 if matching.spelling_difference(client_id, address) else 0
