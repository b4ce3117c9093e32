"""Why a message is not where a test expects it: sentences, derived from the record alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from pytest_channelstub import _tokens
from pytest_channelstub._record import formatting, matching
from pytest_channelstub._record.formatting import format_client, plural
from pytest_channelstub._record.history import TAKEN, Outcome
from pytest_channelstub._record.outcomes import (
    MESSAGES,
    Outcomes,
    client_id_of,
    format_record,
    spell,
)
from pytest_channelstub._record.settings import MOST_EVENTS, settings
from pytest_channelstub._record.threads import find_coroutine, find_running_threads
from pytest_channelstub._record.timeline import THIS_TEST

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from threading import Thread

    from pytest_channelstub._record.history import Connection
    from pytest_channelstub._record.timeline import Event, Source, Timeline

_LONGEST_TOKEN = 1440  # minutes
_TIMES = {0: "not once", 1: "once", 2: "twice"}


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
    def _is_of_fixture(self) -> bool: ...
    @property
    def _is_clock_own(self) -> bool: ...
    @property
    def _is_in_handler(self) -> bool: ...
    @property
    def _is_closed(self) -> bool: ...
    @property
    def _older_threads(self) -> Collection[Thread]: ...
    @property
    def _invalid(self) -> Mapping[tuple[str, str], tuple[str | None, Source | None]]: ...
    def _other_stubs(self) -> Sequence[Stub]: ...
    def _overdue(self) -> Sequence[tuple[str, float]]: ...
    def _deadline_of(self, client_id: str) -> tuple[float, bool, str]: ...


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is not as expected."""

    # What happened, without a full stop; of a message that is there, what became of it, such
    # as "was dropped at +1.5 s, before bob connected (+2.0 s)".
    sentence: str = ""
    advice: str = ""  # what to type next, in sentences
    sources: tuple[str, ...] = ()  # the lines of code behind it: "sent by notify() at chat.py:41"
    message: str | None = None  # that the sentence is about, if it is about one

    def of(self, subject: str = "") -> str:
        """The whole sentence; about a message its subject is the message, or another word."""
        if self.message is None:
            return self.sentence
        return f"{subject or formatting.quoted(self.message)} {self.sentence}"


