"""Values in the texts of errors."""

from __future__ import annotations

_LONGEST = 120


def shown(value: object) -> str:
    """How a value reads in an error's text, whatever it is: in ASCII, and not too long.

    It never raises, as the error that is on its way would be lost: a number of five
    thousand digits has no text in Python, and a class may define a `__repr__` that fails.
    """
    try:
        text = ascii(str.__str__(value) if isinstance(value, str) else value)
    except Exception:  # noqa: BLE001 (foreign code; what it raises is not what is to be told)
        text = f"<{type(value).__name__} that cannot be shown>"
    return text[:_LONGEST]
