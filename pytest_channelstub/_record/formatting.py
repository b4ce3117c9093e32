"""How times, names, messages and events read: plain characters, one line an event."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING

from pytest_channelstub import _tokens
from pytest_channelstub._record.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import CodeType

    from pytest_channelstub._record.timeline import Event


SHORT = 72
"""How many characters of a message are shown where it is shortened."""

_CLIENT_WIDTH = 28
_LONGEST_REPR = 120
_LONGEST_ERROR = 300
_MINUTE = 60_000  # milliseconds
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+/:-]{0,39}")
_WITH_TOKEN = ("create", "connect", "refresh", "reject", "send", "drop")
_COLOURS = {
    **dict.fromkeys(("drop", "error", "refuse", "reject"), "31"),
    **dict.fromkeys(("timeout", "disconnect", "close"), "33"),
    **dict.fromkeys(("send", "read"), "32"),
    "connect": "36",
}


def shorten(text: str, limit: int) -> str:
    """A text of at most so many characters: the middle of a longer one is left out."""
    if len(text) <= limit:
        return text
    end = limit // 4
    return f"{text[: limit - 3 - end]}...{text[len(text) - end :]}"


def shorten_repr(value: object) -> str:
    """A short ASCII repr that never raises: an error's text shows it, whatever it is."""
    try:
        text = ascii(value)
    except Exception:  # noqa: BLE001 (a value's own __repr__ may raise anything)
        text = f"<{type(value).__name__} that cannot be shown>"
    return shorten(text, _LONGEST_REPR)


def describe_type(name: str, value: object, instead: str) -> str:
    """The text of a TypeError: what an argument is, and what to pass in its place."""
    return f"{name} is {shorten_repr(value)}, of type {type(value).__name__}: pass {instead}"


def format_exception(error: BaseException) -> str:
    """An exception on one short line, whatever its own `__str__` does."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 (an exception's own __str__ may raise anything)
        return f"{name} that cannot be shown"
    text = " ".join(shorten(text, _LONGEST_ERROR).split())
    return f"{name}: {text}" if text else name


def missing_name(owner: object, name: str, instead: Mapping[str, str]) -> AttributeError:
    """The error for a name that is not there: it says what to type in its place."""
    text = f"{type(owner).__name__!r} object has no attribute {name!r}"
    if name not in instead:
        return AttributeError(text)  # Python adds what is spelt alike
    return AttributeError(f"{text}: use {instead[name]}", name=name)


def format_duration(seconds: float) -> str:
    """A length of time: "2 s", "0.25 s", "2 h 0 min 1 s"."""
    milliseconds = round(abs(seconds) * 1000)
    if milliseconds < _MINUTE:
        digits = f"{milliseconds / 1000:.3f}" if milliseconds else f"{abs(seconds):.6f}"
        return f"{digits.rstrip('0').rstrip('.')} s"
    minutes, milliseconds = divmod(milliseconds, _MINUTE)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    while not parts[0][0]:
        parts.pop(0)
    units = " ".join(f"{count} {unit}" for count, unit in parts)
    return f"{units} {format_duration(milliseconds / 1000)}"


def format_offset(at: float, start: float) -> str:
    """A point in time, seen from the start: "+1.5 s", "+2 h 0 min 1 s"."""
    text = format_duration(at - start)
    if re.fullmatch(r"\d+ s", text):
        text = text[:-2] + ".0 s"
    return f"{'-' if at < start and text != '0.0 s' else '+'}{text}"


def quoted(text: str, limit: int | None = SHORT) -> str:
    """Text in quotes, with everything escaped that a terminal would act on."""
    whole = repr(text)
    if limit is None or len(whole) <= limit + 2:
        return whole
    return f"{shorten(whole, limit)} ({len(text):,} characters)"


def bare(text: str) -> str:
    """Text without quotes, with everything escaped that a terminal would act on."""
    return text if text.isprintable() else repr(text)[1:-1]


def format_client(client_id: str | None) -> str:
    """A client's name in a sentence: bare where it is plain, else in quotes.

    A token, as an address that nobody has, is shown short.
    """
    if client_id is None:
        return "?"
    if _tokens.read(client_id) is not None:
        return format_token(client_id)
    return client_id if _PLAIN_NAME.fullmatch(client_id) else quoted(client_id, _CLIENT_WIDTH)


def format_token(text: str) -> str:
    """A token, short but recognisable: "token 3f2a91...alice"."""
    read = _tokens.read(text)
    if read is None:
        return f"{quoted(text, _CLIENT_WIDTH)} (not a token)"
    return f"token {text[:6]}...{format_client(read.client_id)}"


def details(event: Event, start: float | None, limit: int | None = SHORT) -> str:
    """What an event's line says beyond time, kind and client."""
    if event.kind == "request":
        return f"{bare(event.message or '')} -> {bare(event.outcome)}"
    parts = []
    if event.token is not None and event.token != event.client_id and event.kind in _WITH_TOKEN:
        parts.append(format_token(event.token))
    if event.message is not None:
        parts.append(quoted(event.message, limit))
    if event.kind == "create":
        expires = float(event.outcome.rpartition(" ")[2])
        end = format_time(expires) if start is None else format_offset(expires, start)
        parts.append(f"valid until {end}")
    elif event.outcome:
        parts.append(bare(f"by {event.outcome}" if event.kind == "read" else event.outcome))
    return ", ".join(parts)