class Diagnosis(Outcomes):
    """What became of the messages to one client, or to anybody, and why.

    It is for the client id or token `to`; None is for anybody. `token` is that of the
    `ChannelClient` that asks, if one does; `awaited` the kind of event that is missed.
    """

    def __init__(
        self, stub: Stub, to: str | None, token: str | None = None, *, awaited: str = "send"
    ) -> None:
        super().__init__(stub.timeline, token)
        self._stub = stub
        self.to = to
        self._awaited = awaited
        self.client_id = "" if to is None else client_id_of(to)
        self.name = "anybody" if to is None else format_client(self.client_id)
        self.last_connection = self.history.connection(self.client_id)
        is_fixture = stub._is_of_fixture or settings.find_fixture_stub() is stub
        self._has_fixtures = is_fixture and not settings.show_timeline

    def own(
        self, kinds: Sequence[str] = MESSAGES, after: int = -1, *, or_nobodys: bool = False
    ) -> list[int]:
        """As `find`, of this client alone; with `or_nobodys` of events without a client, too."""
        found = self.find(kinds, after)
        if self.to is None:
            return found
        addresses = (self.to, self.client_id, None if or_nobodys else self.to)
        return [index for index in found if self.events[index].client_id in addresses]

    def describe_connection(self) -> str:
        """Of an open stub: whether the client is connected, and since when, or why not any more."""
        last = self.last_connection
        if last is None:
            return f"{self.name} is not connected"
        if last.last is not None:
            return f"{self.name} is not connected: {self.describe_over(last, 'it')}"
        since = "before this test" if last.first is None else self.offset(last.since)
        return f"{self.name} is connected, since {since}"

    def explain(self, index: int) -> Reason:
        """What became of a message, and what to type so that it arrives or is found."""
        message = self.events[index].message
        return Reason(self.describe(index), self._advise(index), self.causes(index), message)

    def compose(self, headline: str, reason: Reason | None = None, more: Sequence[str] = ()) -> str:
        """The text of a failure: its first line says it; outside pytest the timeline ends it."""
        reason = reason or Reason()
        lines = [headline, *(f"  {line}" for line in (*reason.sources, *more))]
        if reason.advice:
            lines.append(f"  hint: {reason.advice}")
        if settings.show_timeline:
            record = format_record(self._stub.timeline, last=MOST_EVENTS, full=settings.full)
            lines += ["timeline:", *(f"  {line}" for line in record.split("\n"))]
        return "\n".join(lines)

    # What to type.

    @property
    def stub_name(self) -> str:
        """What to call the stub: its fixture; one of the test's own, and outside pytest, `stub`."""
        return "channel_stub" if self._has_fixtures else "stub"

    def connect_call(
        self, client_id: str, minutes: int | None = None, *, keep_alive: bool = False
    ) -> str:
        """The call that connects a client."""
        duration = "" if minutes is None else f", duration_minutes={minutes}"
        alive = ", keep_alive=True" if keep_alive else ""
        if self._has_fixtures:
            return f"channel_client({client_id!r}{duration}{alive})"
        return f"ChannelClient(stub, channel.create_channel({client_id!r}{duration}){alive})"

    def advance_call(self, seconds: float) -> str:
        """The call that moves the clock on."""
        clock = "channel_clock" if self._has_fixtures else "stub.clock"
        return f"{clock}.advance({round(seconds, 6):.15g})"

    def _advise(self, index: int) -> str:
        event = self.events[index]
        address = event.client_id or ""
        name = repr(client_id_of(address))
        if event.kind == "send":
            outcome = self.history.outcomes[index]
            if outcome.kind in ("read", "clear", "close", "disconnect", "reset", TAKEN):
                call = f"assert_sent({self.stub_name}, {name}, ...)"
                return f"{call} also holds when a message was read or lost."
            if outcome.index is None:
                return ""
            ended, _ = self.history.around(address, outcome.index)
            return self._advise_connection(address, ended)
        if event.outcome == "expired token":
            return f"Send to the client id {name}, or to a token that is valid."
        before, after = self.history.around(address, index)
        similar = self.find_similar(address)
        if similar and before is None and after is None:
            _, right, wrong = similar
            return f"Connect {right}, or have the app send to {wrong}."
        return self._advise_connection(address, before, event.at)

    def _advise_connection(
        self,
        address: str,
        before: Connection | None,
        until: float | None = None,
        when: str = " before the app sends",
    ) -> str:
        """How to have a client connected until some time; until now by default."""
        connect = self.connect_call(address)
        if before is None or before.last is None:
            return f"Connect it{when}: {connect}."
        end = self.events[before.last]
        if end.kind != "timeout":
            return f"Connect it again{when}: {connect}."
        if "add_disconnect_event" in end.outcome:
            return (
                "add_disconnect_event ends a connection after 2 s: leave it out, or connect again."
            )
        if self.token_end(before) is None:
            keep = self.connect_call(address, keep_alive=True)
            advice = f"Keep it connected: {keep}, or call its poll() more often than every 2 s."
            if before.first is None:
                advice = f"Connect it in this test, as keep_alive ends with its test: {keep}."
            return advice
        end_of_need = self._stub.clock.time() if until is None else until
        minutes = math.ceil((end_of_need - before.since) / 60) + 1
        if minutes > _LONGEST_TOKEN:
            return f"Connect it again with a new token: {connect}."
        keep = self.connect_call(address, minutes, keep_alive=True)
        return f"Give it a token that lasts longer: {keep}, or connect it again: {connect}."

    # One message that was expected, and is not there.

    def find_cause(self, expected: object, skip: Collection[int | None] = ()) -> Reason | None:
        """Why a message that was sent, or was to be sent, is not there."""
        own = self.find_matching(self.own(), expected)
        left = [index for index in own if index not in skip]
        if left:
            return self.explain(left[-1])
        return self._find_elsewhere(expected, is_sent=bool(own))

    def _find_elsewhere(
        self, expected: object, after: int = -1, *, is_sent: bool = False
    ) -> Reason | None:
        """Why a message is not among those of its client."""
        is_any = expected is matching.ANY
        failed = self.find_matching(self.own(("error",), after), expected)
        return (
            self._explain_failure(failed)
            or (None if is_any else self._find_refusal(after, expected))
            or self._find_at_other_client(expected, after, is_sent=is_sent or is_any)
            or self._find_swapped(expected, after)
            or self._find_in_other_stub(expected)
            or (None if is_any else self._find_emptied(expected))
        )

    def describe_too_few(self, own: Sequence[int]) -> Reason:
        """That a message was sent, but less often than expected."""
        last = "" if len(own) == 1 else ", the last"
        sentence = f"was sent to {self.name} only {times(len(own))}{last} at"
        index = own[-1]
        message = self.events[index].message
        return Reason(f"{sentence} {self.at(index)}", "", self.sources(index), message)

    def explain_silence(self, *, after: int = -1, has_waited: bool = False) -> Reason:
        """Why a client was sent nothing, or nothing like what was expected."""
        own = self.own(after=after)
        refused = self._find_refusal(after)
        if refused is not None:
            return refused
        if len(own) == 1:
            return Reason(f"the one message sent to {self.name} is not like it")
        if own:
            return Reason(f"none of the {len(own):,} messages sent to {self.name} is like it")
        return (
            self.find_running_handler()
            or self._find_app_failure()
            or self._find_foreign_token()
            or self._find_running_thread()
            or self._describe_silence(after, has_waited=has_waited)
        )

    def find_closed_stub(self) -> Reason | None:
        """That the stub is closed, so that nobody is connected and nothing is pending."""
        if not self._stub._is_closed:
            return None
        return Reason("the stub is closed", "Read and assert before the stub is closed.")

    def explain_nothing_to_receive(self) -> Reason:
        """Why the client has no message to read."""
        closed = self.find_closed_stub()
        if closed is not None:
            return closed
        reads = [
            index
            for index in self.own(("read",))
            if self.events[index].outcome == "client" and self.events[index].token == self._token
        ]
        last = reads[-1] if reads else -1
        ends = {index: self.history.outcomes.get(index, Outcome()).index for index in self.own()}
        left = [index for index, end in ends.items() if end not in reads]
        recent = [index for index in left if max(index, ends[index] or 0) > last]
        if recent:
            return self.explain(recent[-1])
        reason = self._find_elsewhere(matching.ANY, last)
        if reason is None:
            reason = self.explain_silence(after=last)
            if left:
                earlier = self.explain(left[-1]).of()
                reason = replace(reason, sentence=f"{reason.sentence}; earlier, {earlier}")
        return reason

    def explain_unconnected(self, subject: str = "it") -> Reason:
        """Why the client is not connected: "it timed out at +3.5 s, ..."."""
        closed = self.find_closed_stub()
        if closed is not None:
            return closed
        last = self.last_connection
        if last is not None and last.last is not None:
            advice = self._advise_connection(self.client_id, last, when="")
            return Reason(self.describe_over(last, subject), advice, self.sources(last.last))
        never = self.describe_never(self.client_id, subject)
        failed = [index for index in self.own(("error",)) if self.events[index].message is None]
        return (
            self._find_rejection()
            or self._explain_failure(failed)
            or self._find_foreign_token()
            or self._find_connection_to_other_stub(subject)
            or Reason(never, self._advise_first_connection())
        )

    def describe_foreign_token(self) -> str:
        """That a token was not made in this test; empty for any other address."""
        if self.to is None or _tokens.read(self.to) is None:
            return ""
        if any(self.events[index].token == self.to for index in self.find(("create",))):
            return ""
        return (
            f"{formatting.format_token(self.to)} was not made by this stub in this test: it "
            "belongs to another stub or an earlier test"
        )

    # What else may be behind it.

    def _explain_failure(self, failed: Sequence[int]) -> Reason | None:
        """That the last of some calls has failed as SetError or a marker has it."""
        if not failed:
            return None
        index = failed[-1]
        event = self.events[index]
        error, _, origin = event.outcome.partition(": ")[2].removesuffix(")").partition(" (")
        call = origin.removeprefix("SetError for ")
        if origin == "SetError":
            advice = f"{self.stub_name}.SetError(None) removes it."
        elif call != origin:
            advice = f"{self.stub_name}.SetError(apiproxy_errors.Error(), {call!r}, 0) removes it."
        else:
            advice = "Remove that marker, or have the app handle the error."
        raised = f"raised {error} at {self.at(index)}, set by {origin}"
        is_send = event.message is not None
        sentence = f"was not sent: the call {raised}" if is_send else f"create_channel {raised}"
        return Reason(sentence, advice, self.sources(index), event.message)

    def _find_refusal(self, after: int, expected: object = matching.ANY) -> Reason | None:
        """A call that was refused for its arguments, whose message may have been the one."""
        shown = formatting.shorten_repr(expected)
        for index in reversed(self.own(("refuse",), after, or_nobodys=True)):
            event = self.events[index]
            if (
                expected is matching.ANY
                or (event.message is None and f"the message is {shown}, of type" in event.outcome)
                or matching.may_match(expected, event.message or "")
            ):
                sentence = f"{self.describe_refusal(index)}: {event.outcome}"
                advice = "The error was caught, and the test went on. Fix the call."
                return Reason(sentence, advice, self.sources(index))
        return None

    def _find_at_other_client(
        self, expected: object, after: int, *, is_sent: bool
    ) -> Reason | None:
        """That it went to another client id: of any, the one that is most like it."""
        own = {*self.own()}
        others = [index for index in self.find(after=after) if index not in own]
        kinship = {index: _kinship(self.client_id, self.events[index]) for index in others}
        if is_sent:
            others = [index for index in others if kinship[index]]
        found = self.find_matching(others, expected)
        if not found:
            return None
        index = max(reversed(found), key=kinship.__getitem__)  # the latest of the likeliest
        event = self.events[index]
        if event.outcome == "expired token":
            return self.explain(index)
        difference, right, wrong = spell(self.client_id, event.client_id or "")
        sentence = f"was sent at {self.at(index)} to "
        if difference:
            sentence += f"{wrong}, which differs from {right} in {difference}"
        else:
            sentence += f"{format_client(event.client_id)}, not to {self.name}"
        advice = f"Use {wrong} in the test, or have the app send to {right}."
        return Reason(sentence, advice, self.sources(index), event.message)

    def _find_swapped(self, expected: object, after: int) -> Reason | None:
        """That the client id was sent as a message, to a client named as the message."""
        if not isinstance(expected, str) or self.to is None:
            return None
        for index in reversed(self.find(after=after)):
            event = self.events[index]
            if event.message == self.client_id and event.client_id == expected:
                message, name = formatting.quoted(event.message), format_client(expected)
                where = "the test or in send_message(client_id, message)"
                if self.client_id in self.history.connections:
                    where = "send_message(client_id, message)"
                elif expected in self.history.connections:
                    where = "the test"
                return Reason(
                    f"{message} was sent to {name} at {self.at(index)}",
                    f"The client id comes before the message: swap the two in {where}.",
                    self.sources(index),
                )
        return None

    def _find_in_other_stub(self, expected: object) -> Reason | None:
        for stub in self._stub._other_stubs():
            other = Outcomes(stub.timeline)
            for index in reversed(other.find_matching(other.find(), expected)):
                event = other.events[index]
                if self.to is None or client_id_of(event.client_id or "") == self.client_id:
                    how = "was dropped by" if event.kind == "drop" else "went to"
                    return Reason(
                        f"{how} another stub, which {stub._built_by}",
                        "Calls reach the newest stub that is not closed: connect and assert on "
                        "that stub, or close it before the app sends.",
                        other.sources(index),
                        event.message,
                    )
        return None

    def _find_connection_to_other_stub(self, subject: str) -> Reason | None:
        for stub in self._stub._other_stubs():
            other = Outcomes(stub.timeline)
            connections = other.history.connections.get(self.client_id)
            if connections:
                return Reason(
                    f"{subject} connected to another stub, which {stub._built_by}",
                    "Pass that stub, or make it the only one.",
                    other.sources(connections[-1].first),
                )
        return None

    def _find_emptied(self, expected: object) -> Reason | None:
        """That the reset before this test has emptied the queue which held the message."""
        for message in self.emptied.get(self.client_id, ()):
            if isinstance(message, str) and matching.may_match(expected, message):
                advice = 'Keep it: @pytest.mark.channel_reset("nothing").'
                if self.span != THIS_TEST:
                    advice = "Assert before the reset."
                sentence = f"was pending before the reset, and not sent {self.span}"
                return Reason(sentence, advice, message=message)
        return None

    def find_running_handler(self) -> Reason | None:
        """That the app's answer to a request about a client is still to come."""
        for index in self.own(("request",)):
            event = self.events[index]
            if event.outcome == "under way":
                wait = f"{self.stub_name}.wait_for('request', {event.client_id!r})"
                advice = f"Wait for its answer: {wait}."
                if self._stub._is_in_handler:
                    advice = "This is the handler itself: assert, or wait, after its return."
                return Reason(
                    f"the app's handler of {event.message} is still running, "
                    f"which was called {self.describe_request(index)}",
                    advice,
                )
        return None

    def _find_app_failure(self) -> Reason | None:
        """That the app has not handled a request about a client, or of a browser."""
        for index in reversed(self.own(("request",), or_nobodys=True)):
            failure = self.describe_app_failure(index)
            if failure and not self.own(after=index):
                event = self.events[index]
                status, _, quote = event.outcome.partition(": ")
                advice = f"Have the app handle POST {event.message}."
                if status.startswith("403") and "csrf" in quote.lower():
                    advice = "Exempt the handler from the CSRF check (Django: @csrf_exempt)."
                elif not status.startswith(("404", "405")):
                    answer = f" Its answer began {quote}." if quote and status[0].isdigit() else ""
                    advice = f"Fix the handler of {event.message}.{answer}"
                return Reason(f"{failure}, and what its handler was to send was not sent", advice)
        return None

    def _find_rejection(self) -> Reason | None:
        rejected = self.own(("reject",)) or [
            index for index in self.find(("reject",)) if self.events[index].token == self.client_id
        ]
        if not rejected:
            return None
        index = rejected[-1]
        why = self.describe_expired(self.events[index].token or "")
        if self.events[index].client_id is None:
            why = f"{format_client(self.client_id)} is a client id, and not a token"
        sentence = f"its connection was rejected at {self.at(index)}: {why}"
        advice = f"Connect it with a new token: {self.connect_call(self.client_id)}."
        return Reason(sentence, advice, self.sources(index))

    def _find_foreign_token(self) -> Reason | None:
        sentence = self.describe_foreign_token()
        advice = "Use a token that create_channel has returned in this test."
        return Reason(sentence, advice) if sentence else None

    def _describe_wait(self) -> str:
        name = "" if self.to is None else f", {self.client_id!r}"
        if find_coroutine():  # which a wait would block
            return f"await asyncio.to_thread({self.stub_name}.wait_for, {self._awaited!r}{name})"
        return f"{self.stub_name}.wait_for({self._awaited!r}{name})"

    def _find_running_thread(self) -> Reason | None:
        thread = next(find_running_threads(self._stub._older_threads), None)
        if thread is None:
            return None
        return Reason(f"{thread}, and may send it later", f"Wait for it: {self._describe_wait()}.")

    def _describe_silence(self, after: int, *, has_waited: bool) -> Reason:
        """That no message is known, and what may be behind that."""
        sent = [self.events[index] for index in self.find(after=after)]
        advice = "Was a branch not taken, or an exception caught?"
        if after >= 0:
            read = f"{formatting.quoted(self.events[after].message or '')}, which was read at"
            sentence = f"nothing was sent to {self.name} after {read} {self.at(after)}"
        elif sent:
            others = {format_client(event.client_id) for event in sent}
            whom = f"to {others.pop()}" if len(others) == 1 else f"to {len(others):,} other clients"
            were = "was" if len(sent) == 1 else "were"
            sentence = f"{plural(len(sent), 'message')} {were} sent {whom}, and none to"
            return Reason(f"{sentence} {self.name}", "Check to whom the app sends.")
        else:
            unheard, remedy = self._describe_unheard_connection()
            sentence = f"send_message was not called {self.span}{unheard}"
            advice = f"{remedy}{advice}"
        if not has_waited:
            wait = self._describe_wait()
            advice += f" Work that is scheduled may not have run yet: {wait} waits for it."
        return Reason(sentence, advice)

    def _describe_unheard_connection(self) -> tuple[str, str]:
        """That the app did not hear of a client's connection, and sent no greeting; and advice."""
        if self.own(("connect",)):
            if not self._stub._presence:
                return (
                    ", and presence is off, so the app does not hear of a connection",
                    "Leave presence=False out. ",
                )
            outcomes = {self.events[index].outcome for index in self.own(("request",))}
            if self._stub.app is None:
                fixture = ", or have channel_app return the app" if self._has_fixtures else ""
                return (
                    ", and no app is set that hears of a connection",
                    f"Set {self.stub_name}.app{fixture}. ",
                )
            if outcomes == {"no app"}:
                return (
                    f", and no app was set when {self.name} connected",
                    f"Set {self.stub_name}.app before that. ",
                )
        last = self.last_connection
        if last is not None and last.first is None and self.own(("refresh",)):
            since = f"{self.name} was connected before this test"
            return (
                f", and {since}, so the app did not hear of it again",
                '@pytest.mark.channel_reset("all") begins with nobody connected. ',
            )
        return "", ""

    def _advise_first_connection(self) -> str:
        similar = self.find_similar(self.client_id)
        if similar:
            _, right, wrong = similar
            return f"Use {wrong} in the test, or connect {right}."
        connect = self.connect_call(self.client_id)
        if self.own(("create",)):
            return f"create_channel makes a token, and does not connect: {connect} does both."
        return f"Connect it: {connect}."

    # What a test has waited for.

    def find_wait_cause(self, kind: str, message: object, found: Sequence[int]) -> Reason | None:
        """Why no more events than those found have come."""
        coroutine = find_coroutine()
        if coroutine:
            return Reason(
                "wait_for() blocks the event loop, in which nothing else runs meanwhile",
                f"Wait in another thread: await asyncio.to_thread({self.stub_name}.wait_for, ...).",
                (f"blocked by {coroutine}",),
            )
        running = self.find_running_handler()
        if running is not None:
            return running
        if kind in ("send", "drop", "read"):
            cause = self.find_cause(message, () if kind == "read" else found)
            if cause is not None and cause.message is not None:
                cause = replace(cause, advice="")  # that is for assertions
            return cause if found or cause else self.explain_silence(has_waited=True)
        if self.to is None or kind not in ("connect", "close", "disconnect", "timeout"):
            return None
        return self._explain_waiting_for(kind)

    def _explain_waiting_for(self, kind: str) -> Reason:
        """Why the client has not connected, or its connection not ended in that way."""
        last = self.last_connection
        if self._stub._is_closed or last is None or last.last is not None:
            reason = self.explain_unconnected(self.name)
            if kind == "connect" or last is None or last.last is None:
                return reason
            ended = self.events[last.last].kind
            return reason if ended == kind else replace(reason, advice=f"Wait for {ended!r}.")
        if kind == "connect":
            return Reason(self.describe_connection())
        why, _, advance, end = self.explain_connection()
        advice = f"End it: {end}."
        if kind == "disconnect":
            advice = f"End it: {end[:-1]}, 'disconnect')."
        elif kind == "timeout":
            advice = advance and f"The stub's clock moves only when the test moves it: {advance}."
        return Reason(f"{self.describe_connection()}: {why}", advice)

    def explain_connection(self) -> tuple[str, bool, str, str]:
        """Until when a client stays connected.

        Returns:
            That as a sentence, whether it is kept alive, and the calls that let it time out
            (empty where the clock is not the stub's own) and that end it.
        """
        due, is_kept, cause = self._stub._deadline_of(self.client_id)
        at, end = self.offset(due), f"{self.stub_name}.disconnect({self.client_id!r})"
        why = f"it times out at {at} if it does not poll before"
        if is_kept:
            why = "it is kept alive, until its token expires at the latest, and then times out"
            why = f"{why} ({at})"
        elif cause:
            why = f"it is disconnected at {at}, {cause}"
        is_own = self._stub._is_clock_own
        advance = self.advance_call(due - self._stub.clock.time()) if is_own else ""
        return why, is_kept, advance, end


