"""Channel tokens, made and read.

A token is ``md5hex-channel-random-expirysecond-clientid``: the hash covers all
that follows the first dash, and the client id may itself hold dashes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

# A longer number is no second of any calendar, and Python may refuse to read one
# of more than 640 digits (sys.int_info.str_digits_check_threshold).
_MOST_EXPIRY_DIGITS = 640
# Of so many texts it is remembered what they say; of longer ones it is not.
_MOST_REMEMBERED = 1024
_LONGEST_REMEMBERED = 1024


class Error(Exception):
    """What the stub raises of its own accord; the SDK's stub has the same base."""


class InvalidTokenError(Error):
    """The value is not a token: its form or its hash is wrong.

    Example:
        >>> with pytest.raises(InvalidTokenError): stub.connect_channel("alice")
    """


class TokenTimedOutError(Error):
    """The token is well formed, and its time is over.

    Example:
        >>> with pytest.raises(TokenTimedOutError): stub.connect_channel(token)
    """


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


def make(identifier: str, random_part: int, expires: int, client_id: str) -> str:
    """Make a token's text, as the SDK's stub does.

    Args:
        identifier: The service's name, without a dash.
        random_part: Any number; it tells two tokens of one client apart.
        expires: The second since the epoch at which the token ends.
        client_id: The client, as text that UTF-8 can hold.
    """
    signed = f"{identifier}-{random_part}-{expires}-{client_id}"
    return f"{_digest(signed)}-{signed}"


def read(text: object) -> Token | None:
    """Read a token's text.

    Args:
        text: Anything at all; what is not text is not a token.

    Returns:
        What the token says, or None if it is not one. Whether its time is over
        is for the caller to ask.
    """
    if type(text) is str:
        return remembered[text]
    # A subclass may compare and hash as it likes: only its plain text is read.
    return remembered[str.__str__(text)] if isinstance(text, str) else None


def _parse(text: str) -> Token | None:
    digest, dash, signed = text.partition("-")
    pieces = signed.split("-", 3)
    if not dash or len(pieces) != 4 or len(digest) != 32:  # noqa: PLR2004 (an md5 in hex)
        return None
    identifier, _, expires, client_id = pieces
    if not (expires.isascii() and expires.isdigit() and len(expires) <= _MOST_EXPIRY_DIGITS):
        return None
    try:
        genuine = _digest(signed) == digest
    except UnicodeEncodeError:
        return None
    return Token(identifier, int(expires), client_id) if genuine else None


class _Remembered(dict[str, "Token | None"]):
    """What texts say, read when first asked for; reading is pure, so this only saves time."""

    def __missing__(self, text: str) -> Token | None:
        token = _parse(text)
        if len(text) <= _LONGEST_REMEMBERED:
            if len(self) >= _MOST_REMEMBERED:
                self.clear()
            self[text] = token
        return token


remembered = _Remembered()
"""`read` for who has made sure of a plain `str`, at the price of a look into a dict."""


def _digest(signed: str) -> str:
    return hashlib.md5(signed.encode(), usedforsecurity=False).hexdigest()
