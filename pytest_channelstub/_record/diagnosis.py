"""Why a message is not where a test expects it: sentences, derived from the timeline alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_channelstub import _tokens as tokens
from pytest_channelstub._record import formatting
from pytest_channelstub._record.history import TAKEN, History, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pytest_channelstub._record.history import Connection
    from pytest_channelstub._record.timeline import Event, Timeline

    Match = Callable[[str], bool]

_MOST_LEFT = 20
_READERS = {
    "poll": "a poll (connect_and_pop_first_message)",
    "pop": "pop_first_message",
    "client": "a ChannelClient",
    "HTTP": "a poll over HTTP",
}


_SENT_HOLDS = "assert_sent(stub, {name}, ...) holds for messages that are no longer pending, too."
_ADVICE = {
    "early": "Connect it before the app sends: channel_client({name}).",
    "timeout": "Keep it connected: channel_client({name}, keep_alive=True), or poll every 2 s.",
    "close": "Connect it again before the app sends: channel_client({name}).",
    "disconnect": "Connect it again before the app sends: channel_client({name}).",
    "expired token": "Send to the client id {name}, or to a token that is still valid.",
    "read": _SENT_HOLDS,
    "clear": _SENT_HOLDS,
    TAKEN: _SENT_HOLDS,
    "reset": "A stub that outlives a test is reset between tests: @pytest.mark.channel_reset.",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is not as expected.

    Attributes:
        sentence: What happened, without a full stop.
        advice: What to type next, a sentence of its own; or empty.
    """

    sentence: str
    advice: str = ""


