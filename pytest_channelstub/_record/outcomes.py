"""What became of messages and connections, in sentences."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_channelstub import _tokens
from pytest_channelstub._record import formatting, matching
from pytest_channelstub._record.formatting import format_client
from pytest_channelstub._record.history import TAKEN, History, replay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_channelstub._record.history import Connection
    from pytest_channelstub._record.timeline import Event, Timeline

MESSAGES = ("send", "drop")
"""The kinds of event of a message, queued or dropped."""

_READERS = {
    "poll": "connect_and_pop_first_message",
    "pop": "pop_first_message",
    "client": "a ChannelClient",
    "HTTP": "a page, over HTTP",
}
_CLEARED = {
    "clear": "clear_channel_messages cleared the queue",
    "reset": "the stub was reset",
}
_VERBS = {
    "send": "sent",
    "drop": "sent",
    "read": "read",
    "clear": "cleared",
    "reset": "reset",
    "close": "closed",
    "disconnect": "disconnected",
    "connect": "connected",
    "reject": "called",
    "error": "called",
    "refuse": "called",
    "request": "caused",
}
# Outcomes of requests that say nothing of the app's handler.
_NO_ANSWER = ("no app", "under way", "not delivered", "interrupted")
# The events whose line of code a timeline shows.
_WITH_SOURCE = (
    "send", "drop", "read", "clear", "close", "disconnect", "error", "reject", "refuse",
)  # fmt: skip


class Outcomes:
    """What became of the messages and connections of one timeline."""

    def __init__(self, timeline: Timeline, token: str | None = None) -> None:
        self.history: History = replay(timeline._snapshot())
        self.events = self.history.events
        self.start = timeline.start
        self.span = timeline._span
        self.emptied = timeline._emptied
        self._token = token

    def offset(self, at: float) -> str:
        """A point in time, seen from the start: "+1.5 s"."""
        return formatting.format_offset(at, self.start)

    def at(self, index: int) -> str:
        """When an event was."""
        return self.offset(self.events[index].at)

    def find(self, kinds: Sequence[str] = MESSAGES, after: int = -1) -> list[int]:
        """Indexes of the events of some kinds after event `after`; of messages by default."""
        return [
            index
            for index, event in enumerate(self.events[after + 1 :], after + 1)
            if event.kind in kinds
        ]

    def find_matching(self, indexes: Sequence[int], expected: object) -> list[int]:
        """Those of some events whose messages are as expected."""
        events = self.events
        return [i for i in indexes if matching.may_match(expected, events[i].message or "")]

    def sources(self, *indexes: int | None) -> tuple[str, ...]:
        """The lines of code behind events, where known: "sent by notify() at chat.py:41"."""
        events = [self.events[index] for index in indexes if index is not None]
        return tuple(
            f"{_VERBS.get(event.kind, event.kind)} by {formatting.describe_source(event.source)}"
            for event in events
            if event.source
        )

    # One message.

    def describe(self, index: int) -> str:
        """What became of a message: "was sent at +1.5 s and is pending"."""
        if self.events[index].kind == "drop":
            return f"was dropped at {self.at(index)}{self._why_dropped(index)}"
        outcome, sent = self.history.outcomes[index], f"was sent at {self.at(index)} and"
        if outcome.kind == TAKEN:
            return f"{sent} taken out of the list that get_channel_messages returned"
        if outcome.index is None:
            return f"{sent} is pending"
        end, at = self.events[outcome.index], self.at(outcome.index)
        if end.kind == "read":
            reader = _READERS.get(end.outcome, end.outcome)
            if end.outcome == "client" and self._is_of_another_client(end):
                reader = f"another client of {format_client(end.client_id)}"
            return f"{sent} read at {at} by {reader}"
        when = _CLEARED.get(end.kind) or f"{format_client(end.client_id)} {_describe_end(end)}"
        if self._is_closed_by_another(end):
            when = f"another client of {format_client(end.client_id)} closed the channel"
        return f"{sent} lost at {at}, when {when}"

    def causes(self, index: int) -> tuple[str, ...]:
        """The lines of code that sent a message, and that ended it or connected its client."""
        if self.events[index].kind != "drop":
            return self.sources(index, self.history.outcomes[index].index)
        before, after = self.history.around(self.events[index].client_id or "", index)
        ended = None if before is None else before.last
        return self.sources(index, ended, None if after is None else after.first)

    def summarize(self, index: int) -> str:
        """A message, to whom, what became of it, and who sent it, on one line."""
        event = self.events[index]
        message = formatting.quoted(event.message or "")
        text = f"{message} to {format_client(event.client_id)} {self.describe(index)}"
        return "; ".join((text, *self.sources(index)))

    def suffix(self, index: int) -> str:
        """What a timeline says at the end of an event's line."""
        event = self.events[index]
        parts = []
        if event.kind == "drop":
            parts.append(f"<- {self._why_dropped(index).lstrip(',: ')}")
        if event.source and event.kind in _WITH_SOURCE:
            parts.append(f"({event.source})")
        return "  ".join(parts)

    def _why_dropped(self, index: int) -> str:
        event = self.events[index]
        address = event.client_id or ""
        name = format_client(address)
        if event.outcome == "expired token":
            return f": it was sent to {self.describe_expired(address)}"
        before, after = self.history.around(address, index)
        begin = "" if after is None else self.offset(after.since)
        if before is not None:
            end = None if before.last is None else self.events[before.last]
            whose = f"{name} " if end and self._is_closed_by_another(end) else ""
            again = begin and f", and {whose}connected again only at {begin}"
            return f": {self.describe_over(before, name)}{again}"
        if after is None:
            return f": {self.describe_never(address, name)}"
        if begin == self.at(index):
            return f": {name} was not connected yet, and connected only afterwards"
        return f", before {name} connected ({begin})"

    def _is_of_another_client(self, event: Event) -> bool:
        return None not in (self._token, event.token) and event.token != self._token

    def _is_closed_by_another(self, event: Event) -> bool:
        return event.kind == "close" and self._is_of_another_client(event)

    # One connection.

    def describe_never(self, client_id: str, name: str) -> str:
        """That a client was not connected, and that one of a similar client id was."""
        sentence, similar = f"{name} did not connect {self.span}", self.find_similar(client_id)
        if similar is None:
            if client_id in self._rejected:
                return f"{sentence}: its token was rejected at {self.at(self._rejected[client_id])}"
            alone = ": add_connect_event tells the app alone"
            return sentence + alone if client_id in self._announced else sentence
        difference, _, other = similar
        return f"{sentence}, but {other} did, which differs in {difference}"

    def find_similar(self, client_id: str) -> tuple[str, str, str] | None:
        """A client id that connected and differs in its spelling alone, as `spell` gives it."""
        alike = self._connected_by_spelling.get(matching.spelling_of(client_id), ())
        spelt = (spell(client_id, other) for other in alike)
        return next((each for each in spelt if each[0]), None)

    @cached_property
    def _connected_by_spelling(self) -> dict[str, list[str]]:
        # For each of many drops to ask each of many clients would take seconds.
        groups: dict[str, list[str]] = {}
        for client_id in self.history.connections:
            groups.setdefault(matching.spelling_of(client_id), []).append(client_id)
        return groups

    @cached_property
    def _rejected(self) -> dict[str, int]:
        """By client, the last event in which its token was rejected."""
        return {self.events[i].client_id or "": i for i in self.find(("reject",))}

    @cached_property
    def _announced(self) -> set[str | None]:
        """The clients whose connection a request to the app speaks of."""
        requests = (self.events[index] for index in self.find(("request",)))
        return {request.client_id for request in requests if self.is_connection(request)}

    def describe_over(self, connection: Connection, name: str) -> str:
        """How a connection ended: "alice timed out at +2.0 s, idle for 2 s"."""
        if connection.last is None:
            return f"{name} is connected"
        event, at = self.events[connection.last], self.at(connection.last)
        if self._is_closed_by_another(event):
            return f"another client of {name} closed the channel at {at}"
        how, comma, cause = _describe_end(event).partition(",")
        expired = self.token_end(connection) if how == "timed out" else None
        expiry = "" if expired is None else f" (its token had expired at {expired})"
        return f"{name} {how} at {at}{comma}{cause}{expiry}"

    def token_end(self, connection: Connection) -> str | None:
        """When the token of a connection expired, where it did before the client timed out."""
        if connection.heard is None or connection.last is None:
            return None
        read = _tokens.read(self.events[connection.heard].token)
        if read is None or read.expires > self.events[connection.last].at:
            return None
        return self.offset(read.expires)

    def describe_expired(self, token: str) -> str:
        """An expired token, and since when it is."""
        read = _tokens.read(token)
        at = self.offset(0 if read is None else read.expires)
        return f"{formatting.format_token(token)}, which had expired at {at}"

    # One call, or one request to the app.

    def describe_refusal(self, index: int) -> str:
        """A refused call, without the reason: "a call for alice was refused at +1.5 s"."""
        client_id = self.events[index].client_id
        whom = f" for {format_client(client_id)}" if client_id else ""
        return f"a call{whom} was refused at {self.at(index)}"

    def describe_request(self, index: int) -> str:
        """What a request to the app was about: "when alice connected (+1.5 s)"."""
        event = self.events[index]
        if event.client_id is None:
            return f"to {event.message} ({self.at(index)})"
        what = "connected" if self.is_connection(event) else "disconnected"
        return f"when {format_client(event.client_id)} {what} ({self.at(index)})"

    @staticmethod
    def is_connection(request: Event) -> bool:
        """Whether a request to the app says that a client has connected."""
        return (request.message or "").endswith("/_ah/channel/connected/")

    def describe_app_failure(self, index: int) -> str:
        """What the app did wrong: "the app answered 500 ... when alice connected"; or empty."""
        event = self.events[index]
        status = event.outcome.partition(": ")[0]
        if event.kind != "request" or status in _NO_ANSWER or re.match(r"[0-36-9]\d\d ", status):
            return ""
        is_answer = re.match(r"\d\d\d ", status)
        failure = f"answered {status}" if is_answer else f"raised {event.outcome}"
        return f"the app {failure} {self.describe_request(index)}"


