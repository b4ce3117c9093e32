"""The nearest miss: which message comes closest to what was expected, and where it differs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from pytest_channelstub._record import formatting, matching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_MOST_FIELDS = 12
_MOST_LINES = 12
_MOST_COMPARED = 1000
_CONTEXT = 24
_CLOSE_ENOUGH = 0.6
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


MISSING = object()
"""Stands where one side of a difference has no value."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where JSON differs.

    Attributes:
        path: Where, such as `user.names[2]`; empty for the whole.
        expected: What was expected there, or `MISSING`.
        found: What is there, or `MISSING`.
        note: What else there is to say, or empty.
    """

    path: str
    expected: Any
    found: Any
    note: str = ""


def nearest(expected: object, messages: Sequence[str], *, least: float = 0.0) -> int | None:
    """Which message comes closest.

    Args:
        expected: As in `matching.matches`.
        messages: To choose from; of two that are equally near, the later one.
        least: How near it has to be, from 0 to 1.

    Returns:
        Its index, or None if there is none so near.
    """
    best, best_score = None, least
    for index, message in enumerate(messages):
        score = likeness(expected, message)
        if score >= best_score:
            best, best_score = index, score
    return best


def likeness(expected: object, message: str) -> float:
    """How near a message is to what was expected: 0 is not at all, 1 is a match."""
    if matching.may_match(expected, message):
        return 1.0
    if isinstance(expected, str):
        return _text_likeness(expected, message)
    if not matching.is_json(expected):
        return 0.0
    value = matching.read_json(message)
    if isinstance(value, matching.NotJson):
        return 0.0
    whole = max(_leaves(expected), _leaves(value))
    apart = sum(
        max(_leaves(one.expected), _leaves(one.found)) for one in differences(expected, value)
    )
    return 0.99 * max(0.0, 1 - apart / whole)


def explain(expected: object, message: str, *, full: bool = False) -> list[str]:
    """Where a message differs from what was expected, as lines.

    Args:
        expected: As in `matching.matches`.
        message: One that does not match.
        full: Whether to show everything, however long.
    """
    if isinstance(expected, str):
        return _text_lines(expected, message, full=full)
    if isinstance(expected, re.Pattern):
        return [f"{expected.pattern!r} is found nowhere in it"]
    if not matching.is_json(expected):
        return [f"it is not equal to {show(expected, full=full)}"]
    value = matching.read_json(message)
    if isinstance(value, matching.NotJson):
        return [f"it is not JSON: {value.reason}"]
    return _json_lines(expected, value, full=full)


def show(value: object, *, full: bool = False) -> str:
    """A value, shortened unless all of it is wanted."""
    if isinstance(value, str):
        return formatting.quoted(value, None if full else formatting.SHORT)
    if isinstance(value, re.Pattern):
        return f"a message in which {value.pattern!r} is found"
    if isinstance(value, Decimal):
        return str(value)
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # Python shows neither depth nor digits without end
        return f"a value of type {type(value).__name__}, too large to be shown"
    if not text.isprintable():
        text = formatting.quoted(text, None)[1:-1]
    if full or len(text) <= 2 * formatting.SHORT:
        return text
    return f"{text[: formatting.SHORT]} ... {text[-formatting.SHORT // 2 :]}"


def differences(expected: object, found: object) -> Iterator[Difference]:
    """Where two values of JSON differ, field by field, in the order of what was expected."""
    todo: list[tuple[str, Any, Any]] = [("", expected, found)]
    while todo:
        path, left, right = todo.pop()
        if isinstance(left, dict) and isinstance(right, dict):
            todo.extend(reversed(list(_fields(path, left, right))))
        elif isinstance(left, (list, tuple)) and isinstance(right, list):
            todo.extend(reversed(list(_items(path, left, right))))
        elif left is MISSING or right is MISSING or not matching.same(left, right):
            yield Difference(path, left, right, _note(left, right))


def _fields(
    path: str, left: dict[Any, Any], right: dict[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    for key, value in left.items():
        there = isinstance(key, str) and key in right
        yield _join(path, key), value, right[key] if there else MISSING
    for key, value in right.items():
        if key not in left:
            yield _join(path, key), MISSING, value


def _items(path: str, left: Sequence[Any], right: list[Any]) -> Iterator[tuple[str, Any, Any]]:
    """Pair the items of two lists; with one more or less, the ends that agree stay paired."""
    head = tail = 0
    if len(left) != len(right):
        head = _agreeing(zip(left, right, strict=False))
        rest = min(len(left), len(right)) - head
        tail = min(
            rest, _agreeing(zip(reversed(left), reversed(right), strict=False)) if rest else 0
        )
    for index in range(head, max(len(left), len(right)) - tail):
        has_left, has_right = index < len(left) - tail, index < len(right) - tail
        yield (
            f"{path}[{index}]",
            left[index] if has_left else MISSING,
            right[index] if has_right else MISSING,
        )


def _agreeing(pairs: Any) -> int:
    return sum(1 for _ in takewhile(lambda pair: matching.same(*pair), pairs))


def _note(left: object, right: object) -> str:
    if isinstance(right, matching.Doubled):
        return f"the key {formatting.quoted(right.key)} stands there more than once"
    kinds = (type(left), type(right))
    if bool in kinds and kinds[0] is not kinds[1] and left == right:
        return "JSON tells true from 1, and false from 0"
    if isinstance(left, (int, float)) and isinstance(right, str) and right == str(left):
        return "a string there, not a number"
    return ""


def _join(path: str, key: object) -> str:
    if not isinstance(key, str):
        return f"{path}[{key!r}: JSON's keys are strings]"
    if _NAME.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{formatting.quoted(key)}]"


def _leaves(value: object) -> int:
    count, todo = 0, [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict) and one:
            todo.extend(one.values())
        elif isinstance(one, (list, tuple)) and one:
            todo.extend(one)
        else:
            count += 1
    return count


def _json_lines(expected: object, value: object, *, full: bool) -> list[str]:
    found = list(differences(expected, value))
    shown = found if full else found[:_MOST_FIELDS]
    paths = [one.path or "the whole" for one in shown]
    column = max((formatting.width(path) for path in paths), default=0)
    lines = [
        f"{path}{' ' * (column - formatting.width(path))}  {_told(one, full=full)}"
        for path, one in zip(paths, shown, strict=True)
    ]
    if len(found) > len(shown):
        lines.append(f"({formatting.plural(len(found) - len(shown), 'more field')}: run with -vv)")
    return lines


def _told(one: Difference, *, full: bool) -> str:
    note = f" ({one.note})" if one.note else ""
    if one.found is MISSING:
        return f"expected {show(one.expected, full=full)}, and is missing{note}"
    if one.expected is MISSING:
        return f"not expected, and is {show(one.found, full=full)}{note}"
    expected, found = show(one.expected, full=full), show(one.found, full=full)
    if not full and expected == found and isinstance(one.expected, str):
        return "; ".join(_text_lines(one.expected, str(one.found), full=False)[:2])
    return f"expected {expected}, found {found}{note}"


def _text_likeness(expected: str, message: str) -> float:
    longest = max(len(expected), len(message))
    head, tail = _common_ends(expected, message)
    # Half of the rest's worth for what differs in case alone.
    folded = 0.5 * (expected.casefold() == message.casefold())
    return 0.99 * max((head + tail) / longest, folded)


def _common_ends(left: str, right: str) -> tuple[int, int]:
    head = _common(left, right)
    room = min(len(left), len(right)) - head
    tail = min(room, _common(left[::-1], right[::-1])) if room else 0
    return head, tail


def _common(left: str, right: str) -> int:
    pairs = zip(left, right, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _text_lines(expected: str, message: str, *, full: bool) -> list[str]:
    if "\n" in expected and "\n" in message:
        return _diff_lines(expected, message, full=full)
    head, tail = _common_ends(expected, message)
    window = _whole if full else _window
    left, _ = window(expected, head, tail)
    right, marks = window(message, head, tail)
    lines = [f"expected  {left}", f"found     {right}"]
    if not full and marks.strip() and formatting.width(right) == len(right):
        lines.append(f"          {marks}")
    return lines


def _whole(text: str, _head: int, _tail: int) -> tuple[str, str]:
    return formatting.quoted(text, None), ""


def _window(text: str, head: int, tail: int) -> tuple[str, str]:
    """The part of a text around its difference, and marks for the line below."""
    start = 0 if head <= _CONTEXT * 2 else head - _CONTEXT
    end = len(text) if tail <= _CONTEXT * 2 else len(text) - tail + _CONTEXT
    before = _escaped(text[start:head])
    middle = _escaped(text[head : len(text) - tail])
    after = _escaped(text[len(text) - tail : end])
    if len(middle) > formatting.SHORT:
        middle = f"{middle[: formatting.SHORT // 2]}...{middle[-formatting.SHORT // 4 :]}"
    opening = ("..." if start else "") + "'"
    closing = "'" + ("..." if end < len(text) else "")
    marks = " " * len(opening + before) + "^" * max(1, len(middle))
    return f"{opening}{before}{middle}{after}{closing}", marks


def _escaped(text: str) -> str:
    return repr(text + '"')[1:-2]


def _diff_lines(expected: str, message: str, *, full: bool) -> list[str]:
    import difflib  # noqa: PLC0415 (only a failure over several lines needs it)

    show_line: Callable[[str], str] = lambda line: line[:1] + " " + show(line[1:], full=full)  # noqa: E731
    diff = difflib.unified_diff(
        expected.split("\n")[:_MOST_COMPARED],
        message.split("\n")[:_MOST_COMPARED],
        "expected",
        "found",
        n=1,
        lineterm="",
    )
    lines = [show_line(line) for line in list(diff)[2:] if not line.startswith("@@")]
    if full or len(lines) <= _MOST_LINES:
        return ["- expected, + found", *lines]
    more = formatting.plural(len(lines) - _MOST_LINES, "more line")
    return ["- expected, + found", *lines[:_MOST_LINES], f"({more}: run with -vv)"]