class Diagnosis:
    """The diagnosis of one timeline.

    Args:
        timeline: Of the stub; it is read once, here.

    Attributes:
        history: The timeline, replayed.
        start: What times are relative to, in seconds since the epoch.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.history: History = replay(timeline._snapshot())
        self.start = timeline.start

    def at(self, index: int) -> str:
        """When an event was, such as "+1.5 s"."""
        return formatting.format_offset(self.history.events[index].at, self.start)

    def messages(self, to: str, kinds: Sequence[str] = ("send", "drop")) -> tuple[int, ...]:
        """Indexes of the messages that went to a client id or token, queued or dropped."""
        client_id = client_id_of(to)
        return tuple(
            index
            for index, event in enumerate(self.history.events)
            if event.kind in kinds and event.client_id in (client_id, to)
        )

    # One message.

    def fate(self, index: int) -> str:
        """What became of a message: "sent at +1.5 s and dropped: ..."."""
        if self.history.events[index].kind == "drop":
            return f"sent at {self.at(index)} and dropped: {self.why_dropped(index)}"
        fate = self.history.outcomes[index]
        if fate.kind == TAKEN:
            return f"sent at {self.at(index)} and taken out of the list of get_channel_messages"
        if fate.index is None:
            return f"sent at {self.at(index)}, and still pending"
        event = self.history.events[fate.index]
        return f"sent at {self.at(index)} and {self._ended(event, fate.index)}"

    def why_dropped(self, index: int) -> str:
        """Why a message was dropped: "alice connected first at +2.0 s"."""
        event = self.history.events[index]
        address = event.client_id or ""
        if event.outcome == "expired token":
            return self._expired_address(address)
        name = formatting.format_client(address)
        before = self.history.connection(address, before=index)
        if before is None:
            after = self.history.next_connection(address, index)
            if after is None:
                return f"{name} never connected"
            return f"{name} connected first at {self.at(after.first)}"
        return self._over(name, before) + self._again(address, index)

    def _over(self, name: str, connection: Connection) -> str:
        assert connection.last is not None  # noqa: S101 (it was over when the message came)
        at = self.at(connection.last)
        kind = self.history.events[connection.last].kind
        if kind == "close":
            return f"{name} had closed its channel at {at}"
        if kind == "disconnect":
            return f"{name} was disconnected by hand at {at} (disconnect_channel_event)"
        idle = self.history.events[connection.last].outcome.partition(",")[0]
        return f"{name} had timed out at {at}, {idle}{self._token_over(connection)}"

    def _token_over(self, connection: Connection) -> str:
        """Why even a client that kept polling timed out: its token had ended."""
        events = self.history.events
        read = tokens.read(events[connection.heard].token)
        if read is None or connection.last is None or read.expires > events[connection.last].at:
            return ""
        return f" (its token had expired at {formatting.format_offset(read.expires, self.start)})"

    def _again(self, client_id: str, index: int) -> str:
        after = self.history.next_connection(client_id, index)
        return "" if after is None else f", and connected again only at {self.at(after.first)}"

    def _expired_address(self, token: str) -> str:
        read = tokens.read(token)
        assert read is not None  # noqa: S101 (the stub has read it)
        ended = formatting.format_offset(read.expires, self.start)
        return (
            f"it was addressed to {formatting.format_token(token)}, which expired at {ended}, and an "
            "expired token counts as an unknown client id"
        )

    def _ended(self, event: Event, index: int) -> str:
        at = self.at(index)
        name = formatting.format_client(event.client_id)
        if event.kind == "read":
            return f"already read at {at} by {_READERS.get(event.outcome, event.outcome)}"
        if event.kind == "clear":
            return f"cleared unread at {at} (clear_channel_messages)"
        if event.kind == "reset":
            return f"emptied out unread at {at} by a reset of the stub"
        if event.kind == "close":
            return f"lost unread at {at}, when {name} closed its channel"
        if event.kind == "disconnect":
            return f"lost unread at {at}, when {name} was disconnected by hand"
        return f"lost unread at {at}, when {name} timed out ({event.outcome.partition(',')[0]})"

    def advice(self, index: int) -> str:
        """What to type so that a message like this one arrives, or is found."""
        event = self.history.events[index]
        name = repr(client_id_of(event.client_id or ""))
        kind = self._cause(index)
        return _ADVICE.get(kind, "").format(name=name)

    def _cause(self, index: int) -> str:
        event = self.history.events[index]
        if event.kind == "send":
            return self.history.outcomes[index].kind
        if event.outcome == "expired token":
            return event.outcome
        before = self.history.connection(event.client_id or "", before=index)
        if before is None or before.last is None:
            return "early"
        return self.history.events[before.last].kind

    def _is_left(self, index: int, strict: Collection[str]) -> bool:
        if self.history.events[index].kind == "drop":
            return "dropped" in strict
        outcome = self.history.outcomes.get(index)
        return "unread" in strict and outcome is not None and outcome.kind not in ("read", TAKEN)

    # One message that was expected, and is not there.

    def why_absent(
        self,
        to: str,
        match: Match,
        *,
        skip: Collection[int | None] = (),
        otherwise: Reason | None = None,
    ) -> Reason:
        """Why a message that matches is not to be had.

        Args:
            to: The client id or token that was asserted on.
            match: Whether a message is the one.
            skip: Indexes of messages that are accounted for.
            otherwise: What to say of one that was never sent to anybody.
        """
        foreign = self.why_foreign(to)
        if foreign is not None:
            return foreign
        own = self._matching(self.messages(to), match)
        left = [index for index in own if index not in skip]
        if left:
            return Reason(self.fate(left[-1]), self.advice(left[-1]))
        return (
            self._failed(to, match)
            or self._elsewhere(to, match, least=1 if own else 0)
            or self._too_few(to, own)
            or otherwise
            or self._never(to)
        )

    def why_nothing_to_receive(self, client_id: str) -> Reason:
        """Why a client has no message to read."""
        sent = self.messages(client_id)
        if not sent:
            return self.why_absent(client_id, lambda _: True)
        lost = [index for index in sent if self._cause(index) != "read"]
        index = (lost or sent)[-1]
        return Reason(f"the last message was {self.fate(index)}", self.advice(index))

    def why_unconnected(self, to: str) -> Reason:
        """Why a client is not connected: "alice had timed out at +3.5 s, ..."."""
        client_id = client_id_of(to)
        last = self.history.connection(client_id)
        if last is not None and last.last is not None:
            kind = self.history.events[last.last].kind
            advice = _ADVICE[kind].format(name=repr(client_id))
            return Reason(self._over(formatting.format_client(client_id), last), advice)
        advice = _ADVICE["early"].format(name=repr(client_id))
        sentence = f"{self._alike(client_id)}{formatting.format_client(client_id)} never connected"
        return self.why_foreign(to) or Reason(sentence, advice)

    def why_foreign(self, to: str) -> Reason | None:
        """That a token was never made by this stub; None for any other address."""
        made = any(one.kind == "create" and one.token == to for one in self.history.events)
        if made or tokens.read(to) is None:
            return None
        return Reason(
            f"{formatting.format_token(to)} was not made by this stub: it belongs to another stub or "
            "an earlier test",
            "Use a token that create_channel has returned in this test.",
        )

    def _alike(self, client_id: str) -> str:
        for other in self.history.connections:
            difference = how_alike(client_id, other)
            if difference:
                return f"{formatting.quoted(other)} connected, which differs in {difference}; "
        return ""

    def _matching(self, indexes: Sequence[int], match: Match) -> list[int]:
        events = self.history.events
        return [index for index in indexes if match(events[index].message or "")]

    def _failed(self, to: str, match: Match) -> Reason | None:
        for index, event in reversed(tuple(enumerate(self.history.events))):
            if event.kind != "error" or event.client_id not in (to, client_id_of(to)):
                continue
            if event.message is not None and match(event.message):
                call, _, error = event.outcome.partition(": ")
                return Reason(
                    f"sending it failed at {self.at(index)}: {call} raised {error}, "
                    "an error that was set (SetError or channel_error)",
                    "stub.SetError(None) lifts an error that was set for all calls.",
                )
        return None

    def _too_few(self, to: str, own: Sequence[int]) -> Reason | None:
        """That it was sent, but less often than expected."""
        if not own:
            return None
        last = ", the last" if len(own) > 1 else ","
        name = formatting.format_client(client_id_of(to))
        return Reason(f"sent to {name} {times(len(own))} only{last} at {self.at(own[-1])}")

    def _elsewhere(self, to: str, match: Match, *, least: int) -> Reason | None:
        """That it went to another address, of those with at least so much kinship."""
        events = self.history.events
        client_id, own = client_id_of(to), {*self.messages(to)}
        sent = [
            index
            for index, event in enumerate(events)
            if event.kind in ("send", "drop")
            and index not in own
            and _kinship(client_id, event) >= least
        ]
        found = self._matching(sent, match)
        if not found:
            return None
        index = max(found, key=lambda one: (_kinship(client_id, events[one]), one))
        other = events[index].client_id or ""
        if events[index].outcome == "expired token":
            return Reason(self.fate(index), self.advice(index))
        difference = how_alike(client_id, other)
        show = formatting.quoted if difference else formatting.format_client
        sentence = f"sent at {self.at(index)} to {show(other)}, not to {show(client_id)}"
        if difference:
            sentence += f": the two differ in {difference}"
        return Reason(sentence, f"Assert on {other!r}, or have the app send to {client_id!r}.")

    def _never(self, to: str) -> Reason:
        name = formatting.format_client(client_id_of(to))
        others = len(self.messages(to))
        if others:
            went = f"{formatting.plural(others, 'message')} went to {name}, and none matches"
            return Reason(f"never sent like this: {went}")
        if any(event.kind in ("send", "drop") for event in self.history.events):
            return Reason(f"never sent: no message went to {name}, and none to others is like it")
        return Reason("never sent: the app has sent no message at all")


def client_id_of(to: str) -> str:
    """The client id that an address means: a token's, whether or not its time is over."""
    read = tokens.read(to)
    return to if read is None else read.client_id


