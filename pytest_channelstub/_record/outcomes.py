"""What became of messages and connections, in sentences."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_channelstub import _tokens
from pytest_channelstub._record import formatting, matching
from pytest_channelstub._record.history import TAKEN, History, replay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_channelstub._record.history import Connection
    from pytest_channelstub._record.timeline import Event, Timeline

_READERS = {
    "poll": "connect_and_pop_first_message",
    "pop": "pop_first_message",
    "client": "a ChannelClient",
    "HTTP": "a page, over HTTP",
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
    "error": "called",
    "refuse": "called",
    "request": "caused",
}
# Outcomes of requests that say nothing of the app's handler.
_NO_ANSWER = ("no app", "under way", "not delivered", "interrupted")
# The events whose line of code a timeline shows.
_WITH_SOURCE = ("send", "drop", "read", "clear", "close", "disconnect", "error", "refuse")


class Outcomes:
    """What became of the messages and connections of one timeline.

    Attributes:
        history: The timeline, replayed.
        events: What happened, in order.
        start: What times are relative to, in seconds since the epoch.
    """

    def __init__(self, timeline: Timeline, token: str | None = None) -> None:
        self.history: History = replay(timeline._snapshot())
        self.events = self.history.events
        self.start = timeline.start
        self._token = token

    def at(self, index: int) -> str:
        """When an event was, such as "+1.5 s"."""
        return formatting.format_offset(self.events[index].at, self.start)

    def messages(
        self, to: str | None, kinds: Sequence[str] = ("send", "drop"), after: int = -1
    ) -> list[int]:
        """Indexes of the messages to a client id or token, queued or dropped; None for all."""
        addresses = (to, None if to is None else client_id_of(to))
        return [
            index
            for index, event in enumerate(self.events)
            if index > after
            and event.kind in kinds
            and (to is None or event.client_id in addresses)
        ]

    def find_matching(self, indexes: Sequence[int], expected: object) -> list[int]:
        """Those of some events whose messages are as expected."""
        events = self.events
        return [i for i in indexes if matching.may_match(expected, events[i].message or "")]

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
        return f"{sent} {self._describe_end(outcome.index)}"

    def sources(self, index: int) -> tuple[str, ...]:
        """The lines of code that sent a message, and that ended it or connected its client."""
        ended, connected = None, None
        if self.events[index].kind == "drop":
            address = self.events[index].client_id or ""
            before = self.history.connection(address, before=index)
            after = self.history.next_connection(address, index)
            ended = None if before is None else before.last
            connected = None if after is None else after.first
        else:
            ended = self.history.outcomes[index].index
        found = [self.source(each) for each in (index, ended, connected) if each is not None]
        return tuple(filter(None, found))

    def source(self, index: int) -> str:
        """The line behind an event: "sent by notify() at chat.py:41"; empty where none is."""
        event = self.events[index]
        if not event.source:
            return ""
        verb = _VERBS.get(event.kind, event.kind)
        return f"{verb} by {formatting.describe_source(event.source)}"

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
        name = formatting.format_client(address)
        if event.outcome == "expired token":
            return f": it was sent to {self.describe_expired(address)}"
        before = self.history.connection(address, before=index)
        after = self.history.next_connection(address, index)
        if before is not None:
            again = "" if after is None else f", and connected again only at {self._begin(after)}"
            return f": {self.describe_over(before, name)}{again}"
        if after is None:
            return f": {self.describe_never(address, name)}"
        begin = self._begin(after)
        if begin == self.at(index):
            return f": {name} was not connected yet, and connected only afterwards"
        return f", before {name} connected ({begin})"

    def describe_never(self, client_id: str, name: str) -> str:
        """That a client was not connected, and that one of a similar client id was."""
        other = self.find_similar(client_id)
        if not other:
            return f"{name} did not connect in this test"
        difference = matching.spelling_difference(client_id, other)
        return (
            f"{name} did not connect in this test, but {spell(other, difference)} did, "
            f"which differs in {difference}"
        )

    def find_similar(self, client_id: str) -> str:
        """A client id that connected and differs in its spelling alone; or empty."""
        others = self.history.connections
        return next((one for one in others if matching.spelling_difference(client_id, one)), "")

    def _begin(self, connection: Connection) -> str:
        return formatting.format_offset(connection.since, self.start)

    def describe_over(self, connection: Connection, name: str) -> str:
        """How a connection ended: "alice timed out at +2.0 s, idle for 2 s"."""
        if connection.last is None:
            return f"{name} is connected"
        event, at = self.events[connection.last], self.at(connection.last)
        cause = event.outcome.partition(",")[0]
        if event.kind == "close":
            if self._is_of_another_client(event):
                return f"another client of {name} closed the channel at {at}"
            return f"{name} closed its channel at {at}"
        if event.kind == "disconnect":
            return f"{name} was disconnected at {at}"
        if not cause.startswith("idle"):
            return f"{name} was disconnected at {at}, {cause}"
        expired = self.token_end(connection)
        expiry = "" if expired is None else f" (its token had expired at {expired})"
        return f"{name} timed out at {at}, {cause}{expiry}"

    def _is_of_another_client(self, event: Event) -> bool:
        return None not in (self._token, event.token) and event.token != self._token

    def token_end(self, connection: Connection) -> str | None:
        """When the token of a connection expired, where it did before the client timed out."""
        if connection.heard is None or connection.last is None:
            return None
        read = _tokens.read(self.events[connection.heard].token)
        if read is None or read.expires > self.events[connection.last].at:
            return None
        return formatting.format_offset(read.expires, self.start)

    def describe_expired(self, token: str) -> str:
        """An expired token, and since when it is."""
        read = _tokens.read(token)
        at = formatting.format_offset(0 if read is None else read.expires, self.start)
        return f"{formatting.format_token(token)}, which had expired at {at}"

    def describe_connection(self, to: str) -> str:
        """Whether a client is connected, and since when, or why it is not any more."""
        client_id = client_id_of(to)
        name, last = formatting.format_client(client_id), self.history.connection(client_id)
        if last is None:
            return f"{name} is not connected"
        if last.last is not None:
            return f"{name} is not connected: {self.describe_over(last, 'it')}"
        since = "before this test" if last.first is None else self._begin(last)
        return f"{name} is connected, since {since}"

    def _describe_end(self, index: int) -> str:
        event, at = self.events[index], self.at(index)
        name = formatting.format_client(event.client_id)
        if event.kind == "read":
            return f"read at {at} by {self._describe_reader(event)}"
        if event.kind == "clear":
            return f"lost at {at}, when clear_channel_messages cleared the queue"
        if event.kind == "reset":
            return f"lost at {at}, when the stub was reset"
        if event.kind == "close":
            return f"lost at {at}, when {name} closed its channel"
        if event.kind == "disconnect":
            return f"lost at {at}, when {name} was disconnected"
        cause = event.outcome.partition(",")[0]
        how = "timed out" if cause.startswith("idle") else "was disconnected"
        return f"lost at {at}, when {name} {how}, {cause}"

    def _describe_reader(self, event: Event) -> str:
        if event.outcome == "client" and self._is_of_another_client(event):
            return f"another client of {formatting.format_client(event.client_id)}"
        return _READERS.get(event.outcome, event.outcome)

    def name_message(self, index: int) -> str:
        """A message, to whom, and what became of it, in one sentence."""
        event = self.events[index]
        message = formatting.quoted(event.message or "")
        return f"{message} to {formatting.format_client(event.client_id)} {self.describe(index)}"

    def describe_refusal(self, index: int) -> str:
        """A refused call, without the reason: "a call for alice was refused at +1.5 s"."""
        event = self.events[index]
        whom = f" for {formatting.format_client(event.client_id)}" if event.client_id else ""
        return f"a call{whom} was refused at {self.at(index)}"

    def describe_request(self, index: int) -> str:
        """What a request to the app was about: "when alice connected (+1.5 s)"."""
        event = self.events[index]
        if event.client_id is None:
            return f"to {event.message} ({self.at(index)})"
        what = "connected" if (event.message or "").endswith("/connected/") else "disconnected"
        return f"when {formatting.format_client(event.client_id)} {what} ({self.at(index)})"

    def describe_app_failure(self, index: int) -> str:
        """What the app did wrong in its answer to a request: "answered 500 ..."; or empty."""
        event = self.events[index]
        status = event.outcome.partition(": ")[0]
        if event.kind != "request" or status in _NO_ANSWER:
            return ""
        if re.match(r"[45]\d\d ", status):
            return f"answered {status}"
        return "" if re.match(r"\d\d\d ", status) else f"raised {event.outcome}"


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


def spell(text: str, difference: str) -> str:
    """A text in quotes; in ASCII where nothing else shows how it is spelt."""
    is_hidden = "Unicode form" in difference or "characters" in difference
    return ascii(text) if is_hidden else repr(text)
