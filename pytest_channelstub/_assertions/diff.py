"""Which message comes closest to what was expected, and in what it differs."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from pytest_channelstub._record import formatting, matching
from pytest_channelstub._record.formatting import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MOST_LINES = 12
_MOST_COMPARED = 1_000  # lines
_CONTEXT = 24
_LONG = 40
_LEAST_COMMON = 2
_SAME_BUT_CASE = 0.5
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Comparison:
    """In what a message differs from what was expected.

    Attributes:
        sentence: What to say of the message: "has 'hi' at text, not 'ho'".
        lines: More of it, where the sentence does not say all.
        advice: What to type next, in sentences; or empty.
        shows_message: Whether the sentence or the lines show all of the message.
    """

    sentence: str
    lines: tuple[str, ...] = ()
    advice: str = ""
    shows_message: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where JSON differs.

    Attributes:
        path: Where, such as `user.names[2]`; empty for the whole.
        expected: What was expected there, or `_MISSING`.
        found: What is there, or `_MISSING`.
    """

    path: str
    expected: Any
    found: Any


def find_nearest(expected: object, messages: Sequence[str], least: float) -> int | None:
    """Which message comes closest."""
    scores = [(similarity(expected, message), index) for index, message in enumerate(messages)]
    best = max(scores, default=(-1.0, 0))
    return best[1] if best[0] >= least else None


def similarity(expected: object, message: str) -> float:
    """How near a message is to what was expected: 0 is not at all, 1 is a match."""
    if matching.may_match(expected, message):
        return 1.0
    value = matching.read_json(message)
    if isinstance(expected, str):
        longest = max(len(expected), len(message))
        is_case = expected.casefold() == message.casefold()
        return 0.99 * max(sum(_common_ends(expected, message)) / longest, _SAME_BUT_CASE * is_case)
    if not matching.is_json(expected) or isinstance(value, matching.NotJson):
        return 0.0
    if isinstance(value, str):
        return 0.99 * matching.may_match(expected, value)
    return 0.99 * _json_similarity(expected, value)


def compare(expected: object, message: str) -> Comparison:
    """In what a message differs from what was expected."""
    if isinstance(expected, str):
        return _compare_texts(expected, message)
    if matching.is_json(expected):
        return _compare_json(expected, message)
    is_pattern = isinstance(expected, re.Pattern)
    return Comparison("does not match" if is_pattern else "is not equal to it")


def show(value: object) -> str:
    """A value, shortened unless all of it is wanted."""
    if value is matching.ANY:
        return "a message"
    if isinstance(value, str):
        return formatting.quoted(value, None if settings.full else formatting.SHORT)
    if isinstance(value, re.Pattern):
        return f"a match of {value.pattern!r}"
    try:
        text = formatting.bare(repr(value))
    except (RecursionError, ValueError):  # Python shows neither endless depth nor endless digits
        return f"a value of type {type(value).__name__}, too large to be shown"
    return text if settings.full else formatting.shorten(text, 2 * formatting.SHORT)


def _compare_texts(expected: str, message: str) -> Comparison:
    left, right = matching.read_json(expected), matching.read_json(message)
    if isinstance(left, (dict, list)):
        if matching.is_same(left, right):
            kind = type(left).__name__
            advice = f"Pass the {kind} itself: a {kind} is compared as JSON."
            return Comparison("is the same JSON, written differently", (), advice)
        if isinstance(right, str) and matching.is_same(left, matching.read_json(right)):
            return Comparison("is the same JSON, dumped twice", (), "Call json.dumps once.")
    lines = _text_lines(expected, message)
    difference = matching.spelling_difference(expected, message)
    if difference:
        if not (expected.isascii() and message.isascii()):
            lines = [f"expected  {expected!a}", f"found     {message!a}"]
        return Comparison(f"differs in {difference} alone", tuple(lines), shows_message=True)
    head, tail = _common_ends(expected, message)
    if head + tail < _LEAST_COMMON:
        return Comparison(f"is {show(message)}", shows_message=True)
    where = f"differs from character {head + 1} on" if head else "differs in its beginning"
    return Comparison(where, tuple(lines), shows_message=True)