def times(count: int) -> str:
    """How often: "not once", "once", "twice", "3 times"."""
    return {0: "not once", 1: "once", 2: "twice"}.get(count, f"{count} times")


def how_alike(left: str, right: str) -> str:
    """In what alone two client ids differ: "case", "white space", both, or nothing at all."""
    if left == right:
        return ""
    if left.casefold() == right.casefold():
        return "case"
    squeezed = "".join(left.split()), "".join(right.split())
    if squeezed[0] == squeezed[1]:
        return "white space"
    if squeezed[0].casefold() == squeezed[1].casefold():
        return "case and white space"
    return ""


def _kinship(client_id: str, event: Event) -> int:
    """How likely an event's address was meant for a client: more is likelier."""
    address = event.client_id or ""
    if event.outcome == "expired token" and client_id_of(address) == client_id:
        return 2
    return 1 if how_alike(client_id, address) else 0


def explain_wait(  # noqa: PLR0913 (what a test has waited for)
    timeline: Timeline,
    kind: str,
    client_id: str | None,
    timeout: float,
    count: int,
    message: object,
) -> str:
    """Why a wait for an event has ended without it."""
    whose = "" if client_id is None else f" of {client_id!r}"
    number = "no" if count == 1 else f"fewer than {count}"
    plural = "" if count == 1 else "s"
    events = formatting.format_timeline(timeline[:], timeline.start, last=50)
    return (
        f"{number} {kind!r} event{plural}{whose} within {timeout:g} s of real time. "
        f"What happened so far, on the stub's clock:\n{events}"
    )


def format_record(
    timeline: Timeline, *, last: int | None = None, full: bool = False, colour: bool = False
) -> str:
    """A timeline as a failure shows it: a dropped message with its cause, a line with its source.

    Args:
        timeline: Of the stub.
        last: How many events to show; None for all.
        full: Whether to show messages in full.
        colour: Whether to colour the kinds, for a terminal.
    """
    limit = None if full else formatting.SHORT
    text = formatting.format_timeline(timeline[:], timeline.start, last=last, limit=limit)
    return formatting.colour(text) if colour else text


def describe_left_messages(timeline: Timeline, strict: Collection[str]) -> list[str]:
    """The messages of a test that nobody received and no assertion has named, a line each.

    Args:
        timeline: Of the stub.
        strict: What counts: `dropped`, `unread` or both.

    Returns:
        For each message where it came from and what became of it; of more than twenty,
        the first twenty and how many more there are. Empty if none was left.
    """
    diagnosis = Diagnosis(timeline)
    lines = [
        f"{formatting.quoted(event.message or '')} to {formatting.format_client(event.client_id)}, "
        f"{diagnosis.fate(index)}"
        for index, event in enumerate(diagnosis.history.events)
        if index not in timeline._acknowledged and diagnosis._is_left(index, strict)
    ]
    if len(lines) > _MOST_LEFT:
        lines[_MOST_LEFT:] = [f"and {len(lines) - _MOST_LEFT:,} more"]
    return lines


def list_remarks(stub: Any) -> list[str]:
    """What is worth knowing of a stub where a test has failed, a sentence each.

    Such as a refused call, an error of the app, or another stub that took the messages.

    Args:
        stub: A ChannelServiceStub, open or closed.
    """
    return []
