"""Does a message match what a test expects of it?"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_channelstub._record.frames import hide_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# pytest's tracebacks: see hide_frame.
__tracebackhide__ = hide_frame

# Characters that look like others, and characters that nobody sees.
_LOOK_ALIKES = str.maketrans(
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425"  # Cyrillic capitals
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0455\u0456\u0458"  # Cyrillic small letters
    "\u0391\u0392\u0395\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a7\u03bf"  # Greek
    "\u2010\u2011\u2012\u2013\u2014\u2212\u2018\u2019\u2032\u201c\u201d\u2033",  # dashes and quotes
    "ABEKMHOPCTXaeopcyxsijABEHIKMNOPTXo------'''" + '"""',
    "\u00ad\u200b\u200c\u200d\u2060\ufeff",
)


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
"""Matches every message, and every value inside JSON; as a client id, anybody."""


@dataclass(frozen=True, slots=True)
class NotJson:
    """Why a message cannot be read as JSON: in words, without a full stop."""

    reason: str


def read_json(message: str) -> Any:
    """Read a message as a page's `JSON.parse` does."""
    try:
        return json.loads(message, parse_constant=_refuse_constant)
    except RecursionError:
        return NotJson("it is nested too deeply to be read")
    except ValueError as error:
        return NotJson(str(error))


def matches(expected: object, message: str, read: Callable[[str], Any] = read_json) -> bool:
    """Whether a message is what was expected; `read` reads it as JSON."""
    if isinstance(expected, str):
        return bool(expected == message)
    if isinstance(expected, bytes):
        return False
    if isinstance(expected, re.Pattern):
        return _is_found(expected, message)
    if is_json(expected):
        value = read(message)
        return not isinstance(value, NotJson) and is_same(expected, value)
    return bool(expected == message) or _matches_as_json(expected, message, read)


def may_match(expected: object, message: str, read: Callable[[str], Any] = read_json) -> bool:
    """As `matches`, for messages that nobody asked about: what raises does not match."""
    try:
        return matches(expected, message, read)
    except Exception:  # noqa: BLE001 (a failure's text is no place for another error)
        return False


def is_json(expected: object) -> bool:
    """Whether an expected value stands for JSON."""
    return expected is None or isinstance(expected, (dict, list, tuple, int, float))


def is_same(expected: object, found: object) -> bool:
    """Whether a value read as JSON is what was expected, all the way down."""
    pairs = [(expected, found)]
    while pairs:  # no recursion: JSON may be deeper than Python's calls
        expected, found = pairs.pop()
        if isinstance(expected, dict):
            if not (isinstance(found, dict) and expected.keys() == found.keys()):
                return False
            pairs.extend((value, found[key]) for key, value in expected.items())
        elif isinstance(expected, (list, tuple)):
            if not (isinstance(found, list) and len(expected) == len(found)):
                return False
            pairs.extend(zip(expected, found, strict=True))
        elif not _is_same_leaf(expected, found):
            return False
    return True


def spelling_of(text: str) -> str:
    """What a text has in common with all that read the same."""
    return _level(text, _SPELLINGS)


def spelling_difference(left: str, right: str) -> str:
    """In what alone two texts differ that read the same, such as "case and white space"."""
    if left == right or spelling_of(left) != spelling_of(right):
        return ""
    if left.rstrip() == right.rstrip():
        return "white space at the end"
    needed = []
    for name in _SPELLINGS:
        others = [other for other in _SPELLINGS if other != name]
        if _level(left, others) != _level(right, others):
            needed.append(name)
    # Look-alikes include the Unicode form, so that neither is needed for that alone.
    if _level(left, needed) != _level(right, needed):
        needed.insert(0, "Unicode form")
    return " and ".join(needed)


def is_misspelt(left: str, right: str) -> bool:
    """Whether one client id is likely the other, misspelt: two letters swapped, one doubled."""
    if spelling_difference(left, right):
        return True
    if len(left) != len(right):
        singles = (re.sub(r"([^\W\d_])\1+", r"\1", text) for text in (left, right))
        return len({*singles}) == 1
    swapped = (
        f"{left[:i]}{left[i + 1]}{left[i]}{left[i + 2 :]}"
        for i in range(len(left) - 1)
        if left[i : i + 2].isalpha()
    )
    return left != right and right in swapped


def _is_same_leaf(expected: object, found: object) -> bool:
    if expected is None or isinstance(expected, bool):
        return expected is found
    if isinstance(expected, (int, float)):
        return not isinstance(found, bool) and bool(expected == found)
    if isinstance(expected, re.Pattern):
        return isinstance(found, str) and _is_found(expected, found)
    return bool(expected == found)


def _is_found(pattern: re.Pattern[Any], text: str) -> bool:
    if isinstance(pattern.pattern, bytes):
        message = (
            f"{pattern!r} is a pattern of bytes, and a message is text: "
            f"compile it from a str, as in re.compile({pattern.pattern.decode('latin-1')!r})"
        )
        raise TypeError(message)
    return pattern.search(text) is not None


def _matches_as_json(expected: object, message: str, read: Callable[[str], Any]) -> bool:
    """Ask a dirty-equals object about the value that a message holds.

    A negated one matches what is not even JSON's: it is asked about the text alone,
    or `~Contains("secret")` would match a message with a secret in it.
    """
    kinds = type(expected).__mro__
    if not any(kind.__module__.partition(".")[0] == "dirty_equals" for kind in kinds):
        return False
    value = read(message)
    if isinstance(value, (str, NotJson)) or expected == object():
        return False
    return bool(expected == value)


def _refuse_constant(text: str) -> Any:
    message = f"{text} is Python's, and no value of JSON: a page cannot read it"
    raise ValueError(message)


_SPELLINGS: dict[str, Callable[[str], str]] = {
    "Unicode form": lambda text: unicodedata.normalize("NFC", text),
    "characters that look alike": lambda text: unicodedata.normalize(
        "NFKC", text.translate(_LOOK_ALIKES)
    ),
    "case": str.casefold,
    "white space": lambda text: "".join(text.split()),
}


def _level(text: str, spellings: Iterable[str]) -> str:
    """A text without what some ways of spelling make of it."""
    for name in spellings:
        text = _SPELLINGS[name](text)
    return text
