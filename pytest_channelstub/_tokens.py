"""Channel tokens, made and parsed.

A token is ``md5hex-channel-random-expirysecond-clientid``: the hash covers all
that follows the first dash, and the client id may itself hold dashes.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass

# A number of more digits is no second of any calendar, and Python may refuse to read it
# (sys.int_info.str_digits_check_threshold).
_SIGNED = re.compile(r"([^-]*)-([^-]*)-(-?[0-9]{1,640})-(.*)", re.DOTALL)


class Error(Exception):
    """The base of the stub's own errors, as in the SDK's stub."""


class InvalidTokenError(Error):
    """The value is not a token: its form or its hash is wrong.

    Example:
        >>> with pytest.raises(InvalidTokenError): stub.connect_channel("alice")
    """

    __module__ = "pytest_channelstub"  # the name under which it can be imported


class TokenTimedOutError(Error):
    """The token is well formed and expired.

    Example:
        >>> with pytest.raises(TokenTimedOutError): stub.connect_channel(token)
    """

    __module__ = "pytest_channelstub"


@dataclass(frozen=True, slots=True)
class Token:
    """What a well-formed token says.

    Attributes:
        identifier: The service's name in the token, ``"channel"`` as a rule.
        expires: The second since the epoch at which the token is no longer valid.
        client_id: The client it was made for.
    """

    identifier: str
    expires: int
    client_id: str


def to_text(value: object) -> str:
    """Read text: a str, or its UTF-8 bytes, which are one as on Python 2."""
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError


def text_or_none(value: object) -> str | None:
    """Read text as `to_text` does; None for anything else."""
    try:
        return to_text(value)
    except (TypeError, UnicodeDecodeError):
        return None


def make(identifier: str, random_part: int, expires: int, client_id: str) -> str:
    """Make a token's text, as the SDK's stub does."""
    signed = f"{identifier}-{random_part}-{expires}-{client_id}"
    return f"{_digest(signed)}-{signed}"


def read(value: object) -> Token | None:
    """Parse a token's text or its UTF-8 bytes; None for anything else.

    Whether the token is expired is for the caller to ask.
    """
    text = text_or_none(value)
    return None if text is None else _parse(text)


# Parsing costs an md5 at each call of a page or an app: four fifths of a validation.
@functools.lru_cache(maxsize=1024)
def _parse(text: str) -> Token | None:
    digest, _, signed = text.partition("-")
    found = _SIGNED.fullmatch(signed)
    if found is None:
        return None
    try:
        is_genuine = _digest(signed) == digest
    except UnicodeEncodeError:
        return None
    return Token(found[1], int(found[3]), found[4]) if is_genuine else None


def _digest(signed: str) -> str:
    return hashlib.md5(signed.encode(), usedforsecurity=False).hexdigest()
