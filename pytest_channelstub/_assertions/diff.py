"""Which message comes closest to what was expected, and in what it differs."""

from __future__ import annotations

import difflib
import operator
import re
from itertools import takewhile, zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_channelstub._record import formatting, matching
from pytest_channelstub._record.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_MOST_LINES = 12
_MOST_COMPARED = 1_000  # lines, or items
_MOST_VALUES = 100_000
_CONTEXT = 24
_LONG = 40
_LEAST_COMMON = 2
_SAME_BUT_CASE = 0.5
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MISSING = object()


class Comparison(NamedTuple):
    """In what a message differs from what was expected."""

    sentence: str  # what to say of the message: "has 'hi' at text, not 'ho'"
    lines: Sequence[str] = ()  # more of it, where the sentence does not say all
    advice: str = ""  # what to type next, in sentences
    shows_message: bool = False  # whether the sentence or the lines show all of the message


class Difference(NamedTuple):
    """One place where JSON differs."""

    path: str  # such as `user.names[2]`; empty for the whole
    expected: Any  # or `_MISSING`
    found: Any  # or `_MISSING`


_DUMPED_TWICE = Comparison("is the same JSON, dumped twice", advice="Call json.dumps once.")


def find_nearest(expected: object, messages: Sequence[str], least: float) -> int | None:
    """Which message comes closest; None where none is as similar as `least`."""
    scores = [(similarity(expected, message), index) for index, message in enumerate(messages)]
    best, index = max(scores, default=(-1.0, 0))
    return index if best >= least else None


def similarity(expected: object, message: str) -> float:
    """How near a message is to what was expected: 0 is not at all, 1 is a match."""
    if matching.may_match(expected, message):
        return 1.0
    if isinstance(expected, str):
        longest = max(len(expected), len(message))
        is_case = expected.casefold() == message.casefold()
        return 0.99 * max(sum(_common_ends(expected, message)) / longest, _SAME_BUT_CASE * is_case)
    value = matching.read_json(message)
    if not matching.is_json(expected) or isinstance(value, matching.NotJson):
        return 0.0
    if isinstance(value, str):
        return 0.99 * matching.may_match(expected, value)
    apart = sum(
        max(_count_leaves(one.expected), _count_leaves(one.found))
        for one in find_differences(expected, value)
    )
    return 0.99 * max(0.0, 1 - apart / max(_count_leaves(expected), _count_leaves(value)))


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
        return f"a value of type {type(value).__name__} (too large to be shown)"
    except Exception as error:  # noqa: BLE001 (a value's own __repr__ may raise anything)
        return f"a value of type {type(value).__name__} (its repr raised {type(error).__name__})"
    return text if settings.full else formatting.shorten(text, 2 * formatting.SHORT)


def _compare_texts(expected: str, message: str) -> Comparison:
    left, right = matching.read_json(expected), matching.read_json(message)
    if isinstance(left, (dict, list)):
        if matching.is_same(left, right):
            kind = type(left).__name__
            advice = f"Pass the {kind} itself: a {kind} is compared as JSON."
            return Comparison("is the same JSON, written differently", advice=advice)
        if isinstance(right, str) and matching.is_same(left, matching.read_json(right)):
            return _DUMPED_TWICE
    difference = matching.spelling_difference(expected, message)
    if difference:
        lines = _text_lines(expected, message)
        if not (expected.isascii() and message.isascii()):
            lines = [f"expected  {expected!a}", f"found     {message!a}"]
        return Comparison(f"differs in {difference} alone", lines, shows_message=True)
    head, tail = _common_ends(expected, message)
    if head + tail < _LEAST_COMMON:
        return Comparison(f"is {show(message)}", shows_message=True)
    where = f"differs from character {head + 1} on" if head else "differs in its beginning"
    return Comparison(where, _text_lines(expected, message), shows_message=True)


def _compare_json(expected: object, message: str) -> Comparison:
    value = matching.read_json(message)
    if isinstance(value, matching.NotJson):
        if _is_str_of(message, expected):
            advice = "Have the app send json.dumps(...) of it."
            return Comparison("is its str(), not JSON", advice=advice)
        return Comparison(f"is not JSON: {value.reason}")
    if isinstance(value, str) and matching.may_match(expected, value):
        return _DUMPED_TWICE
    return _compare_values(expected, value)