def _compare_json(expected: object, message: str) -> Comparison:
    value = matching.read_json(message)
    if message == str(expected) and isinstance(value, matching.NotJson):
        return Comparison("is its str(), not JSON", (), "Have the app send json.dumps(...) of it.")
    if isinstance(value, matching.NotJson):
        return Comparison(f"is not JSON: {value.reason}")
    if isinstance(value, str) and matching.may_match(expected, value):
        return Comparison("is the same JSON, dumped twice", (), "Call json.dumps once.")
    return _compare_values(expected, value)


def _compare_values(expected: object, value: object) -> Comparison:
    found = list(find_differences(expected, value))
    if (
        isinstance(expected, (list, tuple))
        and isinstance(value, list)
        and _has_same_items(expected, value)
    ):
        return Comparison("has the same items in another order")
    if len(found) == 1:
        [one] = found
        if isinstance(one.expected, str) and isinstance(one.found, str) and len(one.found) > _LONG:
            return Comparison(f"differs at {one.path}", tuple(_text_lines(one.expected, one.found)))
        return Comparison(_describe_difference(one))
    paths = [one.path or "the whole" for one in found]
    shown = found if settings.full else found[:_MOST_LINES]
    column = max(map(formatting.width, paths[: len(shown)]))
    lines = [
        f"{path}{' ' * (column - formatting.width(path))}  {_format_difference(one)}"
        for path, one in zip(paths, shown, strict=False)
    ]
    if len(found) > len(shown):
        lines.append(f"({formatting.plural(len(found) - len(shown), 'more field')}: run with -vv)")
    return Comparison(f"differs in {len(found):,} fields", tuple(lines))


def find_differences(expected: object, found: object, path: str = "") -> Iterator[Difference]:
    """Where two values of JSON differ, field by field, in the order of what was expected."""
    try:
        if isinstance(expected, dict) and isinstance(found, dict):
            for key in [*expected, *(key for key in found if key not in expected)]:
                sides = expected.get(key, _MISSING), found.get(key, _MISSING)
                yield from find_differences(*sides, _join(path, key))
        elif isinstance(expected, (list, tuple)) and isinstance(found, list):
            for place, left, right in _pair_items(expected, found):
                yield from find_differences(left, right, f"{path}[{place}]")
        elif expected is _MISSING or found is _MISSING or not matching.is_same(expected, found):
            yield Difference(path, expected, found)
    except RecursionError:
        yield Difference(path, expected, found)


def _pair_items(left: Sequence[Any], right: list[Any]) -> Iterator[tuple[int, Any, Any]]:
    """Pair the items of two lists; with one more or less, the ends that agree stay paired."""
    head = tail = 0
    if len(left) != len(right):
        head = _count_same(zip(left, right, strict=False))
        rest = min(len(left), len(right)) - head
        tail = min(rest, _count_same(zip(reversed(left), reversed(right), strict=False)))
    ends = len(left) - tail, len(right) - tail
    for index in range(head, max(ends)):
        yield (
            index,
            left[index] if index < ends[0] else _MISSING,
            right[index] if index < ends[1] else _MISSING,
        )


def _count_same(pairs: Iterable[tuple[object, object]]) -> int:
    return sum(1 for _ in takewhile(lambda pair: matching.is_same(*pair), pairs))


def _json_similarity(expected: object, value: object) -> float:
    whole = max(_count_leaves(expected), _count_leaves(value))
    apart = sum(
        max(_count_leaves(one.expected), _count_leaves(one.found))
        for one in find_differences(expected, value)
    )
    return max(0.0, 1 - apart / whole)


def _count_leaves(value: object) -> int:
    count, rest = 0, [value]
    while rest:
        one = rest.pop()
        if isinstance(one, dict) and one:
            rest.extend(one.values())
        elif isinstance(one, (list, tuple)) and one:
            rest.extend(one)
        else:
            count += 1
    return count


