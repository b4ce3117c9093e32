"""Does a message match what a test expects of it?"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST_INT = 4000  # digits: Python may refuse to read an int of more than 4300


class _Any:
    """Matches every message.

    Example:
        >>> assert_sent(stub, "alice", {"type": "move", "id": ANY})
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash(_Any)

    def __repr__(self) -> str:
        return "ANY"


ANY = _Any()
"""Matches every message, and every value inside JSON."""


@dataclass(frozen=True, slots=True)
class NotJson:
    """Why a message cannot be read as JSON.

    Attributes:
        reason: In words, without a full stop.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Doubled:
    """A JSON object in which a key stands more than once, so that it is no dict.

    Attributes:
        pairs: The keys and values as they came.
        key: The first key that stands twice.
    """

    pairs: tuple[tuple[str, Any], ...]
    key: str

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{key!r}: {value!r}" for key, value in self.pairs) + "}"


def matches(expected: object, message: str) -> bool:
    """Whether a message is what was expected.

    Args:
        expected: A string, which the message has to be. A dict, list, tuple, number, bool
            or None, which it has to be when read as JSON. A compiled pattern, which is
            searched in it. Anything else decides by its own `==`; a dirty-equals object
            may match the text or the value read as JSON.
        message: As it was sent.

    Raises:
        TypeError: `expected` is a pattern of bytes.
    """
    if isinstance(expected, str):
        return bool(expected == message)
    if isinstance(expected, re.Pattern):
        return _found(expected, message)
    if is_json(expected):
        value = read_json(message)
        return not isinstance(value, NotJson) and same(expected, value)
    return bool(expected == message) or _matches_as_json(expected, message)


def may_match(expected: object, message: str) -> bool:
    """As `matches`, for messages that nobody asked about: what raises does not match.

    Args:
        expected: As for `matches`; its own `==` may know nothing of such messages.
        message: As it was sent.
    """
    try:
        return matches(expected, message)
    except Exception:  # noqa: BLE001 (a failure's text is no place for another error)
        return False


def is_json(expected: object) -> bool:
    """Whether an expected value stands for JSON."""
    return expected is None or isinstance(expected, (dict, list, tuple, int, float, Decimal))


def read_json(message: str) -> Any:
    """Read a message as JSON, losing nothing.

    Returns:
        A dict, list, str, int, float, bool or None. A number that no float holds exactly is a
        `Decimal`, an object with a key that stands twice is `Doubled`; a message that is
        not JSON is `NotJson`.
    """
    try:
        return json.loads(
            message,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_fraction,
            parse_constant=_constant,
        )
    except RecursionError:
        return NotJson("it is nested too deeply to be read")
    except ValueError as error:
        return NotJson(str(error))


def same(expected: object, found: object) -> bool:
    """Whether a value read as JSON is what was expected, all the way down."""
    # A list of its own, not recursion: messages nest deeper than Python's stack.
    todo = [(expected, found)]
    while todo:
        left, right = todo.pop()
        if isinstance(left, dict):
            if not isinstance(right, dict) or not _same_keys(left, right):
                return False
            todo.extend((value, right[key]) for key, value in left.items())
        elif isinstance(left, (list, tuple)):
            if not isinstance(right, list) or len(left) != len(right):
                return False
            todo.extend(zip(left, right, strict=True))
        elif not same_leaf(left, right):
            return False
    return True


def same_leaf(expected: object, found: object) -> bool:
    """As `same`, for an expected value that is neither dict, list nor tuple."""
    if expected is None or isinstance(expected, bool):
        return expected is found
    if isinstance(expected, (int, float, Decimal)):
        return _same_number(expected, found)
    if isinstance(expected, re.Pattern):
        return isinstance(found, str) and _found(expected, found)
    return bool(expected == found)


def _same_keys(expected: dict[Any, Any], found: dict[str, Any]) -> bool:
    return len(expected) == len(found) and all(
        isinstance(key, str) and key in found for key in expected
    )


def _same_number(expected: float | Decimal, found: object) -> bool:
    if isinstance(found, bool) or not isinstance(found, (int, float, Decimal)):
        return False
    left = _exact(expected)
    return left.is_finite() and left == _exact(found)


def _exact(number: float | Decimal) -> Decimal:
    # A float stands for the shortest decimal that reads back as it: what JSON writes.
    return Decimal(float.__repr__(number)) if isinstance(number, float) else Decimal(number)


def _found(pattern: re.Pattern[Any], text: str) -> bool:
    if isinstance(pattern.pattern, bytes):
        message = (
            f"{pattern!r} is a pattern of bytes, and a message is text: "
            f"compile it from a str, as in re.compile({pattern.pattern.decode('latin-1')!r})"
        )
        raise TypeError(message)
    return pattern.search(text) is not None


def _matches_as_json(expected: object, message: str) -> bool:
    """Ask a dirty-equals object about the value that a message holds.

    A negated one matches what is not even JSON's: it is asked about the text alone,
    or `~Contains("secret")` would match a message with a secret in it.
    """
    kinds = type(expected).__mro__
    if not any(kind.__module__.partition(".")[0] == "dirty_equals" for kind in kinds):
        return False
    value = read_json(message)
    if isinstance(value, (str, NotJson)) or expected == object():
        return False
    return bool(expected == value)


def _object(pairs: Iterable[tuple[str, Any]]) -> Any:
    pairs = tuple(pairs)
    as_dict = dict(pairs)
    if len(as_dict) == len(pairs):
        return as_dict
    first = {key: index for index, (key, _) in reversed(tuple(enumerate(pairs)))}
    again = next(key for index, (key, _) in enumerate(pairs) if first[key] < index)
    return Doubled(pairs, again)


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= _LONGEST_INT else Decimal(text)


def _fraction(text: str) -> float | Decimal:
    try:
        exact = Decimal(text)
    except InvalidOperation:
        message = f"no number can be as large or as small as {text[:40]}"
        raise ValueError(message) from None
    as_float = float(text)
    return as_float if Decimal(repr(as_float)) == exact else exact


def _constant(text: str) -> Any:
    message = f"{text} is Python's, and no value of JSON: a page cannot read it"
    raise ValueError(message)
