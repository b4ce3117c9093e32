"""Who is told of every stub that comes into force, to report on it later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

witnesses: list[Callable[[Any], object]] = []
"""The last one is told: where pytest runs inside pytest, that is the inner one's."""


def tell(stub: Any) -> None:
    """Tell that a stub has come into force."""
    if witnesses:
        witnesses[-1](stub)