def _compare_values(expected: object, value: object) -> Comparison:
    if (
        isinstance(expected, (list, tuple))
        and isinstance(value, list)
        and _has_same_items(expected, value)
    ):
        return Comparison("has the same items in another order")
    found = list(find_differences(expected, value))
    if not found:  # as deep as Python compares
        return Comparison("is not equal to it")
    if len(found) > 1:
        return Comparison(f"differs in {len(found):,} fields", _list_differences(found))
    [one] = found
    if isinstance(one.expected, str) and isinstance(one.found, str) and len(one.found) > _LONG:
        return Comparison(f"differs at {one.path}", _text_lines(one.expected, one.found))
    return Comparison(_describe_difference(one))


def _list_differences(found: Sequence[Difference]) -> list[str]:
    paths = [one.path or "the whole" for one in found]
    shown = len(paths) if settings.full else _MOST_LINES
    column = max(map(formatting.width, paths[:shown]))
    lines = [
        f"{path}{' ' * (column - formatting.width(path))}  {_format_difference(one)}"
        for path, one in zip(paths, found, strict=True)
    ]
    return formatting.limit_lines(lines, _MOST_LINES, "field")


def find_differences(expected: object, found: object, path: str = "") -> Iterator[Difference]:
    """Where two values of JSON differ, field by field, in the order of what was expected."""
    try:
        if isinstance(expected, dict) and isinstance(found, dict):
            for key in [*expected, *(key for key in found if key not in expected)]:
                sides = expected.get(key, _MISSING), found.get(key, _MISSING)
                yield from find_differences(*sides, _join(path, key))
        elif isinstance(expected, (list, tuple)) and isinstance(found, list):
            for place, sides in _pair_items(expected, found):
                yield from find_differences(*sides, f"{path}[{place}]")
        elif expected is _MISSING or found is _MISSING or not matching.is_same(expected, found):
            yield Difference(path, expected, found)
    except Exception:  # noqa: BLE001 (too deep, or a value's own __eq__ may raise anything)
        yield Difference(path, expected, found)


def _pair_items(left: Sequence[Any], right: list[Any]) -> Iterator[tuple[int, tuple[Any, Any]]]:
    """Pair the items of two lists; with one more or less, the ends that agree stay paired."""
    head = tail = 0
    if len(left) != len(right):
        head, tail = _common_ends(left, right, matching.is_same)
    middle = (items[head : len(items) - tail] for items in (left, right))
    return enumerate(zip_longest(*middle, fillvalue=_MISSING), head)


def _common_ends(
    left: Sequence[Any],
    right: Sequence[Any],
    is_same: Callable[[Any, Any], object] = operator.eq,
) -> tuple[int, int]:
    """How many items two sequences have in common at the beginning, and then at the end."""
    head = sum(1 for _ in takewhile(bool, map(is_same, left, right)))
    ends = left[head:][::-1], right[head:][::-1]
    return head, sum(1 for _ in takewhile(bool, map(is_same, *ends)))


def _count_leaves(value: object) -> int:
    count, rest = 0, [value]
    for _ in range(_MOST_VALUES):  # a value that holds itself has no end
        if not rest:
            break
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
        return f"{path}[{formatting.shorten_repr(key)}: JSON's keys are strings]"
    if _NAME.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{formatting.quoted(key)}]"


def _describe_difference(one: Difference) -> str:
    if not one.path:
        return f"is {show(one.found)}, not {_show_expected(one)}"
    if one.found is _MISSING:
        return f"has no {one.path}, expected {show(one.expected)}"
    if one.expected is _MISSING:
        return f"has {one.path} too, which is {show(one.found)}"
    return f"has {one.path} = {show(one.found)}, not {_show_expected(one)}"


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
    kinds = {type(expected), type(found)}
    if bool in kinds and kinds <= {bool, int, float} and expected == found:
        return f"{text} (JSON has true apart from 1, and false from 0)"
    if isinstance(found, str) and _is_str_of(found, expected):
        return f"{text} (a string there)"
    return text


def _is_str_of(text: str, value: object) -> bool:
    try:
        return text == str(value)
    except Exception:  # noqa: BLE001 (a value's own __str__ may raise anything)
        return False


def _has_same_items(expected: Sequence[Any], value: list[Any]) -> bool:
    left = [*value]
    if not len(expected) == len(left) <= _MOST_COMPARED:
        return False
    try:
        for item in expected:
            place = next((i for i, one in enumerate(left) if matching.is_same(item, one)), None)
            if place is None:
                return False
            del left[place]
    except Exception:  # noqa: BLE001 (a value's own __eq__ may raise anything)
        return False
    return True


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
    return ["- expected, + found", *formatting.limit_lines(lines, _MOST_LINES, "line")]