def _describe_end(event: Event) -> str:
    """How a connection ended: "timed out, idle for 2 s"."""
    cause = event.outcome.partition(",")[0]
    if event.kind == "close":
        return "closed its channel"
    if event.kind == "disconnect":
        return "was disconnected"
    return f"{'timed out' if cause.startswith('idle') else 'was disconnected'}, {cause}"


def format_record(
    timeline: Timeline, *, last: int | None = None, full: bool = False, colour: bool = False
) -> str:
    """A timeline as text: a dropped message with the reason, and who sent, read and closed."""
    outcomes = Outcomes(timeline)
    events = outcomes.events
    first = 0 if last is None or full else max(0, len(events) - last)
    suffixes = [outcomes.suffix(index) for index in range(first, len(events))]
    limit = None if full else formatting.SHORT
    lines = formatting.format_events(events[first:], outcomes.start, limit, suffixes, colour=colour)
    if first:
        lines.insert(0, f"({formatting.plural(first, 'earlier event')} left out)")
    return "\n".join(lines) or "(no events)"


def client_id_of(to: str) -> str:
    """The client id that an address means: a token's, expired or not."""
    read = _tokens.read(to)
    return to if read is None else read.client_id


def spell(left: str, right: str) -> tuple[str, str, str]:
    """In what alone two texts differ, and both in quotes; in ASCII where nothing else shows it."""
    difference = matching.spelling_difference(left, right)
    is_hidden = "Unicode form" in difference or "characters" in difference
    quote = ascii if is_hidden else repr
    return difference, quote(left), quote(right)