def explain_wait(  # noqa: PLR0913, PLR0917 (what a test has waited for)
    stub: Stub, kind: str, client_id: str | None, seconds: float, count: int, message: object
) -> str:
    """Why a wait for an event has ended without it."""
    diagnosis = Diagnosis(stub, client_id)
    found = diagnosis.find_matching(diagnosis.own((kind,)), message)
    number = f"no {kind!r} event"
    if 0 < len(found) < count:
        number = f"only {len(found)} of {count} {kind!r} events"
    whose = "" if client_id is None else f" of {diagnosis.name}"
    what = "" if message is matching.ANY else f" with {formatting.shorten_repr(message)}"
    headline = f"{number}{whose}{what} within {seconds:g} s of real time"
    reason = diagnosis.find_wait_cause(kind, message, found)
    return diagnosis.compose(f"{headline}: {reason.of()}" if reason else headline, reason)


def times(count: int) -> str:
    """How often: "not once", "once", "twice", "3 times"."""
    return _TIMES.get(count, f"{count:,} times")


def _kinship(client_id: str, event: Event) -> int:
    """How likely an event's address was meant for a client: more is likelier."""
    address = event.client_id or ""
    if event.outcome == "expired token" and client_id_of(address) == client_id:
        return 2
    return 1 if matching.spelling_difference(client_id, address) else 0