def _join(path: str, key: object) -> str:
    if not isinstance(key, str):
        return f"{path}[{key!r}: JSON's keys are strings]"
    if _NAME.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{formatting.quoted(key)}]"


def _describe_difference(one: Difference) -> str:
    path = one.path or "the whole"
    if one.found is _MISSING:
        return f"has no {path}, expected {show(one.expected)}"
    if one.expected is _MISSING:
        return f"has {path} too, which is {show(one.found)}"
    return f"has {path} = {show(one.found)}, not {_show_expected(one)}"


def _format_difference(one: Difference) -> str:
    if one.found is _MISSING:
        return f"expected {show(one.expected)}, and is missing"
    if one.expected is _MISSING:
        return f"not expected, and is {show(one.found)}"
    return f"expected {_show_expected(one)}, found {show(one.found)}"


def _show_expected(one: Difference) -> str:
    """What was expected in a place, with a word on what a reader would not see."""
    expected, found = one.expected, one.found
    text = show(expected)
    if isinstance(expected, str) and isinstance(found, str):
        difference = matching.spelling_difference(expected, found)
        return f"{expected!a} (differs in {difference})" if difference else text
    if bool in (type(expected), type(found)) and expected == found:
        return f"{text} (JSON has true apart from 1, and false from 0)"
    if isinstance(found, str) and found == str(expected):
        return f"{text} (a string there)"
    return text


def _has_same_items(expected: Sequence[Any], value: list[Any]) -> bool:
    try:
        return sorted(map(_dump, expected)) == sorted(map(_dump, value))
    except (TypeError, ValueError, RecursionError):  # JSON has no such keys, circles or depths
        return False


def _dump(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def _common_ends(left: str, right: str) -> tuple[int, int]:
    head = _count_common(left, right)
    room = min(len(left), len(right)) - head
    return head, min(room, _count_common(left[::-1], right[::-1]))


def _count_common(left: str, right: str) -> int:
    pairs = zip(left, right, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _text_lines(expected: str, message: str) -> list[str]:
    if "\n" in expected and "\n" in message:
        return _diff_lines(expected, message)
    if settings.full:
        return [f"expected  {expected!r}", f"found     {message!r}"]
    head, tail = _common_ends(expected, message)
    (left, _), (right, marks) = _window(expected, head, tail), _window(message, head, tail)
    lines = [f"expected  {left}", f"found     {right}"]
    return [*lines, f"          {marks}"] if formatting.width(right) == len(right) else lines


def _window(text: str, head: int, tail: int) -> tuple[str, str]:
    """The part of a text around its difference, and marks for the line below."""
    start = 0 if head <= _CONTEXT * 2 else head - _CONTEXT
    end = len(text) if tail <= _CONTEXT * 2 else len(text) - tail + _CONTEXT
    before = _escape(text[start:head])
    middle = formatting.shorten(_escape(text[head : len(text) - tail]), formatting.SHORT)
    after = _escape(text[len(text) - tail : end])
    opening, closing = ("..." if start else "") + "'", "'" + ("..." if end < len(text) else "")
    marks = " " * len(opening + before) + "^" * max(1, len(middle))
    return f"{opening}{before}{middle}{after}{closing}", marks


def _escape(text: str) -> str:
    return repr(text + '"')[1:-2]


def _diff_lines(expected: str, message: str) -> list[str]:
    left, right = (text.split("\n")[:_MOST_COMPARED] for text in (expected, message))
    diff = list(difflib.unified_diff(left, right, n=1, lineterm=""))[2:]
    lines = [f"{line[:1]} {show(line[1:])}" for line in diff if not line.startswith("@@")]
    if not settings.full and len(lines) > _MOST_LINES:
        more = formatting.plural(len(lines) - _MOST_LINES, "more line")
        lines = [*lines[:_MOST_LINES], f"({more}: run with -vv)"]
    return ["- expected, + found", *lines]