def format_events(
    events: Iterable[Event],
    start: float,
    limit: int | None = SHORT,
    suffixes: Sequence[str] = (),
    *,
    colour: bool = False,
) -> list[str]:
    """Events as aligned lines."""
    rows = [
        (
            format_offset(event.at, start),
            event.kind,
            _format_whose(event),
            details(event, start, limit),
        )
        for event in events
    ]
    first, second, third = (max((width(row[i]) for row in rows), default=0) for i in range(3))
    lines = []
    for (at, kind, whose, rest), suffix in zip(rows, suffixes or [""] * len(rows), strict=True):
        time, name = " " * (first - width(at)) + at, _pad(kind, second)
        if colour:
            time, name = _paint(time, "2"), _paint(name, _COLOURS.get(kind, ""))
        lines.append("  ".join((time, name, _pad(whose, third), rest, suffix)).rstrip())
    return lines


def format_event(event: Event) -> str:
    """An event by itself: "drop 2020-01-01T00:00:01.500Z alice 'hi'"."""
    parts = [event.kind, format_time(event.at), _format_whose(event), details(event, None)]
    return " ".join(part for part in parts if part)


def format_time(at: float) -> str:
    """A point in time by itself: "2020-01-01T00:00:01.500Z"."""
    try:
        known = datetime.fromtimestamp(at, UTC)
    except (OverflowError, OSError, ValueError):  # outside the calendar's years
        return f"{at:.15g} s since the epoch"
    text = known.isoformat(timespec="milliseconds").partition("+")[0]
    return text.removesuffix(".000") + "Z"


def format_source(source: tuple[CodeType, int] | None) -> str:
    """A line of code as text, such as ``chat.py:41 in notify``; empty for none."""
    if source is None:
        return ""
    code, line = source
    name = "" if code.co_name == "<module>" else f" in {code.co_name}"
    return f"{PurePath(code.co_filename).name}:{line}{name}"


def describe_source(source: str) -> str:
    """An event's source in a sentence: "notify() at chat.py:41"."""
    place, _, name = source.partition(" in ")
    if name.isidentifier():
        name += "()"
    return f"{name} at {place}" if name else place


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 message", "2,000 messages"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def limit_lines(lines: Sequence[str], most: int, noun: str = "") -> list[str]:
    """Lines; where they are too many, and not all are wanted, the first, and how many more."""
    left_out = len(lines) - most
    if settings.full or left_out <= 0:
        return [*lines]
    more = plural(left_out, f"more {noun}") if noun else f"{left_out:,} more"
    return [*lines[:most], f"({more}: run with -vv)"]


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) != 0 for char in text)


def _format_whose(event: Event) -> str:
    return "" if event.client_id is None else format_client(event.client_id)


def _pad(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def _paint(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text
