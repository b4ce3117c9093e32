"""Short forms of texts, for where a picture has little room; counted in columns of a terminal."""

from __future__ import annotations

import re
from itertools import accumulate, pairwise, takewhile
from operator import eq
from typing import TYPE_CHECKING

from pytest_channelstub._record.formatting import width

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_ELLIPSIS = "\u2026"
# A backslash before it would make it text about an escape, and no escape.
_ESCAPES = re.compile(
    r"(?<!\\)(?:\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})+"
)


class Labels:
    r"""Short forms of a picture's messages that show what each has and the others have not.

    Beside one that ends in `"e5"}`, `{"type": "move", "to": "e4"}` is `…, "to": "e4"}`.
    """

    def __init__(self, messages: Iterable[str]) -> None:
        texts = sorted({readable(message) for message in messages})
        self.longest = max(map(width, texts), default=0)
        self._branches = _find_branches(texts)

    def shorten(self, message: str, room: int) -> str:
        """Return one of the messages in at most `room` columns."""
        text = readable(message)
        if width(text) <= room:
            return text
        last = len(text) - 1
        branches = sorted({min(place, last) for place in self._branches[text]}, reverse=True)
        shown: set[int] = set()
        # The most similar messages part last, and come first.
        _show(text, shown, branches or [0], room)
        around = sorted(shown, reverse=True)
        nearby = (
            place + step
            for distance in range(1, room)
            for place in around
            for step in (-distance, distance)
        )
        _show(text, shown, nearby, room)
        return _render(text, shown)


def cut(text: str, room: int) -> str:
    """Return the beginning of a text, in at most `room` columns."""
    if width(text) <= room:
        return text
    ends = accumulate(map(width, text))
    return text[: sum(1 for _ in takewhile(room.__gt__, ends))].rstrip() + _ELLIPSIS


def readable(text: str) -> str:
    r"""Return a text with printable characters as they are, and all others escaped.

    A printable character that the text itself has as an escape, as in JSON (`\u00fc`) and in
    pytest's node ids (`\xfc`), is shown as that character.
    """
    return escape_unprintable(_ESCAPES.sub(_decode, text))


def escape_unprintable(text: str) -> str:
    r"""Return a text with control characters and lone surrogates as `\x1b`, `\n`, `\ud800`."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def _find_branches(texts: list[str]) -> dict[str, set[int]]:
    """For each of some sorted texts, the places at which another one begins to differ."""
    branches: dict[str, set[int]] = {text: set() for text in texts}
    for order in (texts, texts[::-1]):
        # How many characters a text shares with those before it: fewer with their distance.
        shared: list[int] = []
        for before, text in pairwise(order):
            common = sum(takewhile(bool, map(eq, before, text)))
            while shared and shared[-1] >= common:
                shared.pop()
            shared.append(common)
            branches[text].update(shared)
    return branches


def _show(text: str, shown: set[int], places: Iterable[int], room: int) -> None:
    """Add to the places of a text that are shown, as long as it fits."""
    for place in places:
        if 0 <= place < len(text) and place not in shown:
            if width(_render(text, shown | {place})) > room:
                return
            shown.add(place)


def _render(text: str, shown: Collection[int]) -> str:
    parts: list[str] = []
    expected = 0
    for place in [*sorted(shown), len(text)]:
        hidden = text[expected:place]
        parts += [hidden if len(hidden) <= len(_ELLIPSIS) else _ELLIPSIS, text[place : place + 1]]
        expected = place + 1
    return "".join(parts)


def _decode(match: re.Match[str]) -> str:
    units = match[0].encode("ascii").decode("unicode_escape")
    # JSON has what is beyond 16 bits as two surrogates.
    text = units.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text if text.isprintable() else match[0]
